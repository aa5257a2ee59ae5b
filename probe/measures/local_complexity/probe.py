"""Local complexity: how many units switch sign in a small neighbourhood of an input.

Around each input x the 2P vertices x +- r v_p of a cross-polytope are sent through the network; LC_l(x) is the number
of units of layer l whose pre-activation does not have the same sign at all of them (arXiv:2402.15555, section 3 and
appendix). For piecewise linear networks this counts units whose zero set meets the neighbourhood, from below; for
smooth activations it marks where they bend. The directions v_p are orthonormal, random and **the same for all inputs
and steps**, which takes their noise out of the time series.

It counts (unit, neighbourhood) incidences, so it cannot see units that have become copies of each other. The frame
sees a share of about ``sqrt(2 ln P / D)`` of the radius in D dimensions
(:func:`probe.geometry.effective_share`): values of different D, P or r do not compare.

Two variants from the same vertices and the points themselves: the distance of each unit's zero set in the slice that
the directions span, and the smooth density of these sets (:mod:`probe.geometry.boundaries`).
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import Layers
from probe.forward.snapshot import generator
from probe.geometry.boundaries import sign_changes as sign_changes
from probe.geometry.frames import effective_share, fixed_frame
from probe.measures.local_complexity.sweep import (
    dimension_of,
    sites_after,
    swept,
    uniform_in_box,
    units_of,
    values_at,
)
from probe.measures.local_complexity.variables import Tables, columns

VARIANTS = ("count", "distance", "density")
RANDOM = "random"  # the split of the points drawn from the box around the others
Points = tuple[Tensor, Tensor]  # rows (n,) and values at the stem (n, ...)


class LocalComplexityProbe(Probe):
    """Mean local complexity at fixed inputs of each split, by layer and in total.

    Parameters
    ----------
    layers
        Count the units of the activation functions inside these layers; a layer without any is counted by its own
        output. Default: every activation function after the stem, called as a module or as a function. Units of all
        positions and pixels count; where an activation is applied to a sum of branches, the sum counts.
    stem
        Where the neighbourhood lies: the input if it is floating-point, else the first layer with floating-point
        output (the embedding of a token model); or the name of a layer.
    radius
        Half the diameter of the neighbourhood, as a share of the mean norm of the points at the stem
        (``relative=True``) or in the units of the stem. A fixed absolute radius in an embedding that shrinks or
        grows shows just that. A sequence: several, along the dimension ``radius``.
    n_directions
        P; default 25, or the dimension of the stem if that is smaller.
    n_random
        Further points, uniform in the smallest box around the measured points of all splits at the stem: the split
        ``random``. Their mean estimates the mean over the box.
    variants
        What is measured, of ``"count"``, ``"distance"`` and ``"density"``.
    max_rows
        Forward rows per observation over all splits and radii; the points that they leave for each split are measured.
    random_state
        Seed of the directions and of the choice of points.
    device
        Not used for the forward passes, which run where the model is; accepted as by every probe.

    Notes
    -----
    Variables by (split, layer) or, ``_total``, by split, with standard errors over points ``_se``; the ``layer`` is
    ``"<module>:<activation>"``, the attribute ``n_points`` says over how many points. ``local_complexity``: mean count
    per point, and ``local_complexity_fraction`` of the ``local_complexity_units``. ``local_complexity_integral``: the
    mean of the total over the box (times its volume it is the integral). ``local_complexity_near``: units whose zero
    set is nearer than the radius within the slice; ``local_complexity_distance``: median over points of the distance of
    the nearest one; ``local_complexity_density``: of zero sets, in 1 / length. ``local_complexity_radius``;
    ``local_complexity_radius_effective``: what the frame sees of it, on average over random weights, in closed form.
    Flags: ``local_complexity_nonfinite``; ``local_complexity_unrepeatable``: two passes over the same rows differ, so
    that what is counted is noise.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        stem: str | None = None,
        radius: float | Sequence[float] = 0.1,
        relative: bool = True,
        n_directions: int | None = None,
        n_random: int = 0,
        variants: Sequence[str] = ("count",),
        max_rows: int = 4096,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.layers = layers
        self.stem = stem
        self.radius = radius
        self.relative = relative
        self.n_directions = n_directions
        self.n_random = n_random
        self.variants = variants
        self.max_rows = max_rows
        self.random_state = random_state
        self.device = device

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Send the vertices through the model and count."""
        given = self._given(snapshot)
        stem = snapshot.stem(self.stem)
        points = self._points(
            snapshot, stem, len(given) * (2 * len(self._frame(dimension_of(snapshot, stem))) + self._centre)
        )
        sites = sites_after(snapshot, stem, self.layers)
        radii = self._radii(given, stem, points)
        if self.n_random:
            box = uniform_in_box([values for _, values in points.values()], self.n_random, generator(self.random_state))
            points[RANDOM] = torch.arange(self.n_random) % len(snapshot.data[snapshot.splits[0]]), box
        frames = {split: self._frame(values[0].numel()) for split, (_, values) in points.items()}
        found = {
            split: self._found(snapshot, split, stem, sites, points[split], frames[split], radii) for split in points
        }
        units = [units_of(snapshot, split if split in snapshot.data else snapshot.splits[0], sites) for split in points]
        tables = Tables(found, sites, units, None if np.ndim(self.radius) == 0 else given)
        repeatable = snapshot.is_deterministic(snapshot.splits[0], sites)
        return {
            **tables.variables(self.variants, RANDOM),
            **tables.facts(radii, [effective_share(*frames[split].shape) for split in points], repeatable),
        }

    def _given(self, snapshot: Snapshot) -> list[float]:
        """The radii as they were given; the other parameters are checked too."""
        given = np.atleast_1d(np.asarray(self.radius, dtype=float)).tolist()
        if not given or not all(0 < radius < math.inf for radius in given):
            raise ValueError(f"radius must be positive and finite, got {self.radius}")
        if not self.variants or not set(self.variants) <= set(VARIANTS):
            raise ValueError(f"variants must be some of {VARIANTS}, got {self.variants}")
        if self.n_random and (self.n_random < 2 or RANDOM in snapshot.splits):
            raise ValueError(f"n_random={self.n_random} needs 2 points or more, and data without a split {RANDOM!r}")
        return given

    def _radii(self, given: Sequence[float], stem: str, points: Mapping[str, Points]) -> list[float]:
        """In the units of the stem."""
        if not self.relative:
            return list(given)
        norm = torch.cat([values.flatten(1).norm(dim=1) for _, values in points.values()]).mean().item()
        radii = [radius * norm for radius in given]
        if not all(0 < radius < math.inf for radius in radii):
            raise ValueError(
                f"the points at {stem!r} have mean norm {norm}; a relative radius needs a finite, positive one"
            )
        return radii

    def _frame(self, dimension: int) -> Tensor:
        """The directions (P, D); the dimension may differ from split to split, as sequences do."""
        directions = min(25, dimension) if self.n_directions is None else self.n_directions
        return fixed_frame(directions, dimension, int(self.random_state))

    def _points(self, snapshot: Snapshot, stem: str, each: int) -> dict[str, Points]:
        """The measured points of each split, as many as the budget allows at ``each`` rows a point."""
        found = {}
        for split, data in snapshot.data.items():
            n = min(len(data), (self.max_rows // each - self.n_random) // len(snapshot.splits))
            if n < 2:
                raise ValueError(
                    f"max_rows={self.max_rows} leaves {max(n, 0)} points for split {split!r}; at least 2 are needed"
                )
            rows = torch.arange(n)
            if n < len(data):
                rows = torch.randperm(len(data), generator=generator(self.random_state))[:n]
            found[split] = rows, values_at(snapshot, split, stem, rows)
        return found

    @property
    def _centre(self) -> bool:
        """Whether the points themselves are sent through, not only the vertices around them."""
        return set(self.variants) != {"count"}

    def _found(
        self,
        snapshot: Snapshot,
        split: str,
        stem: str,
        sites: Sequence[str],
        points: Points,
        frame: Tensor,
        radii: Sequence[float],
    ) -> dict[str, Tensor]:
        """{site: (n, radii, columns)}; points of no split go where the first split goes."""
        split, centre = split if split in snapshot.data else snapshot.splits[0], self._centre
        each = [
            swept(
                snapshot, split, stem, sites, points, frame, r, partial(columns, radius=r, centre=centre), centre=centre
            )
            for r in radii
        ]
        stacked = {site: torch.stack([found[site] for found in each], 1) for site in each[0]}
        return {site: values if values.ndim == 3 else values[..., None] for site, values in stacked.items()}
