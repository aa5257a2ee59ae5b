"""One JSON document with curves: lists by name (a Keras history), or objects in a list, inside of other entries.

``{"config": ..., "history": [{"step": 1, "train_loss": 2.3}, ...]}``, ``{"loss": [...], "val_loss": [...]}``,
``{"validation_0": {"logloss": [...]}}``, ``{"seed0": {"train_losses": [...]}, "seed1": {...}}``. Python may have
printed the document: ``{'loss': [np.float64(0.5), nan]}``.
"""

import ast
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probe.readers.columns import columns_logs
from probe.readers.documents import are_pairs, has_axis, is_curve, lists_of, names_in, row_lists, runs_of, split_in
from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.names import AXES, role_of
from probe.readers.phrases import split_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.spelling import words_of
from probe.readers.table import Table, TableColumns, as_number
from probe.readers.text import parse_json, read_text

_LIST = re.compile(r"""["']([^"'\n]{1,80})["']\s*:\s*\[\s*(?:-?[\d.]|["']-?\d|null|None|NaN|\{|\[\s*-?\d|np\.|array)""")
_KEY = re.compile(r"""["']([^"'\n]{1,80})["']\s*:""")
_NUMPY = re.compile(r"\b(?:np|numpy)\.\w+\(([^()]*)\)|\barray\((\[[^()]*\])(?:, dtype=[\w.]+)?\)|\b(nan|inf)\b")


def matches(candidate: Candidate) -> bool:
    """Return whether the text begins as one JSON document, with lists under the name of a loss or an accuracy."""
    head = candidate.head.lstrip("\ufeff \t\r\n")
    if not head.startswith(("{", "[")) or _is_lines(head):
        return False
    if any(map(is_curve, _LIST.findall(head))):
        return True
    keys = _KEY.findall(head)
    by_step = has_axis(dict.fromkeys(keys)) or any(key.isdigit() for key in keys) or '"columns"' in head
    return by_step and any(map(role_of, keys)) and ("[" in head or any(key.isdigit() for key in keys))


def _is_lines(head: str) -> bool:
    """Return whether the first line ends as a whole object does, and others follow."""
    first, _, rest = head.partition("\n")
    return first.rstrip().endswith(("}", "]")) and bool(rest.strip())


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one document, with one run or several."""
    where = files[0].name
    content = _parsed(files[0])
    logs: dict[str, Log] = {}
    for label, run in runs_of(content):
        for inner, log in _logs(run, options, where).items():
            logs["/".join(part for part in (label, inner) if part)] = log
    if not logs:
        raise ValueError(_no_curves(content, where))
    return logs


def _parsed(file: Path) -> Any:
    text = read_text(file).lstrip("\ufeff")
    try:
        return parse_json(text)
    except ValueError as error:
        try:
            quoted = {"nan": "'nan'", "inf": "'inf'"}
            return ast.literal_eval(_NUMPY.sub(lambda m: m[1] or m[2] or quoted.get(m[3], m[0]), text.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(
                f"Expected one JSON document in {file.name}, got {error}; the file is damaged or still being written"
            ) from error


def _logs(content: Any, options: ReadOptions, where: str) -> dict[str, Log]:
    """Return the runs of one object; nothing if it holds no curve."""
    tables = [
        (path, rows)
        for path, rows in row_lists(content)
        if any(is_curve(key) for row in rows[:50] for key in names_in(row))
    ]
    if tables:
        columns = TableColumns()
        for path, rows in tables:
            split = split_in(path.rsplit("/", 1)[-1])
            for row in rows:
                columns.add({_prefixed(split, key): value for key, value in row.items()} if split else row)
        return table_logs(columns.fill(Table({}, 0)), options, where)
    lists = dict(lists_of(content))
    short = {path: path.rsplit("/", 1)[-1] for path in lists}
    if len({*short.values()}) == len(short):  # the names of entries around all lists name no curve
        lists = {short[path]: numbers for path, numbers in lists.items()}
    return _of_lists(lists, options, where)


def _prefixed(split: str, key: str) -> str:
    named = any(split_of([word]) for word in words_of(key))
    return key if named or key.lower() in AXES else f"{split}/{key}"


def _of_lists(lists: Mapping[str, np.ndarray], options: ReadOptions, where: str) -> dict[str, Log]:
    """Return the run of lists of numbers, or the runs along the first axis of lists of lists."""
    pairs = {name: numbers for name, numbers in lists.items() if are_pairs(numbers) and is_curve(name)}
    if any(len(numbers) > 2 for numbers in pairs.values()):  # two rows may be two runs
        options.check_no_columns("pairs of steps and values")
        notes = [f"pairs of a step and a value: {', '.join(pairs)}"]
        others = [name for name in lists if name not in pairs]
        notes += [f"other lists were ignored: {', '.join(others)}"] if others else []
        return {"": Log({name: (numbers[:, 0], numbers[:, 1]) for name, numbers in pairs.items()}, notes)}
    return columns_logs(lists, options.axis, where) if lists else {}


def _no_curves(content: Any, where: str) -> str:
    if isinstance(content, dict) and any(as_number(value) is not None for value in content.values()):
        names = ", ".join(list(map(str, content))[:6])
        return (
            f"Expected lists of numbers in {where}, got one value of each name ({names}, ...), as in a summary at the "
            "end; read the log of the training"
        )
    return f"Expected lists of numbers, or a list of objects, in {where}, got neither; check that the file is a log"


READER = Reader("results", "a JSON document with lists of losses or accuracies", matches, read, suffixes=(".json",))
