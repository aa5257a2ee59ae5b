"""The fixed data of all observations: inputs and targets of each split."""

import hashlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from probe.forward.layers import IGNORED
from probe.forward.row_keys import RowKeys
from probe.forward.saved_values import as_bytes
from probe.reads import moved


@dataclass(frozen=True)
class Shared:
    """An argument of the model that all inputs share, as :func:`shared` marks it."""

    value: Any


def shared(value: Any) -> Shared:
    """Mark an argument of the model that all inputs share: an adjacency matrix, positions, a mask of the whole batch.

    A tensor among the inputs has one row for each input, and a forward pass over some inputs receives their rows. A
    marked argument is passed whole to every forward pass. Numbers, None and 0-d tensors need no mark.

    Parameters
    ----------
    value : Tensor, array, list of numbers, or another object

    Returns
    -------
    Shared
        For use among the inputs of ``attach(model, (inputs, targets))``.

    See Also
    --------
    probe.forward.read_data : Convert data into batches.

    Examples
    --------
    >>> import torch
    >>> from probe import MutualInfoProbe, shared
    >>> class Graphs(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.layer = torch.nn.Linear(2, 3)
    ...
    ...     def forward(self, x, adjacency):
    ...         return self.layer(adjacency @ x).mean(1)
    >>> signals, adjacency = torch.ones(16, 5, 2), torch.eye(5)  # 16 signals on one graph of 5 nodes
    >>> series = MutualInfoProbe().fit(Graphs(), ((signals, shared(adjacency)), None)).series_
    >>> series["information_x"].item()  # all signals are equal
    0.0
    """
    return Shared(to_tensor(value))


def _right_by_position(targets: Tensor) -> Tensor:
    """Return how many targets equal the most frequent class at their position in the other half of the rows."""
    if targets.ndim == 1 or len(targets) < 2:
        return torch.tensor(0)
    alone = -1 - torch.arange(len(targets)).view(-1, *[1] * (targets.ndim - 1))  # equal to no other, unlike IGNORED
    labels = torch.where(targets != IGNORED, targets, alone)
    halves = labels[::2], labels[1::2]
    right = [(half == other.mode(0).values).sum() for half, other in zip(halves, halves[::-1], strict=True)]
    return torch.stack(right).sum()


@dataclass(frozen=True)
class Batch:
    """The fixed inputs and targets of one split.

    Parameters
    ----------
    inputs : Tensor, tuple or mapping
        The model is called with ``model(x)``, ``model(*x)`` or ``model(**x)``. Each tensor with an axis has one row for
        each input, also in a tuple or mapping inside. What :func:`shared` marks, and everything else, is passed whole.
    targets : Tensor or None
    names : tuple of str
        Names of the positional arguments of the model, see :meth:`with_names`. Those of a tuple are known by it.

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
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return _length(self.inputs)

    def digest(self) -> str:
        """Return a fingerprint of the numbers, with which a resumed recording checks that the data is the same."""
        found = hashlib.blake2b(digest_size=8)
        for leaf in [*leaves_of(self.inputs), self.targets]:
            if isinstance(leaf, Shared):
                found.update(b"shared")
                leaf = leaf.value
            if isinstance(leaf, Tensor):
                for part in _dense_parts(leaf.detach().cpu()):
                    found.update(as_bytes(part).numpy().tobytes())
            else:
                found.update(repr(leaf).encode())
        return found.hexdigest()

    @cached_property
    def chance(self) -> float:
        """Accuracy of guessing integer targets: by the largest class, or that of each position if this is better."""
        assert self.cpu_targets is not None
        counts = self.cpu_targets[self.cpu_targets != IGNORED].unique(return_counts=True)[1]
        return (max(counts.max(), _right_by_position(self.cpu_targets)) / counts.sum()).item()

    @cached_property
    def mask(self) -> Tensor | None:
        """Boolean mask (n, T) of the positions that hold a token. None if no input is padded.

        This is the argument ``attention_mask`` of shape (n, T): booleans, or numbers that are 0 at padding.
        A mask with negative numbers is one that the model adds to scores, and is ignored.
        """
        mask = self.named_inputs.get("attention_mask")
        if not isinstance(mask, Tensor) or self.n_positions is None or (mask < 0).any():
            return None
        kept = mask != 0
        return None if kept.all() else kept

    @cached_property
    def cpu_targets(self) -> Tensor | None:
        """The targets on the CPU, read once."""
        return None if self.targets is None else self.targets.cpu()

    @cached_property
    def keys(self) -> RowKeys:
        """Keys of the inputs, by which equal inputs are found."""
        return RowKeys([leaf for leaf in leaves_of(self.inputs) if isinstance(leaf, Tensor) and leaf.ndim])

    @property
    def n_positions(self) -> int | None:
        """Number of positions T of the ``attention_mask`` (n, T) among the inputs. None if there is none."""
        mask = self.named_inputs.get("attention_mask")
        return mask.shape[1] if isinstance(mask, Tensor) and mask.ndim == 2 else None

    @property
    def named_inputs(self) -> Mapping[str, Any]:
        """The arguments of the model by name, as far as names are known."""
        if isinstance(self.inputs, Mapping):
            return self.inputs
        return dict(zip(self.names, self.inputs, strict=False)) if isinstance(self.inputs, tuple) else {}

    def with_names(self, model: nn.Module) -> "Batch":
        """Return the same batch, with the names that the ``forward`` of a model gives its positional arguments."""
        if not isinstance(self.inputs, tuple):
            return self
        try:
            parameters = inspect.signature(model.forward).parameters.values()
        except (TypeError, ValueError):  # a function without a signature
            return self
        kinds = inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
        return replace(self, names=tuple(item.name for item in takewhile(lambda item: item.kind in kinds, parameters)))

    def arguments(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the tensors with one row for each input, with names for error messages."""
        named = self.named_inputs
        known = named if isinstance(self.inputs, tuple) and len(named) == len(self.inputs) else self.inputs
        for name, leaf in _named_leaves(known):
            if isinstance(leaf, Tensor) and leaf.ndim:
                yield name, leaf

    @property
    def n_shared(self) -> int:
        """Number of arguments that all inputs share."""
        return sum(isinstance(leaf, Shared) for leaf in leaves_of(self.inputs))

    def with_targets(self, targets: Tensor | None, shift: int = 0) -> "Batch":
        """Return the same inputs with targets (n, T) of which position t receives the one at t + shift."""
        if targets is not None and shift:
            targets = F.pad(targets.long()[:, shift:], (0, shift), value=IGNORED)
        return replace(self, targets=targets)

    def take(self, rows: Tensor, device: torch.device) -> tuple[Any, Tensor | None]:
        """Return the inputs and targets of these rows on a device, as the model takes them."""
        part = self.subset(rows, device)
        return map_leaves(part.inputs, lambda leaf: leaf.value if isinstance(leaf, Shared) else leaf), part.targets

    def subset(self, rows: Tensor, device: torch.device) -> "Batch":
        """Return the batch of these rows on a device, with the marks of shared arguments."""

        def pick(leaf: Any) -> Any:
            if isinstance(leaf, Shared):
                return Shared(moved(leaf.value, device)) if isinstance(leaf.value, Tensor) else leaf
            if not isinstance(leaf, Tensor):
                return leaf
            return moved(leaf[moved(rows, leaf.device)] if leaf.ndim else leaf, device)

        return Batch(map_leaves(self.inputs, pick), self.targets_of(rows, device), self.names)

    def targets_of(self, rows: Tensor, device: torch.device) -> Tensor | None:
        """Return the targets of these rows on a device."""
        return _rows_of(self.targets, rows, device)

    def mask_of(self, rows: Tensor, device: torch.device) -> Tensor | None:
        """Return the :attr:`mask` of these rows on a device."""
        return _rows_of(self.mask, rows, device)


def _dense_parts(tensor: Tensor) -> list[Tensor]:
    """Return the numbers of a tensor; for a sparse one, such as an adjacency matrix, the indices too."""
    if tensor.layout == torch.strided:
        return [tensor.resolve_conj().resolve_neg()]
    tensor = tensor.to_sparse_coo().coalesce()
    return [tensor.indices(), tensor.values()]


def _rows_of(tensor: Tensor | None, rows: Tensor, device: torch.device) -> Tensor | None:
    return None if tensor is None else moved(tensor[moved(rows, tensor.device)], device)


def read_data(data: Any) -> dict[str, Batch]:
    """Convert data into batches by split.

    Parameters
    ----------
    data : (inputs, targets), (inputs, None), or {split: (inputs, targets)}
        Arrays and lists of numbers become tensors. A single pair becomes the split ``"all"``. Each tensor among the
        inputs has one row for each input, unless :func:`probe.shared` marks it.

    Returns
    -------
    dict of str to Batch
        In the order of the splits.

    Raises
    ------
    TypeError
        If a split is not a pair, or its inputs or targets cannot be converted into tensors.
    ValueError
        If there is no split, a name of a split has a slash, a split has fewer than two inputs, or the numbers of rows
        of inputs and targets differ.

    See Also
    --------
    probe.shared : Mark an argument that all inputs share.
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
            "DataLoader, a dataset or a batch by names pass probe.from_loader(loader, n), for a TensorDataset also "
            "dataset.tensors, for several inputs ((a, b), targets) or ({'a': a}, targets)"
        )
    try:
        inputs, targets = map_leaves(pair[0], to_tensor), to_tensor(pair[1])
    except (TypeError, ValueError, RuntimeError) as error:  # RuntimeError: a list of mappings
        raise TypeError(
            f"Expected numbers in {where}, got a list or an array that cannot become a tensor ({error}); "
            "pass tensors, for example torch.stack(rows), or one mapping of tensors"
        ) from error
    n = _length(inputs)
    _check_rows(inputs, targets, n, where)
    _check_layout(Batch(inputs, None), where)
    if n < 2:
        raise ValueError(f"Expected at least 2 inputs in {where}, got {n}; pass more, since measures compare inputs")
    _check_targets(targets, n, where)
    return Batch(inputs, targets)


def _check_rows(inputs: Any, targets: Any, n: int, where: str) -> None:
    """Raise ValueError for a tensor with another number of rows than there are inputs."""
    found = {name: tuple(leaf.shape) for name, leaf in Batch(inputs, None).arguments()}
    if isinstance(targets, Tensor) and targets.ndim and any(shape[0] == len(targets) for shape in found.values()):
        n = len(targets)
    if wrong := {name: shape for name, shape in found.items() if shape[0] != n}:
        listed = wrong if isinstance(targets, Tensor) else found
        raise ValueError(
            f"Expected one row for each of {n} inputs in every tensor of {where}, got "
            f"{', '.join(f'{name} of shape {shape}' for name, shape in listed.items())}; if all inputs share an "
            "argument, mark it: probe.shared(x)"
        )


def _check_layout(batch: Batch, where: str) -> None:
    """Raise ValueError for a tensor of which some rows cannot be taken."""
    for name, leaf in batch.arguments():
        if leaf.layout != torch.strided or leaf.is_nested:
            kind = "a nested tensor" if leaf.is_nested else f"the layout {leaf.layout}"
            raise ValueError(
                f"Expected dense tensors in {where}, got {kind}{f' in {name}' if name else ''}; pass x.to_dense() or a "
                "padded tensor, and let the model convert it. If all inputs share it, mark it: probe.shared(x)"
            )


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


def to_tensor(leaf: Any) -> Any:
    """Convert an array or a list of numbers into a tensor. Return everything else as it is."""
    return torch.as_tensor(leaf) if isinstance(leaf, (np.ndarray, list)) else leaf


def map_leaves(inputs: Any, function: Callable[[Any], Any]) -> Any:
    """Return inputs with a function applied to each part, also to those in a tuple or mapping inside."""
    if isinstance(inputs, Mapping):
        return {key: map_leaves(value, function) for key, value in inputs.items()}
    if isinstance(inputs, tuple) and not isinstance(inputs, PackedSequence):
        items = [map_leaves(value, function) for value in inputs]
        return type(inputs)(*items) if hasattr(inputs, "_fields") else tuple(items)
    return function(inputs)


def leaves_of(inputs: Any) -> list[Any]:
    """Return the parts of inputs, in the order of :func:`map_leaves`."""
    return [leaf for _, leaf in _named_leaves(inputs)]


def _named_leaves(inputs: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the arguments of the model with a name for error messages."""
    if isinstance(inputs, Mapping):
        parts = [(f"{name}[{key!r}]" if name else f"argument {key!r}", value) for key, value in inputs.items()]
    elif isinstance(inputs, tuple) and not isinstance(inputs, PackedSequence):
        parts = [(f"{name}[{i}]" if name else f"argument {i}", value) for i, value in enumerate(inputs)]
    else:
        yield name, inputs
        return
    for part, value in parts:
        yield from _named_leaves(value, part)


def _length(inputs: Any) -> int:
    leaves = leaves_of(inputs)
    if any(isinstance(leaf, PackedSequence) for leaf in leaves):
        raise TypeError(
            "Expected inputs with one row for each input, got a packed sequence; pass the padded sequences and their "
            "lengths, and let the model pack them"
        )
    first = next((leaf for leaf in leaves if isinstance(leaf, Tensor) and leaf.ndim), None)
    if first is not None:
        return len(first)
    if any(isinstance(leaf, Shared) for leaf in leaves):
        raise ValueError(
            "Expected a tensor with one row for each input, got shared arguments alone; leave the mark out of what "
            "differs between inputs. The nodes of a single graph are no inputs that can be measured one by one: pass "
            "several graphs, or several signals on one graph"
        )
    raise TypeError(
        f"Expected inputs to be a tensor, or a tuple or mapping of tensors, got {type(inputs).__name__}; "
        "convert them into tensors"
    )


def shape_of(inputs: Any) -> str:
    """Return the shapes and dtypes of inputs, for error messages."""
    if isinstance(inputs, Shared):
        return f"shared {shape_of(inputs.value)}"
    if isinstance(inputs, Tensor):
        return f"shape {tuple(inputs.shape)}, {str(inputs.dtype).removeprefix('torch.')}"
    if isinstance(inputs, Mapping):
        return ", ".join(f"{key}: {shape_of(value)}" for key, value in inputs.items())
    if isinstance(inputs, tuple):
        return ", ".join(shape_of(value) for value in inputs)
    return type(inputs).__name__
