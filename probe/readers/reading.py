"""Read logs of other libraries as series, without torch, TensorFlow or any package of a logger.

Every reader records what it guessed, ignored or found damaged in the attribute ``reading`` of the series.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import xarray as xr

from probe.errors import warn_user
from probe.readers.discovery import FoundLogs, find_logs, run_labels
from probe.readers.log import Log, to_series
from probe.readers.names import ROLES
from probe.readers.reader import ReadOptions
from probe.series import concat


def read(
    path: str | os.PathLike[str],
    *,
    format: str | None = None,
    axis: str | None = None,
    run: str | Sequence[str] | None = None,
    split: str | None = None,
    strict: bool = True,
    **roles: str,
) -> xr.Dataset:
    r"""Read a log, or a folder of logs, as a series.

    Parameters
    ----------
    path : path
        A file or a folder. Every run in a folder becomes a label of the dimension ``run``, named after its folder or
        file.
    format : str, optional
        A key of ``READERS``. None recognises the format by the names of the files, and records ignored files of other
        formats.
    axis : str, optional
        The column of steps. None takes the first of the usual names (step, global_step, ..., epoch). ``"row"`` numbers
        the rows.
    run : str or sequence of str, optional
        Columns of a table that divide the rows among runs, such as ``"seed"`` or ``["width", "seed"]``.
    split : str, optional
        Column of a table that divides the rows among splits, such as ``"phase"`` with the words train and val.
    strict : bool
        True: raise an error if two names fit one role, or no role is recognised. False: record it in ``reading``.
    **roles : str
        Logged names of ``train_accuracy``, ``train_loss``, ``test_accuracy``, ``test_loss``. Roles that are not given
        are recognised by the usual spellings (:func:`probe.readers.role_of`).

    Returns
    -------
    xarray.Dataset
        float64 (step), or (run, step). Curves have the names of their roles. Other curves keep their logged names, with
        underscores for slashes. The attribute ``logged_as`` of a variable is its name in the log. The attribute
        ``reading`` of the Dataset lists what was guessed, ignored and damaged.

    Raises
    ------
    FileNotFoundError
        If there is no log at the path.
    OSError
        If there is a pipe or a device at the path.
    ValueError
        If a name is not in the log (near names are listed), names are unclear, or a file cannot be read.
    TypeError
        If a keyword is not a role.

    Warns
    -----
    probe.errors.ProbeWarning
        If a file is damaged or cut off. The rest of the file is returned. In a folder, a run that cannot be read is
        left out with a warning.

    See Also
    --------
    guess_roles : Recognise the roles of logged names.
    probe.load : Load a recording of a probe.
    probe.PhaseDetector : Find phases in the curves.

    Examples
    --------
    >>> from pathlib import Path
    >>> from probe import read
    >>> _ = Path("log.csv").write_text("epoch,loss,val_acc\n0,2.5,0.1\n1,1.5,0.4\n2,0.5,0.9\n")
    >>> series = read("log.csv")
    >>> series["test_accuracy"].values.tolist()
    [0.1, 0.4, 0.9]
    >>> series["test_accuracy"].attrs["logged_as"]
    'val_acc'
    """
    path = Path(path).expanduser()
    if unknown := set(roles) - {*ROLES}:
        raise TypeError(
            f"Expected roles among {', '.join(ROLES)}, got {', '.join(sorted(unknown))}; rename or remove them"
        )
    options = ReadOptions(axis, (run,) if isinstance(run, str) else tuple(run or ()), split)
    found = find_logs(path, format)
    series, notes = _series_by_label(found, options, roles, source=path.name, strict=strict)
    notes = found.notes + notes + _common_notes(series)
    joined = next(iter(series.values())) if len(series) == 1 else concat(list(series.values()), list(series))
    return joined.assign_attrs(reading="\n".join(notes)) if notes else joined


def _series_by_label(
    found: FoundLogs, options: ReadOptions, roles: Mapping[str, str], *, source: str, strict: bool
) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Return all runs by label: that of the path, and that which a file with several runs gives; and notes.

    Runs that cannot be read, and runs without points, are left out if there are others.
    """
    series: dict[str, xr.Dataset] = {}
    errors: dict[str, Exception] = {}
    empty: list[str] = []
    for outer, files in zip(run_labels([run.path for run in found.runs]), found.runs, strict=True):
        try:
            logs = files.reader.read(files.files, options)
        except (ValueError, OSError) as error:
            errors[outer] = error
            continue
        for inner, log in logs.items():
            label = "/".join(part for part in (outer, inner) if part)
            if isinstance(log, Log):
                for note in dict.fromkeys(log.damage):
                    warn_user(f"Expected complete files, got a damaged one; {note}")
            if isinstance(log, Log) and not log.points and len(found.runs) + len(logs) > 2:
                empty.append(label)
                continue
            try:
                series[label] = _as_series(log, label, roles, source=source, format=files.reader.name, strict=strict)
            except ValueError as error:
                errors[label] = error
    return series, _left_out(series, errors, empty)


def _left_out(series: Mapping[str, xr.Dataset], errors: Mapping[str, Exception], empty: Sequence[str]) -> list[str]:
    """Return notes about the runs that were left out, and warn about those with an error. Raise it if none is left."""
    if not series and errors:
        raise next(iter(errors.values()))
    if not series:
        raise ValueError(f"Expected a number with a step in the runs {', '.join(empty)}, got none; check the path")
    notes = [f"runs without points were ignored: {', '.join(empty)}"] if empty else []
    for label, error in errors.items():
        note = f"run {label} could not be read and was left out: {error}"
        warn_user(f"Expected logs that can be read, got one that cannot; {note}")
        notes.append(note)
    return notes


def _as_series(
    log: Log | xr.Dataset, label: str, roles: Mapping[str, str], *, source: str, format: str, strict: bool
) -> xr.Dataset:
    if isinstance(log, xr.Dataset):  # a recording
        return log
    source = f"{source} (run {label})" if label else source
    return to_series(log, roles, source=source, format=format, strict=strict)


def _common_notes(series: Mapping[str, xr.Dataset]) -> list[str]:
    """Return the notes of all runs, with the labels of the runs unless all runs have the note."""
    runs_of: dict[str, list[str]] = {}
    for label, one in series.items():
        for note in one.attrs.get("reading", "").splitlines():
            runs_of.setdefault(note, []).append(label)
    return [
        note if len(runs) == len(series) else f"run {', '.join(runs[:3])}{', ...' if len(runs) > 3 else ''}: {note}"
        for note, runs in runs_of.items()
    ]
