"""Tables as text: a line of names, and a line for each row, with any of the usual delimiters."""

import io
import re
import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probe.readers.form import BLANKS, DELIMITERS, WIDE_BLANKS, Form, form_of
from probe.readers.log import Points
from probe.readers.numerals import is_percent, numbers_of
from probe.readers.spelling import like_accuracies, like_losses
from probe.readers.table import MOST_WORDS, Table, Words, with_words
from probe.readers.text import TextFile, text_head

_ROWS = 100_000  # read at a time


def read_delimited(path: Path) -> Table:
    """Return the columns of a table as text.

    Raises
    ------
    ValueError
        If the file is no table.
    """
    form = form_of(_checked_head(path), path.name)
    known = {BLANKS: "blank", WIDE_BLANKS: "blank", **DELIMITERS}[form.delimiter]
    notes = [] if known == "comma" else [f"{path.name}: the delimiter of the columns is a {known}"]
    notes += ["numbers have a decimal comma"] if form.comma else []
    text = TextFile(path)
    columns, n_rows = _columns_of(text, form)
    if not n_rows:
        shown = ", ".join(form.names[:6]) + (", ..." if len(form.names) > 6 else "")
        raise ValueError(
            f"Expected rows below the names of columns in {path.name}, got only {shown}; wait until the training has "
            "written some, or check the path"
        )
    table = _filled(Table({}, n_rows, notes + text.notes, text.damage + text.cut_off()), columns)
    _check_repeated(table, form.names, path.name)
    return table


def _columns_of(text: TextFile, form: Form) -> tuple[dict[str, "_Column"], int]:
    """Return the columns of a text, and the number of its rows."""
    columns: dict[str, _Column] = {}
    n_rows = 0
    where = text.path.name
    try:
        with text, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the names
            for chunk in pd.read_csv(_source(text, form), chunksize=_ROWS, **_options(form)):
                for name, cell in _named(chunk, form):
                    columns.setdefault(name, _Column(form.comma)).add(cell, n_rows)
                n_rows += len(chunk)
    except pd.errors.ParserWarning as error:
        raise ValueError(
            f"Expected at most {len(form.names)} cells in each row of {where}, got more; add the missing names"
        ) from error
    except pd.errors.EmptyDataError as error:
        raise ValueError(
            f"Expected a table in {where}, got no complete line; wait until the training has written one, or end the "
            "last line"
        ) from error
    except pd.errors.ParserError as error:
        raise ValueError(f"Expected a table in {where}, got {str(error).strip()}; correct the file") from error
    return columns, n_rows


def _checked_head(path: Path) -> str:
    """Return the first text of a file. Raise ValueError if it is damaged or binary."""
    if (head := text_head(path)) or not path.stat().st_size:
        return head
    with TextFile(path) as text:
        start = next(text.decoded(), "")  # raises for a damaged archive
    if "\0" in start:
        raise ValueError(f"Expected text in {path.name}, got binary data; check that it is a log")
    return head


def _check_repeated(table: Table, names: list[str], where: str) -> None:
    """Remove the copies of columns. Raise ValueError if two losses or accuracies have one name."""
    for name in {name for name in names if names.count(name) > 1}:
        for number in range(1, names.count(name)):
            one, other = table.columns.get(name), table.columns.get(copy := f"{name}.{number}")
            if one is not None and other is not None and all(map(_equal, one, other)):
                del table.columns[copy]
                table.notes.append(f"a second column {name!r} with the same values was ignored")
            elif other is not None and (like_losses([name]) or like_accuracies([name])):
                raise ValueError(
                    f"Expected columns of different names in {where}, got {name!r} {names.count(name)} times with "
                    "different values; rename them, or join the names if they fill two lines"
                )


def _equal(one: np.ndarray, other: np.ndarray) -> bool:
    return np.array_equal(one, other, equal_nan=True)


def _source(text: TextFile, form: Form) -> io.TextIOBase:
    """Return the text with one delimiter for each gap of blanks, if names contain single blanks."""
    if form.delimiter != WIDE_BLANKS:
        return text
    lines = re.sub(r"(?m)^[ \t]+|[ \t]+$", "", text.read())
    return io.StringIO(re.sub(r"[ \t]{2,}", "\t", lines))


def _options(form: Form) -> dict[str, Any]:
    """Return the options of pandas.read_csv."""
    delimiter = "\t" if form.delimiter == WIDE_BLANKS else form.delimiter
    options: dict[str, Any] = {"sep": delimiter, "index_col": False, "low_memory": False}
    options |= {"skipinitialspace": True} if form.padded else {}  # takes a third of the time
    options |= {"skiprows": form.skip} if form.skip else {}
    options |= {"header": None, "names": _different(form.names)} if form.commented else {}
    return options | ({"dtype": str} if form.comma else {})


def _different(names: list[str]) -> list[str]:
    return [f"{name}.{names[:i].count(name)}" if name in names[:i] else name for i, name in enumerate(names)]


def _named(chunk: pd.DataFrame, form: Form) -> list[tuple[str, pd.Series]]:
    """Return the columns by their names. The unnamed first column of a DataFrame is its index."""
    found = []
    for i, name in enumerate(map(str, chunk.columns)):
        if name.startswith("Unnamed: "):
            name = "index" if not i and form.delimiter != "|" and "index" not in form.names else ""
        if name:
            found.append((name.strip(), chunk.iloc[:, i]))
    return found


class _Column:
    """Collector of the numbers and words of a column."""

    def __init__(self, comma: bool) -> None:
        self.comma, self.percent, self.full = comma, False, True
        self.parts: list[tuple[np.ndarray | int, np.ndarray]] = []  # rows, or the first row if no cell is empty
        self.words: list[tuple[np.ndarray, np.ndarray]] = []
        self.labels: dict[str, int] = {}

    def add(self, cells: pd.Series, offset: int) -> None:
        """Add the cells of consecutive rows."""
        if cells.dtype.kind in "iufb" and isinstance(cells.dtype, np.dtype):
            numbers = cells.to_numpy(dtype=float)
        else:
            numbers = self._of_text(cells, offset)
        missing = np.isnan(numbers)
        if missing.any():
            rows = np.flatnonzero(~missing)
            self.parts.append((rows + offset, numbers[rows]))
            self.full = False
        else:
            self.parts.append((offset, numbers))

    def _of_text(self, cells: pd.Series, offset: int) -> np.ndarray:
        """Return the numbers in text, NaN for words, which are collected."""
        codes, different = pd.factorize(cells)
        texts = [str(value).strip() for value in different]
        numbers = np.append(numbers_of(texts, self.comma), np.nan)
        self.percent = self.percent or any(map(is_percent, islice(texts, 100)))
        is_word = np.isnan(numbers)
        is_word[[i for i, text in enumerate(texts) if text.lower() == "nan"]] = False
        is_word[-1] = False
        if is_word.any() and len(self.labels) <= MOST_WORDS:
            own = np.array(
                [
                    self.labels.setdefault(t, len(self.labels)) if w else -1
                    for t, w in zip(texts, is_word[:-1], strict=True)
                ]
            )
            rows = np.flatnonzero(is_word[codes])
            self.words.append((rows + offset, own[codes[rows]]))
        return numbers[codes]

    def points(self, every: np.ndarray) -> Points:
        """Return rows and values; ``every`` are the numbers of all rows."""
        values = np.concatenate([values for _, values in self.parts])
        if self.full and len(values) == len(every):
            return every, values
        rows = [np.arange(at, at + len(v)) if isinstance(at, int) else at for at, v in self.parts]
        return np.concatenate(rows), values


def _filled(table: Table, columns: dict[str, _Column]) -> Table:
    """Put columns into a table, one by one, so that the collected parts are freed."""
    every = np.arange(table.n_rows)
    words, percent, many = dict[str, Words](), set[str](), list[str]()
    while columns:
        name = next(iter(columns))
        column = columns.pop(name)
        rows, values = column.points(every)
        if name == "index" and np.array_equal(rows, values):
            continue
        if len(rows):
            table.columns[name] = rows, values
        if len(column.labels) > MOST_WORDS:
            many.append(name)
        elif column.words:
            at, codes = (np.concatenate(part) for part in zip(*column.words, strict=True))
            words[name] = Words(at, codes, list(column.labels))
        if column.percent:
            percent.add(name)
    return with_words(table, words, percent, many)
