"""From the files at a path to the series of each run. Copies are dropped, and what cannot be read is left out."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from probe.errors import warn_user
from probe.readers.discovery import FoundLogs, RunFiles, run_labels
from probe.readers.duplicates import copies, curves_of
from probe.readers.log import Log, to_series
from probe.readers.reader import ReadOptions
from probe.readers.spelling import SPLITS
from probe.readers.split_files import (
    joined_measures,
    joined_splits,
    name_by_file,
    split_of_file,
    with_split,
    without_split,
)
from probe.readers.waiting import counted
from probe.series import concat

_LARGEST = 2**32  # bytes of the joined series
_PRINTED = "lines"  # format of what a training prints
_SHOWN = 5  # warnings of one kind, and labels in a note


@dataclass(eq=False)
class Run:
    """A run: its files, its label in them, and its log, or the error of reading it."""

    files: RunFiles
    inner: str = ""
    log: Log | xr.Dataset | None = None
    error: Exception | None = None
    label: str = ""

    @property
    def format(self) -> str:
        """The name of the format."""
        return self.files.reader.name

    @property
    def is_empty(self) -> bool:
        """Whether the log has no points."""
        return isinstance(self.log, Log) and not self.log.points


def read_runs(found: FoundLogs, options: ReadOptions, notes: list[str]) -> list[Run]:
    """Read all files, drop what two loggers wrote at once, and label the runs.

    Files that cannot be read become runs with an error. Notes about what was dropped are added to ``notes``.
    """
    runs: list[Run] = []
    for files in counted(found.runs, "reading logs, runs", len(found.runs)):
        try:
            logs = files.reader.read(files.files, options)
        except (ValueError, OSError) as error:
            runs.append(Run(files, error=error))
            continue
        for inner, log in logs.items():
            parts = _split_recording(log) if len(found.runs) > 1 else {"": log}
            runs += [Run(files, "/".join(filter(None, (inner, own))), part) for own, part in parts.items()]
    runs = _without_consoles(_without_copies(runs, notes), notes)
    runs = _with_splits(_with_measures(runs, notes), notes)
    _label(runs)
    empty = [run.label for run in runs if run.is_empty]
    if empty and len(runs) > 1:
        notes.append(f"runs without points were ignored: {_listed(empty)}")
        rest = [run for run in runs if not run.is_empty]
        if not rest:
            raise ValueError(f"Expected a number with a step in the runs {_listed(empty)}, got none; check the path")
        return rest
    return runs


def _split_recording(log: Log | xr.Dataset) -> dict[str, Log | xr.Dataset]:
    """Return the runs of a recording that holds several."""
    if isinstance(log, Log) or "run" not in log.dims:
        return {"": log}
    return {str(label): log.isel(run=i, drop=True) for i, label in enumerate(log["run"].values)}


def _without_copies(runs: list[Run], notes: list[str]) -> list[Run]:
    """Drop runs that another logger wrote too."""
    whole = [(run, run.log) for run in runs if run.log is not None]
    if len({run.format for run, _ in whole}) < 2:
        return runs
    chosen = copies([curves_of(log, run.format) for run, log in whole])
    pairs = Counter((whole[best][0].format, whole[other][0].format) for other, best in chosen.items())
    notes += [
        f"{n} {'runs are' if n > 1 else 'run is'} in files of {best} and of {other}, with the same curves; those "
        f"of {best} were read, because they hold more; format={other!r} (--format {other}) reads the others"
        for (best, other), n in pairs.items()
    ]
    dropped = {id(whole[other][0]) for other in chosen}
    return [run for run in runs if id(run) not in dropped]


def _without_consoles(runs: list[Run], notes: list[str]) -> list[Run]:
    """Drop printed lines in the folder of a run that has a log of another format, or above it."""
    others = {run.files.path for run in runs if run.format != _PRINTED}
    above = {folder for path in others for folder in path.parents}
    rest = [
        run
        for run in runs
        if run.format != _PRINTED or not (run.files.path.parent in above or others.intersection(run.files.path.parents))
    ]
    if dropped := len(runs) - len(rest):
        notes.append(f"{dropped} files of printed lines beside other logs were ignored; --format {_PRINTED} reads them")
    return rest


def _with_measures(runs: list[Run], notes: list[str]) -> list[Run]:
    """Use the names of files such as ``train_loss.csv``, and join those of one folder."""
    groups: dict[tuple[Path, str], list[Run]] = {}
    for run in runs:
        path = run.files.path
        if isinstance(run.log, Log) and not run.inner and path.is_file() and name_by_file(run.log, path):
            groups.setdefault((path.parent, run.format), []).append(run)
    for (folder, _), parts in groups.items():
        log = joined_measures([run.log for run in parts if isinstance(run.log, Log)])
        if log is not None:
            runs = _join(runs, parts, log, folder, "curves", notes)
    return runs


def _join(runs: list[Run], parts: Sequence[Run], log: Log, path: Path, what: str, notes: list[str]) -> list[Run]:
    """Replace runs by one at another path."""
    names = [run.files.path.name for run in parts]
    if len({*names}) == 1:
        names = [f"{run.files.path.parent.name}/{run.files.path.name}" for run in parts]
    notes.append(f"{', '.join(names)} were read as the {what} of one run")
    parts[0].log, parts[0].files = log, RunFiles(parts[0].files.reader, path, parts[0].files.files)
    return [run for run in runs if run not in parts[1:]]


def _with_splits(runs: list[Run], notes: list[str]) -> list[Run]:
    """Join files that are the splits of one run, and use the split in the name of a file."""
    groups: dict[tuple[Path, str], list[tuple[str, Run]]] = {}
    for run in runs:
        if isinstance(run.log, Log) and not run.inner:
            split, path = without_split(run.files.path)
            if split:
                groups.setdefault((path, run.format), []).append((split, run))
    for (path, _), parts in groups.items():
        named = [(split, run.log) for split, run in parts if isinstance(run.log, Log)]
        if (log := joined_splits(named)) is not None:
            runs = _join(runs, [run for _, run in parts], log, path, "splits", notes)
            continue
        changed = [
            run.files.path.name
            for (split, run), (_, log) in zip(parts, named, strict=True)
            if split in SPLITS["test"]
            and run.files.path.is_file()
            and split_of_file(run.files.path)
            and with_split(log, split)
        ]
        notes += [f"{', '.join(changed)}: the name gives the split of the curves"] if changed else []
    return runs


def _label(runs: Sequence[Run]) -> None:
    """Give each run a label of its own: its folder or file, and its label there; its format if that is needed."""
    paths = list(dict.fromkeys(run.files.path for run in runs))
    outer = dict(zip(paths, run_labels(paths), strict=True))
    for run in runs:
        run.label = "/".join(filter(None, (outer[run.files.path], run.inner)))
    counts = Counter(run.label for run in runs)
    for run in runs:
        run.label = f"{run.label} ({run.format})".strip() if counts[run.label] > 1 else run.label
    counts, numbers = Counter(run.label for run in runs), Counter[str]()
    for run in runs:
        if counts[name := run.label] > 1:
            numbers[name] += 1
            run.label = f"{name} {numbers[name]}"


def series_of(
    runs: Sequence[Run], roles: Mapping[str, str], notes: list[str], *, source: str, strict: bool
) -> dict[str, xr.Dataset]:
    """Return the series by label. Runs that cannot be read are left out with a warning and a note if there are others.

    Raises
    ------
    ValueError, OSError
        The first error if no run can be read.
    """
    damage = dict.fromkeys(note for run in runs if isinstance(run.log, Log) for note in run.log.damage)
    _warn(f"Expected complete files, got a damaged one; {note}" for note in damage)
    series: dict[str, xr.Dataset] = {}
    for run in runs:
        where = f"{source} (run {run.label})" if run.label else source
        try:
            if isinstance(run.log, Log):
                series[run.label] = to_series(run.log, roles, source=where, format=run.format, strict=strict)
            elif run.log is not None:
                series[run.label] = run.log
        except ValueError as error:
            run.error = error
    errors = {run.label: run.error for run in runs if run.error is not None}
    if not series:
        raise next(iter(errors.values()))
    reasons = [f"run {label} could not be read and was left out: {error}" for label, error in errors.items()]
    _warn(f"Expected logs that can be read, got one that cannot; {reason}" for reason in reasons)
    notes += reasons
    return series


def joined(series: Mapping[str, xr.Dataset], notes: list[str]) -> xr.Dataset:
    """Return all runs as one series.

    Raises
    ------
    ValueError
        If the runs have so few common steps that the series would take more than 4 GiB.
    """
    if len(series) == 1:
        return next(iter(series.values()))
    steps = len(np.unique(np.concatenate([one["step"].values for one in series.values()])))
    size = 8 * steps * len(series) * len({name for one in series.values() for name in one.data_vars})
    if size > _LARGEST:
        raise ValueError(
            f"Expected runs with common steps, got {len(series):,} runs with {steps:,} different steps, which take "
            f"{size / 1e9:.0f} GB; read fewer runs at once, or number the rows of tables with axis='row' (--axis row)"
        )
    axes = Counter(str(one["step"].attrs.get("axis", "step")) for one in series.values())
    if len(axes) > 1:
        found = ", ".join(f"{n} by {axis}" for axis, n in axes.items())
        notes.append(f"the steps of the runs cannot be compared: {found}")
        warn_user(f"Expected runs with steps of one kind, got {found}; choose a column with axis= (--axis)")
    return concat(list(series.values()), list(series))


def _warn(messages: Iterable[str]) -> None:
    """Issue the first warnings, and one with the number of the others."""
    every = list(messages)
    for message in every[:_SHOWN]:
        warn_user(message)
    if len(every) > _SHOWN:
        warn_user(f"{every[0].split(';')[0]}; {len(every) - _SHOWN} more are listed in the attribute 'reading'")


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:_SHOWN]) + (f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else "")
