"""What a reader returns: the points of each logged name, as they stand in the files, and the way to a series."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from probe.readers.names import AXES, ROLES, guess_roles
from probe.series import SCHEMA

Points = tuple[np.ndarray, np.ndarray]  # steps, values: (n,) each, in the order of the file


@dataclass
class Log:
    """One run.

    Attributes
    ----------
    points : dict of str to (steps, values)
        By logged name, in the order in which they were written.
    said : list of str
        What was guessed, left out or damaged.
    axis : str
        What the steps are called in the log.
    """

    points: dict[str, Points]
    said: list[str] = field(default_factory=list)
    axis: str = "step"


def settle(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Points with rising steps: of a repeated step the last value counts.

    Where the steps go back and go on from there, a run was resumed: what stands before at or after that step is
    another way that training went, and is left out. Files in no order of time are sorted.

    Returns
    -------
    steps, values : array of shape (m,)
    said : str
        What was left out, or "".
    """
    n, said = len(steps), ""
    back = np.flatnonzero(np.diff(steps) < 0) + 1
    if 0 < len(back) <= max(3, n // 10):
        on = back[np.diff(np.append(back, n)) > 1]  # a single point that lies back does not begin anew
        limit = np.full(n + 1, np.inf)
        limit[on] = steps[on]
        kept = steps < np.minimum.accumulate(limit[::-1])[::-1][1:]
        if not kept.all():
            said = f"resumed at {', '.join(f'{s:g}' for s in steps[on][:5])}: {n - kept.sum()} older points left out"
        steps, values = steps[kept], values[kept]
    elif len(back):
        said = "steps in no order: sorted"
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order], values[order]
    last = np.append(np.diff(steps) > 0, True) if len(steps) else np.empty(0, bool)
    if not last.all():
        twice = f"{len(last) - int(last.sum())} repeated steps, the last value of each counts"
        said = f"{said}; {twice}" if said else twice
    return steps[last], values[last], said


def to_series(log: Log, given: Mapping[str, str], *, source: str, form: str, strict: bool = True) -> xr.Dataset:
    """One run as a Dataset over ``step``, its curves under the names that PhaseDetector looks for.

    Parameters
    ----------
    log : Log
    given : mapping of str to str
        Logged names by role, as the user gave them.
    source, form : str
        File or folder and its format, for the attributes.
    strict : bool
        Whether several names for one role, or none for any, is an error; else it is said.

    Returns
    -------
    xarray.Dataset
        float64 (step). Attribute ``logged_as`` of a variable: its name in the log. Attributes of the Dataset:
        ``reading`` (lines: what was guessed, left out, damaged) and ``provenance``.
    """
    points, said = _settled(log)
    chosen, unclear = guess_roles({name: len(steps) for name, (steps, _) in points.items()}, given, source)
    _check_roles(points, chosen, unclear, source, strict)
    said += [f"{role}: unclear, one of {', '.join(names)}" for role, names in unclear]
    renamed = [f"{role} is {name!r}" for role, name in [*chosen.items(), ("step", log.axis)] if name != role]
    said += [f"in the log, {', '.join(renamed)}"] if renamed else []
    names = _variables(points, {name: role for role, name in chosen.items()})
    steps = _united([s for s, _ in points.values()])
    arrays = {
        names[k]: ("step", _spread(s, v, steps), {"units": "1", "long_name": k, "logged_as": k})
        for k, (s, v) in points.items()
    }
    series = xr.Dataset(arrays, {"step": steps})
    series["step"].attrs = {"units": "1", "long_name": log.axis, "axis": log.axis}
    facts = {"schema": SCHEMA, "source": source, "format": form}
    return series.assign_attrs(schema=SCHEMA, reading="\n".join(said), provenance=json.dumps(facts))


def _united(all_steps: Sequence[np.ndarray]) -> np.ndarray:
    """All steps of all curves, rising; curves have mostly the same ones."""
    steps = all_steps[0]
    for other in all_steps[1:]:
        if not np.array_equal(steps, other):
            steps = np.sort(np.concatenate([steps, other]))
            steps = steps[np.append(np.diff(steps) > 0, True)]
    return steps


def _spread(steps: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Values at the wanted steps, which hold these; NaN at the others."""
    if len(steps) == len(wanted):
        return values
    spread = np.full(len(wanted), np.nan)
    spread[np.searchsorted(wanted, steps)] = values
    return spread


def _settled(log: Log) -> tuple[dict[str, Points], list[str]]:
    """Points with rising steps; one sentence for all names that had the same happen to them."""
    points: dict[str, Points] = {}
    happened: dict[str, list[str]] = {}
    for name, (steps, values) in log.points.items():
        steps, values = steps.astype(float), values.astype(float)
        finite = np.isfinite(steps) & (steps >= 0)
        if not finite.all():
            happened.setdefault("points without a step, or before 0, left out", []).append(name)
        steps, values, said = settle(steps[finite], values[finite])
        if said and name not in AXES:  # an epoch beside the steps is no curve
            happened.setdefault(said, []).append(name)
        if len(steps):
            points[name] = (steps.astype(np.int64) if (steps % 1 == 0).all() else steps, values)
    few = [f"{', '.join(n[:4])}{', ...' if len(n) > 4 else ''}: {said}" for said, n in happened.items()]
    return points, [*log.said, *few]


def _check_roles(
    points: Mapping[str, Points], chosen: Mapping[str, str], unclear: Sequence, source: str, strict: bool
) -> None:
    if not points:
        raise ValueError(f"no curves in {source}: no number with a step was logged")
    if not strict:
        return
    if unclear:
        role, names = unclear[0]
        raise ValueError(f"{role} could be {' or '.join(names)} in {source}; say which: {role}= (--{_option(role)})")
    if not chosen and not {*ROLES, "information_x"} & set(points):
        shown = ", ".join(list(points)[:12]) + (", ..." if len(points) > 12 else "")
        raise ValueError(
            f"no loss and no accuracy was recognised in {source}; there are: {shown}; name yours: train_loss= "
            "(--train-loss), test_loss=, train_accuracy=, test_accuracy="
        )


def _option(role: str) -> str:
    return role.replace("_", "-")


def _variables(points: Mapping[str, Points], roles: Mapping[str, str]) -> dict[str, str]:
    """Logged name -> name of a variable: its role, else itself without slashes, numbered where two would agree."""
    taken, names = {*roles.values(), "step", "run"}, dict(roles)
    for name in points:
        if name in names:
            continue
        variable = plain = name.replace("/", "_") or "unnamed"
        number = 2
        while variable in taken:
            variable, number = f"{plain}_{number}", number + 1
        taken.add(variable)
        names[name] = variable
    return names
