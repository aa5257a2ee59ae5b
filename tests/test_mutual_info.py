import math
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import seeded
from torch import Tensor, nn

from probe import MutualInfoProbe, ProbeSet
from probe.errors import ProbeWarning
from probe.information import channel_information
from probe.layer_probe import random_rows


def measured(z: Tensor, labels: Tensor | None = None, *, seed: int = 0, noise: float = 0.2):
    return channel_information(z, labels, noise=noise, generator=seeded(seed))


def network(seed: int = 0) -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 3))


def samples(n: int = 120) -> tuple[Tensor, Tensor]:
    x = torch.randn(n, 5, generator=seeded(7))
    return x, (x[:, 0] > 0).long()


def numbers(series: xr.Dataset) -> xr.Dataset:
    return series.drop_vars("seconds")


def test_series_has_splits_layers_and_all_parts() -> None:
    x, y = samples()
    series = MutualInfoProbe().fit(network(), {"train": (x[:80], y[:80]), "test": (x[80:], y[80:])}).series_
    parts = ["", "_se", "_lower", "_upper", "_ceiling", "_subsample_se"]
    expected = {f"information_{which}{part}" for which in ("x", "y", "x_given_y") for part in parts}
    expected |= {"total_variance", "noise_std", "noise_relative", "effective_rank", "within_share"}
    expected |= {"class_mean_accuracy", "fano_alarm", "saturated", "collapsed", "information_nonfinite"}
    assert set(series.data_vars) == expected | {"seconds", "failed"}
    for name in expected:
        assert series[name].dims == ("step", "split", "layer")
    assert series["layer"].values.tolist() == ["1", "3"]
    assert series["information_x"].attrs["units"] == "bits"
    assert series["information_x"].attrs["noise"] == 0.2
    assert series["split"].values.tolist() == ["train", "test", "all"]
    np.testing.assert_allclose(series["information_x_ceiling"][0, :, 0], np.log2([80, 40, 120]))


def test_probe_equals_the_function_of_the_activations() -> None:
    model, (x, y) = network(), samples()
    series = MutualInfoProbe(layers="1", noise=0.3, random_state=4).fit(model, (x, y)).series_.squeeze(drop=True)
    direct = measured(torch.tanh(model[0](x)).detach(), y, noise=0.3, seed=4)
    assert direct.y is not None
    assert series["information_x"].item() == pytest.approx(direct.x.value, abs=1e-6)
    assert series["information_y_upper"].item() == pytest.approx(min(direct.y.upper, direct.y.ceiling), abs=1e-6)
    assert series["noise_std"].item() == pytest.approx(direct.noise_std, rel=1e-6)


@pytest.mark.parametrize("targets", [None, torch.randn(120), torch.randn(120, 3)])
def test_no_labels_no_information_about_them(targets: Tensor | None) -> None:
    series = MutualInfoProbe().fit(network(), (samples()[0], targets)).series_
    assert not [name for name in series.data_vars if str(name).startswith("information_y")]
    assert np.isfinite(series["information_x"]).all()


def test_bounds_in_the_series_lie_between_zero_and_the_ceiling() -> None:
    x, y = samples()
    for noise in (0.01, 0.2, 1.0, 30.0):
        series = MutualInfoProbe(noise=noise).fit(network(), (x, y)).series_
        for name in ("information_x", "information_y"):
            assert (series[f"{name}_lower"] >= 0).all()
            assert (series[f"{name}_lower"] <= series[f"{name}_upper"]).all()
            assert (series[f"{name}_upper"] <= series[f"{name}_ceiling"]).all()


def test_subset_and_noise_stay_the_same_over_training() -> None:
    model, data = network(), samples(300)
    probe = MutualInfoProbe(layers="2", max_samples=100).attach(model, data).observe(0)
    with torch.no_grad():  # what is measured doubles: nothing may change
        model[2].weight.mul_(2)
        model[2].bias.mul_(2)
    series = numbers(probe.observe(1).detach().series_)
    scaled = ["total_variance", "noise_std"]
    xr.testing.assert_equal(
        series.drop_vars(scaled).isel(step=0, drop=True), series.drop_vars(scaled).isel(step=1, drop=True)
    )
    np.testing.assert_allclose(series["information_x_ceiling"], math.log2(100))


def test_labels_go_with_their_rows_into_the_subset() -> None:
    y = torch.randint(2, (300,), generator=seeded(5))
    x = (2.0 * y - 1)[:, None].expand(300, 5)  # two points: rows with labels of others would know nothing of them
    series = MutualInfoProbe(layers="<input>", max_samples=100).fit(network(), (x, y)).series_
    assert series["information_y"].item() == pytest.approx(series["information_y_ceiling"].item(), abs=1e-3)


def test_same_random_state_same_values() -> None:
    model, data = network(), samples(300)
    one, again, other = (
        numbers(MutualInfoProbe(max_samples=100, random_state=seed).fit(model, data).series_) for seed in (3, 3, 4)
    )
    xr.testing.assert_equal(one, again)
    assert (one["information_x"] != other["information_x"]).all()
    assert (one["information_x_lower"] != other["information_x_lower"]).all()  # another subset too


class Tokens(nn.Module):
    """(n, T) token numbers -> (n, T, d)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(6, 12)
        self.head = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.embed(x))


def test_positions_become_samples_with_labels_of_their_own() -> None:
    torch.manual_seed(0)
    model, x = Tokens(), torch.randint(6, (50, 4), generator=seeded())
    probe = MutualInfoProbe(layers="embed", reduce="tokens", noise=0.01)
    series = probe.fit(model, (x, x), targets_shift=0).series_.squeeze(drop=True)
    entropy = -sum(p * math.log2(p) for p in (x.flatten().bincount() / x.numel()).tolist())
    prefixes = Counter(tuple(row[: t + 1]) for row in x.tolist() for t in range(4))
    shares = [count / 200 for count in prefixes.values()]
    assert series["information_x_ceiling"].item() == pytest.approx(-sum(p * math.log2(p) for p in shares))
    assert series["information_y_ceiling"].item() == pytest.approx(entropy)
    # the embedding separates the six tokens and nothing else: both informations are the entropy of the tokens
    assert series["information_x"].item() == pytest.approx(entropy, abs=1e-4)
    assert series["information_y"].item() == pytest.approx(entropy, abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_model_is_measured_nearly_as_the_full_one(dtype: torch.dtype) -> None:
    x, y = samples()
    full = MutualInfoProbe().fit(network(), (x, y)).series_
    half = MutualInfoProbe().fit(network().to(dtype), (x.to(dtype), y)).series_
    np.testing.assert_allclose(half["information_x"], full["information_x"], atol=0.02)
    np.testing.assert_allclose(half["information_y"], full["information_y"], atol=0.02)


class Broken(nn.Module):
    """One sound layer, one that is constant, one that overflows, one that is passed by."""

    def __init__(self) -> None:
        super().__init__()
        self.sound, self.constant, self.overflow, self.silent = (nn.Linear(5, 5) for _ in range(4))
        nn.init.zeros_(self.constant.weight)
        nn.init.constant_(self.overflow.weight, 3e38)

    def forward(self, x: Tensor) -> Tensor:
        self.overflow(x)
        return self.constant(self.sound(x))


def test_layers_without_a_number_are_flagged_and_the_others_measured() -> None:
    probe = MutualInfoProbe(layers=["sound", "constant", "overflow", "silent"])
    with pytest.warns(ProbeWarning, match="silent"):
        series = probe.fit(Broken(), samples()).series_.isel(step=0, split=0, drop=True)
    series = series.sel(layer=["sound", "constant", "overflow", "silent"])
    assert series["collapsed"].values.tolist() == [0, 1, -1, -1]
    assert series["information_nonfinite"].values.tolist() == [0, 0, 1, -1]
    assert series["saturated"].values.tolist()[1:] == [0, -1, -1]
    assert series["information_x"].values[0] > 1
    assert series["information_x"].values[1] == 0
    assert np.isnan(series["information_x"].values[2:]).all()
    assert np.isnan(series["information_y_upper"].values[2:]).all()


def test_noise_that_is_not_positive_is_an_error_of_the_probe() -> None:
    with pytest.raises(ValueError, match="Expected a positive and finite noise"):
        MutualInfoProbe(noise=0).fit(network(), samples())


def test_information_about_labels_falls_when_the_layer_forgets_them() -> None:
    x, y = samples(400)
    aware, blind = nn.Linear(5, 4), nn.Linear(5, 4)
    with torch.no_grad():
        aware.weight[:, 0], blind.weight[:, 0] = 1, 0  # the label is the sign of the first input
    kept, lost = (
        MutualInfoProbe(layers="0").fit(nn.Sequential(layer), (x, y)).series_["information_y"].item()
        for layer in (aware, blind)
    )
    assert kept > lost + 0.1


def test_positions_share_the_label_of_their_input() -> None:
    """Two inputs of each class, three equal positions: all that is known is the class, one bit."""
    z = torch.tensor([[0.0], [0.0], [9.0], [9.0]]).repeat(8, 1)
    model = nn.Sequential(nn.Identity(), nn.Flatten())
    x = z[:, None, :].expand(-1, 3, -1).clone()
    probe = MutualInfoProbe(layers="0", reduce="tokens", noise=0.01).fit(model, (x, (z[:, 0] > 1).long()))
    assert probe.series_["information_y"].item() == pytest.approx(1, abs=1e-3)


def test_rows_without_a_label_are_left_out() -> None:
    x = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    y = torch.arange(12) % 2
    model = nn.Sequential(nn.Identity(), nn.Linear(4, 2))
    y_masked = torch.cat([y, torch.full((8,), -100)])
    masked = MutualInfoProbe(layers="0").fit(model, (torch.cat([x, 50 * torch.ones(8, 4)]), y_masked)).series_
    without = MutualInfoProbe(layers="0").fit(model, (x, y)).series_
    for name in ("information_x", "information_y", "information_x_ceiling", "information_y_ceiling"):
        assert masked[name].item() == pytest.approx(without[name].item(), abs=1e-6)


# -- the level of the noise ----------------------------------------------------------------------------------------


def wide(d: int = 4096) -> nn.Sequential:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(5, d), nn.GELU(), nn.Linear(d, 2))


def grow(model: nn.Sequential, factor: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(factor)


def test_calibrated_noise_of_a_wide_model_reads_neither_saturated_nor_empty() -> None:
    x = torch.randn(512, 5, generator=seeded(7)) @ torch.diag(torch.tensor([4.0, 2, 1, 1, 1]))
    fixed, auto = (MutualInfoProbe(layers="1", noise=noise).fit(wide(), (x, None)).series_ for noise in (0.02, "auto"))
    assert (fixed["saturated"] == 1).all()
    assert (auto["saturated"] == 0).all()
    share = auto["information_x"] / auto["information_x_ceiling"]
    assert ((share > 0.49) & (share < 0.91)).all()


def test_calibrated_noise_is_one_for_a_layer_in_all_splits_and_steps() -> None:
    model, (x, y) = network(), samples()
    data = {"train": (x[:80], y[:80]), "test": (x[80:], y[80:])}
    probe = MutualInfoProbe(layers=["0", "3"], noise="auto").attach(model, data, on_error="raise").observe(0)
    grow(model, 30)  # another geometry
    series = probe.observe(1).series_
    assert (
        series["noise_relative"].max(["step", "split"]) - series["noise_relative"].min(["step", "split"]) < 1e-9
    ).all()
    assert series["information_x"].attrs["noise"] == "auto"
    four = torch.eye(5)[torch.arange(120) % 4]  # far apart at a noise of 0.2
    again = probe.attach(model, (four, y), on_error="raise").observe(0).series_
    assert (again["noise_relative"] > 0.25).all()  # a new attachment, a new level


def test_calibration_waits_for_a_layer_that_is_not_collapsed() -> None:
    model, data = network(), samples()
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    grow(model, 0)
    probe = MutualInfoProbe(layers="1", noise="auto").attach(model, data, on_error="raise").observe(0)
    model.load_state_dict(kept)
    series = probe.observe(1).series_.isel(layer=0, split=0)
    assert series["collapsed"].values.tolist() == [1, 0]
    assert np.isnan(series["noise_relative"].values[0])
    assert series["noise_relative"].values[1] > 0
    assert np.isnan(series["effective_rank"].values[0])


def test_reference_noise_stays_and_absolute_noise_is_as_given() -> None:
    model, data = network(), samples()
    probes = [MutualInfoProbe(layers="4", noise=0.3, convention=name) for name in ("reference", "absolute")]
    found = [probe.attach(model, data, on_error="raise").observe(0) for probe in probes]
    grow(model, 2)
    reference, absolute = (probe.observe(1).series_.squeeze() for probe in found)
    variance = reference["total_variance"].values
    assert variance[1] > 2 * variance[0]
    np.testing.assert_allclose(reference["noise_std"], 0.3 * np.sqrt(variance[0]))
    np.testing.assert_allclose(absolute["noise_std"], 0.3)
    np.testing.assert_allclose(reference["noise_relative"], 0.3 * np.sqrt(variance[0] / variance))
    assert (reference["information_x"].diff("step") > 0).all()  # scale alone
    assert "reference" in reference["information_x"].attrs["noise_convention"]


def test_a_change_of_scale_is_flagged_and_one_of_shape_is_not() -> None:
    model, data = network(), samples()
    first = model[0].weight.detach().clone()
    probe = MutualInfoProbe(layers="0", noise=0.5, convention="absolute").attach(model, data, on_error="raise")
    probe.observe(0)
    grow(model, 0.2)
    probe.observe(1)
    with torch.no_grad():  # nearly all that is left is one direction, as wide as the layer was
        model[0].weight.copy_(first * torch.tensor([5.0, 0.1, 0.1, 0.1, 0.1]))
        model[0].bias.zero_()
    series = probe.observe(2).series_.squeeze()
    assert series["scale_artefact"].values.tolist() == [0, 1, 0]
    free, bits = series["information_x_scale_free"], series["information_x"]
    assert free[0] == bits[0]
    assert free[1].item() == pytest.approx(free[0].item(), abs=0.02)
    assert bits[1] < bits[0] - 1
    assert free[2] < free[0] - 1
    assert free.attrs["compares"] == "information_x"
    assert "scale_artefact" not in MutualInfoProbe(layers="0").fit(model, data).series_


def test_multiples_of_the_noise_are_measured_beside_it() -> None:
    model, data = network(), samples()
    series = MutualInfoProbe(noise=0.2, noise_factors=(0.5, 2)).fit(model, data).series_
    assert series["information_x_by_noise"].dims == ("step", "split", "layer", "noise_factor")
    for factor in (0.5, 2):
        alone = MutualInfoProbe(noise=0.2 * factor).fit(model, data).series_
        for name in ("information_x", "information_y"):
            by_noise = series[f"{name}_by_noise"].sel(noise_factor=factor, drop=True)
            np.testing.assert_allclose(by_noise, alone[name], atol=3e-5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"noise": "automatic"}, "Expected a positive number or"),
        ({"convention": "fixed"}, "Expected a convention among relative, absolute, reference"),
        ({"noise": "auto", "convention": "absolute"}, 'convention="reference"'),
        ({"noise_factors": (0,)}, "Expected a positive and finite noise"),
    ],
)
def test_invalid_levels_are_errors(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MutualInfoProbe(**parameters).fit(network(), samples())


def test_noise_that_was_fixed_outlives_the_process(tmp_path: Path) -> None:
    """What is resumed goes on with the noise that it began with, though the layers have another geometry by then."""
    four = torch.eye(5)[torch.arange(120) % 4]  # far apart at a noise of 0.2
    start, later = (four, None), (2 * torch.randn(120, 5, generator=seeded(7)), None)
    for i, options in enumerate([{"noise": "auto"}, {"noise": 0.3, "convention": "reference"}]):
        kwargs: dict[str, Any] = {"layers": "0", **options}
        recorded = MutualInfoProbe(**kwargs).attach(network(), start, path=tmp_path / f"{i}.nc").observe(0).detach()
        resumed = MutualInfoProbe(**kwargs).attach(network(5), start, path=tmp_path / f"{i}.nc", mode="resume")
        name = "noise_relative" if i == 0 else "noise_std"
        fixed = recorded.series_[name].item()
        np.testing.assert_allclose(resumed.observe(1).detach().series_[name].squeeze(), fixed, rtol=1e-12)
        anew = MutualInfoProbe(**kwargs).fit(network(5), later).series_[name].item()
        assert abs(anew / fixed - 1) > 0.1


def two_clusters(n: int, share: float) -> Tensor:
    return (torch.arange(n) < round(share * n)).float()[:, None] * torch.tensor([[1.0, 2.0, -1.0]])


def outlier(n: int = 100) -> Tensor:
    z = torch.randn(n, 3, generator=seeded(1))
    z[0] += 1e6
    return z


@pytest.mark.parametrize(
    "z",
    [
        two_clusters(500, 1 / 500),  # one live row
        two_clusters(500, 0.02),
        two_clusters(501, 0.5),
        torch.cat([two_clusters(400, 1 / 400), 1 + 3 * two_clusters(100, 0.05)]),
        outlier(),
        two_clusters(300, 0.01).double(),
    ],
)
def test_calibrated_noise_serves_any_clusters(z: Tensor) -> None:
    series = MutualInfoProbe(layers="<input>", noise="auto").fit(nn.Identity(), (z, None)).series_.squeeze()
    codes = z.unique(dim=0, return_inverse=True)[1] if len(z) > 100 else torch.arange(len(z))
    if len(z) <= 100:  # at the finest noise, the outlier alone is distinguished
        codes = (codes == 0).long()
    rows = codes[random_rows(len(z), 384, 0)] if len(z) > 384 else codes
    shares = rows.bincount() / len(rows)
    entropy = -(shares * shares.log2()).nansum().item()
    assert series["noise_uncalibrated"] == 0
    assert 0.4 * entropy < series["information_x"].item() < 1.01 * entropy


def test_noise_that_suits_no_level_is_the_default_and_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> float:
        raise ValueError("Expected a noise, got a jump; pass a level by hand")

    monkeypatch.setattr("probe.measures.mutual_info.probe.calibrated_noise", refuse)
    model, data = network(), samples()
    probe = MutualInfoProbe(layers="1", noise="auto").attach(model, data, on_error="raise").observe(0)
    series = probe.observe(1).series_.squeeze()
    assert series["noise_uncalibrated"].values.tolist() == [1, 1]
    np.testing.assert_allclose(series["noise_relative"], 0.2)
    equal = MutualInfoProbe(layers="1", noise="auto").fit(model, (torch.ones(20, 5), None)).series_.squeeze()
    assert equal["collapsed"] == 1


# -- repeated inputs -----------------------------------------------------------------------------------------------


def test_repeated_inputs_are_one_input() -> None:
    """30 inputs ten times each: all are distinguished, so that log2 30 is the ceiling, and is reached."""
    x = torch.randn(30, 5, generator=seeded(1)).repeat(10, 1)
    model = nn.Sequential(nn.Linear(5, 32), nn.Tanh())
    series = MutualInfoProbe(layers="1", noise=0.002).fit(model, {"train": (x, None), "test": (x[:150], None)}).series_
    for split in ("train", "test"):  # and both together: the same 30 inputs
        found = series.sel(split=split).squeeze()
        assert found["information_x"].item() == pytest.approx(math.log2(30), abs=2e-3)
        assert found["saturated"] == 1
        assert found["information_x_subsample_se"].item() == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(series["information_x_ceiling"].sel(split="train").squeeze(), math.log2(30))
    pooled = series["information_x_ceiling"].sel(split="all").item()  # of 384 of the 450 rows
    assert pooled == pytest.approx(math.log2(30), abs=0.05)


def test_inputs_of_several_tensors_are_equal_if_all_tensors_are() -> None:
    tokens, mask = torch.arange(12).view(12, 1) % 4, torch.arange(12)[:, None] // 4 % 2  # 8 pairs, 4 of them twice
    x = {"input_ids": tokens, "mask": mask}

    class Pair(nn.Module):
        def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
            return torch.cat([input_ids, 10 * mask], 1).float()

    ceiling = MutualInfoProbe(layers="<output>").fit(Pair(), (x, None)).series_["information_x_ceiling"].item()
    assert ceiling == pytest.approx(4 * (1 / 6) * math.log2(6) + 4 * (1 / 12) * math.log2(12))
    subset = MutualInfoProbe(layers="<output>", max_samples=6).fit(Pair(), (x, None)).series_
    rows = random_rows(12, 6, 0)
    counts = Counter(zip(tokens[rows, 0].tolist(), mask[rows, 0].tolist(), strict=True)).values()
    entropy = -sum(k / 6 * math.log2(k / 6) for k in counts)
    assert subset["information_x_ceiling"].item() == pytest.approx(entropy)


def test_positions_are_prefixes_in_a_causal_model_and_places_in_sequences_elsewhere() -> None:
    class Sums(nn.Module):
        def __init__(self, causal: bool) -> None:
            super().__init__()
            self.causal, self.embed = causal, nn.Embedding(2, 6)

        def forward(self, x: Tensor) -> Tensor:
            sums = self.embed(x).cumsum(1)
            return sums if self.causal else sums - 0.3 * self.embed(x).sum(1, keepdim=True)

    x = torch.tensor([[i >> k & 1 for k in range(4)] for i in range(16)])  # all sequences of 4 bits
    causal, other = (
        MutualInfoProbe(layers="<output>", reduce="tokens").fit(Sums(on), (x, None)).series_["information_x_ceiling"]
        for on in (True, False)
    )
    # a prefix of length t is one of 2^t, and each length has a quarter of the positions: 2 + (1 + 2 + 3 + 4) / 4 bits
    assert causal.item() == pytest.approx(4.5)
    assert other.item() == pytest.approx(6)
    first = MutualInfoProbe(layers="<output>", reduce=0).fit(Sums(True), (x, None)).series_
    assert first["information_x_ceiling"].item() == pytest.approx(1)


# -- other rows, other readings ------------------------------------------------------------------------------------


def test_all_inputs_together_are_the_union_of_the_splits() -> None:
    (x, y), model = samples(), network()
    splits = {"train": (x[:80], y[:80]), "test": (x[80:], y[80:])}
    pooled = MutualInfoProbe(layers="1").fit(model, splits).series_.sel(split="all")
    whole = MutualInfoProbe(layers="1").fit(model, (x, y)).series_.sel(split="all")
    xr.testing.assert_allclose(numbers(pooled).drop_vars("failed"), numbers(whole).drop_vars("failed"))
    without = MutualInfoProbe(layers="1", pooled=False).fit(model, splits).series_
    assert without["split"].values.tolist() == ["train", "test"]
    named = MutualInfoProbe(layers="1").fit(model, {"all": (x, y), "test": (x[80:], y[80:])}).series_
    assert named["split"].values.tolist() == ["all", "test"]
    mixed = MutualInfoProbe(layers="1").fit(model, {"train": (x, y), "test": (x, None)}).series_
    assert np.isfinite(mixed["information_x"]).all()
    assert np.isfinite(mixed["information_y"]).values.squeeze().tolist() == [True, False, False]


def test_real_targets_are_cut_over_all_inputs_together() -> None:
    x, _ = samples()
    splits = {"train": (x[:80], x[:80, 0].sort().values), "test": (x[80:], 100 + x[80:, 0])}
    series = MutualInfoProbe(layers="1", target_bins=3).fit(network(), splits).series_
    np.testing.assert_allclose(series["information_y_ceiling"].squeeze(), math.log2(3), atol=1e-3)


def test_error_over_rows_is_that_of_fresh_rows() -> None:
    """Against the standard deviation over 60 fresh samples, which is itself known to a tenth."""
    source, means = seeded(2), torch.randn(12, 6, generator=seeded(1))
    values, errors = [], []
    for seed in range(60):
        y = torch.randint(12, (200,), generator=source)
        z = means[y] + 0.4 * torch.randn(200, 6, generator=source)
        found = channel_information(z, y, noise=0.3, subsample_se=True, generator=seeded(seed + 10))
        assert found.y is not None
        values.append([found.x.value, found.y.value])
        errors.append([found.x.subsample_se, found.y.subsample_se])
    ratio = np.mean(errors, axis=0) / np.std(values, axis=0, ddof=1)
    assert ((ratio > 0.7) & (ratio < 1.4)).all(), ratio


def test_the_error_over_rows_changes_nothing_else_and_is_that_of_inputs() -> None:
    z, y = torch.randn(60, 4, generator=seeded(1)), torch.arange(60) % 3
    alone, beside = (channel_information(z, y, subsample_se=on, generator=seeded(3)) for on in (False, True))
    assert alone.x[:5] == beside.x[:5]
    assert alone.x.subsample_se is None
    # five copies of each input, measured as repeated inputs: the error is that of 60 inputs, not of 300 rows
    inputs, found = torch.arange(300) // 5, []
    for seed in range(40):
        z = torch.randn(60, 2, generator=seeded(seed))[inputs]
        found.append(channel_information(z, noise=0.5, inputs=inputs, subsample_se=True, generator=seeded(99 + seed)).x)
    ratio = np.median([x.subsample_se for x in found]) / np.std([x.value for x in found])
    assert 0.8 < ratio < 1.6


def test_other_estimators_read_the_same_rows() -> None:
    y = torch.arange(120) % 4
    x = torch.eye(5)[y]
    probe = MutualInfoProbe(layers="<input>", noise=0.01, compare=("coding_rate", "renyi", "binned"))
    series = probe.fit(network(), (x, y)).series_.squeeze()
    # four points far apart: 2 bits in bins; as wide a kernel as they are apart is e^-1/2 between them
    for name, truth in (("binned", 2), ("renyi", -math.log2(0.25 + 0.75 * math.exp(-1)))):
        assert series[f"information_x_{name}"].item() == pytest.approx(truth, abs=1e-6), name
        assert series[f"information_y_{name}"].item() == pytest.approx(truth, abs=1e-6), name
        assert series[f"information_y_{name}"].attrs["compares"] == "information_y"
    # three equal eigenvalues of a simplex of total variance 1, against noise .01^2 in each dimension
    assert series["information_x_coding_rate"].item() == pytest.approx(1.5 * math.log2(1 + 1e4 / 3), abs=0.01)
    with pytest.raises(ValueError, match="coding_rate, renyi, binned in compare, got 'ksg'"):
        MutualInfoProbe(compare=("ksg",)).fit(network(), (x, y))
    named = ProbeSet([("second", probe)]).fit(network(), (x, y % 3)).series_
    assert named["second_information_x_renyi"].attrs["compares"] == "second_information_x"
    constant = MutualInfoProbe(layers="<input>", compare=("renyi",)).fit(network(), (torch.ones(120, 5), y)).series_
    assert constant["information_x_renyi"].item() == 0


# -- companions, and real targets ----------------------------------------------------------------------------------


def test_noise_that_hides_the_labels_raises_the_alarm() -> None:
    y = torch.arange(120) % 4
    x = torch.eye(5)[y] + 0.01 * torch.randn(120, 5, generator=seeded(1))
    fine, coarse, unlabelled = (
        MutualInfoProbe(layers="<input>", noise=noise).fit(network(), (x, targets)).series_.squeeze()
        for noise, targets in ((0.2, y), (3.0, y), (3.0, None))
    )
    assert (fine["fano_alarm"], coarse["fano_alarm"], unlabelled["fano_alarm"]) == (0, 1, -1)
    assert fine["class_mean_accuracy"] == 1
    assert float(fine["within_share"]) < 0.01
    assert float(fine["effective_rank"]) == pytest.approx(3, abs=0.1)  # four corners of a simplex


def test_real_targets_are_cut_into_classes_only_if_asked() -> None:
    x, _ = samples()
    probe = MutualInfoProbe(layers="<input>", target_bins=4)
    series = probe.fit(network(), (x, x[:, 0])).series_.squeeze()
    assert float(series["information_y_ceiling"]) == pytest.approx(2)
    direct = measured(x, x[:, 0].argsort().argsort() // 30).y
    assert direct is not None
    assert float(series["information_y"]) == pytest.approx(direct.value, abs=1e-5)
    assert series["information_y"].attrs["target_bins"] == "real targets in 4 quantile classes"
    with pytest.raises(ValueError, match="Expected finite targets for target_bins"):
        probe.fit(network(), (x, torch.full((120,), math.nan)))


def test_labels_that_do_not_fit_the_rows_are_a_warning() -> None:
    x, y = torch.randn(8, 3, 2, generator=torch.Generator().manual_seed(1)), torch.arange(24).view(8, 3) % 2
    with pytest.warns(ProbeWarning, match=r'one label for each of 8 rows, got 24 in all; .*reduce="tokens"'):
        found = MutualInfoProbe().fit(torch.nn.Identity(), (x, y)).series_
    assert "information_y" not in found
    assert "information_y" in MutualInfoProbe(reduce="tokens").fit(torch.nn.Identity(), (x, y)).series_


def test_labels_that_do_not_fit_are_one_warning_in_an_attachment() -> None:
    x, y = torch.randn(12, 3, 2, generator=torch.Generator().manual_seed(1)), torch.arange(36).view(12, 3) % 2
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = {"train": (x[:8], y[:8]), "test": (x[8:], y[8:]), "other": (x[:8], y[:8])}
        probe = MutualInfoProbe().attach(torch.nn.Identity(), data)
        for step in range(3):
            probe.observe(step)
    (text,) = [str(warning.message) for warning in caught if "one label" in str(warning.message)]
    assert "each of 8 rows, got 24 in train, other, and for each of 4 rows, got 12 in test;" in text
