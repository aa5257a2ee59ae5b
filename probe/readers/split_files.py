"""Files with a split in their name: ``train.csv`` and ``val.csv`` of one folder are one run."""

from collections.abc import Sequence
from pathlib import Path

from probe.readers.documents import split_in
from probe.readers.log import Log
from probe.readers.names import AXES
from probe.readers.phrases import split_of
from probe.readers.spelling import SPLITS, words_of


def split_of_file(path: Path) -> str:
    """Return the split that the name of a file gives alone, as "val_log.csv"; "" for none."""
    return split_in(path.name.partition(".")[0])


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
    joined = Log({}, axis=logs[0][1].axis)
    for split, log in logs:
        with_split(log, split)
        joined.points |= log.points
        joined.units |= log.units
        joined.notes += log.notes
        joined.damage += log.damage
    return joined
