"""Find checkpoints and their steps: in folders, patterns, mappings of steps, and functions of the step."""

import glob
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from probe.checkpoints.weights import DamagedCheckpointError, kind_of, read_file

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_OTHERS = (  # what trainers save beside the weights
    *("training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "scaler.pt"),
    *("rng_state.pth", "adapter_model.bin", "adapter_model.safetensors"),
)
_MARKED = re.compile(r"(?:step|iter|iteration|checkpoint|ckpt|update)s?[-_=]?(\d+)", re.IGNORECASE)
STATE = "trainer_state.json"


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
    if isinstance(given, Mapping):
        found = [_of_mapping(step, value) for step, value in given.items()]
    elif isinstance(given, (str, os.PathLike)) or (isinstance(given, Sequence) and not callable(given)):
        paths = _paths([given] if isinstance(given, (str, os.PathLike)) else given, notes)
        found = list(_with_steps(paths, step_key, left_out))
    elif callable(given):
        if steps is None:
            raise ValueError("Expected steps= beside a function step -> model, got None; pass the steps to measure")
        found = [Checkpoint(_whole(step), "steps=", make=partial(given, _whole(step))) for step in steps]
    else:
        raise TypeError(
            f"Expected {{step: path}}, a folder, paths, a pattern or a function, got {type(given).__name__}; pass one"
        )
    if steps is not None and not callable(given):
        raise ValueError("Expected no steps= beside paths, whose names have steps, got some; pass {step: path}")
    if not found and not left_out:
        raise ValueError("Expected at least one checkpoint, got none; check the mapping or the steps")
    found = _without_copies(sorted(found, key=lambda one: one.step), notes)
    for origin in dict.fromkeys(one.origin for one in found):
        own = [one.step for one in found if one.origin == origin]
        notes.append(f"{_counted(len(own))}, step {_range(own)}: steps from {origin}")
    return Found(found, notes, left_out)


def _counted(n: int) -> str:
    return "1 checkpoint" if n == 1 else f"{n} checkpoints"


def _range(steps: Sequence[int]) -> str:
    return str(steps[0]) if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"


def _of_mapping(step: Any, value: Any) -> Checkpoint:
    if isinstance(value, (str, os.PathLike)):
        path = Path(value).expanduser()
        if not path.exists():
            raise FileNotFoundError(f"Expected a checkpoint at {path}, got none; check the path")
        return Checkpoint(_whole(step), "the mapping", path)
    if isinstance(value, nn.Module) or not callable(value):
        raise TypeError(
            f"Expected a path or a function that returns the model of step {step}, got {type(value).__name__}; pass "
            "lambda: model"
        )
    return Checkpoint(_whole(step), "the mapping", make=value)


def _whole(step: Any) -> int:
    try:
        if not isinstance(step, bool) and step >= 0 and int(step) == step:
            return int(step)
    except TypeError:
        pass
    raise ValueError(f"Expected steps that are whole numbers from 0 on, got {step!r}; pass the number of updates")


# -- paths -------------------------------------------------------------------------------------------------------------


def _paths(given: Iterable[Any], notes: list[str]) -> list[Path]:
    """Return the checkpoints at paths, in folders and of patterns."""
    given = [os.path.expanduser(os.fspath(item)) for item in given]
    found: list[Path] = []
    for item in given:
        path = Path(item)
        if path.is_dir() and (inside := [child for child in sorted(path.iterdir()) if _is_checkpoint(child)]):
            _add(found, inside, [], notes)
            if kind_of(path) is not None:
                notes.append(f"{path.name}: the weights beside its checkpoints were left out")
        elif path.exists():
            if path.is_dir() and kind_of(path) is None and not _is_checkpoint(path):
                raise FileNotFoundError(
                    f"Expected checkpoints in {path}, got none; a checkpoint is a file ({', '.join(_SUFFIXES)}) or a "
                    "folder with model.safetensors, adapter_config.json or .metadata"
                )
            found.append(path)
        else:
            matches = [Path(name) for name in sorted(glob.glob(item, recursive=True))]
            _add(found, [m for m in matches if _is_checkpoint(m)], [m for m in matches if not _is_checkpoint(m)], notes)
    if not found:
        raise FileNotFoundError(
            f"Expected checkpoints that match {' '.join(given)}, got none; check the quotes and the folder"
        )
    return found


def _add(found: list[Path], paths: Sequence[Path], others: Sequence[Path], notes: list[str]) -> None:
    found += paths
    if others:
        listed = ", ".join(path.name for path in others[:4]) + (", ..." if len(others) > 4 else "")
        notes.append(f"no checkpoints, and left out: {listed}")


def _is_checkpoint(path: Path) -> bool:
    """Return whether this is a checkpoint by its name and content; one without its weights too."""
    if path.is_dir():
        return kind_of(path) is not None or re.fullmatch(r"checkpoint-\d+", path.name) is not None
    return path.suffix in _SUFFIXES and path.name not in _OTHERS and not path.name.startswith("rng_state")


# -- steps -------------------------------------------------------------------------------------------------------------


def _with_steps(paths: Sequence[Path], key: str | None, left_out: list[str]) -> Iterable[Checkpoint]:
    for path in dict.fromkeys(paths):
        try:
            step, origin = _step(path, key)
        except DamagedCheckpointError as error:
            left_out.append(str(error))
        else:
            yield Checkpoint(step, origin, path)


def _step(path: Path, key: str | None) -> tuple[int, str]:
    """Return the step of a checkpoint, and where it comes from."""
    if key is not None:
        content = read_file(path) if path.is_file() else _trainer_state(path)
        if not isinstance(content, Mapping) or key not in content:
            raise ValueError(f"Expected an entry {key!r} in {path}, got none; there are: {_keys(content)}")
        return _whole(content[key]), f"the entry {key!r}"
    if path.is_dir() and "global_step" in (state := _trainer_state(path)):
        return int(state["global_step"]), f"{STATE}"
    name = path.name if path.is_dir() else path.stem
    if marked := _MARKED.findall(name):
        return int(marked[-1]), "the name"
    content = read_file(path) if path.suffix == ".ckpt" and path.is_file() else {}
    if isinstance(content, Mapping) and "global_step" in content:
        return int(content["global_step"]), "global_step of the trainer"
    if numbers := re.findall(r"\d+", name):
        return int(numbers[-1]), "the last number in the name"
    raise ValueError(
        f"Expected a step in the name {path.name}, got no number; pass {{step: path}}, or name the entry of the step "
        "with step_key= (--step-key)"
    )


def _trainer_state(folder: Path) -> dict[str, Any]:
    """Return the state that a Trainer of Hugging Face saves; empty if there is none, or it is damaged."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _without_copies(found: Sequence[Checkpoint], notes: list[str]) -> list[Checkpoint]:
    """Return one checkpoint for each step. A file such as last.ckpt, whose name has no step, is a copy of another."""
    kept: dict[int, Checkpoint] = {}
    for one in sorted(found, key=lambda one: one.origin == "global_step of the trainer"):
        other = kept.setdefault(one.step, one)
        if other is one:
            continue
        if one.origin == "global_step of the trainer" != other.origin and one.path is not None:
            notes.append(f"{one.path.name}: left out, since {other.name} has its step {one.step}")
            continue
        raise ValueError(
            f"Expected one checkpoint for each step, got {other.name} and {one.name}, both of step {one.step} (from "
            f"{one.origin}); pass {{step: path}}, or name the entry of the step with step_key= (--step-key)"
        )
    return [kept[step] for step in sorted(kept)]


def _keys(content: Any) -> str:
    return ", ".join(map(str, content)) or "none" if isinstance(content, Mapping) else type(content).__name__
