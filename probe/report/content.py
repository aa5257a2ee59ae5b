"""The curves of a report: which ones, reduced to what a pixel shows, within a budget of bytes."""

from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from probe.plots.axes import drawn_steps
from probe.stats.one_grid import on_one_grid

COLUMNS = 1000  # of pixels that a panel is wide, at most
MEDIAN = -1  # in place of the position of a run
MAX_THIN = 12  # runs that are drawn one by one beside their median; more runs are a band
_MOST_LINES = 16  # of one variable, beside its layers and splits; a map has more and is no curve
_QUANTILES = (0.1, 0.9)
_COMPANIONS = ("_se", "_lower", "_upper")  # drawn as the band of their variable
_MOST_NAMES = 6  # of measures in a sentence
_RECORD = 70  # bytes of a curve beside its numbers


@dataclass(frozen=True)
class Curve:
    """One line: a variable of one run (or the median), layer and split, at the steps where it has a value.

    Attributes
    ----------
    variable, run : int
        Positions; the run is -1 for the median, and None for a curve that belongs to all runs.
    layer : int or None
        Position of the layer.
    label : str
        Labels of the further dimensions, such as the split.
    steps, values : numpy.ndarray
        Without missing values, and reduced.
    band : tuple of numpy.ndarray, or None
        Lower and upper end of a band.
    """

    variable: int
    run: int | None
    layer: int | None
    label: str
    steps: np.ndarray
    values: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def size(self) -> int:
        """The number of bytes on the page, steps not included."""
        return _RECORD + 16 * (len(self.values) // 3) * (3 if self.band else 1)


@dataclass
class Content:
    """The curves that are on the page, and what was left out.

    Attributes
    ----------
    curves : list of Curve
    left_out : list of str
        Sentences about what is not on the page.
    runs : list of int
        Positions of the runs that have curves of their own.
    """

    curves: list[Curve] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    runs: list[int] = field(default_factory=list)


def variables_of(series: xr.Dataset) -> tuple[list[str], list[str]]:
    """Return the variables that are curves, and sentences about the others."""
    names, left_out = [], []
    for name, array in series.data_vars.items():
        if "step" not in array.dims or array.dtype.kind != "f" or is_companion(series, str(name)):
            continue
        others = [dim for dim in array.dims if dim not in ("step", "run", "layer", "split")]
        lines = int(np.prod([array.sizes[dim] for dim in others], initial=1))
        if lines > _MOST_LINES:
            left_out.append(f"{name} has {lines:,} lines over {', '.join(map(str, others))}, and is not on this page.")
        elif np.isfinite(array.values).any():
            names.append(str(name))
        else:
            left_out.append(f"{name} has no finite value.")
    return names, left_out


def is_companion(series: xr.Dataset, name: str) -> bool:
    """Return whether a variable is the error or a bound of another one."""
    return any(name.endswith(end) and name.removesuffix(end) in series for end in _COMPANIONS)


def ranked_curves(
    series: xr.Dataset, names: Sequence[str], first: Sequence[str], layer: int | None, *, log: bool
) -> list[Curve]:
    """Return all curves, reduced, the most important ones first.

    Parameters
    ----------
    series : xarray.Dataset
        Over (run, step, ...).
    names : sequence of str
        The variables, whose positions the curves refer to.
    first : sequence of str
        The variables that are drawn at first.
    layer : int, optional
        The layer that is drawn at first.
    log : bool
        Whether the axis of steps is logarithmic.
    """
    return sorted(_curves(series, names, log=log), key=lambda one: _rank(one, names, first, layer))


def content_of(ranked: Sequence[Curve], names: Sequence[str], n_runs: int, budget: int) -> Content:
    """Return the first curves that fit into a number of bytes."""
    found = Content()
    known: set[bytes] = set()
    refused: set[tuple[int | None, int]] = set()
    for curve in ranked:
        key = curve.steps.tobytes()
        cost = curve.size + (0 if key in known else _size_of_steps(curve.steps))
        if cost > budget:
            refused.add((curve.run, curve.variable))
            continue
        known.add(key)
        budget -= cost
        found.curves.append(curve)
    found.curves.sort(key=lambda one: (one.variable, -1 if one.layer is None else one.layer))
    found.runs = sorted({one.run for one in found.curves if one.run is not None and one.run != MEDIAN})
    found.left_out = _left_out(refused, names, found, n_runs)
    return found


def _size_of_steps(steps: np.ndarray) -> int:
    return 11 * len(steps)


def _rank(curve: Curve, names: Sequence[str], first: Sequence[str], layer: int | None) -> tuple[int, ...]:
    """Return the place of a curve: what is drawn at first, medians, other layers of the same, all else."""
    of_first = names[curve.variable] in first
    shown = of_first and curve.layer in (None, layer)
    median = curve.run in (None, MEDIAN)
    order = (
        0 if shown and median else 1 if of_first and median else 2 if shown else 3 if median else 4 if of_first else 5
    )
    return order, -1 if curve.run is None else curve.run, curve.variable


def _left_out(refused: set[tuple[int | None, int]], names: Sequence[str], found: Content, n_runs: int) -> list[str]:
    """Return sentences about the curves that did not fit."""
    sentences = []
    if refused:
        of_runs = {run for run, _ in refused if run is not None and run != MEDIAN}
        measures = sorted({names[variable] for _, variable in refused})
        more = f" and {len(measures) - _MOST_NAMES} more" if len(measures) > _MOST_NAMES else ""
        who = f" of {len(of_runs):,} of {n_runs:,} runs" if of_runs and n_runs > 1 else ""
        sentences.append(
            f"To keep the page small, some curves{who} are not on it, of {', '.join(measures[:_MOST_NAMES])}{more}. "
            "A larger --max-mb, or max_mb=, holds more of them; 5 is the largest."
        )
    if 0 < len(found.runs) < n_runs:
        sentences.append(f"{len(found.runs):,} of {n_runs:,} runs can be chosen. The medians are those of all runs.")
    return sentences


def _curves(series: xr.Dataset, names: Sequence[str], *, log: bool) -> Iterator[Curve]:
    steps = series["step"].values.astype(float)
    for variable, name in enumerate(names):
        common = "run" not in series[name].dims and series.sizes.get("run", 1) > 1
        ends = [{(layer, label): rows for layer, label, rows in groups(one)} for one in _bands(series, name)]
        for layer, label, rows in groups(series[name]):
            place = variable, layer, label
            of_rows = [one.get((layer, label)) for one in ends] or [None]
            for run, row in enumerate(rows):
                band = None if of_rows[0] is None or of_rows[-1] is None else (of_rows[0][run], of_rows[-1][run])
                yield from _reduced(place, None if common else run, steps, row, band, log=log)
            if len(rows) > 1:
                middle, band = over_runs(steps, rows)
                yield from _reduced(place, MEDIAN, steps, middle, band, log=log)


def _bands(series: xr.Dataset, name: str) -> list[xr.DataArray]:
    """Return the ends of the band of a variable, two standard errors or bounds; an empty list without a band."""
    if f"{name}_se" in series:
        return [series[name] - 2 * series[f"{name}_se"], series[name] + 2 * series[f"{name}_se"]]
    if f"{name}_lower" in series and f"{name}_upper" in series:
        return [series[f"{name}_lower"], series[f"{name}_upper"]]
    return []


def groups(array: xr.DataArray) -> list[tuple[int | None, str, np.ndarray]]:
    """Return (layer, label, values (run, step)) for each layer and combination of the other dimensions with a value."""
    array = array.astype(float) if "run" in array.dims else array.astype(float).expand_dims("run")
    others = [dim for dim in array.dims if dim not in ("step", "run", "layer")]
    array = (
        array.transpose("layer", *others, "run", "step")
        if "layer" in array.dims
        else array.transpose(*others, "run", "step")
    )
    found = []
    values = np.where(np.isfinite(array.values), array.values, np.nan)
    for at in np.ndindex(values.shape[:-2]):
        if np.isnan(values[at]).all():
            continue
        layer = at[0] if "layer" in array.dims else None
        rest = at[len(at) - len(others) :]
        label = " ".join(str(array[dim].values[i]) for dim, i in zip(others, rest, strict=True))
        found.append((layer, label, values[at]))
    return found


def over_runs(steps: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Return the median over runs where all measured runs have a value, and its band if there are many runs."""
    grid = on_one_grid(np.log10(steps + 1.0), rows[~np.isnan(rows).all(axis=1)])[0]
    shared = ~np.isnan(grid).any(axis=0)
    middle = np.where(shared, np.median(grid, axis=0), np.nan)
    if len(grid) <= MAX_THIN:
        return middle, None
    low, high = np.quantile(np.where(shared, grid, 0.0), _QUANTILES, axis=0)
    return middle, (low, high)


def _reduced(
    place: tuple[int, int | None, str],
    run: int | None,
    steps: np.ndarray,
    values: np.ndarray,
    band: tuple[np.ndarray, np.ndarray] | None,
    *,
    log: bool,
) -> Iterator[Curve]:
    seen = np.flatnonzero(~np.isnan(values))
    if not len(seen):
        return
    kept = seen[columns(steps[seen], values[seen], log=log)]
    if band is not None and np.isnan(np.stack(band)[:, kept]).any():
        band = None
    ends = None if band is None else (band[0][kept], band[1][kept])
    yield Curve(place[0], run, place[1], place[2], steps[kept], values[kept], ends)


def columns(steps: np.ndarray, values: np.ndarray, *, log: bool, n_columns: int = COLUMNS) -> np.ndarray:
    """Return the positions of the least and the largest value in each column of pixels; all if there are few."""
    if len(steps) <= 2 * n_columns:
        return np.arange(len(steps))
    x = np.log(drawn_steps(steps)) if log else steps
    column = np.minimum((x - x[0]) / (x[-1] - x[0]) * n_columns, n_columns - 1).astype(int)
    order = np.lexsort((values, column))
    starts = np.flatnonzero(np.diff(column[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    return np.unique(np.concatenate([[0], order[starts], order[ends], [len(steps) - 1]]))


def encoded(content: Content) -> dict[str, Any]:
    """Return the curves as JSON. Equal arrays of steps are stored once; values are float32."""
    places: dict[bytes, int] = {}
    records = []
    for one in content.curves:
        place = places.setdefault(one.steps.astype("<f8").tobytes(), len(places))
        record = {
            "v": one.variable,
            "r": one.run,
            "l": one.layer,
            "s": one.label,
            "x": place,
            "y": _float32(one.values),
        }
        records.append(record if one.band is None else record | {"b": [*map(_float32, one.band)]})
    return {"xs": [b64encode(text).decode() for text in places], "curves": records}


def _float32(values: np.ndarray) -> str:
    most = np.finfo(np.float32).max
    return b64encode(np.clip(values, -most, most).astype("<f4").tobytes()).decode()
