"""DVCLive: a table with tabs for each metric, ``plots/metrics/train/loss.tsv``, with the columns step and loss."""

from collections.abc import Sequence
from pathlib import Path

from probe.readers.delimited import read_delimited
from probe.readers.log import Log
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import Table, table_log

_FOLDERS = ("metrics", "scalars")  # the second until DVCLive 1.0


def matches(candidate: Candidate) -> bool:
    """Return whether the file is below ``metrics``, and its columns are a step and the name of the file."""
    path = candidate.path
    if path.suffix != ".tsv" or not {*_FOLDERS} & {*path.parts[:-1]}:
        return False
    names = candidate.head.partition("\n")[0].rstrip("\r").split("\t")
    return "step" in names and names[-1] == path.stem


def run_path(path: Path) -> Path:
    """Return the folder of the run, usually called ``dvclive``."""
    metrics = _metrics_folder(path)
    return metrics.parent.parent if metrics.parent.name == "plots" else metrics.parent


def _metrics_folder(path: Path) -> Path:
    return next(folder for folder in path.parents if folder.name in _FOLDERS)


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one run from its files. Names are paths: ``train/loss``."""
    options.check_no_columns("a run of DVCLive")
    log = Log({})
    for file in sorted(files):
        name = file.relative_to(_metrics_folder(file)).with_suffix("").as_posix()
        table = read_delimited(file)
        log.damage += table.damage
        if {"step", file.stem} <= table.columns.keys():
            log.points[name] = table_log(Table(table.columns, table.n_rows), "step").points[file.stem]
    return {"": log}


READER = Reader("dvclive", "plots/metrics/**/*.tsv", matches, read, run_path)
