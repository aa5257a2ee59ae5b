"""Lightning's CSVLogger: ``metrics.csv`` in a folder for each version, with a row for each call and empty cells."""

from collections.abc import Sequence
from pathlib import Path

from probe.readers.delimited import read_delimited
from probe.readers.formats.csv import column_names
from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.reader import Candidate, Reader, ReadOptions


def matches(candidate: Candidate) -> bool:
    """Return whether the file is ``metrics.csv`` with the column that CSVLogger always writes."""
    return candidate.path.name == "metrics.csv" and "step" in column_names(candidate)


def run_path(path: Path) -> Path:
    """Return the folder of the version."""
    return path.parent


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one version. Its steps are those of the trainer, counted from 0."""
    return table_logs(read_delimited(files[0]), options, files[0].name)


READER = Reader("lightning", "metrics.csv", matches, read, run_path)
