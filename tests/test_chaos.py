"""Batches by the step, twins, tangents and chaos: closed forms on quadratic losses, and what must be refused."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from probe.forward import TrainingContext, step_batches

X, Y = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3

# -- batches by the step -----------------------------------------------------------------------------------------------


class Augmented(Dataset[Any]):
    """Rows with noise from all global generators."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.tensor([i + torch.rand(()).item(), np.random.rand()]), i  # noqa: NPY002


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        yield from range(3)


@pytest.mark.parametrize("data", [Augmented(), DataLoader(Augmented(), 3, shuffle=True)], ids=["dataset", "loader"])
def test_batches_are_a_function_of_the_step(data: Any) -> None:
    batches = step_batches(data, 3)
    assert batches.per_epoch == 3
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    whole = batches(4, 5)
    torch.rand(3)
    for k, (x, rows) in enumerate(whole):
        again, same_rows = batches(4 + k, 1)[0]
        assert torch.equal(x, again)
        assert torch.equal(rows, same_rows)
    epochs = [torch.cat([rows for _, rows in batches(start, 3)]).tolist() for start in (0, 3, 6)]
    assert all(sorted(rows) == list(range(7)) for rows in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert not torch.equal(batches(0, 1)[0][0], step_batches(data, 3, random_state=1)(0, 1)[0][0])
    torch.set_rng_state(before[0])
    batches(0, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]  # noqa: NPY002


def test_a_loader_without_shuffling_gives_its_own_batches() -> None:
    loader = DataLoader(TensorDataset(X, Y), 7, drop_last=True)
    mine = step_batches(loader)(0, 3)
    for (x, y), (same_x, same_y) in zip(mine, loader, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(y, same_y)
    assert torch.equal(step_batches(loader)(3, 1)[0][1], mine[0][1])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (iter([1]), TypeError, "indexed by the row, got list_iterator"),
        (DataLoader(Endless()), TypeError, "indexed by the row, got Endless"),
        ({"x": X}, TypeError, "got dict"),
        (
            DataLoader(TensorDataset(X), batch_sampler=BatchSampler(range(9), 3, False)),
            ValueError,
            "BatchSampler of Seq",
        ),
        (DataLoader(TensorDataset(X), 4, sampler=RandomSampler(X, replacement=True)), ValueError, "of RandomSampler"),
        (DataLoader(TensorDataset(X), 4, sampler=list(range(3))), ValueError, "BatchSampler of list"),
        (DataLoader(TensorDataset(X), None), ValueError, "NoneType of SequentialSampler"),
        (TensorDataset(X[:0]), ValueError, "got 0 rows"),
    ],
)
def test_data_without_batches_by_the_step_are_refused(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        step_batches(data)


@pytest.mark.parametrize("kind", ["pair", "loader", "function"])
def test_the_usual_loop_in_two_lines(kind: str) -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    data = {"pair": (X, Y), "loader": DataLoader(TensorDataset(X, Y), 8), "function": step_batches((X, Y), 8)}[kind]
    training = TrainingContext.usual(optimizer, F.cross_entropy, data, batch_size=8, max_norm=0.5)
    copied, copied_optimizer = training.copy(model)
    for batch in training.batches(0, 4):
        training.update(copied, copied_optimizer, batch)
    for x, y in training.batches(0, 4):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    assert all(map(torch.equal, model.parameters(), copied.parameters()))


def test_batches_that_are_no_pairs_are_refused_in_the_usual_loop() -> None:
    model = nn.Linear(6, 3)
    training = TrainingContext.usual(torch.optim.SGD(model.parameters()), F.mse_loss, TensorDataset(X))
    with pytest.raises(TypeError, match=r"Expected batches \(inputs, targets\), got list"):
        training.step_fn(model, training.optimizer, training.batches(0, 1)[0])
