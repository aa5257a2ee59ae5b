"""Tangent kernels against closed forms, full Jacobians and kernels that are computed in another way."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from scipy import stats
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp
from torch.utils.flop_counter import FlopCounterMode

from probe import ProbeSet, TangentKernelProbe, at, load
from probe.forward.tangents.contraction import contracted_kernel
from probe.forward.tangents.kernel import TangentMap
from probe.forward.tangents.layerwise import NotLayerwiseError, layerwise_kernel
from probe.forward.tangents.outputs import Outputs, trained_parameters
from probe.geometry import kernel_alignment, kernel_numbers, kernel_sketch, probe_sketch
from probe.measures import tangent_kernel, tangent_products
from probe.measures.neural_tangent.targets import target_matrix
from probe.stats import kernel_distance, kernel_distances


def mlp(*sizes: int, activation: type[nn.Module] = nn.Tanh) -> nn.Sequential:
    parts = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), activation())]
    return nn.Sequential(*parts[:-1])


def grouped() -> nn.Sequential:
    first = nn.Conv2d(2, 4, 3, padding=1, stride=2, groups=2)
    norm = nn.BatchNorm2d(4, affine=False)
    norm.running_mean, norm.running_var = torch.tensor([0.5, 0, 1, -1]), torch.tensor([1.0, 2, 3, 0.5])
    return nn.Sequential(first, norm, nn.ReLU(inplace=True), nn.Conv2d(4, 3, 2), nn.Flatten(), nn.Linear(12, 3))


def line() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1, dilation=2, bias=False), nn.GELU(), nn.Flatten(), nn.Linear(16, 3)
    )


def tokens() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 8), nn.Tanh(), nn.Linear(8, 5), nn.Flatten())


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 8)
        self.block = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embedding(x))[:, -1])


class Recurrent(nn.Module):
    def __init__(self, kind: Callable[..., nn.Module] = nn.LSTM) -> None:
        super().__init__()
        self.cell = kind(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x)[0][:, -1])


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(), dtype=torch.float64)


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor], bool]] = {  # name: model, inputs, layer by layer
    "perceptron": (lambda: mlp(6, 8, 5, 3), lambda: images(7, 6), True),
    "in place": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)),
        lambda: images(7, 6),
        True,
    ),
    "convolution": (grouped, lambda: images(5, 2, 6, 6), True),
    "line": (line, lambda: images(5, 2, 6), True),
    "tokens": (tokens, lambda: images(5, 3, 4), True),
    "attention": (Attention, lambda: torch.randint(7, (5, 4), generator=seeded()), False),
    "normalised": (
        lambda: nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)),
        lambda: images(7, 6),
        False,
    ),
}


def contraction(model: nn.Module, x: Tensor) -> Tensor:
    """J J^T by torch.func, of a model in evaluation mode."""
    point = {name: parameter.detach() for name, parameter in model.named_parameters()}
    training = [module for module in model.modules() if module.training]
    model.eval()
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        parts = jacrev(lambda parameters: functional_call(model, parameters, (x,)).flatten())(point)
    for module in training:
        module.training = True
    jacobian = torch.cat([part.flatten(1) for part in parts.values()], 1)
    return jacobian @ jacobian.T


def tangents(model: nn.Module, x: Tensor, block: int = 100) -> TangentMap:
    return TangentMap(Outputs(model, lambda rows: x[rows], len(x)), trained_parameters(model), block)


def signs(*shape: int, seed: int = 0) -> Tensor:
    return (torch.randint(2, shape, generator=seeded(seed)) * 2 - 1).double()


def difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).abs().max() / b.abs().max()).item()


def measured(model: nn.Module, x: Any, y: Any = None, **parameters: Any) -> xr.Dataset:
    found = TangentKernelProbe(**{"n_batches": 1, **parameters}).fit(model, (x, y)).series_
    return found.isel(step=0, split=0, batch=0, drop=True)


# -- the kernel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_every_route_is_the_contraction_of_the_full_jacobian(name: str) -> None:
    make, inputs, by_layer = MODELS[name]
    model, x = built(make).double(), inputs()
    kernel = contraction(model, x)
    assert difference(tangent_kernel(model, x, method="exact"), kernel) < 1e-12
    assert difference(tangent_kernel(model, x), kernel) < 1e-12
    z = signs(len(x), len(kernel) // len(x), 3)
    products = (kernel @ z.flatten(0, 1)).view_as(z)
    for block, forward in itertools.product((100, 3), (True, False)):
        map_ = tangents(model, x, block)
        map_.forward_mode = forward
        assert difference(map_.products(z), products) < 1e-12
        assert map_.forward_mode is forward
        if by_layer:
            assert difference(layerwise_kernel(map_), kernel) < 1e-12
    if not by_layer:
        with pytest.raises(NotLayerwiseError, match="Expected all parameters in Linear, Conv1d and Conv2d"):
            tangent_kernel(model, x, method="layerwise")


def test_kernel_of_two_layers_by_hand() -> None:
    """Of f = a . (W x): K_ij = |a|^2 x_i . x_j + (W x_i) . (W x_j)."""
    model, x = (
        built(lambda: nn.Sequential(nn.Linear(4, 5, bias=False), nn.Linear(5, 1, bias=False))).double(),
        images(6, 4),
    )
    hidden, a = x @ model[0].weight.T, model[1].weight
    expected = a.square().sum() * x @ x.T + hidden @ hidden.T
    assert difference(tangent_kernel(model, x), expected.detach()) < 1e-14
    assert difference(tangent_kernel(model, x, layers="1"), (hidden @ hidden.T).detach()) < 1e-14
    model[1].weight.requires_grad_(False)
    assert difference(tangent_kernel(model, x), (a.square().sum() * x @ x.T).detach()) < 1e-14


def test_the_jacobian_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = built(lambda: mlp(6, 8, 3)).double(), images(7, 6)
    monkeypatch.setattr("probe.forward.tangents.contraction._JACOBIAN", 500)  # two inputs at a time
    monkeypatch.setattr("probe.forward.tangents.kernel.GROUP", 200)  # two vectors at a time
    kernel = contraction(model, x)
    assert difference(tangent_kernel(model, x, method="exact"), kernel) < 1e-12
    z = signs(7, 3, 5)
    assert difference(tangents(model, x).products(z).flatten(0, 1), kernel @ z.flatten(0, 1)) < 1e-12


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_second_derivatives_serve_where_forward_mode_does_not(kind: type[nn.Module]) -> None:
    model, x = built(lambda: Recurrent(kind)), images(6, 3, 4).float()
    map_ = tangents(model, x)
    z = signs(6, 2, 4).float()
    products = map_.products(z)
    assert map_.forward_mode is (kind is not nn.LSTM)
    assert difference(products.flatten(0, 1), contracted_kernel(map_) @ z.flatten(0, 1)) < 1e-5


class Hidden(nn.Module):
    """A model that reads a parameter past its modules, so that derivatives by replaced parameters miss it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 2)
        self.reference = [self.second.weight]

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.first(x)) @ self.reference[0].T


def test_a_parameter_that_forward_mode_misses_is_found() -> None:
    model, x = built(Hidden).double(), images(6, 4)
    twin = nn.Sequential(model.first, nn.Tanh(), nn.Linear(5, 2, bias=False)).double()
    twin[2].weight = model.second.weight
    map_ = tangents(model, x)
    z = signs(6, 2, 4)
    assert difference(map_.products(z).flatten(0, 1), contraction(twin, x) @ z.flatten(0, 1)) < 1e-12
    assert not map_.forward_mode


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return 2 * ctx.saved_tensors[0] * gradient


class Squares(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(self.layer(x))


def test_operations_with_first_derivatives_only() -> None:
    model, x = built(Squares).double(), images(5, 4)
    slopes = 2 * model.layer(x).detach()
    expected = torch.einsum("ic,jd,ij,cd->icjd", slopes, slopes, x @ x.T + 1, torch.eye(2).double()).reshape(10, 10)
    assert difference(tangent_kernel(model, x, method="exact"), expected) < 1e-12
    with pytest.raises(ValueError, match="Expected second derivatives that agree with the first ones, got others"):
        measured(model, x, method="probes")


# -- layer by layer ----------------------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A weight of a layer with a second use."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) @ self.layer.weight


class Coupled(Tied):
    """Outputs that depend on the other inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.layer(x)) + x.mean() * self.layer(x).mean(0)


@pytest.mark.parametrize("kind", [Tied, Coupled])
def test_layers_with_another_use_are_refused(kind: type[nn.Module]) -> None:
    model, x = built(kind).double(), images(5, 4)
    with pytest.raises(NotLayerwiseError):
        tangent_kernel(model, x, method="layerwise")


def test_a_selected_layer_has_the_weights_that_it_shares() -> None:
    model = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Tanh(), nn.Linear(3, 3, bias=False)).double()
    model[2].weight = model[0].weight  # its first name is that of the first layer
    x = torch.randn(4, 3).double()
    assert torch.equal(tangent_kernel(model, x, layers=["2"]), tangent_kernel(model, x))


def test_parameters_without_axes_have_a_kernel() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    expected = torch.outer(x.flatten(), x.flatten())
    assert torch.equal(tangent_kernel(Scaled(), x), expected)
    assert torch.allclose(tangent_products(Scaled(), x, torch.eye(4)), expected)


def test_shared_layers_and_layers_with_two_calls_are_refused() -> None:
    layer = nn.Linear(4, 4)
    twice = nn.Sequential(layer, nn.Tanh(), layer).double()
    with pytest.raises(NotLayerwiseError, match="2 calls"):
        tangent_kernel(twice, images(5, 4), method="layerwise")
    assert difference(tangent_kernel(twice, images(5, 4)), contraction(twice, images(5, 4))) < 1e-12
    shared = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).double()
    shared[2].weight = shared[0].weight
    with pytest.raises(NotLayerwiseError, match="several modules share"):
        tangent_kernel(shared, images(5, 4), method="layerwise")


# -- numbers -----------------------------------------------------------------------------------------------------------


def random_kernel(n: int, seed: int = 0) -> Tensor:
    """A kernel with a spectrum over two decades."""
    basis = torch.linalg.qr(torch.randn(n, n, generator=seeded(seed), dtype=torch.float64)).Q
    return basis * torch.logspace(0, -2, n, dtype=torch.float64) @ basis.T


def trained_kernels() -> tuple[Tensor, Tensor]:
    """Kernels of a perceptron before and after training."""
    model, x = built(lambda: mlp(6, 16, 3)), images(20, 6).float()
    y, optimizer = x[:, :3].argmax(1), torch.optim.SGD(model.parameters(), lr=0.5)
    before = tangent_kernel(model, x).double()
    for _ in range(50):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return before, tangent_kernel(model, x).double()


@pytest.mark.parametrize("kind", ["spectrum over two decades", "trained"])
def test_estimates_lie_within_their_intervals_of_the_whole_kernel(kind: str) -> None:
    """At least 90 % of the 95 % intervals of 16 vectors hold the value of the whole kernel."""
    first, second = random_kernel(60), random_kernel(60) + 0.1 * random_kernel(60, seed=1)
    if kind == "trained":
        first, second = trained_kernels()
    truth = kernel_numbers(first)
    distance = kernel_distance(first.flatten(), second.flatten()).distance
    width, hits = stats.t.ppf(0.975, 15), []
    for draw in range(200):
        z = signs(60, 16, seed=draw)
        found = kernel_numbers(first @ z, z)
        pairs = [(found.trace, found.trace_se, truth.trace), (found.norm, found.norm_se, truth.norm)]
        pairs += [(found.effective_rank, found.effective_rank_se, truth.effective_rank)]
        sketches = [probe_sketch(kernel @ z, 60, random_state=draw).numpy() for kernel in (first, second)]
        moved = kernel_distance(*sketches, n_probes=16)
        pairs += [(moved.distance, moved.standard_error, distance)]
        hits.append([abs(value - exact) <= width * error for value, error, exact in pairs])
    assert (np.mean(hits, 0) >= 0.9).all(), np.mean(hits, 0)


def test_numbers_of_a_whole_kernel() -> None:
    values = torch.tensor([4.0, 2.0, 1.0])
    found = kernel_numbers(torch.diag(values))
    assert found.trace == 7
    assert found.norm == pytest.approx(21**0.5)
    assert found.effective_rank == pytest.approx(49 / 21)
    assert {found.trace_se, found.norm_se, found.effective_rank_se} == {0.0}
    value, error = kernel_alignment(values * torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 1, 0]), found)
    assert value == pytest.approx(2 / 21**0.5)
    assert error == 0
    assert np.isnan(kernel_numbers(torch.zeros(2, 2)).effective_rank)


def test_distances_of_sketches() -> None:
    kernels = random_kernel(40), random_kernel(40) + 0.2 * random_kernel(40, seed=1)
    truth = 1 - (kernels[0] * kernels[1]).sum().item() / (kernels[0].norm() * kernels[1].norm()).item()
    whole = kernel_distance(*(kernel_sketch(kernel, 820).numpy() for kernel in kernels))
    assert whole.distance == pytest.approx(truth, abs=1e-14)
    errors = []
    for seed in range(50):
        hashed = [kernel_sketch(kernel, 200, random_state=seed).numpy() for kernel in kernels]
        found = kernel_distance(*hashed, hashed=True)
        errors.append((found.distance / truth - 1).item())
        assert found.standard_error == pytest.approx(found.distance * 0.1)
    assert 0.05 < np.std(errors) < 0.15  # sqrt(2 / 200) = 0.1
    assert abs(np.mean(errors)) < 0.04
    assert kernel_distance(*[kernels[0].numpy().ravel() * scale for scale in (1, 1e200)]).distance < 1e-15
    assert np.isnan(kernel_distance([0.0, 0.0], [1.0, 0.0]).distance)
    assert np.isnan(kernel_distance([1.0, 2.0], [1.0, 0.0], n_probes=1).standard_error)
    with pytest.raises(ValueError, match="Expected a multiple of 3 numbers"):
        kernel_distance([1.0, 2.0], [1.0, 0.0], n_probes=3)


# -- the probe ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["auto", "exact", "layerwise", "probes"])
def test_the_kernel_of_a_linear_model_is_exact_and_constant(method: str) -> None:
    x, y = images(12, 5).float(), torch.randint(3, (12,), generator=seeded())
    found = []
    for seed in range(2):
        model = built(lambda: nn.Linear(5, 3), seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        probe = TangentKernelProbe(method=method, n_batches=1).attach(
            model, (x, y), optimizer=optimizer, schedule=at([0, 1, 5])
        )
        for _ in range(5):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        found.append(probe.detach().series_.isel(split=0, batch=0, drop=True))
    gram = (x @ x.T + 1).double().numpy()  # times the identity of outputs
    for series in found:
        assert np.allclose(series["tangent_kernel_from_first"], 0, atol=1e-12)
        assert np.allclose(series["tangent_kernel_moved"][1:], 0, atol=1e-12)
        assert np.allclose(kernel_distances(series)["distance"], 0, atol=1e-12)
        if method != "probes":
            assert np.allclose(series["tangent_kernel_trace"], 3 * gram.trace(), rtol=1e-6)
            assert np.allclose(series["tangent_kernel_norm"], 3**0.5 * np.linalg.norm(gram), rtol=1e-6)
    assert np.allclose(found[0]["tangent_kernel_norm"], found[1]["tangent_kernel_norm"], rtol=1e-6)


class Linearised(nn.Module):
    """The first-order expansion of a model in its parameters: f(x; start) + J(x; start) change."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.forward_of = lambda point, x: functional_call(model, point, (x,))
        self.start = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self.change = nn.ParameterList([torch.zeros_like(value) for value in self.start.values()])

    def forward(self, x: Tensor) -> Tensor:
        change = dict(zip(self.start, self.change, strict=True))
        value, moved = jvp(lambda point: self.forward_of(point, x), (self.start,), (change,))
        return value + moved


@pytest.mark.parametrize("method", ["exact", "probes"])
def test_linearised_training_keeps_the_kernel_of_the_start(method: str) -> None:
    x, y = images(12, 6).float(), torch.randint(3, (12,), generator=seeded())
    standard = built(lambda: mlp(6, 16, 3))
    found = []
    for model in (Linearised(standard), standard):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        probe = TangentKernelProbe(method=method).attach(model, (x, y), optimizer=optimizer, schedule=at([0, 4, 8]))
        for _ in range(8):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
        found.append(probe.detach().series_)
    assert np.allclose(kernel_distances(found[0])["distance"], 0, atol=1e-12)
    assert (found[1]["tangent_kernel_from_first"].isel(step=-1) > 1e-3).all()
    assert np.allclose(found[0]["tangent_kernel_norm"][0], found[1]["tangent_kernel_norm"][0], rtol=1e-5)


def changed(scale: float) -> nn.Sequential:
    model = built(lambda: mlp(6, 16, 3))
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            parameter += scale * torch.randn(parameter.shape, generator=seeded(i))
    return model


@pytest.mark.parametrize("method", ["exact", "probes"])
def test_distances_between_all_steps(method: str, tmp_path: Path) -> None:
    """Against whole kernels; a recording that is resumed has the same distances."""
    x, model = images(20, 6).float(), changed(0)
    scales = {0: 0.0, 2: 0.3, 7: 1.0}
    kernels = {step: tangent_kernel(changed(scale), x).double() for step, scale in scales.items()}
    path = tmp_path / "run.nc"
    for mode, steps in ((None, [0, 2]), ("resume", [2, 7])):
        probe = TangentKernelProbe(method=method, n_batches=1)
        for step in steps:
            model.load_state_dict(changed(scales[step]).state_dict())
            if step == steps[0]:
                probe.attach(model, (x, None), path=path, mode=mode)
            probe.observe(step)
        probe.detach()
    series = load(path).sel(split="all", batch=0)
    found = kernel_distances(load(path)).sel(split="all", batch=0)
    assert found["distance"].dims == ("step", "step_ref")
    for i, j in itertools.product(scales, scales):
        a, b = kernels[i], kernels[j]
        truth = 1 - ((a * b).sum() / (a.norm() * b.norm())).item()
        pair = found.sel(step=i, step_ref=j)
        assert abs(pair["distance"] - truth) <= (1e-7 if method == "exact" else 3 * pair["distance_se"] + 1e-12)
    assert np.allclose(found["distance"], found["distance"].T, atol=1e-15)
    moved = [np.nan, *(found["distance"].sel(step=a, step_ref=b).item() for a, b in ((2, 0), (7, 2)))]
    assert np.allclose(series["tangent_kernel_moved"], moved, equal_nan=True)
    assert np.allclose(series["tangent_kernel_velocity"], np.array(moved) / [1, 2, 5], equal_nan=True)
    assert np.allclose(series["tangent_kernel_from_first"], found["distance"].sel(step_ref=0))


def test_estimates_of_the_probe_against_the_whole_kernel() -> None:
    model, x = changed(0.5), images(48, 6).float()
    y = torch.randint(3, (48,), generator=seeded())
    whole = measured(model, x, y, method="exact")
    for seed in range(3):
        found = measured(model, x, y, method="probes", random_state=seed)
        for name in ("trace", "norm", "effective_rank", "alignment"):
            value, error = found[f"tangent_kernel_{name}"], found[f"tangent_kernel_{name}_se"]
            assert abs(value - whole[f"tangent_kernel_{name}"]) < 4 * error


def test_batches_are_disjoint_parts_of_the_inputs() -> None:
    model, x = built(lambda: mlp(6, 8, 3)).double(), images(10, 6)
    series = TangentKernelProbe(method="exact").fit(model, (x, None)).series_.isel(step=0, split=0)
    traces = tangent_kernel(model, x).diagonal().view(10, 3).sum(1)
    assert series["tangent_kernel_trace"].sum().item() == pytest.approx(traces.sum().item())
    assert series["tangent_kernel_trace"].attrs["n_rows"] == 5
    with pytest.raises(ValueError, match="Expected at least 11 inputs for 11 batches, got 10"):
        measured(model, x, n_batches=11)


def test_how_auto_chooses() -> None:
    assert measured(changed(0), images(64, 6).float(), max_samples=None)["tangent_kernel_norm"].attrs["n_probes"] == 0
    attrs = measured(changed(0), images(65, 6).float(), max_samples=None)["tangent_kernel_norm"].attrs
    assert (attrs["n_probes"], attrs["n_rows"], attrs["n_outputs"], attrs["n_parameters"]) == (16, 65, 3, 163)
    model, x = built(Attention), torch.randint(7, (5, 4), generator=seeded())
    assert measured(model, x)["tangent_kernel_norm"].attrs["n_probes"] == 0


def test_subsets_of_outputs_and_inputs_are_parts_of_the_kernel() -> None:
    model, x = built(lambda: mlp(6, 8, 9)).double(), images(10, 6)
    whole = tangent_kernel(model, x).view(10, 9, 10, 9)
    found = measured(model, x, max_outputs=1, max_samples=2)["tangent_kernel_trace"].item()
    parts = whole.diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1)  # K of each input and output
    sums = (parts[:, None] + parts[None, :])[~torch.eye(10, dtype=bool)]
    assert (sums - found).abs().min() < 1e-10


@pytest.mark.parametrize("method", ["exact", "probes"])
def test_reduced_kernels(method: str) -> None:
    model, x = built(lambda: mlp(6, 8, 3)).double(), images(10, 6)
    whole = tangent_kernel(model, x).view(10, 3, 10, 3)
    truth = {"trace": whole.diagonal(dim1=1, dim2=3).mean(-1), "sum_logits": whole.sum((1, 3)) / 3}
    for reduction, kernel in truth.items():
        found = measured(model, x, method=method, reduction=reduction, n_probes=256)
        expected = kernel_numbers(kernel)
        for name in ("trace", "norm"):
            error = found[f"tangent_kernel_{name}_se"] * 4 + 1e-9
            assert abs(found[f"tangent_kernel_{name}"] - getattr(expected, name)) < error
        assert found["tangent_kernel_alignment_undefined"] == 1


def test_alignment_of_a_kernel_that_is_that_of_the_targets() -> None:
    """Of f = w . x with x = y: K = y y^T; with other targets the cosine follows."""
    y = torch.tensor([1.0, -1.0, 2.0, -2.0])
    model = nn.Linear(1, 1, bias=False)
    assert measured(model, y[:, None], y[:, None])["tangent_kernel_alignment"] == pytest.approx(1)
    other = torch.tensor([1.0, 1.0, -1.0, -1.0])
    expected = (other @ y).item() ** 2 / (10 * 4)
    assert measured(model, y[:, None], other)["tangent_kernel_alignment"] == pytest.approx(expected)
    found = measured(model, y[:, None])
    assert found["tangent_kernel_alignment_undefined"] == 1
    assert np.isnan(found["tangent_kernel_alignment"])


def test_forms_of_targets() -> None:
    classes = torch.tensor([0, 2, -100])
    units = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert torch.allclose(target_matrix(classes, torch.Size((3, 3)), None).float(), units - units.mean(0))
    part = target_matrix(classes, torch.Size((3, 3)), torch.tensor([2]))
    assert torch.allclose(part.float(), (units - units.mean(0))[:, 2:])
    by_position = torch.tensor([[0, 1], [1, 1]])
    last = target_matrix(by_position, torch.Size((2, 2, 3)), None).view(2, 2, 3)
    second = target_matrix(by_position, torch.Size((2, 3, 2)), None).view(2, 3, 2)
    assert torch.equal(last, second.mT)
    assert last[:, 0, 0].tolist() == [0.5, -0.5]
    assert target_matrix(torch.tensor([0, 3]), torch.Size((2, 3)), None) is None
    assert target_matrix(torch.tensor([[0.5], [1.5]]), torch.Size((2, 3)), None) is None
    assert target_matrix(torch.tensor([0, 1]), torch.Size((2, 1)), None).tolist() == [[-0.5], [0.5]]


class Padded(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)

    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return self.layer(x)


def test_padded_positions_do_not_count() -> None:
    model, x = built(Padded), images(4, 5, 2).float()
    mask = torch.ones(4, 5, dtype=torch.long)
    mask[1, 3:], mask[2, 1:] = 0, 0
    found = measured(model, {"x": x, "attention_mask": mask})["tangent_kernel_trace"]
    assert found == pytest.approx(3 * (x[mask == 1].square().sum() + mask.sum()).item(), rel=1e-5)


def test_the_model_is_left_as_found_and_hooks_are_not_called() -> None:
    model, x = built(lambda: MODELS["normalised"][0]()), images(9, 6).float()
    model(x)  # batch statistics
    model[0].weight.grad = torch.ones_like(model[0].weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected = contraction(model, x)
    calls: list[int] = []
    model[0].weight.register_hook(lambda gradient: calls.append(1) or 100 * gradient)
    model[2].weight.register_post_accumulate_grad_hook(lambda _: calls.append(1))
    model[2].register_full_backward_hook(lambda *_: calls.append(1))
    for method in ("exact", "probes"):
        found = measured(model, x, method=method, n_probes=400)
        assert found["tangent_kernel_trace"] == pytest.approx(
            expected.trace().item(), rel=0.1 if method == "probes" else 1e-5
        )
    assert model.training
    assert not calls
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model[0].weight.grad.eq(1).all()
    assert model[2].weight.grad is None
    model(x).sum().backward()
    assert len(calls) == 3


def test_a_kernel_of_zeros_and_one_that_is_not_finite() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    model[0].bias.data.fill_(-100.0)
    x = images(5, 3).float()
    for method in ("exact", "layerwise", "probes"):
        probe = TangentKernelProbe(method=method, n_batches=1).attach(model, (x, None))
        with torch.no_grad():
            model[0].bias.fill_(-100.0)
            probe.observe(0)
            model[0].bias.fill_(1.0)
            probe.observe(1)
            model[2].weight[0, 0] = torch.inf
            probe.observe(2)
            model[2].weight[0, 0] = 1.0
            probe.observe(3)
        series = probe.detach().series_.isel(split=0, batch=0)
        assert series["failed"].max() == 0
        assert series["tangent_kernel_undefined"].values.tolist() == [1, 0, 1, 0]
        assert np.isnan(series["tangent_kernel_moved"].values).tolist() == [True, True, True, False]
        assert series["tangent_kernel_velocity"][3] == pytest.approx(series["tangent_kernel_moved"][3].item() / 2)
        assert np.isnan(kernel_distances(series)["distance"].values).sum() == 12


def test_two_probes_of_one_set_and_splits() -> None:
    """The series pads the shorter sketch; distances leave the padding out."""
    data = {name: (images(6, 6).float(), None) for name in ("train", "test")}
    one = TangentKernelProbe(splits=["test"], layers="0", sketch_size=30)
    probes = ProbeSet([("first", one), ("second", TangentKernelProbe())])
    series = probes.attach(changed(0), data).observe(0).observe(1).detach().series_
    found = kernel_distances(series, "first_tangent_kernel_sketch")["distance"]
    assert (found.sel(split="test") == 0).all()
    assert found.sel(split="train").isnull().all()
    with pytest.raises(ValueError, match="pass variable='first_tangent_kernel_sketch'"):
        kernel_distances(series)


def test_products_of_a_model() -> None:
    model, x = built(lambda: mlp(6, 8, 3)).double(), images(7, 6)
    z = signs(21, 2)
    assert difference(tangent_products(model, x, z), tangent_kernel(model, x) @ z) < 1e-12
    with pytest.raises(ValueError, match=r"Expected vectors of shape \(21, m\) for 7 inputs with 3 outputs"):
        tangent_products(model, x, z[:20])


def operations(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


@pytest.mark.parametrize("name", ["perceptron", "convolution", "attention"])
def test_sixteen_products_take_the_operations_of_less_than_30_passes(name: str) -> None:
    make, inputs, _ = MODELS[name]
    model, x = built(make).double(), inputs()
    columns = model(x).shape[1]
    one = operations(lambda: torch.autograd.grad(model(x).sum(), list(model.parameters())))
    assert operations(lambda: tangent_products(model, x, signs(len(x) * columns, 16))) < 30 * one


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            lambda: nn.Sequential(nn.Linear(4, 2), Lambda(lambda x: x.argmax(1))),
            "Expected real floating-point outputs, got",
        ),
        (
            lambda: nn.Sequential(nn.Linear(4, 2), Lambda(lambda x: x.detach())),
            "by operations with derivatives, got none",
        ),
        (lambda: nn.Sequential(nn.Linear(4, 2), Lambda(lambda x: x.mean(0))), "Expected one row of outputs"),
        (lambda: nn.Linear(4, 2).requires_grad_(False), "Expected parameters with requires_grad=True, got none"),
    ],
)
def test_models_without_a_kernel_are_refused(model: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tangent_kernel(model(), images(5, 4).float())


class Lambda(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method": "sum"}, "Expected method as one of auto, exact, probes, layerwise, got 'sum'"),
        ({"reduction": "mean"}, "Expected reduction as None, 'trace' or 'sum_logits', got 'mean'"),
        ({"n_probes": 0}, "Expected n_probes >= 1, got 0"),
        ({"sketch_size": 8}, "Expected sketch_size >= n_probes, got 8"),
        ({"splits": ["test"]}, "Expected splits among all, got test"),
        ({"layers": "9"}, "9"),
    ],
)
def test_parameters_are_checked(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(changed(0), images(6, 6).float(), **parameters)
