"""The models of checkpoints, one in memory at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probe.checkpoints import hugging_face
from probe.checkpoints.distributed import read_distributed
from probe.checkpoints.finding import Checkpoint
from probe.checkpoints.loading import check_same, check_values, fits, load_weights, shapes_of
from probe.checkpoints.weights import (
    DamagedCheckpointError,
    Weights,
    check_complete,
    distributed_in,
    kind_of,
    read_weights,
)


@dataclass
class Models:
    """Maker of models.

    Weights are loaded into the same model where their names fit. Where a function returns the model, or transformers
    renames weights as it loads them, each checkpoint has a model of its own.
    """

    build: Callable[[], nn.Module] | None
    state_key: str | None = None
    device: Any = None

    def __post_init__(self) -> None:
        self._model: nn.Module | None = None
        self._kind: str | None = None
        self._in_place = True
        self._shapes: dict[str, tuple[int, ...]] = {}

    def replaces(self, checkpoint: Checkpoint) -> bool:
        """Return whether :meth:`at` returns another object than before, so that the last one should be released."""
        return checkpoint.make is not None or not self._in_place or self._kind != self._kind_of(checkpoint)

    def release(self) -> None:
        """Drop the model."""
        self._model = None

    def at(self, checkpoint: Checkpoint) -> nn.Module:
        """Return the model of a checkpoint."""
        kind = self._kind_of(checkpoint)
        if checkpoint.make is not None:
            model = self._checked(_called(checkpoint.make, checkpoint), checkpoint)
        else:
            assert checkpoint.path is not None
            model = self._loaded(kind, checkpoint.path)
        self._model, self._kind = model, kind
        self._shapes = self._shapes or shapes_of(model)
        return model

    def _kind_of(self, checkpoint: Checkpoint) -> str | None:
        if checkpoint.path is None:
            return "function"
        kind = kind_of(checkpoint.path)
        return "weights" if kind in ("file", "folder", "distributed") else kind

    def _checked(self, model: Any, checkpoint: Checkpoint) -> nn.Module:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"Expected a torch.nn.Module for {checkpoint.name}, got {type(model).__name__}; correct the function"
            )
        check_values(model)
        if self._shapes:
            check_same(self._shapes, shapes_of(model), checkpoint.name)
        return model if self.device is None else model.to(self.device)

    def _loaded(self, kind: str | None, path: Path) -> nn.Module:
        if kind is None:
            raise DamagedCheckpointError(
                f"Expected weights in {path}, got none; a checkpoint that was being saved when the training ended has "
                "none"
            )
        if kind == "adapter":
            return self._with_adapter(path)
        weights = _weights(path)
        if self.build is None and self._model is None:
            return self._pretrained(path, weights)
        if self._model is None or not self._in_place:
            assert self.build is not None
            self._model = self._made(self.build())
        load_weights(self._model, weights, str(path), self.state_key)
        return self._model

    def _pretrained(self, path: Path, weights: Weights) -> nn.Module:
        """Return the model of a folder of Hugging Face."""
        if not (path / "config.json").exists():
            raise ValueError(
                f"Expected build= (--model), a function that returns the model, for {path}, which has no config.json "
                "of transformers, got None; pass it"
            )
        model = self._made(hugging_face.pretrained(path))
        self._in_place = fits(model, weights)
        if self._shapes:
            check_same(self._shapes, shapes_of(model), str(path))
        return model

    def _with_adapter(self, path: Path) -> nn.Module:
        if self._model is not None and hasattr(self._model, "peft_config"):
            hugging_face.load_adapter(self._model, path)
            return self._model
        base = None if self.build is None else self._made(self.build())
        if base is not None and hasattr(base, "peft_config"):
            check_complete(path)
            hugging_face.load_adapter(base, path)
            return base
        return self._made(hugging_face.with_adapter(path, base))

    def _made(self, model: Any) -> nn.Module:
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"Expected build= (--model) to return a torch.nn.Module, got {type(model).__name__}; correct it"
            )
        check_values(model)
        return model if self.device is None else model.to(torch.device(self.device))


def _called(make: Callable[[], Any], checkpoint: Checkpoint) -> Any:
    try:
        return make()
    except Exception as error:  # such as a download that failed
        raise DamagedCheckpointError(
            f"Expected a model of {checkpoint.name} from the function, got {type(error).__name__}: {error}; call the "
            "function for this step to find the cause"
        ) from error


def _weights(path: Path) -> Weights:
    folder = distributed_in(path) if path.is_dir() else None
    return read_weights(path) if folder is None else read_distributed(folder)
