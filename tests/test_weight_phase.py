"""WeightPhaseProbe and FeatureLearningProbe: planted weights, closed forms, wrong parameters."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from probe import FeatureLearningProbe, WeightPhaseProbe, load
from probe.measures import feature_alignment
from probe.measures.feature_learning.read_out import fit_read_out
from probe.measures.weight_phase.directions import fourier_powers
from probe.measures.weight_phase.units import distinct_units, input_rows, output_rows

N = 200


def two_layers(d: int = 12, units: int = N) -> nn.Sequential:
    return nn.Sequential(nn.Linear(d, units), nn.Tanh(), nn.Linear(units, 1, bias=False))


def planted(v: Tensor, share: float) -> nn.Sequential:
    """Return a network of which some units have a large overlap with v, at either sign."""
    model = two_layers(len(v))
    w = torch.randn(N, len(v)) / len(v) ** 0.5
    count = round(share * N)
    signs = 1 - 2 * (torch.arange(count) % 2)
    w[:count] += 4 * signs[:, None] * v
    model[0].weight.data.copy_(w)
    model[2].weight.data.copy_(torch.randn(1, N) * 0.1)
    model[2].weight.data[0, :count] = signs.float()
    return model


@pytest.mark.parametrize("directions", ["agop", "targets", "given"])
def test_planted_droplets_are_found(directions: str) -> None:
    v = torch.nn.functional.normalize(torch.randn(12), dim=0)
    x = torch.randn(300, 12)
    y = (x @ v)[:, None]
    probe = WeightPhaseProbe(layers="0", directions={"0": 3 * v} if directions == "given" else directions)
    for share, phase in ((0.0, 0), (0.3, 1)):
        series = probe.fit(planted(v, share), (x, y)).series_.squeeze()
        assert series["weight_phase"].item() == phase
        assert series["weight_phase_droplet_fraction"].item() == pytest.approx(share)
        assert series["weight_phase_few_units"].item() == 0
        assert series["weight_action"].min().item() == 0


def test_fourier_powers_of_one_hot_inputs() -> None:
    p = 11
    mode = torch.cos(2 * torch.pi * 3 * torch.arange(p) / p)
    weights = torch.stack([mode, torch.ones(p)]).double()
    powers = fourier_powers(weights, "layer", None).reshape(2, 5)
    assert powers[0].argmax() == 2  # frequency 3
    assert powers.sum().item() == pytest.approx(10)  # mean 1
    assert powers[1].abs().max() < 1e-20
    model = nn.Sequential(nn.Embedding(p, 40), nn.Flatten(), nn.Linear(40, 2))
    tokens = torch.arange(p)
    probe = WeightPhaseProbe(layers="0", directions="fourier")
    assert probe.fit(model, (tokens, None)).series_["weight_phase"].item() == 0
    used = torch.arange(40) % 5 + 1
    angles = 2 * torch.pi * used * tokens[:, None] / p + torch.rand(40) * 6
    model[0].weight.data = 3 * angles.cos() + 0.1 * torch.randn(p, 40)
    series = probe.fit(model, (tokens, None)).series_
    assert series["weight_phase"].item() == 1
    assert series["weight_phase_droplet_fraction"].item() == pytest.approx(0.2)  # one of five modes


def test_rows_of_a_convolution_give_its_outputs() -> None:
    x = torch.randn(2, 3, 6, 5).double()
    for options in ({"stride": 2, "padding": 1}, {"padding": "same"}, {"padding": 1, "padding_mode": "circular"}):
        layer = nn.Conv2d(3, 4, 3, bias=False, **options).double()
        expected = output_rows(layer, layer(x))
        torch.testing.assert_close(input_rows(layer, x) @ layer.weight.flatten(1).T, expected)
    layer1 = nn.Conv1d(3, 4, 3, dilation=2, bias=False).double()
    rows = input_rows(layer1, x[..., 0]) @ layer1.weight.flatten(1).T
    torch.testing.assert_close(rows, output_rows(layer1, layer1(x[..., 0])))


def test_convolutions_and_few_units() -> None:
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 3))
    data = torch.randn(20, 1, 6, 6), torch.arange(20) % 3
    for directions in ("agop", "targets"):
        series = WeightPhaseProbe(directions=directions).fit(model, data).series_
        assert series["weight_phase"].isnull().all()
        assert (series["weight_phase_few_units"] == 1).all()
        assert series["weight_phase_n_units"].squeeze().values[0] == 6


def test_copies_of_units_do_not_count() -> None:
    w = torch.randn(20, 12)
    model = two_layers()
    model[0].weight.data.copy_(torch.cat([w, -w]).repeat(5, 1))
    data = torch.randn(50, 12), torch.randn(50, 1)
    for directions, n in (("agop", 20), ("targets", 20), ("fourier", 100), ({"0": torch.eye(12)[0]}, 20)):
        series = WeightPhaseProbe(layers="0", directions=directions).fit(model, data).series_.squeeze()
        assert series["weight_phase_n_units"].item() == n
        assert series["weight_phase_few_units"].item() == 1
    weights = torch.randn(300, 12)
    weights[:50] = 0
    assert len(distinct_units(weights)) == 300


def test_near_copies_do_not_count_and_independent_units_do() -> None:
    def kept(weights: Tensor) -> int:
        return len(distinct_units(weights.double()))

    one = torch.randn(30, 12)
    signs = 1 - 2 * torch.randint(0, 2, (300, 1))
    for noise in (1e-7, 1e-3, 0.01):
        assert kept(one.repeat(10, 1) * signs + noise * torch.randn(300, 12)) in (30, 31)
    model = two_layers()
    model[0].weight.data.copy_(one[:20].repeat(10, 1) + 0.01 * torch.randn(N, 12))
    series = WeightPhaseProbe(layers="0").fit(model, (torch.randn(50, 12), None)).series_
    assert series["weight_phase_few_units"].item() == 1
    small, around = torch.randn(300, 12), torch.eye(12)[0] + 0.005 * torch.randn(300, 12)
    small[:120] *= 1e-8
    planes = [torch.randn(300, rank) @ torch.randn(rank, 12) for rank in (1, 2, 3)]
    for weights in (torch.randn(300, 4), torch.randn(2100, 4), small, around, *planes):
        assert kept(weights) >= 0.99 * len(weights)


def test_only_inputs_with_a_target_count() -> None:
    x, y = torch.randn(40, 12), torch.arange(40) % 3
    model, probe = two_layers(), WeightPhaseProbe(layers="0", directions="targets")
    expected = probe.fit(model, (x[:30], y[:30])).series_["weight_action_q"]
    y[30:] = -100
    np.testing.assert_allclose(probe.fit(model, (x, y)).series_["weight_action_q"], expected)
    values = x[:, 0].clone()
    values[3] = torch.nan
    x[5] = torch.nan
    for targets in (torch.full_like(y, -100), values):  # no target, and an input that is not finite
        assert probe.fit(model, (x, targets)).series_["weight_phase_undefined"].item() == 1


def test_sizes_of_directions_have_no_effect_and_absent_ones_are_undefined() -> None:
    model, data = two_layers(), (torch.randn(50, 12), None)
    one = torch.randn(12).double()
    kurtosis = [
        WeightPhaseProbe(directions={"0": size * one}).fit(model, data).series_["weight_phase_kurtosis"].item()
        for size in (1, 1e-200, 1e200)
    ]
    assert kurtosis[1:] == pytest.approx(kurtosis[:1] * 2)
    linear = nn.Sequential(nn.Linear(12, N), nn.Linear(N, 1))  # its gradients have one direction
    series = WeightPhaseProbe(layers="0", n_directions=2).fit(linear, data).series_
    assert series["weight_phase_undefined"].values.ravel().tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"directions": {"0": torch.ones(5)}}, r"shape \(12,\) or \(k, 12\), got \(1, 5\)"),
        ({"directions": {"0": torch.zeros(12)}}, "length 0"),
        ({"directions": {"7": torch.ones(12)}}, "got one of '7'"),
        ({"directions": {}}, "Expected directions of one layer"),
        ({"directions": "pca"}, "Expected directions as one of"),
        ({"directions": "fourier", "period": 5}, "Expected period= to divide the 12 inputs"),
        ({"directions": "fourier", "period": 0}, "an integer of at least 5 as period, got 0"),
        ({"directions": {"0": "abc"}}, "Expected numbers as directions"),
        ({"directions": "targets"}, "Expected targets"),
        ({"layers": "1"}, "Expected layers= to select"),
        ({"n_directions": 0}, "Expected an integer of at least 1 as n_directions"),
        ({"split": "none"}, "Expected split= among all"),
    ],
)
def test_wrong_parameters(options: dict, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        WeightPhaseProbe(**options).fit(two_layers(), (torch.randn(8, 12), None))


def test_alignment_is_the_unbiased_formula() -> None:
    """HSIC of Song et al. (2012), equation 4, written with loops over index sets in float64."""
    x, y = torch.randn(7, 3).double(), torch.randn(7, 2).double()

    def hsic(k: Tensor, m: Tensor) -> Tensor:
        n = len(k)
        k, m = k.clone().fill_diagonal_(0), m.clone().fill_diagonal_(0)
        one = torch.ones(n).double()
        cross = one @ k @ one * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)
        return ((k @ m).trace() + cross) / (n * (n - 3))

    k, m = x @ x.T, y @ y.T
    expected = hsic(k, m) / (hsic(k, k) * hsic(m, m)).sqrt()
    assert feature_alignment(x, y) == pytest.approx(expected.item(), rel=1e-10)
    assert feature_alignment(x.float(), y.float()) == pytest.approx(expected.item(), abs=1e-5)
    assert np.isnan(feature_alignment(torch.ones(7, 3), x))
    with pytest.raises(ValueError, match="n >= 4"):
        feature_alignment(x[:3], y[:3])
    with pytest.raises(ValueError, match="Expected two tensors, got ndarray and Tensor"):
        feature_alignment(x.numpy(), y)


def test_deviation_and_its_start_after_a_resume(tmp_path) -> None:
    model, data = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), (torch.randn(30, 4), None)
    probe = FeatureLearningProbe(layers="1").attach(model, data, path=tmp_path / "run.nc")
    probe.observe(0)
    start = model(data[0]).detach()
    model[0].weight.data += torch.randn(8, 4)
    probe.observe(1).detach()
    probe = FeatureLearningProbe(layers="1").attach(model, data, path=tmp_path / "run.nc", mode="resume", step=2)
    probe.observe(2).detach()
    values = load(tmp_path / "run.nc")["feature_deviation"].squeeze().values
    expected = 1 - feature_alignment(model(data[0]).detach(), start)
    assert values == pytest.approx([0, expected, expected], abs=1e-5)


def test_read_out_is_ridge_regression_with_the_best_leave_one_out_penalty() -> None:
    x, y = torch.randn(40, 6).double(), torch.randn(40).double()
    found = fit_read_out(x, y[:, None])
    z = StandardScaler().fit_transform(x) * (39 / 40) ** 0.5
    mean_square = np.square(np.linalg.svd(z)[1]).mean()
    chosen = RidgeCV(np.logspace(-8, 2, 21) * mean_square).fit(z, y)
    assert found.penalty * mean_square == pytest.approx(chosen.alpha_)
    assert found(x)[:, 0].numpy() == pytest.approx(Ridge(chosen.alpha_).fit(z, y).predict(z), abs=1e-8)


def test_read_outs_fractions_and_scale() -> None:
    x = torch.randn(200, 3)
    labels = (x[:, 0] > 0).long()
    data = {"train": (x[:120], labels[:120]), "test": (x[120:], labels[120:])}
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    series = FeatureLearningProbe(layers="0").fit(model, data).series_
    assert (series["read_out_accuracy"] > 0.9).all()
    assert series["read_out_accuracy"].attrs["chance"] == pytest.approx(labels[:120].bincount().max().item() / 120)
    logits = model(x[:120]).detach().double()
    expected = (logits - logits.mean(1, keepdim=True)).square().mean().sqrt().item()
    assert series["logit_scale"].sel(split="train").item() == pytest.approx(expected, rel=1e-5)
    line = nn.Linear(3, 1, bias=False)
    line.weight.data = torch.tensor([[0.5, 1.0, 0.0]])
    components = {"first": lambda x: x[:, :1], "third": {"all": x[:, 2:]}}
    series = FeatureLearningProbe(components=components).fit(line, (x, x.sum(1))).series_
    values, errors = series["learned_fraction"].squeeze(), series["learned_fraction_se"].squeeze()
    assert (np.abs(values - [0.5, 0]) < 3 * errors).all()
    assert series["read_out_r2"].item() < 1
    with pytest.raises(ValueError, match="Expected values of component 'first'"):
        FeatureLearningProbe(components={"first": lambda x: x}).fit(line, (x, None))
    with pytest.raises(ValueError, match="Expected train= among"):
        FeatureLearningProbe(train="valid").fit(line, (x, None))
