"""Compare estimators with closed forms: size of errors, brackets, and the data processing inequality."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from closed_forms import noisy_bit
from helpers import seeded
from scipy.special import digamma, gammaln
from torch import Tensor

from probe.information import ChannelInformation, channel_information, ksg_information


def corners(bits: int, d: int) -> Tensor:
    """Return all corners of a cube, rotated into d dimensions."""
    cube = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits)), dtype=torch.float64)
    return cube @ torch.linalg.qr(torch.randn(d, d, generator=seeded(3), dtype=torch.float64))[0][:bits]


def read(z: Tensor, labels: Tensor | None, sigma: float, seed: int = 0) -> ChannelInformation:
    return channel_information(z, labels, noise=sigma, convention="absolute", generator=seeded(seed))


def test_values_over_fresh_noise_lie_within_three_standard_errors() -> None:
    z, labels = corners(8, 12), torch.arange(256) // 16
    truths = {"x": 8 * noisy_bit(1.5), "y": 4 * noisy_bit(1.5), "x_given_y": 4 * noisy_bit(1.5)}
    scores: dict[str, list[float]] = {name: [] for name in truths}
    for seed in range(120):
        found = read(z, labels, 1.5**-0.5, seed)
        for name, truth in truths.items():
            bits = getattr(found, name)
            scores[name].append((bits.value - truth) / bits.se)
    for name, of_name in scores.items():
        values = np.array(of_name)
        assert (abs(values) < 3).mean() >= 0.975, name  # .9973 expected
        assert abs(values.mean()) < 3 / math.sqrt(120), name  # no bias
        assert 0.7 < values.std() < 1.1, name  # errors of the right size, rather too large


def exact_cases() -> Iterator[tuple[str, ChannelInformation, float, float]]:
    """Yield the name, the result, I(T+n; X) and I(T+n; Y)."""
    for snr in (0.02, 0.1, 0.5, 1, 2, 4, 10):
        found = read(corners(8, 20), torch.arange(256) // 32, snr**-0.5)
        yield f"hypercube, snr {snr}", found, 8 * noisy_bit(snr), 3 * noisy_bit(snr)
        found = read(torch.tensor([[-1.0], [1.0]]), torch.arange(2), snr**-0.5)
        yield f"two points, snr {snr}", found, noisy_bit(snr), noisy_bit(snr)
        # The label is one of two bits. The other bit is not relevant for it.
        found = read(corners(2, 2), torch.tensor([0, 1, 0, 1]), snr**-0.5)
        yield f"square, snr {snr}", found, 2 * noisy_bit(snr), noisy_bit(snr)
    for k in (2, 7, 32):
        rows = 1000 * torch.eye(k)[torch.arange(3 * k) % k]
        found = channel_information(
            rows, torch.arange(3 * k) % k, noise=1.0, convention="absolute", inputs=torch.arange(3 * k) % k
        )
        yield f"{k} far clusters", found, math.log2(k), math.log2(k)


def test_brackets_contain_the_truth_in_every_exact_case() -> None:
    cases = list(exact_cases())
    assert len(cases) == 24
    for name, found, x, y in cases:
        assert found.y is not None
        for bits, truth in ((found.x, x), (found.y, y)):
            lower, upper = bits.bracket
            assert lower - 1e-5 <= truth <= upper + 1e-5, name
            assert 0 <= lower <= upper <= bits.ceiling, name


def test_normal_layer_with_noise_has_the_information_of_a_log_determinant() -> None:
    """For a normal T with covariance C, I(T+n; T) is 1/2 log2 det(I + C / sigma^2) in the limit of many rows."""
    scales = torch.tensor([1.5, 1.0, 0.5], dtype=torch.float64)
    truth = 0.5 * (1 + scales.square() / 0.6**2).log2().sum().item()
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=seeded(4), dtype=torch.float64))[0]
    errors = []
    for n in (100, 400, 1600, 6400):
        z = torch.randn(n, 3, generator=seeded(n), dtype=torch.float64) * scales @ rotation
        errors.append(read(z, None, 0.6, seed=9).x)
    assert abs(errors[-1].value - truth) < 3 * errors[-1].se + 0.02
    assert abs(errors[-1].value - truth) < abs(errors[0].value - truth)
    assert errors[-1].lower < truth < errors[-1].upper


@pytest.mark.parametrize("nu", [3, 8])
def test_student_t_pair_has_information_beyond_its_correlation(nu: int) -> None:
    def f(v: float) -> float:
        return gammaln(v / 2) - v / 2 * digamma(v / 2)

    rho = 0.6
    truth = (f(nu) + f(nu + 2) - 2 * f(nu + 1) - 0.5 * math.log(1 - rho**2)) / math.log(2)
    x, y = torch.randn(2, 4000, 1, generator=seeded(5), dtype=torch.float64)
    scale = (nu / torch.randn(4000, nu, generator=seeded(6), dtype=torch.float64).square().sum(1, keepdim=True)).sqrt()
    found = ksg_information(x * scale, (rho * x + math.sqrt(1 - rho**2) * y) * scale, generator=seeded(0))
    assert found.se is not None
    assert abs(found.value - truth) < 3 * found.se + 0.02
    assert found.value > -0.5 * math.log2(1 - rho**2)


def test_data_processing_inequality() -> None:
    """Fewer units, or fewer classes, have at most the same information. The bounds obey this too."""
    z, labels = torch.randn(300, 6, generator=seeded(1)), torch.arange(300) % 8
    z = z + 2 * torch.eye(8)[labels][:, :6]
    wholes = [read(z, labels, 0.8), *(read(z[:, :k], labels, 0.8) for k in (5, 3, 1))]
    for more, less in itertools.pairwise(wholes):
        assert more.y is not None
        assert less.y is not None
        for a, b in ((more.x, less.x), (more.y, less.y)):
            assert b.value < a.value + 3 * math.hypot(a.se, b.se)
        assert less.x.lower <= more.x.lower
        assert less.x.upper <= more.x.upper
    merged = read(z, labels // 2, 0.8).y
    assert merged is not None
    assert wholes[0].y is not None
    assert merged.value < wholes[0].y.value + 1e-9 + 3 * math.hypot(merged.se, wholes[0].y.se)
    assert merged.value <= merged.ceiling


def test_coarser_noise_reduces_the_information_and_the_chain_rule_holds() -> None:
    z, labels = corners(6, 9), torch.arange(64) // 8
    fine, coarse = read(z, labels, 0.7), read(z, labels, 1.1)
    assert coarse.x.value < fine.x.value
    for found in (fine, coarse):  # the chain rule
        assert found.y is not None
        assert found.x_given_y is not None
        assert found.x.value == pytest.approx(found.y.value + found.x_given_y.value, abs=1e-9)
