"""Convert the statistics of each point to the variables of a series."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probe.base import Measured
from probe.geometry.boundaries import boundary_density, boundary_distance, sign_changes, slice_slope

STATISTICS = ("count", "near", "nearest", "density")  # of each point, see :func:`point_statistics`
PointStatistics = Mapping[str, Mapping[str, Tensor]]  # split -> site -> (n, radii, statistics)


def point_statistics(z: Tensor, radius: float, *, centre: bool) -> Tensor:
    """Return the statistics of each point from the pre-activations at its vertices.

    Parameters
    ----------
    z : Tensor of shape (V, n, ...)
        Pre-activations at the 2 P vertices, after those at the point itself if ``centre``.

    Returns
    -------
    Tensor of shape (n,), the count, or (n, 4) with ``centre``, float64: as :data:`STATISTICS`
    """
    if not centre:
        return sign_changes(z, 0)
    z = z.transpose(0, 1)
    z = z.flatten(2) if z.ndim > 2 else z[..., None]
    z = z.float() if z.dtype in (torch.float16, torch.bfloat16) else z
    counts, point, (ahead, behind) = sign_changes(z[:, 1:]), z[:, 0], z[:, 1:].chunk(2, 1)
    slope = slice_slope(ahead, behind, radius)
    distance = boundary_distance(point, slope)
    near = (distance < radius).sum(1, dtype=torch.float64).where(torch.isfinite(counts), torch.nan)
    return torch.stack([counts, near, distance.amin(1), boundary_density(point, slope, width=radius)], 1)


class ComplexityTable:
    """Table of the statistics by split, layer and, if several were requested, radius.

    Parameters
    ----------
    found : {split: {site: Tensor of shape (n, radii, statistics), on the CPU}}
    sites
        Names of the layers. A layer that is missing in a split did not fire.
    units
        Number of units of each layer, by split.
    radii
        Labels, if a sequence of radii was requested.
    uncounted
        Description of the functions that are not counted.
    incomplete
        Whether activation functions fired that are not among the layers.
    attrs
        Further attributes.
    """

    def __init__(
        self,
        found: PointStatistics,
        sites: Sequence[str],
        units: Sequence[Sequence[float]],
        radii: Sequence[float] | None,
        *,
        uncounted: str = "",
        incomplete: bool = False,
        attrs: Mapping[str, Any] | None = None,
    ) -> None:
        self.units = torch.tensor(units, dtype=torch.float64)
        self.coords: dict[str, Sequence[Any]] = {"split": list(found), "layer": list(sites)}
        self.radius_dims: tuple[str, ...] = () if radii is None else ("radius",)
        self.coords |= {} if radii is None else {"radius": radii}
        self.fired = torch.tensor([[site in values for site in sites] for values in found.values()])
        self.each = [_stacked(values, sites) for values in found.values()]  # (n, layer, radii, statistics)
        self.incomplete = incomplete
        self.attrs: dict[str, Any] = {"n_points": min(map(len, self.each)), **(attrs or {})}
        self.attrs |= {"not_counted": uncounted} if uncounted else {}

    def variables(self, variants: Sequence[str], box: str) -> dict[str, Measured]:
        """Return the variables of the statistics; ``box`` is the split of the random points."""
        name = "local_complexity"
        coords = {dim: self.coords[dim] for dim in ("split", "layer")}
        found = {
            f"{name}_units": Measured(self.units, ("split", "layer"), coords, long_name="units", attrs=self.attrs),
            f"{name}_incomplete": Measured(
                (~self.fired.all(1) | self.incomplete).int(),
                ("split",),
                {"split": coords["split"]},
                flag=True,
                long_name="a layer is not counted in the total",
            ),
            f"{name}_nonfinite": self.variable(
                self._nonfinite(), ("split", "layer"), "pre-activations are not finite", flag=True
            ),
        }
        if "count" in variants:
            found |= self._means(name, "count", "sign changes near an input")
            share = self._by_layer(lambda each: each[..., 0].mean(0)) / self.units[..., None]
            found[f"{name}_fraction"] = self.variable(share, ("split", "layer"), "share of units that change sign")
            found |= self._integral(name, box)
        if "distance" in variants:
            found |= self._means(f"{name}_near", "near", "units with a boundary nearer than the radius")
            nearest = self._by_layer(lambda each: each[..., STATISTICS.index("nearest")].median(0).values)
            text = "median distance to the nearest boundary"
            found[f"{name}_distance"] = self.variable(nearest, ("split", "layer"), text, units="stem")
        if "density" in variants:
            found |= self._means(f"{name}_density", "density", "density of boundaries", units="1/stem")
        return found

    def common(self, absolute: Tensor, shares: Sequence[float], repeatable: bool) -> dict[str, Measured]:
        """Return the absolute radii (radii,), the shares that the directions reach, and the flag of unequal passes."""
        name = "local_complexity"
        reach = torch.tensor(shares, dtype=torch.float64)[:, None] * absolute
        return {
            f"{name}_radius": self.variable(absolute, (), "absolute radius at the stem"),
            f"{name}_radius_effective": self.variable(reach, ("split",), "radius that the directions reach"),
            f"{name}_unrepeatable": Measured(int(not repeatable), long_name="two equal passes differ", flag=True),
        }

    def variable(self, values: Tensor, dims: tuple[str, ...], text: str, **kwargs: Any) -> Measured:
        """Return a variable whose last axis is the radius. A single radius is no dimension."""
        dims, values = (*dims, *self.radius_dims), values if self.radius_dims else values[..., 0]
        coords = {dim: self.coords[dim] for dim in dims}
        return Measured(values, dims, coords, long_name=text, attrs=self.attrs, **kwargs)

    def _by_layer(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.stack([function(each) for each in self.each])  # (split, layer, radii)

    def _means(self, name: str, statistic: str, text: str, **kwargs: Any) -> dict[str, Measured]:
        """Return mean and standard error over points, for each layer and for the sum of all that fired."""
        error, total = "standard error over points", self._total(statistic)
        each = torch.stack([mean_and_error(each[..., STATISTICS.index(statistic)]) for each in self.each])
        return {
            name: self.variable(each[:, 0], ("split", "layer"), text, **kwargs),
            f"{name}_se": self.variable(each[:, 1], ("split", "layer"), error, **kwargs),
            f"{name}_total": self.variable(total[:, 0], ("split",), f"{text}, all layers", **kwargs),
            f"{name}_total_se": self.variable(total[:, 1], ("split",), error, **kwargs),
        }

    def _total(self, statistic: str) -> Tensor:
        """Return mean and standard error over points of the sum of all layers that fired, (split, 2, radii)."""
        at = STATISTICS.index(statistic)
        pairs = zip(self.each, self.fired, strict=True)
        return torch.stack([mean_and_error(each[:, fired][..., at].sum(1)) for each, fired in pairs])

    def _integral(self, name: str, box: str) -> dict[str, Measured]:
        """Return the mean over the box around the inputs, if there are random points."""
        if box not in self.coords["split"]:
            return {}
        mean, error = self._total("count")[list(self.coords["split"]).index(box)]
        return {
            f"{name}_integral": self.variable(mean, (), "sign changes, mean over the box of the inputs"),
            f"{name}_integral_se": self.variable(error, (), "standard error over points"),
        }

    def _nonfinite(self) -> Tensor:
        flags = self._by_layer(lambda each: each[..., 0].isnan().any(0).int())
        return flags.where(self.fired[..., None], -1)


def _stacked(values: Mapping[str, Tensor], sites: Sequence[str]) -> Tensor:
    missing = torch.full_like(next(iter(values.values())), torch.nan)
    return torch.stack([values.get(site, missing) for site in sites], 1)


def mean_and_error(points: Tensor) -> Tensor:
    """Return the mean of (n, ...) over points and its standard error, (2, ...)."""
    return torch.stack([points.mean(0), points.std(0) / math.sqrt(len(points))])
