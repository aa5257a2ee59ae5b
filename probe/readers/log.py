"""The result of a reader: points of each logged name in the order of the files, and their conversion to a series."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from probe.readers.names import AXES, ROLES, ROW_NUMBERS, VALUE_NUMBERS, check_clear, guess_roles, untaken_note
from probe.series import MAX_STEP, SCHEMA

_NO_STEP = "points without a step, or before step 0, were dropped"

Points = tuple[np.ndarray, np.ndarray]  # steps, values: (n,) each, in the order of the file


@dataclass
class Log:
    """One run.

    Attributes
    ----------
    points : dict of str to (steps, values)
        By logged name, in the order in which they were written.
    notes : list of str
        What was guessed or ignored.
    damage : list of str
        Which files are damaged or cut off. ``read`` warns about each.
    axis : str
        Name of the steps in the log.
    coords : dict of str to number or str
        Settings of the run, such as its seed.
    units : dict of str to str
        Units of logged names, where the log has some.
    """

    points: dict[str, Points]
    notes: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    axis: str = "step"
    coords: dict[str, float | str] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)


def increasing_points(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    """Return points with increasing steps. The last value of a repeated step is kept.

    Where the steps decrease and continue from there, a run was resumed. Earlier points at or after that step belong to
    an abandoned course of the training and are dropped. Points in no order are sorted.

    Returns
    -------
    steps, values : array of shape (m,)
    note : str
        Which points were dropped, or "".
    """
    kept, note = _kept(steps)
    return (steps, values, note) if kept is None else (steps[kept], values[kept], note)


def _kept(steps: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Return the positions of the points that remain, with increasing steps, or None for all; and the note."""
    changes = np.diff(steps)
    if (changes > 0).all():
        return None, ""
    n, note = len(steps), ""
    decreases = np.flatnonzero(changes < 0) + 1
    positions = np.arange(n)
    if 0 < len(decreases) <= max(3, n // 10):
        resumed = decreases[np.diff(np.append(decreases, n)) > 1]  # a single earlier point is no resumption
        limit = np.full(n + 1, np.inf)
        limit[resumed] = steps[resumed]
        kept = steps < np.minimum.accumulate(limit[::-1])[::-1][1:]
        if not kept.all():
            places = ", ".join(f"{step:g}" for step in steps[resumed][:5])
            note = f"resumed at {places}: {n - kept.sum()} older points were dropped"
        positions = positions[kept]
    elif len(decreases):
        note = "steps were in no order and were sorted"
    positions = positions[np.argsort(steps[positions], kind="stable")]
    last = np.append(np.diff(steps[positions]) > 0, True) if len(positions) else np.empty(0, bool)
    if not last.all():
        repeated = f"{len(last) - int(last.sum())} repeated steps, of which the last value was kept"
        note = f"{note}; {repeated}" if note else repeated
    return positions[last], note


def to_series(log: Log, given: Mapping[str, str], *, source: str, format: str, strict: bool = True) -> xr.Dataset:
    """Return one run as a Dataset over ``step``, with the names of variables that PhaseDetector expects.

    Parameters
    ----------
    log : Log
    given : mapping of str to str
        Logged names by role, as the user gave them.
    source, format : str
        File or folder and its format, for the attributes.
    strict : bool
        True: raise an error if several names fit one role, or none fits any. False: add a note.

    Returns
    -------
    xarray.Dataset
        float64 (step). The attribute ``logged_as`` of a variable is its name in the log. The Dataset has the attributes
        ``reading`` (one line for each note: guessed, ignored, damaged) and ``provenance``.
    """
    points, notes = _increasing(log)
    chosen, unclear = guess_roles({name: len(steps) for name, (steps, _) in points.items()}, given, source)
    _check_roles(points, chosen, unclear, source, strict)
    notes += [
        f"{role} is unclear: {'one of ' if len(names) > 1 else 'perhaps '}{', '.join(names)}" for role, names in unclear
    ]
    axis = {} if {ROW_NUMBERS, VALUE_NUMBERS} & {*notes} else {"step": log.axis}
    renamed = [f"{role} is {name!r}" for role, name in (chosen | axis).items() if name != role]
    notes += [f"in the log, {', '.join(renamed)}"] if renamed else []
    notes += [
        note for note in [untaken_note(points, [*chosen.values(), *(n for _, some in unclear for n in some)])] if note
    ]
    names = _variable_names(points, {name: role for role, name in chosen.items()})
    steps = _united_steps([steps for steps, _ in points.values()])
    arrays = {
        names[name]: ("step", _at_steps(own, values, steps), _attrs(name, log.units))
        for name, (own, values) in points.items()
    }
    series = xr.Dataset(arrays, {"step": steps})
    series["step"].attrs = {"units": "1", "long_name": log.axis, "axis": log.axis}
    settings = {name.replace("/", "_"): _setting(value, name) for name, value in log.coords.items()}
    while clash := next((name for name in settings if name in series.variables or name == "run"), None):
        settings[f"{clash}_of_run"] = settings.pop(clash)
    series = series.assign_coords(settings)
    facts = {"schema": SCHEMA, "source": source, "format": format}
    return series.assign_attrs(schema=SCHEMA, reading="\n".join(notes), provenance=json.dumps(facts))


def _attrs(name: str, units: Mapping[str, str]) -> dict[str, str]:
    return {"units": units.get(name, "1"), "long_name": name, "logged_as": name}


def _setting(value: float | str, name: str) -> xr.DataArray:
    """Return a setting of a run as a scalar coordinate."""
    whole = not isinstance(value, str) and value % 1 == 0 and abs(value) < 2**53
    return xr.DataArray(int(value) if whole else value, attrs={"units": "1", "long_name": name})


def text_of(value: float | str) -> str:
    """Return the value of a setting as text: 7 for 7.0."""
    return value if isinstance(value, str) else f"{value:.12g}"


def _united_steps(all_steps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the steps of all curves in increasing order. Most curves have the same steps."""
    steps = all_steps[0]
    for other in all_steps[1:]:
        if not np.array_equal(steps, other):
            steps = np.sort(np.concatenate([steps, other]))
            steps = steps[np.append(np.diff(steps) > 0, True)]
    return steps


def _at_steps(steps: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the values at the wanted steps, which include ``steps``; NaN at the others."""
    if len(steps) == len(wanted):
        return values
    spread = np.full(len(wanted), np.nan)
    spread[np.searchsorted(wanted, steps)] = values
    return spread


def _corrected(logged: np.ndarray) -> tuple[np.ndarray, np.ndarray | None, list[str]]:
    """Return increasing steps, the positions of their points (None: all) and notes about the others."""
    steps = logged.astype(float, copy=False)
    positions, notes = None, []
    finite = np.isfinite(steps) & (steps >= 0)
    if not finite.all():
        notes = [_NO_STEP]
        positions = np.flatnonzero(finite)
        steps = steps[positions]
    kept, note = _kept(steps)
    if kept is not None:
        positions = kept if positions is None else positions[kept]
        steps = steps[kept]
    whole = (steps % 1 == 0).all() and (steps < MAX_STEP).all()
    return steps.astype(np.int64) if whole else steps, positions, [*notes, *([note] if note else [])]


def _increasing(log: Log) -> tuple[dict[str, Points], list[str]]:
    """Return points with increasing steps, and one note for all names with the same correction."""
    points: dict[str, Points] = {}
    corrections: dict[str, list[str]] = {}
    known: dict[int, tuple[np.ndarray, np.ndarray | None, list[str]]] = {}  # by the identity of the steps of a table
    for name, (logged, values) in log.points.items():
        if id(logged) not in known:
            known[id(logged)] = _corrected(logged)
        steps, kept, found = known[id(logged)]
        for note in found:
            if note == _NO_STEP or name not in AXES:  # an epoch beside the steps is no curve
                corrections.setdefault(note, []).append(name)
        if len(steps):
            points[name] = (steps, (values if kept is None else values[kept]).astype(float, copy=False))
    notes = [f"{', '.join(n[:4])}{', ...' if len(n) > 4 else ''}: {note}" for note, n in corrections.items()]
    return points, [*log.damage, *log.notes, *notes]


def _check_roles(
    points: Mapping[str, Points],
    chosen: Mapping[str, str],
    unclear: Sequence[tuple[str, list[str]]],
    source: str,
    strict: bool,
) -> None:
    if not points:
        raise ValueError(f"Expected a number with a step in {source}, got none; check that the log holds curves")
    if not strict:
        return
    check_clear(unclear, source)
    if not chosen and not {*ROLES, "information_x"} & set(points):
        shown = ", ".join(list(points)[:12]) + (", ..." if len(points) > 12 else "")
        note = untaken_note(points, [])
        raise ValueError(
            f"Expected a name of a loss or an accuracy in {source}, got {shown}; give yours with train_loss= "
            f"(--train-loss), test_loss=, train_accuracy= or test_accuracy={note and '; ' + note}"
        )


def _variable_names(points: Mapping[str, Points], roles: Mapping[str, str]) -> dict[str, str]:
    """Return variables by logged name: the role, else the name without slashes, numbered where two would agree."""
    taken, names = {*roles.values(), "step", "run"}, dict(roles)
    for name in points:
        if name in names:
            continue
        variable = base = name.replace("/", "_") or "unnamed"
        number = 2
        while variable in taken:
            variable, number = f"{base}_{number}", number + 1
        taken.add(variable)
        names[name] = variable
    return names
