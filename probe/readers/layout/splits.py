"""The column of a table that names the split of each row, such as train and val."""

from probe.readers.layout.labels import (
    NO_COLUMN,
    RUN_NAMES,
    SPLIT_NAMES,
    Labels,
    check_column,
    labels_of,
    plain,
    same_rows,
)
from probe.readers.log import text_of
from probe.readers.names import SPLITS
from probe.readers.phrases import split_of
from probe.readers.table import Table

_MOST = 20  # splits
_FLAGS = {"is_train", "is_training", "training", "train"}  # 1: train, 0: test


def find_split(table: Table, given: str | None, where: str) -> tuple[str, Labels] | None:
    """Return the column that names the split of each row, and its values; None for no such column."""
    if given == NO_COLUMN and NO_COLUMN not in table.words:
        return None
    if given is not None:
        check_column(table, given, "split")
        labels = labels_of(table, given)
        if labels is None:
            raise ValueError(
                f"Expected few different values in the column of splits {given!r}, got many; choose another"
            )
        return given, _named_splits(given, labels)
    found = {name: labels for name in table.words if (labels := labels_of(table, name)) and _is_split(name, labels)}
    found |= {
        name: _named_splits(name, labels)
        for name in table.columns
        if plain(name) in _FLAGS and (labels := labels_of(table, name)) and labels.values == [0, 1]
    }
    if not found:
        return None
    first, *others = found
    if any(not same_rows(found[first].codes, found[other].codes) for other in others):
        options = " or ".join(f"--split {name}" for name in found)
        raise ValueError(
            f"Expected one column of splits in {where}, got {', '.join(found)}; choose one with split= ({options})"
        )
    return first, found[first]


def _is_split(name: str, labels: Labels) -> bool:
    kinds = split_kinds(labels)
    both = {"train", "test"} <= {*kinds}
    if plain(name) in SPLIT_NAMES:
        return all(kinds) or both
    return both and len(kinds) <= _MOST and plain(name) not in RUN_NAMES


def split_kinds(labels: Labels) -> list[str]:
    """Return "train" or "test" for each value that names a split, as "val" and "Test set" do; "" for others."""
    words = [plain(split_of([word]) or word) if isinstance(word, str) else "" for word in labels.values]
    if sorted(words) == ["t", "v"]:  # alone, each letter could name a run
        return ["train" if word == "t" else "test" for word in words]
    return [next((kind for kind, known in SPLITS.items() if word in known), "") for word in words]


def _named_splits(name: str, labels: Labels) -> Labels:
    if labels.values == [0, 1] and plain(name) in _FLAGS:
        return Labels(labels.codes, ["test", "train"])
    return Labels(labels.codes, [text_of(value) for value in labels.values])
