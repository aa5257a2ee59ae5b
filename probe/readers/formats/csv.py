"""Tables as text: one row per step, columns with names, any of the usual delimiters."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from probe.readers.delimited import read_delimited
from probe.readers.form import cells, form_of
from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.names import role_of
from probe.readers.numerals import number_of
from probe.readers.reader import Candidate, Reader, ReadOptions

_LINES = 20  # by which the format is recognised


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a table, by its name, or by its names of columns and the rows below them."""
    if candidate.path.name.lower().removesuffix(candidate.compression).endswith((".csv", ".tsv")):
        return True
    try:
        form = form_of(candidate.head, candidate.path.name)
    except ValueError:
        return False
    if (
        len(form.names) < 2
        or any(number_of(name) is not None or name.endswith(":") for name in form.names)
        or not any(map(role_of, form.names))
    ):
        return False
    start = 0 if form.commented else 1
    lines = [line for i, line in enumerate(candidate.head.split("\n")[:_LINES]) if i not in form.skip and line.strip()]
    rows = [cells(line, form.delimiter) for line in lines[start:-1]]
    return bool(rows) and all(
        len(row) == len(form.names) and any(number_of(cell, form.comma) is not None for cell in row) for row in rows
    )


def read(files: Sequence[Path], options: ReadOptions) -> Mapping[str, Log]:
    """Read one file as one run, or as the runs that its columns name."""
    table = read_delimited(files[0])
    if not table.columns and not matches(Candidate(files[0])):
        raise ValueError(
            f"Expected a table, or lines such as 'step 10: train loss 2.1', in {files[0].name}, got other text; write "
            "a line of names and a line for each step, with commas between them"
        )
    return table_logs(table, options, files[0].name)


def column_names(candidate: Candidate) -> list[str]:
    """Return the names of the columns; an empty list if there are none."""
    try:
        return form_of(candidate.head, candidate.path.name).names
    except ValueError:
        return []


READER = Reader("csv", "*.csv, *.tsv", matches, read, suffixes=(".txt", ".dat"))
