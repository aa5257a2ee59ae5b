"""The fixed data of all observations: inputs and targets of each split."""

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
    """The fixed inputs and targets of one split.

    Parameters
    ----------
    inputs : Tensor, tuple or mapping
        The model is called with ``model(x)``, ``model(*x)`` or ``model(**x)``. A tensor whose first axis has as many
        entries as there are inputs has one row for each input. Other values are passed whole.
    targets : Tensor or None

    See Also
    --------
    read_data : Convert data into batches.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import Batch
    >>> batch = Batch(torch.arange(8).reshape(4, 2), torch.tensor([0, 1, 1, 0]))
    >>> inputs, targets = batch.take(torch.tensor([0, 3]), torch.device("cpu"))
    >>> len(batch), inputs.tolist(), targets.tolist()
    (4, [[0, 1], [6, 7]], [0, 0])
    """

    inputs: Any
    targets: Tensor | None

    def __len__(self) -> int:
        return _length(self.inputs)

    def digest(self) -> str:
        """Return a fingerprint of the numbers, with which a resumed recording checks that the data is the same."""
        found = hashlib.blake2b(digest_size=8)
        for leaf in [*_leaves(self.inputs), self.targets]:
            if isinstance(leaf, Tensor):
                found.update(leaf.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
            else:
                found.update(repr(leaf).encode())
        return found.hexdigest()

    @cached_property
    def chance(self) -> float:
        """Fraction of the largest class among integer targets."""
        assert self.targets is not None
        counts = self.targets[self.targets != IGNORED].unique(return_counts=True)[1]
        return (counts.max() / counts.sum()).item()

    def padded_at_the_end(self) -> int:
        """Return the number of inputs that end with padding, according to an ``attention_mask`` (n, T) among them."""
        mask = self.inputs.get("attention_mask") if isinstance(self.inputs, Mapping) else None
        return int((mask[:, -1] == 0).sum()) if isinstance(mask, Tensor) and mask.ndim == 2 else 0

    def take(self, rows: Tensor, device: torch.device) -> tuple[Any, Tensor | None]:
        """Return the inputs and targets of these rows on a device."""
        return _map_leaves(self.inputs, self._picker(rows, device)), self.targets_of(rows, device)

    def targets_of(self, rows: Tensor, device: torch.device) -> Tensor | None:
        """Return the targets of these rows on a device."""
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
    """Convert data into batches by split.

    Parameters
    ----------
    data : (inputs, targets), (inputs, None), or {split: (inputs, targets)}
        Arrays and lists of numbers become tensors. A single pair becomes the split ``"all"``.

    Returns
    -------
    dict of str to Batch
        In the order of the splits.

    Raises
    ------
    TypeError
        If a split is not a pair, or its inputs or targets cannot be converted into tensors.
    ValueError
        If there is no split, a name of a split has a slash, a split has fewer than two inputs, or the numbers of inputs
        and targets differ.

    See Also
    --------
    probe.Snapshot : Run forward passes over batches.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import read_data
    >>> x, y = torch.zeros(10, 3), torch.zeros(10).long()
    >>> {split: len(batch) for split, batch in read_data((x, y)).items()}
    {'all': 10}
    >>> {split: len(batch) for split, batch in read_data({"train": (x[:8], y[:8]), "test": (x[8:], y[8:])}).items()}
    {'train': 8, 'test': 2}
    """
    if isinstance(data, Mapping):
        if not data:
            raise ValueError("Expected {split: (inputs, targets)}, got an empty mapping; add at least one split")
        if slashed := [split for split in data if "/" in str(split)]:
            raise ValueError(
                f"Expected names of splits with no slash, got {slashed}; rename these splits, since NetCDF forbids "
                "slashes in names of variables"
            )
        return {str(split): _batch(pair, f"split {split!r}") for split, pair in data.items()}
    return {"all": _batch(data, "data")}


def _batch(pair: Any, where: str) -> Batch:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise TypeError(
            f"Expected {where} to be a pair (inputs, targets) or (inputs, None), got {type(pair).__name__}; for a "
            "DataLoader pass next(iter(loader)), for several inputs pass ((a, b), targets) or ({'a': a}, targets)"
        )
    try:
        inputs, targets = _map_leaves(pair[0], _to_tensor), _to_tensor(pair[1])
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Expected numbers in {where}, got a list or an array that cannot become a tensor ({error}); "
            "pass tensors, for example torch.stack(rows)"
        ) from error
    n = _length(inputs)
    if n < 2:
        raise ValueError(f"Expected at least 2 inputs in {where}, got {n}; pass more, since measures compare inputs")
    _check_targets(targets, n, where)
    return Batch(inputs, targets)


def _check_targets(targets: Any, n: int, where: str) -> None:
    if isinstance(targets, Tensor):
        if targets.ndim == 0 or len(targets) != n:
            count = len(targets) if targets.ndim else "a single number"
            raise ValueError(f"Expected {n} targets for {n} inputs in {where}, got {count}; pass one for each input")
    elif targets is not None:
        raise TypeError(
            f"Expected the targets of {where} to be a tensor, an array or None, got {type(targets).__name__}; "
            "convert them into a tensor"
        )


def _to_tensor(leaf: Any) -> Any:
    return torch.as_tensor(leaf) if isinstance(leaf, (np.ndarray, list)) else leaf


def _map_leaves(inputs: Any, function: Callable[[Any], Any]) -> Any:
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
        raise TypeError(
            f"Expected inputs to be a tensor, or a tuple or mapping of tensors, got {type(inputs).__name__}; "
            "convert them into tensors"
        )
    return len(first)


def shape_of(inputs: Any) -> str:
    """Return the shapes and dtypes of inputs, for error messages."""
    if isinstance(inputs, Tensor):
        return f"shape {tuple(inputs.shape)}, {str(inputs.dtype).removeprefix('torch.')}"
    if isinstance(inputs, Mapping):
        return ", ".join(f"{key}: {shape_of(value)}" for key, value in inputs.items())
    if isinstance(inputs, tuple):
        return ", ".join(shape_of(value) for value in inputs)
    return type(inputs).__name__
