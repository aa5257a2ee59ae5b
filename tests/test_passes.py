import random
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from probe import INPUT, OUTPUT, Snapshot, Tap, shared
from probe.forward import Batch, Scored, Trace, isolated, read_data, trace
from probe.forward.layers import ACTIVATION_MODULES, unwrap
from probe.forward.tracing import RecordingPass

X = torch.linspace(-2, 2, 30).reshape(10, 3)


class Net(nn.Module):
    """One activation is a module and one is a function, both in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self.second, self.last = nn.Linear(3, 4), nn.ReLU(inplace=True), nn.Linear(4, 4), Last()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(F.relu(self.second(self.act(self.first(x))), inplace=True))


class Last(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Outer(nn.Module):
    """Returns a part of the output of an inner module."""

    def __init__(self, inner: nn.Module, take: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.inner, self.take = inner, take

    def forward(self, x: Tensor) -> Tensor:
        return self.take(self.inner(x))


class Returns(nn.Module):
    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.wrap = nn.Linear(3, 4), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.linear(x))


def snapshot(model: nn.Module, inputs: Any = X, targets: Any = None, **kwargs: Any) -> Snapshot:
    data = read_data((inputs, targets))
    first = data["all"].take(torch.arange(2), torch.device("cpu"))[0]
    return Snapshot(unwrap(model), 0, data, trace(unwrap(model), first), **kwargs)


def see(model: nn.Module, site: str, inputs: Any = X, **kwargs: Any) -> Tensor:
    return snapshot(model, inputs).outputs("all", [site], **kwargs)[site]


def manual(net: Net) -> dict[str, Tensor]:
    """Return the values of the sites of Net, computed by matrix products."""
    with torch.no_grad():
        first = X @ net.first.weight.T + net.first.bias
        second = first.clamp(min=0) @ net.second.weight.T + net.second.bias
        out = second.clamp(min=0) @ net.last.linear.weight.T + net.last.linear.bias
    return {"first": first, "second": second, OUTPUT: out}


# -- sites -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("site", "same"),
    [
        ("first", "first"),
        ("act:relu", "first"),
        ("second", "second"),
        (":relu", "second"),
        ("last", OUTPUT),
        (OUTPUT, OUTPUT),
    ],
)
def test_a_site_holds_its_value_before_later_layers_overwrite_it(site: str, same: str) -> None:
    net = Net()
    found = snapshot(net).outputs(
        "all", [site, OUTPUT]
    )  # OUTPUT makes the pass run on after the site, so that later layers overwrite it
    torch.testing.assert_close(found[site], manual(net)[same])


def test_a_site_with_an_arrow_holds_the_output_of_the_activation() -> None:
    net = Net()
    torch.testing.assert_close(see(net, ":relu->"), manual(net)["second"].clamp(min=0))


def test_the_input_is_a_site() -> None:
    assert torch.equal(see(Net(), INPUT), X)


def test_a_scored_reduction_receives_the_value_before_it_is_overwritten() -> None:
    net = Net()
    whole = Scored(lambda output, targets: output)
    seen = snapshot(net).outputs("all", [":relu", OUTPUT], reduce=whole)[":relu"]
    torch.testing.assert_close(seen, manual(net)["second"])


@pytest.mark.parametrize("cls", ACTIVATION_MODULES, ids=lambda cls: cls.__name__)
def test_each_activation_module_shows_its_preactivation(cls: type[nn.Module]) -> None:
    model = nn.Sequential(nn.Linear(3, 4), cls(0.2, 0.1) if cls is nn.Threshold else cls())
    site, *others = trace(model, X).activations
    bends = {nn.Hardtanh: -1, nn.Hardswish: -3, nn.Hardsigmoid: -3, nn.Hardshrink: -0.5, nn.Softshrink: -0.5}
    expected = model[0](X).detach() - {**bends, nn.Threshold: 0.2}.get(cls, 0)  # the first of two bends
    torch.testing.assert_close(see(model, site), expected[:, 2:] if cls is nn.GLU else expected)
    assert len(others) == (cls in {**bends, nn.ReLU6: 0})


@pytest.mark.parametrize(
    "call",
    [
        F.relu,
        torch.relu,
        Tensor.relu,
        Tensor.relu_,
        lambda x: F.relu(input=x),
        F.silu,
        torch.tanh,
        F.logsigmoid,
        F.softplus,
    ],
)
def test_functional_activations_are_sites_of_the_module_that_calls_them(call: Callable[[Tensor], Tensor]) -> None:
    inner = Returns(call)
    (site,) = trace(Outer(inner, lambda x: x), X).activations
    assert site.startswith("inner:")
    torch.testing.assert_close(see(Outer(inner, lambda x: x), site), inner.linear(X).detach())


def test_two_calls_in_one_module_are_two_sites() -> None:
    model = Returns(lambda x: torch.relu(torch.relu(x) - 1))
    assert trace(model, X).activations == [":relu", ":relu.2"]
    torch.testing.assert_close(see(model, ":relu.2"), (model.linear(X).clamp(min=0) - 1).detach())


def test_activations_called_by_an_edit_or_a_reduction_are_not_sites() -> None:
    net = Net()
    taps = [Tap("first", lambda z: torch.relu(z)), Tap("act:relu"), Tap(":relu")]
    run = RecordingPass(net, taps, edits={"first": lambda z, positions: torch.relu(z)})
    with isolated(net), run:
        run.begin(len(X))
        run.run_inputs(X, None, range(len(X)))
    assert run.trace.activations == ["act:relu", ":relu"]


@pytest.mark.parametrize(
    ("wrap", "take"),
    [
        (lambda x: (x, 1), lambda out: out[0]),
        (lambda x: [x, x], lambda out: out[0]),
        (lambda x: {"logits": x, "loss": x.sum()}, lambda out: out["logits"]),
        (lambda x: OrderedDict(loss=x.sum(), logits=x), lambda out: out["logits"]),
        (lambda x: torch.max(x[:, None], 1), lambda out: out.values),
    ],
    ids=["tuple", "list", "dict", "OrderedDict", "namedtuple"],
)
def test_layers_may_return_more_than_a_tensor(wrap: Callable[[Tensor], Any], take: Callable[[Any], Tensor]) -> None:
    model = Outer(Returns(wrap), take)
    torch.testing.assert_close(see(model, "inner"), model.inner.linear(X).detach())


def test_lstm_outputs_are_read_and_edited() -> None:
    model = Outer(nn.LSTM(3, 4, batch_first=True), lambda out: out[0] + out[1][0].transpose(0, 1))
    x = torch.randn(5, 6, 3)
    out, (h, _) = model.inner(x)
    torch.testing.assert_close(see(model, "inner", x), out[:, -1].detach())
    edited = see(model, OUTPUT, x, edit={"inner": lambda z, positions: torch.zeros_like(z)})
    torch.testing.assert_close(edited, h[0].detach())


def test_layers_that_return_no_tensor_are_skipped() -> None:
    model = Outer(Returns(lambda x: None), lambda out: torch.ones(10, 1))
    assert "inner" not in trace(model, X).order
    assert snapshot(model).outputs("all", ["inner", "inner.linear"]).keys() == {"inner.linear"}


def encoder(**kwargs: Any) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 2, **kwargs)


def test_the_layers_inside_a_fused_transformer_encoder_fire() -> None:
    model, x = encoder(enable_nested_tensor=False), torch.randn(4, 5, 8)
    seen = trace(model, x)
    assert {"layers.0", "layers.0.self_attn", "layers.1.linear2", "layers.1:relu"} <= set(seen.order)
    hidden = model.layers[0].eval()(x)
    torch.testing.assert_close(see(model, "layers.0", x, reduce="none"), hidden.detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
def test_a_padded_transformer_encoder_is_measured() -> None:
    """In evaluation mode PyTorch would convert the padded rows into nested tensors."""
    model, x = encoder(), torch.randn(4, 5, 8)
    inputs = {"src": x, "src_key_padding_mask": torch.tensor([[False] * 4 + [True]] * 4)}
    trained = model.train()(**inputs)
    for site in (OUTPUT, "layers.1"):
        torch.testing.assert_close(see(model, site, inputs, reduce="none"), trained.detach(), rtol=1e-4, atol=1e-5)


def test_a_layer_without_one_row_for_each_input_is_an_error() -> None:
    inputs = torch.randn(5, 6, 3)
    model = Outer(Returns(lambda x: x.transpose(0, 1)), lambda out: out.transpose(0, 1))
    with pytest.raises(
        ValueError, match=r"each of 5 inputs from layer 'inner', got shape \(6, 5, 4\); pass a callable"
    ):
        see(model, "inner", inputs)
    assert see(model, "inner", inputs, reduce=lambda z: z[-1]).shape == (5, 4)


# -- passes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 3, 10, 512])
def test_blocks_give_the_same_values_as_one_pass(batch_size: int) -> None:
    net, sites = Net(), ["first", ":relu", "act:relu->", OUTPUT]
    whole = snapshot(net).outputs("all", sites)
    in_blocks = snapshot(net, batch_size=batch_size).outputs("all", sites)
    for site in sites:
        torch.testing.assert_close(in_blocks[site], whole[site])


@pytest.mark.parametrize("rows", [[3], [2, 0, 2, 9], list(range(10)) * 3])
def test_rows_keep_the_given_order_and_can_repeat(rows: list[int]) -> None:
    net = Net()
    seen = snapshot(net, batch_size=4).outputs("all", ["second"], rows=torch.tensor(rows))["second"]
    torch.testing.assert_close(seen, manual(net)["second"][rows])


def test_an_edit_receives_the_positions_of_its_rows_across_blocks() -> None:
    net, rows = Net(), torch.tensor([5, 5, 5, 1, 1, 8, 8])
    shift = torch.randn(7, 4)
    edit = {"first": lambda z, positions: z + shift[positions]}
    seen = snapshot(net, batch_size=3).outputs("all", ["second"], rows=rows, edit=edit)["second"]
    hidden = (manual(net)["first"][rows] + shift).clamp(min=0)
    torch.testing.assert_close(seen, (hidden @ net.second.weight.T + net.second.bias).detach())


@pytest.mark.parametrize("site", [INPUT, "act:relu", ":relu->", "second"])
def test_every_kind_of_site_can_be_edited(site: str) -> None:
    net = Net()
    seen = see(net, OUTPUT, edit={site: lambda z, positions: torch.zeros_like(z)})
    assert torch.allclose(seen, seen[:1].expand_as(seen)), "the output no longer depends on the inputs"
    assert not torch.allclose(see(net, OUTPUT), seen)


@pytest.mark.parametrize("inputs", [(X, X), {"a": X, "b": X + 1}])
def test_the_first_of_several_inputs_can_be_edited(inputs: Any) -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a + 10 * b

    second = inputs["b"] if isinstance(inputs, dict) else inputs[1].clone()
    inputs = inputs if isinstance(inputs, dict) else (X, second)
    seen = see(Sum(), OUTPUT, inputs, edit={INPUT: lambda z, positions: 0 * z})
    torch.testing.assert_close(seen, 10 * second)


def test_groups_stay_in_one_forward_pass() -> None:
    sizes: list[int] = []
    shot = snapshot(Net(), batch_size=4)
    shot.outputs("all", ["first"], reduce=lambda z: sizes.append(len(z)) or z, rows=torch.arange(9), group=3)  # type: ignore[func-returns-value]
    assert sizes == [3, 3, 3]
    sizes.clear()
    shot.outputs("all", ["first"], reduce=lambda z: sizes.append(len(z)) or z, rows=torch.arange(10), group=5)  # type: ignore[func-returns-value]
    assert sizes == [5, 5], "a group larger than batch_size stays together"


@pytest.mark.parametrize(("site", "calls"), [("first", 0), (":relu", 0), (":relu->", 0), ("last", 1), (OUTPUT, 1)])
def test_a_pass_stops_after_the_last_wanted_site(site: str, calls: int) -> None:
    net = Net()
    shot = snapshot(net)
    seen: list[int] = []
    net.last.register_forward_pre_hook(lambda module, args: seen.append(len(args)))
    shot.outputs("all", ["first", site])
    assert len(seen) == calls


def test_a_layer_that_does_not_fire_is_missing_from_the_result() -> None:
    model = Net()
    model.idle = nn.Linear(3, 3)
    found = snapshot(model).outputs("all", ["idle", "first"])
    assert list(found) == ["first"]


# -- the state is restored --------------------------------------------------------------------------------------------


def state(model: nn.Module) -> dict[str, Any]:
    return {
        "hooks": [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in model.modules()],
        "always": [len(m._forward_hooks_always_called) for m in model.modules()],
        "flags": [m.training for m in model.modules()],
        "grad": torch.is_grad_enabled(),
        "modes": len(_get_current_function_mode_stack()),
        "fused attention": torch.backends.mha.get_fastpath_enabled(),
        "autocast": torch.is_autocast_enabled("cpu"),
        "random": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002
    }


def mixed() -> Net:
    net = Net().train()
    net.second.eval()
    return net


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("where", ["forward", "edit", "reduce"])
def test_an_exception_restores_the_state(where: str, error: type[BaseException]) -> None:
    net = mixed()
    shot = snapshot(net)

    def fail(*_: Any) -> Tensor:
        torch.rand(1)
        raise error("failed on purpose")

    if where == "forward":
        net.act.register_forward_hook(fail)
    before = state(net)
    kwargs: dict[str, Any] = {"edit": {"first": fail}} if where == "edit" else {}
    with pytest.raises(error, match="failed on purpose"):
        shot.outputs("all", [":relu", OUTPUT], reduce=fail if where == "reduce" else None, **kwargs)
    assert state(net) == before


def test_a_stopped_pass_restores_the_state() -> None:
    net = mixed()
    before = state(net)
    see(net, "act:relu")
    assert state(net) == before


def test_a_pass_runs_in_evaluation_mode_without_gradients_and_autocast() -> None:
    seen: dict[str, Any] = {}

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.update(training=self.training, grad=torch.is_grad_enabled(), dtype=(x @ x.T).dtype)
            return x

    with torch.autocast("cpu", dtype=torch.bfloat16):
        see(Spy().train(), OUTPUT)
        assert torch.is_autocast_enabled("cpu")
    assert seen == {"training": False, "grad": False, "dtype": torch.float32}


def test_only_the_outermost_isolated_restores_random_states() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout())
    torch.manual_seed(3)
    before, drawn = torch.get_rng_state(), []
    with isolated(model):
        for _ in range(2):
            model.train()
            with isolated(model), torch.enable_grad(), isolated(model):
                assert (model[1].training, torch.is_grad_enabled()) == (False, False)
                drawn.append(torch.rand(1).item() + np.random.rand() + random.random())  # noqa: NPY002
            assert model[1].training, "the inner one restores the flags that it changes"
        with isolated(nn.Linear(3, 3)):
            inner = torch.rand(1).item()
        assert torch.rand(1).item() == inner, "for another model this one is the outermost"
    assert drawn[0] != drawn[1]
    assert torch.equal(torch.get_rng_state(), before)


def test_a_training_flag_is_set_without_calling_train() -> None:
    class Frozen(nn.Linear):
        def train(self, mode: bool = True) -> "Frozen":
            raise AssertionError("train() was called")

    see(Frozen(3, 2), OUTPUT)


def test_other_function_modes_still_work() -> None:
    seen = []

    class Spy(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    with Spy():
        see(Net(), ":relu")
        seen.clear()
        torch.relu(X)
    assert seen == ["relu"]


# -- compiled and wrapped models -------------------------------------------------------------------------------------


def compiled(kind: str, net: Net) -> nn.Module:
    if kind == "whole":
        return torch.compile(net, backend="eager")  # type: ignore[return-value]
    if kind == "in place":
        net.compile(backend="eager")
    if kind == "part":
        net.second = torch.compile(net.second, backend="eager")  # type: ignore[assignment]
    return nn.DataParallel(net) if kind == "parallel" else net


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # torch.compile itself warns
@pytest.mark.parametrize("kind", ["whole", "in place", "part", "parallel"])
@pytest.mark.parametrize("when", ["before", "after"], ids=["before the first call", "after the first call"])
def test_compiled_models_are_measured_and_work_as_before(kind: str, when: str) -> None:
    torch._dynamo.reset()
    net = Net()
    expected, model = manual(net), compiled(kind, net)
    if when == "after":
        model(X)
    shot = snapshot(model)
    for sites in (["first", "second", OUTPUT], ["first", "second", ":relu", OUTPUT]):
        found = shot.outputs("all", sites)
        for site in sites:
            torch.testing.assert_close(found[site], expected["second" if site == ":relu" else site])
    torch.testing.assert_close(model(X).detach(), expected[OUTPUT])


def test_observing_a_compiled_model_does_not_compile_it_again() -> None:
    torch._dynamo.reset()
    graphs = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    model = Outer(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), lambda x: x)
    model.compile(backend=backend)
    model(X)
    see(model, "inner.1:relu")
    see(model, "inner.1")
    model(X)
    assert len(graphs) == 1


def test_a_trace_records_order_shapes_and_kinds() -> None:
    seen: Trace = trace(
        nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 2)), torch.tensor([[0, 1], [2, 3]])
    )
    assert seen.order == [INPUT, "0", "1", "2", OUTPUT]
    assert seen.shapes["0"] == (2, 2, 3)
    assert [seen.is_floating(site) for site in seen.order] == [False, True, True, True, True]


def test_a_batch_selects_rows_of_all_tensors_that_are_not_shared() -> None:
    batch = Batch((X, shared(torch.eye(2)), "word"), torch.arange(10))
    (x, table, word), targets = batch.take(torch.tensor([4, 4]), torch.device("cpu"))
    assert torch.equal(x, X[[4, 4]])
    assert torch.equal(table, torch.eye(2))
    assert word == "word"
    assert targets is not None
    assert targets.tolist() == [4, 4]
