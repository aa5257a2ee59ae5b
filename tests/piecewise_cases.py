"""Counts of linear regions by other algorithms than those of ``probe.geometry``.

``arrangement`` has the closed form of one layer. ``exact`` clips polygons in rational numbers, without rounding, and
``exact_knots`` does so along a line. ``walk`` crosses the edges of regions, one after the other, with derivatives of
any torch model, and ``knots`` goes along a line. ``quadtree`` looks at the signs of any torch model at points.
"""

import copy
import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.spatial import KDTree
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

Layers = Sequence[tuple[Any, Any]]


def square(half_side: float = 1.0, centre: tuple[float, float] = (0.0, 0.0)) -> np.ndarray:
    """Return the corners of a square, counterclockwise."""
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half_side + np.asarray(centre, float)


def polygon(corners: int, radius: float = 1.0, turn: float = 0.3) -> np.ndarray:
    """Return the corners of a regular polygon, counterclockwise."""
    angles = turn + 2 * np.pi * np.arange(corners) / corners
    return radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def linears(sizes: Sequence[int], seed: int = 0) -> list[nn.Linear]:
    """Return the layers with the default initialisation, made in order."""
    torch.manual_seed(seed)
    return [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]


def arrays(modules: Sequence[nn.Linear]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return weights and biases in float64."""
    return [(part.weight.detach().double().numpy(), part.bias.detach().double().numpy()) for part in modules]


def area(corners: np.ndarray) -> float:
    """Return the area of a polygon, positive if it is counterclockwise."""
    x, y = (corners - corners[0]).T
    return float(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


# -- one layer, closed form --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lines:
    """Counts of the lines of one layer in a window. Units that are zero everywhere are always off, too."""

    regions: int
    segments: int
    crossings: int
    crossing: int
    always_on: int
    always_off: int
    zero: int

    @property
    def merged(self) -> int:
        """Number of units whose line is the line of an earlier unit."""
        return self.crossing - self.segments


def arrangement(weights: Any, biases: Any, window: np.ndarray, tolerance: float = 1e-9) -> Lines:
    """Return the counts of the lines w x + b = 0 by closed form: 1 + lines + points with multiplicity - 1."""
    rows = np.column_stack([np.asarray(weights, float), np.asarray(biases, float)])
    middle = window.mean(0)
    size = np.abs(window - middle).max()
    values = rows[:, :2] @ window.T + rows[:, 2:]
    scale = np.abs(values).max(1, keepdims=True)
    signs = np.where(np.abs(values) <= tolerance * scale, 0, np.sign(values))
    cuts = (signs.min(1) < 0) & (signs.max(1) > 0)
    centred = np.column_stack([rows[:, :2] * size, rows[:, 2] + rows[:, :2] @ middle])[cuts]
    lines = _distinct(_unit_rows(centred), tolerance)
    points = _points_inside(lines, (window - middle) / size, tolerance)
    crossings = sum(len(through) - 1 for through in points)
    zero = int((scale == 0).sum())
    on, off = int((signs.min(1) >= 0).sum()) - zero, int((signs.max(1) <= 0).sum())
    return Lines(1 + len(lines) + crossings, len(lines), crossings, int(cuts.sum()), on, off, zero)


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    rows = rows / np.linalg.norm(rows[:, :2], axis=1, keepdims=True)
    first = np.where(np.abs(rows[:, 0]) > 1e-6, rows[:, 0], rows[:, 1])
    return rows * np.sign(first)[:, None]


def _distinct(rows: np.ndarray, tolerance: float) -> np.ndarray:
    found: list[np.ndarray] = []
    for row in rows:
        if not any(np.abs(row - other).max() <= 100 * tolerance for other in found):
            found.append(row)
    return np.array(found).reshape(-1, 3)


def _points_inside(lines: np.ndarray, window: np.ndarray, tolerance: float) -> list[set[int]]:
    """Return, for each distinct crossing in the interior of the window, the lines through it."""
    i, j = np.triu_indices(len(lines), 1)
    p, q = lines[i], lines[j]
    determinant = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    meet = np.abs(determinant) > 1e-12
    i, j, p, q, determinant = i[meet], j[meet], p[meet], q[meet], determinant[meet]
    x, y = p[:, 1] * q[:, 2] - q[:, 1] * p[:, 2], q[:, 0] * p[:, 2] - p[:, 0] * q[:, 2]
    points = np.stack([x, y], 1) / determinant[:, None]
    edges = np.roll(window, -1, 0) - window
    inward = np.stack([-edges[:, 1], edges[:, 0]], 1) / np.linalg.norm(edges, axis=1, keepdims=True)
    away = np.einsum("ed,ned->ne", inward, points[:, None] - window)
    inside = (away > 100 * tolerance).all(1)
    through: dict[int, set[int]] = {}
    for place, near in enumerate(KDTree(points[inside]).query_ball_point(points[inside], 1e-7) if inside.any() else []):
        through.setdefault(min(near), set()).update((int(i[inside][place]), int(j[inside][place])))
    return list(through.values())


# -- perceptrons in rational numbers -----------------------------------------------------------------------------------

Point = tuple[Fraction, Fraction]
Row = tuple[Fraction, Fraction, Fraction]


@dataclass(frozen=True)
class Counts:
    """Counts of one layer: regions after it, segments and crossings inside the regions before it."""

    regions: int
    segments: int
    crossings: int


@dataclass(frozen=True)
class Bends:
    """A function of single numbers: its breakpoints, and (slope, intercept) between them."""

    at: tuple[Any, ...]
    pieces: tuple[tuple[Any, Any], ...]


RELU = Bends((0,), ((0, 0), (1, 0)))
ABS = Bends((0,), ((-1, 0), (1, 0)))
LEAKY_HALF = Bends((0,), ((0.5, 0), (1, 0)))
HARDTANH = Bends((-1, 1), ((0, -1), (1, 0), (0, 1)))


def exact(layers: Layers, window: Any, *functions: Bends) -> list[Counts]:
    """Return the counts of a perceptron by layer, in rational numbers. The default is a ReLU after every layer.

    Numbers are taken as they are: use whole numbers, fractions or short binary fractions.
    """
    regions = _start(window)
    found = []
    for (weight, bias), function in itertools.zip_longest(layers, functions, fillvalue=RELU):
        segments = crossings = 0
        after = []
        for place, inputs in regions:
            rows = _affine(weight, bias, inputs)
            levels = [(a, b, c - Fraction(level)) for a, b, c in rows for level in function.at]
            lines = {_normal(row) for row in levels if _cut(place, row)}
            segments += len(lines)
            crossings += _count_crossings(lines, place)
            for piece in _split(place, lines):
                after.append((piece, [_bend(row, piece, function) for row in rows]))
        assert len(after) == len(regions) + segments + crossings  # Euler's formula against the clipped polygons
        regions = after
        found.append(Counts(len(regions), segments, crossings))
    return found


def exact_maxima(layers: Layers, window: Any, width: int) -> list[int]:
    """Return the numbers of regions after each layer of maxima of ``width`` numbers in a row, in rational numbers."""
    regions = _start(window)
    found = []
    for weight, bias in layers:
        after = []
        for place, inputs in regions:
            rows = _affine(weight, bias, inputs)
            pieces: list[tuple[list[Point], list[Row]]] = [(place, [])]
            for start in range(0, len(rows), width):
                group = list(dict.fromkeys(rows[start : start + width]))
                pieces = [
                    (won, [*kept, row]) for part, kept in pieces for row in group for won in _won(part, row, group)
                ]
            after += pieces
        regions = after
        found.append(len(regions))
    return found


def _won(place: list[Point], row: Row, group: list[Row]) -> list[list[Point]]:
    """Return the part of a polygon where a row is the largest of its group, or nothing."""
    for other in group:
        difference = row[0] - other[0], row[1] - other[1], row[2] - other[2]
        values = [_at(difference, point) for point in place]
        if other != row and max(values) <= 0:
            return []
        if min(values) < 0:
            place = _halves(place, difference)[0]
    return [place]


def _start(window: Any) -> list[tuple[list[Point], list[Row]]]:
    one, none = Fraction(1), Fraction(0)
    corners = [(Fraction(x), Fraction(y)) for x, y in np.asarray(window).tolist()]
    return [(corners, [(one, none, none), (none, one, none)])]


def _affine(weight: Any, bias: Any, inputs: list[Row]) -> list[Row]:
    table = [[Fraction(entry) for entry in row] for row in np.asarray(weight).tolist()]
    shifts = [Fraction(entry) for entry in np.asarray(bias).tolist()]
    return [_combine(row, shift, inputs) for row, shift in zip(table, shifts, strict=True)]


def _combine(row: list[Fraction], shift: Fraction, inputs: list[Row]) -> Row:
    a, b, c = (sum((w * form[k] for w, form in zip(row, inputs, strict=True) if w), Fraction(0)) for k in range(3))
    return a, b, c + shift


def _at(row: Row, point: Point) -> Fraction:
    return row[0] * point[0] + row[1] * point[1] + row[2]


def _cut(place: list[Point], row: Row) -> bool:
    values = [_at(row, point) for point in place]
    return min(values) < 0 < max(values)


def _normal(row: Row) -> Row:
    first = row[0] or row[1]
    return row[0] / first, row[1] / first, row[2] / first


def _count_crossings(lines: set[Row], place: list[Point]) -> int:
    through = defaultdict(set)
    for p, q in itertools.combinations(lines, 2):
        determinant = p[0] * q[1] - p[1] * q[0]
        if determinant:
            x = (p[1] * q[2] - q[1] * p[2]) / determinant
            through[x, (q[0] * p[2] - p[0] * q[2]) / determinant] |= {p, q}
    return sum(len(at) - 1 for point, at in through.items() if _inside(place, point))


def _inside(place: list[Point], point: Point) -> bool:
    for (ax, ay), (bx, by) in zip(place, place[1:] + place[:1], strict=True):
        if (bx - ax) * (point[1] - ay) - (by - ay) * (point[0] - ax) <= 0:
            return False
    return True


def _split(place: list[Point], lines: set[Row]) -> list[list[Point]]:
    pieces = [place]
    for line in lines:
        pieces = [half for piece in pieces for half in _halves(piece, line)]
    return pieces


def _halves(place: list[Point], line: Row) -> list[list[Point]]:
    if not _cut(place, line):
        return [place]
    halves: tuple[list[Point], list[Point]] = ([], [])
    for p, q in zip(place, place[1:] + place[:1], strict=True):
        a, b = _at(line, p), _at(line, q)
        if a >= 0:
            halves[0].append(p)
        if a <= 0:
            halves[1].append(p)
        if a * b < 0:
            new = (p[0] + (q[0] - p[0]) * a / (a - b), p[1] + (q[1] - p[1]) * a / (a - b))
            halves[0].append(new)
            halves[1].append(new)
    return list(halves)


def _bend(row: Row, piece: list[Point], function: Bends) -> Row:
    mean = sum((_at(row, point) for point in piece), Fraction(0)) / len(piece)
    slope, intercept = map(Fraction, function.pieces[sum(mean > level for level in function.at)])
    return row[0] * slope, row[1] * slope, row[2] * slope + intercept


def exact_knots(layers: Layers, start: Sequence[Any], end: Sequence[Any]) -> list[Fraction]:
    """Return the places t in (0, 1) at which a ReLU perceptron bends between two points, in rational numbers."""
    ends = [(Fraction(a), Fraction(b)) for a, b in zip(start, end, strict=True)]
    rows: list[list[tuple[Fraction, Fraction]]] = [[(a, b - a) for a, b in ends]]  # value at 0 and slope, by interval
    at = [Fraction(0), Fraction(1)]
    for weight, bias in layers:
        table = [([Fraction(w) for w in row], Fraction(c)) for row, c in zip(weight, bias, strict=True)]
        new_at, new_rows = [Fraction(0)], []
        for low, high, inputs in zip(at[:-1], at[1:], rows, strict=True):
            forms = [
                (
                    c + sum((w * x[0] for w, x in zip(row, inputs, strict=True)), Fraction(0)),
                    sum((w * x[1] for w, x in zip(row, inputs, strict=True)), Fraction(0)),
                )
                for row, c in table
            ]
            zeros = {-value / slope for value, slope in forms if slope}
            cuts = [low, *sorted(t for t in zeros if low < t < high), high]
            for a, b in itertools.pairwise(cuts):
                middle = (a + b) / 2
                on = [(v, k) if v + k * middle > 0 else (Fraction(0), Fraction(0)) for v, k in forms]
                new_rows.append(on)
                new_at.append(b)
        at, rows = new_at, new_rows
    return at[1:-1]


# -- any torch model ---------------------------------------------------------------------------------------------------

_BREAKS: dict[str, Callable[..., list[float]]] = {
    "relu": lambda *_, **__: [0.0],
    "relu_": lambda *_, **__: [0.0],
    "abs": lambda *_, **__: [0.0],
    "prelu": lambda *_, **__: [0.0],
    "leaky_relu": lambda *_, **__: [0.0],
    "leaky_relu_": lambda *_, **__: [0.0],
    "relu6": lambda *_, **__: [0.0, 6.0],
    "hardtanh": lambda _, min_val=-1.0, max_val=1.0, *__, **___: [min_val, max_val],
    "clamp": lambda _, min=None, max=None: [bound for bound in (min, max) if bound is not None],
}


class Recorder(TorchFunctionMode):
    """Keeps what each activation function and max-pooling reads, in the order of the calls.

    ``steps`` holds (pre-activations (n, units), breakpoints), or (candidates (n, units, k), None) of a maximum.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Tensor, list[float] | None]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in _BREAKS:
            self.steps.append((args[0].flatten(1).clone(), _BREAKS[name](*args, **kwargs)))
        elif name == "max_pool2d":
            self.steps.append((_candidates(*args, **kwargs), None))
        elif name == "maximum":
            self.steps.append((torch.stack([part.flatten(1) for part in args], -1), None))
        return func(*args, **kwargs)


def _candidates(rows: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, *_: Any, **__: Any) -> Tensor:
    """Return the candidates (n, units, k) of max-pooling without dilation; -inf outside the image."""
    places = torch.arange(rows[0].numel(), dtype=torch.float64).reshape(1, *rows.shape[1:]) + 1
    windows = F.unfold(places, kernel_size, padding=padding, stride=stride or kernel_size)[0]
    windows = windows.reshape(rows.shape[1], -1, windows.shape[1]).transpose(1, 2).flatten(0, 1).long()
    flat = rows.flatten(1)
    padded = torch.cat([torch.full_like(flat[:, :1], -torch.inf), flat], 1)
    return padded[:, windows]


@dataclass(frozen=True)
class Plane:
    """A window in a plane of the input space, for the counters of this file."""

    origin: Tensor
    axes: Tensor
    window: np.ndarray

    @staticmethod
    def random(shape: Sequence[int], half_side: float, seed: int = 0, offset: float = 1.0) -> "Plane":
        """Return a square around a random point, in a random plane."""
        generator = torch.Generator().manual_seed(seed)
        points = torch.randn(3, int(np.prod(shape)), generator=generator, dtype=torch.float64)
        axes = torch.linalg.qr(points[1:].T)[0].T
        return Plane(offset * points[0].reshape(*shape), axes.reshape(2, *shape), square(half_side))

    def points(self, coordinates: Any) -> Tensor:
        """Return the inputs at the coordinates (n, 2)."""
        return self.origin + torch.tensordot(torch.as_tensor(coordinates, dtype=torch.float64), self.axes, 1)


def in_float64(model: nn.Module) -> nn.Module:
    """Return a copy of the model in evaluation, in float64."""
    return copy.deepcopy(model).double().eval()


def patterns(model: nn.Module, inputs: Tensor) -> tuple[np.ndarray, list[int]]:
    """Return the piece of each unit for each input (n, units), int8, and the numbers of units by site.

    The model must be in float64. The piece is the number of breakpoints below the pre-activation, or the first winner.
    """
    with torch.no_grad(), Recorder() as recorder:
        model(inputs)
    found = [_pieces(values, breaks) for values, breaks in recorder.steps]
    return np.concatenate(found, 1), [part.shape[1] for part in found]


def _pieces(values: Tensor, breaks: list[float] | None) -> np.ndarray:
    if breaks is None:
        return values.detach().argmax(-1).numpy().astype(np.int8)
    return sum(((values.detach() > bound).numpy().astype(np.int8) for bound in breaks), np.int8(0))


# -- models ------------------------------------------------------------------------------------------------------------


class Residual(nn.Module):
    """Two branches that are added, with functional activations."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner, self.outer = nn.Linear(5, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 3)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = torch.relu(self.first(rows))
        hidden = hidden + self.outer(F.relu(self.inner(hidden)))
        return self.head(F.leaky_relu(hidden, 0.2))


class Concatenation(nn.Module):
    """Every layer reads all that came before; the second activation is the absolute value."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(5, 6), nn.Linear(11, 6), nn.Linear(17, 3)

    def forward(self, rows: Tensor) -> Tensor:
        rows = torch.cat([rows, torch.relu(self.first(rows))], 1)
        return self.head(torch.cat([rows, self.second(rows).abs()], 1))


def with_statistics(model: nn.Module, shape: Sequence[int]) -> nn.Module:
    """Return the model after batches that move the statistics of its batch norms."""
    with torch.no_grad():
        for _ in range(20):
            model.train()(torch.randn(32, *shape) * 1.5 + 0.3)
    return model


def _batch_norm() -> nn.Module:
    parts = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()
    return with_statistics(nn.Sequential(*parts, nn.Linear(12, 6), nn.BatchNorm1d(6), nn.ReLU()), (1, 6, 6))


def _convolution() -> nn.Module:
    parts = nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 2, stride=2), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(8, 3))


def _pool() -> nn.Module:
    parts = nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(8, 4), nn.ReLU())


def _pool_of_zeros() -> nn.Module:
    parts = nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2, padding=1), nn.Flatten()
    return nn.Sequential(*parts, nn.Linear(8, 4), nn.ReLU())


def _bounded() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU6(), nn.Linear(6, 6), nn.Hardtanh(-0.3, 0.4), nn.Linear(6, 2))


def _slopes() -> nn.Module:
    first = nn.Linear(4, 7), nn.PReLU(7), nn.Dropout(0.5)
    return nn.Sequential(*first, nn.Linear(7, 6), nn.LeakyReLU(-0.5), nn.Linear(6, 2))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (_convolution, (1, 6, 6)),
    "max-pool": (_pool, (1, 4, 4)),
    "max-pool after ReLU": (_pool_of_zeros, (1, 4, 4)),
    "batch norm, average pool": (_batch_norm, (1, 6, 6)),
    "residual": (Residual, (5,)),
    "concatenation, absolute value": (Concatenation, (5,)),
    "ReLU6, Hardtanh": (_bounded, (4,)),
    "PReLU, LeakyReLU, dropout": (_slopes, (4,)),
}


def made(name: str, seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Return a model of MODELS with weights of the seed, in evaluation, and the shape of one input."""
    make, shape = MODELS[name]
    torch.manual_seed(seed)
    return make().eval(), shape


# -- quadtree ----------------------------------------------------------------------------------------------------------


def quadtree(model: nn.Module, plane: Plane, cells: int = 32, depth: int = 5) -> set[bytes]:
    """Return the patterns that are found in a square window.

    A cell with one pattern at its corners lies in one region, because regions are convex. Other cells are divided into
    four, ``depth`` times. So every region that holds a disc of the radius of the last cells is found.
    """
    low, high = plane.window.min(0), plane.window.max(0)
    last = cells * 2**depth
    corner = np.stack(np.meshgrid(*[np.arange(cells)] * 2), -1).reshape(-1, 2) * 2**depth
    codes: dict[int, int] = {}
    names: dict[bytes, int] = {}
    for level in range(depth, -1, -1):
        size = 2**level
        ends = corner[:, None] + np.array([[0, 0], [size, 0], [0, size], [size, size]])
        keys = (ends[..., 0] * (last + 1) + ends[..., 1]).astype(np.int64)
        new = np.array([key for key in np.unique(keys) if key not in codes], dtype=np.int64)
        at = np.stack([new // (last + 1), new % (last + 1)], 1) / last
        at = low + (high - low) * (1e-7 + (1 - 2e-7) * at)
        for block in range(0, len(new), 8192):
            pieces, _ = patterns(model, plane.points(at[block : block + 8192]))
            for key, row in zip(new[block : block + 8192], pieces, strict=True):
                codes[int(key)] = names.setdefault(row.tobytes(), len(names))
        found = np.array([[codes[key] for key in row] for row in keys.tolist()])
        mixed = corner[(found != found[:, :1]).any(1)]
        corner = (mixed[:, None] + np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * (size // 2)).reshape(-1, 2)
    return set(names)


# -- walk from region to region ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Walk:
    """The regions of a window, found by crossing their edges.

    ``pieces`` (regions, units), ``polygons``, ``units`` by site; ``edges`` holds pairs of regions that share an edge.
    ``values`` (regions, units) are pre-activations at one point of each region, NaN for maxima.
    """

    pieces: np.ndarray
    values: np.ndarray
    polygons: list[np.ndarray]
    units: list[int]
    breaks: list[list[float] | None]
    edges: list[tuple[int, int]]
    matrices: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.polygons)

    @property
    def areas(self) -> np.ndarray:
        """Areas of the regions."""
        return np.array([area(corners) for corners in self.polygons])

    @property
    def radius(self) -> float:
        """A lower bound of the radius of the largest disc in the smallest region: area / perimeter."""
        around = [np.linalg.norm(np.roll(part, -1, 0) - part, axis=1).sum() for part in self.polygons]
        return float((self.areas / around).min())

    def parents(self, site: int) -> np.ndarray:
        """Return for each region the number of its region before the site."""
        start = sum(self.units[:site])
        if not start:
            return np.zeros(len(self), int)
        return np.unique(self.pieces[:, :start], axis=0, return_inverse=True)[1].ravel()

    def counts(self) -> list[Counts]:
        """Return the counts by site."""
        found = []
        for site in range(len(self.units)):
            lines = {(parent, flips) for parent, flips in self.flips(site)}
            before, after = (len(np.unique(self.parents(s))) for s in (site, site + 1))
            found.append(Counts(after, len(lines), after - before - len(lines)))
        return found

    def flips(self, site: int) -> list[tuple[int, tuple[tuple[int, int], ...]]]:
        """Return for each edge inside a parent the parent and the boundaries (unit, breakpoint) that lie on it."""
        start = sum(self.units[:site])
        part = self.pieces[:, start : start + self.units[site]].astype(int)
        parents = self.parents(site)
        found = []
        for i, j in self.edges:
            if parents[i] == parents[j] and (part[i] != part[j]).any():
                between = []
                for unit in np.flatnonzero(part[i] != part[j]):
                    low, high = sorted((part[i, unit], part[j, unit]))
                    pieces = [(low, high)] if self.breaks[site] is None else range(low, high)
                    between += [(int(unit), piece) for piece in pieces]
                found.append((int(parents[i]), tuple(between)))
        return found

    def merged(self, site: int) -> int:
        """Return the number of boundaries that lie, wherever they are, on one of an earlier unit or site."""
        first, last = sum(self.units[:site]), sum(self.units[: site + 1])
        alone = set()
        for i, j in self.edges:
            changed = np.flatnonzero(self.pieces[i, :last] != self.pieces[j, :last])
            if len(changed) and changed[0] >= first:
                alone.add((int(changed[0]), int(min(self.pieces[[i, j], changed[0]])) if self.breaks[site] else 0))
        return len(self._passed(site) - alone)

    def crossing(self, site: int) -> int:
        """Return the number of units with a boundary in the window."""
        return len({unit for unit, _ in self._passed(site)})

    def _passed(self, site: int) -> set[tuple[int, int]]:
        """Return the boundaries with the window on both sides of them, not only on one side and on the boundary."""
        first = sum(self.units[:site])
        found = set()
        for unit in range(first, first + self.units[site]):
            values, pieces = self.values[:, unit], self.pieces[:, unit]
            for place, bound in enumerate(self.breaks[site] or [None]):
                passes = (pieces != pieces[0]).any() if bound is None else values.min() < bound < values.max()
                if passes:
                    found.add((unit, place))
        return found


def walk(model: nn.Module, plane: Plane, step: float = 1e-7) -> Walk:
    """Return the regions of a model in float64 by crossing the edges of regions, breadth first.

    In a region, derivatives give the half-plane of each unit. The region is what the half-planes leave of the window.
    Raises if the regions do not fill the window.
    """
    size = np.abs(plane.window - plane.window.mean(0)).max()
    known: dict[bytes, int] = {}
    pieces: list[np.ndarray] = []
    values: list[np.ndarray] = []
    polygons: list[np.ndarray] = []
    maps: list[tuple[np.ndarray, np.ndarray]] = []
    pairs: set[tuple[int, int]] = set()
    frontier = [(-1, plane.window.mean(0) + size * np.array([0.0123, 0.0071]))]
    units: list[int] = []
    breaks: list[list[float] | None] = []
    while frontier:
        places = np.array([place for _, place in frontier])
        units, breaks, at, numbers, planes, outputs = _half_planes(model, plane, places)
        following = []
        for (came_from, place), row, value, forms, (matrix, offset) in zip(
            frontier, at, numbers, planes, outputs, strict=True
        ):
            name = row.tobytes()
            if name not in known:
                known[name] = len(known)
                pieces.append(row)
                values.append(value)
                maps.append((matrix, offset))
                corners, inner = _clip(plane.window, forms, place, size)
                polygons.append(corners)
                following += [(known[name], point) for point in _outside(corners, inner, step * size)]
            if came_from >= 0 and came_from != known[name]:
                pairs.add((min(came_from, known[name]), max(came_from, known[name])))
        frontier = following
    found = Walk(
        np.array(pieces),
        np.array(values),
        polygons,
        units,
        breaks,
        sorted(pairs),
        *map(np.array, zip(*maps, strict=True)),
    )
    total = area(plane.window)
    if abs(found.areas.sum() - total) > 1e-5 * total:
        raise AssertionError(f"the regions fill {found.areas.sum() / total:.9f} of the window")
    return found


def _half_planes(model: nn.Module, plane: Plane, places: np.ndarray) -> Any:
    """Return units and breakpoints by site; for each place: pieces, values, half-planes (m, 3), the affine output."""
    n = len(places)
    inputs = plane.points(places).repeat_interleave(2, 0)
    directions = plane.axes.repeat(n, *[1] * (plane.axes.ndim - 1))
    no_import = mock.patch.dict(os.environ, PYTORCH_JIT="0")  # of decompositions, which takes 2 s and warns
    with no_import, torch.no_grad(), forward_ad.dual_level(), Recorder() as recorder:
        output = model(forward_ad.make_dual(inputs, directions)).flatten(1)
        steps = [(*_value_and_slope(values, n), breaks) for values, breaks in recorder.steps]
        value, slope = _value_and_slope(output, n)
    pieces = [_pieces(torch.from_numpy(values), breaks) for values, _, breaks in steps]
    forms = []
    for (values, slopes, breaks), piece in zip(steps, pieces, strict=True):
        if breaks is None:
            forms.append(_winner_forms(values, slopes, piece))
        for place, bound in enumerate(breaks or []):
            sign = np.where(piece > place, 1.0, -1.0)
            forms.append(np.stack([sign * slopes[0], sign * slopes[1], sign * (values - bound)], -1))
    units = [piece.shape[1] for piece in pieces]
    matrix = np.stack(slope, -1)
    offset = value - np.einsum("nod,nd->no", matrix, places)
    joined = np.concatenate(forms, 1) if forms else np.zeros((n, 0, 3))
    at = np.concatenate(pieces, 1) if pieces else np.zeros((n, 0), np.int8)
    numbers = [np.full(piece.shape, np.nan) if b is None else v for (v, _, b), piece in zip(steps, pieces, strict=True)]
    values = np.concatenate(numbers, 1) if numbers else np.zeros((n, 0))
    return units, [breaks for *_, breaks in steps], at, values, joined, zip(matrix, offset, strict=True)


def _value_and_slope(values: Tensor, n: int) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    value, slope = forward_ad.unpack_dual(values)
    slope = torch.zeros_like(value) if slope is None else slope
    slope = slope.reshape(n, 2, *value.shape[1:]).numpy()
    return value[::2].numpy(), (slope[:, 0], slope[:, 1])


def _winner_forms(values: np.ndarray, slopes: Any, winner: np.ndarray) -> np.ndarray:
    place = winner[..., None].astype(int)
    inside = np.isfinite(values)
    parts = [
        np.where(inside, np.take_along_axis(part, place, -1) - part, one)
        for part, one in ((slopes[0], 0.0), (slopes[1], 0.0), (np.where(inside, values, 0.0), 1.0))
    ]
    return np.stack(parts, -1).reshape(len(values), -1, 3)


def _clip(window: np.ndarray, forms: np.ndarray, place: np.ndarray, size: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the region around a place, and whether the edge after each lies inside the window."""
    norm = np.linalg.norm(forms[:, :2], axis=1)
    flat = norm * size <= 1e-13 * np.abs(forms[:, 2])
    forms = forms[~flat & (norm > 0)] / norm[~flat & (norm > 0), None]
    corners, inner = window, np.zeros(len(window), bool)
    while len(forms):
        values = forms[:, :2] @ (corners - place).T + forms[:, 2:]  # the forms are given by their value at the place
        worst = values.min(1).argmin()
        if values[worst].min() >= -1e-12 * size:
            break
        corners, inner = _half(corners, inner, values[worst])
    return corners, inner


def _half(corners: np.ndarray, inner: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the part with values >= 0 of a convex polygon."""
    points: list[np.ndarray] = []
    labels: list[bool] = []
    for k in range(len(corners)):
        m = (k + 1) % len(corners)
        if values[k] >= 0:
            points.append(corners[k])
            labels.append(bool(inner[k]) if values[m] > 0 or values[k] > 0 else True)
        if (values[k] > 0) != (values[m] > 0) and values[k] != 0 and values[m] != 0:
            share = values[k] / (values[k] - values[m])
            points.append(corners[k] + share * (corners[m] - corners[k]))
            labels.append(bool(inner[k]) if values[m] > 0 else True)
    return np.array(points), np.array(labels)


def _outside(corners: np.ndarray, inner: np.ndarray, step: float) -> list[np.ndarray]:
    edges = np.roll(corners, -1, 0) - corners
    length = np.linalg.norm(edges, axis=1, keepdims=True)
    outward = np.stack([edges[:, 1], -edges[:, 0]], 1) / np.maximum(length, 1e-300)
    points = corners + edges / 2 + step * outward
    return list(points[inner & (length[:, 0] > 10 * step)])


# -- along a line ------------------------------------------------------------------------------------------------------


def knots(model: nn.Module, start: Tensor, end: Tensor, step: float = 1e-9) -> list[tuple[float, set[tuple[int, int]]]]:
    """Return the places t in (0, 1) at which a model in float64 bends between two inputs, and who bends there.

    Who bends is a set of (number of the site, unit). The walk goes from knot to knot with derivatives.
    """
    plane = Plane(start, torch.stack([end - start, torch.zeros_like(start)]), square())
    found: list[tuple[float, set[tuple[int, int]]]] = []
    t = step
    units, _, before, _, forms, _ = _half_planes(model, plane, np.array([[t, 0.0]]))
    while True:
        values, slopes = forms[0][:, 2], forms[0][:, 0]
        falls = slopes < 0
        if not falls.any():
            return found
        next_t = t + (values[falls] / -slopes[falls]).clip(0).min()
        if next_t >= 1 - step:
            return found
        t = next_t + step
        _, _, after, _, forms, _ = _half_planes(model, plane, np.array([[t, 0.0]]))
        changed = np.flatnonzero((after != before)[0])
        bounds = np.cumsum([0, *units])
        sites = np.searchsorted(bounds, changed, side="right") - 1
        if len(changed):
            found.append((next_t, {(int(s), int(u - bounds[s])) for s, u in zip(sites, changed, strict=True)}))
        before = after
