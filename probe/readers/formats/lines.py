"""Log lines as programs print them: numbers with names in text, or JSON or Python objects among other text.

``iter 250: loss 1.9``, ``Epoch [3/10] train loss: 0.4 | val acc: 91.2%``, ``step=5 loss=2.1``, the progress of Keras,
of torchvision's references, of XGBoost and LightGBM, and the history that a Hugging Face Trainer prints.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from pathlib import Path

from probe.readers.counts import BATCHES, COUNT, COUNTERS, TEST, TOTAL, drop_batches, join_counters, join_counts
from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.names import AXES, role_of
from probe.readers.phrases import Number, cleaned, numbers_in, split_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.spelling import like_accuracies, like_losses, words_of
from probe.readers.table import Table, TableColumns
from probe.readers.text import TextFile

_AXES = {*AXES, "s"} - {"steps", "epochs", "updates"}
_ABBREVIATIONS = {"trl": "train loss", "tel": "test loss"}  # llm.c
_OTHER_TEXT = {
    *(".md", ".rst", ".py", ".ipynb", ".html", ".tex", ".yaml", ".yml", ".toml", ".cfg", ".ini", ".sh", ".json"),
    *(".csv", ".tsv", ".xml", ".jsonl", ".ndjson"),
}
_MOST_LINES, _LEAST_ROWS = 2000, 3  # looked at and needed for recognition


def matches(candidate: Candidate) -> bool:
    """Return whether at least three lines have a step and a number with the name of a loss or an accuracy."""
    if Path(candidate.path.name.lower().removesuffix(candidate.compression)).suffix in _OTHER_TEXT:
        return False
    rows = LineRows()
    found = (row for line in candidate.head.split("\n")[:_MOST_LINES] for row in rows.of_line(line))
    return sum(1 for _ in islice(found, _LEAST_ROWS)) == _LEAST_ROWS


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one file as one run."""
    return table_logs(read_lines(files[0], options.axis), options, files[0].name)


def read_lines(path: Path, axis: str | None = None) -> Table:
    """Return the table of a file: one row for each line with a loss or an accuracy.

    Without a given axis, counts inside epochs become one count.
    """
    columns, rows = TableColumns(), LineRows()
    table = Table({}, 0)
    with TextFile(path) as text:
        for row in table_rows(text, rows):
            columns.add(row)
    table = columns.fill(table)
    table.notes += text.notes
    table.damage += text.damage + text.cut_off()
    join_counters(table)
    join_counts(table, axis)
    drop_batches(table)
    if not table.columns:
        raise ValueError(
            f"Expected lines with a step and a loss or an accuracy in {path.name}, such as 'step 10: train loss 2.1', "
            "got none; write them so, or as CSV"
        )
    return table


def table_rows(lines: Iterable[str], rows: "LineRows") -> Iterator[dict[str, float | str]]:
    """Yield the rows of all lines. A carriage return ends a line too, because a progress bar is printed with it."""
    held: dict[str, float | str] = {}  # of an evaluation that runs, until it ends
    for line in lines:
        for part in line.split("\r"):
            for row in rows.of_line(part):
                if held and not ({TEST, COUNT} <= row.keys() and row.keys() == held.keys()):
                    yield held
                held = row
    if held:
        yield held


class LineRows:
    """Reader of lines one after the other: a step, an epoch or a split may stand in an earlier line."""

    def __init__(self) -> None:
        self._axes: dict[str, float] = {}
        self._split = ""  # of the line before
        self._pending = ""  # a split that stands alone in the line before: "Test Error:"

    def of_line(self, line: str) -> list[dict[str, float | str]]:
        """Return the row of a line, or nothing."""
        if len(line) > 10_000 or not any(character.isdigit() for character in line):
            self._pending = split_of([line.strip(" :=-*\n")]) if len(line) < 100 else ""
            return []
        text = cleaned(line)
        row = _Row(text, self._split if text.lstrip().startswith("*") else self._pending)
        self._pending = ""
        for number in numbers_in(text):
            row.add(number)
        curves = row.curves()
        if not curves:
            self._axes |= {name: value for name, value in row.axes.items() if row.is_short()}
            return []
        if {*COUNTERS} & row.axes.keys():  # nanoGPT prints the same count as "step" and as "iter"
            self._axes = {name: value for name, value in self._axes.items() if name not in COUNTERS}
        self._axes |= row.axes
        self._split = row.split
        if not self._axes and not row.count:
            return []
        return [{**self._axes, **row.count, **curves}]


class _Row:
    """Numbers of one line by their kind: axes, a count inside an epoch, and values."""

    def __init__(self, text: str, split: str) -> None:
        self.axes: dict[str, float] = {}
        self.count: dict[str, float] = {}
        self.split = split
        self._values: list[tuple[str, Number]] = []
        self._is_leading = False  # the step is the number in front
        self._text = text.strip()

    def is_short(self) -> bool:
        """Return whether the line holds little beside its numbers, as "Epoch 1/10"."""
        return len(self._text) < 60

    def add(self, number: Number) -> None:
        """Add the next number of the line."""
        self.split = number.split or self.split
        name = number.name.strip().lower().replace(" ", "_")
        own = _split_alone(number.name)
        if own and number.total is None and re.fullmatch(r"\d+ \w+ [-+\d.e]+", self._text):
            self._values.append((f"{number.name} loss", number))  # "250 val 3.9": the log of build-nanogpt
        elif axis := _axis_of(name):
            self.split = own or self.split  # "Train Epoch: 3"
            if self._is_leading:  # "0: {'step': 5}": a number in front is a rank or a row
                self.axes = {}
                self._is_leading = False
            self.axes.setdefault(axis, number.value)
        elif not name or own:
            self.split = own or self.split
            self._add_unnamed(number)
        else:
            named = _ABBREVIATIONS.get(name, number.name)
            self._values.append((f"{self.split} {named}" if self.split and not _own_split(named) else named, number))

    def _add_unnamed(self, number: Number) -> None:
        if number.total is not None and not self.count:
            self.count = {COUNT: number.value, TOTAL: number.total}
        elif not self.axes and not self._values and re.match(r"\[?\d+[\]:\s]", self._text):
            self.axes["step"] = number.value  # "[10] train-logloss:0.6", "250 val 3.9"
            self._is_leading = True

    def curves(self) -> dict[str, float | str]:
        """Return the values by name; nothing if none of them resembles a loss or an accuracy."""
        names = [name for name, _ in self._values]
        if not any(map(_is_curve, names)):
            return {}
        in_test = bool(self.split) and _is_test(self.split)
        if in_test:
            self.count |= {TEST: 1.0}
        suffix = BATCHES if in_test and COUNT in self.count else ""
        repeated = {name for name in names if names.count(name) > 1}
        splits = {split for name in names if (split := _own_split(name))}
        taken = {role_of(name) for name in names if _own_split(name)}
        found: dict[str, float | str] = {}
        last = ""
        for name, number in self._values:
            last = _own_split(name) or last
            bare = bool(last) and not _own_split(name)
            # "train Loss: 0.3 Acc: 0.9": the split is that of both, unless it has an accuracy of its own
            one = len(splits) == 1 and _is_curve(name) and role_of(f"{last} {name}") not in taken
            whole = f"{last} {name}" if bare and (name in repeated or one) else name
            found.setdefault(f"{whole}{suffix}", _value(number, in_test))
        return found


@lru_cache(2**12)
def _axis_of(name: str) -> str:
    """Return the name of an axis, without the split in "Train Epoch"; "" for another name."""
    if name in _AXES:
        return "step" if name == "s" else name
    words = name.split("_")
    return words[-1] if words[-1] in ("epoch", "iteration", "step", "iter") and split_of([" ".join(words[:-1])]) else ""


@lru_cache(2**12)
def _own_split(name: str) -> str:
    """Return the word of a name that is a split; "" for none."""
    return next((word for word in words_of(name) if split_of([word])), "")


@lru_cache(2**12)
def _split_alone(name: str) -> str:
    return split_of([name])


@lru_cache(2**12)
def _is_test(split: str) -> bool:
    return role_of(f"{split} loss") == "test_loss"


@lru_cache(2**12)
def _is_curve(name: str) -> bool:
    return bool(role_of(name) or like_losses([name]) or like_accuracies([name]))


def _value(number: Number, in_test: bool) -> float | str:
    """Return the value; the mean so far while an evaluation runs; the share for "9842/10000"; text for percent."""
    if number.total:
        return number.value / number.total
    value = number.average if in_test and number.average is not None else number.value
    return f"{value!r}%" if number.unit == "%" else value


READER = Reader("lines", "lines such as 'step 10: train loss 2.1', whatever the file is called", matches, read)
