"""Tables as text: a line of names, and a line for each row, with any of the usual delimiters."""

import csv
import io
import re
import warnings
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from probe.readers.log import Points
from probe.readers.numerals import is_decimal_comma, is_percent, number_of, numbers_of
from probe.readers.table import MOST_WORDS, Table, Words, with_words
from probe.readers.text import TextFile, text_head

_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_BLANKS, _WIDE_BLANKS = r"\s+", r"\s{2,}"
_ROWS = 100_000  # read at a time
_LINES = 200  # by which the form is recognised
_RULE = re.compile(r"[-+|=:\s]*-{2,}[-+|=:\s]*")  # a line drawn below the names
_QUOTED = re.compile(r'"[^"]*"')


@dataclass
class Form:
    """Form of a table as text.

    Attributes
    ----------
    delimiter : str
        A character, or the regular expression of blanks.
    names : list of str
        Names of the columns, as the file has them.
    skip : list of int
        Numbers of the lines that are neither names nor rows.
    commented : bool
        The names are in a comment, so that no line of names remains.
    comma : bool
        Numbers have a decimal comma.
    padded : bool
        Blanks follow a delimiter.
    """

    delimiter: str
    names: list[str]
    skip: list[int] = field(default_factory=list)
    commented: bool = False
    comma: bool = False
    padded: bool = False


def form_of(head: str, where: str) -> Form:
    """Return the form of a table that begins with ``head``.

    Raises
    ------
    ValueError
        If no line has the names of columns.
    """
    lines = head.split("\n")[:_LINES]
    skip = [i for i, line in enumerate(lines) if _RULE.fullmatch(line)]
    first = next(
        (i for i, line in enumerate(lines) if line.strip() and line.lstrip()[0] != "#" and i not in skip), None
    )
    if first is None:
        raise ValueError(f"Expected names of columns in the first line of {where}, got an empty line; add the names")
    rows = [line for i, line in enumerate(lines) if i > first and i not in skip and line.strip()]
    skip = [*range(first), *(i for i in skip if i > first)]
    delimiter = _delimiter(lines[first], rows)
    names = cells(lines[first], delimiter)
    commented = all(number_of(name) is not None for name in names)
    if commented:  # names may stand in the comment above, as NumPy writes them
        above = lines[first - 1].lstrip("# \t") if first else ""
        other = cells(above, delimiter)
        if len(other) != len(names) or any(number_of(name) is not None for name in other):
            raise ValueError(
                f"Expected names of columns in the first line of {where}, got numbers; add a line of names"
            )
        names, rows = other, [lines[first], *rows]
    comma = _has_decimal_comma(rows[:-1] or rows, delimiter)
    return Form(delimiter, names, skip, commented, comma, f"{delimiter} " in "\n".join(lines))


def _delimiter(line: str, rows: list[str]) -> str:
    outside = _QUOTED.sub("", line)
    best = max(_DELIMITERS, key=outside.count)
    if outside.count(best) or not re.search(r"\s", line.strip()):
        return best
    wide = {len(re.split(_WIDE_BLANKS, row.strip())) for row in (line, *rows[:20])}
    narrow = {len(row.split()) for row in (line, *rows[:20])}
    return _WIDE_BLANKS if len(wide) == 1 < max(wide) and len(narrow) > 1 else _BLANKS


def cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, without quotes and padding."""
    if delimiter in (_BLANKS, _WIDE_BLANKS):
        return [cell.strip('"') for cell in re.split(delimiter, line.strip())]
    try:
        found = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a zero byte, or an endless cell
        found = line.split(delimiter)
    return [cell.strip() for cell in found]


def _has_decimal_comma(rows: list[str], delimiter: str) -> bool:
    found = [cell for row in rows for cell in cells(row, delimiter)]
    if any(map(is_decimal_comma, found)):
        return True
    points = any(re.fullmatch(r"[+-]?\d*\.\d+", cell) for cell in found)
    return delimiter == ";" and not points and any(re.fullmatch(r"[+-]?\d+,\d+", cell) for cell in found)


def read_delimited(path: Path) -> Table:
    """Return the columns of a table as text.

    Raises
    ------
    ValueError
        If the file is no table.
    """
    form = form_of(text_head(path), path.name)
    known = {_BLANKS: "blank", _WIDE_BLANKS: "blank", **_DELIMITERS}[form.delimiter]
    notes = [] if known == "comma" else [f"{path.name}: the delimiter of the columns is a {known}"]
    notes += ["numbers have a decimal comma"] if form.comma else []
    columns: dict[str, _Column] = {}
    n_rows = 0
    text = TextFile(path)
    try:
        with text, warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # cells beyond the names
            for chunk in pd.read_csv(_source(text, form), chunksize=_ROWS, **_options(form)):
                for name, cell in _named(chunk, form):
                    columns.setdefault(name, _Column(form.comma)).add(cell, n_rows)
                n_rows += len(chunk)
    except pd.errors.ParserWarning as error:
        raise ValueError(
            f"Expected at most {len(form.names)} cells in each row of {path.name}, got more; add the missing names"
        ) from error
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"Expected a table in {path.name}, got {str(error).strip()}; correct the file") from error
    table = Table({}, n_rows, notes + text.notes, text.damage + text.cut_off())
    return _filled(table, columns)


def _source(text: TextFile, form: Form) -> io.TextIOBase:
    """Return the text with one delimiter for each gap of blanks, if names contain single blanks."""
    if form.delimiter != _WIDE_BLANKS:
        return text
    lines = re.sub(r"(?m)^[ \t]+|[ \t]+$", "", text.read())
    return io.StringIO(re.sub(r"[ \t]{2,}", "\t", lines))


def _options(form: Form) -> dict[str, Any]:
    """Return the options of pandas.read_csv."""
    delimiter = "\t" if form.delimiter == _WIDE_BLANKS else form.delimiter
    options: dict[str, Any] = {"sep": delimiter, "index_col": False, "low_memory": False}
    options |= {"skipinitialspace": True} if form.padded else {}  # takes a third of the time
    options |= {"skiprows": form.skip} if form.skip else {}
    options |= {"header": None, "names": _different(form.names)} if form.commented else {}
    return options | ({"decimal": ","} if form.comma and form.delimiter != "," else {})


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
