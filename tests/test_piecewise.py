"""Piecewise-linear networks from models: equal to the model, named like a trace, refused by name, no side effects."""

import copy
import random
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.prune
import torch.utils.checkpoint
from helpers import built, seeded
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from probe import Measured, Probe, shared
from probe.forward import NotPiecewiseLinearError, Snapshot, piecewise_linear, read_data, trace
from probe.forward.piecewise import operations
from probe.geometry import Affine, Bend, Maximum, PiecewiseLinear, perceptron


class Model(nn.Module):
    """A forward pass given as a function of the model and its inputs."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                setattr(self, name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(self, *args, **kwargs)


def residual(m: Any, x: Tensor) -> Tensor:
    return F.relu(m.norm2(m.conv2(m.act(m.norm1(m.conv1(x))))) + m.down(x))


def dense(m: Any, x: Tensor) -> Tensor:
    a = F.relu(m.a(x))
    b = F.relu(m.b(torch.cat([x, a], 1)))
    return m.c(torch.cat([x, a, b], 1).mean((2, 3)))


def unet(mode: str) -> Callable[[Any, Tensor], Tensor]:
    def forward(m: Any, x: Tensor) -> Tensor:
        a = m.act(m.a(x))
        b = m.act(m.b(F.max_pool2d(a, 2)))
        return m.c(torch.cat([a, F.interpolate(b, scale_factor=2, mode=mode)], 1))

    return forward


def make_unet(mode: str) -> nn.Module:
    a, b, c = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(7, 2, 1)
    return Model(unet(mode), a=a, b=b, c=c, act=nn.ReLU(inplace=True))


def writes(m: Any, x: Tensor) -> Tensor:
    """Values written into a new tensor, through views, in place."""
    y, z = m.a(x), x.new_zeros(len(x), 4)
    z[:, 1] = y[:, 0]
    z[:, 2:] += y[:, :2]
    z[:, 0].copy_(x[:, 0])
    z[:, 3] = 0
    z[:, torch.tensor([True, False, False, True])] -= 0.1
    return F.relu(z)


def positions(m: Any, x: Tensor) -> Tensor:
    """Rows and positions on one axis, the rows outside."""
    n, length, width = x.shape
    return m.b(F.relu(m.a(x.reshape(n * length, width))).view(n, length, -1).flatten(1))


def positions_first(m: Any, x: Tensor) -> Tensor:
    """Rows and positions on one axis, the positions outside."""
    y = x.transpose(0, 1).contiguous()
    length, n, width = y.shape
    y = F.relu(m.a(y.view(length * n, width))).view(length, n, -1)
    return m.b(F.max_pool1d(y.permute(1, 2, 0), length).squeeze(-1)) + y.amax(0).sum(1, keepdim=True)


def pieces(m: Any, x: Tensor) -> Tensor:
    y = m.a(x)
    parts = torch.stack([F.relu(part) * (i + 1) for i, part in enumerate(y.chunk(2, -1))], 1).flip(1).roll(1, 2)
    first = parts.unbind(1)[0].sub(y.split([2, 4], 1)[0].sum(1, keepdim=True)).div(3).neg()
    return first[:, [0, 2]][..., None].expand(-1, -1, 2).flatten(1)


def extremes(m: Any, x: Tensor) -> Tensor:
    a, b = m.a(x), m.b(x)
    found = torch.maximum(a, b) + torch.minimum(a, 2 * b) - b.amin(1, keepdim=True)
    found = found + a.view(-1, 2, 2).amax(1).repeat(1, 2)
    found = found + b.reshape(-1, 2, 2).max(2, keepdim=True).values.flatten(1).repeat(1, 2)
    return found + torch.maximum(a, torch.zeros(4)) + torch.minimum(torch.ones(4), x[:, :1])


def clamped(m: Any, x: Tensor) -> Tensor:
    return m.b(m.a(x).clamp(min=0).clamp(-1, 1).clamp_max(0.7).abs().clamp(min=m.low).clamp(None, float("inf")))


def constants(m: Any, x: Tensor) -> Tensor:
    """Rows of zeros, and one learned row for all."""
    return m.b(torch.cat([F.relu(m.a(x)), torch.zeros(len(x), 2, dtype=x.dtype), m.token.expand(len(x), -1)], 1))


def empty_writes(m: Any, x: Tensor) -> Tensor:
    """Values written into uninitialised memory."""
    z = torch.empty(len(x), 4, dtype=x.dtype)
    for i in range(4):
        z[:, i] = m.a(x)[:, i] * i
    return F.relu(z)


def constant_writes(m: Any, x: Tensor) -> Tensor:
    """A buffer that is copied, and written in place through a view."""
    z = m.w.clone()
    z[1:3].mul_(2).add_(1)
    return F.relu(m.a(x) + z)


def lora(m: Any, x: Tensor) -> Tensor:
    return m.c(F.relu(m.a(x) + 0.5 * m.up(m.down(x))))


def linear(*sizes: int) -> dict[str, nn.Module]:
    """Layers a, b, c of these sizes."""
    return {name: nn.Linear(one, two) for name, one, two in zip("abc", sizes, sizes[1:], strict=False)}


def residual_parts() -> dict[str, nn.Module]:
    return {
        "conv1": nn.Conv2d(2, 4, 3, 2, 1, bias=False),
        "norm1": nn.BatchNorm2d(4),
        "act": nn.ReLU(inplace=True),
        "conv2": nn.Conv2d(4, 4, 3, 1, 1),
        "norm2": nn.BatchNorm2d(4),
        "down": nn.Conv2d(2, 4, 1, 2),
    }


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8), nn.ReLU()), (3,)),
    "lenet": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 3, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 4, 3), nn.ReLU()),
            *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3)),
        ),
        (1, 12, 12),
    ),
    "residual": (lambda: Model(residual, **residual_parts()), (2, 8, 8)),
    "dense": (
        lambda: Model(dense, a=nn.Conv2d(2, 3, 3, padding=1), b=nn.Conv2d(5, 3, 1), c=nn.Linear(8, 2)),
        (2, 6, 6),
    ),
    "unet, nearest": (lambda: make_unet("nearest"), (1, 8, 8)),
    "unet, bilinear": (lambda: make_unet("bilinear"), (1, 8, 8)),
    "1-d": (
        lambda: nn.Sequential(
            *(nn.Conv1d(2, 4, 3), nn.LeakyReLU(0.1), nn.MaxPool1d(3, 2, 1, ceil_mode=True)),
            *(nn.Conv1d(4, 3, 3, dilation=1), nn.BatchNorm1d(3), nn.ReLU6(), nn.AdaptiveAvgPool1d(2), nn.Flatten()),
        ),
        (2, 14),
    ),
    "3-d": (
        lambda: nn.Sequential(
            *(nn.Conv3d(1, 2, 2), nn.ReLU(), nn.MaxPool3d(2, padding=1), nn.BatchNorm3d(2)),
            *(nn.AdaptiveMaxPool3d(2), nn.Flatten(), nn.Linear(16, 2)),
        ),
        (1, 5, 5, 5),
    ),
    "pooling": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True), nn.ReLU(), nn.MaxPool2d((2, 1))),
            *(nn.AdaptiveMaxPool2d((2, 3)), nn.AdaptiveAvgPool2d(2), nn.Flatten()),
        ),
        (1, 16, 15),
    ),
    "prelu": (lambda: nn.Sequential(nn.Conv2d(1, 3, 3), nn.PReLU(3, 0.1), nn.Flatten(), nn.PReLU()), (1, 6, 6)),
    "shared": (lambda: Model(lambda m, x: m.b(m.act(m.a(m.act(m.a(x))))), act=nn.ReLU(), **linear(3, 3, 2)), (3,)),
    "functional": (lambda: Model(lambda m, x: m.b(torch.relu(m.a(F.relu(m.a(x))).relu_())), **linear(3, 3, 2)), (3,)),
    "bends": (
        lambda: nn.Sequential(
            *(nn.Linear(3, 6), nn.Hardtanh(-0.5, 0.5), nn.Linear(6, 6), nn.Softshrink(0.1), nn.Linear(6, 6)),
            *(nn.Hardsigmoid(), nn.Linear(6, 6), nn.RReLU(), nn.Linear(6, 6), nn.Threshold(0.2, 0.2)),
        ),
        (3,),
    ),
    "clamped": (lambda: Model(clamped, low=torch.tensor([0.1, 0.2, 0.3, 0.4]), **linear(3, 4, 2)), (3,)),
    "extremes": (lambda: Model(extremes, a=nn.Linear(3, 4), b=nn.Linear(3, 4)), (3,)),
    "writes": (lambda: Model(writes, **linear(3, 4)), (3,)),
    "empty writes": (lambda: Model(empty_writes, **linear(3, 4)), (3,)),
    "channels last": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2)),
        ).to(memory_format=torch.channels_last),  # type: ignore[call-overload]
        (2, 5, 5),
    ),
    "circular": (
        lambda: nn.Sequential(
            *(nn.Conv2d(2, 3, (3, 2), padding=(2, 1), padding_mode="circular"), nn.ReLU()),
            *(nn.CircularPad2d((2, 0, 0, 1)), nn.Conv2d(3, 2, 1)),
        ),
        (2, 4, 5),
    ),
    "positions": (lambda: Model(positions, a=nn.Linear(3, 4), b=nn.Linear(20, 2)), (5, 3)),
    "positions first": (lambda: Model(positions_first, **linear(3, 4, 2)), (5, 3)),
    "graph": (
        lambda: Model(lambda m, x: m.b(F.relu(m.w @ m.a(x)).mean(1)), w=torch.rand(5, 5), **linear(3, 4, 2)),
        (5, 3),
    ),
    "einsum": (
        lambda: Model(
            lambda m, x: torch.einsum("ntd,dk->nkt", F.relu(m.a(x)), m.w), w=torch.rand(4, 2), **linear(3, 4)
        ),
        (5, 3),
    ),
    "images": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.PixelShuffle(2), nn.ConvTranspose2d(1, 2, 3, 2, 1, 1)),
            *(nn.ReLU(), nn.ZeroPad2d(1), nn.ReflectionPad2d(1), nn.Upsample(scale_factor=0.5), nn.Unfold(3)),
        ),
        (1, 4, 4),
    ),
    "parametrised": (
        lambda: nn.Sequential(
            *(parametrizations.weight_norm(nn.Linear(3, 4)), nn.ReLU()),
            *(parametrizations.spectral_norm(nn.Linear(4, 4)), nn.ReLU(), parametrizations.orthogonal(nn.Linear(4, 4))),
        ),
        (3,),
    ),
    "recurrent": (
        lambda: Model(lambda m, x: m.rnn(x)[0][:, -1], rnn=nn.RNN(3, 4, nonlinearity="relu", batch_first=True)),
        (5, 3),
    ),
    "parts": (lambda: Model(pieces, a=nn.Linear(3, 6)), (3,)),
    "four rows at a time": (
        lambda: Model(lambda m, x: torch.cat([F.relu(m.a(part)).unbind(1)[0] for part in x.split(4)]), **linear(3, 4)),
        (1, 3),
    ),
    "constants": (lambda: Model(constants, token=torch.rand(1, 2), **linear(3, 4), b=nn.Linear(8, 2)), (3,)),
    "constant writes": (lambda: Model(constant_writes, w=torch.rand(4), **linear(3, 4)), (3,)),
    "additive": (
        lambda: Model(lora, down=nn.Linear(3, 1), up=nn.Linear(1, 4), a=nn.Linear(3, 4), c=nn.Linear(4, 2)),
        (3,),
    ),
    "mapped": (
        lambda: Model(lambda m, x: torch.func.vmap(lambda row: m.b(F.relu(m.a(row))))(x), **linear(3, 4, 2)),
        (3,),
    ),
    "one number": (lambda: Model(lambda m, x: m.b(F.relu(m.a(x))).squeeze(), **linear(3, 4, 1)), (3,)),
}  # fmt: skip


def ready(name: str) -> tuple[nn.Module, Tensor]:
    """Return a model with statistics of batch normalisation that matter, and rows of its input."""
    make, shape = MODELS[name]
    model = built(make)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.copy_(torch.linspace(-0.2, 0.2, module.num_features))
            module.running_var.copy_(torch.linspace(0.5, 2, module.num_features))
    return model, torch.randn(12, *shape, generator=seeded()) * 2


def in_float64(model: nn.Module) -> nn.Module:
    return copy.deepcopy(model).double().eval()


# -- the function --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_network_is_the_model_in_float64(name: str) -> None:
    model, x = ready(name)
    network = piecewise_linear(model, x)
    found = network(x)
    with torch.no_grad():
        expected = in_float64(model)(x.double())
    torch.testing.assert_close(
        found.reshape(expected.shape), expected, rtol=0, atol=1e-12 * expected.abs().max().item()
    )
    torch.testing.assert_close(torch.cat([network(row[None]) for row in x]), found, rtol=0, atol=1e-12)
    assert network.shape == tuple(x.shape[1:])


@pytest.mark.parametrize("name", MODELS)
def test_operations_are_what_they_are_called(name: str) -> None:
    """Affine maps of midpoints, slopes by finite differences, maxima of the candidates, rows first everywhere."""
    model, x = ready(name)
    network = piecewise_linear(model, x)
    values = {0: x.double()}
    assert [operation.output for operation in network.operations] == list(range(1, len(network.operations) + 1))
    for operation in network.operations:
        read = [values[place] for place in operation.inputs]
        value = values[operation.output] = operation.function(*read)
        assert len(value) == len(x)
        if isinstance(operation, Affine):
            middle = operation.function(*((each + each.flip(0)) / 2 for each in read))
            torch.testing.assert_close(
                middle, (value + value.flip(0)) / 2, rtol=0, atol=1e-12 * value.abs().max().item()
            )
        if isinstance(operation, Maximum):
            assert torch.equal(operation.candidates(*read).amax(-1), value.flatten(1))
        if isinstance(operation, Bend):
            check_pieces(operation, read[0])


def check_pieces(bend: Bend, value: Tensor, step: float = 1e-7) -> None:
    z = value.flatten(1)
    breakpoints = bend.breakpoints.expand(-1, z.shape[1])
    assert bend.slopes.shape[0] == len(breakpoints) + 1
    assert (breakpoints.diff(dim=0) >= 0).all()
    piece = (z[None] > breakpoints[:, None]).sum(0)
    slope = bend.slopes.expand(-1, z.shape[1]).gather(0, piece)
    up, down = (bend.function((z + h).reshape(value.shape)).flatten(1) for h in (step, -step))
    away = ((z[None] - breakpoints[:, None]).abs() > 2 * step).all(0)
    assert away.any()
    torch.testing.assert_close(((up - down) / (2 * step))[away], slope[away], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_sites_have_the_names_of_a_trace(name: str) -> None:
    """A function with two bends is one site. A trace does not see inside a recurrent layer."""
    model, x = ready(name)
    bends = [each.site for each in piecewise_linear(model, x).operations if isinstance(each, Bend)]
    expected = list(dict.fromkeys(whole(site) for site in trace(model, x[:2]).activations))
    found = [whole(site) for site in bends]
    assert len(set(bends)) == len(bends)
    if name == "recurrent":
        assert bends == ["rnn:rnn_relu", *(f"rnn:rnn_relu.{call}" for call in range(2, 6))]
    elif name == "clamped":  # calls with one and with two bounds are counted by bound
        assert bends == [":clamp_min", ":clamp", ":clamp_max.2", ":abs", ":clamp_min.3"]
    else:
        assert found == expected


def whole(site: str) -> str:
    return re.sub(r"_(min|max)(?=\.\d+$|$)", "", site)


def test_pieces_of_known_functions() -> None:
    """Breakpoints and slopes written down by hand, in float64, by unit where units differ."""
    weight = torch.tensor([0.5, -0.5])
    prelu = nn.PReLU(2)
    prelu.weight.data = weight
    model = nn.Sequential(prelu, nn.Hardtanh(-2, 3), nn.Softshrink(0.25))
    found = {
        bend.site: bend for bend in piecewise_linear(model, torch.ones(1, 2, 3)).operations if isinstance(bend, Bend)
    }
    assert found["0:prelu"].breakpoints.tolist() == [[0]]
    assert found["0:prelu"].slopes.tolist() == [[0.5] * 3 + [-0.5] * 3, [1] * 6]
    assert (found["1:hardtanh"].breakpoints.tolist(), found["1:hardtanh"].slopes.tolist()) == (
        [[-2], [3]],
        [[0], [1], [0]],
    )
    assert found["2:softshrink"].breakpoints.tolist() == [[-0.25], [0.25]]
    assert found["2:softshrink"].slopes.tolist() == [[1], [0], [1]]


def test_a_perceptron_is_the_same_list_of_operations() -> None:
    """Affine maps that follow each other are one, and weights are promoted before they are applied."""
    model = built(
        lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4), nn.Unflatten(1, (2, 2)), nn.Flatten())
    )
    network = piecewise_linear(model, torch.zeros(1, 3))
    expected = perceptron([(layer.weight.detach(), layer.bias.detach()) for layer in (model[0], model[2])])
    assert (
        [type(each) for each in network.operations]
        == [type(each) for each in expected.operations]
        == [Affine, Bend, Affine]
    )
    x = torch.randn(50, 3, generator=seeded(), dtype=torch.float64)
    torch.testing.assert_close(network(x), expected(x), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_any_precision_is_promoted(dtype: torch.dtype) -> None:
    model = built(MODELS["mlp"][0]).to(dtype)
    x = torch.randn(5, 3, generator=seeded()).to(dtype)
    with torch.no_grad():
        torch.testing.assert_close(piecewise_linear(model, x)(x), in_float64(model)(x.double()), rtol=0, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_outputs_of_a_coarse_pass_may_be_float32(dtype: torch.dtype) -> None:
    """Rounding errors are those of the coarsest numbers, in the pass of a model and in autocast."""

    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=m.a.weight.dtype == torch.float32):
            return m.b(F.relu(m.a(x))).float()

    model, x = built(lambda: Model(forward, **linear(64, 256, 4))), torch.randn(5, 64, generator=seeded())
    expected = perceptron([(layer.weight.detach(), layer.bias.detach()) for layer in (model.a, model.b)])(x)
    torch.testing.assert_close(piecewise_linear(model, x)(x), expected, rtol=0, atol=1e-14)
    assert piecewise_linear(model.to(dtype), x.to(dtype)).sites == [":relu"]


def test_inference_mode() -> None:
    class Decorated(nn.Sequential):
        @torch.inference_mode()
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    model, x = ready("lenet")
    for network in (
        piecewise_linear(Decorated(*model), x),
        torch.inference_mode()(piecewise_linear)(model, x),
    ):
        with torch.no_grad():
            torch.testing.assert_close(network(x), in_float64(model)(x.double()), rtol=0, atol=1e-14)


def test_each_pass_finds_state_and_inputs_as_they_were() -> None:
    def forward(m: Any, x: Tensor, scale: Tensor) -> Tensor:
        return F.relu(m.a(x)) * m.count.add_(1) * scale.mul_(2)

    model = built(lambda: Model(forward, count=torch.ones(()), **linear(3, 4)))
    x, scale = torch.randn(2, 3, generator=seeded()), torch.full((2, 1), 1.5)
    network = piecewise_linear(model, (x, scale))
    with torch.no_grad():
        expected = 6 * F.relu(in_float64(model).a(x.double()))
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-14)
    assert (model.count, scale.unique()) == (1, 1.5)


class Clipped(torch.autograd.Function):
    """A custom function of an older form."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # type: ignore[override]
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


def test_custom_functions_and_counters() -> None:
    """What the pass writes to buffers does not matter unless the output depends on it."""

    def forward(m: Any, x: Tensor) -> Tensor:
        m.count += 1
        m.last.copy_(x[0])
        return m.b(Clipped.apply(m.a(x)))

    model = built(lambda: Model(forward, count=torch.zeros(()), last=torch.zeros(3), **linear(3, 4, 2)))
    network, x = piecewise_linear(model, torch.ones(1, 3)), torch.randn(5, 3, generator=seeded())
    with torch.no_grad():
        expected = perceptron([(layer.weight, layer.bias) for layer in (model.a, model.b)])(x)
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-14)
    assert (model.count, model.last.any()) == (0, False)


def test_the_pass_may_compute_derivatives() -> None:
    """The derivative of a piecewise-linear function is not continuous, but that of a linear one is affine."""

    def forward(m: Any, x: Tensor) -> Tensor:
        with torch.enable_grad():
            z = m.a(x).detach().requires_grad_()
            (slope,) = torch.autograd.grad((3 * z).sum(), z)
        return F.relu(z.detach() + slope)

    network = piecewise_linear(built(lambda: Model(forward, **linear(3, 4))), torch.ones(1, 3))
    assert network.sites == [":relu"]


def test_any_number_of_rows() -> None:
    network = piecewise_linear(*ready("positions"))
    for n in (0, 1, 5):
        assert network(torch.zeros(n, 5, 3)).shape == (n, 2)


def test_the_table_has_operations_that_occur() -> None:
    """Each name is that of an ATen operation, of which some form is not made of other operations."""

    def is_made_of_others(overload: Any) -> bool:
        return torch._C._dispatch_has_kernel_for_dispatch_key(overload._name, "CompositeImplicitAutograd")

    tables: list[Any] = [table for name, table in vars(operations).items() if name.strip("_").isupper()]
    assert len(tables) > 8
    for name in set().union(*tables):
        packet = getattr(torch.ops.aten, name)
        overloads = [getattr(packet, form) for form in packet.overloads()]
        forms = [each for each in overloads if torch._C._dispatch_has_kernel(each._name)]
        assert not all(map(is_made_of_others, forms)), name


def test_long_chains_of_affine_maps_are_one() -> None:
    """A linear recurrence of 400 steps, h = 0.9 h + x, which are 800 maps."""

    def forward(m: Any, x: Tensor) -> Tensor:
        h = x
        for _ in range(400):
            h = 0.9 * h + x
        return h

    network, x = piecewise_linear(Model(forward), torch.ones(1, 2)), torch.randn(3, 2, generator=seeded()).double()
    assert len(network.operations) == 1
    torch.testing.assert_close(network(x), 10 * x, rtol=0, atol=1e-12)


# -- inputs, stem and output ---------------------------------------------------------------------------------------


def test_other_inputs_are_those_of_the_first_row() -> None:
    def forward(m: Any, ids: Tensor, x: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"loss": x.sum(), "logits": m.b(F.relu(m.a(x) + m.table(ids).mean(1) * scale[:, None]))}

    model = built(lambda: Model(forward, table=nn.Embedding(5, 4), **linear(3, 4, 2)))
    ids, x, scale = torch.tensor([[1, 2], [3, 4]]), torch.randn(2, 3, generator=seeded()), torch.tensor([0.5, 2.0])
    for inputs in ((ids, x, scale), {"ids": ids, "scale": scale, "x": x}):
        stem = None if isinstance(inputs, tuple) else "a"
        network = piecewise_linear(model, inputs, stem=stem, output="logits")
        with torch.no_grad():
            start = x.double() if stem is None else in_float64(model).a(x.double())
            expected = in_float64(model)(ids[[0, 0]], x.double(), scale[[0, 0]].double())["logits"]
        torch.testing.assert_close(network(start), expected, rtol=0, atol=1e-14)


def test_integers_start_at_the_first_layer() -> None:
    def forward(m: Any, tokens: Tensor) -> Tensor:
        return m.b(F.relu(m.a((m.table(tokens) + m.places.weight[None, : tokens.shape[1]]).flatten(1))))

    model = built(lambda: Model(forward, table=nn.Embedding(7, 4), places=nn.Embedding(2, 4), **linear(8, 5, 2)))
    tokens = torch.tensor([[0, 1], [5, 6]])
    network, exact = piecewise_linear(model, tokens), in_float64(model)
    assert (network.shape, network.sites) == ((2, 4), [":relu"])
    torch.testing.assert_close(network(exact.table(tokens)), exact(tokens), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("stem", "first"), [("<input>", 0), ("0", 1), ("1:relu", 1), ("1:relu->", 2), ("1", 2), ("3", 4), ("4:relu", 4)]
)
def test_a_network_can_start_at_any_site(stem: str, first: int) -> None:
    model, x = ready("mlp")
    exact = in_float64(model)
    network, start = piecewise_linear(model, x, stem=stem), exact[:first](x.double())
    torch.testing.assert_close(network(start), exact[first:](start), rtol=0, atol=1e-14)
    assert network.sites == (["1:relu", "4:relu"] if first < 2 else ["4:relu"])


def test_a_stem_passes_over_what_is_not_piecewise_linear() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 5), nn.ReLU()))
    assert piecewise_linear(model, torch.ones(2, 3), stem="2").sites == ["4:relu"]


def test_a_second_call_of_a_shared_layer_can_be_the_stem() -> None:
    model, x = ready("shared")
    network, z = piecewise_linear(model, x, stem="a.2"), torch.randn(4, 3, generator=seeded()).double()
    torch.testing.assert_close(network(z), in_float64(model).b(z.relu()), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("stem", "message"),
    [
        ("one", "stem= to name a site that the forward pass visits, got 'one'"),
        ("c", "floating-point numbers with one row"),
    ],
)
def test_a_wrong_stem_is_an_error(stem: str, message: str) -> None:
    class Long(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.long()

    model = built(lambda: Model(lambda m, x: m.a(x) + m.c(x), c=Long(), **linear(3, 3)))
    with pytest.raises(ValueError, match=re.escape(message)):
        piecewise_linear(model, torch.ones(2, 3), stem=stem)


@pytest.mark.parametrize("inputs", [torch.zeros(0, 3), "text"])
def test_inputs_without_rows_are_an_error(inputs: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"Expected (at least one row|inputs to be)"):
        piecewise_linear(nn.Identity(), inputs)


def test_shared_arguments_are_no_stem() -> None:
    model = built(lambda: Model(lambda m, w, x: F.relu(w @ m.a(x)).sum(1), **linear(3, 4)))
    w, x = torch.rand(5, 5, generator=seeded()), torch.randn(3, 5, 3, generator=seeded(1))
    network = piecewise_linear(model, (shared(w), x))
    with torch.no_grad():
        expected = in_float64(model)(w.double(), x.double())
    torch.testing.assert_close(network(x), expected, rtol=0, atol=1e-13)
    with torch.no_grad():
        found = snapshot(model, ((shared(w), x), None)).network(stem="a")(model.a(x))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_one_input_without_rows_is_an_error_with_advice() -> None:
    with pytest.raises(ValueError, match=r"accepts 2 rows, here \(2,\), got RuntimeError: .*such as x\[:1\]"):
        piecewise_linear(nn.Linear(3, 2), torch.ones(3))


def test_integers_alone_are_an_error() -> None:
    with pytest.raises(ValueError, match="Expected inputs or a layer with floating-point numbers"):
        piecewise_linear(nn.Identity(), torch.tensor([[1], [2]]))
    with pytest.raises(ValueError, match="Expected floating-point numbers at the stem '<input>'"):
        piecewise_linear(nn.Embedding(3, 2), torch.tensor([[1], [2]]), stem="<input>")


# -- refusals ------------------------------------------------------------------------------------------------------


def branch(m: Any, x: Tensor) -> Tensor:
    return m.a(x) if x.sum() > 0 else -m.a(x)


def writes_to_buffer(m: Any, x: Tensor) -> Tensor:
    z = m.w.clone()
    z[:, 0] = x.sum()
    return m.a(x) + z.sum()


Forward = Callable[[Any, Tensor], Tensor]
REFUSED: dict[str, tuple[nn.Module | Forward, str]] = {
    "gelu": (nn.GELU(), "got gelu in module 'act' (GELU): not piecewise linear"),
    "softmax": (nn.Softmax(-1), "got softmax in module 'act' (Softmax)"),
    "layer norm": (nn.LayerNorm(4), "got layer_norm in module 'act' (LayerNorm)"),
    "group norm": (nn.GroupNorm(2, 4), "got group_norm in module 'act' (GroupNorm)"),
    "batch norm": (nn.BatchNorm1d(4, track_running_stats=False), "module 'act' (BatchNorm1d): batch norm"),
    "hardshrink": (nn.Hardshrink(), "got hardshrink in module 'act' (Hardshrink): not"),
    "hardswish": (nn.Hardswish(), "got hardswish in module"),
    "threshold": (nn.Threshold(0.1, 0.0), "got threshold in module 'act' (Threshold): not continuous"),
    "lstm": (nn.LSTM(4, 2), "in module 'act' (LSTM): not piecewise linear"),
    "attention": (nn.TransformerEncoderLayer(4, 1, 4, batch_first=True), "in module 'act.self_attn' (Multi"),
    "square": (lambda m, x: m.a(x) ** 2, "got pow in Model: not piecewise linear"),
    "product": (lambda m, x: m.a(x) * x[:, :1], "got mul in Model: a product of values that all depend on the input"),
    "matrix product": (lambda m, x: m.a(x)[:, None] @ m.a(x)[..., None], "got matmul (bmm) in Model: a product"),
    "quotient": (lambda m, x: m.a(x) / (1 + x.abs().sum(1, keepdim=True)), "got div in Model: a function of several"),
    "rounded quotient": (lambda m, x: m.a(x).div(2, rounding_mode="floor"), "got div in Model: not piecewise linear"),
    "gate": (lambda m, x: m.a(x) * torch.sigmoid(x[:, :1]), "got sigmoid in Model"),
    "normalised": (lambda m, x: F.normalize(m.a(x)), "got normalize (linalg_vector_norm) in Model"),
    "mask": (lambda m, x: m.a(x) * (x[:, :1] > 0), "got gt in Model: not piecewise linear"),
    "integers": (lambda m, x: m.a(x.long().float()), "got long (to_copy) in Model: int64 numbers that depend"),
    "noise": (lambda m, x: m.a(x + torch.rand(3)), "got rand in Model: random numbers"),
    "dropout": (lambda m, x: F.dropout(m.a(x)), "got dropout (bernoulli) in Model: random numbers"),
    "topk": (lambda m, x: m.a(x).topk(2).values, "got topk in Model"),
    "mean of rows": (lambda m, x: m.a(x - x.mean(0)), "got mean in Model: a function of several rows together"),
    "sum of all": (lambda m, x: m.a(x) - x.sum(), "got sum in Model: a function of several rows together"),
    "next row": (lambda m, x: m.a(x).roll(1, 0), "got roll in Model: a function of several rows together"),
    "row before": (lambda m, x: m.a(F.pad(x, (0, 0, 1, 0))[:-1] + x), "in Model: a function of several rows together"),
    "row number": (lambda m, x: m.a(x) * torch.arange(len(x))[:, None], "constant that depends on the number or"),
    "branch": (branch, "in Model: a decision or a number of Python that depends on the input"),
    "write": (writes_to_buffer, "a write in place to a tensor that does not depend on the input"),
    "constant": (lambda m, x: m.a(torch.ones_like(x)), "an output that depends on the stem, got a constant"),
    "numpy": (lambda m, x: m.a(x) + torch.from_numpy(x.numpy())[:, :1], "got numpy (equal) in Model: a decision or"),
    "far branch": (lambda m, x: m.a(x) * (2 if max(x[0].tolist()) > 99 else 1), "got tolist (equal) in Model: a "),
    "far array": (lambda m, x: m.a(x) * (2 if np.asarray(x).max() > 99 else 1), "got array (equal) in Model: a "),
    "far rows": (lambda m, x: m.a(x) * (2 if len(x[x > 99]) else 1), "got getitem (index) in Model: a decision or"),
    "far count": (lambda m, x: m.a(x) * (2 if len((x > 99).nonzero()) else 1), "got nonzero in Model: a decision or"),
    "batch size": (lambda m, x: m.a(x) if len(x) > 2 else m.a(x).relu(), "same operations for any number of rows"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name: str) -> None:
    given, message = REFUSED[name]
    forward = (lambda m, x: m.act(m.a(x)[None])[0]) if isinstance(given, nn.TransformerEncoderLayer) else given
    if isinstance(given, nn.Module) and forward is given:
        forward = lambda m, x: m.act(m.a(x))  # noqa: E731
    parts = {"act": given} if isinstance(given, nn.Module) else {"w": torch.rand(2, 3)}
    model = built(lambda: Model(forward, **parts, **linear(3, 4)))
    with pytest.raises(NotPiecewiseLinearError, match=re.escape(message)) as caught:
        piecewise_linear(model, torch.randn(4, 3, generator=seeded()))
    assert str(caught.value).startswith("Expected ")
    assert "; " in str(caught.value)


# -- side effects and observations ---------------------------------------------------------------------------------


def test_the_model_and_the_random_states_stay_as_found() -> None:
    model, x = ready("residual")
    model.norm1.eval()
    model(x).sum().backward()
    before, gradients = copy.deepcopy(model.state_dict()), [each.grad for each in model.parameters()]
    kept, flags = list(model.parameters()), [module.training for module in model.modules()]
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    values = x.clone()
    torch.set_default_dtype(torch.float64)
    try:
        network = piecewise_linear(model, x)
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    network(x)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(one is two for one, two in zip(model.parameters(), kept, strict=True))
    assert all(each.grad is grad for each, grad in zip(model.parameters(), gradients, strict=True))
    assert [module.training for module in model.modules()] == flags
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]  # noqa: NPY002
    assert torch.equal(x, values)


def snapshot(model: nn.Module, data: Any) -> Snapshot:
    batches = read_data(data)
    few = next(iter(batches.values())).take(torch.arange(2), torch.device("cpu"))[0]
    return Snapshot(model, 0, batches, trace(model, few))


def test_the_network_of_an_observation_follows_the_parameters() -> None:
    model, x = ready("mlp")
    view = snapshot(model, {"train": (x, None), "test": (x, None)})
    before = view.network()(x)
    with torch.no_grad():
        model[0].weight.add_(0.1)
    after = view.network("test", "<input>")(x)
    with torch.no_grad():
        torch.testing.assert_close(after, in_float64(model)(x.double()), rtol=0, atol=1e-14)
    assert not torch.allclose(before, after)


class Networks(Probe):
    """The number of operations of the network, for which it is applied to all rows."""

    def measure(self, snapshot: Snapshot) -> dict[str, Any]:
        network = snapshot.network()
        network(snapshot.data["all"].inputs)
        return {"operations": Measured(float(len(network.operations)))}


def test_training_is_the_same_with_and_without_networks() -> None:
    def trained(probe: Probe | None) -> tuple[list[Tensor], Tensor]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(8, 1))
        optimizer, x = torch.optim.Adam(model.parameters()), torch.randn(16, 3)
        session = probe.attach(model, (x, None), optimizer=optimizer) if probe else None
        for _ in range(3):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
        if session:
            session.detach()
            assert probe is not None
            assert (probe.series_["operations"] == 3).all()
        return [value.clone() for value in model.state_dict().values()], torch.get_rng_state()

    with torch.random.fork_rng([]):
        (one, state), (other, other_state) = trained(None), trained(Networks())
    assert all(map(torch.equal, one, other))
    assert torch.equal(state, other_state)


def test_wrappers_are_taken_off() -> None:
    model, x = ready("mlp")
    assert piecewise_linear(torch.optim.swa_utils.AveragedModel(model), x).sites == ["1:relu", "4:relu"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # the compiler imports TorchScript
def test_compiled_models_are_unwrapped() -> None:
    model, x = ready("mlp")
    assert piecewise_linear(torch.compile(model), x).sites == ["1:relu", "4:relu"]


def test_checkpointed_and_pruned_models() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        return m.b(torch.utils.checkpoint.checkpoint(lambda y: F.relu(m.a(y)), x, use_reentrant=False))

    model = built(lambda: Model(forward, **linear(3, 8, 2)))
    nn.utils.prune.l1_unstructured(model.a, "weight", 0.5)
    x = torch.randn(4, 3, generator=seeded())
    network = piecewise_linear(model, x)
    with torch.no_grad():
        torch.testing.assert_close(network(x).float(), model(x), rtol=0, atol=1e-6)
    assert network.sites == [":relu"]


def test_a_network_without_affine_neighbours_stays() -> None:
    """Two readers of one value: nothing may be computed twice."""
    model = built(lambda: Model(lambda m, x: (lambda y: y + F.relu(y))(m.a(x)), **linear(3, 3)))
    network = piecewise_linear(model, torch.ones(1, 3))
    assert [type(each) for each in network.operations] == [Affine, Bend, Affine]
    assert isinstance(network, PiecewiseLinear)
    assert network.operations[-1].inputs == (1, 2)


def test_outputs_that_overflow_are_no_fault_of_the_model() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1e30)
        model[2].weight[:, 0] = -1e30  # infinity less infinity in float32
    with pytest.raises(ValueError, match="Expected finite outputs of the model") as raised:
        piecewise_linear(model, torch.ones(1, 3))
    assert not isinstance(raised.value, NotPiecewiseLinearError)
