import copy
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from probe import WeightsProbe
from probe.errors import ProbeWarning
from probe.geometry import (
    effective_rank,
    participation_ratio,
    spectra,
    spectral_entropy,
    squared_singular_values,
    stable_rank,
)
from probe.information import weight_histogram
from probe.measures import weight_matrices, weight_summary
from probe.testing import state_of

X = torch.zeros(2, 6)


def measured(model: nn.Module, x: Tensor = X, **parameters: Any) -> xr.Dataset:
    return WeightsProbe(**parameters).fit(model, (x, None)).series_.isel(step=0)


def with_singular_values(values: list[float], m: int, n: int) -> Tensor:
    """Singular vectors are random."""
    u = torch.linalg.qr(torch.randn(m, m, generator=seeded(1), dtype=torch.float64))[0]
    v = torch.linalg.qr(torch.randn(n, n, generator=seeded(2), dtype=torch.float64))[0]
    k = len(values)
    return u[:, :k] @ torch.tensor(values, dtype=torch.float64).diag() @ v[:k]


@pytest.mark.parametrize(
    ("values", "norm", "stable", "effective", "bits", "participation"),
    [
        ([3.0], 3, 1, 1, 0, 1),
        ([2, 2, 2, 2, 2, 2, 2, 2], math.sqrt(32), 8, 8, 3, 8),
        ([2, 1, 1], math.sqrt(6), 1.5, 2**1.5, 1.5, 2),
        ([4, 2, 1, 1], math.sqrt(22), 22 / 16, 2**1.75, 1.75, 22**2 / 274),
    ],
)
@pytest.mark.parametrize("shape", [(8, 30), (30, 8)])
def test_known_singular_values(
    shape: tuple[int, int],
    values: list[float],
    norm: float,
    stable: float,
    effective: float,
    bits: float,
    participation: float,
) -> None:
    found = weight_summary(with_singular_values(values, *shape))
    assert found[:5] == pytest.approx((norm, stable, effective, bits, participation), rel=1e-6, abs=1e-6)
    assert found.undefined == 0


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
@pytest.mark.parametrize("shape", [(7, 50), (50, 7), (1, 9), (9, 9)])
def test_spectrum_agrees_with_numpy_also_in_blocks(
    shape: tuple[int, int], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = torch.randn(shape, generator=seeded(), dtype=dtype)
    exact = matrix.to(torch.complex128 if dtype.is_complex else torch.float64).numpy()
    expected = np.linalg.svd(exact, compute_uv=False) ** 2
    for block in (1, 40, 10**6):
        monkeypatch.setattr(spectra, "BLOCK", block)
        found = squared_singular_values(matrix)
        assert found.dtype == torch.float64
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12 * expected[0])


def test_ranks_see_neither_scale_nor_orientation() -> None:
    w = torch.randn(12, 20, generator=seeded(), dtype=torch.float64)
    q = torch.linalg.qr(torch.randn(20, 20, generator=seeded(1), dtype=torch.float64))[0]
    for other in (1e-12 * w, w.T, w @ q, w.flip(0)):
        assert weight_summary(other)[1:5] == pytest.approx(weight_summary(w)[1:5], rel=1e-9)


@pytest.mark.parametrize("function", [effective_rank, participation_ratio, stable_rank, spectral_entropy])
@pytest.mark.parametrize("spectrum", [[0.0, 0.0], [math.nan, 1.0], [math.inf, 1.0]])
def test_a_spectrum_of_nothing_has_no_rank(function: Any, spectrum: list[float]) -> None:
    with pytest.raises(ValueError, match="not all 0"):
        function(torch.tensor(spectrum))


@pytest.mark.parametrize("matrix", [torch.zeros(3), torch.zeros(0, 4), torch.tensor([[1.0, math.nan]])])
def test_what_is_no_matrix_has_no_spectrum(matrix: Tensor) -> None:
    with pytest.raises(ValueError, match=r"Expected a matrix .*got"):
        squared_singular_values(matrix)


class Many(nn.Module):
    """A convolution, a stack, tied layers, a frozen matrix, a vector of its own, in one model."""

    def __init__(self) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.full((2,), 2.0))
        self.conv = nn.Conv2d(3, 4, 2, bias=False)
        self.attention = nn.MultiheadAttention(4, 2, bias=False)
        self.read = nn.Linear(4, 5, bias=False)
        self.tied = nn.Linear(4, 5, bias=False)
        self.tied.weight = self.read.weight
        self.frozen = nn.Linear(4, 4, bias=False).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_each_matrix_is_measured_once_under_its_own_name() -> None:
    model = built(Many)
    matrices = weight_matrices(model)
    assert {name: tuple(w.shape) for name, w in matrices.items()} == {
        "conv.weight": (4, 12),
        "attention.q_proj_weight": (4, 4),
        "attention.k_proj_weight": (4, 4),
        "attention.v_proj_weight": (4, 4),
        "attention.out_proj.weight": (4, 4),
        "read.weight": (5, 4),
        "frozen.weight": (4, 4),
    }
    found = measured(model)
    assert found["parameter"].values.tolist() == list(matrices)
    assert found["weight_norm"].attrs["tied"] == "tied.weight is read.weight"
    assert torch.equal(matrices["attention.k_proj_weight"], model.attention.in_proj_weight[4:8])
    kernels = model.conv.weight.detach().double().reshape(4, 12).numpy()
    s = np.linalg.svd(kernels, compute_uv=False)
    assert found["weight_stable_rank"].sel(parameter="conv.weight").item() == pytest.approx((s**2).sum() / s[0] ** 2)


def test_total_norm_counts_each_trainable_number_once() -> None:
    model = built(Many)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(2.0)
    numbers = 2 + 4 * 12 + 12 * 4 + 4 * 4 + 5 * 4  # not the tied weight again, not the frozen one
    assert measured(model)["weight_norm_total"].item() == pytest.approx(2 * math.sqrt(numbers))


def test_parametrised_weights_are_measured_as_they_compute() -> None:
    layer = built(lambda: parametrizations.orthogonal(nn.Linear(6, 4)))
    found = measured(nn.Sequential(layer))
    assert found["parameter"].values.tolist() == ["0.weight"]
    assert found["weight_effective_rank"].item() == pytest.approx(4, rel=1e-5)
    assert found["weight_norm"].item() == pytest.approx(2, rel=1e-5)


def test_power_iterations_of_a_spectral_norm_do_not_advance() -> None:
    model = built(lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(6, 4)))).train()
    before = copy.deepcopy(model.state_dict())
    found = measured(model)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert found["weight_norm"].item() == pytest.approx(model.eval()[0].weight.norm().item(), rel=1e-5)


def assert_measures(model: nn.Module, expected: dict[str, Tensor], **tolerance: float) -> xr.Dataset:
    """Assert that the probe measures these matrices, given in float64, and leaves the model unchanged."""
    before = state_of(model, None)
    found = measured(model)
    assert state_of(model, None) == before
    assert set(found["parameter"].values.tolist()) == set(expected)
    for name, matrix in expected.items():
        one, s = found.sel(parameter=name), np.linalg.svd(matrix.detach().double().numpy(), compute_uv=False)
        numbers = s @ s, np.sqrt(s @ s), (s @ s) / s[0] ** 2
        assert one["weight_norm"].item() == pytest.approx(numbers[1], **tolerance)
        assert one["weight_stable_rank"].item() == pytest.approx(numbers[2], **tolerance)
        assert one["weight_effective_rank"].item() == pytest.approx(np.exp(scipy.stats.entropy(s)), **tolerance)
    return found


@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("kind", [nn.utils.weight_norm, nn.utils.spectral_norm])
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_weights_that_a_hook_computes_are_those_of_the_next_pass(kind: Any, trained: bool) -> None:
    layer, other = (built(lambda: kind(nn.Linear(6, 4, bias=False))) for _ in range(2))
    with torch.no_grad():
        for parameter in (*layer.parameters(), *other.parameters()):
            parameter.mul_(3 if trained else 1)  # the attribute is that of the last pass
    columns = other.eval()(torch.eye(6))
    assert_measures(nn.Sequential(layer), {"0.weight": columns.T}, rel=1e-5)


def test_pruned_weights_are_measured_with_their_mask() -> None:
    layer = prune.random_unstructured(built(lambda: nn.Linear(6, 4)), "weight", amount=0.5)
    assert_measures(nn.Sequential(layer), {"0.weight": layer.weight_orig * layer.weight_mask}, rel=1e-5)


def test_a_recurrent_layer_with_one_weight_of_old_normalisation() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(built(lambda: nn.GRU(3, 2, bidirectional=True)), "weight_hh_l0")
    names = ["weight_hh_l0", "weight_hh_l0_reverse", "weight_ih_l0", "weight_ih_l0_reverse"]
    assert sorted(weight_matrices(layer)) == names, "a reverse weight is no part of the normalised one"


class Low(nn.Module):
    """LoRA around a layer."""

    def __init__(self, base: nn.Module, act: nn.Module | None = None) -> None:
        super().__init__()
        self.base, self.act = base, act or nn.Identity()
        out, width = base.weight.shape[:2]
        self.down, self.up = nn.Linear(width, 2, bias=False), nn.Linear(2, out, bias=False)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + 3 * self.up(self.act(self.down(self.drop(x))))


class Inside(nn.Linear):
    """LoRA in a layer."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(width, out)
        self.a, self.b = nn.Parameter(torch.randn(2, width)), nn.Parameter(torch.randn(out, 2))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.5 * x @ self.a.T @ self.b.T


class Transposed(nn.Module):
    """The linear layer of GPT-2."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(width, out)), nn.Parameter(torch.randn(out))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class LowTransposed(Low):
    def __init__(self, base: nn.Module) -> None:
        super().__init__(base)
        self.down, self.up = nn.Linear(base.weight.shape[0], 2), nn.Linear(2, base.weight.shape[1])


class LowTable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Embedding(9, 6)
        self.a, self.b = nn.Parameter(torch.randn(2, 9)), nn.Parameter(torch.randn(6, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + nn.functional.embedding(x, self.a.T) @ self.b.T


class Scaled(nn.Module):
    """Adapters that scale inputs and outputs (IA3)."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base = base
        self.factors = nn.ParameterDict({"in": torch.rand(base.in_features), "out": torch.rand(base.out_features)})

    def forward(self, x: Tensor) -> Tensor:
        return self.factors["out"] * self.base(x * self.factors["in"])


ADAPTED: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Tensor]]] = {
    "around": (lambda: Low(nn.Linear(6, 12)), lambda m: m.base.weight + 3 * m.up.weight @ m.down.weight),
    "around, square": (lambda: Low(nn.Linear(6, 6)), lambda m: m.base.weight + 3 * m.up.weight @ m.down.weight),
    "around, narrow": (lambda: Low(nn.Linear(6, 3)), lambda m: m.base.weight + 3 * m.up.weight @ m.down.weight),
    "float64": (lambda: Low(nn.Linear(6, 5)).double(), lambda m: m.base.weight + 3 * m.up.weight @ m.down.weight),
    "inside": (lambda: Inside(6, 12), lambda m: m.weight + 0.5 * m.b @ m.a),
    "transposed": (
        lambda: LowTransposed(Transposed(6, 12)),
        lambda m: m.base.weight.T + 3 * m.up.weight @ m.down.weight,
    ),
    "table": (LowTable, lambda m: m.base.weight + (m.b @ m.a).T),
    "scaled": (
        lambda: Scaled(nn.Linear(6, 12)),
        lambda m: m.factors["out"][:, None] * m.base.weight * m.factors["in"],
    ),
}


@pytest.mark.parametrize(("make", "expected"), ADAPTED.values(), ids=ADAPTED)
def test_a_layer_with_adapters_is_measured_as_it_computes(make: Any, expected: Callable[[Any], Tensor]) -> None:
    layer = built(make)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            parameter.mul_(1 if "base" in name else 9)
    holder = Holder(layer)
    found = assert_measures(holder, {"layer.weight": expected(layer)}, rel=1e-4)
    assert "left_out" not in found["weight_norm"].attrs


class Holder(nn.Module):
    """A module whose pass does not reach its layer, so that the data does not matter."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return x


class Chain(nn.Module):
    """Three linear layers one after the other, the largest first."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.down, self.up = nn.Linear(6, 6), nn.Linear(6, 2), nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(self.down(self.base(x)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Low(nn.Linear(6, 12), nn.ReLU()),
        Chain,
        lambda: nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 2), nn.Linear(2, 6)),
        lambda: nn.TransformerEncoderLayer(6, 2, 12),
        lambda: nn.Bilinear(6, 6, 3),
    ],
)
def test_what_is_no_adapter_keeps_its_matrices(make: Callable[[], nn.Module]) -> None:
    layer = built(make)
    names = {name for name, parameter in layer.named_parameters() if parameter.ndim > 1}
    if "self_attn.in_proj_weight" in names:
        names = (names - {"self_attn.in_proj_weight"}) | {f"self_attn.{part}_proj_weight" for part in "qkv"}
    assert set(weight_matrices(Holder(layer))) == {f"layer.{name}" for name in names}


def test_a_convolution_with_adapters_is_named() -> None:
    layer = built(lambda: Low(nn.Conv2d(4, 8, 3, padding=1)))
    layer.down, layer.up = nn.Conv2d(4, 2, 3, padding=1), nn.Conv2d(2, 8, 1)
    with pytest.warns(ProbeWarning, match=r"WeightsProbe leaves out: layer \(a convolution with adapters, whose own"):
        found = measured(Holder(layer))
    assert found["weight_norm"].attrs["left_out"].startswith("layer: a convolution with adapters")
    plain = nn.Sequential(nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
    assert "left_out" not in measured(Holder(plain))["weight_norm"].attrs


@pytest.mark.filterwarnings("ignore:.*quant")
def test_quantised_weights_are_measured_or_named() -> None:
    from torch.ao.quantization import quantize_dynamic

    layers = built(lambda: nn.ModuleDict({"one": nn.Linear(6, 4), "two": nn.LSTM(3, 4), "three": nn.Linear(6, 2)}))
    model = Holder(
        quantize_dynamic(
            layers,
            {
                "one": torch.ao.quantization.default_dynamic_qconfig,
                "two": torch.ao.quantization.default_dynamic_qconfig,
            },
        )
    )
    model.packed = nn.Parameter(torch.zeros(8, 8, dtype=torch.uint8), requires_grad=False)
    with pytest.warns(ProbeWarning, match=r"packed \(numbers of torch.uint8.*layer.two \(LSTM, which does not return"):
        found = measured(model)
    assert sorted(found["parameter"].values.tolist()) == ["layer.one.weight", "layer.three.weight"]
    exact = layers["one"].weight.norm().item()
    assert found["weight_norm"].sel(parameter="layer.one.weight").item() == pytest.approx(exact, rel=0.01)


def blocks(weight: Tensor) -> Tensor:
    return torch.block_diag(*weight)


STACKS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Tensor]]] = {
    "convolution": (lambda: nn.Conv2d(3, 4, 2), lambda m: m.weight.reshape(4, 12)),
    "groups": (lambda: nn.Conv2d(4, 6, 2, groups=2), lambda m: blocks(m.weight.reshape(2, 3, 8))),
    "depthwise": (lambda: nn.Conv1d(5, 5, 3, groups=5), lambda m: blocks(m.weight.reshape(5, 1, 3))),
    "transposed": (lambda: nn.ConvTranspose1d(3, 4, 2), lambda m: m.weight.transpose(0, 1).reshape(4, 6)),
    "transposed, groups": (
        lambda: nn.ConvTranspose1d(4, 6, 2, groups=2),
        lambda m: blocks(m.weight.reshape(2, 2, 3, 2).transpose(1, 2).reshape(2, 3, 4)),
    ),
    "bilinear": (lambda: nn.Bilinear(3, 4, 5, bias=False), lambda m: m.weight.reshape(5, 12)),
    "embedding": (lambda: nn.Embedding(7, 3), lambda m: m.weight),
}


@pytest.mark.parametrize(("make", "expected"), STACKS.values(), ids=STACKS)
def test_kernels_are_matrices_of_outputs_by_inputs_and_groups_are_blocks(make: Any, expected: Any) -> None:
    layer = built(make)
    assert_measures(Holder(layer), {"layer.weight": expected(layer)}, rel=1e-6)


def test_a_stack_of_experts_is_a_matrix_of_blocks() -> None:
    layer = nn.Module()
    layer.experts = nn.Parameter(torch.randn(3, 4, 6, generator=seeded()))
    layer.positions = nn.Parameter(torch.randn(1, 5, 6, generator=seeded(1)))
    expected = {"layer.experts": blocks(layer.experts), "layer.positions": layer.positions[0]}
    assert_measures(Holder(layer), expected, rel=1e-6)


def test_what_has_no_rank_is_flagged() -> None:
    model = built(lambda: nn.Sequential(*(nn.Linear(6, 6) for _ in range(4))))
    with torch.no_grad():
        model[0].weight.zero_()
        model[1].weight[0, 0] = math.nan
        model[2].weight[0, 0] = math.inf
    found = measured(model)
    assert found["weight_rank_undefined"].values.tolist() == [1, 1, 1, 0]
    assert found["weight_effective_rank"].isnull().values.tolist() == [True, True, True, False]
    assert found["weight_norm"].values[0] == 0
    large = measured(model[3:], max_side=5)
    assert large["weight_rank_undefined"].item() == -1
    assert large["weight_stable_rank"].isnull().item()
    assert large["weight_norm"].item() == found["weight_norm"].values[3]


def test_a_model_without_matrices_is_an_error() -> None:
    with pytest.raises(ValueError, match="two or more dimensions, got a model without any"):
        WeightsProbe().fit(nn.LayerNorm(6), (X, None))


def test_histogram_entropy_is_that_of_numpy_bin_by_bin() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(6, 40), nn.Linear(40, 6)))
    with torch.no_grad():
        model[0].weight.mul_(3)  # some of them outside
        model[1].weight[0, 0] = math.nan
    assert "weight_histogram_entropy" not in measured(model)
    found = measured(model, histogram=True)["weight_histogram_entropy"]
    counts = np.histogram(model[0].weight.detach().numpy(), np.linspace(-1, 1, 30))[0].tolist()
    assert sum(counts) < 240
    expected = scipy.stats.entropy([*counts, 240 - sum(counts)], base=2)
    assert found.values.tolist() == [pytest.approx(expected, abs=1e-9), pytest.approx(math.nan, nan_ok=True)]
    assert found.attrs["units"] == "bits"


def test_histogram_in_blocks_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = torch.randn(7, 11, generator=seeded())
    whole = weight_histogram.weight_histogram_entropy(weights)
    monkeypatch.setattr(weight_histogram, "_BLOCK", 10)
    assert weight_histogram.weight_histogram_entropy(weights) == pytest.approx(whole, abs=1e-12)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("Lora", {"r": 2}),
        ("Lora", {"r": 2, "use_dora": True}),
        ("LoHa", {"r": 2}),
        ("LoKr", {"r": 2}),
        ("AdaLora", {"init_r": 2, "total_step": 9}),
        ("IA3", {"feedforward_modules": ["down_proj"]}),
    ],
)
def test_adapters_of_peft_are_measured_as_they_merge(kind: str, parameters: dict[str, Any]) -> None:
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    base = built(lambda: transformers.LlamaForCausalLM(transformers.LlamaConfig(**sizes, vocab_size=40)))
    settings = getattr(peft, f"{kind}Config")(target_modules=["q_proj", "down_proj"], **parameters)
    model = built(lambda: peft.get_peft_model(base, settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=seeded()) if parameter.requires_grad else 0)
    found = weight_matrices(model)
    merged = weight_matrices(model.merge_and_unload())
    assert set(found) == {f"base_model.model.{name}" for name in merged}
    for name, weight in merged.items():
        torch.testing.assert_close(found[f"base_model.model.{name}"], weight, rtol=1e-4, atol=1e-5)


class OwnForward(nn.Linear):
    """A linear layer that computes with another matrix than its parameter."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(4, 3)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.change(self.weight), self.bias)


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w,
        lambda w: w * 0.1,  # an equalised learning rate
        lambda w: w / w.norm(),
        lambda w: (w - w.mean(1, keepdim=True)) / w.std(1, keepdim=True),  # weight standardisation
        lambda w: w + ((w * 4).round() / 4 - w).detach(),  # training that knows of a later rounding
        lambda w: w.sign() * w.abs().mean(),
    ],
)
def test_a_linear_layer_with_its_own_forward_pass_is_measured_as_it_computes(
    change: Callable[[Tensor], Tensor],
) -> None:
    layer = OwnForward(change)
    assert torch.allclose(weight_matrices(layer)["weight"], change(layer.weight), atol=1e-6)
    model = nn.Sequential(layer, nn.ReLU(), nn.Linear(3, 2))
    found = WeightsProbe().fit(model, (torch.randn(6, 4), None)).series_["weight_norm"].sel(parameter="0.weight").item()
    assert found == pytest.approx(change(layer.weight).norm().item(), rel=1e-5)


def test_a_linear_layer_that_is_not_affine_is_named() -> None:
    class Activated(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(super().forward(x))

    with pytest.warns(ProbeWarning, match="with a forward pass of its own that is not affine"):
        series = WeightsProbe().fit(Activated(4, 3), (torch.randn(6, 4), None)).series_
    assert "is not affine" in series["weight_norm"].attrs["left_out"]


def test_labels_stay_those_of_the_first_observation() -> None:
    model = nn.ModuleDict({"a": nn.Linear(6, 4), "b": nn.Linear(4, 3)})
    model.forward = lambda x: x  # type: ignore[method-assign]
    a, b = (f"{name}.weight" for name in "ab")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attached = WeightsProbe().attach(model, (X, None))
        attached.observe(0)
        model["new"] = nn.Linear(6, 2)
        attached.observe(1)
        model["a"], model["b"] = model.pop("b"), model["a"]  # another order: what was b is a
        attached.observe(2)
        del model["b"]
        model["newer"] = nn.Linear(6, 2)
        attached.observe(3)
        attached.observe(4)
    texts = [str(each.message) for each in caught if issubclass(each.category, ProbeWarning)]
    assert [text.split("; ")[0].split("new ones: ")[1] for text in texts] == ["new.weight", "newer.weight"]
    series = attached.series_
    assert series["parameter"].values.tolist() == [a, b]
    assert not series["failed"].any()
    norm = series["weight_norm"]
    assert norm.sel(parameter=b).isnull().values.tolist() == [False, False, False, True, True]
    assert series["weight_rank_undefined"].sel(parameter=b, step=4).item() == -1
    assert norm.sel(parameter=a, step=2).item() == norm.sel(parameter=b, step=0).item()
    assert norm.sel(parameter=b, step=2).item() == norm.sel(parameter=a, step=0).item()


class LowOfRank(Low):
    """LoRA whose parts are as large as the layer or larger, in one of two orders of registration."""

    def __init__(self, base: nn.Linear, rank: int, *, last: bool = False) -> None:
        super().__init__(base)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        if last:
            del self.base
            self.base = base


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("width", "out", "rank"), [(6, 6, 6), (6, 6, 8), (6, 4, 4), (4, 6, 4), (6, 4, 6), (6, 4, 9)])
def test_adapters_of_full_rank_are_measured_as_they_compute(width: int, out: int, rank: int, last: bool) -> None:
    layer = built(lambda: LowOfRank(nn.Linear(width, out), rank, last=last))
    expected = layer.base.weight + 3 * layer.up.weight @ layer.down.weight
    assert_measures(Holder(layer), {"layer.weight": expected}, rel=1e-4)


class Three(nn.Module):
    """Three square layers in a chain."""

    def __init__(self, act: nn.Module) -> None:
        super().__init__()
        self.a, self.b, self.c, self.act = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6), act

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.act(self.b(self.act(self.a(x)))))


@pytest.mark.parametrize("act", [nn.Identity(), nn.ReLU(), nn.Dropout(0.5), nn.LayerNorm(6)])
def test_three_layers_in_a_chain_are_no_adapters(act: nn.Module) -> None:
    assert list(weight_matrices(Holder(Three(act)))) == ["layer.a.weight", "layer.b.weight", "layer.c.weight"]


def standardised(w: Tensor) -> Tensor:
    return (w - w.mean((1, 2), keepdim=True)) / w.std((1, 2), keepdim=True)


class Standardised(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, standardised(self.weight), self.bias)


class StandardisedTransposed(nn.ConvTranspose1d):
    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return nn.functional.conv_transpose1d(x, weight=standardised(self.weight), bias=self.bias)


class Causal(nn.Conv1d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : -self.padding[0]]


def test_a_convolution_with_its_own_forward_pass_is_measured_as_it_computes() -> None:
    layer = built(lambda: Standardised(4, 6, 3, groups=2, padding=1, dilation=2))
    assert_measures(Holder(layer), {"layer.weight": blocks(standardised(layer.weight).reshape(2, 3, 6))}, rel=1e-5)
    layer = built(lambda: StandardisedTransposed(3, 4, 2))
    expected = standardised(layer.weight).transpose(0, 1).reshape(4, 6)
    assert_measures(Holder(layer), {"layer.weight": expected}, rel=1e-5)
    layer = built(lambda: Causal(3, 4, 3, padding=2))
    found = assert_measures(Holder(layer), {"layer.weight": layer.weight.reshape(4, 9)}, rel=1e-5)
    assert "left_out" not in found["weight_norm"].attrs


class Changed(nn.Conv2d):
    """A convolution that changes its result."""

    def __init__(self, change: Callable[[Tensor], Tensor]) -> None:
        super().__init__(3, 4, 3)
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        return self.change(super().forward(x))


@pytest.mark.parametrize("change", [torch.relu, torch.relu_, lambda x: 3 * x, lambda x: (x, x)])
def test_a_convolution_that_changes_its_result_is_named(change: Callable[[Tensor], Tensor]) -> None:
    with pytest.warns(ProbeWarning, match=r"leaves out: layer \(a convolution with a forward pass of its own"):
        found = measured(Holder(Changed(change)))
    assert found["parameter"].values.tolist() == ["layer.weight"]
