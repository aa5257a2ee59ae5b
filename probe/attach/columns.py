"""The columns of a recording: which probe makes which, declared once, and what describes them to a later process."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from probe.attach.contract import SessionProbe
from probe.recording.journal import Journal
from probe.series import Variable


class DuplicateNameError(ValueError):
    """Two probes make a variable of the same name."""


class SeriesColumns:
    """The variables of a journal, and whose they are."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._owners: dict[str, str] = {}  # variable -> probe

    def has(self, key: str, dims: tuple[str, ...], coords: Mapping[str, Any]) -> bool:
        """Whether the variable is noted with just these labels; also False where that would take long to say."""
        known = self._journal.records.variables.get(key)
        return (
            known is not None
            and known.dims == dims
            and all(isinstance(labels, list) and labels == known.coords.get(dim) for dim, labels in coords.items())
        )

    def declare(self, variable: Variable) -> None:
        """Note a variable; the labels that it had before are those that it keeps."""
        known = self._journal.records.variables.get(variable.name)
        if known is None:
            self._journal.declare(variable)
        elif (known.dims, dict(known.coords)) != (variable.dims, dict(variable.coords)):
            raise ValueError(
                f"{variable.name} has changed its labels since it was first measured: "
                f"{dict(known.coords)} then, {dict(variable.coords)} now"
            )

    def claim(self, key: str, name: str, probe: SessionProbe | None = None) -> None:
        """Note that the probe of this name makes the variable ``key``, and nobody else."""
        if self._owners.setdefault(key, name) != name:
            raise DuplicateNameError(
                f"{self._owners[key]} and {name} both make {key!r}; name one of them: "
                f"ProbeSet([..., ('second', {type(probe).__name__}(...))]) makes 'second_{key}'"
            )

    def scalars(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Numbers that the training loop gives, as columns of their own; callables are called."""
        values: dict[str, np.ndarray] = {}
        dims = {dim for variable in self._journal.records.variables.values() for dim in variable.dims}
        taken = {"step", "run", "layer", "split", "seconds", "failed", *dims, *self._owners}
        for name, value in given.items():
            if name in taken:
                raise ValueError(f"observe({name}=...): the series has a variable of this name; choose another")
            value = value() if callable(value) else value
            number = np.asarray(value.detach().cpu().double() if isinstance(value, Tensor) else value)
            if number.size != 1 or number.dtype.kind not in "fiub":
                raise TypeError(
                    f"observe({name}=...) takes a number, a tensor with one element or a callable that "
                    f"returns one, got {value!r}"
                )
            values[name] = number.astype(np.float64).reshape(())
            self.declare(Variable(name, long_name=name))
        return values


def describe_probe(probe: SessionProbe) -> dict[str, Any]:
    """A probe in plain values, for the provenance and for comparison on resume."""
    return {
        "estimator": type(probe).__name__,
        "parameters": {k: _told(v) for k, v in probe.get_params(deep=False).items()},
    }


def _told(value: Any) -> Any:
    """A parameter as it can be read, and compared, in another process."""
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [_told(item) for item in value]
    return getattr(value, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(value))
