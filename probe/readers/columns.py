"""Curves as lists: names with a list of numbers each, and lists that hold their steps."""

from collections.abc import Mapping

import numpy as np

from probe.readers.log import Log, Points
from probe.readers.names import AXES, VALUE_NUMBERS, near_names, role_of
from probe.readers.spelling import SPLITS, words_of

_STEPS = {"step", "steps", "epoch", "epochs", "iteration", "iterations", "iters", "iter", "batches"}
# Words beside one of these, as in "log_steps", "eval_epochs", "steps_history".
_BESIDE_STEPS = {"log", "logged", "history", "list", "global", "x", "axis", *SPLITS["train"], *SPLITS["test"]}


def columns_logs(columns: Mapping[str, np.ndarray], axis: str | None, where: str) -> dict[str, Log]:
    """Return the run of lists of numbers, or the runs along the first axis of arrays (run, step).

    Raises
    ------
    ValueError
        As :func:`columns_log`, and for arrays with several numbers of runs.
    """
    n_runs = {len(array) for array in columns.values() if array.ndim == 2}
    if len(n_runs) > 1:
        raise ValueError(
            f"Expected arrays over (run, step) with one number of runs in {where}, got "
            f"{' and '.join(map(str, sorted(n_runs)))}; save them in separate files"
        )
    logs = {}
    for i in range(max(n_runs, default=1)):
        own = {name: array[i] if array.ndim == 2 else array for name, array in columns.items()}
        logs[str(i) if n_runs else ""] = columns_log(own, axis, where)
    return logs if len(logs) > 1 else {"": next(iter(logs.values()))}


def columns_log(columns: Mapping[str, np.ndarray], axis: str | None, where: str) -> Log:
    """Return one run from lists of numbers.

    Lists may have several lengths if there is a list of steps of each length. Without any list of steps, the values of
    equal lists are numbered from 0.

    Parameters
    ----------
    columns : mapping of str to array
        float64 (n,) by name; n may differ.
    axis : str, optional
        The list of steps. ``"row"`` numbers the values. None: found by name.
    where : str
        Name of the file, for messages.

    Raises
    ------
    ValueError
        If the lists of losses and accuracies have several lengths, and lists of steps are missing.
    """
    if axis not in (None, "row") and axis not in columns:
        there = near_names(axis or "", columns)
        raise ValueError(f"Expected a list of {where} as axis, got {axis!r}; {there}; row numbers the values")
    steps = {} if axis == "row" else _steps_by_length(columns, axis)
    curves = {name: values for name, values in columns.items() if name not in steps.values()}
    wanted = {name: len(values) for name, values in curves.items() if role_of(name)} or {
        name: len(values) for name, values in curves.items()
    }
    lengths = {*wanted.values()}
    missing = sorted(lengths - steps.keys())
    if missing and (steps or len(lengths) > 1) and axis != "row":
        raise ValueError(_lengths_message(columns, wanted, missing, where))
    notes = [] if steps else [VALUE_NUMBERS]
    points: dict[str, Points] = {}
    for name, values in curves.items():
        if len(values) in lengths:
            own = columns[steps[len(values)]] if len(values) in steps else np.arange(len(values), dtype=float)
            points[name] = (own, values)
    if others := [f"{name} ({len(values)})" for name, values in curves.items() if name not in points]:
        notes.append(
            f"lists of other lengths were ignored: {', '.join(others[:8])}{', ...' if len(others) > 8 else ''}"
        )
    if len(lengths) > 1:
        used = ", ".join(f"{steps[n]!r} for {n} values" for n in sorted(lengths) if n in steps)
        notes.append(f"the lists have several lengths, with their own steps: {used}")
    return Log(points, notes, axis=_axis_name(steps, lengths))


def _steps_by_length(columns: Mapping[str, np.ndarray], axis: str | None) -> dict[int, str]:
    """Return the name of the list of steps for each length. The usual names come first."""
    usual = {name.lower().replace(" ", "_"): name for name in reversed([*columns])}
    found = [axis] if axis else [usual[name] for name in AXES if name in usual]
    found += [] if axis else [name for name in columns if name not in found and _is_steps(name)]
    steps: dict[int, str] = {}
    for name in found:
        steps.setdefault(len(columns[name]), name)
    return steps


def _is_steps(name: str) -> bool:
    words = {*words_of(name)}
    return bool(words & _STEPS) and words <= _STEPS | _BESIDE_STEPS


def _axis_name(steps: Mapping[int, str], lengths: set[int]) -> str:
    used = [steps[n] for n in sorted(lengths, reverse=True) if n in steps]
    return used[0] if len({*used}) == 1 else ("step" if used else "row")


def _lengths_message(
    columns: Mapping[str, np.ndarray], wanted: Mapping[str, int], missing: list[int], where: str
) -> str:
    shown = ", ".join([f"{name} ({n})" for name, n in wanted.items()][:8])
    steps = ", ".join(f"{name} ({len(values)})" for name, values in columns.items() if _is_steps(name))
    return (
        f"Expected lists of one length, or a list of steps for each length, in {where}, got {shown} and "
        f"{f'the steps {steps}' if steps else 'no list of steps'}; add a list of "
        f"{' and one of '.join(map(str, missing))} steps, named as in 'train_steps' and 'test_steps'"
    )
