"""Find checkpoints and their steps: in folders, patterns, mappings of steps, and functions of the step."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from probe.checkpoints.steps import SAVES, NoStepError, is_copy, step_of, whole
from probe.checkpoints.weights import DamagedCheckpointError, kind_of
from probe.errors import warn_user

_SUFFIXES = (".safetensors", ".pt", ".pth", ".tar", ".bin", ".ckpt")
_OTHER = re.compile(  # what trainers save beside the weights, and what systems and unfinished saves leave
    r"(training_args|optimi[sz]er|optim|scheduler|sampler|scaler|criterion|rng_state|random_states)([-_.].*)?\.\w+|"
    r"\..*|tmp-.*"
)
_PART = re.compile(r"(model|pytorch_model|adapter_model)(-\d+-of-\d+)?\.\w+")  # weights of a folder
_MAX_FOLDERS = 2000  # searched below a folder without checkpoints


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: its step, where the step comes from, and a path or a function that returns the model."""

    step: int
    origin: str
    path: Path | None = None
    make: Callable[[], nn.Module] | None = None

    @property
    def name(self) -> str:
        """Name for messages."""
        return f"step {self.step}" if self.path is None else str(self.path)


@dataclass(frozen=True)
class Found:
    """Checkpoints in the order of their steps, notes about the choice, and reasons for those that were left out."""

    checkpoints: list[Checkpoint]
    notes: list[str]
    left_out: list[str]


def find_checkpoints(given: Any, steps: Sequence[int] | None, step_key: str | None) -> Found:
    """Return the checkpoints that are given as a mapping, a function of the step, a folder, paths or patterns."""
    notes: list[str] = []
    left_out: list[str] = []
    found = list(_located(given, steps, step_key, notes, left_out))
    if not found and not left_out:
        raise ValueError("Expected at least one checkpoint, got none; check the mapping or the steps")
    found = _without_copies(sorted(found, key=lambda one: one.step), notes)
    for origin in dict.fromkeys(one.origin for one in found):
        own = [one.step for one in found if one.origin == origin]
        notes.append(f"{_counted(len(own))}, step {_range(own)}: steps from {origin}")
    if any(one.origin == SAVES for one in found):
        warn_user(
            f"Expected numbers of updates in the names of checkpoints, got {SAVES}, as steps; pass {{step: path}}, or "
            "save with a ProbeContext, which adds the number of updates"
        )
    return Found(found, notes, left_out)


def _located(
    given: Any, steps: Sequence[int] | None, step_key: str | None, notes: list[str], left_out: list[str]
) -> Iterable[Checkpoint]:
    if steps is not None and (isinstance(given, Mapping) or not callable(given)):
        raise ValueError("Expected no steps= beside paths, whose names have steps, got some; pass {step: path}")
    if isinstance(given, Mapping):
        return [_of_mapping(step, value) for step, value in given.items()]
    if isinstance(given, (str, os.PathLike)) or (isinstance(given, Sequence) and not callable(given)):
        paths = _paths([given] if isinstance(given, (str, os.PathLike)) else given, notes)
        return _with_steps(paths, step_key, left_out, notes)
    if not callable(given):
        raise TypeError(
            f"Expected {{step: path}}, a folder, paths, a pattern or a function, got {type(given).__name__}; pass one"
        )
    if steps is None:
        raise ValueError("Expected steps= beside a function step -> model, got None; pass the steps to measure")
    return [Checkpoint(whole(step), "steps=", make=partial(given, whole(step))) for step in steps]


def _counted(n: int) -> str:
    return "1 checkpoint" if n == 1 else f"{n} checkpoints"


def _range(steps: Sequence[int]) -> str:
    return str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"


def _of_mapping(step: Any, value: Any) -> Checkpoint:
    if isinstance(value, (str, os.PathLike)):
        path = Path(value).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"Expected a checkpoint at {path}, got none; check the path")
        return Checkpoint(whole(step), "the mapping", path)
    if isinstance(value, nn.Module) or not callable(value):
        raise TypeError(
            f"Expected a path or a function that returns the model of step {step}, got {type(value).__name__}; pass "
            "lambda: model"
        )
    return Checkpoint(whole(step), "the mapping", make=value)


# -- paths -------------------------------------------------------------------------------------------------------------


def _paths(given: Iterable[Any], notes: list[str]) -> list[Path]:
    """Return the checkpoints at paths, in folders and of patterns."""
    given = [os.path.expanduser(os.fspath(item)) for item in given]
    found: list[Path] = []
    for item in given:
        path = Path(item)
        if path.is_dir():
            found += _of_folder(path, notes)
        elif path.exists():
            found.append(path)
        else:
            matches = [Path(name) for name in sorted(glob.glob(item, recursive=True))]
            _add(found, [m for m in matches if _is_checkpoint(m)], [m for m in matches if not _is_checkpoint(m)], notes)
    if not found:
        raise FileNotFoundError(
            f"Expected checkpoints that match {' '.join(given)}, got none; check the quotes and the folder"
        )
    return found


def _of_folder(path: Path, notes: list[str]) -> list[Path]:
    """Return the checkpoints in a folder, or the folder if it is one, or those in the one folder below that has any."""
    if inside := _inside(path):
        if kind_of(path) is not None:
            notes.append(f"{path.name}: the weights beside its checkpoints were left out")
        return inside
    if _is_checkpoint(path):
        return [path]
    below = [folder for folder in _folders_below(path) if _inside(folder)]
    if len(below) == 1:
        notes.append(f"checkpoints in {below[0].relative_to(path)}")
        return _inside(below[0])
    if below:
        raise FileNotFoundError(
            f"Expected checkpoints in {path}, got several folders of them: {_listed(below, path)}; pass one"
        )
    raise FileNotFoundError(
        f"Expected checkpoints in {path}, got {_listed(sorted(path.iterdir()), path) or 'none'}; a checkpoint is a "
        f"file ({', '.join(_SUFFIXES)}) or a folder with model.safetensors, adapter_config.json or .metadata. Export "
        "weights of other libraries than PyTorch to safetensors"
    )


def _inside(folder: Path) -> list[Path]:
    return [child for child in sorted(folder.iterdir()) if _is_checkpoint(child)]


def _folders_below(path: Path) -> list[Path]:
    """Return the folders below a folder that are no checkpoints, up to a number."""
    found: list[Path] = []
    for name, folders, _ in os.walk(path):
        folders[:] = sorted(one for one in folders if not (one.startswith(".") or _is_checkpoint(Path(name, one))))
        found += [Path(name, folder) for folder in folders]
        if len(found) > _MAX_FOLDERS:
            break
    return found


def _listed(paths: Sequence[Path], folder: Path) -> str:
    names = [str(path.relative_to(folder)) for path in paths[:5]]
    return ", ".join(names) + (", ..." if len(paths) > 5 else "")


def _add(found: list[Path], paths: Sequence[Path], others: Sequence[Path], notes: list[str]) -> None:
    found += paths
    if others:
        listed = ", ".join(path.name for path in others[:4]) + (", ..." if len(others) > 4 else "")
        notes.append(f"no checkpoints, and left out: {listed}")


def _is_checkpoint(path: Path) -> bool:
    """Return whether this is a checkpoint by its name and content; one without its weights too."""
    if _OTHER.fullmatch(path.name):
        return False
    if path.is_dir():
        return kind_of(path) is not None or re.fullmatch(r"checkpoint-\d+", path.name) is not None
    return path.suffix in _SUFFIXES and not _PART.fullmatch(path.name)


def _with_steps(paths: Sequence[Path], key: str | None, left_out: list[str], notes: list[str]) -> Iterable[Checkpoint]:
    """Yield checkpoints with their steps. Links to others, and names without a step among names with one, are noted."""
    paths = list(dict.fromkeys(paths))
    targets = {path.resolve(): path for path in paths if not path.is_symlink()}
    nameless: list[str] = []
    n_found = 0
    for path in paths:
        if path.is_symlink() and (other := targets.get(path.resolve())):
            notes.append(f"{path.name}: left out, since it is a link to {other.name}")
            continue
        try:
            if not path.exists():
                raise DamagedCheckpointError(f"Expected a checkpoint at {path}, got a link to nothing; copy the file")
            step, origin = step_of(path, key)
        except DamagedCheckpointError as error:
            left_out.append(str(error))
        except NoStepError as error:
            if len(paths) == 1:
                raise
            nameless.append(str(error))
        else:
            n_found += 1
            yield Checkpoint(step, origin, path)
    if nameless and not n_found:
        raise NoStepError(nameless[0])
    left_out += nameless


def _without_copies(found: Sequence[Checkpoint], notes: list[str]) -> list[Checkpoint]:
    """Return one checkpoint for each step. A file such as last.ckpt is a copy of another."""
    kept: dict[int, Checkpoint] = {}
    for one in sorted(found, key=lambda one: one.path is not None and is_copy(one.path)):
        other = kept.setdefault(one.step, one)
        if other is one:
            continue
        if one.path is not None and is_copy(one.path):
            notes.append(f"{one.path.name}: left out, since {other.name} has its step {one.step}")
            continue
        raise ValueError(
            f"Expected one checkpoint for each step, got {other.name} and {one.name}, both of step {one.step} (from "
            f"{one.origin}); pass {{step: path}}, or name the entry of the step with step_key= (--step-key)"
        )
    return [kept[step] for step in sorted(kept)]
