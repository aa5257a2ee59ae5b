"""Forward passes from a site with other values: the suffix and the whole model give the same results."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers import built, seeded
from torch import Tensor, nn

from probe import INPUT, OUTPUT, Snapshot
from probe.forward import Batch, Scored, read_data, trace
from probe.forward.isolation import torch_defaults

ROWS = torch.tensor([0, 3, 3, 7, 9, 1, 1, 2, 8])


class Model(nn.Module):
    """Model of named parts, with a forward function."""

    def __init__(self, forward: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.way = forward
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.way(self, x)


class Block(nn.Module):
    """Attention over positions and a hidden layer, each around a skip connection."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.one, self.two = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attend = nn.MultiheadAttention(d, 2, batch_first=True)
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        z = self.one(x)
        x = x + self.attend(z, z, z, need_weights=False)[0]
        return x + self.down(F.gelu(self.up(self.two(x))))


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.norm, self.act = nn.BatchNorm2d(width), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.two(self.act(self.norm(self.one(x)))))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(inplace=True), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))


def nested() -> nn.Module:
    first = nn.Sequential(nn.Linear(6, 8), nn.Sequential(nn.ReLU(), nn.Dropout()))
    return Model(lambda m, x: m.head(m.body(x)), body=nn.Sequential(first, nn.Linear(8, 8), nn.GELU()), head=mlp_head())


def mlp_head() -> nn.Module:
    return nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 3))


def transformer() -> nn.Module:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.embed(x) + m.place.weight
        for block in m.blocks:
            h = block(h)
        return m.head(m.norm(h))

    blocks = nn.ModuleList(Block(8) for _ in range(3))
    parts = {"embed": nn.Embedding(11, 8), "place": nn.Embedding(4, 8), "norm": nn.LayerNorm(8)}
    return Model(forward, **parts, blocks=blocks, head=nn.Linear(8, 11))


def resnet() -> nn.Module:
    blocks = nn.Sequential(*(Residual(4) for _ in range(3)))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    return Model(lambda m, x: m.head(m.blocks(m.first(x))), first=nn.Conv2d(2, 4, 3), blocks=blocks, head=head)


def functional() -> nn.Module:
    parts = {"one": nn.Linear(6, 8), "two": nn.Linear(8, 8), "three": nn.Linear(8, 3)}
    return Model(lambda m, x: m.three(F.relu(m.two(F.relu(m.one(x))))), **parts)


def skipping() -> nn.Module:
    parts = {"one": nn.Linear(6, 6), "two": nn.Linear(6, 6), "head": nn.Linear(6, 3)}
    return Model(lambda m, x: m.head(x + m.two(m.one(x))), **parts)


def holding() -> nn.Module:
    """A hidden skip connection. The last part adds a value that the first part keeps as an attribute."""

    def keep(part: Any, x: Tensor) -> Tensor:
        part.kept.append(x)
        del part.kept[:-1]
        return part.linear(x)

    first = Model(keep, linear=nn.Linear(6, 6))
    first.kept = []  # type: ignore[assignment]
    last = Model(lambda part, x: part.linear(x) + first.kept[-1], linear=nn.Linear(6, 6))
    return nn.Sequential(first, nn.Linear(6, 6), last)


def masked() -> nn.Module:
    """Model whose last part is called with two arguments."""
    last = nn.Bilinear(8, 6, 3)
    return Model(lambda m, x: m.last(m.two(m.one(x)), x), one=nn.Linear(6, 8), two=nn.Linear(8, 8), last=last)


def repeated() -> nn.Module:
    """Model that calls one layer twice and one activation three times."""
    one, act = nn.Linear(6, 6), nn.ReLU()
    return nn.Sequential(one, act, nn.Linear(6, 6), act, one, act, nn.Linear(6, 3))


X = torch.randn(10, 6, generator=seeded(1))
PIXELS = torch.randn(10, 2, 6, 6, generator=seeded(1))
TOKENS = torch.randint(11, (10, 4), generator=seeded(1))

CHAINS: list[tuple[Callable[[], nn.Module], Tensor, str, list[str], str]] = [
    # model, inputs, site, later sites, a module before the site
    (mlp, X, "0", ["1:relu", "1", "2", "3:tanh", "3:tanh->", OUTPUT], "0"),
    (mlp, X, "1:relu->", ["1", "2", OUTPUT], "0"),
    (mlp, X, "2", ["3:tanh"], "0"),
    (nested, X, "body.0.0", ["body.0.1.0:relu", "body.0.1", "body.0", "body.1", "body", "head.0", OUTPUT], "body.0.0"),
    (nested, X, "body.0", ["body.2:gelu", "body"], "body.0.0"),
    (transformer, TOKENS, "blocks.0", ["blocks.1:gelu", "blocks.2.up", "norm", OUTPUT], "embed"),
    (transformer, TOKENS, "blocks.2", ["norm", "head"], "blocks.1"),
    (resnet, PIXELS, "first", ["blocks.0.act:relu", "blocks.1:relu", "blocks", "head.0", OUTPUT], "first"),
    (resnet, PIXELS, "blocks.0", ["blocks.1.two", "blocks.2:relu", OUTPUT], "blocks.0"),
    (repeated, X, "2", ["1:relu.2", "1:relu.3", "0.2", "1.2", OUTPUT], "2"),
    (repeated, X, "0.2", ["1.3", "1:relu.3->", OUTPUT], "2"),
]  # fmt: skip
BROKEN: list[tuple[Callable[[], nn.Module], Tensor, str, list[str]]] = [
    (functional, X, "one", [":relu", "two", ":relu.2", OUTPUT]),
    (functional, X, ":relu->", ["two", OUTPUT]),
    (transformer, TOKENS, "embed", ["blocks.0", "blocks.0:gelu", OUTPUT]),
    (transformer, TOKENS, "blocks.0.up", ["blocks.0", OUTPUT]),
    (resnet, PIXELS, "blocks.1.one", ["blocks.1.act:relu", "blocks.1", OUTPUT]),
    (skipping, X, "one", ["two", "head"]),
    (skipping, X, "two", ["head"]),
    (holding, X, "0", ["1", "2", OUTPUT]),
    (holding, X, "1", [OUTPUT]),
    (masked, X, "one", ["two", OUTPUT]),
]


def shot(model: nn.Module, inputs: Any, **kwargs: Any) -> Snapshot:
    data = read_data((inputs, torch.arange(10)))
    return Snapshot(model, 0, data, trace(model, data["all"].take(torch.arange(2), torch.device("cpu"))[0]), **kwargs)


def other_values(snapshot: Snapshot, site: str) -> Tensor:
    """Return values of the site that no input produces."""
    value = snapshot.outputs("all", [site], reduce="none", rows=ROWS)[site]
    return value + torch.randn(value.shape, generator=seeded(2))


def calls(model: nn.Module, name: str) -> list[int]:
    """Return a list to which each later call of a module appends its number of rows."""
    seen: list[int] = []
    model.get_submodule(name).register_forward_hook(lambda m, args, out: seen.append(len(out)))
    return seen


def both_ways(snapshot: Snapshot, site: str, sites: list[str], **kwargs: Any) -> tuple[dict[str, Tensor], Tensor]:
    """Return the result of :meth:`outputs_from` after a comparison with an edited pass through the whole model."""
    values = other_values(snapshot, site)
    found = snapshot.outputs_from("all", site, lambda at: values[at], sites, rows=ROWS, **kwargs)
    expected = snapshot.outputs("all", sites, rows=ROWS, edit={site: lambda z, at: values[at]}, **kwargs)
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, msg=lambda text, name=name: f"{name}: {text}")
    return found, values


@pytest.mark.parametrize(("make", "inputs", "site", "sites", "before"), CHAINS)
def test_only_the_modules_after_the_site_run_if_they_are_a_chain(
    make: Callable[[], nn.Module], inputs: Tensor, site: str, sites: list[str], before: str
) -> None:
    model = built(make).eval()
    snapshot = shot(model, inputs, batch_size=4)
    both_ways(snapshot, site, sites, reduce="none")
    seen, values = calls(model, before), other_values(snapshot, site)
    del seen[:]
    snapshot.outputs_from("all", site, lambda at: values[at], sites, rows=ROWS)
    assert seen == [], f"{before!r} ran"
    snapshot.outputs("all", sites, rows=ROWS, edit={site: lambda z, at: values[at]})
    assert sum(seen) == len(ROWS), "the edited pass runs it"


@pytest.mark.parametrize(("make", "inputs", "site", "sites"), BROKEN)
def test_the_whole_model_runs_if_there_is_no_chain(
    make: Callable[[], nn.Module], inputs: Tensor, site: str, sites: list[str]
) -> None:
    model = built(make).eval()
    snapshot = shot(model, inputs, batch_size=4)
    both_ways(snapshot, site, sites, reduce="none")
    values = other_values(snapshot, site)
    entries: list[Tensor] = []
    model.register_forward_pre_hook(lambda m, args: entries.append(args[0]))
    snapshot.outputs_from("all", site, lambda at: values[at], sites, rows=ROWS)
    assert sum(len(x) for x in entries) == len(ROWS)


def test_the_values_equal_direct_calls_of_the_modules() -> None:
    model = built(mlp).eval()
    found, values = both_ways(shot(model, X), "0", ["2", OUTPUT])
    torch.testing.assert_close(found[OUTPUT], model[1:](values.clone()).detach())
    torch.testing.assert_close(found["2"], model[2](values.relu()).detach())


@pytest.mark.parametrize("make", [mlp, functional, skipping, holding, masked, repeated])
def test_a_pass_from_the_input_does_not_gather_the_inputs_of_the_data(
    make: Callable[[], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = shot(built(make).eval(), X)
    both_ways(snapshot, INPUT, [OUTPUT, INPUT])
    values = other_values(snapshot, INPUT)
    assert snapshot.has_suffix("all", INPUT, [OUTPUT])

    def take(*_: Any) -> Any:
        raise AssertionError("inputs were gathered")

    monkeypatch.setattr(Batch, "take", take)
    snapshot.outputs_from("all", INPUT, lambda at: values[at], [OUTPUT], rows=ROWS)
    with pytest.raises(AssertionError, match="inputs were gathered"):
        snapshot.outputs("all", [OUTPUT], rows=ROWS)


def test_inputs_that_are_not_one_tensor_go_through_the_whole_model() -> None:
    snapshot = shot(built(masked), {"x": X})
    assert INPUT not in snapshot.trace.links
    both_ways(snapshot, INPUT, ["two", OUTPUT])


def test_the_site_itself_can_be_requested() -> None:
    found, values = both_ways(shot(built(mlp), X), "0", ["0", OUTPUT])
    torch.testing.assert_close(found["0"], values)


def append(model: Any) -> None:
    model.append(nn.Linear(3, 3))


def exchange(model: Any) -> None:
    model[4] = nn.Linear(8, 5)


def bypass(model: Any) -> None:
    model.forward = lambda x: model[4](x.abs().sum(1, keepdim=True) + model[3](model[2](model[1](model[0](x)))))


def shorten(model: Any) -> None:
    del model[3]  # the later modules get other names, and the last name is gone


@pytest.mark.parametrize("change", [append, exchange, bypass, shorten])
def test_a_model_that_changed_after_the_trace_is_measured_in_its_present_form(change: Callable[[Any], None]) -> None:
    model = built(mlp).eval()
    old = shot(model, X)
    both_ways(old, "0", [OUTPUT])
    built(lambda: change(model))  # type: ignore[arg-type, return-value]
    now = Snapshot(model, 1, old.data, old.trace)
    found, values = both_ways(now, "0", [OUTPUT])
    if change is not bypass:
        torch.testing.assert_close(found[OUTPUT], model[1:](values.clone()).detach())


def test_a_suffix_stops_after_the_last_requested_site() -> None:
    model = built(mlp).eval()
    snapshot = shot(model, X)
    seen, values = calls(model, "4"), other_values(snapshot, "0")
    del seen[:]
    snapshot.outputs_from("all", "0", lambda at: values[at], ["2"], rows=ROWS)
    assert seen == []


def test_rows_groups_and_targets_are_those_of_a_pass_through_the_model() -> None:
    snapshot = shot(built(mlp).eval(), X, batch_size=4)
    sizes: list[int] = []

    def scored(z: Tensor, y: Tensor) -> Tensor:
        sizes.append(len(z))
        return z[:, :1] + y[:, None]

    values = other_values(snapshot, "0")
    scores = snapshot.outputs_from("all", "0", lambda at: values[at], ["2"], rows=ROWS, reduce=Scored(scored), group=3)[
        "2"
    ]
    outputs = snapshot.outputs_from("all", "0", lambda at: values[at], ["2"], rows=ROWS)["2"]
    torch.testing.assert_close(scores[:, 0] - outputs[:, 0], ROWS.float())
    assert sizes == [3, 3, 3]


def test_values_are_converted_into_the_precision_of_the_model() -> None:
    model = built(mlp).eval().bfloat16()
    snapshot = shot(model, X.bfloat16())
    values = torch.randn(len(ROWS), 8, generator=seeded(2))
    found = snapshot.outputs_from("all", "0", lambda at: values[at], [OUTPUT], rows=ROWS)[OUTPUT]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, model[1:](values.bfloat16()).float().detach())


@pytest.mark.parametrize("where", ["values", "suffix"])
def test_the_state_is_restored(where: str) -> None:
    model = built(mlp).train()
    model[3].eval()
    before = state(model)
    snapshot = shot(model, X)
    values = other_values(snapshot, "0")
    snapshot.outputs_from("all", "0", lambda at: values[at], ["3:tanh", OUTPUT], rows=ROWS)
    assert state(model) == before

    def fail(*_: Any) -> Tensor:
        raise RuntimeError("failed on purpose")

    handle = model[4].register_forward_hook(fail) if where == "suffix" else None
    make_values = fail if where == "values" else lambda at: values[at]
    with pytest.raises(RuntimeError, match="failed on purpose"):
        snapshot.outputs_from("all", "0", make_values, ["3:tanh", OUTPUT], rows=ROWS)
    if handle is not None:
        handle.remove()
    assert state(model) == before


def state(model: nn.Module) -> Any:
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks), m.training) for m in model.modules()]
    return hooks, torch.is_grad_enabled(), torch.get_rng_state().tolist()


def test_a_trace_holds_names_only() -> None:
    seen = shot(built(nested), X).trace
    assert pickle.loads(pickle.dumps(seen)) == copy.deepcopy(seen) == seen
    assert seen.links["body.0.1.0"] == ("body.0.1.1", True)
    assert seen.links["body.0"] == ("body.1", True)
    assert seen.links["head"] == (OUTPUT, False)
    assert seen.links[INPUT] == (OUTPUT, True)


def test_a_link_must_exist_in_every_split() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        h = m.two(m.one(x))
        return m.three(h if len(x[0]) == 6 else h + 1)

    parts = {"one": nn.LazyLinear(8), "two": nn.Linear(8, 8), "three": nn.Linear(8, 3)}
    model = Model(forward, **(parts | {"one": Model(lambda m, x: x[:, :1].expand(-1, 8))}))
    seen = trace(model, X)
    assert seen.links["two"] == ("three", True)
    seen.merge(trace(model, X[:, :4]))
    assert "two" not in seen.links
    assert seen.links["one"] == ("two", True)


def test_a_model_in_inference_mode_has_no_chains() -> None:
    with torch.inference_mode():
        snapshot = shot(built(mlp), X)
        both_ways(snapshot, "0", [OUTPUT])
    assert set(snapshot.trace.links) <= {INPUT, "1:relu->", "3:tanh->"}


def test_writing_in_place_between_two_modules_breaks_the_chain() -> None:
    parts = {"one": nn.Linear(6, 8), "two": nn.Linear(8, 8), "three": nn.Linear(8, 3)}
    model = built(lambda: Model(lambda m, x: m.three(m.two(m.one(x).relu_())), **parts))
    seen = trace(model, X)
    assert "one" not in seen.links
    assert seen.links["two"] == ("three", True)
    both_ways(shot(model, X), "one", ["two", ":relu", OUTPUT])


def tower(second: nn.Module | None = None) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), second or nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 3))


class Keeps(nn.Linear):
    """Keeps references to its outputs."""

    def forward(self, x: Tensor) -> Tensor:
        KEPT.append(super().forward(x))
        return KEPT[-1]


KEPT: list[Tensor] = []


def test_activations_work_in_place_if_no_other_code_holds_their_input() -> None:
    model = built(tower).eval()
    places: list[int] = []
    model[4].register_forward_pre_hook(lambda m, args: places.append(args[0].data_ptr()))
    snapshot = shot(model, X)
    found, values = both_ways(snapshot, "0", ["2", "3:silu", OUTPUT], reduce="none")
    torch.testing.assert_close(found[OUTPUT], model[1:](values.clone()).detach())
    mine = values.clone()
    snapshot.outputs_from("all", "0", lambda at: mine, [OUTPUT], rows=ROWS)
    assert torch.equal(mine, values.relu()), "the first activation could have worked in place"
    assert (model[1].inplace, model[3].inplace) == (False, False)


@pytest.mark.parametrize("who", ["a hook", "the module", "a forward of the instance"])
def test_values_that_other_code_holds_are_not_overwritten(who: str) -> None:
    model = built(lambda: tower(Keeps(8, 8) if who == "the module" else None)).eval()
    held: list[Tensor] = []
    if who == "a hook":
        model[2].register_forward_hook(lambda m, args, out: held.append(out))
    elif who == "a forward of the instance":
        original = model[2].forward
        model[2].forward = lambda x: held.append(original(x)) or held[-1]  # type: ignore[func-returns-value, method-assign]
    snapshot = shot(model, X)
    values = other_values(snapshot, "0")
    snapshot.outputs_from("all", "0", lambda at: values.clone(), [OUTPUT], rows=ROWS)
    kept = KEPT[-1] if who == "the module" else held[-1]
    assert (kept < -0.3).any(), "SiLU returns no value below -0.28, so this test can fail"
    torch.testing.assert_close(kept, F.linear(values.relu(), model[2].weight, model[2].bias).detach())


def test_modules_run_with_the_defaults_of_the_user_and_reductions_with_those_of_pytorch() -> None:
    inside: list[torch.dtype] = []
    within: list[torch.dtype] = []

    class Notes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            inside.append(torch.empty(0).dtype)
            return x

    def reduce(z: Tensor) -> Tensor:
        within.append(torch.empty(0).dtype)
        return z.flatten(1)

    model = nn.Sequential(nn.Linear(6, 8), Notes(), nn.Linear(8, 3)).eval()
    snapshot = shot(model, X)
    values = other_values(snapshot, "0")
    torch.set_default_dtype(torch.float64)
    try:
        with torch_defaults():
            assert snapshot.has_suffix("all", "0", ["1", OUTPUT])
            del inside[:]
            snapshot.outputs_from("all", "0", lambda at: values[at], ["1", OUTPUT], rows=ROWS, reduce=reduce)
    finally:
        torch.set_default_dtype(torch.float32)
    assert set(inside) == {torch.float64}
    assert set(within) == {torch.float32}
