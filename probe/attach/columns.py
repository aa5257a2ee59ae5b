"""The columns of a recording: their declaration, their owners, and the description of probes in the header."""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from probe.attach.contract import SessionProbe
from probe.errors import DuplicateNameError
from probe.interrupts import interruptible
from probe.recording.journal import Journal
from probe.series import Variable


class SeriesColumns:
    """The variables of a journal, and the probe that makes each of them."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._owners: dict[str, str] = {}  # variable -> probe

    def has(self, key: str, dims: tuple[str, ...], coords: Mapping[str, Any]) -> bool:
        """Return whether the variable is declared with these labels; False too where comparing them is slow."""
        known = self._journal.records.variables.get(key)
        return (
            known is not None
            and known.dims == dims
            and all(isinstance(labels, list) and labels == known.coords.get(dim) for dim, labels in coords.items())
        )

    def labels(self, key: str, dim: str) -> list[str]:
        """Return the labels of a variable along a dimension; empty if it is not declared yet."""
        known = self._journal.records.variables.get(key)
        return [] if known is None else list(known.coords.get(dim, ()))

    def declare(self, variable: Variable) -> None:
        """Declare a variable. One that is declared already must have the same labels."""
        known = self._journal.records.variables.get(variable.name)
        if known is None:
            self._journal.declare(variable)
        elif (known.dims, dict(known.coords)) != (variable.dims, dict(variable.coords)):
            raise ValueError(
                f"Expected {variable.name} with the labels of its first observation, {dict(known.coords)}, got "
                f"{dict(variable.coords)}; return the same labels at each step, with NaN where there is no value"
            )

    def claim(self, key: str, name: str, probe: SessionProbe | None = None) -> None:
        """Register the probe of this name as the owner of a variable. Another owner is an error."""
        if self._owners.setdefault(key, name) != name:
            raise DuplicateNameError(
                f"Expected one probe for the variable {key!r}, got {self._owners[key]} and {name}; name one of them: "
                f"ProbeSet([..., ('second', {type(probe).__name__}(...))]) makes 'second_{key}'"
            )

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the numbers of rows, points and the like that each probe has stored as attributes."""
        found: dict[str, dict[str, int]] = {}
        for name, variable in self._journal.records.variables.items():
            numbers = {
                key: fact
                for key, fact in variable.attrs.items()
                if isinstance(fact, int) and (key.startswith("n_") or key == "max_rows")
            }
            found.setdefault(self._owners.get(name, ""), {}).update(numbers)
        return found

    def scalars(self, given: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return numbers of the training loop as columns of their own. Callables are called."""
        values: dict[str, np.ndarray] = {}
        dims = {dim for variable in self._journal.records.variables.values() for dim in variable.dims}
        taken = {"step", "run", "layer", "split", "seconds", "failed", *dims, *self._owners}
        for name, value in given.items():
            if name in taken:
                raise ValueError(
                    f"Expected observe({name}=...) with a name that is free, got one of the series; choose another"
                )
            if callable(value):
                with interruptible():
                    value = value()
            number = np.asarray(value.detach().cpu().double() if isinstance(value, Tensor) else value)
            if number.size != 1 or number.dtype.kind not in "fiub":
                raise TypeError(
                    f"Expected observe({name}=...) with a number, a tensor with one element, or a callable that "
                    f"returns one, got {value!r}; reduce it to one number"
                )
            values[name] = number.astype(np.float64).reshape(())
            self.declare(Variable(name, long_name=name))
        return values


def describe_probe(probe: SessionProbe) -> dict[str, Any]:
    """Return the class and parameters of a probe as JSON values, for the provenance and for comparison on resume."""
    return {
        "estimator": type(probe).__name__,
        "parameters": {k: describe_parameter(v) for k, v in probe.get_params(deep=False).items()},
    }


def describe_parameter(value: Any) -> Any:
    """Return a parameter as a JSON value that is the same in another process."""
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, (list, tuple)):
        return [describe_parameter(item) for item in value]
    return getattr(value, "__qualname__", None) or re.sub(r" at 0x[0-9a-f]+", "", repr(value))
