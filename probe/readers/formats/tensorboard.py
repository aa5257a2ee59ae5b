"""Event files of TensorBoard, Lightning, Keras and Hugging Face. Every point is read, without TensorFlow.

A folder with event files is a run. Its folders ``train``, ``validation``, ... (Keras) and those of ``add_scalars``
(PyTorch) belong to the run, and their names become part of the names of the curves.
"""

import os
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from probe.readers.log import Log
from probe.readers.names import SPLITS
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.wire.events import Scalars, read_scalars
from probe.readers.wire.tfrecord import read_frames

_SPLITS = SPLITS["train"] | SPLITS["test"]


def matches(candidate: Candidate) -> bool:
    """Return whether the file is an event file, by its name."""
    return "tfevents" in candidate.path.name


def run_path(path: Path) -> Path:
    """Return the folder of the run that an event file belongs to."""
    folder, parent = path.parent, path.parent.parent
    try:
        above, beside = _listing(parent, parent.stat().st_mtime_ns)
    except OSError:
        return folder
    if folder.name.lower() in _SPLITS and (above or len(_SPLITS & beside) > 1):
        return parent
    return parent if above and _of_add_scalars(path) else folder


@lru_cache(maxsize=256)
def _listing(folder: Path, _changed: int) -> tuple[bool, frozenset[str]]:
    """Return whether there is an event file in a folder, and the names of its folders, in lower case."""
    with os.scandir(folder) as entries:
        found = [(entry.name, entry.is_dir()) for entry in entries]
    return any("tfevents" in name for name, _ in found), frozenset(name.lower() for name, is_dir in found if is_dir)


def _of_add_scalars(path: Path) -> bool:
    """Return whether the folder is named <tag>_<key> after the one tag in it, as by ``add_scalars`` of PyTorch."""
    if "_" not in path.parent.name:
        return False
    block = next(read_frames(path, []), None)
    tags = [] if block is None else list(read_scalars(block, []))
    return len(tags) == 1 and path.parent.name.startswith(f"{tags[0].replace('/', '_')}_")


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one run from its event files, in the order in which they were begun."""
    options.check_no_columns("event files")
    run = run_path(files[0])
    damage: list[str] = []
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for file in sorted(files, key=_begun):
        for tag, points in _scalars(file, damage):
            parts.setdefault(_curve_name(tag, file.parent, run), []).append(points)
    notes = [f"{len(files)} event files were merged"] if len(files) > 1 else []
    joined = {
        tag: (np.concatenate([steps for steps, _ in some]), np.concatenate([values for _, values in some]))
        for tag, some in parts.items()
    }
    return {"": Log(joined, notes, damage)}


def _scalars(file: Path, damage: list[str]) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    n_damaged: list[int] = []
    found: list[Scalars] = [read_scalars(block, n_damaged) for block in read_frames(file, damage)]
    if sum(n_damaged):
        damage.append(f"{file.name}: {sum(n_damaged)} damaged records were ignored")
    return [(tag, points) for block in found for tag, points in block.items()]


def _begun(file: Path) -> tuple[int, str]:
    """Return the second at which an event file was begun, from events.out.tfevents.<seconds>.<host>..."""
    seconds = re.search(r"tfevents\.(\d+)", file.name)
    return (int(seconds[1]) if seconds else 0, file.name)


def _curve_name(tag: str, folder: Path, run: Path) -> str:
    """Return the tag, extended by the name of a folder below the run."""
    if folder == run:
        return tag
    if folder.name.lower() in _SPLITS:
        return f"{folder.name}/{tag.removeprefix('epoch_')}"
    return folder.name  # of add_scalars: <tag>_<key>


READER = Reader("tensorboard", "*tfevents*", matches, read, run_path)
