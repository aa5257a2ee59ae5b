"""The fixed data that every observation looks at: inputs and targets, by split."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.forward.layers import IGNORED


@dataclass(frozen=True)
class Batch:
    """The fixed inputs and targets of one split."""

    inputs: Any
    targets: Tensor | None

    def __len__(self) -> int:
        return _length(self.inputs)

    def digest(self) -> str:
        """A fingerprint of the numbers, so that a recording goes on with the data that it began with."""
        found = hashlib.blake2b(digest_size=8)
        for leaf in [*_leaves(self.inputs), self.targets]:
            if isinstance(leaf, Tensor):
                found.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            else:
                found.update(repr(leaf).encode())
        return found.hexdigest()

    @cached_property
    def chance(self) -> float:
        """Share of the largest class among the targets, which are integers."""
        assert self.targets is not None
        counts = self.targets[self.targets != IGNORED].unique(return_counts=True)[1]
        return (counts.max() / counts.sum()).item()

    def padded_at_the_end(self) -> int:
        """How many inputs end with padding, as far as an ``attention_mask`` (n, T) among them says so."""
        mask = self.inputs.get("attention_mask") if isinstance(self.inputs, Mapping) else None
        return int((mask[:, -1] == 0).sum()) if isinstance(mask, Tensor) and mask.ndim == 2 else 0

    def take(self, rows: Tensor, device: torch.device) -> tuple[Any, Tensor | None]:
        """These rows, on this device."""
        return _mapped(self.inputs, self._picker(rows, device)), self.targets_of(rows, device)

    def targets_of(self, rows: Tensor, device: torch.device) -> Tensor | None:
        """The targets of these rows, on this device."""
        return None if self.targets is None else self.targets[rows.to(self.targets.device)].to(device)

    def _picker(self, rows: Tensor, device: torch.device) -> Callable[[Any], Any]:
        n = len(self)

        def pick(leaf: Any) -> Any:
            if not isinstance(leaf, Tensor):
                return leaf
            if leaf.ndim and leaf.shape[0] == n:
                leaf = leaf[rows.to(leaf.device)]
            return leaf.to(device)

        return pick


def read_data(data: Any) -> dict[str, Batch]:
    """``(x, y)``, ``(x, None)`` or ``{split: (x, y)}`` as batches by split; a single one is called ``all``."""
    if isinstance(data, Mapping):
        if not data:
            raise ValueError("data has no split; expected (inputs, targets) or {split: (inputs, targets)}")
        if slashed := [split for split in data if "/" in str(split)]:
            raise ValueError(f"a split names variables, and NetCDF allows no slash in their names, got {slashed}")
        return {str(split): _batch(pair, f"split {split!r}") for split, pair in data.items()}
    return {"all": _batch(data, "data")}


def _batch(pair: Any, where: str) -> Batch:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"{where} must be a pair (inputs, targets), targets may be None; got {type(pair).__name__}. "
            "From a DataLoader: next(iter(loader)); several inputs: ((a, b), targets) or ({'a': a}, targets)"
        )
    try:
        inputs, targets = _mapped(pair[0], _tensor), _tensor(pair[1])
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{where} holds a list or an array that makes no tensor ({error}); give tensors: torch.stack(rows)"
        ) from error
    n = _length(inputs)
    if n < 2:
        raise ValueError(f"{where} has {n} sample(s); measures compare inputs, so at least 2 are needed")
    if isinstance(targets, Tensor):
        if targets.ndim == 0 or len(targets) != n:
            came = len(targets) if targets.ndim else "a single number"
            raise ValueError(f"{where}: {n} inputs need {n} targets, got {came}")
    elif targets is not None:
        raise TypeError(f"{where}: targets must be a tensor, an array or None, got {type(targets).__name__}")
    return Batch(inputs, targets)


def _tensor(leaf: Any) -> Any:
    return torch.as_tensor(leaf) if isinstance(leaf, (np.ndarray, list)) else leaf


def _mapped(inputs: Any, function: Callable[[Any], Any]) -> Any:
    if isinstance(inputs, Mapping):
        return {key: function(value) for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(function(value) for value in inputs)
    return function(inputs)


def _leaves(inputs: Any) -> list[Any]:
    return list(inputs.values() if isinstance(inputs, Mapping) else inputs if isinstance(inputs, tuple) else [inputs])


def _length(inputs: Any) -> int:
    first = next((leaf for leaf in _leaves(inputs) if isinstance(leaf, Tensor) and leaf.ndim), None)
    if first is None:
        raise TypeError(f"inputs must be a tensor, or a tuple or mapping of tensors, got {type(inputs).__name__}")
    return len(first)


def shape_of(inputs: Any) -> str:
    """Shapes and types of inputs, for messages."""
    if isinstance(inputs, Tensor):
        return f"shape {tuple(inputs.shape)}, {str(inputs.dtype).removeprefix('torch.')}"
    if isinstance(inputs, Mapping):
        return ", ".join(f"{key}: {shape_of(value)}" for key, value in inputs.items())
    if isinstance(inputs, tuple):
        return ", ".join(shape_of(value) for value in inputs)
    return type(inputs).__name__
