"""Fixed rows of a data loader, as (inputs, targets) for ``attach``."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any

import torch
from torch import Tensor
from torch.utils import data as torch_data

from probe.errors import warn_user
from probe.forward.batching import seeded
from probe.forward.data import Batch, Shared, leaves_of, map_leaves, to_tensor
from probe.forward.padding import joined

TARGETS = ("labels", "label", "label_ids", "targets", "target", "y")
_AUTO = "auto"


def from_loader(
    loader: Any,
    n: int,
    *,
    inputs: str | int | Sequence[str | int] | None = None,
    targets: str | int | None = _AUTO,
    random_state: int | None = None,
    collate: Callable[[list[Any]], Any] | None = None,
    pad: Mapping[str | int, float] | None = None,
) -> tuple[Any, Tensor | None]:
    """Return n fixed rows of a data loader or a dataset, as the pair (inputs, targets) that ``attach`` takes.

    Parameters
    ----------
    loader : DataLoader, Dataset, or iterable of batches
        A ``DataLoader`` of a dataset with numbered rows is not iterated: its dataset gives the rows, and its
        ``collate_fn`` joins them, so all have the same padding. A dataset is anything with ``len()`` and ``[i]`` that
        is no list or tuple, such as one of Hugging Face. Any other iterable yields batches, and may have no length.
    n : int
        Number of rows. If there are fewer, all are returned with a warning.
    inputs : str, int, or list of them, optional
        What the model takes of a batch: names in a mapping, or positions in a tuple. One name or position gives
        ``model(x)``, a list gives ``model(**x)`` or ``model(*x)``. Default: every tensor except the targets.
    targets : str, int or None
        Name or position of the targets. ``"auto"``: the one of ``labels``, ``label``, ``label_ids``, ``targets``,
        ``target`` and ``y`` in a mapping, and the second of two items of a tuple. None: the batch has none, or they
        stay among the inputs, because the model derives further inputs from its ``labels``, as T5 does.
    random_state : int, optional
        None: the first n rows, whatever the order of the loader. Otherwise the seed of a random choice, and of what
        dataset and ``collate_fn`` draw.
    collate : callable, optional
        Function that joins a list of rows of a dataset, such as ``DataCollatorWithPadding(tokenizer)``. It receives the
        columns ``inputs`` and ``targets`` if ``inputs`` is a list of names. Default: ``default_collate`` of PyTorch.
    pad : mapping, optional
        Value at padding by name or position, for iterables whose batches have different lengths. Default: 0 for
        ``attention_mask``, -100 for integer targets, and the value at positions that ``attention_mask`` leaves out.

    Returns
    -------
    inputs : Tensor, tuple or dict
    targets : Tensor or None

    Raises
    ------
    TypeError
        If the loader is neither a dataset nor an iterable of batches of tensors.
    ValueError
        If ``n`` is less than 2, no row exists, the targets are ambiguous, a name does not exist, batches have other
        lengths without a known value for padding, or rows of an iterable are to be chosen at random.

    Warns
    -----
    probe.errors.ProbeWarning
        If there are fewer than n rows, an iterator loses the batches that were read, or entries of a batch that are no
        tensors are left out.

    See Also
    --------
    probe.shared : Mark an argument that all inputs share.
    probe.ProbeSet.attach : Takes the pair, or ``{split: pair}``.

    Notes
    -----
    Global random states and the generator of the loader stay unchanged. A sampler that chooses rows, such as
    ``SubsetRandomSampler`` or ``DistributedSampler``, restricts the rows to its own. Labels of a causal language model
    are returned as they are; ``attach(targets_shift=)`` moves them, and recognises most of them.

    Examples
    --------
    >>> import torch
    >>> from torch.utils.data import DataLoader, TensorDataset
    >>> from probe import from_loader
    >>> loader = DataLoader(TensorDataset(torch.arange(10.0).view(10, 1), torch.arange(10)), 2, shuffle=True)
    >>> x, y = from_loader(loader, 4)
    >>> x.shape, y.tolist()
    (torch.Size([4, 1]), [0, 1, 2, 3])
    """
    if type(n) is not int or n < 2:
        raise ValueError(f"Expected at least 2 rows as n, got {n!r}; pass more, since measures compare inputs")
    with _kept_generators(loader), seeded(0 if random_state is None else random_state):
        batches = _read(loader, n, random_state, collate, _columns(inputs, targets))
    if not batches:
        raise ValueError(f"Expected rows in the {type(loader).__name__}, got none; check the dataset or its filter")
    pairs = [_split(_normalised(batch), inputs, targets) for batch in batches]
    tokenizer = getattr(getattr(loader, "collate_fn", None), "tokenizer", None)
    found, found_targets = joined(pairs, n, pad or {}, tokenizer)
    rows_found = len(Batch(found, None))
    if rows_found < n:
        warn_user(f"Expected {n} rows, got {rows_found}; all of them are used. Pass n={rows_found} to confirm")
    return found, found_targets


def _read(
    loader: Any, n: int, random_state: int | None, collate: Callable[[list[Any]], Any] | None, columns: set[str] | None
) -> list[Any]:
    """Return one batch of the chosen rows of a loader or dataset, or the first batches of an iterable."""
    if _has_numbered_rows(loader):
        if collate is not None:
            raise ValueError(
                "Expected no collate= beside a DataLoader, which has its own, got one; pass loader.dataset"
            )
        numbers = _numbers(loader, n, random_state)
        return [loader.collate_fn(_rows(loader.dataset, numbers))] if numbers else []
    if _is_indexed(loader) and (collate is not None or not isinstance(loader, (list, tuple, Tensor, Mapping))):
        rows = _rows(loader, _chosen(range(len(loader)), n, random_state))
        rows = [
            {k: row[k] for k in row if k in columns} if columns and isinstance(row, Mapping) else row for row in rows
        ]
        return [(collate or _collated)(rows)] if rows else []
    return _batches(loader, n, random_state)


def _has_numbered_rows(loader: Any) -> bool:
    """Return whether this is a DataLoader, perhaps of another library, whose rows are chosen by their numbers."""
    parts = all(hasattr(loader, name) for name in ("dataset", "collate_fn", "batch_sampler"))
    return parts and loader.batch_sampler is not None and _is_indexed(loader.dataset)


def _is_indexed(data: Any) -> bool:
    stream = isinstance(data, (torch_data.IterableDataset, torch_data.DataLoader)) or hasattr(data, "__next__")
    return not stream and hasattr(data, "__getitem__") and hasattr(data, "__len__")


@contextmanager
def _kept_generators(loader: Any) -> Iterator[None]:
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


def _columns(inputs: Any, targets: Any) -> set[str] | None:
    """Return the names that a collator receives. None: all."""
    if inputs is None or isinstance(inputs, (str, int)):
        return None
    return {*inputs, *(TARGETS if targets == _AUTO else [] if targets is None else [targets])}


def _collated(rows: list[Any]) -> Any:
    """Join rows of the same shapes. Lists of numbers in a row are tensors."""
    try:
        return torch_data.default_collate([map_leaves(row, _tensor) for row in rows])
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"Expected rows of the same shapes, which make tensors, got {error}; pass collate=, such as "
            "DataCollatorWithPadding(tokenizer), or inputs=[names] to leave out other columns"
        ) from error


def _batches(loader: Any, n: int, random_state: int | None) -> list[Any]:
    """Return the first batches of an iterable, with at least n rows if it has them."""
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
    found: list[Any] = []
    rows = 0
    for batch in loader:
        found.append(batch)
        rows += len(Batch(_normalised(batch), None))
        if rows >= n:
            break
    return found


def _normalised(batch: Any) -> Any:
    """Return a batch with dicts for mappings, tuples for lists of tensors, and tensors for arrays and numbers."""
    if isinstance(batch, Mapping):
        return {key: _normalised(value) for key, value in batch.items()}
    if isinstance(batch, (tuple, list)):
        items = [_normalised(item) for item in batch]
        if any(map(_holds_tensors, items)):
            return type(batch)(*items) if hasattr(batch, "_fields") else tuple(items)
    return _tensor(batch)


def _tensor(leaf: Any) -> Any:
    try:
        return to_tensor(leaf)
    except (TypeError, ValueError):  # text, rows of different lengths
        return leaf


def _holds_tensors(value: Any) -> bool:
    return any(isinstance(leaf, (Tensor, Shared)) for leaf in leaves_of(value))


def _split(batch: Any, inputs: Any, targets: Any) -> tuple[Any, Any]:
    """Return inputs and targets of one batch."""
    if isinstance(batch, Mapping):
        return _split_mapping(batch, inputs, targets)
    if not isinstance(batch, tuple):
        return batch, None
    items = batch
    if targets == _AUTO and inputs is None and len(items) > 2:
        raise ValueError(
            f"Expected batches (inputs, targets), got {len(items)} items; pass their positions, such as targets=1 and "
            "inputs=0, or inputs=[0, 2] for several arguments"
        )
    for name in [targets, *(inputs if isinstance(inputs, (list, tuple)) else [inputs])]:
        if name not in (None, _AUTO) and not (isinstance(name, int) and -len(items) <= name < len(items)):
            raise ValueError(f"Expected positions in a batch of {len(items)} items, got {name!r}; pass numbers")
    place = (1 if len(items) == 2 and inputs in (None, 0) else None) if targets == _AUTO else targets
    own = [i for i in range(len(items)) if place is None or i != place % len(items)] if inputs is None else inputs
    single = own if isinstance(own, int) else own[0] if inputs is None and len(own) == 1 else None
    chosen = items[single] if single is not None else tuple(items[i] for i in own)
    return chosen, None if place is None else items[place]


def _split_mapping(batch: Mapping[Any, Any], inputs: Any, targets: Any) -> tuple[Any, Any]:
    name = targets
    if targets == _AUTO:
        there = [key for key in TARGETS if key in batch]
        if len(there) > 1:
            raise ValueError(
                f"Expected one name of targets in a batch, got {', '.join(there)}; pass targets= and, if the others "
                "are no arguments of the model, inputs=[names]"
            )
        name = there[0] if there else None
    own = [key for key in batch if key != name] if inputs is None else inputs
    for key in [*([] if name is None else [name]), *([own] if isinstance(own, str) else own)]:
        if key not in batch:
            raise ValueError(f"Expected {key!r} in a batch, got {', '.join(map(str, batch))}; correct the name")
    found = None if name is None else batch[name]
    if isinstance(own, str):
        return batch[own], found
    if other := [str(key) for key in own if not _holds_tensors(batch[key])] if inputs is None else []:
        warn_user(
            f"Expected tensors in a batch, got other objects as {', '.join(other)}, which are left out; name the "
            "arguments of the model with inputs=[...]"
        )
    return {key: batch[key] for key in own if str(key) not in other}, found
