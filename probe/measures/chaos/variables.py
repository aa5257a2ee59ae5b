"""The variables of :class:`probe.ChaosProbe`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from probe.base import Measured
from probe.measures.chaos.twins import Twin


@dataclass(frozen=True)
class Direction:
    """What was measured in one direction."""

    twins: list[Twin]
    tangent: float
    output_tangent: float
    quadratic: float
    kink_size: float
    smallest: float
    barriers: Any  # (sizes, 2, splits), None if not asked for

    @property
    def kink_limited(self) -> int:
        """Whether the growth depends on the size, -1 if that was not measured."""
        if math.isnan(self.tangent) or all(found.rounded for found in self.twins):
            return -1
        return int(not math.isnan(self.kink_size))


class Settings(Protocol):
    """The parameters of the probe that name its variables."""

    window: int
    sizes: Sequence[float]
    directions: Sequence[str]
    quadratic: bool


def variables(
    probe: Settings,
    found: list[Direction],
    curvature: Mapping[str, float],
    repeated: float,
    not_differentiable: bool,
    splits: list[str],
) -> dict[str, Measured]:
    """Return the variables of one observation; ``curvature`` has numbers of the Hessian."""
    coords: dict[str, Sequence[Any]] = {"direction": list(probe.directions), "size": sorted(probe.sizes)}
    attrs = {"window": probe.window}
    rounded = np.array([[one.rounded for one in entry.twins] for entry in found])
    output_rounded = np.array([[one.output_rounded for one in entry.twins] for entry in found])

    def by_size(name: str, text: str, units: str = "1", *, lost: np.ndarray = rounded) -> Measured:
        values = np.array([[getattr(one, name) for one in entry.twins] for entry in found])
        values = np.where(lost | ~np.isfinite(values), math.nan, values)
        return Measured(values, ("direction", "size"), coords, units=units, long_name=text, attrs=attrs)

    def by_direction(name: str, text: str, units: str = "nats", **kwargs: Any) -> Measured:
        values = np.array([getattr(entry, name) for entry in found])
        if not kwargs:
            values = np.where(np.isfinite(values), values, math.nan)
        only = {"direction": coords["direction"]}
        return Measured(values, ("direction",), only, units=units, long_name=text, attrs=attrs, **kwargs)

    result = {
        "chaos_growth": by_size("growth", "log growth of a perturbation of the parameters", "nats"),
        "chaos_output_growth": by_size(
            "output_growth", "log growth of the change of the outputs", "nats", lost=output_rounded
        ),
        "chaos_angle": by_size("angle", "one minus the cosine of both parameter vectors"),
        "chaos_disagreement": by_size("disagreement", "share of rows with another largest output", lost=output_rounded),
        "chaos_tangent_growth": by_direction("tangent", "log growth of the derivative of the parameters"),
        "chaos_tangent_output_growth": by_direction("output_tangent", "log growth of the derivative of the outputs"),
        "chaos_kink_size": by_direction("kink_size", "smallest size that grows otherwise than the derivative", "1"),
        "chaos_smallest_size": by_direction("smallest", "smallest size that rounding does not dominate", "1"),
        "chaos_kink_limited": by_direction("kink_limited", "the growth depends on the size", "1", flag=True),
        "chaos_rounded": Measured(
            rounded.astype(int), ("direction", "size"), coords, flag=True, long_name="rounding dominates the size"
        ),
        "chaos_output_rounded": Measured(
            output_rounded.astype(int),
            ("direction", "size"),
            coords,
            flag=True,
            long_name="rounding dominates the change of the outputs",
        ),
        "chaos_nondeterministic": Measured(int(repeated > 0), flag=True, long_name="two unperturbed copies differ"),
        "chaos_not_differentiable": Measured(
            int(not_differentiable), flag=True, long_name="a part of the training has no derivative"
        ),
        "sharpness": Measured(curvature["value"], long_name="largest curvature of the loss of a batch"),
        "sharpness_residual": Measured(curvature["residual"], long_name="distance of an eigenvalue from the sharpness"),
        "sharpness_learning_rate": Measured(
            curvature["value"] * curvature["rate"], long_name="sharpness times learning rate"
        ),
        "sharpness_preconditioned": Measured(
            curvature["preconditioned"], long_name="largest curvature, divided by the scale of the optimizer's updates"
        ),
    }
    if found[0].barriers is not None:
        dims = ("direction", "size", "barrier", "split")
        result["chaos_barrier"] = Measured(
            np.array([entry.barriers for entry in found]),
            dims,
            {**coords, "barrier": ["line", "ends"], "split": splits},
            units="nats",
            long_name="rise of the loss between an unperturbed and a perturbed end",
            attrs=attrs,
        )
    if probe.quadratic:
        result["chaos_quadratic_growth"] = by_direction("quadratic", "log growth with the curvature of the start")
    return result
