"""Names and floats of one observation, the same for all writers and for the loggers of trainers."""

import math
import re
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from probe.series import Variable

PREFIX = "probe"
UNWRITTEN = "unwritten"  # variable: number of writers that did not take an observation
_UNSAFE = re.compile(r"[^\w./ -]")  # characters that some writer refuses
_LONGEST = 240  # MLflow refuses names of more than 250 characters


def numbers_of(
    variables: Mapping[str, Variable], values: Mapping[str, np.ndarray], names: Sequence[str] | None = None
) -> dict[str, float]:
    """Return the numbers of one observation by name, ``probe/<variable>/<labels>``.

    Values that are not finite and flags that were not measured are left out.

    Parameters
    ----------
    variables
        The variables of the series by name.
    values
        Their values at one step.
    names
        Variables to take. Default: those whose labels are text (splits, layers, parameters, probes). A vector, whose
        labels are numbers, has too many values for a dashboard.
    """
    wanted = [name for name in values if is_written(variables[name])] if names is None else names
    found = dict[str, float]()
    for name in wanted:
        if (value := values.get(name)) is not None:
            found.update(_labelled(variables[name], value))
    return found


def is_written(variable: Variable) -> bool:
    """Return whether the labels of a variable are text, so that each of its values has a name of its own."""
    labels = (label for dim in variable.dims for label in variable.coords[dim])
    return variable.name != UNWRITTEN and all(isinstance(label, str) for label in labels)


def _labelled(variable: Variable, values: np.ndarray) -> dict[str, float]:
    """Return the measured numbers of one variable. Names that become equal get a number behind them."""
    found, seen = dict[str, float](), dict[str, int]()
    labels = [variable.coords[dim] for dim in variable.dims]
    for place, value in np.ndenumerate(values):
        parts = [PREFIX, variable.name, *(str(each[i]) for each, i in zip(labels, place, strict=True))]
        key = _short(_UNSAFE.sub("_", "/".join(parts)))
        seen[key] = seen.get(key, 0) + 1
        if math.isfinite(value) and not (variable.flag and value < 0):
            found[key if seen[key] == 1 else f"{key}_{seen[key]}"] = float(value)
    return found


def _short(name: str) -> str:
    """Return a name, in place of whose end a checksum stands if it is too long."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 9]}_{zlib.crc32(name.encode()):08x}"


def described(variables: Mapping[str, Variable]) -> dict[str, dict[str, str]]:
    """Return units and description of the variables that are written."""
    return {
        f"{PREFIX}/{name}": {"units": variable.units, "description": variable.long_name or name}
        for name, variable in variables.items()
        if is_written(variable)
    }
