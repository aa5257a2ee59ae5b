"""Local complexity: how many units switch sign in a small neighbourhood of an input.

Around each input x the 2P vertices x +- r v_p of a cross-polytope are sent through the network; LC_l(x) is the number
of units of layer l whose pre-activation does not have the same sign at all of them (arXiv:2402.15555, section 3 and
appendix). For piecewise linear networks this counts units whose zero set meets the neighbourhood, from below; for
smooth activations it marks where they bend. The directions v_p are orthonormal, random and **the same for all inputs
and steps**, which takes their noise out of the time series.

It counts (unit, neighbourhood) incidences, so it cannot see units that have become copies of each other. The frame
sees a share of about ``sqrt(2 ln P / D)`` of the radius in D dimensions: values of different D, P or r do not compare.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.layers import Layers
from probe.snapshot import generator


def orthonormal_frame(n_directions: int, dimension: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Random orthonormal directions, uniformly distributed.

    Returns
    -------
    Tensor of shape (n_directions, dimension), float64, on the CPU
    """
    if not 1 <= n_directions <= dimension:
        raise ValueError(
            f"{n_directions} directions cannot be orthonormal in {dimension} dimensions; "
            f"n_directions must be from 1 to {dimension}"
        )
    gaussian = torch.randn(dimension, n_directions, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)  # (D, P)
    return (q * r.diagonal().sign()).T  # the signs make it uniform


def sign_changes(z: Tensor) -> Tensor:
    """How many units do not have one sign over all vertices.

    Parameters
    ----------
    z : Tensor of shape (n, V, ...)
        Pre-activations of n points at V vertices; an exact zero is a sign of its own.

    Returns
    -------
    Tensor of shape (n,), NaN for points with a pre-activation that is not finite.
    """
    flat = z.reshape(*z.shape[:2], -1)  # (n, V, units)
    low, high = flat.amin(1), flat.amax(1)
    counts = (low.sign() != high.sign()).sum(1).double()
    return counts.where(torch.isfinite(low + high).all(1), torch.nan)


class LocalComplexityProbe(Probe):
    """Mean local complexity at fixed inputs of each split, by layer and in total.

    Parameters
    ----------
    layers
        Count the units of the activation functions inside these layers; a layer without any is counted by its own
        output. Default: every activation function after the stem, called as a module or as a function.
    stem
        Where the neighbourhood lies: the input if it is floating-point, else the first layer with floating-point
        output (the embedding of a token model); or the name of a layer.
    radius
        Half the diameter of the neighbourhood, as a share of the mean norm of the points at the stem
        (``relative=True``) or in the units of the stem. A fixed absolute radius in an embedding that shrinks or
        grows shows just that.
    n_directions
        P; default 25, or the dimension of the stem if that is smaller.
    max_rows
        Forward rows per observation over all splits: ``max_rows // (2 P splits)`` points of each are measured.
    random_state
        Seed of the directions and of the choice of points.
    device
        Not used for the forward passes, which run where the model is; accepted as by every probe.

    Notes
    -----
    Variables: ``local_complexity`` and ``local_complexity_se`` (standard error over points) by (split, layer), the
    ``layer`` being ``"<module>:<activation>"``; ``local_complexity_total`` and its ``_se`` by split;
    ``local_complexity_radius``; the flag ``local_complexity_nonfinite``. Counts of units per point; the attribute
    ``n_points`` says over how many points.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        stem: str | None = None,
        radius: float = 0.1,
        relative: bool = True,
        n_directions: int | None = None,
        max_rows: int = 4096,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.layers = layers
        self.stem = stem
        self.radius = radius
        self.relative = relative
        self.n_directions = n_directions
        self.max_rows = max_rows
        self.random_state = random_state
        self.device = device

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Send the vertices through the model and count."""
        if not self.radius > 0:
            raise ValueError(f"radius must be positive, got {self.radius}: a point is crossed by nothing")
        stem = self._stem(snapshot)
        vertices = len(self._vertices(math.prod(snapshot.trace.shapes[stem][1:])))
        centres = {split: self._centres(snapshot, split, stem, vertices) for split in snapshot.splits}
        sites = self._sites(snapshot, stem)
        norm = torch.cat([values.flatten(1).norm(dim=1) for _, values in centres.values()]).mean().item()
        radius = self.radius * norm if self.relative else self.radius
        if not 0 < radius < math.inf:
            raise ValueError(
                f"the points at {stem!r} have mean norm {norm}; a relative radius needs a finite, positive one"
            )
        counts = {
            split: _counts(snapshot, split, stem, sites, rows, radius * self._vertices(values[0].numel()))
            for split, (rows, values) in centres.items()
        }
        return _tabulated(counts, sites, radius)

    def _vertices(self, dimension: int) -> Tensor:
        """Of the unit cross-polytope (2P, D); the dimension may differ from split to split, as sequences do."""
        directions = min(25, dimension) if self.n_directions is None else self.n_directions
        frame = orthonormal_frame(directions, dimension, generator=generator(self.random_state))
        return torch.cat([frame, -frame])

    def _stem(self, snapshot: Snapshot) -> str:
        stem = self.stem or snapshot.stem()
        if not snapshot.trace.floating.get(stem):
            raise ValueError(
                f"stem={stem!r} is not a layer that fires with floating-point numbers; {snapshot.stem()!r} is one"
            )
        return stem

    def _sites(self, snapshot: Snapshot, stem: str) -> list[str]:
        shapes, order = snapshot.trace.shapes, snapshot.trace.order
        after = order[order.index(stem) :]
        sites = self._named_sites(snapshot) or [site for site in snapshot.trace.activations if site in after]
        if not sites:
            raise ValueError(
                f"no activation function was seen after {stem!r} (fused layers such as nn.LSTM show none): name layers "
                "whose outputs are pre-activations, LocalComplexityProbe(layers=...), or leave this probe out"
            )
        for site in sites:
            if site in order and site not in after:
                raise ValueError(f"{site!r} comes before the stem {stem!r}: it does not see the neighbourhood")
            if site in order and shapes[site][:1] != shapes[stem][:1]:
                raise ValueError(
                    f"{site!r} has shape {shapes[site]} for {shapes[stem][0]} inputs, expected one row for each; "
                    "choose others with LocalComplexityProbe(layers=...)"
                )
        return sites

    def _named_sites(self, snapshot: Snapshot) -> list[str]:
        sites: list[str] = []
        for layer in () if self.layers is None else snapshot.select(self.layers):
            inside = [site for site in snapshot.trace.activations if f"{site.split(':')[0]}.".startswith(f"{layer}.")]
            sites += inside or [layer]
        return list(dict.fromkeys(sites))

    def _centres(self, snapshot: Snapshot, split: str, stem: str, vertices: int) -> tuple[Tensor, Tensor]:
        """Which rows are measured, and their values at the stem."""
        n = len(snapshot.data[split])
        points = min(n, self.max_rows // (vertices * len(snapshot.splits)))
        if points < 2:
            raise ValueError(
                f"max_rows={self.max_rows} leaves {points} points for split {split!r}; at least 2 are needed"
            )
        rows = torch.randperm(n, generator=generator(self.random_state))[:points]
        values = snapshot.outputs(split, [stem], reduce="none", rows=rows)[stem]
        if len(values) != points:
            raise ValueError(
                f"{stem!r} has shape {tuple(values.shape)} for {points} inputs, expected one row for each; "
                "name another layer: LocalComplexityProbe(stem=...)"
            )
        return rows, values


def _counts(
    snapshot: Snapshot, split: str, stem: str, sites: Sequence[str], rows: Tensor, offsets: Tensor
) -> dict[str, Tensor]:
    vertices = len(offsets)
    counted = snapshot.outputs(
        split,
        sites,
        reduce=_counter(vertices),
        rows=rows.repeat_interleave(vertices),
        edit={stem: _mover(offsets)},
        group=vertices,
    )
    return {site: counts.squeeze(1) for site, counts in counted.items()}


def _mover(offsets: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def move(output: Tensor, positions: Tensor) -> Tensor:
        moved = offsets.to(output)[positions % len(offsets)]  # (b, D)
        return output + moved.view_as(output)

    return move


def _counter(vertices: int) -> Callable[[Tensor], Tensor]:
    return lambda z: sign_changes(z.reshape(-1, vertices, *z.shape[1:]))[:, None]  # (points, 1)


def _tabulated(counts: Mapping[str, Mapping[str, Tensor]], sites: Sequence[str], radius: float) -> dict[str, Measured]:
    splits = list(counts)
    silent = {split: torch.full_like(next(iter(counts[split].values())), torch.nan) for split in splits}
    table = torch.stack(
        [torch.stack([_mean_and_error(counts[split].get(site, silent[split])) for site in sites]) for split in splits]
    )  # (split, layer, 2)
    total = torch.stack([_mean_and_error(torch.stack(list(counts[split].values())).sum(0)) for split in splits])
    bad = [
        [int(counts[split][site].isnan().any()) if site in counts[split] else -1 for site in sites] for split in splits
    ]
    name = "local_complexity"
    coords = {"split": splits, "layer": list(sites)}
    attrs = {"n_points": min(len(values) for values in silent.values())}

    def by(values: Any, dims: tuple[str, ...], text: str, **kwargs: Any) -> Measured:
        return Measured(values, dims, {dim: coords[dim] for dim in dims}, long_name=text, attrs=attrs, **kwargs)

    text = "sign changes near an input"
    return {
        name: by(table[..., 0], ("split", "layer"), text),
        f"{name}_se": by(table[..., 1], ("split", "layer"), "standard error over points"),
        f"{name}_total": by(total[:, 0], ("split",), f"{text}, all layers"),
        f"{name}_total_se": by(total[:, 1], ("split",), "standard error over points"),
        f"{name}_radius": Measured(radius, long_name="absolute radius at the stem"),
        f"{name}_nonfinite": by(bad, ("split", "layer"), "pre-activations are not finite", flag=True),
    }


def _mean_and_error(counts: Tensor) -> Tensor:
    return torch.stack([counts.mean(), counts.std() / math.sqrt(len(counts))])
