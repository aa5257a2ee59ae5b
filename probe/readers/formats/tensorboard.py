"""Event files as TensorBoard, Lightning, Keras and Hugging Face write them: every point, without TensorFlow.

A folder with event files is a run. Folders ``train``, ``validation``, ... in it (Keras), and those of ``add_scalars``
(PyTorch), belong to the run above them, and name what they hold.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probe.readers.log import Log
from probe.readers.wire.events import Scalars, scalars
from probe.readers.wire.tfrecord import frames

NAME = "tensorboard"
_SPLITS = ("train", "training", "val", "valid", "validation", "eval", "test")


def claims(path: Path) -> bool:
    """Whether this is an event file, by its name."""
    return "tfevents" in path.name


def run_of(path: Path) -> Path:
    """The folder of the run that an event file belongs to."""
    folder = path.parent
    above = any(claims(other) for other in folder.parent.glob("*tfevents*"))
    beside = [other.name.lower() for other in folder.parent.iterdir() if other.is_dir()]
    if folder.name.lower() in _SPLITS and (above or len({*beside} & {*_SPLITS}) > 1):
        return folder.parent
    return folder.parent if above and _of_add_scalars(path) else folder


def _of_add_scalars(path: Path) -> bool:
    """Whether the folder is called <tag>_<key> for the one tag in it, as PyTorch's ``add_scalars`` does."""
    if "_" not in path.parent.name:
        return False
    block = next(frames(path, []), None)
    tags = [] if block is None else list(scalars(block, []))
    return len(tags) == 1 and path.parent.name.startswith(f"{tags[0].replace('/', '_')}_")


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """One run from its event files, in the order in which they were begun."""
    if axis not in (None, "step"):
        raise ValueError(f"expected axis 'step' for event files, got {axis!r}; they have no other")
    run = run_of(files[0])
    said: list[str] = []
    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for file in sorted(files, key=_begun):
        for tag, points in _scalars(file, said):
            parts.setdefault(_named(tag, file.parent, run), []).append(points)
    if len(files) > 1:
        said.append(f"{len(files)} event files merged")
    joined = {tag: (np.concatenate(steps), np.concatenate(values)) for tag, (steps, values) in _columns(parts)}
    return {"": Log(joined, said)}


def _columns(parts: dict[str, list[tuple[np.ndarray, np.ndarray]]]) -> list[tuple[str, tuple[list, list]]]:
    return [(tag, ([steps for steps, _ in some], [values for _, values in some])) for tag, some in parts.items()]


def _scalars(file: Path, said: list[str]) -> list[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    bad: list[int] = []
    found: list[Scalars] = [scalars(block, bad) for block in frames(file, said)]
    if sum(bad):
        said.append(f"{file.name}: {sum(bad)} damaged records left out")
    return [(tag, points) for block in found for tag, points in block.items()]


def _begun(file: Path) -> tuple[int, str]:
    """Event files carry the second at which they were begun: events.out.tfevents.<seconds>.<host>..."""
    seconds = re.search(r"tfevents\.(\d+)", file.name)
    return (int(seconds[1]) if seconds else 0, file.name)


def _named(tag: str, folder: Path, run: Path) -> str:
    """The tag, with what the folder below the run adds to it."""
    if folder == run:
        return tag
    if folder.name.lower() in _SPLITS:
        return f"{folder.name}/{tag.removeprefix('epoch_')}"
    return folder.name  # of add_scalars: <tag>_<key>
