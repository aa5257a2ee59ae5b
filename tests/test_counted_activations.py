"""Which functions LocalComplexityProbe counts, against where these functions bend, and what it reports otherwise."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn

from probe import OUTPUT, ActivationsProbe, LMNProbe, LocalComplexityProbe, MutualInfoProbe, Snapshot
from probe.errors import ProbeWarning
from probe.forward import read_data, trace

Function = Callable[[Tensor], Tensor]


def points(n: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn(n, *shape, generator=seeded(seed), dtype=torch.float64)


def measured(model: nn.Module, x: Any, **parameters: Any) -> xr.Dataset:
    return LocalComplexityProbe(**parameters).fit(model, (x, None)).series_.isel(step=0, split=0, drop=True)


class Applies(nn.Module):
    """A linear layer and a function."""

    def __init__(self, function: Function, inputs: int = 5, units: int = 20) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(inputs, units), function

    def forward(self, x: Tensor) -> Any:
        return self.function(self.linear(x))


def sets_item(x: Tensor) -> Tensor:
    x = x.clone()
    x[x < 0.3] = 0
    return x


def rectifies(x: Tensor) -> Tensor:
    torch.relu_(x)
    return x


class Rectifies(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)


# Piecewise linear functions, whose bends the test finds by their second differences.
BENT: dict[str, Function] = {
    "relu": F.relu,
    "relu_": lambda x: torch.relu_(x.clone()),
    "relu(input=)": lambda x: F.relu(input=x),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "rrelu": lambda x: F.rrelu(x),
    "prelu": nn.PReLU().double(),
    "abs": torch.abs,
    "abs()": lambda x: abs(x),
    "x.abs()": lambda x: x.abs(),
    "clamp(min=0)": lambda x: x.clamp(min=0),
    "clamp(max)": lambda x: torch.clamp(x, max=0.4),
    "clamp": lambda x: x.clamp(-0.3, 0.6),
    "clamp_": lambda x: x.clone().clamp_(-0.3, 0.6),
    "clamp(infinite)": lambda x: x.clamp(-0.3, float("inf")),
    "clamp(tensors)": lambda x: torch.clamp(x, torch.tensor([-0.3]).to(x), torch.tensor([0.6]).to(x)),
    "clamp(input=)": lambda x: torch.clamp(input=x, min=-0.3, max=0.6),
    "clip": lambda x: torch.clip(x, -0.3, 0.6),
    "clamp_min": lambda x: x.clamp_min(0.2),
    "clamp_max": lambda x: torch.clamp_max(x, 0.2),
    "hardtanh": F.hardtanh,
    "hardtanh(bounds)": lambda x: F.hardtanh(x, -0.3, max_val=0.6),
    "hardtanh_": lambda x: F.hardtanh_(x.clone(), -0.3, 0.6),
    "nn.Hardtanh": nn.Hardtanh(-0.3, 0.6),
    "nn.ReLU6": nn.ReLU6(),
    "relu6": F.relu6,
    "hardsigmoid": F.hardsigmoid,
    "nn.Hardsigmoid": nn.Hardsigmoid(),
    "threshold": lambda x: F.threshold(x, 0.3, 0.1),
    "threshold_": lambda x: F.threshold_(x.clone(), 0.3, 0.1),
    "torch.threshold": lambda x: torch.threshold(x, 0.3, 0.1),
    "nn.Threshold": nn.Threshold(0.3, 0.1),
    "hardshrink": lambda x: F.hardshrink(x, 0.3),
    "nn.Hardshrink": nn.Hardshrink(0.3),
    "softshrink": F.softshrink,
    "nn.Softshrink": nn.Softshrink(0.3),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "maximum(0, x)": lambda x: torch.maximum(torch.tensor(0.2).to(x), x),
    "max": lambda x: torch.max(x, torch.tensor(0.2).to(x)),
    "minimum": lambda x: torch.minimum(x, torch.full((1, 1), 0.2).to(x)),
    "max(input=, other=)": lambda x: torch.max(input=x, other=x.new_zeros(x.shape)),
    "fmin": lambda x: torch.fmin(x, torch.full_like(x, 0.2)),
    "where": lambda x: torch.where(x > 0.2, x, 0.1 * x),
    "x.where": lambda x: x.where(x >= -0.2, torch.zeros_like(x)),
    "x * (x > c)": lambda x: x * (x > 0.2),
    "(c < x) * x": lambda x: torch.full_like(x, 0.2).lt(x) * x,
    "x * (x > c).to(x)": lambda x: x * (x > 0.2).to(x.dtype),
    "x * (x > c).double()": lambda x: (x > 0.2).double() * x,
    "x.mul_(x > c)": lambda x: x.clone().mul_(x > 0.2),
    "x * ~(x < c)": lambda x: x * ~(x < 0.2),
    "x * (a < x & x < b)": lambda x: x * ((x > -0.3) & (x < 0.6)),
    "masked_fill": lambda x: x.masked_fill(x < 0.2, 0),
    "x[x < c] = 0": sets_item,
    "autograd.Function": Rectifies.apply,
}


def bends_between(function: Function, low: Tensor, high: Tensor) -> Tensor:
    """Return whether a function of one number is not affine on each interval."""
    at = low + (high - low) * torch.linspace(0, 1, 101, dtype=low.dtype)[:, None]
    values = function(at)
    return (values.diff(dim=0).diff(dim=0).abs() > 1e-9).any(0)


@pytest.mark.parametrize("name", BENT)
def test_a_piecewise_linear_function_is_counted_where_it_bends(name: str) -> None:
    function, radius = BENT[name], 0.051
    x = torch.linspace(-7.03, 7.01, 281, dtype=torch.float64)[:, None]
    model = Applies(function, 1, 1).double()
    nn.init.ones_(model.linear.weight), nn.init.zeros_(model.linear.bias)
    expected = bends_between(function, (x - radius)[:, 0], (x + radius)[:, 0])
    found = measured(model.eval(), x, radius=radius, relative=False, max_rows=10**4)
    assert 0 < expected.sum() < 12
    assert found["local_complexity_total"].item() == pytest.approx(expected.double().mean().item())
    assert found["local_complexity_units"].sum() == len(found["layer"])
    assert not found["local_complexity_incomplete"]


SMOOTH: dict[str, tuple[Function, float]] = {
    "glu": (F.glu, 0.5),
    "nn.GLU": (nn.GLU(), 0.5),
    "glu(dim)": (lambda x: F.glu(x, dim=1), 0.5),
    "tanhshrink": (F.tanhshrink, 1),
    "nn.Tanhshrink": (nn.Tanhshrink(), 1),
    "expit": (torch.special.expit, 1),
    "sigmoid_": (lambda x: x.clone().sigmoid_(), 1),
    "logsigmoid": (F.logsigmoid, 1),
    "celu": (F.celu, 1),
    "elu_": (lambda x: F.elu_(x.clone()), 1),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_function_is_counted_where_its_input_changes_sign(name: str) -> None:
    function, share = SMOOTH[name]
    model, x = built(lambda: Applies(function)).double(), points(30, 5)
    found = measured(model, x, radius=0.5, relative=False)
    plain = nn.Linear(5, int(20 * share)).double()  # the gate is the second half
    plain.weight.data, plain.bias.data = model.linear.weight[-len(plain.bias) :], model.linear.bias[-len(plain.bias) :]
    expected = measured(nn.Sequential(plain, nn.ReLU()), x, radius=0.5, relative=False)
    assert found["local_complexity"].values.tolist() == expected["local_complexity"].values.tolist()
    assert found["local_complexity"].item() > 1
    assert found["local_complexity_units"].item() == 20 * share


@pytest.mark.parametrize(
    "function",
    [
        lambda x: torch.relu(x) * (x.long() > 0),  # integers
        lambda x: torch.relu(x) + x.long().abs().clamp(min=1),
        lambda x: torch.relu(x) * (x > -float("inf")),
        lambda x: torch.relu(x).max(1, keepdim=True).values,
        lambda x: torch.relu(x) * (x == 0),
        lambda x: torch.relu(x).log() - torch.maximum(x, 2 * x),
    ],
)
def test_calls_that_are_no_activation_functions_have_no_site(function: Function) -> None:
    assert trace(Applies(function), torch.randn(2, 5)).activations == [":relu"]


def test_functions_of_parameters_have_no_site() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.linear = nn.Parameter(torch.ones(3)), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.softplus(self.scale) * self.scale.clamp(max=4.6) * torch.relu(self.linear(x))

    model = built(Scaled).double()
    assert trace(model, points(2, 5)).activations == [":relu"]
    assert np.isfinite(measured(model, points(9, 5))["local_complexity_total"])


def test_a_comparison_that_selects_twice_is_counted_once() -> None:
    def both(x: Tensor) -> Tensor:
        mask = x > 0
        x = x.sub_(3)  # the values that were compared count
        return torch.where(mask, x, 0) + mask * x

    model, x = built(lambda: Applies(both)).double(), points(30, 5)
    found = measured(model, x, radius=0.5, relative=False)
    expected = measured(nn.Sequential(model.linear, nn.ReLU()), x, radius=0.5, relative=False)
    assert found["layer"].values.tolist() == [":comparison"]
    assert found["local_complexity"].item() == expected["local_complexity"].item()


def test_distances_are_those_to_the_bends() -> None:
    model = Applies(F.hardtanh, 1, 1).double()
    nn.init.ones_(model.linear.weight), nn.init.zeros_(model.linear.bias)
    x = torch.tensor([[0.3], [0.3]], dtype=torch.float64)
    found = measured(model, x, radius=0.1, relative=False, variants=("distance",))
    assert found["layer"].values.tolist() == [":hardtanh_min", ":hardtanh_max"]
    np.testing.assert_allclose(found["local_complexity_distance"], [1.3, 0.7])


@pytest.mark.parametrize(
    ("function", "site", "expected"),
    [
        (lambda x: x.clamp(-1, 2), ":clamp_min", lambda x: (x.detach() * 0 + 4).clamp(-1, 2)),
        (lambda x: x.clamp(-1, 2), ":clamp_max", lambda x: (x.clamp(min=-1) * 0 + 7).clamp(-1, 2)),
        (F.relu, ":relu", lambda x: torch.full_like(x, 5)),
        (rectifies, ":relu", lambda x: torch.full_like(x, 5)),
        (rectifies, ":relu->", lambda x: torch.full_like(x, 5)),
        (lambda x: F.relu(input=x), ":relu", lambda x: torch.full_like(x, 5)),
        (lambda x: F.hardtanh(x, -9, 9), ":hardtanh_max", lambda x: torch.full_like(x, 9)),
        (F.glu, ":glu_gate", lambda x: x[:, :10] * torch.sigmoid(torch.tensor(5.0))),
        (lambda x: torch.maximum(x, torch.ones(20)), ":maximum", lambda x: torch.full_like(x, 6)),
        (lambda x: F.threshold(x, 3, 0), ":threshold", lambda x: torch.full_like(x, 8)),
    ],
)
def test_an_edit_of_a_bend_moves_the_input_of_the_function(function: Function, site: str, expected: Function) -> None:
    model, x = built(lambda: Applies(function)), points(6, 5).float()
    snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2]))
    found = snapshot.outputs("all", [OUTPUT], edit={site: lambda z, at: torch.full_like(z, 5)})[OUTPUT]
    torch.testing.assert_close(found, expected(model.linear(x)).detach())


def test_an_edit_of_a_comparison_is_refused() -> None:
    model, x = Applies(lambda x: x * (x > 0)), points(6, 5).float()
    snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2]))
    with pytest.raises(ValueError, match="got an edit of ':comparison', which holds the difference"):
        snapshot.outputs("all", [OUTPUT], edit={":comparison": lambda z, at: z + 1})


# -- functions that are not counted ------------------------------------------------------------------------------------


def test_functions_that_are_not_counted_are_listed_by_module() -> None:
    model = nn.Sequential(nn.Linear(5, 8), Applies(torch.sin, 8, 8), Applies(torch.relu, 8, 8), nn.Softmax(1)).double()
    with pytest.warns(ProbeWarning, match=r"got modules with others only: 1: sin; these are not counted"):
        found = measured(model, points(9, 5))
    assert found["local_complexity"].attrs["not_counted"] == "1: sin; 3: softmax"
    assert "not_counted" not in measured(nn.Sequential(model[0], nn.ReLU()), points(9, 5))["local_complexity"].attrs


def test_a_fused_layer_alone_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match=r"got none \(others: 0: lstm\)"):
        measured(nn.Sequential(nn.LSTM(5, 4, batch_first=True)), torch.randn(9, 3, 5))


# -- rows that are not those of the inputs -----------------------------------------------------------------------------


class Experts(nn.Module):
    """A layer, and an expert for each input, chosen by the sign of its first number."""

    def __init__(self, routed: bool = True) -> None:
        super().__init__()
        self.first, self.routed = nn.Linear(5, 8), routed
        self.experts = nn.ModuleList(nn.Sequential(nn.Linear(8, 6), nn.ReLU()) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        h, to = torch.relu(self.first(x)), (x[:, 0] > 0).long()
        if not self.routed:
            return torch.where(to[:, None] == 0, self.experts[0](h), self.experts[1](h))
        out = h.new_zeros(len(h), 6)
        for k, expert in enumerate(self.experts):
            rows = (to == k).nonzero()[:, 0]
            if len(rows):
                out[rows] = expert(h[rows])
        return out


@pytest.mark.parametrize("traced", ["one expert", "both experts"])
@pytest.mark.parametrize("n", [9, 200])
def test_experts_that_receive_some_inputs_are_named_and_flagged(traced: str, n: int) -> None:
    model, x = built(Experts).double(), points(n, 5)
    x[:2, 0] = torch.tensor([4.0, 4.0 if traced == "one expert" else -4.0])
    with pytest.warns(ProbeWarning, match=r"got other rows .* at .*experts.1.1:relu"):
        found = measured(model, x, max_rows=10**5, radius=0.5)
    dense = measured(built(lambda: Experts(False)).double(), x, max_rows=10**5, radius=0.5)
    first = found.sel(layer=":relu")
    assert first["local_complexity"].item() == dense["local_complexity"].sel(layer=":relu").item() > 0
    assert found["local_complexity_total"].item() == first["local_complexity"].item()
    routed = found.drop_sel(layer=":relu")
    assert np.isnan(routed["local_complexity"]).all()
    assert (routed["local_complexity_nonfinite"] == -1).all()
    assert found["local_complexity_incomplete"].item() == 1
    assert dense["local_complexity_incomplete"].item() == 0


def test_an_expert_that_receives_all_inputs_is_counted() -> None:
    model, x = built(Experts).double(), points(9, 5).abs() + 3
    found = measured(model, x)
    dense = measured(built(lambda: Experts(False)).double(), x)
    assert found["layer"].values.tolist() == [":relu", "experts.1.1:relu"]
    expected = dense["local_complexity"].sel(layer=found["layer"])
    np.testing.assert_array_equal(found["local_complexity"], expected)


class LeavesEarly(nn.Module):
    """Only rows with a large sum reach the second activation, or none if no row has one."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(5, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.first(x))
        late = x.sum(1) > 0
        return h.index_put((late,), F.gelu(self.second(h[late]))) if late.any() else h


def test_rows_that_leave_early_are_not_counted_for_the_others() -> None:
    x = points(40, 5)
    x[:2] = x[:2].abs()
    with pytest.warns(ProbeWarning, match="got other rows .* at :gelu; they are not counted"):
        found = measured(built(LeavesEarly).double(), x)
    assert found["local_complexity_nonfinite"].values.tolist() == [0, -1]


@pytest.mark.parametrize("in_chain", [False, True])
def test_functions_that_only_other_rows_than_the_traced_ones_reach_are_named(in_chain: bool) -> None:
    model, x = built(LeavesEarly).double(), points(40, 5)
    x[:2] = -x[:2].abs()  # these leave early
    model = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), model).double() if in_chain else model
    if in_chain:
        nn.init.eye_(model[0].weight), nn.init.constant_(model[0].bias, 0)
        model[2].register_forward_pre_hook(lambda module, args: args[0] - 1)
    prefix = "2:" if in_chain else ":"
    with pytest.warns(ProbeWarning, match=f"got other rows .* at {prefix}gelu; they are not counted"):
        found = measured(model, x)
    assert f"{prefix}gelu" not in found["layer"]
    assert found["local_complexity_incomplete"].item() == 1
    assert np.isfinite(found["local_complexity_total"])


def test_functions_outside_the_named_layers_are_not_missed() -> None:
    model, x = nn.Sequential(nn.Linear(5, 5), nn.ReLU(), built(LeavesEarly)).double(), points(40, 5)
    nn.init.zeros_(model[0].weight), nn.init.constant_(model[0].bias, -1)
    model[2].register_forward_pre_hook(lambda module, args: args[0] - 1)
    assert not measured(model, x, layers="1")["local_complexity_incomplete"]


@pytest.mark.parametrize("reduce", ["tokens", None, "flatten", lambda z: z + 0])
def test_other_measures_refuse_rows_that_are_not_those_of_the_inputs(reduce: Any) -> None:
    model, x = built(Experts).double(), points(40, 5)
    x[:2, 0] = 4
    for probe in (
        ActivationsProbe(layers="experts.1", reduce=reduce),
        MutualInfoProbe(layers="experts.1", reduce=reduce),
    ):
        with pytest.raises(ValueError, match=r"Expected one row for each of 40 inputs from layer 'experts.1', got"):
            probe.fit(model, (x, None))


def test_values_without_a_row_for_each_input_are_left_out_of_unreduced_outputs() -> None:
    model, x = built(Experts).double(), points(40, 5)
    snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2]))
    assert snapshot.outputs("all", ["first", "experts.0"], reduce="none").keys() == {"first"}


def test_positions_as_the_first_axis_are_no_tokens() -> None:
    inner = Applies(lambda x: x.transpose(0, 1))
    model, x = nn.Sequential(inner, Applies(lambda x: x.transpose(0, 1), 20)), torch.randn(4, 3, 5)
    snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2]))
    with pytest.raises(ValueError, match=r"each of 4 inputs from layer '0', got shape \(3, 4, 20\)"):
        snapshot.outputs("all", ["0"], reduce="tokens")


# -- units -------------------------------------------------------------------------------------------------------------


def test_units_are_those_of_the_model_at_each_step() -> None:
    model = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    probe = LocalComplexityProbe(radius=5.0).attach(model, (points(9, 5), None)).observe(0)
    model[0], model[2] = nn.Linear(5, 20).double(), nn.Linear(20, 3).double()  # grown
    probe.observe(1)
    model[0], model[2] = nn.Linear(5, 4).double(), nn.Linear(4, 3).double()  # pruned
    series = probe.observe(2).detach().series_
    assert series["local_complexity_units"].values.flatten().tolist() == [8, 20, 4]
    np.testing.assert_allclose(
        series["local_complexity_fraction"], series["local_complexity"] / np.reshape([8, 20, 4], (3, 1, 1))
    )


def test_units_are_those_of_each_split() -> None:
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU()).double()
    data = {"short": (points(9, 2, 5), None), "long": (points(9, 2, 9), None)}
    series = LocalComplexityProbe(n_directions=4).fit(model, data).series_
    assert series["local_complexity_units"].values.flatten().tolist() == [9, 21]


# -- torch.func --------------------------------------------------------------------------------------------------------


class Mapped(nn.Module):
    """A network of one input, mapped over all inputs."""

    def __init__(self, mapping: Callable[[Function], Function]) -> None:
        super().__init__()
        self.net, self.mapping = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6)), mapping

    def one(self, x: Tensor) -> Tensor:
        return F.gelu(self.net(x))

    def forward(self, x: Tensor) -> Tensor:
        return self.mapping(self.one)(x)


def in_one_map_of_two(function: Function) -> Function:
    pairs = torch.vmap(torch.vmap(function))
    return lambda x: pairs(x[:, None])[:, 0]


MAPPINGS: dict[str, Callable[[Function], Function]] = {
    "vmap": torch.vmap,
    "last axis": lambda f: lambda x: torch.vmap(f, in_dims=1)(x.T),
    "nested": in_one_map_of_two,
    "one row": lambda f: lambda x: torch.vmap(lambda row: f(row[None])[0])(x),
    "value of a gradient": lambda f: lambda x: torch.vmap(torch.func.grad_and_value(lambda row: f(row).sum()))(x)[1],
    "gradient": lambda f: torch.vmap(torch.func.grad(lambda row: f(row).sum())),
    "backward jacobian": lambda f: torch.vmap(torch.func.jacrev(f)),
    "forward jacobian": lambda f: torch.vmap(torch.func.jacfwd(f)),
    "directional derivative": lambda f: torch.vmap(lambda row: torch.func.jvp(f, (row,), (row,))[1]),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")  # of forward derivatives
@pytest.mark.parametrize("name", MAPPINGS)
def test_activations_inside_vmap_are_counted(name: str) -> None:
    x = points(12, 5)
    plain = built(lambda: Mapped(lambda f: f)).double()
    model = built(lambda: Mapped(MAPPINGS[name])).double()
    found, expected = (measured(each, x, radius=0.5) for each in (model, plain))
    assert expected["layer"].values.tolist() == ["net.1:relu", ":gelu"]
    found = found.sel(layer=expected["layer"])
    np.testing.assert_array_equal(found["local_complexity"], expected["local_complexity"])
    assert found["local_complexity_units"].values.tolist() == [8, 6]


def test_layers_inside_vmap_are_measured_and_edited() -> None:
    x = points(12, 5)
    plain, model = built(lambda: Mapped(lambda f: f)).double(), built(lambda: Mapped(torch.vmap)).double()
    for sites, edit in ((["net.0", ":gelu"], None), ([OUTPUT], {"net.1": lambda z, at: z * at[:, None]})):
        found, expected = (
            Snapshot(each, 0, read_data((x, None)), trace(each, x[:2])).outputs("all", sites, edit=edit)
            for each in (model, plain)
        )
        for site in sites:
            torch.testing.assert_close(found[site], expected[site])


@pytest.mark.parametrize("n", [2, 6, 8, 12])  # 8 and 6 are also the numbers of units
@pytest.mark.parametrize("name", ["vmap", "last axis", "nested", "one row"])
def test_rows_inside_vmap_are_those_of_the_inputs_whatever_their_number(name: str, n: int) -> None:
    x, sites = points(12, 5), ["net.1", ":gelu->"]
    plain, model = built(lambda: Mapped(lambda f: f)).double(), built(lambda: Mapped(MAPPINGS[name])).double()
    found, expected = (
        Snapshot(each, 0, read_data((x[:n], None)), trace(each, x[:2])).outputs("all", sites) for each in (model, plain)
    )
    for site in sites:
        torch.testing.assert_close(found[site], expected[site])


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["gradient", "backward jacobian", "directional derivative"])
def test_layers_inside_a_derivative_are_not_edited(name: str) -> None:
    model = built(lambda: Mapped(MAPPINGS[name])).double()
    with pytest.raises(ValueError, match="a model that computes derivatives in its forward pass"):
        LMNProbe(layers="net.1").fit(model, (points(12, 5), None))


class Ensemble(nn.Module):
    """Networks of the same inputs, evaluated as one by torch.func.functional_call in a map over their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 6))
        generator = seeded(3)
        self.weights = nn.ParameterDict(
            {
                name.replace(".", "_"): torch.randn(3, *p.shape, generator=generator)
                for name, p in self.net.named_parameters()
            }
        )

    def forward(self, x: Tensor) -> Tensor:
        weights = {name: self.weights[name.replace(".", "_")] for name, _ in self.net.named_parameters()}
        return torch.vmap(lambda w: torch.func.functional_call(self.net, w, (x,)))(weights).mean(0)


@pytest.mark.parametrize("n", [2, 3, 5, 12])
@pytest.mark.parametrize("members", [2, 3, 5])
def test_rows_of_networks_in_a_map_are_those_of_the_inputs_whatever_their_number(members: int, n: int) -> None:
    class Members(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = nn.Parameter(torch.randn(members, 5, 4, generator=seeded(1)))

        def forward(self, x: Tensor) -> Tensor:
            return torch.vmap(lambda w: torch.relu(x @ w))(self.weights).mean(0)

    model, x = Members().double(), points(13, 5)
    snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2]))
    found = [snapshot.outputs("all", [":relu->"], reduce="none", rows=torch.arange(k))[":relu->"] for k in (13, n)]
    expected = torch.relu(torch.einsum("nd,mdk->nmk", x, model.weights)).detach()
    torch.testing.assert_close(found[0], expected)
    torch.testing.assert_close(found[1], expected[:n])


def test_networks_in_a_map_over_weights_are_counted_together() -> None:
    model, x = built(Ensemble).double(), points(12, 5)
    found = measured(model, x, radius=0.5)
    assert found["local_complexity_units"].values.tolist() == [24]
    alone = 0.0
    for k in range(3):
        net = nn.Sequential(nn.Linear(5, 8), nn.ReLU()).double()
        net[0].weight.data, net[0].bias.data = (
            model.weights["0_weight"][k].detach(),
            model.weights["0_bias"][k].detach(),
        )
        alone += measured(net, x, radius=0.5)["local_complexity"].item()
    assert found["local_complexity"].item() == pytest.approx(alone)
    assert alone > 0
