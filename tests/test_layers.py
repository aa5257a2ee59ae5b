import itertools
import re
import warnings
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe import INPUT, OUTPUT, ActivationsProbe, LMNProbe, LocalComplexityProbe, MutualInfoProbe
from probe.forward import default_layers, reduce_output, select_layers
from probe.forward.layers import named_modules, unwrap
from probe.forward.outputs import replace_tensor, tensor_of


class Block(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.attn = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mlp(self.attn(x))


class Blocks(nn.Module):
    def __init__(self, n: int = 2) -> None:
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.blocks = nn.ModuleList(Block() for _ in range(n))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class Functional(nn.Module):
    """Its activations are functions, and its dropout has no parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.drop, self.second = nn.Linear(3, 4), nn.Dropout(), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.drop(F.relu(self.first(x))))


class BasicBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.norm(self.conv(x)))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.layer1 = nn.Sequential(BasicBlock(4), BasicBlock(4))
        self.layer2 = nn.Sequential(BasicBlock(4), BasicBlock(4), BasicBlock(4))
        self.fc = nn.Linear(4, 2)


def encoder() -> nn.TransformerEncoder:
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 3, enable_nested_tensor=False)


# -- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ("head", ["head"]),
        ("blocks.1.mlp.0", ["blocks.1.mlp.0"]),
        ("blocks.*", ["blocks.0", "blocks.1"]),
        ("blocks.*.attn", ["blocks.0.attn", "blocks.1.attn"]),
        ("*", ["embed", "blocks", "head"]),
        ("blocks.?", ["blocks.0", "blocks.1"]),
        ("blocks.[0]", ["blocks.0"]),
        ("blocks.0.**", ["blocks.0.attn", "blocks.0.mlp", "blocks.0.mlp.0", "blocks.0.mlp.1"]),
        ("**.0", ["blocks.0", "blocks.0.mlp.0", "blocks.1.mlp.0"]),
        (re.compile(r"blocks\.\d$"), ["blocks.0", "blocks.1"]),
        (nn.ReLU, ["blocks.0.mlp.1", "blocks.1.mlp.1"]),
        (lambda name, module: name.endswith("attn"), ["blocks.0.attn", "blocks.1.attn"]),
        (["head", nn.ReLU, "embed"], ["embed", "blocks.0.mlp.1", "blocks.1.mlp.1", "head"]),
        ([OUTPUT, "head", INPUT], [INPUT, "head", OUTPUT]),
        (OUTPUT, [OUTPUT]),
    ],
)
def test_layers_are_selected_in_the_order_of_the_model(layers: Any, expected: list[str]) -> None:
    assert select_layers(Blocks(), layers) == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("blocks.9", r"'blocks.9', which selects no layer; choose one of the similar names: .*blocks\.0"),
        ("haed", "similar names: head"),
        ("zzzzzz", "choose one of: embed, blocks, blocks.0, "),
        (nn.Conv2d, "selects no layer"),
        (["head", "nothing_like_it_at_all"], "nothing_like_it_at_all"),
        ([], r"got layers=\[\]; pass layers=None"),
    ],
)
def test_the_error_of_an_empty_selection_lists_layers(layers: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        select_layers(Blocks(), layers)


@pytest.mark.parametrize("layers", [[3], nn.Linear(2, 2)])
def test_a_selection_of_another_type_is_an_error(layers: Any) -> None:
    with pytest.raises(TypeError, match="Expected layers= to hold names, globs"):
        select_layers(Blocks(), layers)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)), ["1", "3"]),
        (encoder, ["layers.0", "layers.1", "layers.2"]),
        (ResNet, ["layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer2.2"]),
        (Functional, ["first", "second"]),
        (lambda: nn.Linear(3, 2), [OUTPUT]),
        (lambda: Blocks(1), ["blocks.0"]),
        (Blocks, ["blocks.0", "blocks.1"]),
    ],
    ids=["activations", "encoder", "resnet", "functional", "one linear", "one block", "blocks"],
)
def test_default_layers(make: Callable[[], nn.Module], expected: list[str]) -> None:
    assert default_layers(make()) == expected


def test_default_layers_of_stages_in_a_container_are_the_blocks() -> None:
    stages = nn.Sequential(nn.Sequential(Block(), Block()), nn.Sequential(Block(), Block()))
    assert default_layers(stages) == ["0.0", "0.1", "1.0", "1.1"]


def test_default_layers_are_the_kind_of_blocks_with_most_parameters() -> None:
    model = nn.ModuleDict({"small": nn.Sequential(BasicBlock(1), BasicBlock(1)), "big": nn.ModuleList([Block(9)])})
    assert default_layers(model) == ["big.0"]


def test_blocks_in_two_containers_are_named_once() -> None:
    model = Blocks()
    model.again = nn.Sequential(*model.blocks)
    assert default_layers(model) == ["blocks.0", "blocks.1"]


def test_names_of_modules_equal_those_of_torch() -> None:
    shared = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    model = nn.Sequential(
        OrderedDict(a=shared, b=nn.ModuleDict({"c": shared, "d": nn.Sequential(shared[0], nn.Tanh())}))
    )
    model.register_module("none", None)
    model.b.again = model.b["d"]
    found = named_modules(model)
    assert list(found.items()) == list(model.named_modules())
    assert list(found) == ["", "a", "a.0", "a.1", "b", "b.d", "b.d.1"]


def test_wrappers_are_removed() -> None:
    model = Blocks()
    compiled = torch.compile(nn.DataParallel(model), backend="eager")
    assert unwrap(compiled) is model
    model.head = torch.compile(model.head, backend="eager")
    assert select_layers(model, ["head", "blocks.0"]) == ["blocks.0", "head"]


# -- outputs ---------------------------------------------------------------------------------------------------------

A, B = torch.zeros(2, 3), torch.ones(2, 3)
Named = namedtuple("Named", ["hidden", "logits"])


@dataclass
class Answer:
    loss: Tensor | None
    logits: Tensor


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """A dict with attributes, as the outputs of Hugging Face models."""


@pytest.mark.parametrize(
    "output",
    [
        B,
        (B, A),
        [B, A],
        (None, B),
        ((B, A), A),
        {"logits": B},
        {"hidden": A, "logits": B},
        {"hidden": B, "other": A},
        Answer(None, B),
        Named(A, B),
        ModelOutput(loss=A.sum(), logits=B, hidden_states=(A,)),
    ],
    ids=lambda output: type(output).__name__,
)
def test_the_tensor_of_an_output_is_its_logits_or_its_first_tensor(output: Any) -> None:
    assert tensor_of(output, "it") is B


@pytest.mark.parametrize("output", [None, "text", {}, (), {"logits": None}])
def test_an_output_without_a_tensor_is_an_error(output: Any) -> None:
    with pytest.raises(TypeError, match=r"Expected a tensor in the output of the head, got .* no tensor"):
        tensor_of(output, "the head")


@pytest.mark.parametrize(
    ("output", "expected"),
    [(A, B), ((A, 1), (B, 1)), ([A, 1], [B, 1]), ((None, A), (None, B)), (Named(1, A), Named(1, B))],
)
def test_an_edit_replaces_the_tensor_and_keeps_the_rest(output: Any, expected: Any) -> None:
    new = replace_tensor(output, B, "it")
    assert type(new) is type(expected)
    assert new is B if isinstance(output, Tensor) else all(x is y for x, y in zip(new, expected, strict=True))


@pytest.mark.parametrize(
    ("output", "get"),
    [
        ({"logits": A, "n": 1}, lambda new: new["logits"]),
        ({"hidden": (A, A), "logits": A + 1}, lambda new: new["logits"]),
        (Answer(None, A), lambda new: next(v for v in vars(new).values() if v is not None)),
        (((A,), 1), lambda new: new[0][0]),
    ],
)
def test_an_edit_replaces_tensors_in_mappings_dataclasses_and_nested_outputs(
    output: Any, get: Callable[[Any], Tensor]
) -> None:
    new = replace_tensor(output, B, "it")
    assert type(new) is type(output)
    assert get(new) is B
    assert tensor_of(output, "it") is not B


# -- reductions ------------------------------------------------------------------------------------------------------

FLAT = torch.arange(6.0).reshape(2, 3)  # (n, d)
TOKENS = torch.arange(24.0).reshape(2, 4, 3)  # (n, T, d)
IMAGES = torch.arange(48.0).reshape(2, 3, 4, 2)  # (n, C, H, W)


@pytest.mark.parametrize(
    ("output", "reduce", "first_row"),
    [
        (torch.tensor([5.0, 6.0]), None, [5]),
        (FLAT, None, [0, 1, 2]),
        (FLAT, "last", [0, 1, 2]),
        (FLAT, 1, [0, 1, 2]),
        (FLAT, "tokens", [0, 1, 2]),
        (TOKENS, None, [9, 10, 11]),
        (TOKENS, "last", [9, 10, 11]),
        (TOKENS, -1, [9, 10, 11]),
        (TOKENS, 1, [3, 4, 5]),
        (TOKENS, "mean", [4.5, 5.5, 6.5]),
        (TOKENS, "flatten", list(range(12))),
        (TOKENS, "tokens", [0, 1, 2]),
        (TOKENS, lambda z: z.amax(1), [9, 10, 11]),
        (IMAGES, None, [3.5, 11.5, 19.5]),
        (IMAGES, "mean", [3.5, 11.5, 19.5]),
        (IMAGES, "flatten", list(range(24))),
        (IMAGES, "tokens", [0, 8, 16]),
    ],
)
def test_reductions_return_these_rows(output: Tensor, reduce: Any, first_row: list[float]) -> None:
    rows = reduce_output(output, reduce)
    assert rows[0].tolist() == first_row
    assert len(rows) == ({2: 2, 3: 8, 4: 16}[output.ndim] if reduce == "tokens" else 2)


def test_the_reduction_named_none_keeps_the_output() -> None:
    assert reduce_output(IMAGES, "none").shape == IMAGES.shape


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("reduce", [None, lambda z: z])
def test_narrow_numbers_become_float32(dtype: torch.dtype, reduce: Any) -> None:
    assert reduce_output(FLAT.to(dtype), reduce).dtype == torch.float32


def test_a_mean_is_taken_after_the_upcast() -> None:
    halves = torch.full((1, 3000, 1), 60000.0, dtype=torch.float16)  # their sum overflows half precision
    assert reduce_output(halves, "mean").item() == pytest.approx(60000, rel=1e-3)


def test_float64_is_kept() -> None:
    assert reduce_output(TOKENS.double(), None).dtype == torch.float64


@pytest.mark.parametrize("output", [torch.zeros(4), FLAT, TOKENS, IMAGES])
def test_an_unknown_reduction_is_an_error_for_each_output(output: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Expected reduce= to be None, 'last'.*got 'max'"):
        reduce_output(output, "max")


@pytest.mark.parametrize(
    ("output", "reduce", "error", "message"),
    [
        (TOKENS, 4, ValueError, r"in \[-4, 3\] for a position of the head, got 4"),
        (TOKENS, -5, ValueError, "position of the head, got -5"),
        (torch.tensor(1.0), None, ValueError, "one row for each input from the head, got a single number"),
        (FLAT.to(torch.complex64), "none", TypeError, "Expected real numbers, got complex ones"),
        (FLAT.to(torch.complex64), lambda z: z, TypeError, "Expected real numbers, got complex ones"),
        (
            torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged),
            None,
            TypeError,
            "Expected rows of one length, got a nested tensor",
        ),
        (FLAT, lambda z: z.numpy(), TypeError, "output of the callable reduce of the head, got ndarray"),
        (FLAT, lambda z: z.mean(), ValueError, "from the callable reduce of the head, got a single number"),
    ],
)
def test_impossible_reductions_are_an_error(output: Tensor, reduce: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        reduce_output(output, reduce, "the head")


@pytest.mark.parametrize(
    ("shape", "reduce"),
    [
        *itertools.product([(5,), (5, 3), (5, 2, 3), (5, 3, 2, 2)], [None, "mean", "flatten", "tokens"]),
        *itertools.product([(5,), (5, 3), (5, 2, 3)], [0]),  # for an image an index selects a channel
    ],
)
def test_complex_outputs_keep_their_distances(shape: tuple[int, ...], reduce: Any) -> None:
    output = torch.randn(shape, dtype=torch.complex64)
    both = [reduce_output(part, reduce) for part in (output.real, output.imag)]
    expected = torch.complex(*both)
    distances = (expected[:, None] - expected[None]).abs().square().sum(-1)
    found = reduce_output(output, reduce)
    torch.testing.assert_close((found[:, None] - found[None]).square().sum(-1), distances)


def test_sparse_and_quantised_outputs_become_dense_numbers() -> None:
    dense = torch.tensor([[0.0, 1.5], [2.0, 0.0]])
    assert torch.equal(reduce_output(dense.to_sparse(), None), dense)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated
        quantised = torch.quantize_per_tensor(dense, 0.5, 0, torch.qint8)
    assert torch.equal(reduce_output(quantised, None), dense)


def test_the_projections_of_an_attention_layer_are_not_default_layers() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(4, 2), nn.Linear(4, 2)

    assert select_layers(Net()) == ["attention", "head"]


def test_an_average_of_weights_is_unwrapped() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    average = torch.optim.swa_utils.AveragedModel(net)
    assert unwrap(average) is average.module


class Routed(nn.Module):
    """A mixture of experts, each called with the rows that the router sends to it."""

    def __init__(self, seed: int, calls: str = "always", container: type = nn.ModuleList) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.calls, n = calls, 3
        self.inner, self.router, self.head = nn.Linear(5, 8), nn.Linear(8, n), nn.Linear(8, 4)
        experts = [nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(n)]
        self.experts = (
            nn.ModuleDict({f"e{i}": expert for i, expert in enumerate(experts)})
            if container is nn.ModuleDict
            else nn.ModuleList(experts)
        )

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        top, out = self.router(hidden).argmax(-1), torch.zeros_like(hidden)
        if self.calls == "one":
            top = 0 * top
        experts = self.experts.values() if isinstance(self.experts, nn.ModuleDict) else self.experts
        for i, expert in enumerate(experts):
            if self.calls != "if needed" or (top == i).any():
                out[top == i] = expert(hidden[top == i])
        return self.head(hidden + out)


@pytest.mark.parametrize("calls", ["always", "if needed", "one"])
@pytest.mark.parametrize(("seed", "container"), [(0, nn.ModuleList), (1, nn.ModuleDict)])
def test_experts_are_no_default_layers(seed: int, container: type, calls: str) -> None:
    model, x = Routed(seed, calls, container), torch.randn(60, 5, generator=torch.Generator().manual_seed(9))
    for probe in (ActivationsProbe(), MutualInfoProbe(subsample_se=False)):
        assert list(probe.fit(model, (x, None)).series_["layer"].values) == ["inner", "router", "head"]
    lines = LMNProbe(max_samples=10).fit(model, (x, None)).series_
    assert lines["layer"].values.tolist() == ["inner"]
    assert not lines["linear_mapping_number"].isnull().any()


def test_experts_inside_blocks_are_no_default_layers() -> None:
    model = nn.Sequential(nn.Linear(5, 5), nn.Sequential(Square(0), nn.Tanh()), nn.Sequential(Square(1), nn.Tanh()))
    series = ActivationsProbe().fit(model, (torch.randn(20, 5), None)).series_
    assert not any("experts" in layer for layer in series["layer"].values)


class Square(Routed):
    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.head = nn.Linear(8, 5)


def test_the_error_of_local_complexity_without_rows_has_one_wording() -> None:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(9))
    for seed in range(4):
        with pytest.raises(
            ValueError, match="Expected an activation function with one row for each input, got other r"
        ):
            LocalComplexityProbe().fit(Routed(seed), (x, None))
