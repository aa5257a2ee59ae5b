"""Files that are parts of one run, by their paths.

``train.csv`` and ``val.csv`` are one run, as are ``train/log.csv`` and ``val/log.csv``, ``seed1_train.csv`` and
``seed1_val.csv``, and ``loss.csv`` and ``accuracy.csv``.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from probe.readers.documents import split_in
from probe.readers.log import Log
from probe.readers.names import AXES
from probe.readers.phrases import split_of
from probe.readers.spelling import SPLITS, parts_of, words_of

_WORDS = SPLITS["train"] | SPLITS["test"]
_DEEPEST = 3  # parts at the end of a path that may name a split


def split_of_file(path: Path) -> str:
    """Return the split that the name of a file gives alone, as "val_log.csv"; "" for none."""
    return split_in(path.name.partition(".")[0])


def without_split(path: Path) -> tuple[str, Path]:
    """Return the split that a file or a folder around it names, and the path without it; "" for none."""
    parts = [*path.parts[:-1], path.name.partition(".")[0]]
    for i in range(len(parts) - 1, max(len(parts) - 1 - _DEEPEST, 0), -1):
        words = [word for word in re.split(r"[^A-Za-z0-9]+", parts[i]) if word]
        splits = [word.lower() for word in words if word.lower() in _WORDS]
        if len(splits) > 1:
            break
        if splits:
            rest = [] if split_in(parts[i]) else ["_".join(word for word in words if word.lower() not in _WORDS)]
            return splits[0], Path(*parts[:i], *rest, *parts[i + 1 :])
    return "", path


def name_by_file(log: Log, path: Path) -> bool:
    """Name the curves of ``train_loss.csv`` and of ``loss.csv`` by the file. Return whether it has such a name."""
    stem = path.name.partition(".")[0]
    own = parts_of(stem)
    curves = [name for name in log.points if name.lower() not in AXES]
    if own is None or not curves:
        return False
    inner = parts_of(curves[0])
    if len(curves) == 1 and (inner is None or (own.split and not inner.split and inner.measure == own.measure)):
        _rename(log, {curves[0]: f"{curves[0]}_{stem}" if not own.split and split_of([curves[0]]) else stem})
    elif not own.split and all(split_of([name]) for name in curves):
        _rename(log, {name: f"{name}_{stem}" for name in curves})
    return True


def _rename(log: Log, names: dict[str, str]) -> None:
    log.points = {names.get(name, name): points for name, points in log.points.items()}
    log.units = {names.get(name, name): unit for name, unit in log.units.items()}
    log.notes.append(f"the name of the file gives the name of the curve: {', '.join(names.values())}")


def joined_measures(logs: Sequence[Log]) -> Log | None:
    """Return one log from those of several curves; None if a curve stands in several of them."""
    names = [name for log in logs for name in log.points if name.lower() not in AXES]
    if len(logs) < 2 or len({*names}) < len(names) or len({log.axis for log in logs}) > 1:
        return None
    return _joined(logs)


def _joined(logs: Sequence[Log]) -> Log:
    joined = Log({}, axis=logs[0].axis)
    for log in logs:
        joined.points |= log.points
        joined.units |= log.units
        joined.notes += log.notes
        joined.damage += log.damage
    return joined


def _has_splits(log: Log) -> bool:
    """Return whether a log holds curves of several splits, or names the split of a curve."""
    return any(split_of([word]) for name in log.points for word in words_of(name))


def with_split(log: Log, split: str) -> bool:
    """Put the split before the names of the curves. Return whether it changed a log, which has no splits itself."""
    if _has_splits(log):
        return False
    log.points = {name if name.lower() in AXES else f"{split}/{name}": points for name, points in log.points.items()}
    log.units = {f"{split}/{name}": unit for name, unit in log.units.items()}
    return True


def joined_splits(logs: Sequence[tuple[str, Log]]) -> Log | None:
    """Return one log from those of several splits, which are changed; None if they are not the splits of one run."""
    kinds = [next((kind for kind, words in SPLITS.items() if split in words), "") for split, _ in logs]
    if any(_has_splits(log) for _, log in logs) or {*kinds} != {*SPLITS}:
        return None
    if len({split for split, _ in logs}) < len(logs) or len({log.axis for _, log in logs}) > 1:
        return None
    for split, log in logs:
        with_split(log, split)
    return _joined([log for _, log in logs])
