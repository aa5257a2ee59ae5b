"""A layer that a forward pass calls several times: each call is a layer, as if it were a copy of its own."""

import copy
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import probe
from probe import (
    INPUT,
    OUTPUT,
    ActivationsProbe,
    LMNProbe,
    LocalComplexityProbe,
    MutualInfoProbe,
    NeuralCollapseProbe,
    ProbeSet,
    RobustnessProbe,
    Snapshot,
)
from probe.forward import Trace, read_data, trace

D = 6
X = torch.randn(24, 2, D, generator=seeded(1), dtype=torch.float64)
Y = torch.arange(24) % 3


class Repeated(nn.Module):
    """Model whose ``calls`` are one module or, as a twin, copies of this module. ``way`` calls each of them once."""

    def __init__(self, way: Callable[[Any, Tensor], Tensor], one: nn.Module, n: int, shared: bool) -> None:
        super().__init__()
        self.calls = nn.ModuleList([one if shared else copy.deepcopy(one) for _ in range(n)])
        self.way, self.embed, self.head = way, nn.Linear(D, D), nn.Linear(D, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.way(self, x))


class Block(nn.Module):
    """Attention over positions and a hidden layer, each around a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(D, 2, batch_first=True)
        self.up, self.act, self.down = nn.Linear(D, 2 * D), nn.Tanh(), nn.Linear(2 * D, D)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return x + self.down(F.silu(self.act(self.up(x))))


class Field(nn.Module):
    """Right-hand side of a differential equation, with two arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, D)

    def forward(self, t: float, x: Tensor) -> Tensor:
        return torch.tanh(self.linear(x) + t)


def activation(model: Any, x: Tensor) -> Tensor:
    first, second = model.calls
    return second(model.embed(first(model.embed(x[:, 0]))))


def universal(model: Any, x: Tensor) -> Tensor:
    for k, block in enumerate(model.calls):
        x = block(x + k / 10)
    return x[:, -1]


def chain(model: Any, x: Tensor) -> Tensor:
    for block in model.calls:
        x = block(x)
    return x[:, -1]


def siamese(model: Any, x: Tensor) -> Tensor:
    one, other = model.calls
    return (one(x[:, :1]) - other(x[:, 1:])).abs()[:, 0]


def runge_kutta(model: Any, x: Tensor) -> Tensor:
    x, h, (f1, f2, f3, f4) = x[:, 0], 0.5, model.calls
    k1 = f1(0.0, x)
    k2 = f2(h / 2, x + h / 2 * k1)
    k3 = f3(h / 2, x + h / 2 * k2)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + f4(h, x + h * k3))


def recurrent(model: Any, x: Tensor) -> Tensor:
    h = torch.zeros_like(x[:, 0])
    for cell, token in zip(model.calls, torch.cat([x, x.flip(1)], 1).unbind(1), strict=True):
        h = cell(token, h)
    return h


MODELS: dict[str, tuple[Callable[[Any, Tensor], Tensor], Callable[[], nn.Module], int]] = {
    "activation": (activation, nn.ReLU, 2),
    "universal transformer": (universal, Block, 3),
    "chain of blocks": (chain, Block, 3),
    "siamese": (siamese, Block, 2),
    "neural ODE": (runge_kutta, Field, 4),
    "recurrent cell": (recurrent, lambda: nn.GRUCell(D, D), 4),
}


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """Return the model with one module, and its twin with copies."""
    way, make, n = MODELS[name]
    one, copies = (built(partial(lambda s: Repeated(way, make(), n, s), shared)) for shared in (True, False))
    return one.double().eval(), copies.double().eval()


def with_one(label: str) -> str:
    """Return the name in the model with one module, from that in the twin with copies."""
    match = re.fullmatch(r"calls\.(\d+)(.*?)(->)?", label)
    if not match:
        return label
    number = f".{int(match[1]) + 1}" if int(match[1]) else ""
    return f"calls.0{match[2]}{number}{match[3] or ''}"


def shot(model: nn.Module, inputs: Any = X, **kwargs: Any) -> Snapshot:
    data = read_data((inputs, None))
    return Snapshot(model, 0, data, trace(model, data["all"].take(torch.arange(2), torch.device("cpu"))[0]), **kwargs)


def by_hooks(model: nn.Module, *inputs: Any) -> dict[str, list[Tensor]]:
    """Return what plain hooks receive: the outputs of all calls of each module."""
    found: dict[str, list[Tensor]] = {}
    handles = []
    for name, module in model.named_modules():

        def hook(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
            if isinstance(output, Tensor):
                found.setdefault(name, []).append(output.clone())

        handles.append(module.register_forward_hook(hook))
    with torch.no_grad():
        model(*inputs)
    for handle in handles:
        handle.remove()
    return found


def assert_each_call_is_a_site(model: nn.Module, inputs: Any = X, *, batch_size: int = 7, mark: str = ".") -> Trace:
    """Compare all calls of all modules with plain hooks: in one pass, and one site at a time."""
    snapshot = shot(model, inputs, batch_size=batch_size)
    expected = {
        f"{name}{mark if any(c.isdigit() for c in dict(model.get_submodule(name).named_children())) else '.'}{k}"
        if k > 1
        else name: value
        for name, values in by_hooks(model, *(inputs if isinstance(inputs, tuple) else (inputs,))).items()
        for k, value in enumerate(values, 1)
        if name
    }
    layers = [site for site in snapshot.trace.order if ":" not in site and site not in (INPUT, OUTPUT)]
    assert {site for site in layers if snapshot.trace.is_floating(site)} >= expected.keys()
    together = snapshot.outputs("all", list(expected), reduce="none")
    for site, value in expected.items():
        torch.testing.assert_close(together[site], value.to(together[site].dtype))
        alone = snapshot.outputs("all", [site], reduce="none")
        torch.testing.assert_close(alone[site], together[site], msg=lambda text, site=site: f"{site}: {text}")
    return snapshot.trace


# -- sites -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_each_call_is_a_site_with_the_value_of_a_plain_hook(name: str) -> None:
    one, copies = pair(name)
    assert_each_call_is_a_site(one)
    assert [with_one(site) for site in shot(copies).trace.order] == shot(one).trace.order


@pytest.mark.parametrize("name", MODELS)
def test_an_edit_replaces_the_call_that_it_names(name: str) -> None:
    one, copies = map(shot, pair(name))
    for site in copies.trace.order:
        if site != OUTPUT and copies.trace.is_floating(site) and "comparison" not in site:
            edit = lambda z, at: 1.5 * z + 0.1  # noqa: E731
            expected = copies.outputs("all", [OUTPUT], edit={site: edit})[OUTPUT]
            found = one.outputs("all", [OUTPUT], edit={with_one(site): edit})[OUTPUT]
            torch.testing.assert_close(found, expected, msg=lambda text, site=site: f"{site}: {text}")


@pytest.mark.parametrize("name", MODELS)
def test_values_sent_on_from_a_call_go_through_the_later_calls(name: str) -> None:
    one, copies = map(shot, pair(name))
    rows, sites = torch.tensor([3, 0, 0, 5, 8]), copies.trace.order
    for site in [site for site in sites if site.startswith("calls") and not site.endswith((":silu", ":relu"))][::2]:
        later = [s for s in sites[sites.index(site) + 1 :] if copies.trace.has_rows(s)]
        values = copies.outputs("all", [site], reduce="none", rows=rows)[site] + 0.3
        edit = {site: lambda z, at, values=values: values[at]}
        expected = copies.outputs("all", later, reduce="none", rows=rows, edit=edit)
        put, names = (lambda at, values=values: values[at.start : at.stop]), [with_one(s) for s in later]
        found = one.outputs_from("all", with_one(site), put, names, rows=rows, reduce="none", batch_size=2)
        for s in later:
            torch.testing.assert_close(found[with_one(s)], expected[s], msg=lambda text, s=s: f"{site} {s}: {text}")  # noqa: B023


def test_a_chain_through_a_module_that_is_called_again_runs_only_the_later_calls() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(D, D)

        def forward(self, x: Tensor) -> Tensor:
            return F.gelu(self.linear(x))

    model = built(lambda: Repeated(chain, Plain(), 4, shared=True)).double()
    model.way = lambda m, x: m.calls[3](m.calls[2](m.calls[1](m.calls[0](x))))
    snapshot, sites = shot(model), ["calls.0.linear.4", "calls.0:gelu.4", "calls.0.4", "head"]
    rows = torch.arange(5)
    values = torch.randn(5, 2, D, generator=seeded(3), dtype=torch.float64)
    assert snapshot.has_suffix("all", "calls.0.2", sites)
    seen: list[int] = []
    model.calls[0].register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    found = snapshot.outputs_from("all", "calls.0.2", lambda at: values[at], sites, rows=rows, reduce="none")
    assert seen == [5, 5], "the third and the fourth call alone"
    with torch.no_grad():
        linear = model.calls[0].linear(model.calls[0](values))
    torch.testing.assert_close(found["calls.0:gelu.4"], linear)
    torch.testing.assert_close(found["calls.0.linear.4"], linear)
    torch.testing.assert_close(found["calls.0.4"], F.gelu(linear))


def test_an_activation_module_with_several_calls_does_not_work_in_place() -> None:
    """Its second call here has an input that other code holds."""

    class Keeps(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            kept.append(super().forward(x))
            return kept[-1]

    kept: list[Tensor] = []

    def make() -> nn.Module:
        act = nn.ReLU()
        return nn.Sequential(nn.Linear(D, D), act, Keeps(D, D), act, nn.Linear(D, 3))

    model = built(make).double()
    snapshot, rows = shot(model, X[:, 0]), torch.arange(9)
    values = torch.randn(9, D, generator=seeded(2), dtype=torch.float64)
    found = snapshot.outputs_from("all", "0", lambda at: values[at].clone(), [OUTPUT, "1.2"], rows=rows)
    assert snapshot.has_suffix("all", "0", [OUTPUT, "1.2"])
    assert (kept[-1] < 0).any()
    torch.testing.assert_close(found["1.2"], kept[-1].detach().relu())
    torch.testing.assert_close(found[OUTPUT], model[1:](values).detach())


class Shared(nn.Module):
    """Names of parts that are called in an order of any kind."""

    def __init__(self, way: Callable[..., Any], **parts: nn.Module) -> None:
        super().__init__()
        self.way = way
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, *inputs: Any) -> Any:
        return self.way(self, *inputs)


def test_calls_with_different_shapes() -> None:
    def way(m: Any, source: Tensor, target: Tensor) -> Tensor:
        encoded = m.embed(source).mean(1, keepdim=True)
        return m.head(m.embed(target) + encoded)

    parts = {"embed": nn.Embedding(9, D), "head": nn.Linear(D, 9)}
    model = built(lambda: Shared(way, **parts))
    tokens = torch.randint(9, (12, 5), generator=seeded()), torch.randint(9, (12, 3), generator=seeded(1))
    seen = assert_each_call_is_a_site(model, tokens, batch_size=5)
    assert (seen.shapes["embed"], seen.shapes["embed.2"]) == ((2, 5, D), (2, 3, D))


def test_a_module_with_two_names_has_the_calls_of_both() -> None:
    one = nn.Linear(D, D)
    model = Shared(lambda m, x: m.b(torch.tanh(m.a(x))), a=one, b=one).double()
    assert model.a is model.b
    assert [site for site in shot(model).trace.order if ":" not in site] == [INPUT, "a", "a.2", OUTPUT]
    assert_each_call_is_a_site(model)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
@pytest.mark.parametrize("use_reentrant", [True, False])
def test_calls_under_checkpointing(use_reentrant: bool) -> None:
    def way(m: Any, x: Tensor) -> Tensor:
        for _ in range(3):
            x = checkpoint(m.block, x, use_reentrant=use_reentrant)  # type: ignore[assignment]
        return m.head(x)

    model = built(lambda: Shared(way, block=Block(), head=nn.Linear(D, 3))).double().eval()
    seen = assert_each_call_is_a_site(model)
    assert {"block", "block.2", "block.3", "block:silu.3->"} <= set(seen.order)


def test_calls_of_a_module_with_numbered_children_have_another_mark() -> None:
    body = nn.Sequential(nn.Linear(D, D), nn.Tanh(), nn.Linear(D, D))
    model = built(lambda: Shared(lambda m, x: m.body(m.body(x)), body=body)).double()
    seen = assert_each_call_is_a_site(model, mark="#")
    assert [site for site in seen.order if ":" not in site] == [
        *[INPUT, "body.0", "body.1", "body.2", "body"],
        *["body.0.2", "body.1.2", "body.2.2", "body#2", OUTPUT],
    ]
    assert shot(model).select(["body#2", "body.1.2"]) == ["body.1.2", "body#2"]
    assert shot(model).select("body.2") == ["body.2", "body.2.2"]


class Halves(nn.Module):
    """Calls itself on fewer positions."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(D, D)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 1:
            x = x + self(x[:, : x.shape[1] // 2]).mean(1, keepdim=True)
        return torch.tanh(self.linear(x))


@pytest.mark.parametrize("inside", [True, False], ids=["a layer", "the model"])
def test_recursive_calls_are_counted_as_they_return(inside: bool) -> None:
    x = torch.randn(12, 4, D, generator=seeded(), dtype=torch.float64)
    model = built(lambda: Shared(lambda m, x: m.part(x), part=Halves()) if inside else Halves()).double()
    seen = assert_each_call_is_a_site(model, x)
    prefix = "part" if inside else ""
    assert [seen.shapes[f"{prefix}:tanh{k}"][1] for k in ("", ".2", ".3")] == [1, 2, 4]
    snapshot = shot(model, x)
    torch.testing.assert_close(snapshot.outputs("all", [OUTPUT], reduce="none")[OUTPUT], model(x).detach())
    values = torch.randn(12, 4, D, generator=seeded(1), dtype=torch.float64)
    sites = [f"{prefix}:tanh.3->", OUTPUT]
    found = snapshot.outputs_from("all", INPUT, lambda at: values[at], sites, rows=torch.arange(12), reduce="none")
    torch.testing.assert_close(found[OUTPUT], model(values).detach())
    torch.testing.assert_close(found[f"{prefix}:tanh.3->"], model(values).detach())


class EarlyExit(nn.Module):
    """Calls its layer until the rows are large, at most five times: how often depends on the rows."""

    def __init__(self) -> None:
        super().__init__()
        self.grow, self.act = nn.Linear(D, D), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(5):
            x = self.act(self.grow(x))
            if x.norm() > 100:
                break
        return x


@pytest.mark.filterwarnings("ignore:Expected the output of an input not to depend on:probe.errors.ProbeWarning")
def test_a_call_that_some_passes_do_not_make_is_not_measured() -> None:
    model = EarlyExit().double()
    with torch.no_grad():
        model.grow.weight.copy_(2 * torch.eye(D))
        model.grow.bias.zero_()
    x = torch.ones(12, D, dtype=torch.float64)
    x[8:] *= 20  # two calls in the last block of four rows, four in the others
    snapshot = shot(model, x, batch_size=4)
    assert snapshot.select(nn.Linear) == ["grow", "grow.2", "grow.3", "grow.4", "grow.5"]
    found = snapshot.outputs("all", ["grow", "grow.2", "grow.3", "grow.4", "grow.5"])
    assert list(found) == ["grow"]
    torch.testing.assert_close(found["grow"], 2 * x)
    attached = ActivationsProbe(layers=nn.Linear).attach(model, (x, None), batch_size=4).observe(0)
    with pytest.warns(probe.errors.ProbeWarning, match=r"grow\.2, grow\.3"):
        series = attached.detach().series_
    assert series["activations_nonfinite"].sel(layer=["grow", "grow.2"]).values.ravel().tolist() == [0, -1]
    attached = LMNProbe(layers=["grow.1", "grow.2"]).attach(model, (x, None), batch_size=4, on_error="raise").observe(0)
    with pytest.warns(probe.errors.ProbeWarning, match=r"output of grow\.2,"):
        series = attached.detach().series_
    assert series["linear_mapping_number_nonfinite"].values.ravel().tolist() == [0, -1]


def test_a_pass_that_ends_with_an_error_does_not_disturb_the_next_one() -> None:
    one, _ = pair("universal transformer")
    snapshot = shot(one)
    expected = snapshot.outputs("all", ["calls.0.3", "calls.0:silu.3"], reduce="none")

    def fail(z: Tensor, at: Tensor) -> Tensor:
        raise RuntimeError("failed on purpose")

    with pytest.raises(RuntimeError, match="failed on purpose"):
        snapshot.outputs("all", ["calls.0.3", "calls.0:silu.3"], edit={"calls.0.2": fail})
    for site, value in snapshot.outputs("all", ["calls.0.3", "calls.0:silu.3"], reduce="none").items():
        assert torch.equal(value, expected[site])


def test_a_call_that_raises_inside_the_model_is_no_call() -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            if x.shape[-1] != D:
                raise ValueError("another width")
            return 2 * x

    def way(m: Any, x: Tensor) -> Tensor:
        with pytest.raises(ValueError, match="another width"):
            m.part(x[..., :2])
        return m.last(m.part(m.first(x)))

    model = Shared(way, first=nn.Linear(D, D), part=Picky(), last=nn.Linear(D, 3)).double()
    seen = assert_each_call_is_a_site(model)
    assert "part.2" not in seen.order
    assert seen.links["part"] == ("last", True)
    assert shot(model).has_suffix("all", "first", [OUTPUT])


def test_a_pass_stops_after_the_last_requested_call() -> None:
    one, _ = pair("chain of blocks")
    snapshot = shot(one)
    seen: list[int] = []
    one.calls[0].register_forward_pre_hook(lambda module, args: seen.append(1))  # type: ignore[union-attr, operator]
    for site, calls in (("calls.0", 1), ("calls.0.2", 2), ("calls.0:silu.2", 2), ("calls.0.3", 3)):
        del seen[:]
        snapshot.outputs("all", [site])
        assert len(seen) == calls


def test_an_edit_of_an_unknown_site_is_an_error() -> None:
    one, _ = pair("activation")
    with pytest.raises(ValueError, match=r"Expected edit= to name sites of this model, got 'calls\.0\.3'.*calls\.0\.2"):
        shot(one).outputs("all", [OUTPUT], edit={"calls.0.3": lambda z, at: z})


def test_splits_with_different_numbers_of_calls_are_joined_in_order() -> None:
    def way(m: Any, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for token in x.unbind(1):
            h = m.cell(token, h)
        return m.head(h)

    model = built(lambda: Shared(way, cell=nn.RNNCell(D, D), head=nn.Linear(D, 3))).double()
    data = {"short": (X[:, :1], None), "long": (X, None)}
    series = ActivationsProbe(layers="cell").fit(model, data).series_
    assert series["layer"].values.tolist() == ["cell", "cell.2"]
    assert series["activations_nonfinite"].values[0].tolist() == [[0, -1], [0, 0]]
    joined = trace(model, X[:2, :1])
    joined.merge(trace(model, X[:2]))
    assert joined.order == trace(model, X[:2]).order


# -- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (nn.Tanh, ["calls.0.act", "calls.0.act.2", "calls.0.act.3"]),
        ("calls.0", ["calls.0", "calls.0.2", "calls.0.3"]),
        ("calls.*", ["calls.0", "calls.0.2", "calls.0.3"]),
        (re.compile(r"calls\.0$"), ["calls.0", "calls.0.2", "calls.0.3"]),
        (lambda name, module: isinstance(module, Block), ["calls.0", "calls.0.2", "calls.0.3"]),
        (None, ["calls.0", "calls.0.2", "calls.0.3"]),
        ("calls.0.2", ["calls.0.2"]),
        ("calls.0.1", ["calls.0"]),
        (["calls.0.3", "calls.0.1"], ["calls.0", "calls.0.3"]),
        ("calls.0.act.1", ["calls.0.act"]),
        ("calls.0:silu->", ["calls.0:silu->"]),
        (["calls.0:silu.2", "head", INPUT], [INPUT, "calls.0:silu.2", "head"]),
    ],
)
def test_selection_of_calls(layers: Any, expected: list[str]) -> None:
    one, _ = pair("universal transformer")
    assert shot(one).select(layers) == expected


@pytest.mark.parametrize("name", ["calls.0.4", "calls.0.0", "calls.0.act.9", "calls.0:silu.4"])
def test_selection_of_a_call_that_does_not_happen_is_an_error(name: str) -> None:
    one, _ = pair("universal transformer")
    with pytest.raises(ValueError, match=r"selects no layer; choose one of the similar names: .*calls\.0"):
        shot(one).select(name)


def test_a_block_that_is_applied_several_times_is_a_default_layer_as_its_copies_are() -> None:
    parts = {"block": Block(), "head": nn.Linear(D, 3)}
    model = built(lambda: Shared(lambda m, x: m.head(m.block(m.block(m.block(x)))), **parts)).double()
    assert shot(model).select(None) == ["block", "block.2", "block.3"]
    assert LMNProbe().fit(model, (X, None)).series_["layer"].values.tolist() == ["block"]
    encoder = nn.Sequential(nn.Linear(D, 4), nn.Tanh())
    pair = Shared(lambda m, x: m.encoder(x[:, 0]) - m.encoder(x[:, 1]), encoder=encoder).double()
    assert shot(pair).select(None) == ["encoder.1", "encoder.1.2"], "a siamese network is no iteration"


@pytest.mark.parametrize(
    ("length", "numbers"), [(16, range(1, 17)), (46, range(1, 47, 3)), (17, [*range(1, 9), *range(10, 18)])]
)
@pytest.mark.parametrize("functional", [False, True])
def test_default_layers_are_at_most_sixteen_calls_of_a_layer(
    length: int, numbers: Sequence[int], functional: bool
) -> None:
    def way(m: Any, x: Tensor) -> Tensor:
        h = torch.zeros_like(x[:, 0])
        for token in x.unbind(1):
            h = torch.tanh(token + h) if functional else m.cell(token, h)
        return h

    snapshot = shot(
        Shared(way, **({} if functional else {"cell": nn.GRUCell(D, D)})).double(), X[:2, :1].repeat(1, length, 1)
    )
    base, arrow = (":tanh", "->") if functional else ("cell", "")
    assert snapshot.select(None) == [f"{base}{f'.{k}' if k > 1 else ''}{arrow}" for k in numbers]
    if not functional:
        assert len(snapshot.select("cell")) == length


def test_layers_come_in_the_order_of_the_calls() -> None:
    model = Shared(lambda m, x: m.b(m.a(m.b(m.a(x)))), a=nn.Tanh(), b=nn.ReLU())
    assert shot(model).select(None) == ["a", "b", "a.2", "b.2"]


# -- measures --------------------------------------------------------------------------------------------------------


def assert_equal_series(one: xr.Dataset, copies: xr.Dataset) -> None:
    """Assert that two series are equal up to the names of layers and rounding."""
    copies = copies.assign_coords(layer=[with_one(str(label)) for label in copies["layer"].values])
    assert one["layer"].values.tolist() == copies["layer"].values.tolist()
    drop = ["seconds", "failed"]
    xr.testing.assert_allclose(one.drop_vars(drop), copies.drop_vars(drop), rtol=1e-9, atol=1e-9)


LAYERS = {"activation": nn.ReLU, "recurrent cell": nn.GRUCell, "neural ODE": Field}


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")
@pytest.mark.parametrize("name", MODELS)
def test_every_measure_gives_the_values_of_copies(name: str) -> None:
    layers: Any = LAYERS.get(name, Block)
    probes: Sequence[probe.Probe] = [
        MutualInfoProbe(layers=layers, compare=("binned", "coding_rate")),
        ActivationsProbe(layers=layers),
        NeuralCollapseProbe(layers=layers),
        LocalComplexityProbe(layers=layers),
        LMNProbe(layers=layers, max_rows=8000),
        RobustnessProbe(stem="calls.0"),
    ]
    one, copies = (ProbeSet(probes).fit(model, (X, Y)).series_ for model in pair(name))
    assert_equal_series(one, copies)
    assert len(one["layer"]) >= 2


def test_activations_of_each_call_have_the_values_of_plain_hooks() -> None:
    one, _ = pair("activation")
    first, second = by_hooks(one, X)["calls.0"]
    series = ActivationsProbe(layers=nn.ReLU).fit(one, (X, Y)).series_
    assert series["layer"].values.tolist() == ["calls.0", "calls.0.2"]
    expected = [(z == 0).double().mean().item() for z in (first, second)]
    assert series["activation_sparsity"].values.ravel().tolist() == pytest.approx(expected, abs=1e-12)
    assert expected[0] != pytest.approx(expected[1], abs=0.005)


def test_local_complexity_of_one_call_counts_the_activations_inside_it() -> None:
    one, _ = pair("universal transformer")
    whole = LocalComplexityProbe(layers=nn.Tanh).fit(one, (X, None)).series_
    second = LocalComplexityProbe(layers="calls.0.act.2").fit(one, (X, None)).series_
    assert whole["layer"].values.tolist() == [f"calls.0.act:tanh{k}" for k in ("", ".2", ".3")]
    assert second["layer"].values.tolist() == ["calls.0.act:tanh.2"]
    name = "local_complexity"
    assert second[name].item() == whole[name].sel(layer="calls.0.act:tanh.2").item()
    inside = LocalComplexityProbe(layers="calls.0.2").fit(one, (X, None)).series_
    assert inside["layer"].values.tolist() == ["calls.0.act:tanh.2", "calls.0:silu.2"]


def test_a_resumed_recording_continues_the_calls(tmp_path: Path) -> None:
    one, _ = pair("activation")
    probes = [ActivationsProbe(layers=nn.ReLU), MutualInfoProbe()]
    path = tmp_path / "run.nc"
    ProbeSet(probes).attach(one, (X, Y), path=path).observe(0).detach()
    resumed = ProbeSet(probes).attach(one, (X, Y), path=path, mode="resume").observe(1).detach()
    series = resumed.series_
    assert series["step"].values.tolist() == [0, 1]
    assert series["layer"].values.tolist() == ["calls.0", "calls.0.2"]
    for variable in ("information_x", "activation_norm"):
        before, after = series[variable].squeeze("split").values
        assert before.tolist() == after.tolist()


class Scaled(nn.Module):
    """Uses functions that bend, to scale its input, and one activation function."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x / x.abs().amax(1, keepdim=True).clamp(min=1e-3)
        return self.two(torch.tanh(self.one(x)))


def test_arithmetic_is_no_default_layer() -> None:
    x = torch.randn(4, 4)
    snapshot = Snapshot(Scaled(), 0, read_data((x, None)), trace(Scaled(), x[:2]))
    assert [site for site in snapshot.trace.order if site.endswith("->")] == [":abs->", ":clamp_min->", ":tanh->"]
    assert snapshot.select(None) == [":tanh->"]
    found = LMNProbe().fit(Scaled(), (x, None)).series_
    assert found["layer"].values.tolist() == [":tanh->"]
