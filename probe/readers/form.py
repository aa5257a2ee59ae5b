"""The form of a table as text: its delimiter, its line of names, and its decimal mark."""

import csv
import re
from collections import Counter
from dataclasses import dataclass, field

from probe.readers.names import AXES, role_of
from probe.readers.numerals import is_decimal_comma, number_of
from probe.readers.spelling import like_accuracies, like_losses, without_unit

DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
BLANKS, WIDE_BLANKS = r"\s+", r"\s{2,}"
_LINES = 200  # by which the form is recognised
_MOST_TITLES = 10  # lines above the names
_SEPARATOR = re.compile(r"sep=.", re.IGNORECASE)  # the first line for Excel
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
    if not head.strip():
        raise ValueError(f"Expected names of columns in the first line of {where}, got an empty file; check the path")
    lines = head.split("\n")[:_LINES]
    skip = [i for i, line in enumerate(lines) if _RULE.fullmatch(line)]
    first = _line_of_names(lines, skip)
    if first is None:
        raise ValueError(f"Expected names of columns in the first line of {where}, got comments only; add the names")
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
    comma = _has_decimal_comma(names, rows[:-1] or rows, delimiter)
    if _has_unnamed_index(names, rows[:-1] or rows, delimiter) and not commented:  # as print(frame) has it
        names, commented, skip = ["index", *names], True, [*skip, first]
    return Form(delimiter, names, skip, commented, comma, f"{delimiter} " in "\n".join(lines))


def _line_of_names(lines: list[str], skip: list[int]) -> int | None:
    """Return the number of the line with the names, None for no such line. Titles above a table have other cells."""
    used = [i for i, line in enumerate(lines) if line.strip() and line.lstrip()[0] != "#" and i not in skip]
    if len(used) < 4:
        return used[0] if used else None
    body = [lines[i] for i in used[-20:-1]] if len(used) < _LINES / 2 else [lines[i] for i in used[_MOST_TITLES:30]]
    delimiter = _delimiter(body[0], body)
    count = Counter(len(cells(line, delimiter)) for line in body).most_common(1)[0][0]
    names = cells(lines[used[0]], delimiter)
    is_title = len(names) == 1 < count or abs(len(names) - count) > 1 or _SEPARATOR.fullmatch(lines[used[0]])
    if any(map(_is_usual, names)) and not is_title:
        return used[0]
    for i in used[1 : _MOST_TITLES + 1]:
        found = cells(lines[i], delimiter)
        fits = len(found) == count > 1 and all(number_of(name) is None for name in found)
        if fits and (is_title or any(map(_is_usual, found))):
            return i
    return used[0]


def _is_usual(name: str) -> bool:
    """Return whether a name is that of steps, or has a role."""
    return without_unit(name).lower() in AXES or role_of(name) is not None


def _has_unnamed_index(names: list[str], rows: list[str], delimiter: str) -> bool:
    """Return whether each row begins with its number, for which there is no name."""
    if delimiter != BLANKS or not rows:
        return False
    found = [cells(row, delimiter) for row in rows]
    numbers = [number_of(row[0]) for row in found]
    return all(len(row) == len(names) + 1 for row in found) and numbers == [*range(len(rows))]


def _delimiter(line: str, rows: list[str]) -> str:
    outside = _QUOTED.sub("", line)
    best = max(DELIMITERS, key=outside.count)
    if outside.count(best) or not re.search(r"\s", line.strip()):
        return best
    wide = {len(re.split(WIDE_BLANKS, row.strip())) for row in (line, *rows[:20])}
    narrow = {len(row.split()) for row in (line, *rows[:20])}
    return WIDE_BLANKS if len(wide) == 1 < max(wide) and len(narrow) > 1 else BLANKS


def cells(line: str, delimiter: str) -> list[str]:
    """Return the cells of a line, without quotes and padding."""
    if delimiter in (BLANKS, WIDE_BLANKS):
        return [cell.strip('"') for cell in re.split(delimiter, line.strip())]
    try:
        found = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a zero byte, or an endless cell
        found = line.split(delimiter)
    return [cell.strip() for cell in found]


def _has_decimal_comma(names: list[str], rows: list[str], delimiter: str) -> bool:
    """Return whether a comma is the decimal mark. "1,990" may have thousands; as a loss it has decimals."""
    split = [cells(row, delimiter) for row in rows]
    found = [cell for row in split for cell in row]
    if any(map(is_decimal_comma, found)):
        return True
    if any(re.fullmatch(r"[+-]?\d*\.\d+", cell) for cell in found):
        return False
    curves = {i for i, name in enumerate(names) if delimiter == ";" or like_losses([name]) or like_accuracies([name])}
    return any(re.fullmatch(r"[+-]?\d+,\d+", cell) for row in split for i, cell in enumerate(row) if i in curves)
