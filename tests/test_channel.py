import functools
import itertools
import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
import torch
import xarray as xr
from closed_forms import noisy_bit
from helpers import seeded
from torch import Tensor

from probe.information import (
    ChannelEstimate,
    ChannelInformation,
    calibrated_noise,
    channel_bits,
    channel_information,
    fano_bound,
    ib_objective,
    representation_geometry,
)
from probe.information.pairwise import PairwiseBlocks
from probe.information.validation import normalise_rows

BITS = 10  # the hypercube {-1, +1}^10: 1024 inputs, all enumerated
SNR = [0.1, 0.5, 1, 2, 4]  # a^2 / sigma^2 of one bit


def measured(z: Tensor, labels: Tensor | None = None, *, seed: int = 0, noise: float = 0.2) -> ChannelInformation:
    return channel_information(z, labels, noise=noise, generator=seeded(seed))


def rotation(d: int) -> Tensor:
    return torch.linalg.qr(torch.randn(d, d, generator=seeded(99), dtype=torch.float64))[0]


def hypercube(d: int = 32) -> tuple[Tensor, Tensor]:
    """Return the corners, rotated into d dimensions, and the first half of the bits as labels."""
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=BITS)), dtype=torch.float64)
    labels = torch.arange(2**BITS) // 2 ** (BITS // 2)
    return corners @ rotation(d)[:BITS], labels


def relative(snr: float) -> float:
    """Return the relative noise of this signal-to-noise ratio. The variance of the cube is the number of bits."""
    return 1 / math.sqrt(snr * BITS)


def pairwise(snr: float, factor: float) -> float:
    """Return the Kolchinsky-Tracey bound of one bit: factor 2 for the upper bound, 1/2 for the lower bound."""
    return -math.log2((1 + math.exp(-factor * snr)) / 2)


def naive(z: Tensor, labels: Tensor, draw: Tensor, noise: float) -> dict[str, float]:
    """Return values and bounds row by row from log densities of the mixture, in float64."""
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


def test_quadrature_agrees_with_an_independent_program() -> None:
    # Information of 12 bits, from an independent program.
    assert [12 * noisy_bit(s) for s in SNR] == pytest.approx([0.8249, 3.4858, 5.8313, 8.6574, 10.9539], abs=1e-4)
    assert [12 * pairwise(s, 2) for s in SNR] == pytest.approx([1.6448, 6.5767, 9.8026, 11.6858, 11.9942], abs=1e-4)
    assert [12 * pairwise(s, 0.5) for s in SNR] == pytest.approx([0.4274, 2.0291, 3.7926, 6.5767, 9.8026], abs=1e-4)


@pytest.mark.parametrize("snr", SNR)
def test_value_on_the_hypercube_is_the_truth_within_its_error(snr: float) -> None:
    z, labels = hypercube()
    found = [measured(z, labels, seed=seed, noise=relative(snr)) for seed in range(8)]
    for get, truth in ((lambda c: c.x, BITS * noisy_bit(snr)), (lambda c: c.y, BITS / 2 * noisy_bit(snr))):
        values, errors = np.array([(get(c).value, get(c).se) for c in found]).T
        assert (abs(values - truth) < 4 * errors).all()
        assert abs(values.mean() - truth) < 4 * errors.mean() / math.sqrt(len(found))
        assert values.std(ddof=1) == pytest.approx(errors.mean(), rel=0.8)  # the error is of the right size


def test_standard_error_of_a_single_bit_is_smaller_than_that_of_all_bits() -> None:
    z, labels = hypercube()
    found = [measured(z, labels // 16, seed=seed, noise=relative(1)).y for seed in range(8)]
    values, errors = np.array([(y.value, y.se) for y in found if y is not None]).T
    assert abs(values.mean() - noisy_bit(1)) < 4 * errors.mean() / math.sqrt(len(found))
    assert values.std(ddof=1) == pytest.approx(
        errors.mean(), rel=0.4
    )  # the error of the other 9 bits is 3 times as large


@pytest.mark.parametrize("snr", SNR)
def test_bounds_on_the_hypercube_equal_their_closed_forms_and_contain_the_truth(snr: float) -> None:
    z, labels = hypercube()
    found = measured(z, labels, noise=relative(snr))
    lower, upper = BITS * pairwise(snr, 0.5), BITS * pairwise(snr, 2)
    assert found.x.lower == pytest.approx(lower, abs=1e-4)
    assert found.x.upper == pytest.approx(upper, abs=1e-4)
    assert found.y is not None
    assert found.y.lower == pytest.approx(lower - upper / 2, abs=1e-4)
    assert found.y.upper == pytest.approx(upper - lower / 2, abs=1e-4)
    assert found.x.lower <= BITS * noisy_bit(snr) <= found.x.upper
    assert found.y.lower <= BITS / 2 * noisy_bit(snr) <= found.y.upper
    assert (found.x.ceiling, found.y.ceiling) == (BITS, BITS / 2)


def test_two_points_are_one_bit_through_noise() -> None:
    z = torch.tensor([[-1.0], [1.0]]).repeat(64, 1)  # snr = 1 / noise^2
    found = [measured(z, torch.arange(128) % 2, seed=seed, noise=0.9) for seed in range(250)]
    values = np.array([c.x.value for c in found])
    assert abs(values.mean() - noisy_bit(1 / 0.81)) < 4 * values.std() / math.sqrt(len(values))
    assert found[0].x.lower <= noisy_bit(1 / 0.81) <= found[0].x.upper


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


def twin(z: Tensor, noise: float, seed: int = 0) -> list[float]:
    """Return value, lower and upper bound from differences of rows, in float64."""
    t = z.double()
    t = t / (noise * (t - t.mean(0)).square().sum(1).mean().sqrt())
    draw = torch.randn(t.shape, generator=seeded(seed), dtype=torch.float64)
    distances = (t[:, None] - t).square().sum(2)
    shifted = (t[:, None] + draw[:, None] - t).square().sum(2) - draw.square().sum(1)[:, None]
    logs = [(-d).logsumexp(1).mean().item() for d in (shifted / 2, distances / 8, distances / 2)]
    return [(math.log(len(t)) - log) / math.log(2) for log in logs]


def clusters(k: int, n: int = 256, spread: float = 0.0) -> Tensor:
    rows = 3 * torch.randn(k, 128, generator=seeded(2))
    return rows[torch.arange(n) % k] + spread * torch.randn(n, 128, generator=seeded(3)) + 5


@functools.cache
def twin_of_clusters(noise: float, spread: float) -> list[float]:
    return twin(clusters(64, spread=spread), noise)


@pytest.mark.parametrize("precision", ["highest", "high", "medium", "autocast"])
@pytest.mark.parametrize("noise", [1e-3, 0.03, 0.2, 1.0])
@pytest.mark.parametrize("spread", [0, 0.5])
def test_products_of_any_precision_agree_with_float64(noise: float, precision: str, spread: float) -> None:
    z, before = clusters(64, spread=spread), torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("highest" if precision == "autocast" else precision)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "autocast"):
            found = measured(z, noise=noise).x
    finally:
        torch.set_float32_matmul_precision(before)
    assert [found.value, found.lower, found.upper] == pytest.approx(twin_of_clusters(noise, spread), abs=3e-5)
    assert spread or found.upper <= 6 + 3e-5


@pytest.mark.parametrize(("noise", "dtype"), [(0.2, torch.float32), (0.1, torch.float32), (1e-3, torch.float64)])
def test_distances_are_float64_only_where_the_noise_is_fine(noise: float, dtype: torch.dtype) -> None:
    t, _, _ = normalise_rows(clusters(64, spread=0.5))
    blocks = PairwiseBlocks(t, torch.zeros_like(t), noise)
    blocks(slice(0, 128))
    assert blocks.active[0].dtype == dtype


def test_an_outlier_does_not_reduce_the_accuracy_of_other_distances() -> None:
    z = clusters(64, spread=0.5)
    z[200] += 1e4
    found = measured(z, noise=1e-3).x
    assert [found.value, found.lower, found.upper] == pytest.approx(twin(z, 1e-3), abs=3e-5)


@pytest.mark.parametrize("levels", [(0.1, 0.2, 0.4), (0.4, 0.1), (0.15, 0.2, 0.31), [0.05, 0.05]])
def test_levels_in_one_pass_are_the_levels_one_by_one(levels: tuple[float, ...]) -> None:
    z, labels = clusters(64, spread=0.5), torch.arange(256) % 5
    together = channel_information(z, labels, noise=levels, generator=seeded())
    for level, found in zip(levels, together, strict=True):
        alone = measured(z, labels, noise=level)
        assert found.noise_std == pytest.approx(alone.noise_std)
        for bits, expected in ((found.x, alone.x), (found.y, alone.y), (found.x_given_y, alone.x_given_y)):
            assert bits == pytest.approx(expected, abs=3e-5)


def test_absolute_noise_is_in_units_of_the_activations() -> None:
    z = clusters(64, spread=0.5)
    std = math.sqrt(normalise_rows(z)[1])
    found = channel_information(z, noise=0.2 * std, convention="absolute", generator=seeded())
    assert found.x == pytest.approx(measured(z).x)
    assert (found.noise_std, found.noise_relative) == pytest.approx((0.2 * std, 0.2))
    smaller = channel_information(z / 10, noise=0.2 * std, convention="absolute", generator=seeded())
    assert smaller.x.upper < found.x.lower  # only the scale differs


# -- repeated inputs, and information given the class --------------------------------------------------------------


@pytest.mark.parametrize("snr", [0.5, 2])
def test_noise_of_the_network_itself_is_no_information(snr: float) -> None:
    """The last five bits of the cube are noise of the network, the first five the input, the first two the label."""
    z, inputs = hypercube()
    labels = inputs // 8
    cases = [channel_information(z, labels, inputs=inputs, noise=relative(snr), generator=seeded(k)) for k in range(8)]
    for name, bits in (("x", 5), ("y", 2), ("x_given_y", 3)):
        found = [getattr(case, name) for case in cases]
        truth = bits * noisy_bit(snr)
        error = np.mean([one.se for one in found])
        assert abs(np.mean([one.value for one in found]) - truth) < 4 * error / math.sqrt(len(found))
        assert all(one.lower <= truth <= one.upper for one in found)
        assert found[0].ceiling == pytest.approx(bits)
    assert cases[0].x.lower == pytest.approx(10 * pairwise(snr, 0.5) - 5 * pairwise(snr, 2), abs=1e-4)


def test_the_probability_of_a_repeated_input_is_its_frequency() -> None:
    z = torch.randn(20, 6, generator=seeded(1))
    inputs = torch.randint(20, (80,), generator=seeded(2))
    found = channel_information(z[inputs], inputs=inputs, noise=1e-3)
    share = inputs.bincount()[inputs.unique()].double() / 80
    assert found.x.ceiling == pytest.approx(-(share * share.log2()).sum().item())
    assert [found.x.value, found.x.lower, found.x.upper] == pytest.approx([found.x.ceiling] * 3, abs=1e-5)


@pytest.mark.parametrize("snr", SNR)
def test_information_about_the_input_given_the_class(snr: float) -> None:
    found = measured(*hypercube(), noise=relative(snr))
    assert found.y is not None
    rest = found.x_given_y
    assert rest is not None
    assert rest.value == pytest.approx(found.x.value - found.y.value, abs=1e-6)
    assert (rest.lower, rest.upper) == pytest.approx((5 * pairwise(snr, 0.5), 5 * pairwise(snr, 2)), abs=1e-4)
    assert rest.ceiling == pytest.approx(5)


def test_bracket_clips_the_bounds_to_zero_and_the_ceiling() -> None:
    assert ChannelEstimate(1.0, 0.1, -0.3, 2.7, 2.0).bracket == (0.0, 2.0)
    assert ChannelEstimate(1.0, 0.1, 0.3, 1.7, 2.0).bracket == (0.3, 1.7)


# -- calibration -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("z", "ceiling"),
    [
        (torch.randn(256, 1024, generator=seeded(1)), 8),
        (torch.randn(300, 128, generator=seeded(1)), math.log2(300)),
        (torch.randn(200, 16, generator=seeded(1)) * 0.5 ** torch.arange(16), math.log2(200)),
        (clusters(8), 3),
        (clusters(2), 1),
    ],
)
def test_information_at_the_calibrated_noise_is_between_50_and_90_percent(z: Tensor, ceiling: float) -> None:
    noise = calibrated_noise(z, generator=seeded())
    found = measured(z, noise=noise).x.value
    assert 0.49 * ceiling <= found <= 0.91 * ceiling
    assert noise == calibrated_noise(7 * z + 1, generator=seeded()) or z.shape[1] == 16  # scale-free


def test_a_start_level_in_the_target_range_is_returned_and_equal_rows_raise() -> None:
    z = torch.randn(300, 16, generator=seeded(1))
    level = calibrated_noise(z, generator=seeded())
    assert calibrated_noise(z, generator=seeded(), start=level) == level
    with pytest.raises(ValueError, match="Expected rows of activations that differ"):
        calibrated_noise(torch.ones(10, 3))


# -- gradients ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["value", "lower", "upper"])
@pytest.mark.parametrize("labelled", [False, True])
def test_value_and_gradient_of_channel_bits(part: Literal["value", "lower", "upper"], labelled: bool) -> None:
    z = torch.randn(12, 3, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    labels = torch.arange(12) % 3 if labelled else None

    def bits(rows: Tensor) -> Tensor:
        return channel_bits(rows, labels, noise=0.4, part=part, generator=seeded(2))

    assert torch.autograd.gradcheck(bits, (z,))
    found = measured(z, labels, seed=2, noise=0.4)
    expected = found.y if labelled else found.x
    assert expected is not None
    assert bits(z).item() == pytest.approx(getattr(expected, part), abs=3e-5)
    gradient = torch.autograd.grad(bits(z), z)[0]
    assert (gradient * z.detach()).sum().item() == pytest.approx(0, abs=1e-9)  # scaling changes nothing


def test_training_on_the_information_reduces_it() -> None:
    z, labels = torch.randn(60, 4, generator=seeded(1)), torch.arange(60) % 2
    weight = torch.eye(4, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.08)
    x = torch.cat([z, 2.0 * labels[:, None]], 1)[:, 1:]
    before = channel_bits(x @ weight, noise=0.5, generator=seeded()).item()
    for step in range(25):
        optimizer.zero_grad()
        h = x @ weight
        loss = -channel_bits(h, labels, noise=0.5, generator=seeded(step))
        (loss + 0.5 * channel_bits(h, noise=0.5, generator=seeded(step))).backward()
        optimizer.step()
    after = x @ weight.detach()
    assert channel_bits(after, noise=0.5, generator=seeded()).item() < 0.7 * before
    assert channel_bits(after, labels, noise=0.5, generator=seeded()).item() > 0.9


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_have_gradients_in_float32(dtype: torch.dtype) -> None:
    z = torch.randn(40, 8, generator=seeded(1)).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        bits = channel_bits(z, generator=seeded())
    bits.backward()
    assert bits.item() == pytest.approx(measured(z).x.value, abs=1e-4)
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


def test_equal_rows_have_zero_bits_with_zero_gradient() -> None:
    z = torch.ones(5, 3, requires_grad=True)
    bits = channel_bits(z)
    bits.backward()
    assert bits.item() == 0
    assert z.grad is not None
    assert (z.grad == 0).all()


def test_objective_of_the_information_bottleneck() -> None:
    assert ib_objective(5.0, 2.0, 1.5) == 2.0
    series = xr.Dataset({"information_x": ("step", [5.0, 4.0]), "information_y": ("step", [1.0, 2.0])})
    found = ib_objective(series["information_x"], series["information_y"], beta=2)
    assert found.values.tolist() == [3, 0]


# -- geometry ----------------------------------------------------------------------------------------------------


def test_effective_rank_counts_directions_of_equal_spread() -> None:
    for d in (1, 3, 40):
        z = torch.cat([torch.eye(d), -torch.eye(d)]) + 7
        assert representation_geometry(z @ torch.eye(d, 90)).participation_ratio == pytest.approx(d)
        assert representation_geometry(z).variance == pytest.approx(1)
    spread = torch.tensor([3.0, 1.0])  # (9 + 1)^2 / (81 + 1)
    assert representation_geometry(
        torch.cat([torch.eye(2), -torch.eye(2)]) * spread
    ).participation_ratio == pytest.approx(100 / 82)


def test_classes_of_the_hypercube() -> None:
    z, labels = hypercube()
    found = representation_geometry(z, labels)
    assert (found.participation_ratio, found.within_share) == pytest.approx((10, 0.5))
    assert (found.class_mean_accuracy, found.fano_bound) == pytest.approx((1, 5))
    parity = torch.tensor(list(itertools.product([0, 1], repeat=BITS))).sum(1) % 2  # all means at the centre
    assert representation_geometry(z, parity).within_share == pytest.approx(1)


def test_fano_holds_for_a_symmetric_channel_with_equality() -> None:
    codes = torch.arange(4).repeat(10)
    assert fano_bound(1.0, codes) == pytest.approx(2)
    assert fano_bound(0.25, codes) == pytest.approx(0)
    truth = 2 + 0.9 * math.log2(0.9) + 0.1 * math.log2(0.1 / 3)  # capacity of the 4-ary symmetric channel
    assert fano_bound(0.9, codes) == pytest.approx(truth)
    assert fano_bound(1.0, torch.zeros(5, dtype=torch.long)) == 0


def test_fine_noise_saturates_at_log2_n_and_coarse_noise_leaves_no_information() -> None:
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
def test_saturation_depends_on_the_value_or_on_the_lower_bound(value: float, lower: float, saturated: bool) -> None:
    found = ChannelInformation(ChannelEstimate(value, 0.01, lower, 8.0, 8.0), None, None, 1.0, 0.2, False)
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
    assert got == pytest.approx(naive(z, labels, draw, noise), abs=3e-5)  # distances may be float32


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


def test_rotation_keeps_the_bounds_and_changes_the_value_within_its_error() -> None:
    z = torch.randn(300, 12, generator=seeded(1), dtype=torch.float64) * torch.arange(1, 13)
    one, other = measured(z), measured(z @ rotation(12))
    assert (other.x.lower, other.x.upper) == pytest.approx((one.x.lower, one.x.upper), abs=1e-6)
    assert abs(other.x.value - one.x.value) < 4 * math.hypot(one.x.se, other.x.se)
    assert other.x.value != one.x.value


def test_order_of_rows_keeps_the_bounds_and_changes_the_value_within_its_error() -> None:
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
    assert measured(z, 1000 + 7 * labels) == measured(z, labels)
    one, other = measured(z, 1000 - 7 * labels).y, measured(z, labels).y
    assert one is not None
    assert other is not None
    assert one[:5] == pytest.approx(other[:5], abs=1e-6, nan_ok=True)
    assert measured(z, labels == 0).y == measured(z, (labels == 0).int()).y


def test_one_label_per_row_equals_the_input_and_one_label_for_all_has_no_information() -> None:
    z = torch.randn(300, 6, generator=seeded(1))
    each, one = measured(z, torch.arange(300)), measured(z, torch.zeros(300, dtype=torch.long))
    assert each.y is not None
    assert one.y is not None
    assert each.y.value == pytest.approx(each.x.value, abs=1e-6)
    assert each.y.ceiling == pytest.approx(math.log2(300))
    assert (one.y.value, one.y.ceiling) == pytest.approx((0, 0), abs=1e-6)


@pytest.mark.parametrize("block_size", [1, 7, 256])
def test_block_size_does_not_change_the_result(block_size: int) -> None:
    z, labels = torch.randn(150, 6, generator=seeded(1)), torch.arange(150) % 5
    found = channel_information(z, labels, generator=seeded(), block_size=block_size)
    whole = channel_information(z, labels, generator=seeded(), block_size=1000)
    assert found.x == pytest.approx(whole.x, abs=1e-6)
    assert found.y == pytest.approx(whole.y, abs=1e-6)


@pytest.mark.parametrize("d", [3, 50_000])
@pytest.mark.parametrize("offset", [0.0, 0.1, 7.3e5])
def test_equal_rows_are_collapsed_with_information_zero(d: int, offset: float) -> None:
    z = torch.full((40, d), offset)
    found = measured(z, torch.arange(40) % 4)
    assert found.collapsed
    assert not found.saturated
    assert found.x[:5] == (0, 0, 0, 0, math.log2(40))
    assert found.y is not None
    assert found.y[:5] == (0, 0, 0, 0, 2)


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


def test_global_random_state_and_input_do_not_change() -> None:
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
        (torch.zeros(4, 2), None, 0.0, "Expected a positive and finite noise"),
        (torch.zeros(4, 2), None, -1.0, "Expected a positive and finite noise"),
        (torch.zeros(4, 2), None, math.nan, "Expected a positive and finite noise"),
    ],
)
def test_invalid_arguments_raise(z: Tensor, labels: Tensor | None, noise: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        channel_information(z, labels, noise=noise)


def test_unknown_part_or_convention_raises() -> None:
    with pytest.raises(ValueError, match='Expected part="value", "lower" or "upper", got \'mean\''):
        channel_bits(torch.eye(4), part="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='Expected convention="relative" or "absolute", got \'reference\''):
        channel_information(torch.eye(4), convention="reference")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="Expected at least one noise level"):
        channel_information(torch.eye(4), noise=())
