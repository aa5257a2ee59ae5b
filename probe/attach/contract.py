"""What a session expects of a probe, and what a probe returns: the contract between the two."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from probe.forward.passes import Tap
from probe.forward.snapshot import Snapshot
from probe.series import COMPARES, Variable


class SessionProbe(Protocol):
    """What :class:`~probe.attach.session.Session` calls on a probe; :class:`probe.Probe` is the class to inherit from."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, as every estimator of scikit-learn does."""
        ...

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return what to take from the forward pass that all probes share."""
        ...

    def measure(self, snapshot: Snapshot) -> "Mapping[str, Measured]":
        """Return the numbers of one step, by the name of the variable."""
        ...


@dataclass(frozen=True)
class Measured:
    """What a probe says about one quantity at one step.

    Parameters
    ----------
    values
        Numbers of the shape given by ``dims`` and ``coords``; for a flag 1, 0 or -1 (not measured).
    dims, coords
        Dimension names, and the labels along each of them.
    units, long_name
        As they stand beside the axis of a plot: ``"bits"``, ``"nats"``, ``"1"``.
    attrs
        Further facts for the reader of the series (strings and numbers).
    """

    values: Any
    dims: tuple[str, ...] = ()
    coords: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    units: str = "1"
    long_name: str = ""
    flag: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        """The values as a column of a series holds them: float64, int8 for a flag."""
        values = self.values.detach().cpu().double() if isinstance(self.values, Tensor) else self.values
        array = np.asarray(values, dtype=np.int8 if self.flag else np.float64)
        shape = tuple(len(self.coords[dim]) for dim in self.dims)
        if array.shape != shape:
            raise ValueError(f"{name}: dims {self.dims} with these labels need shape {shape}, got {array.shape}")
        return array

    def variable(self, name: str, estimator: str, prefix: str = "") -> Variable:
        """What stands beside the values in a series, in which names of this probe have the prefix."""
        coords = {dim: np.asarray(labels).tolist() for dim, labels in self.coords.items()}
        attrs = {"estimator": estimator, **{key: _fact(f"{name}: {key}", fact) for key, fact in self.attrs.items()}}
        if COMPARES in attrs:
            attrs[COMPARES] = f"{prefix}{attrs[COMPARES]}"
        return Variable(name, self.dims, coords, self.units, self.long_name, self.flag, attrs)


def _fact(where: str, fact: Any) -> str | int | float:
    """An attribute as every file format can hold it; NetCDF 3 has neither booleans nor wide integers."""
    fact = fact.item() if isinstance(fact, (np.generic, Tensor)) else fact
    if isinstance(fact, str) or (isinstance(fact, (bool, int)) and abs(fact) < 2**31):
        return fact if isinstance(fact, str) else int(fact)
    if isinstance(fact, (int, float)) and math.isfinite(fact):
        return float(fact)
    raise TypeError(f"{where}: attrs takes strings and finite numbers, got {fact!r}")
