"""Tables as text: one row per step, columns with names, any of the usual delimiters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from probe.readers.delimited import form_of, read_delimited
from probe.readers.delimited import read_delimited as read_columns  # noqa: F401
from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.reader import Candidate, Reader, ReadOptions


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a table, by its name."""
    return candidate.path.name.lower().removesuffix(candidate.compression).endswith((".csv", ".tsv"))


def read(files: Sequence[Path], options: ReadOptions) -> Mapping[str, Log]:
    """Read one file as one run, or as the runs that its columns name."""
    return table_logs(read_delimited(files[0]), options, files[0].name)


def column_names(candidate: Candidate) -> list[str]:
    """Return the names of the columns; an empty list if there are none."""
    try:
        return form_of(candidate.head, candidate.path.name).names
    except ValueError:
        return []


READER = Reader("csv", "*.csv, *.tsv", matches, read, suffixes=(".txt", ".dat"))
