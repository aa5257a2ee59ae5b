"""Fixed rows of loaders and datasets: which rows, how they are padded, and what stays unchanged."""

import re
import warnings
from collections import UserDict, UserList
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Subset, SubsetRandomSampler, TensorDataset, default_collate

from probe import PerformanceProbe, from_loader
from probe.errors import ProbeWarning

X, Y = torch.arange(20.0).view(10, 2), torch.arange(10)
PAIRS = TensorDataset(X, Y)
LENGTHS = (3, 5, 2, 6, 4, 6, 1, 5, 3, 2)


class Texts:
    """Rows of tokens of different lengths, as a dataset of Hugging Face has them, with a column of text."""

    def __len__(self) -> int:
        return len(LENGTHS)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": list(range(1, LENGTHS[i] + 1)), "text": "words"}


class Collator:
    """As DataCollatorForLanguageModeling(mlm=False) and its tokenizer."""

    def __init__(self, side: str = "right") -> None:
        self.side = side

    def __call__(self, rows: list[dict[str, Any]]) -> UserDict[str, Tensor]:
        longest = max(len(row["input_ids"]) for row in rows)
        ids, mask = torch.full((len(rows), longest), 9), torch.zeros(len(rows), longest, dtype=torch.long)
        for i, row in enumerate(rows):
            k = len(row["input_ids"])
            place = slice(0, k) if self.side == "right" else slice(longest - k, None)
            ids[i, place], mask[i, place] = torch.tensor(row["input_ids"]), 1
        return UserDict(input_ids=ids, attention_mask=mask, labels=torch.where(mask == 1, ids, -100))


class Stream(IterableDataset[Any]):
    """Batches, or rows, without a length."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other is None or torch.equal(one, other)


@pytest.mark.parametrize(
    "loader",
    [
        DataLoader(PAIRS, 3, shuffle=True),
        DataLoader(PAIRS, 3, shuffle=True, num_workers=1),
        DataLoader(Subset(PAIRS, range(10)), 4),
        PAIRS,
        [(X[:3], Y[:3]), (X[3:5], Y[3:5]), (X[5:], Y[5:])],
        DataLoader(Stream(PAIRS), 4),
        DataLoader(PAIRS, 4, sampler=SubsetRandomSampler(range(9, -1, -1))),
    ],
    ids=["shuffled", "workers", "subset", "dataset", "list", "stream", "sampler"],
)
def test_the_first_rows_whatever_the_order_of_the_loader(loader: Any) -> None:
    state = torch.get_rng_state()
    assert same(from_loader(loader, 6), (X[:6], Y[:6]))
    assert torch.equal(state, torch.get_rng_state())


def test_a_random_choice_is_fixed_and_leaves_generators_alone() -> None:
    generator = torch.Generator().manual_seed(3)
    loader = DataLoader(
        PAIRS, 3, sampler=SubsetRandomSampler([1, 3, 5, 7, 9], generator=generator), generator=generator
    )
    state, before = torch.get_rng_state(), generator.get_state()
    x, y = from_loader(loader, 3, random_state=1)
    assert same(from_loader(loader, 3, random_state=1), (x, y))
    assert set(y.tolist()) < {1, 3, 5, 7, 9}  # type: ignore[union-attr]
    assert torch.equal(x, X[y])
    assert not same(from_loader(loader, 3, random_state=2)[1], y)
    weighted = torch.utils.data.WeightedRandomSampler([1.0] * 5 + [0.0] * 5, 10, generator=generator)
    assert set(from_loader(DataLoader(PAIRS, 2, sampler=weighted, generator=generator), 2)[1].tolist()) < set(range(5))  # type: ignore[union-attr]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(before, generator.get_state())


@pytest.mark.parametrize("side", ["right", "left"])
def test_rows_have_one_padding_however_they_are_read(side: str) -> None:
    """Collated at once, or joined from batches that have paddings of their own."""
    whole = Collator(side)([Texts()[i] for i in range(6)])
    expected = {"input_ids": whole["input_ids"], "attention_mask": whole["attention_mask"]}, whole["labels"]
    loader = DataLoader(Texts(), 2, shuffle=True, collate_fn=Collator(side))  # type: ignore[arg-type]
    for found in (from_loader(loader, 6), from_loader(Texts(), 6, collate=Collator(side))):
        assert same(found, expected)
    batches = [Collator(side)([Texts()[i], Texts()[i + 1]]) for i in range(0, 10, 2)]
    assert same(from_loader(Stream(batches), 6), expected)
    assert same(from_loader(Stream(batches), 6, targets=None)[0], {**expected[0], "labels": expected[1]})


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


@pytest.mark.parametrize(
    ("batch", "options", "expected"),
    [
        (X, {}, (X, None)),
        ((X,), {}, (X, None)),
        ([X, Y], {}, (X, Y)),
        (Pair(X, Y), {}, (X, Y)),
        (({"x": X}, Y), {}, ({"x": X}, Y)),
        ((X, Y, X), {"targets": 1, "inputs": 0}, (X, Y)),
        ((X, Y, X), {"targets": 1}, ((X, X), Y)),
        ((X, Y, X), {"targets": 0, "inputs": [2, 1]}, ((X, Y), X)),
        ({"image": X, "label": Y.numpy()}, {"inputs": "image"}, (X, Y)),
        ({"image": X, "depth": Y.tolist()}, {"targets": "depth"}, ({"image": X}, Y)),
        ({"x": X, "label": Y, "y": X}, {"targets": "label", "inputs": ["x"]}, ({"x": X}, Y)),
        ({"x": X, "labels": Y}, {"targets": None}, ({"x": X, "labels": Y}, None)),
        ({"x": X.tolist(), "labels": Y.tolist()}, {}, ({"x": X}, Y)),
        ([X.tolist(), list(Y)], {}, (X, Y)),
        ((X.clone().requires_grad_(), Y), {}, (X, Y)),
    ],
)
def test_inputs_and_targets_by_name_or_position(batch: Any, options: dict[str, Any], expected: Any) -> None:
    assert same(from_loader([batch], 10, **options), expected)


def test_rows_of_a_dataset_with_lists_and_text() -> None:
    """As a dataset of Hugging Face returns them without a format."""
    rows = [{"image": X[i].tolist(), "label": i, "name": "some"} for i in range(10)]

    class Rows(UserList[Any]):
        def __getitems__(self, numbers: list[int]) -> list[Any]:
            return [self[i] for i in numbers]

    with pytest.warns(ProbeWarning, match="Expected tensors in a batch, got other objects as name"):
        assert same(from_loader(Rows(rows), 4), ({"image": X[:4]}, Y[:4]))
    assert same(from_loader(Rows(rows), 4, inputs=["image"]), ({"image": X[:4]}, Y[:4]))


@pytest.mark.parametrize(
    ("loader", "options", "error", "message"),
    [
        (PAIRS, {"n": 1}, ValueError, "Expected at least 2 rows as n, got 1"),
        (PAIRS, {"n": True}, ValueError, "got True"),
        (5, {}, TypeError, "Expected a DataLoader, a dataset or an iterable of batches, got int"),
        (X, {}, TypeError, "got Tensor; tensors go to attach"),
        ({"train": PAIRS}, {}, TypeError, "got dict; .*several splits as {split: from_loader"),
        ([], {}, ValueError, "Expected rows in the list, got none"),
        (Stream([]), {}, ValueError, "Expected rows in the Stream, got none"),
        (TensorDataset(X[:0]), {}, ValueError, "got none; check the dataset"),
        (Stream([(X, Y)]), {"random_state": 0}, ValueError, "rows with numbers for a random choice, got Stream"),
        (DataLoader(PAIRS), {"collate": list}, ValueError, "no collate= beside a DataLoader"),
        ([(X, Y, Y)], {}, ValueError, r"Expected batches \(inputs, targets\), got 3 items; pass .* targets=1"),
        ([(X, Y)], {"targets": 2}, ValueError, "Expected positions in a batch of 2 items, got 2"),
        ([(X, Y)], {"targets": "y"}, ValueError, "got 'y'; pass numbers"),
        ([{"x": X, "y": Y, "label": Y}], {}, ValueError, "one name of targets in a batch, got label, y"),
        ([{"x": X, "y": Y}], {"targets": "z"}, ValueError, "Expected 'z' in a batch, got x, y"),
        ([{"x": X[:2]}, {"z": X}], {}, ValueError, "Expected the entries x in each batch"),
        ([X[:2], X.view(4, 5)], {}, ValueError, r"Expected batches of one length, got \[\(2,\), \(5,\)\] for 'inputs'"),
        (Texts(), {}, ValueError, "Expected rows of the same shapes.*pass collate="),
        (["some", "words"], {}, TypeError, "Expected inputs to be a tensor"),
        (Stream(PAIRS), {}, ValueError, "Expected batches, got a single row; pass DataLoader"),
        (DataLoader(PAIRS, batch_size=None), {}, ValueError, "got a single row"),
        (DataLoader(Stream(PAIRS), 2), {"collate": list}, ValueError, "no collate= beside a DataLoader"),
        (Stream([(X[0], torch.ones(3))]), {}, ValueError, r"same number of rows .* got \[2, 3\]; name those"),
        ([{"x": X, "image": list(X), "y": Y}], {}, ValueError, r"same number of rows .* got \[2, 10\]"),
        ([(X, tuple(X))], {}, ValueError, "Expected a tensor of targets in a batch, got tuple"),
        ([{"x": X[:2], "t": Y[i]} for i in range(2)], {}, ValueError, r"same t in all batches, got \[0, 1\]"),
    ],
)
def test_what_cannot_be_read_is_an_error(
    loader: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        from_loader(loader, **{"n": 4, **options})


def test_rows_of_an_iterable_are_joined_by_collate() -> None:
    rows = [{"x": X[i], "labels": Y[i], "name": "some"} for i in range(10)]
    found = from_loader(Stream(rows), 4, collate=default_collate, inputs=["x"])
    assert same(found, ({"x": X[:4]}, Y[:4]))


def test_what_may_be_unwanted_is_a_warning() -> None:
    with pytest.warns(ProbeWarning, match=re.escape("Expected 12 rows, got 10; all of them are used")):
        assert same(from_loader(PAIRS, 12), (X, Y))
    with pytest.warns(ProbeWarning, match="got the iterator list_iterator, which loses the batches"):
        from_loader(iter([(X, Y)]), 4)
    padded = from_loader([(X[:2], Y[:2]), (X.view(4, 5), Y[:4])], 6, pad={"inputs": -1})[0]
    assert padded[:2, 2:].unique().tolist() == [-1]


class Causal(nn.Module):
    """Predicts the next token from the present one, and takes arguments by name."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(10, 10)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.table(input_ids)  # type: ignore[no-any-return]


def test_labels_of_a_causal_model_are_moved_by_attach() -> None:
    torch.manual_seed(0)
    model, loader = Causal(), DataLoader(Texts(), 2, shuffle=True, collate_fn=Collator())  # type: ignore[arg-type]
    data = from_loader(loader, 8)
    with pytest.warns(ProbeWarning, match="targets_shift=1 is used"):
        found = PerformanceProbe().fit(model, data).series_
    logits, labels = model(**data[0])[:, :-1], data[1][:, 1:]  # type: ignore[index]
    own = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    assert found["all_loss"].item() == pytest.approx(own.item(), rel=1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = PerformanceProbe().fit(model, data, targets_shift=1).series_
    assert again["all_loss"].item() == found["all_loss"].item()
