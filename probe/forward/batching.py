"""Batches as a function of the step, for :class:`probe.forward.TrainingContext`.

An observation repeats the updates of a training on copies, so it needs the batches of any step. The order of an epoch,
and random augmentations, depend on the step and a seed only. No iterator has a position.
"""

from collections.abc import Callable, Iterator, Mapping, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils import data as torch_data

from probe.forward.data import Batch, read_data
from probe.forward.isolation import restored_random_states, seed_cpu

_ORDER, _NOISE = 0, 1  # what a seed is for


@dataclass(frozen=True)
class StepBatches:
    """Batches of the updates from any step on, see :func:`step_batches`."""

    read: Callable[[Tensor], Any]  # the batch of some rows
    n_rows: int
    batch_size: int
    shuffle: bool
    drop_last: bool
    random_state: int

    @property
    def per_epoch(self) -> int:
        """Number of batches of one epoch."""
        return max(1, self.n_rows // self.batch_size if self.drop_last else -(-self.n_rows // self.batch_size))

    def __call__(self, step: int, n: int) -> list[Any]:
        """Return the batches of the updates ``step + 1`` to ``step + n``."""
        return [self._batch(k) for k in range(step, step + n)]

    def _batch(self, step: int) -> Any:
        epoch, position = divmod(step, self.per_epoch)
        order = _permutation(self.n_rows, self.random_state, epoch) if self.shuffle else torch.arange(self.n_rows)
        with seeded(_seed(self.random_state, step, _NOISE)):
            return self.read(order[position * self.batch_size : (position + 1) * self.batch_size])


def step_batches(
    data: Any, batch_size: int | None = None, *, shuffle: bool | None = None, random_state: int = 0
) -> StepBatches:
    """Return the batches of a training as a function of the step.

    Parameters
    ----------
    data : DataLoader, Dataset, or pair (inputs, targets)
        A loader gives its dataset, batch size, ``collate_fn``, ``drop_last`` and whether it shuffles. Its workers are
        not used. A pair holds tensors with one row for each input, see :func:`probe.forward.read_data`.
    batch_size : int, optional
        Number of rows of a batch. Default: that of the loader; for a dataset or a pair, all rows.
    shuffle : bool, optional
        Whether each epoch has a random order of its own. Default: that of the loader, else True.
    random_state : int
        Seed of the orders, and of what ``dataset[i]`` draws from the global random generators.

    Returns
    -------
    function(step, n) -> list of n batches
        The batches of the updates ``step + 1`` to ``step + n``. The attribute ``per_epoch`` is the number of batches of
        an epoch. The global random states stay unchanged.

    Raises
    ------
    TypeError
        If the data cannot be indexed: an iterator, a generator or an ``IterableDataset``.
    ValueError
        If the loader has a sampler of its own, whose order is not a function of the step, or there is no row.

    Notes
    -----
    A shuffled loader draws its order from the global random generator. The batches here have another order. If the real
    training should use the same batches, call this function there too.

    See Also
    --------
    TrainingContext.usual : Context of the usual training loop.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import step_batches
    >>> batches = step_batches((torch.arange(6).view(6, 1), torch.arange(6)), batch_size=2)
    >>> batches.per_epoch, [len(y) for _, y in batches(0, 3)]
    (3, [2, 2, 2])
    >>> sorted(y.item() for _, rows in batches(3, 3) for y in rows)  # the second epoch has each row once
    [0, 1, 2, 3, 4, 5]
    >>> torch.equal(batches(4, 1)[0][0], batches(3, 2)[1][0])
    True
    """
    drop_last = False
    if isinstance(data, torch_data.DataLoader):
        _check_loader(data)
        shuffle = isinstance(data.sampler, torch_data.RandomSampler) if shuffle is None else shuffle
        batch_size = data.batch_size if batch_size is None else batch_size
        read, n = _reader(data.dataset, data.collate_fn), len(cast(Sized, data.dataset))
        drop_last = data.drop_last
    elif isinstance(data, (tuple, list)) and len(data) == 2 and not isinstance(data, torch_data.Dataset):
        batch = read_data(data)["all"]
        read, n = _taken(batch), len(batch)
    else:
        _check_indexed(data)
        read, n = _reader(data, torch_data.default_collate), len(data)
    batch_size = n if batch_size is None else batch_size
    if not (n >= 1 and batch_size >= 1 and (not drop_last or n >= batch_size)):
        raise ValueError(
            f"Expected at least one row and one batch, got {n} rows and a batch size of {batch_size}; pass more rows"
        )
    return StepBatches(read, n, batch_size, shuffle is not False, drop_last, random_state)


def _taken(batch: Batch) -> Callable[[Tensor], Any]:
    device = batch.targets.device if batch.targets is not None else torch.device("cpu")
    return lambda rows: batch.take(rows, device)


def _reader(dataset: Any, collate: Callable[[list[Any]], Any]) -> Callable[[Tensor], Any]:
    return lambda rows: collate([dataset[i] for i in rows.tolist()])


def _check_loader(loader: torch_data.DataLoader[Any]) -> None:
    """Raise an error for a loader whose batches are not a function of the step."""
    _check_indexed(loader.dataset)
    sampler, n = loader.sampler, len(cast(Sized, loader.dataset))
    whole = isinstance(sampler, torch_data.RandomSampler) and not sampler.replacement and len(sampler) == n
    if loader.batch_size is None or not (whole or type(sampler) is torch_data.SequentialSampler):
        raise ValueError(
            "Expected a DataLoader with batch_size= and shuffle=, whose batches are a function of the step, got "
            f"{type(loader.batch_sampler).__name__} of {type(sampler).__name__}; pass the dataset with a batch size, "
            "or write batches(step, n) and pass it to TrainingContext"
        )


def _check_indexed(data: Any) -> None:
    """Raise TypeError for what has no row by number."""
    stream = isinstance(data, (torch_data.IterableDataset, Mapping, str)) or hasattr(data, "__next__")
    if stream or not (hasattr(data, "__getitem__") and hasattr(data, "__len__")):
        raise TypeError(
            f"Expected data that can be indexed by the row, got {type(data).__name__}; pass a dataset with len() and "
            "[i], a DataLoader of one, or a pair (inputs, targets), or write batches(step, n) for TrainingContext"
        )


@lru_cache(maxsize=4)
def _permutation(n: int, random_state: int, epoch: int) -> Tensor:
    seed = _seed(random_state, epoch, _ORDER)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _seed(random_state: int, step: int, purpose: int) -> int:
    return int(np.random.SeedSequence((random_state, step, purpose)).generate_state(1)[0])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Context manager that seeds the global generators of PyTorch (CPU), NumPy and Python, and restores them."""
    with restored_random_states():
        seed_cpu(seed)
        yield
