"""The step of a checkpoint: from the state of its trainer, from its name, or from an entry of the file."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from probe.checkpoints.weights import DamagedCheckpointError, read_file

STATE = "trainer_state.json"
SAVES = "the names of Accelerate, which count its saves"
_FACTORS = {"": 1, "k": 1000, "m": 1_000_000}
_NUMBER = r"(?<!\d)(?<!\d\.)(\d+)(?!\d|\.\d)(?:([km])(?![a-z]))?"  # 100 and 10k, but not 0.25
_MARKED = re.compile(rf"(?:step|iter|iteration|checkpoint|ckpt|update)s?[-_=]?{_NUMBER}", re.IGNORECASE)
_EPOCH = re.compile(rf"(?:epoch|ep)s?[-_=]?{_NUMBER}", re.IGNORECASE)
_ANY = re.compile(_NUMBER, re.IGNORECASE)


class NoStepError(ValueError):
    """A checkpoint whose step is unknown."""


def step_of(path: Path, key: str | None) -> tuple[int, str]:
    """Return the step of a checkpoint, and where it comes from."""
    if key is not None:
        content = read_file(path) if path.is_file() else _trainer_state(path)
        if not isinstance(content, Mapping) or key not in content:
            raise ValueError(f"Expected an entry {key!r} in {path}, got none; there are: {_keys(content)}")
        return whole(content[key]), f"the entry {key!r}"
    if path.is_dir() and (saved := _saved_step(path)) is not None:
        return saved
    name = path.name if path.is_dir() else path.stem
    if marked := _MARKED.findall(name):
        return _value(marked), SAVES if path.is_dir() and _counts_saves(path) else "the name"
    content = read_file(path) if path.suffix == ".ckpt" and path.is_file() else {}
    if isinstance(content, Mapping) and "global_step" in content:
        return int(content["global_step"]), "global_step of the trainer"
    if epochs := _EPOCH.findall(name):
        return _value(epochs), "the epoch in the name"
    if numbers := _ANY.findall(name):
        return _value(numbers), "the last number in the name"
    raise NoStepError(
        f"Expected a step in the name {path.name}, got no number; pass {{step: path}}, or name the entry of the step "
        "with step_key= (--step-key)"
    )


def _value(found: list[tuple[str, str]]) -> int:
    number, unit = found[-1]
    return int(number) * _FACTORS[unit.lower()]


def is_copy(path: Path) -> bool:
    """Return whether the name belongs to a copy of another checkpoint, such as last.ckpt: a name without a number."""
    name = path.name if path.is_dir() else path.stem
    return _ANY.search(name) is None or re.match("last|latest|best|final", name, re.IGNORECASE) is not None


def _saved_step(folder: Path) -> tuple[int, str] | None:
    """Return the step that a Trainer of Hugging Face, or ProbeContext with Accelerate, has saved in a folder."""
    if "global_step" in (state := _trainer_state(folder)):
        return int(state["global_step"]), STATE
    for file in sorted(folder.glob("custom_checkpoint_*.pkl")):
        try:
            content = read_file(file)
        except DamagedCheckpointError:  # what another object has saved
            continue
        if isinstance(content, Mapping) and set(content) == {"step"}:
            return whole(content["step"]), "ProbeContext"
    return None


def _counts_saves(folder: Path) -> bool:
    """Return whether Accelerate has named a folder by the number of earlier saves."""
    return re.fullmatch(r"checkpoint_\d+", folder.name) is not None and any(folder.glob("random_states_*.pkl"))


def _trainer_state(folder: Path) -> dict[str, Any]:
    """Return the state that a Trainer of Hugging Face saves; empty if there is none, or it is damaged."""
    try:
        state = json.loads((folder / STATE).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _keys(content: Any) -> str:
    return ", ".join(map(str, content)) or "none" if isinstance(content, Mapping) else type(content).__name__


def whole(step: Any) -> int:
    """Return a step as an int."""
    try:
        if not isinstance(step, bool) and step >= 0 and int(step) == step:
            return int(step)
    except TypeError:
        pass
    raise ValueError(f"Expected steps that are whole numbers from 0 on, got {step!r}; pass the number of updates")
