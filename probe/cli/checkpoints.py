"""The command ``probe measure``: measure saved checkpoints with probes."""

import argparse
import glob
import io
import re
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import probe
from probe.probeset import ProbeSet
from probe.recording.digest import has_digest, read_checked

_STATES = ("model_state_dict", "state_dict", "model", "model_state", "module")
_WRAPPERS = ("module.", "_orig_mod.", "model.")  # DataParallel, torch.compile, Lightning


def measure(args: argparse.Namespace) -> int:
    """Load the checkpoints in the order of their steps, and observe each."""
    files = _files(args.checkpoints)
    steps = {file: _step(file, args.step_key) for file in files}
    if len({*steps.values()}) < len(files):
        raise ValueError(
            f"Expected one checkpoint for each step, got the steps {sorted(steps.values())}; see --step-key"
        )
    model = _call_factory(args.model)
    if not isinstance(model, nn.Module):
        raise TypeError(
            f"Expected {args.model} to return a torch.nn.Module, got {type(model).__name__}; correct --model"
        )
    files.sort(key=steps.__getitem__)
    _load(model, files[0], args.state_key)  # weights that do not fit raise before a file is created
    probes = ProbeSet([_probe(name) for name in args.probes.split(",") if name])
    probes.attach(model, _call_factory(args.data), path=args.out, mode="overwrite" if args.overwrite else None)
    try:
        for file in files:
            _load(model, file, args.state_key)
            probes.observe(steps[file])
            print(f"step {steps[file]}: {file}", file=sys.stderr)
    finally:
        probes.detach()
    print(f"written: {args.out} ({len(files)} checkpoints); next: probe detect {args.out}")
    return 0


def _files(patterns: Sequence[str]) -> list[Path]:
    files = [Path(name) for pattern in patterns for name in sorted(glob.glob(pattern, recursive=True))]
    if not files:
        raise FileNotFoundError(
            f"Expected files that match {' '.join(patterns)}, got none; check the quotes and the folder"
        )
    return files


def _call_factory(where: str) -> Any:
    """Return the result of the function at "module:name". Modules in the working folder are found too."""
    module, _, name = where.partition(":")
    if not name:
        raise ValueError(f"Expected module:factory, got {where!r}; add the name of the function")
    sys.path.insert(0, "")
    try:
        made = import_module(module)
    finally:
        sys.path.remove("")
    if not hasattr(made, name):
        raise ValueError(f"Expected a function {name!r} in module {module}, got none; check the name")
    return getattr(made, name)()


def _probe(name: str) -> Any:
    if not name.endswith("Probe") or name not in probe.__all__:
        there = ", ".join(n for n in probe.__all__ if n.endswith("Probe"))
        raise ValueError(f"Expected the name of a probe, got {name!r}; there are {there}")
    return getattr(probe, name)()


def _checkpoint(file: Path) -> Any:
    content = io.BytesIO(read_checked(file)[0]) if has_digest(file) else file
    try:
        return torch.load(content, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged archive raises errors of many classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"Expected weights alone in {file}, got other objects or a damaged file ({reason}); "
            "save model.state_dict(), because other objects can run code when they are loaded"
        ) from error


def _step(file: Path, key: str | None) -> int:
    if key is None:
        numbers = re.findall(r"\d+", file.stem)
        if not numbers:
            raise ValueError(
                f"Expected a step in the file name, got {file.name}; name the entry of the step with --step-key"
            )
        return int(numbers[-1])
    content = _checkpoint(file)
    if not isinstance(content, Mapping) or key not in content:
        raise ValueError(f"Expected an entry {key!r} in {file}, got none; there are: {_keys(content)}")
    return int(content[key])


def _load(model: nn.Module, file: Path, key: str | None) -> None:
    """Load all weights of a checkpoint into the model."""
    state = _state(_checkpoint(file), file, key)
    own = model.state_dict().keys()
    for prefix in _WRAPPERS:
        if state and all(name.startswith(prefix) for name in state) and not any(k.startswith(prefix) for k in own):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"Expected the weights of the model in {file}, got others: {error}; check --model") from error


def _state(content: Any, file: Path, key: str | None) -> dict[str, Tensor]:
    """Return the weights in a checkpoint: the named entry, the whole, or the one entry of a usual name."""
    if key is not None and key not in content:
        raise ValueError(f"Expected an entry {key!r} in {file}, got none; there are: {_keys(content)}")
    if key is not None:
        return dict(content[key])
    if _is_state(content):
        return dict(content)
    found = [name for name in _STATES if isinstance(content, Mapping) and _is_state(content.get(name))]
    if len(found) != 1:
        raise ValueError(
            f"Expected one entry of a usual name with weights in {file}, got {len(found)}; name one with --state-key: "
            f"{_keys(content)}"
        )
    return dict(content[found[0]])


def _is_state(entry: Any) -> bool:
    return isinstance(entry, Mapping) and bool(entry) and all(isinstance(value, Tensor) for value in entry.values())


def _keys(content: Any) -> str:
    return ", ".join(map(str, content)) if isinstance(content, Mapping) else type(content).__name__
