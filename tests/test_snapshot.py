from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from probe import INPUT, OUTPUT, Measured, PerformanceProbe, Snapshot, Tap, shared
from probe.forward import read_data, trace
from probe.forward.row_buffer import RowBuffer

X, Y = torch.linspace(-1, 1, 12).reshape(4, 3), torch.tensor([0, 1, 1, 0])


class Sum(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + 10 * b


def out(model: nn.Module, data: Any, split: str = "all") -> Tensor:
    batches = read_data(data)
    seen = trace(model, batches[split].take(torch.arange(2), torch.device("cpu"))[0])
    return Snapshot(model, 0, batches, seen, batch_size=3).outputs(split, [OUTPUT])[OUTPUT]


@pytest.mark.parametrize(
    ("data", "splits"),
    [
        ((X, Y), {"all": True}),
        ([X, Y], {"all": True}),
        ((X, None), {"all": False}),
        ({"train": (X, Y), "test": (X, None)}, {"train": True, "test": False}),
        ((X.numpy(), Y.numpy()), {"all": True}),
        ((X.tolist(), Y.tolist()), {"all": True}),
        ({"train": [X, Y]}, {"train": True}),
    ],
)
def test_data_is_read_as_splits(data: Any, splits: dict[str, bool]) -> None:
    batches = read_data(data)
    assert {split: batch.targets is not None for split, batch in batches.items()} == splits
    for batch in batches.values():
        assert torch.equal(batch.inputs, X)
        assert batch.targets is None or torch.equal(batch.targets, Y)


@pytest.mark.parametrize(
    "inputs", [(X, 2 * X), {"a": X, "b": 2 * X}, {"b": (2 * X).numpy(), "a": X}, (X.numpy(), (2 * X).numpy())]
)
def test_tuples_and_mappings_are_several_inputs(inputs: Any) -> None:
    torch.testing.assert_close(out(Sum(), (inputs, Y)), 21 * X)
    torch.testing.assert_close(out(Sum(), {"train": (inputs, None)}, "train"), 21 * X)


def test_a_shared_argument_is_passed_whole() -> None:
    torch.testing.assert_close(out(Sum(), ((X, shared(torch.ones(3))), None)), X + 10)
    torch.testing.assert_close(out(Sum(), ((X, torch.tensor(1.0)), None)), X + 10)
    torch.testing.assert_close(out(Sum(), ((X, 1), None)), X + 10)


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ((X[:1], Y[:1]), ValueError, "at least 2 inputs in data, got 1"),
        ((X[:0], Y[:0]), ValueError, "at least 2 inputs in data, got 0"),
        ((X, Y[:3]), ValueError, "Expected 4 targets for 4 inputs in data, got 3"),
        ((X, torch.tensor(1)), ValueError, "4 targets for 4 inputs in data, got a single number"),
        ({"test": (X, Y[:3])}, ValueError, "4 inputs in split 'test', got 3"),
        ({}, ValueError, "got an empty mapping"),
        ({"val/iid": (X, Y)}, ValueError, "no slash"),
        (DataLoader(TensorDataset(X, Y)), TypeError, r"got DataLoader.*probe\.from_loader\(loader, n\)"),
        (TensorDataset(X, Y), TypeError, "got TensorDataset"),
        (X, TypeError, r"Expected data to be a pair \(inputs, targets\).*got Tensor"),
        (None, TypeError, "got NoneType"),
        (TensorDataset(X, Y), TypeError, "got TensorDataset; .*for a TensorDataset also dataset.tensors"),
        ([(X, Y)] * 3, TypeError, r"to be a pair \(inputs, targets\).*got list"),
        ([(X, Y)] * 2, TypeError, "Expected the targets of data to be a tensor, an array or None, got tuple"),
        ({"x": X, "y": Y}, TypeError, "Expected split 'x' to be a pair.*from_loader"),
        ((X, 3), TypeError, "to be a tensor, an array or None, got int"),
        ((list(X), Y), TypeError, r"cannot become a tensor.*torch\.stack"),
        ((["some", "words"], None), TypeError, "cannot become a tensor"),
        ((np.array(["some", "words"]), None), TypeError, "cannot become a tensor"),
        (("words", Y), TypeError, "Expected inputs to be a tensor"),
    ],
)
def test_data_of_another_form_is_an_error(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read_data(data)


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (nn.Linear(5, 2), (X, Y), r"accept two inputs of split 'all' \(shape \(2, 3\), float32\)"),
        (nn.Linear(3, 2), (X.double().numpy(), Y), r"\(shape \(2, 3\), float64\).*RuntimeError"),
        (Sum(), ({"a": X, "c": X}, Y), r"\(a: shape .*, c: shape .*unexpected keyword"),
        (
            nn.Linear(3, 2),
            {"train": (X, Y), "test": (X[:, :2], Y)},
            r"split 'test' \(shape \(2, 2\), float32\), got Ru",
        ),
        (nn.Linear(3, 2), (X, torch.zeros(4, 5)), "Expected one output for each floating-point target"),
    ],
)
def test_data_that_does_not_fit_the_model_is_an_error_at_attach(model: nn.Module, data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PerformanceProbe().attach(model, data)


@pytest.mark.parametrize(
    ("model", "inputs", "stem"),
    [
        (nn.Linear(3, 2), X, INPUT),
        (nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 2)), Y, "0"),
    ],
)
def test_the_stem_is_the_first_site_with_floating_point_numbers(model: nn.Module, inputs: Tensor, stem: str) -> None:
    assert Snapshot(model, 0, read_data((inputs, None)), trace(model, inputs[:2])).stem() == stem


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_shared_rows_are_stored_on_the_cpu_and_returned_on_the_device_of_the_model() -> None:
    model, x = nn.Linear(64, 4096).cuda(), torch.randn(8192, 64)
    tap, data = Tap("<output>"), read_data((x, None))
    shot = Snapshot(model, 0, data, trace(model, x[:2].cuda()), shared=[tap], batch_size=512)
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    shot.run_shared_pass()
    assert torch.cuda.max_memory_allocated() - before < 8 * 512 * 4096 * 4, "a few of the 16 blocks"
    found = shot.outputs("all", ["<output>"])["<output>"]
    assert found.is_cuda
    torch.testing.assert_close(found, model(x.cuda()).detach())


def test_a_model_of_integers_has_no_stem() -> None:
    model = nn.Flatten()
    with pytest.raises(ValueError, match="Expected a layer with floating-point outputs, got a model with none"):
        Snapshot(model, 0, read_data((Y, None)), trace(model, Y[:, None])).stem()


@pytest.mark.parametrize(
    ("measured", "dtype"),
    [
        (Measured(torch.ones(2, requires_grad=True), ("k",), {"k": "ab"}), np.float64),
        (Measured([True, False], ("k",), {"k": "ab"}, flag=True), np.int8),
        (Measured(torch.tensor([1, 0]), ("k",), {"k": "ab"}, flag=True), np.int8),
        (Measured(3), np.float64),
    ],
)
def test_measured_values_become_float64_and_flags_int8(measured: Measured, dtype: type) -> None:
    assert measured.array("it").dtype == dtype


def test_measured_values_must_fit_their_labels() -> None:
    with pytest.raises(ValueError, match=r"Expected values of shape \(2,\) for it, .* got \(3,\)"):
        Measured([1, 2, 3], ("k",), {"k": "ab"}).array("it")


@pytest.mark.parametrize(
    ("fact", "kept"), [("text", "text"), (2.5, 2.5), (7, 7), (True, 1), (2**40, 2.0**40), (np.float32(0.5), 0.5)]
)
def test_attributes_are_converted_into_types_that_files_support(fact: Any, kept: Any) -> None:
    found = Measured(1.0, attrs={"fact": fact}).variable("it", "Some").attrs["fact"]
    assert found == kept
    assert type(found) is type(kept)


@pytest.mark.parametrize("fact", [None, {}, float("nan"), [1]])
def test_other_attributes_are_an_error(fact: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected strings and finite numbers in attrs, got .* \(it: fact\)"):
        Measured(1.0, attrs={"fact": fact}).variable("it", "Some")


def test_blocks_with_any_number_of_rows_are_concatenated() -> None:
    """A callable reduction can return more rows for some inputs than for others, or another dtype."""
    blocks = [torch.arange(6.0).view(3, 2), torch.ones(5, 2), torch.zeros(1, 2, dtype=torch.float64)]
    buffer = RowBuffer(9)
    for first, block in zip((0, 3, 6), blocks, strict=True):
        buffer.add(block, range(first, first + 3))
    assert buffer.blocks == 3
    found = buffer.rows()
    assert found.dtype == torch.float64
    assert torch.equal(found, torch.cat([block.double() for block in blocks]))
    even = RowBuffer(5)
    for first, block in ((0, blocks[0]), (3, blocks[0][:2])):
        even.add(block, range(first, min(first + 3, 5)))
    assert torch.equal(even.rows(), torch.cat([blocks[0], blocks[0][:2]]))


def test_rows_are_copies() -> None:
    block, buffer = torch.zeros(2, 1), RowBuffer(2)
    buffer.add(block, range(2))
    block += 1
    assert torch.equal(buffer.rows(), torch.zeros(2, 1))
