import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import xarray as xr
from helpers import seeded
from scipy.integrate import quad
from torch import Tensor, nn

from probe import MutualInfoProbe
from probe.measures.mutual_info import Bits, ChannelInformation, channel_information

BITS = 10  # the hypercube {-1, +1}^10: 1024 inputs, all enumerated
SNR = [0.1, 0.5, 1, 2, 4]  # a^2 / sigma^2 of one bit


def measured(z: Tensor, labels: Tensor | None = None, *, seed: int = 0, noise: float = 0.2) -> ChannelInformation:
    return channel_information(z, labels, noise=noise, generator=seeded(seed))


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=seeded(99), dtype=torch.float64))[0]


def hypercube(d: int = 32) -> tuple[Tensor, Tensor]:
    """Corners, rotated into d dimensions, and the first half of the bits as labels."""
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=BITS)), dtype=torch.float64)
    labels = torch.arange(2**BITS) // 2 ** (BITS // 2)
    return corners @ rotation(d)[:BITS], labels


def relative(snr: float) -> float:
    """The relative noise that gives this signal-to-noise ratio: the variance of the cube is the number of bits."""
    return 1 / math.sqrt(snr * BITS)


def bit(snr: float) -> float:
    """Information that a reading of one equally likely bit +-a has about it, by quadrature."""

    def integrand(n: float) -> float:
        density = math.exp(-n * n / 2) / math.sqrt(2 * math.pi)
        return density * np.logaddexp(0, -2 * snr - 2 * math.sqrt(snr) * n) / math.log(2)

    return 1 - quad(integrand, -12, 12, epsabs=1e-12)[0]


def pairwise(snr: float, factor: float) -> float:
    """Kolchinsky-Tracey bound of one bit: factor 2 for the upper one, 1/2 for the lower one."""
    return -math.log2((1 + math.exp(-factor * snr)) / 2)


def naive(z: Tensor, labels: Tensor, draw: Tensor, noise: float) -> dict[str, float]:
    """Row by row from log densities of the mixture, in float64."""
    z, n = z.double(), len(z)
    sigma = noise * math.sqrt(sum(z[:, k].var(correction=0).item() for k in range(z.shape[1])))
    sums = dict.fromkeys(["x", "x_lower", "x_upper", "rest", "rest_lower", "rest_upper"], 0.0)
    for i in range(n):
        reading = z[i] + sigma * draw[i]
        same = labels == labels[i]
        own = -((reading - z[i]) ** 2).sum() / (2 * sigma**2)
        logs = {
            "": own - (-((reading - z) ** 2).sum(1) / (2 * sigma**2)),
            "_lower": ((z[i] - z) ** 2).sum(1) / (8 * sigma**2),
            "_upper": ((z[i] - z) ** 2).sum(1) / (2 * sigma**2),
        }
        for part, log in logs.items():
            sums[f"x{part}"] -= (torch.logsumexp(-log, 0) - math.log(n)).item() / math.log(2) / n
            inside = torch.logsumexp(-log[same], 0) - math.log(same.sum())
            sums[f"rest{part}"] -= inside.item() / math.log(2) / n
    return {
        "x": sums["x"],
        "x_lower": sums["x_lower"],
        "x_upper": sums["x_upper"],
        "y": sums["x"] - sums["rest"],
        "y_lower": sums["x_lower"] - sums["rest_upper"],
        "y_upper": sums["x_upper"] - sums["rest_lower"],
    }


def test_quadrature_gives_the_recorded_values() -> None:
    # 12 bits, first 6 as labels; computed with an independent program
    assert [12 * bit(s) for s in SNR] == pytest.approx([0.8249, 3.4858, 5.8313, 8.6574, 10.9539], abs=1e-4)
    assert [12 * pairwise(s, 2) for s in SNR] == pytest.approx([1.6448, 6.5767, 9.8026, 11.6858, 11.9942], abs=1e-4)
    assert [12 * pairwise(s, 0.5) for s in SNR] == pytest.approx([0.4274, 2.0291, 3.7926, 6.5767, 9.8026], abs=1e-4)


@pytest.mark.parametrize("snr", SNR)
def test_value_on_the_hypercube_is_the_truth_within_its_error(snr: float) -> None:
    z, labels = hypercube()
    found = [measured(z, labels, seed=seed, noise=relative(snr)) for seed in range(8)]
    for get, truth in ((lambda c: c.x, BITS * bit(snr)), (lambda c: c.y, BITS / 2 * bit(snr))):
        values, errors = np.array([(get(c).value, get(c).se) for c in found]).T
        assert (abs(values - truth) < 4 * errors).all()
        assert abs(values.mean() - truth) < 4 * errors.mean() / math.sqrt(len(found))
        assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=0.8)  # the error is of the right size


def test_error_of_the_information_about_a_single_bit_is_its_own() -> None:
    z, labels = hypercube()
    found = [measured(z, labels // 16, seed=seed, noise=relative(1)).y for seed in range(8)]
    values, errors = np.array([(y.value, y.se) for y in found if y is not None]).T
    assert abs(values.mean() - bit(1)) < 4 * errors.mean() / math.sqrt(len(found))
    assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=0.4)  # that of the other 9 bits is 3 times as large


@pytest.mark.parametrize("snr", SNR)
def test_bounds_on_the_hypercube_match_their_closed_forms_and_hold_the_truth(snr: float) -> None:
    z, labels = hypercube()
    found = measured(z, labels, noise=relative(snr))
    lower, upper = BITS * pairwise(snr, 0.5), BITS * pairwise(snr, 2)
    assert found.x.lower == pytest.approx(lower, abs=1e-4)
    assert found.x.upper == pytest.approx(upper, abs=1e-4)
    assert found.y is not None
    assert found.y.lower == pytest.approx(lower - upper / 2, abs=1e-4)
    assert found.y.upper == pytest.approx(upper - lower / 2, abs=1e-4)
    assert found.x.lower <= BITS * bit(snr) <= found.x.upper
    assert found.y.lower <= BITS / 2 * bit(snr) <= found.y.upper
    assert (found.x.ceiling, found.y.ceiling) == (BITS, BITS / 2)


def test_two_points_are_one_bit_through_noise() -> None:
    z = torch.tensor([[-1.0], [1.0]])  # snr = 1 / noise^2
    found = [measured(z, torch.arange(2), seed=seed, noise=0.9) for seed in range(600)]
    values = np.array([c.x.value for c in found])
    assert abs(values.mean() - bit(1 / 0.81)) < 4 * values.std() / math.sqrt(len(values))
    assert found[0].x.lower <= bit(1 / 0.81) <= found[0].x.upper


@pytest.mark.parametrize("k", [2, 8, 64])
@pytest.mark.parametrize("noise", [0.02, 1e-3, 1e-5])
def test_far_clusters_are_log2_of_their_number(k: int, noise: float) -> None:
    centres = torch.randn(k, 128, generator=seeded(1)) + 3
    labels = torch.arange(512) % k
    found = measured(centres[labels], labels, noise=noise)
    assert found.y is not None
    for bits in (found.x, found.y):
        assert [bits.value, bits.lower, bits.upper] == pytest.approx([math.log2(k)] * 3, abs=1e-5)
    assert not found.saturated or k == 512


def test_bounds_do_not_depend_on_the_precision_that_a_user_allows_for_matrix_products() -> None:
    z = (torch.randn(64, 128, generator=seeded(2)) * 3)[torch.arange(1024) % 64]
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")  # bfloat16 on processors that have it
        assert measured(z).x.upper <= 6 + 1e-6
    finally:
        torch.set_float32_matmul_precision(before)


def test_no_noise_is_saturated_at_log2_n_and_much_noise_leaves_nothing() -> None:
    z, labels = torch.randn(256, 16, generator=seeded()), torch.arange(256) % 4
    fine, coarse = measured(z, labels, noise=1e-3), measured(z, labels, noise=1e3)
    assert fine.y is not None
    assert coarse.y is not None
    assert fine.saturated
    assert [fine.x.value, fine.x.lower, fine.x.upper] == pytest.approx([8] * 3, abs=1e-6)
    assert fine.y.value == pytest.approx(2, abs=1e-6)
    assert not coarse.saturated
    assert [coarse.x.value, coarse.x.lower, coarse.x.upper, coarse.y.value] == pytest.approx([0] * 4, abs=1e-3)


@pytest.mark.parametrize(
    ("value", "lower", "saturated"), [(7.8, 7.5, False), (7.9, 5.0, True), (7.8, 7.7, True), (0.0, 0.0, False)]
)
def test_saturation_is_told_by_the_value_or_by_the_lower_bound(value: float, lower: float, saturated: bool) -> None:
    found = ChannelInformation(Bits(value, 0.01, lower, 8.0, 8.0), None, 1.0, 0.2, False)
    assert found.saturated is saturated


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", [0.05, 0.2, 0.6])
def test_value_and_bounds_agree_with_a_naive_twin(noise: float, dtype: torch.dtype) -> None:
    z = 5 + torch.randn(90, 7, generator=seeded(3), dtype=dtype)
    labels = torch.randint(4, (90,), generator=seeded(4))
    found = measured(z, labels, seed=5, noise=noise)
    draw = torch.randn(90, 7, generator=seeded(5), dtype=torch.float64)
    assert found.y is not None
    got = {"x": found.x.value, "x_lower": found.x.lower, "x_upper": found.x.upper}
    got |= {"y": found.y.value, "y_lower": found.y.lower, "y_upper": found.y.upper}
    assert got == pytest.approx(naive(z, labels, draw, noise), abs=1e-6)  # exponentials are float32


@pytest.mark.parametrize(
    "change", [lambda z: 1024 * z, lambda z: z * 2.0**-70, lambda z: z * 2.0**70, lambda z: z + 64]
)
def test_scale_and_shift_change_nothing(change: Callable[[Tensor], Tensor]) -> None:
    z = torch.randn(200, 12, generator=seeded(1)).mul(2**8).round().div(2**8)  # exact under these changes
    assert measured(change(z)).x == pytest.approx(measured(z).x, abs=1e-6)


@pytest.mark.parametrize("offset", [1e3, 1e5])
def test_large_offset_costs_no_more_than_the_rounding_of_the_input(offset: float) -> None:
    z = torch.randn(200, 12, generator=seeded(1))
    assert measured(z + offset).x == pytest.approx(measured(z).x, abs=1e-7 * offset)


def test_rotation_leaves_bounds_and_moves_the_value_within_its_error() -> None:
    z = torch.randn(300, 12, generator=seeded(1), dtype=torch.float64) * torch.arange(1, 13)
    one, other = measured(z), measured(z @ rotation(12))
    assert (other.x.lower, other.x.upper) == pytest.approx((one.x.lower, one.x.upper), abs=1e-6)
    assert abs(other.x.value - one.x.value) < 4 * math.hypot(one.x.se, other.x.se)
    assert other.x.value != one.x.value


def test_order_of_rows_leaves_bounds_and_moves_the_value_within_its_error() -> None:
    z, labels = torch.randn(300, 6, generator=seeded(1)), torch.arange(300) % 5
    order = torch.randperm(300, generator=seeded(2))
    one, other = measured(z, labels), measured(z[order], labels[order])
    for a, b in ((one.x, other.x), (one.y, other.y)):
        assert a is not None
        assert b is not None
        assert (a.lower, a.upper) == pytest.approx((b.lower, b.upper), abs=1e-6)
        assert abs(a.value - b.value) < 4 * math.hypot(a.se, b.se)


def test_names_of_classes_do_not_matter() -> None:
    z, labels = torch.randn(60, 6, generator=seeded(1)), torch.arange(60) % 3
    assert measured(z, 1000 - 7 * labels) == measured(z, labels)
    assert measured(z, labels == 0).y == measured(z, (labels == 0).int()).y


def test_labels_that_name_each_row_are_the_input_and_one_label_says_nothing() -> None:
    z = torch.randn(300, 6, generator=seeded(1))
    each, one = measured(z, torch.arange(300)), measured(z, torch.zeros(300, dtype=torch.long))
    assert each.y is not None
    assert one.y is not None
    assert each.y.value == pytest.approx(each.x.value, abs=1e-6)
    assert each.y.ceiling == pytest.approx(math.log2(300))
    assert (one.y.value, one.y.ceiling) == pytest.approx((0, 0), abs=1e-6)


@pytest.mark.parametrize("block", [1, 7, 256])
def test_block_size_does_not_change_the_result(block: int) -> None:
    z, labels = torch.randn(150, 6, generator=seeded(1)), torch.arange(150) % 5
    found = channel_information(z, labels, generator=seeded(), block=block)
    whole = channel_information(z, labels, generator=seeded(), block=1000)
    assert found.x == pytest.approx(whole.x, abs=1e-6)
    assert found.y == pytest.approx(whole.y, abs=1e-6)


@pytest.mark.parametrize("d", [3, 50_000])
@pytest.mark.parametrize("offset", [0.0, 0.1, 7.3e5])
def test_rows_that_are_all_alike_are_collapsed_with_information_zero(d: int, offset: float) -> None:
    z = torch.full((40, d), offset)
    found = measured(z, torch.arange(40) % 4)
    assert found.collapsed
    assert not found.saturated
    assert found.x == (0, 0, 0, 0, math.log2(40))
    assert found.y == (0, 0, 0, 0, 2)


def test_rows_that_differ_by_rounding_only_are_collapsed() -> None:
    z = 7.3 * (1 + 2.0**-23 * torch.randint(-1, 2, (40, 8), generator=seeded()))
    assert measured(z).collapsed
    assert not measured(7.3 + 1e-4 * torch.randn(40, 8, generator=seeded())).collapsed


@pytest.mark.parametrize("scale", [1e-30, 1e-19, 1e19, 1e30])
def test_activations_whose_squares_leave_float32_are_measured(scale: float) -> None:
    z = torch.randn(100, 8, generator=seeded())
    found = measured(z * scale)
    assert not found.collapsed
    assert found.x.value == pytest.approx(measured(z).x.value, abs=1e-4)


def test_global_random_state_is_not_drawn_from_and_the_input_is_not_written() -> None:
    z = torch.randn(50, 4, generator=seeded(), dtype=torch.float64)
    kept, state = z.clone(), torch.get_rng_state()
    assert measured(z, seed=1) == measured(z, seed=1)
    assert measured(z, seed=1).x.value != measured(z, seed=2).x.value
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(z, kept)


@pytest.mark.parametrize(
    ("z", "labels", "noise", "message"),
    [
        (torch.tensor([[0.0], [math.nan]]), None, 0.2, "NaN or infinite"),
        (torch.tensor([[0.0], [math.inf]]), None, 0.2, "NaN or infinite"),
        (torch.zeros(1, 3), None, 0.2, "n >= 2"),
        (torch.zeros(4), None, 0.2, "shape"),
        (torch.zeros(4, 2), torch.zeros(3, dtype=torch.long), 0.2, "4 integers"),
        (torch.zeros(4, 2), torch.zeros(4, 2, dtype=torch.long), 0.2, "4 integers"),
        (torch.zeros(4, 2), torch.zeros(4), 0.2, "4 integers"),
        (torch.zeros(4, 2), None, 0.0, "noise must be positive"),
        (torch.zeros(4, 2), None, -1.0, "noise must be positive"),
        (torch.zeros(4, 2), None, math.nan, "noise must be positive"),
    ],
)
def test_what_cannot_be_measured_is_an_error(z: Tensor, labels: Tensor | None, noise: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        channel_information(z, labels, noise=noise)


# -- the probe -----------------------------------------------------------------------------------------------------


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
    parts = ["", "_se", "_lower", "_upper", "_ceiling"]
    expected = {f"information_{letter}{part}" for letter in "xy" for part in parts}
    expected |= {"total_variance", "noise_std", "saturated", "collapsed", "information_nonfinite"}
    assert set(series.data_vars) == expected | {"seconds", "failed"}
    for name in expected:
        assert series[name].dims == ("step", "split", "layer")
    assert series["layer"].values.tolist() == ["1", "3"]
    assert series["information_x"].attrs["units"] == "bits"
    assert series["information_x"].attrs["noise"] == 0.2
    np.testing.assert_allclose(series["information_x_ceiling"][0, :, 0], np.log2([80, 40]))


def test_probe_says_what_the_function_says_of_the_activations() -> None:
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
    series = MutualInfoProbe(layers="embed", reduce="tokens", noise=0.01).fit(model, (x, x)).series_.squeeze(drop=True)
    entropy = -sum(p * math.log2(p) for p in (x.flatten().bincount() / x.numel()).tolist())
    assert series["information_x_ceiling"].item() == pytest.approx(math.log2(200))
    assert series["information_y_ceiling"].item() == pytest.approx(entropy)
    # the embedding tells the six tokens apart and nothing else: both informations are the entropy of the tokens
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
    with pytest.warns(RuntimeWarning, match="silent"):
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
    with pytest.raises(ValueError, match="noise must be positive"):
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
