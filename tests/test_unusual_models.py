"""Models that are no plain modules: measured with the right numbers, or refused with one clear error and left alone."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from helpers import built
from torch import Tensor, distributed as dist, nn

from probe import (
    ActivationsProbe,
    LMNProbe,
    LocalComplexityProbe,
    MutualInfoProbe,
    PerformanceProbe,
    ProbeSet,
    Snapshot,
    TangentKernelProbe,
    WeightsProbe,
    every,
)
from probe.errors import ProbeWarning
from probe.forward import default_layers, read_data, trace
from probe.testing import state_of

X = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
DATA = X, Y


def net() -> nn.Sequential:
    return built(lambda: nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 2)))  # type: ignore[no-any-return]


def trained(model: nn.Module, n: int = 2) -> dict[str, Any]:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(n):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return copy.deepcopy(model.state_dict())


def assert_refused(model: nn.Module, message: str) -> None:
    """Assert that attach refuses a model and leaves it as it was."""
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TypeError, match=message):
        PerformanceProbe().attach(model, DATA, optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def whole(tensor: Any) -> Any:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


# -- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: torch.jit.script(net()), "the whole model, 0, 1, 2"),
        (lambda: torch.jit.trace(net(), X), "the whole model, 0, 1, 2"),
        (lambda: nn.Sequential(torch.jit.script(net()), nn.Linear(2, 2).requires_grad_(False)), "0, 0.0, 0.1, 0.2"),
    ],
)
def test_torchscript_is_refused(make: Callable[[], nn.Module], where: str) -> None:
    assert_refused(make(), f"got TorchScript in {where}; attach to the module from which torch.jit")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_torchscript_trains_on_after_it_was_refused() -> None:
    trained(torch.jit.script(net()))  # the first run rounds otherwise
    model = torch.jit.script(net())
    assert_refused(model, "got TorchScript")
    one, other = trained(model), trained(torch.jit.script(net()))
    assert all(torch.equal(one[key], other[key]) for key in other)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_exported_program_is_measured_at_its_output_and_says_so() -> None:
    rows = {0: torch.export.Dim("rows")}
    program = torch.export.export(net(), (X,), dynamic_shapes=(rows,)).module()
    with pytest.warns(
        ProbeWarning, match="calls, got none of 0, 2, so the only default layer is '<output>'; attach to"
    ):
        found = ActivationsProbe().fit(program, DATA).series_
    assert found["layer"].values.tolist() == ["<output>"]
    expected = ActivationsProbe(layers="<output>").fit(net(), DATA).series_
    assert found["activation_norm"].values == pytest.approx(expected["activation_norm"].values, rel=1e-6)


def test_a_symbolic_trace_has_the_layers_of_its_module() -> None:
    traced, model = torch.fx.symbolic_trace(net()), net()
    for probe in (MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()):
        found, expected = probe.fit(traced, DATA).series_, probe.fit(model, DATA).series_
        assert found.drop_vars("seconds").equals(expected.drop_vars("seconds"))


class Half(nn.Module):
    """A quantised layer before one that is not."""

    def __init__(self) -> None:
        super().__init__()
        from torch.ao.quantization import quantize_dynamic

        self.first = quantize_dynamic(nn.Sequential(nn.Linear(6, 12)), {nn.Linear}, dtype=torch.qint8)[0]
        self.second = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


@pytest.mark.filterwarnings("ignore:.*quant")
@pytest.mark.filterwarnings("ignore:Expected row i of a layer")  # the scale is that of the batch
def test_quantised_layers_are_default_layers() -> None:
    model = built(Half)
    assert default_layers(model) == ["first", "second"]
    found = MutualInfoProbe().fit(model, DATA).series_["information_x"]
    expected = MutualInfoProbe(layers="1").fit(nn.Sequential(nn.Identity(), model.first), DATA).series_["information_x"]
    assert found.sel(layer="first").values == pytest.approx(expected.sel(layer="1").values)


class Direct(nn.Module):
    """Blocks whose parts are called, and not the blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block[1](block[0](x))
        return x


def test_blocks_that_are_not_called_are_no_default_layers() -> None:
    found = ActivationsProbe().fit(built(Direct), (X, None)).series_
    assert found["layer"].values.tolist() == ["blocks.0.1", "blocks.1.1"]
    assert found["activation_norm"].notnull().all()


# -- sharded parameters ----------------------------------------------------------------------------------------------


@pytest.fixture
def group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sharded_in_part() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    model = net()
    fully_shard(model[0], mesh=init_device_mesh("cpu", (1,)))
    return model


def sharded() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    return fully_shard(net(), mesh=init_device_mesh("cpu", (1,)))  # type: ignore[return-value]


def in_columns() -> nn.Module:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    return parallelize_module(net(), init_device_mesh("cpu", (1,)), {"0": ColwiseParallel(), "2": RowwiseParallel()})


def flat(inside: bool = False, **settings: Any) -> nn.Module:
    from torch.distributed.fsdp import FullyShardedDataParallel

    return FullyShardedDataParallel(net(), device_id=torch.device("cpu"), **settings)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("group")
@pytest.mark.parametrize(
    ("make", "where"),
    [
        (sharded_in_part, "fully_shard of some submodules only in 0.weight, 0.bias; "),
        (in_columns, "tensor parallelism in 0.weight, 0.bias, 2.weight, 2.bias; "),
        (flat, r"FullyShardedDataParallel \(FSDP1\) in the whole model; "),
        (lambda: flat(use_orig_params=True), r"FullyShardedDataParallel \(FSDP1\) in the whole model; "),
    ],
    ids=["fully_shard of a part", "tensor parallel", "FSDP", "FSDP with original parameters"],
)
def test_sharded_parameters_are_refused(make: Callable[[], nn.Module], where: str) -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(
        TypeError, match=f"divides among all ranks, got {where}.*attach to this copy without an optimizer"
    ):
        PerformanceProbe().attach(model, DATA, optimizer=optimizer)
    if isinstance(model, dist.fsdp.FullyShardedDataParallel):
        with pytest.raises(TypeError, match=r"got FullyShardedDataParallel \(FSDP1\)"):
            PerformanceProbe().attach(model.module, DATA)
    model(X).sum().backward()
    before = [whole(parameter).clone() for parameter in model.parameters()]
    optimizer.step()
    assert any(not torch.equal(a, whole(b)) for a, b in zip(before, model.parameters(), strict=True))
    one, other = trained(make()), trained(make())
    assert all(torch.equal(whole(one[key]), whole(other[key])) for key in other)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("group")
def test_a_sharded_model_is_observed_and_left_as_it_was() -> None:
    def observed(model: nn.Module) -> Any:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        found = ProbeSet([PerformanceProbe(), WeightsProbe()])
        found.attach(model, DATA, optimizer=optimizer, schedule=every(1), on_error="raise")
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), Y).backward()
            optimizer.step()
            with torch.no_grad():
                model(X)  # leaves the last parameters gathered
        return found.detach().series_, model.state_dict()

    (series, state), (expected, other) = observed(sharded()), observed(net())
    for name in set(expected.data_vars) - {"seconds"}:
        assert series[name].equals(expected[name]), name
    assert all(torch.equal(whole(state[key]), other[key]) for key in other)
    model = sharded()
    with pytest.raises(ValueError, match="Expected the model to accept two inputs"):
        PerformanceProbe().attach(model, (X[:, :3], Y))  # its passes end early
    assert all(
        torch.equal(whole(one), two) for one, two in zip(trained(model).values(), trained(net()).values(), strict=True)
    )
    with pytest.raises(ValueError, match="Expected whole parameters for derivatives with respect to parameters"):
        TangentKernelProbe().fit(model, DATA)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.usefixtures("group")
def test_a_gathered_copy_is_observed_as_the_error_advises() -> None:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    model, gathered = sharded(), net()
    probe = PerformanceProbe().attach(gathered, DATA)
    for step in range(3):
        gathered.load_state_dict(get_model_state_dict(model, options=StateDictOptions(full_state_dict=True)))
        probe.observe(step)
        trained(model, 1)
    without = net()
    expected = [PerformanceProbe().fit(without, DATA).series_["all_loss"].item()]
    for _ in range(2):
        trained(without, 1)
        expected.append(PerformanceProbe().fit(without, DATA).series_["all_loss"].item())
    assert probe.detach().series_["all_loss"].values.tolist() == pytest.approx(expected, rel=1e-5)


# -- models that compute derivatives -----------------------------------------------------------------------------------


class Force(nn.Module):
    """The negative gradient of an energy, by default without a switch to gradients."""

    def __init__(self, enables: bool = False, backward: bool = False) -> None:
        super().__init__()
        self.energy, self.enables, self.backward = (
            nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 1)),
            enables,
            backward,
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.enables:
            with torch.enable_grad():
                return self.force(x)
        return self.force(x)

    def force(self, x: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        energy = self.energy(x).sum()
        if self.backward:
            energy.backward()
            return -x.grad
        return -torch.autograd.grad(energy, x, create_graph=self.training)[0]


@pytest.mark.parametrize(("enables", "backward"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_model_that_differentiates_is_measured_and_trains_as_without(enables: bool, backward: bool) -> None:
    targets = torch.sin(X)

    def run(observed: bool) -> tuple[Any, Any]:
        model = built(lambda: Force(enables, backward))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        probe = None
        if observed:
            probe = PerformanceProbe().attach(model, (X, targets), optimizer=optimizer, schedule=every(1))
        losses = []
        for _ in range(3):
            optimizer.zero_grad()
            if backward:
                model.energy(X).square().mean().backward()
            else:
                (model(X) - targets).square().mean().backward()
            optimizer.step()
            gradients = {p: None if p.grad is None else p.grad.clone() for p in model.parameters()}
            losses.append((model(X) - targets).square().mean().item())
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
        if probe is not None:
            assert probe.detach().series_["all_loss"].values[1:] == pytest.approx(losses, rel=1e-5)
        return state_of(model, optimizer), losses

    assert run(True) == run(False)


def test_layers_of_a_model_that_differentiates_equal_those_of_hooks() -> None:
    model = built(Force)
    snapshot = Snapshot(model, 0, read_data((X, None)), trace(model, X[:2]), batch_size=5)
    found = snapshot.outputs("all", ["energy.1"])["energy.1"]
    assert torch.allclose(found, model.energy[:2](X), atol=1e-6)
    assert not found.requires_grad
    mine = LocalComplexityProbe().fit(model, (X, None)).series_["local_complexity"].values
    assert mine == pytest.approx(LocalComplexityProbe().fit(model.energy, (X, None)).series_["local_complexity"].values)
    with pytest.raises(ValueError, match="can be replaced, got a model that computes derivatives in its forward pass"):
        LMNProbe().fit(model, (X, None))


@pytest.mark.parametrize("layer", [0, 1])
def test_a_hook_that_asks_for_gradients_of_a_layer_is_no_derivative(layer: int) -> None:
    """As libraries do for checkpoints of the activations: the layers before may be frozen."""
    plain, hooked = net(), net()
    hooked[layer].register_forward_hook(lambda module, args, output: output.requires_grad_())
    for probe in (LocalComplexityProbe(stem="0", layers="1"), LocalComplexityProbe(), LMNProbe(layers=["0", "1"])):
        found, expected = probe.fit(hooked, DATA).series_, probe.fit(plain, DATA).series_
        assert found.drop_vars("seconds").equals(expected.drop_vars("seconds"))
    edited = {"0": lambda output, positions: 2 * output}
    one, other = (
        Snapshot(model, 0, read_data(DATA), trace(model, X[:2])).outputs("all", ["2"], edit=edited)["2"]
        for model in (plain, hooked)
    )
    assert torch.equal(one, other)
    assert not other.requires_grad


def test_a_model_that_fails_with_gradients_too_is_an_error_of_its_own() -> None:
    class Constant(Force):
        def force(self, x: Tensor) -> Tensor:
            return torch.autograd.grad(torch.ones(()), x)[0]

    with pytest.raises(ValueError, match=r"accept two inputs .* got RuntimeError"):
        PerformanceProbe().fit(Constant(), DATA)


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
@pytest.mark.parametrize("stride", [1, 3])
def test_a_parameter_of_one_number_may_have_any_stride(shape: tuple[int, ...], stride: int) -> None:
    model = nn.Sequential(nn.Linear(6, 1), nn.Linear(1, 1))
    parameter = model[1].weight if len(shape) == 2 else model[1].bias
    parameter.data = torch.arange(9.0).as_strided(shape, (stride,) * len(shape))
    usual = copy.deepcopy(model)
    usual[1].weight.data, usual[1].bias.data = model[1].weight.clone(), model[1].bias.clone()
    found, expected = (LMNProbe(layers=["0"]).fit(each, (X, None)).series_ for each in (model, usual))
    assert found.drop_vars("seconds").equals(expected.drop_vars("seconds"))
