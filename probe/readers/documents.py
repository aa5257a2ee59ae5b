"""Curves inside of a JSON document: lists of objects, lists of numbers, pairs of step and value, by their paths.

``{"10": {"loss": 2.3}, "20": ...}`` and the ``split`` form of pandas count as lists of objects.
``{"loss": {"0": 2.3, "1": 2.2}}`` counts as a list of numbers.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from probe.readers.names import AXES, role_of
from probe.readers.phrases import split_of
from probe.readers.spelling import like_accuracies, like_losses, words_of
from probe.readers.table import as_number

Rows = list[dict[str, Any]]
_DEEPEST = 6


def row_lists(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Rows]]:
    """Yield the lists of objects, by the path of their names."""
    rows = _rows(content)
    if rows is not None:
        yield path, rows
    elif isinstance(content, dict) and depth < _DEEPEST:
        for key, value in content.items():
            yield from row_lists(value, f"{path}/{key}" if path else str(key), depth + 1)


def _rows(content: Any) -> Rows | None:
    """Return a list of objects, also from an object of objects by step, or from columns and data; None otherwise."""
    if isinstance(content, list) and content and all(isinstance(entry, dict) for entry in content):
        return content
    if not isinstance(content, dict) or not content:
        return None
    columns, data = content.get("columns"), content.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(row, list) for row in data):
        return [dict(zip(map(str, columns), row, strict=False)) for row in data] or None
    if len(content) > 1 and all(_is_row(row) and as_number(key) is not None for key, row in content.items()):
        return [row if has_axis(row) else {"step": as_number(key), **row} for key, row in content.items()]
    return None


def _is_row(row: Any) -> bool:
    """Return whether an entry is an object that holds numbers, and no lists of numbers."""
    return isinstance(row, dict) and any(map(is_number, row.values())) and not any(map(_is_list, row.values()))


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and numbers_of(value) is not None


def lists_of(content: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the lists of numbers, (n,), and of lists of numbers, (n, m), by the path of their names."""
    if not isinstance(content, dict) or depth >= _DEEPEST:
        return
    for key, value in content.items():
        name = f"{path}/{key}" if path else str(key)
        if (numbers := numbers_of(value)) is not None:
            yield name, numbers
        else:
            yield from lists_of(value, name, depth + 1)


def numbers_of(value: Any) -> np.ndarray | None:
    """Return a list of numbers, also from text, or of lists of numbers of one length; None for anything else.

    An entry that is null is missing.
    """
    if isinstance(value, dict) and len(value) > 1 and all(str(key).isdigit() for key in value):
        value = [value[key] for key in sorted(value, key=int)]  # a column of pandas, by row
    if not isinstance(value, list | tuple) or not value:
        return None
    if all(isinstance(row, list | tuple) for row in value):
        inner = [numbers_of(row) for row in value]
        shapes = {None if row is None else row.shape for row in inner}
        return (
            np.array(inner) if len(shapes) == 1 and None not in shapes and len(next(iter(shapes)) or ()) == 1 else None
        )
    numbers = [np.nan if entry is None else as_number(entry) for entry in value]
    return None if any(number is None for number in numbers) else np.array(numbers, dtype=float)


def is_number(value: Any) -> bool:
    """Return whether a value is a number, or text that means one."""
    return as_number(value) is not None


def are_pairs(numbers: np.ndarray) -> bool:
    """Return whether rows can be pairs of a step and a value, because the steps increase."""
    return numbers.ndim == 2 and numbers.shape[1] == 2 and bool((np.diff(numbers[:, 0]) > 0).all())


def is_curve(name: str) -> bool:
    """Return whether a name is that of a loss or an accuracy, or resembles one."""
    return bool(role_of(name) or like_losses([name]) or like_accuracies([name]))


def names_in(row: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield the names of the numbers in an object, and in the objects inside of it."""
    for key, value in row.items():
        name = f"{path}/{key}" if path else str(key)
        if isinstance(value, dict):
            yield from names_in(value, name)
        else:
            yield name


def has_axis(row: Mapping[str, Any]) -> bool:
    """Return whether an object has an entry with a usual name of steps."""
    return any(str(key).lower() in AXES and not isinstance(value, list | dict) for key, value in row.items())


def curve_names(content: Any) -> set[str]:
    """Return the paths of the lists, and of the entries of objects in lists, that are curves by their names."""
    names = {path for path, _ in lists_of(content)}
    names |= {f"{path}/{key}" for path, rows in row_lists(content) for key in names_in(rows[0])}
    return {name for name in names if is_curve(name) or is_curve(name.rsplit("/", 1)[-1])}


def split_in(key: str) -> str:
    """Return the split that an entry names, as "val_history" and "validation_0" do; "" for none."""
    words = [word for word in words_of(key) if word not in ("history", "log", "logs") and not word.isdigit()]
    return split_of([" ".join(words)])


def runs_of(content: Any) -> Iterator[tuple[str, Any]]:
    """Yield the runs of a document by label: objects with the same curves beside each other; else the document."""
    entries: Mapping[str, Any] = {}
    own = isinstance(content, dict) and any(
        numbers_of(value) is not None and is_curve(key) for key, value in content.items()
    )
    if isinstance(content, dict) and not own and _rows(content) is None:
        entries = {str(key): value for key, value in content.items() if isinstance(value, dict | list)}
        holders = [value for value in entries.values() if curve_names(value) or _are_runs(value)]
        if len(entries) == 1 or (len(holders) == 1 and _are_runs(holders[0])):
            yield from runs_of((holders or [*entries.values()])[0])
            return
    elif _are_runs(content):
        entries = {_label(one, number): one for number, one in enumerate(content)}
    names = {label: frozenset(curve_names(value)) for label, value in entries.items()}
    runs = {label: entries[label] for label, found in names.items() if found}
    if len(runs) > 1 and len({names[label] for label in runs}) == 1 and not any(map(split_in, runs)):
        yield from runs.items()
    else:
        yield "", content


def _are_runs(content: Any) -> bool:
    """Return whether a list holds one object with curves for each run."""
    return (
        isinstance(content, list)
        and bool(content)
        and all(isinstance(one, dict) and not has_axis(one) and bool(curve_names(one)) for one in content)
    )


def _label(run: Mapping[str, Any], number: int) -> str:
    """Return the label of a run in a list: its name, or its seed, or its number."""
    name = next((str(run[key]) for key in ("run", "name", "label") if isinstance(run.get(key), str)), "")
    return name or next(
        (f"{key} {run[key]}" for key in ("seed", "id") if isinstance(run.get(key), int | str)), str(number)
    )
