"""The weights in a checkpoint by name. Only tensors are read: no pickled object is ever executed.

Entries of nested mappings have names with slashes, such as ``state_dict/net.0.weight``.
"""

import argparse
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.recording.digest import has_digest, read_checked

_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_FILES = ("model.safetensors", "pytorch_model.bin")
_HARMLESS: list[Any] = [  # numbers and settings that loops save beside the weights; making them runs no other code
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("bool", "int32", "int64", "float32", "float64")),
    *((np.float64(0).__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]
ADAPTERS = ("adapter_model.safetensors", "adapter_model.bin")


class DamagedCheckpointError(ValueError):
    """A checkpoint is damaged or incomplete. It is left out, and the others are measured."""


@dataclass(frozen=True)
class Weights:
    """Shapes of all tensors in a checkpoint by name, and a function that reads some of them."""

    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[Sequence[str]], dict[str, Tensor]]


def kind_of(path: Path) -> str | None:
    """Return the kind of a checkpoint: file, folder, adapter or distributed. None: it is none."""
    if not path.is_dir():
        return "file" if path.exists() else None
    if distributed_in(path) is not None:
        return "distributed"
    if (path / "adapter_config.json").exists():
        return "adapter"
    return "folder" if any((path / name).exists() for name in (*_INDICES, *_FILES)) else None


def distributed_in(folder: Path) -> Path | None:
    """Return the folder of ``torch.distributed.checkpoint``: this one, or the one that FSDP makes inside it."""
    found = [folder / ".metadata", *sorted(folder.glob("pytorch_model_fsdp*/.metadata"))]
    return next((file.parent for file in found if file.exists()), None)


def read_weights(path: Path) -> Weights:
    """Return the weights in a file, or in a folder of weights."""
    if not path.is_dir():
        return _in_memory(read_file(path))
    found: dict[str, Tensor] = {}
    for file in _files_of(path):
        found |= _flat(read_file(file))
    return _in_memory(found)


def _files_of(folder: Path) -> list[Path]:
    """Return the files of weights of a folder. A missing one raises DamagedCheckpointError."""
    for index in (folder / name for name in _INDICES):
        if index.exists():
            names = sorted(set(_weight_map(index).values()))
            if missing := [name for name in names if not (folder / name).exists()]:
                raise DamagedCheckpointError(
                    f"Expected the shards of {index.name} in {folder}, got none called {', '.join(missing)}; copy the "
                    "whole folder"
                )
            return [folder / name for name in names]
    for name in (*_FILES, *ADAPTERS):
        if (folder / name).exists():
            return [folder / name]
    raise DamagedCheckpointError(
        f"Expected weights in {folder}, got none of {', '.join((*_FILES, *ADAPTERS))}; copy the whole folder"
    )


def _weight_map(index: Path) -> dict[str, str]:
    try:
        return dict(json.loads(index.read_text())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpointError(
            f"Expected a weight_map in {index}, got a damaged file ({error}); copy the whole folder"
        ) from error


def check_complete(folder: Path) -> None:
    """Raise DamagedCheckpointError if a file of weights is missing or cut off, without reading numbers."""
    for file in _files_of(folder):
        read_file(file)


def read_file(file: Path) -> Any:
    """Return the content of a file of tensors."""
    try:
        return _safetensors(file) if file.suffix == ".safetensors" else _torch_file(file)
    except OSError as error:  # such as a trainer that removes its oldest checkpoint
        raise DamagedCheckpointError(
            f"Expected to read {file}, got {error}; check whether it is still there"
        ) from error


def _safetensors(file: Path) -> dict[str, Tensor]:
    safetensors = package("safetensors.torch", f"to read {file.name}")
    try:
        return dict(safetensors.load_file(file))
    except FileNotFoundError:
        raise
    except Exception as error:  # SafetensorError is no subclass of ValueError
        raise DamagedCheckpointError(
            f"Expected tensors in {file}, got a damaged or incomplete file ({error}); copy it again"
        ) from error


def _torch_file(file: Path) -> Any:
    content: Any = file
    try:
        if has_digest(file):
            content = io.BytesIO(read_checked(file)[0])
        mapped = content is file and zipfile.is_zipfile(file)
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(content, map_location="cpu", weights_only=True, mmap=mapped or None)
    except OSError:
        raise
    except Exception as error:  # a damaged archive raises errors of many classes
        objects = re.search(r"GLOBAL (\S+)", str(error))
        first = (str(error).splitlines() or [type(error).__name__])[0]
        reason = "a pickle" if first.startswith("Weights only load failed") else first  # torch advises to load it
        reason = f"an object of {objects[1]}" if objects else reason
        raise DamagedCheckpointError(
            f"Expected weights alone in {file}, got other objects or a damaged file ({reason}); "
            "save model.state_dict(), because other objects can run code when they are loaded"
        ) from error


def package(name: str, purpose: str) -> Any:
    """Return an optional package, or raise an ImportError that names it."""
    try:
        return import_module(name)
    except ImportError as error:
        top = name.split(".")[0]
        raise ImportError(f"Expected the package {top} {purpose}, got none; pip install {top} ({error})") from error


def _in_memory(content: Any) -> Weights:
    flat = _flat(content)
    return Weights(
        {name: tuple(tensor.shape) for name, tensor in flat.items()}, lambda names: {name: flat[name] for name in names}
    )


def _flat(content: Any) -> dict[str, Tensor]:
    return dict(_entries(content, "")) if isinstance(content, Mapping) else {}


def _entries(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for key, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from _entries(value, f"{prefix}{key}/")
