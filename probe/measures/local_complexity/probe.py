"""Local complexity: the number of units that change sign in a small neighbourhood of an input.

Around each input x, the 2P vertices x +- r v_p of a cross-polytope are sent through the network. LC_l(x) is the number
of units of layer l whose pre-activation does not have the same sign at all of them (arXiv:2402.15555, section 3 and
appendix). For piecewise linear networks this is a lower bound of the number of units whose zero set meets the
neighbourhood. For smooth activations it marks where they bend. The directions v_p are orthonormal, random and **the
same for all inputs and steps**, so that they add no noise to the time series.

The measure counts pairs of a unit and a neighbourhood. It therefore does not detect units that have become copies of
each other. In D dimensions, the frame reaches a share of about ``sqrt(2 ln P / D)`` of the radius
(:func:`probe.geometry.effective_share`): do not compare values of different D, P or r.

Two variants use the same vertices and the points themselves: the distance of each unit's zero set within the slice that
the directions span, and the smooth density of these sets (:mod:`probe.geometry.boundaries`).
"""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from probe.attach.contract import Staged
from probe.base import Measured, Probe, Snapshot
from probe.errors import warn_user
from probe.forward.layers import Layers
from probe.forward.snapshot import generator
from probe.geometry.frames import effective_share, fixed_frame
from probe.layer_probe import random_rows
from probe.measures.local_complexity.plan import DIRECTIONS, FEW_POINTS, Plan, planned
from probe.measures.local_complexity.sites import (
    counted_sites,
    no_rows_error,
    traced_rows,
    uncounted_functions,
    untraced_functions,
    warn_of_uncounted,
)
from probe.measures.local_complexity.sweep import Sweep, at_vertices, stem_dimension, stem_values, uniform_in_box
from probe.measures.local_complexity.variables import ComplexityTable, point_statistics
from probe.reads import Stages, holds

VARIANTS = ("count", "distance", "density")
RANDOM = "random"  # the split of the points drawn from the box around the others
Points = tuple[Tensor, Tensor]  # rows (n,) and values at the stem (n, ...)


class LocalComplexityProbe(Staged, Probe):
    """Measure the mean local complexity at fixed inputs of each split, by layer and in total.

    Parameters
    ----------
    layers
        Layers whose activation functions are counted, see :func:`probe.forward.select_layers`. A layer without any is
        counted by its own output. Default: every activation function after the stem that
        :mod:`probe.forward.activations` lists, called as a module or as a function. A piecewise linear function counts
        at each of its bends. Units of all positions and pixels count. If an activation is applied to a sum of branches,
        the sum counts.
    stem : str, optional
        Name of the layer whose output is the centre of the neighbourhood. Default: the input if it is floating-point,
        else the first layer with floating-point output (the embedding of a token model).
    radius : float or sequence of float
        Half the diameter of the neighbourhood, as a share of the mean norm of the points at the stem
        (``relative=True``) or in the units of the stem. With a fixed absolute radius, the measure also follows the
        growth of an embedding. A sequence adds the dimension ``radius``.
    relative : bool
        Whether the radius is relative to the mean norm of the points.
    n_directions : int, optional
        Number of directions P. Default: 25, or the dimension of the stem if that is smaller. If ``max_rows`` is None, a
        large model has fewer, so that 16 points of each split are measured.
    n_random : int
        Largest number of further points, uniform in the smallest box around the measured points of all splits at the
        stem: the split ``random``. Their mean estimates the mean over the box. They share the budget: as many as the
        other splits have at most.
    variants : sequence of str
        Variants to measure: ``"count"``, ``"distance"`` and ``"density"``.
    max_rows : int or None
        Budget of forward rows per observation over all splits and radii. It determines the number of points. Default:
        4,096, or fewer for a large model, see :meth:`probe.Snapshot.row_budget`. Points and directions then follow from
        model and data, with 2 points at least; a warning is issued if there are fewer than 4.
    random_state : int
        Seed of the directions and of the choice of points.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer) or, with ``_total``, by (step, split), with standard errors over points ``_se``. The
        ``layer`` is ``"<module>:<activation>"``; the attribute ``n_points`` is the number of points of the smallest
        split, ``n_directions`` that of the directions, and ``max_rows`` the budget.
        The attribute ``not_counted`` lists other nonlinear functions by module. A layer that does not receive
        one row for each input (an expert, an early exit, flattened tokens) is NaN.

        - ``local_complexity``: mean count per point. ``local_complexity_fraction``: share of the
          ``local_complexity_units``.
        - ``local_complexity_integral``: mean of the total over the box; times the volume of the box it is the integral.
        - ``local_complexity_near``: number of units whose zero set is nearer than the radius within the slice.
        - ``local_complexity_distance``: median over points of the distance of the nearest zero set, in units of the
          stem.
        - ``local_complexity_density``: density of zero sets, in 1 / unit of the stem.
        - ``local_complexity_radius``: the absolute radius. ``local_complexity_radius_effective``: the share of it that
          the frame reaches, on average over random weights, in closed form.

        Flags: ``local_complexity_nonfinite`` (-1 for a layer that is not counted); ``local_complexity_incomplete`` (the
        total lacks activation functions, since they do not receive one row for each input);
        ``local_complexity_unrepeatable`` (two passes over the same rows differ, so that the counts contain noise).

    See Also
    --------
    probe.geometry.sign_changes : The count at given vertices.

    Examples
    --------
    The boundary of the only unit, at x = 0, lies within the radius of one of two inputs:

    >>> import torch
    >>> from probe import LocalComplexityProbe
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
    >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.zero_()
    >>> probe = LocalComplexityProbe(radius=0.5, relative=False)
    >>> series = probe.fit(model, (torch.tensor([[0.1], [3.0]]), None)).series_
    >>> series["local_complexity"].item()
    0.5
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
        max_rows: int | None = None,
        random_state: int = 0,
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

    def stages(self, snapshot: Snapshot) -> Stages[Mapping[str, Measured]]:
        """Send the vertices through the model and count."""
        given = self._given(snapshot)
        stem = snapshot.stem(self.stem)
        plan = self._plan(snapshot, len(given), stem_dimension(snapshot, stem))
        points = self._points(snapshot, stem, plan.n_points)
        sites = counted_sites(snapshot, stem, self.layers)
        radii = self._radii(given, stem, points)
        if self.n_random:
            box = uniform_in_box([values for _, values in points.values()], plan.n_random, generator(self.random_state))
            points[RANDOM] = torch.arange(plan.n_random) % len(snapshot.data[snapshot.splits[0]]), box
        frames = {split: self._frame(values[0].numel(), plan) for split, (_, values) in points.items()}
        with_rows = [site for site in sites if traced_rows(snapshot.trace, site)]
        sweeps = {
            split: self._sweep(snapshot, split, stem, with_rows, points[split], frames[split], radii)
            for split in points
        }
        few = {split: points[split][0][: plan.n_checked] for split in snapshot.splits}
        untraced = untraced_functions(snapshot, few, self.layers)
        without = set(sites).difference(with_rows).union(*(sweep.without_rows for sweep in sweeps.values()))
        warn_of_uncounted(snapshot, [*(site for site in sites if site in without), *untraced])
        repeatable = snapshot.is_deterministic(snapshot.splits[0], with_rows)
        places = [(split, site) for split, sweep in sweeps.items() for site in sweep.found]
        absolute, *values = yield [radii, *(sweeps[split].found[site] for split, site in places)]
        found: dict[str, dict[str, Tensor]] = {split: {} for split in sweeps}
        for (split, site), statistics in zip(places, values, strict=True):
            found[split][site] = statistics
        units = [[sweep.units.get(site, math.nan) for site in sites] for sweep in sweeps.values()]
        table = ComplexityTable(
            found,
            sites,
            units,
            None if np.ndim(self.radius) == 0 else given,
            uncounted=uncounted_functions(snapshot.trace),
            incomplete=bool(untraced),
            attrs={"n_directions": plan.n_directions, "max_rows": plan.max_rows},
        )
        return {
            **table.variables(self.variants, RANDOM),
            **table.common(absolute, [effective_share(*frames[split].shape) for split in points], repeatable),
        }

    def _given(self, snapshot: Snapshot) -> list[float]:
        """Check the parameters, and return the radii as a list."""
        given = np.atleast_1d(np.asarray(self.radius, dtype=float)).tolist()
        if not given or not all(0 < radius < math.inf for radius in given):
            raise ValueError(f"Expected a positive and finite radius, got {self.radius}; correct it")
        if not self.variants or not set(self.variants) <= set(VARIANTS):
            raise ValueError(f"Expected variants among {VARIANTS}, got {self.variants}; pass a sequence of them")
        if self.n_random and (self.n_random < 2 or RANDOM in snapshot.splits):
            raise ValueError(
                f"Expected n_random >= 2 and no split {RANDOM!r}, got n_random={self.n_random} and the splits "
                f"{', '.join(snapshot.splits)}; raise n_random, or rename the split"
            )
        return given

    def _radii(self, given: Sequence[float], stem: str, points: Mapping[str, Points]) -> Tensor:
        """Return the radii in the units of the stem, float64 of shape (radii,), relative ones on the device."""
        if not self.relative:
            return torch.tensor(given, dtype=torch.float64)
        norm = torch.cat([values.flatten(1).norm(dim=1) for _, values in points.values()]).mean().double()
        radii = torch.stack([radius * norm for radius in given])
        if not holds(((radii > 0) & radii.isfinite()).all()):
            raise ValueError(
                f"Expected points at {stem!r} with a finite, positive mean norm, got {norm.item()}; pass "
                "relative=False, or another stem"
            )
        return radii.cpu() if self._centre else radii  # slopes need the number

    def _frame(self, dimension: int, plan: Plan) -> Tensor:
        """Return the directions (P, D). The dimension may differ between splits, for example of sequences."""
        directions = min(plan.n_directions, dimension) if self.n_directions is None else self.n_directions
        return fixed_frame(directions, dimension, int(self.random_state))

    def _plan(self, snapshot: Snapshot, n_radii: int, dimension: int) -> Plan:
        """Return the numbers of points and directions within the budget."""
        directions = min(DIRECTIONS, dimension) if self.n_directions is None else self.n_directions
        plan = planned(
            snapshot.row_budget(self.max_rows),
            [len(batch) for batch in snapshot.data.values()],
            n_radii,
            directions=len(fixed_frame(directions, dimension, int(self.random_state))),  # raises for wrong numbers
            n_random=self.n_random,
            centre=self._centre,
            fewer_directions=self.n_directions is None and self.max_rows is None,
        )
        most = min(len(batch) for batch in snapshot.data.values())
        if self.max_rows is None:
            if plan.n_points < min(most, FEW_POINTS) and not len(snapshot.history("local_complexity_units")):
                warn_user(
                    f"Expected forward rows for {FEW_POINTS} or more points of each split, got {plan.max_rows} rows, "
                    f"enough for {plan.n_points}; measure more rows of data, or pass LocalComplexityProbe(max_rows=...)"
                )
            plan = plan.at_least(2)
        if min(most, plan.n_points) < 2 or (self.n_random and plan.n_random < 2):
            raise ValueError(
                f"Expected max_rows for 2 or more points of each split, got {plan.max_rows}, enough for "
                f"{max(0, plan.n_points)}, and {most} rows of data; raise max_rows, or pass more data"
            )
        return plan

    def _points(self, snapshot: Snapshot, stem: str, most: int) -> dict[str, Points]:
        """Return the measured points of each split."""
        found = {}
        for split, data in snapshot.data.items():
            n = min(len(data), most)
            rows = torch.arange(n) if n == len(data) else random_rows(len(data), n, self.random_state)
            found[split] = rows, stem_values(snapshot, split, stem, rows)
        return found

    @property
    def _centre(self) -> bool:
        """Return whether the points themselves are sent through too, and not only the vertices around them."""
        return set(self.variants) != {"count"}

    def _sweep(
        self,
        snapshot: Snapshot,
        split: str,
        stem: str,
        sites: Sequence[str],
        points: Points,
        frame: Tensor,
        radii: Tensor,
    ) -> Sweep:
        """Return the statistics (n, radii, statistics) of each site. Random points use the first split's inputs."""
        split, centre = split if split in snapshot.data else snapshot.splits[0], self._centre
        each = [
            at_vertices(
                snapshot,
                split,
                stem,
                sites,
                points,
                frame,
                r,
                partial(point_statistics, radius=r, centre=centre),
                centre=centre,
            )
            for r in (radii.tolist() if centre else radii)
        ]
        if not each[0].found:
            unlike = [site for site in sites if site in each[0].without_rows]
            raise no_rows_error(
                f"other rows (experts, tokens, steps) at {', '.join(unlike)}"
                if unlike
                else f"no call of {', '.join(sites)}"
            )
        fired = set(each[0].found).intersection(*(sweep.found for sweep in each))
        stacked = {site: torch.stack([sweep.found[site] for sweep in each], 1) for site in sites if site in fired}
        found = {site: values if values.ndim == 3 else values[..., None] for site, values in stacked.items()}
        units = {site: each[0].units[site] for site in found}
        return Sweep(found, units, set().union(*(sweep.without_rows for sweep in each)))
