"""One JSON document with curves: lists by name (a Keras history), or objects in a list, inside of other entries.

``{"config": ..., "history": [{"step": 1, "train_loss": 2.3}, ...]}``, ``{"loss": [...], "val_loss": [...]}``,
``{"validation_0": {"logloss": [...]}}``, ``{"seed0": {"train_losses": [...]}, "seed1": {...}}``. Python may have
printed the document: ``{'loss': [np.float64(0.5), nan]}``.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from probe.readers.columns import columns_log
from probe.readers.layout.logs import table_logs
from probe.readers.log import Log
from probe.readers.names import AXES, role_of
from probe.readers.phrases import split_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.spelling import like_accuracies, like_losses, words_of
from probe.readers.table import Table, TableColumns, as_number
from probe.readers.text import parse_json, read_text

_LIST = re.compile(r"""["']([^"'\n]{1,80})["']\s*:\s*\[\s*(?:-?[\d.]|["']-?\d|null|None|NaN|\{|\[\s*-?\d|np\.|array)""")
_KEY = re.compile(r"""["']([^"'\n]{1,80})["']\s*:""")
_NUMPY = re.compile(r"\b(?:np|numpy)\.\w+\(([^()]*)\)|\barray\((\[[^()]*\])(?:, dtype=[\w.]+)?\)|\b(nan|inf)\b")
_DEEPEST = 6


def matches(candidate: Candidate) -> bool:
    """Return whether the text begins as one JSON document, with lists under the name of a loss or an accuracy."""
    head = candidate.head.lstrip("\ufeff \t\r\n")
    if not head.startswith(("{", "[")) or _is_lines(head):
        return False
    lists = _LIST.findall(head)
    if any(map(role_of, lists)) or like_losses(lists) or like_accuracies(lists):
        return True
    keys = _KEY.findall(head)  # of objects in a list
    in_list = head.startswith("[") or any('"' + name + '"' in head for name in lists)
    return in_list and bool(lists or head.startswith("[")) and _is_row(dict.fromkeys(keys))


def _is_lines(head: str) -> bool:
    """Return whether the first line is a whole JSON object, and another follows."""
    first, _, rest = head.partition("\n")
    try:
        whole = isinstance(parse_json(first), dict)
    except ValueError:
        return False
    return whole and rest.lstrip().startswith("{")


def _is_row(keys: Mapping[str, Any]) -> bool:
    return any(map(role_of, keys)) and any(key.lower() in AXES for key in keys)


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one document, with one run or several."""
    where = files[0].name
    content = _parsed(files[0])
    runs = dict(_runs(content))
    logs: dict[str, Log] = {}
    for label, run in runs.items():
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
            return ast.literal_eval(_NUMPY.sub(lambda m: m[1] or m[2] or quoted[m[3]], text.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            raise ValueError(
                f"Expected one JSON document in {file.name}, got {error}; the file is damaged or still being written"
            ) from error


def _runs(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the runs of a document: objects with the same lists of curves beside each other; else the document."""
    entries: Mapping[str, Any] = {}
    if isinstance(content, dict):
        entries = {str(key): value for key, value in content.items() if isinstance(value, dict | list)}
        if len(entries) == 1 and not _has_curves(content):
            yield from _runs(next(iter(entries.values())))
            return
        entries = {key: value for key, value in entries.items() if _names(value)}
    elif isinstance(content, list) and content and all(isinstance(one, dict) and not _is_row(one) for one in content):
        entries = {_label(one, i): one for i, one in enumerate(content) if _names(one)}
    names = {frozenset(_names(value)) for value in entries.values()}
    if len(entries) > 1 and len(names) == 1 and not any(_split_in(key) for key in entries) and not _has_curves(content):
        yield from entries.items()
    else:
        yield "", content


def _label(run: Mapping[str, Any], number: int) -> str:
    """Return the label of a run in a list: its name, or its number."""
    name = next((str(run[key]) for key in ("run", "name", "label") if isinstance(run.get(key), str)), "")
    return name or next(
        (f"{key} {run[key]}" for key in ("seed", "id") if isinstance(run.get(key), int | str)), str(number)
    )


def _has_curves(content: Any) -> bool:
    """Return whether lists of curves stand in the document itself."""
    if not isinstance(content, dict):
        return False
    return any(_numbers(value) is not None and (role_of(key) or like_losses([key])) for key, value in content.items())


def _names(content: Any) -> set[str]:
    """Return the names of the lists and of the objects in lists that hold curves."""
    lists = {path for path, _ in _lists(content)}
    lists |= {f"{path}/{key}" for path, rows in _row_lists(content) for key in rows[0]}
    return {
        name for name in lists if role_of(name.rsplit("/", 1)[-1]) or like_losses([name]) or like_accuracies([name])
    }


def _logs(content: Any, options: ReadOptions, where: str) -> dict[str, Log]:
    """Return the runs of one document; nothing if it holds no curve."""
    tables = [
        (path, rows) for path, rows in _row_lists(content) if any(_is_curve(key) for row in rows[:50] for key in row)
    ]
    if tables:
        columns = TableColumns()
        for path, rows in tables:
            split = _split_in(path.rsplit("/", 1)[-1])
            for row in rows:
                columns.add({_prefixed(split, key): value for key, value in row.items()} if split else row)
        return table_logs(columns.fill(Table({}, 0)), options, where)
    lists = dict(_lists(content))
    short = {path: path.rsplit("/", 1)[-1] for path in lists}
    unique = len({*short.values()}) == len(short)
    # The names of entries around all lists, as in {"history": {...}}, name no curve.
    return (
        {"": columns_log({short[k] if unique else k: v for k, v in lists.items()}, options.axis, where)}
        if lists
        else {}
    )


def _split_in(key: str) -> str:
    """Return the split that an entry names, as "val_history" and "validation_0" do; "" for none."""
    words = [word for word in words_of(key) if word not in ("history", "log", "logs") and not word.isdigit()]
    return split_of([" ".join(words)])


def _is_curve(key: str) -> bool:
    return bool(role_of(key) or like_losses([key]) or like_accuracies([key]))


def _prefixed(split: str, key: str) -> str:
    return (
        key
        if key.lower() in AXES or any(split_of([word]) for word in re.split("[^A-Za-z]+", key))
        else f"{split}/{key}"
    )


def _row_lists(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield the lists of objects, by the path of their names."""
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        yield path, content
    elif isinstance(content, dict) and depth < _DEEPEST:
        for key, value in content.items():
            yield from _row_lists(value, f"{path}/{key}" if path else str(key), depth + 1)


def _lists(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the lists of numbers, by the path of their names."""
    if not isinstance(content, dict) or depth >= _DEEPEST:
        return
    for key, value in content.items():
        name = f"{path}/{key}" if path else str(key)
        if (numbers := _numbers(value)) is not None:
            yield name, numbers
        else:
            yield from _lists(value, name, depth + 1)


def _numbers(value: Any) -> np.ndarray | None:
    """Return a list of numbers, also from text; None for anything else. An entry that is null is missing."""
    if not isinstance(value, list | tuple) or not value:
        return None
    numbers = [np.nan if entry is None else as_number(entry) for entry in value]
    return None if any(number is None for number in numbers) else np.array(numbers, dtype=float)


def _no_curves(content: Any, where: str) -> str:
    if isinstance(content, dict) and any(as_number(value) is not None for value in content.values()):
        names = ", ".join(list(map(str, content))[:6])
        return (
            f"Expected lists of numbers in {where}, got one value of each name ({names}, ...), as in a summary at the "
            "end; read the log of the training"
        )
    return f"Expected lists of numbers, or a list of objects, in {where}, got neither; check that the file is a log"


READER = Reader("results", "a JSON document with lists of losses or accuracies", matches, read)
