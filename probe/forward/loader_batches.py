"""Batches with the chosen rows of a data loader, of a dataset, or of an iterable."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from probe.errors import warn_user
from probe.forward.data import Batch, Shared, leaves_of, map_leaves, to_tensor


def chosen_batches(
    loader: Any, n: int, random_state: int | None, collate: Callable[[list[Any]], Any] | None, columns: set[str] | None
) -> list[Any]:
    """Return one batch of the chosen rows of a loader or dataset, or the first batches of an iterable.

    With ``collate``, an iterable yields single rows.
    """
    if _has_numbered_rows(loader):
        if collate is not None:
            raise ValueError(
                "Expected no collate= beside a DataLoader, which has its own, got one; pass loader.dataset"
            )
        numbers = _numbers(loader, n, random_state)
        return [loader.collate_fn(_rows(loader.dataset, numbers))] if numbers else []
    if _is_indexed(loader) and (collate is not None or not isinstance(loader, (list, tuple, Tensor, Mapping))):
        rows = _rows(loader, _chosen(range(len(loader)), n, random_state))
        return _one_batch(rows, collate or _collated, columns)
    _check_iterable(loader, random_state)
    if collate is not None:
        if isinstance(loader, torch_data.DataLoader):
            raise ValueError(
                "Expected no collate= beside a DataLoader, which has its own, got one; pass loader.dataset"
            )
        return _one_batch(list(islice(loader, n)), collate, columns)
    return _batches(loader, n)


def _one_batch(rows: list[Any], collate: Callable[[list[Any]], Any], columns: set[str] | None) -> list[Any]:
    rows = [{k: row[k] for k in row if k in columns} if columns and isinstance(row, Mapping) else row for row in rows]
    return [collate(rows)] if rows else []


def _has_numbered_rows(loader: Any) -> bool:
    """Return whether this is a DataLoader, perhaps of another library, whose rows are chosen by their numbers."""
    parts = all(hasattr(loader, name) for name in ("dataset", "collate_fn", "batch_sampler"))
    return parts and loader.batch_sampler is not None and _is_indexed(loader.dataset)


def _is_indexed(data: Any) -> bool:
    stream = isinstance(data, (torch_data.IterableDataset, torch_data.DataLoader)) or hasattr(data, "__next__")
    return not stream and hasattr(data, "__getitem__") and hasattr(data, "__len__")


@contextmanager
def kept_generators(loader: Any) -> Iterator[None]:
    """Context manager that restores the generators of a loader and of its sampler."""
    owners = [loader, getattr(loader, "sampler", None)]
    found = [getattr(owner, "generator", None) for owner in owners]
    states = [(one, one.get_state()) for one in found if isinstance(one, torch.Generator)]
    try:
        yield
    finally:
        for generator, state in states:
            generator.set_state(state)


def _numbers(loader: Any, n: int, random_state: int | None) -> list[int]:
    """Return the numbers of rows of a loader: those of its dataset, or those that its sampler chooses."""
    sampler = getattr(loader, "sampler", None)
    if sampler is None or isinstance(sampler, (torch_data.SequentialSampler, torch_data.RandomSampler)):
        return _chosen(range(len(loader.dataset)), n, random_state)
    if isinstance(sampler, torch_data.SubsetRandomSampler):
        return _chosen(sorted(sampler.indices), n, random_state)
    found = islice(chain.from_iterable(loader.batch_sampler), len(loader.dataset))
    return _chosen(list(dict.fromkeys(found)), n, random_state)


def _chosen(numbers: Sequence[int], n: int, random_state: int | None) -> list[int]:
    """Return the first n of the numbers, or n of them at random in their order."""
    if random_state is None:
        return list(numbers[:n])
    order = torch.randperm(len(numbers), generator=torch.Generator().manual_seed(random_state))
    return [numbers[i] for i in sorted(order[:n].tolist())]


def _rows(dataset: Any, numbers: list[int]) -> list[Any]:
    several = getattr(dataset, "__getitems__", None)
    return list(several(numbers)) if several is not None else [dataset[i] for i in numbers]


def _collated(rows: list[Any]) -> Any:
    """Join rows of the same shapes. Lists of numbers in a row are tensors."""
    try:
        return torch_data.default_collate([map_leaves(row, _tensor) for row in rows])
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"Expected rows of the same shapes, which make tensors, got {error}; pass collate=, such as "
            "DataCollatorWithPadding(tokenizer), or inputs=[names] to leave out other columns"
        ) from error


def _check_iterable(loader: Any, random_state: int | None) -> None:
    """Raise an error unless this is an iterable that is read from its start."""
    if isinstance(loader, (Tensor, Mapping, str)) or not isinstance(loader, Iterable):
        raise TypeError(
            f"Expected a DataLoader, a dataset or an iterable of batches, got {type(loader).__name__}; tensors go to "
            "attach as (inputs, targets), and several splits as {split: from_loader(loaders[split], n)}"
        )
    if random_state is not None:
        raise ValueError(
            f"Expected rows with numbers for a random choice, got {type(loader).__name__}, which is read from its "
            "start; leave random_state= out, or pass a dataset with len() and [i]"
        )
    if hasattr(loader, "__next__"):
        warn_user(
            f"Expected data that can be read again, got the iterator {type(loader).__name__}, which loses the batches "
            "that are read here; pass the loader itself"
        )


def _batches(loader: Any, n: int) -> list[Any]:
    """Return the first batches of an iterable, with at least n rows if it has them."""
    found: list[Any] = []
    rows = 0
    for batch in loader:
        found.append(batch)
        rows += len(Batch(normalised(batch), None))
        if rows >= n:
            break
    return found


def normalised(batch: Any) -> Any:
    """Return a batch with dicts for mappings, tuples for lists of tensors, and tensors for arrays and numbers."""
    if isinstance(batch, Mapping):
        return {key: _numbers_as_tensor(value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        items = [_numbers_as_tensor(item) if isinstance(item, list) else normalised(item) for item in batch]
        if any(map(holds_tensors, items)):
            return type(batch)(*items) if hasattr(batch, "_fields") else tuple(items)
    return _tensor(batch)


def _numbers_as_tensor(part: Any) -> Any:
    """Return a part of a batch. A list of numbers, or of numbers for each row, is one tensor."""
    if not isinstance(part, list):
        return normalised(part)
    if part and all(isinstance(item, Tensor) and not item.ndim for item in part):
        return torch.stack(part)
    has_arrays = any(isinstance(leaf, (Tensor, Shared, np.ndarray)) for leaf in _items(part))
    return normalised(part) if has_arrays else _tensor(part)


def _items(part: Any) -> Iterator[Any]:
    """Yield what is in lists, tuples and mappings."""
    if isinstance(part, (list, tuple, Mapping)):
        for item in part.values() if isinstance(part, Mapping) else part:
            yield from _items(item)
    else:
        yield part


def _tensor(leaf: Any) -> Any:
    try:
        return to_tensor(leaf)
    except (TypeError, ValueError):  # text, rows of different lengths
        return leaf


def holds_tensors(value: Any) -> bool:
    """Return whether a part of a batch holds tensors."""
    return any(isinstance(leaf, (Tensor, Shared)) for leaf in leaves_of(value))
