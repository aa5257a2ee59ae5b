"""Lightning's CSVLogger: ``metrics.csv`` in a folder for each version, with a row for each call and empty cells."""

from collections.abc import Sequence
from pathlib import Path

from probe.readers.formats.csv import columns_of, names_in
from probe.readers.log import Log
from probe.readers.table import table_log

NAME = "lightning"


def claims(path: Path) -> bool:
    """``metrics.csv`` with the column that CSVLogger always writes."""
    return path.name == "metrics.csv" and "step" in names_in(path)


def run_of(path: Path) -> Path:
    """The folder of the version."""
    return path.parent


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """One version; the step is the trainer's, counted from 0."""
    columns, n_rows, said = columns_of(files[0])
    return {"": table_log(columns, n_rows, axis, said)}
