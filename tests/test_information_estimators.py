"""Compare the estimators of probe/information with independent truths: closed forms, other packages, naive twins."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from closed_forms import noisy_bit
from helpers import seeded
from scipy.special import digamma
from scipy.stats import norm
from sklearn.feature_selection import mutual_info_classif, mutual_info_regression
from torch import Tensor

from probe.information import (
    binned,
    binned_information,
    coding_rate,
    decodable_information,
    discrete_entropy,
    discrete_information,
    early_code_bins,
    equal_bins,
    gaussian_kernel,
    ksg_information,
    label_codes,
    matrix_entropy,
    principal_components,
    quantile_bins,
    renyi_information,
    ross_information,
    row_codes,
    weight_histogram_entropy,
    width_bins,
)

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=seeded(seed), dtype=torch.float64)


def clusters(k: int, n: int = 240, d: int = 5) -> tuple[Tensor, Tensor]:
    """Return distant clusters of equal size, and the cluster of each row."""
    labels = torch.arange(n) % k
    return 100 * normal(k, d, seed=1)[labels] + 1e-3 * normal(n, d), labels


def correlated(n: int, rho: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    both = normal(n, 2, seed=seed)
    return both[:, :1], rho * both[:, :1] + math.sqrt(1 - rho**2) * both[:, 1:]


# -- discrete variables --------------------------------------------------------------------------------------------


def test_entropy_of_equal_codes_and_of_weighted_ones() -> None:
    assert discrete_entropy(torch.arange(8)) == pytest.approx(3)
    assert discrete_entropy(torch.tensor([0, 1, 2]), torch.tensor([2.0, 1, 1])) == pytest.approx(1.5)
    assert discrete_entropy(torch.tensor([0, 0, 1, 2])) == pytest.approx(1.5)
    assert discrete_entropy(torch.tensor([0, 1]), torch.tensor([0, 7])) == 0


def test_information_of_codes() -> None:
    a, b = torch.arange(12) // 4, torch.arange(12) % 4
    assert discrete_information(a, b) == pytest.approx(0, abs=1e-12)
    assert discrete_information(a, a) == pytest.approx(math.log2(3))
    assert discrete_information(a, label_codes(4 * a + b)) == pytest.approx(math.log2(3))


def test_label_codes_refuse_real_numbers_and_matrices() -> None:
    assert label_codes(torch.tensor([7, -2, 7, 40])).tolist() == [1, 0, 1, 2]
    assert label_codes(torch.tensor([True, False])).tolist() == [1, 0]
    for wrong in (torch.zeros(3), torch.zeros(2, 2, dtype=torch.long)):
        with pytest.raises(ValueError, match="Expected integer labels"):
            label_codes(wrong)
    with pytest.raises(ValueError, match="Expected weights of at least 0"):
        discrete_entropy(torch.arange(2), torch.tensor([1.0, -1.0]))


# -- bins ----------------------------------------------------------------------------------------------------------


def test_bins_by_hand() -> None:
    z = torch.tensor([[-1.0, 3.0], [0.0, 3.0], [0.49, 3.0], [1.0, 3.0]])
    assert width_bins(z, 0.5).tolist() == [[-2, 6], [0, 6], [0, 6], [2, 6]]
    assert equal_bins(z, 4).tolist() == [[0, 0], [2, 0], [2, 0], [3, 0]]
    assert equal_bins(z, 2, low=0, high=1).tolist() == [
        [-1, 2],
        [0, 2],
        [0, 2],
        [2, 2],
    ]  # values outside have their own bins
    assert quantile_bins(z, 2).tolist() == [[0, 1], [0, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize("count", [1, 3, 7, 100])
def test_quantile_bins_are_equally_full(count: int) -> None:
    bins = quantile_bins(normal(100, 3), count)
    for unit in bins.unbind(1):
        full = unit.bincount(minlength=count)
        assert full.max() - full.min() <= 1


@pytest.mark.parametrize("rule", [lambda z: equal_bins(z, 9), lambda z: quantile_bins(z, 9)])
def test_scale_free_rules_do_not_depend_on_the_scale(rule: Callable[[Tensor], Tensor]) -> None:
    assert torch.equal(rule(normal(50, 4)), rule(1024 * normal(50, 4)))


def test_early_code_bins_agree_with_the_early_code() -> None:
    z = torch.cat([torch.linspace(-1.5, 1.5, 3001), torch.tensor([-1.0, 1.0, -7e9, 7e9])])
    edges = np.linspace(-1, 1, 30, dtype="float32")
    theirs = edges[np.digitize(z.numpy(), edges) - 1]
    assert np.array_equal(edges[early_code_bins(z).numpy()], theirs)
    assert early_code_bins(torch.tensor([-1.001, 1.0])).tolist() == [29, 29]  # both sides share one bin


def test_invalid_bins_raise() -> None:
    z = normal(4, 2)
    for make, message in [
        (lambda: width_bins(z, 0.0), "Expected a positive and finite width"),
        (lambda: width_bins(z, 1e-30), "pass a larger width"),
        (lambda: equal_bins(z, 0), "Expected n_bins between 1"),
        (lambda: equal_bins(z, 3, low=1.0), "Expected low < high"),
        (lambda: equal_bins(z, 3, low=1.0, high=1.0), "Expected low < high"),
        (lambda: quantile_bins(z, 0), "Expected n_bins between 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            make()


# -- binned information --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 5, 240])
def test_binned_rows_of_far_clusters_are_log2_of_their_number(k: int) -> None:
    z, labels = clusters(k)
    found = binned_information(width_bins(z + 0.5, 1.0), labels)
    assert found.x == pytest.approx(math.log2(k))
    assert found.y == pytest.approx(math.log2(k))
    assert (found.x_ceiling, found.y_ceiling) == pytest.approx((math.log2(240), math.log2(k)))
    assert found.saturated == (k == 240)


def test_binned_unit_has_the_entropy_of_a_normal_at_that_resolution() -> None:
    found = binned_information(width_bins(normal(100_000, 1), 0.1))
    assert found.x == pytest.approx(norm.entropy() / math.log(2) - math.log2(0.1), abs=0.013)  # 4 standard errors


def test_binned_rows_of_many_units_are_saturated_even_for_noise() -> None:
    found = binned_information(equal_bins(normal(500, 40), 30), torch.arange(500) % 5)
    assert (found.x, found.y) == pytest.approx((math.log2(500), math.log2(5)))  # although the rows are pure noise
    assert found.saturated


def test_binned_single_units_are_averaged_and_pooled() -> None:
    bins = torch.tensor([[0, 5], [0, 6], [1, 7], [1, 8]])
    units = binned_information(bins, torch.tensor([0, 0, 1, 1]), symbols="units")
    assert (units.x, units.y) == pytest.approx(((1 + 2) / 2, 1))
    pooled = binned_information(torch.tensor([[0, 1], [0, 1], [1, 1]]), symbols="pooled")
    assert pooled.entropy == pytest.approx(discrete_entropy(torch.tensor([0, 1, 0, 1, 1, 1])))
    assert pooled.x == pytest.approx(
        pooled.entropy - 2 / 3
    )  # given the input, two inputs leave one bit each, one leaves none


def test_repeated_inputs_count_by_frequency_and_noise_is_subtracted() -> None:
    inputs = torch.tensor([3, 3, 9, 10])
    certain = binned_information(torch.tensor([[0], [0], [1], [2]]), inputs=inputs)
    assert (certain.x, certain.x_ceiling) == pytest.approx((1.5, 1.5))
    noisy = binned_information(torch.tensor([[0], [1], [1], [2]]), inputs=inputs)
    assert noisy.x == pytest.approx(1.5 - 0.5)  # one half of the rows has one bit of noise


@pytest.mark.parametrize("width", [1, 3, 60])
def test_row_codes_are_exact(width: int) -> None:
    bins = torch.randint(-2, 2, (400, width), generator=seeded())
    bins[200:300] = bins[:100]
    found, truth = row_codes(bins), bins.unique(dim=0, return_inverse=True)[1]
    assert discrete_information(found, truth) == pytest.approx(discrete_entropy(truth))
    assert discrete_entropy(found) == pytest.approx(discrete_entropy(truth))


def test_row_codes_are_exact_after_a_hash_collision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binned, "label_codes", lambda hashes: torch.zeros_like(hashes))
    assert row_codes(torch.tensor([[1, 2], [3, 4], [1, 2]])).tolist() == [0, 1, 0]


def test_principal_components_keep_the_distances_of_a_planar_layer() -> None:
    plane = normal(50, 2, seed=3) * torch.tensor([5.0, 1.0])
    wide = plane @ torch.linalg.qr(normal(9, 9))[0][:2] + 4
    found = principal_components(wide, 2)
    assert torch.allclose(torch.cdist(found, found), torch.cdist(plane, plane), atol=1e-6)
    assert found.var(0)[0] > found.var(0)[1]
    for changed in (wide, -wide, wide.flip(1)):
        again = principal_components(changed, 2)
        assert torch.allclose(again.abs(), found.abs())
        assert (again.amax(0) > -again.amin(0)).all()
    with pytest.raises(ValueError, match="Expected n_components between 1 and"):
        principal_components(wide, 10)


def test_invalid_arguments_of_binned_information_raise() -> None:
    with pytest.raises(ValueError, match="Expected integer bins"):
        binned_information(normal(4, 2))
    with pytest.raises(ValueError, match="Expected symbols="):
        binned_information(torch.zeros(4, 2, dtype=torch.long), symbols="row")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="Expected 4 integers"):
        binned_information(torch.zeros(4, 2, dtype=torch.long), torch.zeros(3, dtype=torch.long))


# -- the histogram of weights --------------------------------------------------------------------------------------


def test_weight_histogram_of_standard_normals_equals_the_published_initial_value() -> None:
    inside = np.diff(norm.cdf(np.linspace(-1, 1, 30)))
    masses = np.append(inside, 1 - inside.sum())
    truth = -(masses * np.log2(masses)).sum()
    found = [weight_histogram_entropy(normal(12_544, seed=seed)) for seed in range(10)]
    assert truth == pytest.approx(4.204, abs=0.004)
    assert np.mean(found) == pytest.approx(truth, abs=0.02)
    assert weight_histogram_entropy(torch.zeros(3, 4)) == 0
    for wrong, message in (
        (torch.tensor([math.nan]), "Expected finite weights"),
        (torch.zeros(0), "Expected at least one weight"),
    ):
        with pytest.raises(ValueError, match=message):
            weight_histogram_entropy(wrong)


# -- coding rate ---------------------------------------------------------------------------------------------------


def hypercube(bits: int, d: int) -> tuple[Tensor, Tensor]:
    corners = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=bits)), dtype=torch.float64)
    return corners @ torch.linalg.qr(normal(d, d))[0][:bits] + 3, torch.arange(2**bits) // 2 ** (bits // 2)


@pytest.mark.parametrize("d", [8, 300])  # fewer and more than rows
@pytest.mark.parametrize("noise", [0.1, 1.0])
def test_coding_rate_of_the_hypercube(d: int, noise: float) -> None:
    z, labels = hypercube(8, d)
    found = coding_rate(z, labels, noise=noise)
    one = math.log2(1 + 1 / (8 * noise**2)) / 2  # of each of 8 independent directions
    assert found.x.item() == pytest.approx(8 * one)
    assert found.y is not None
    assert found.y.item() == pytest.approx(4 * one)
    assert 8 * noisy_bit(1 / (8 * noise**2)) <= found.upper <= found.x_ceiling == 8
    assert found.y_ceiling == pytest.approx(4)


def test_coding_rate_weights_classes_by_their_size() -> None:
    z, labels = normal(90, 4) * torch.tensor([1.0, 2, 3, 4]), (torch.arange(90) > 70).long() + (torch.arange(90) > 80)
    sigma2 = 0.04 * np.cov(z.numpy().T, bias=True).trace()

    def rate(part: Tensor) -> float:
        return np.linalg.slogdet(np.eye(4) + np.cov(part.numpy().T, bias=True) / sigma2)[1] / 2 / math.log(2)

    within = sum((labels == k).double().mean().item() * rate(z[labels == k]) for k in range(3))
    found = coding_rate(z, labels)
    assert found.y is not None
    assert (found.x.item(), found.y.item()) == pytest.approx((rate(z), rate(z) - within))


def test_coding_rate_can_exceed_the_ceiling_but_its_bound_cannot() -> None:
    found = coding_rate(normal(64, 64), noise=0.05)
    assert found.x.item() > 60
    assert found.upper == 6


def test_coding_rate_of_equal_rows_is_zero() -> None:
    z = torch.full((6, 3), 0.1, requires_grad=True)
    found = coding_rate(z, torch.arange(6) % 2)
    assert found.collapsed
    assert found.y is not None
    assert (found.x.item(), found.y.item()) == (0, 0)
    found.x.backward()
    assert z.grad is not None
    assert not z.grad.any()
    assert not coding_rate(normal(6, 3)).collapsed


def test_coding_rate_without_noise_raises() -> None:
    with pytest.raises(ValueError, match="Expected a positive and finite noise"):
        coding_rate(normal(4, 2), noise=0)


# -- Renyi ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0.5, 1.01, 2, 3])
def test_renyi_of_two_points_equals_the_closed_form(order: float) -> None:
    kappa = math.exp(-1 / (2 * 0.7**2))  # the median distance is the only one
    found = renyi_information(torch.tensor([[0.0, 1.0], [5.0, 1.0]]), order=order, width=0.7)
    powers = ((1 + kappa) / 2) ** order + ((1 - kappa) / 2) ** order
    assert found.x.item() == pytest.approx(math.log2(powers) / (1 - order))


@pytest.mark.parametrize("order", [1.01, 2])
@pytest.mark.parametrize("k", [2, 6])
def test_renyi_of_far_clusters_is_log2_of_their_number(order: float, k: int) -> None:
    z, labels = clusters(k, n=60)
    found = renyi_information(z, labels, order=order, width=0.05)
    assert found.y is not None
    assert [found.x.item(), found.y.item(), found.y_ceiling] == pytest.approx([math.log2(k)] * 3, abs=1e-4)
    nothing = renyi_information(z, torch.zeros(60, dtype=torch.long), order=order)
    assert nothing.y is not None
    assert nothing.y.item() == pytest.approx(0, abs=1e-9)


def test_kernel_width_is_relative_to_the_median_distance_of_different_rows() -> None:
    found = gaussian_kernel(torch.tensor([[0.0], [1.0], [3.0], [3.0]]), width=0.5)  # distances 1, 2, 2, 3, 3, and 0
    assert found[0].tolist() == pytest.approx([1, *(math.exp(-d * d / 2 / (0.5 * 2) ** 2) for d in (1, 3, 3))])


def test_renyi_of_order_two_agrees_with_eigenvalues_and_order_one_with_shannon() -> None:
    kernel = gaussian_kernel(normal(40, 6))
    assert matrix_entropy(kernel, order=2).item() == pytest.approx(
        matrix_entropy(kernel, order=2 + 1e-9).item(), abs=1e-6
    )
    shannon = matrix_entropy(kernel, order=1 + 1e-6).item()
    p = np.linalg.eigvalsh(kernel.numpy() / 40).clip(1e-300)
    assert shannon == pytest.approx(-(p * np.log2(p)).sum(), abs=1e-4)


def test_renyi_is_between_zero_and_its_ceilings() -> None:
    z, labels = normal(80, 6), torch.arange(80) % 4
    for order in (1.01, 2):
        found = renyi_information(z, labels, order=order)
        assert found.y is not None
        assert 0 <= found.y.item() <= min(found.x.item(), 2) + 1e-9
        assert found.x.item() <= found.x_ceiling == math.log2(80)


def test_renyi_of_equal_rows_is_zero() -> None:
    found = renyi_information(torch.full((6, 3), 0.1), torch.arange(6) % 2)
    assert found.collapsed
    assert found.x.item() == pytest.approx(0, abs=1e-9)
    assert not renyi_information(normal(6, 3)).collapsed


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda z: renyi_information(z, order=1), "Expected a positive order other than 1"),
        (lambda z: renyi_information(z, order=-1), "Expected a positive and finite order"),
        (lambda z: renyi_information(z, width=0), "Expected a positive and finite width"),
    ],
)
def test_invalid_order_or_width_raises(make: Callable[[Tensor], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(normal(5, 2))


# -- estimators with gradients -------------------------------------------------------------------------------------

DIFFERENTIABLE = [
    lambda z, y: coding_rate(z, y),
    lambda z, y: renyi_information(z, y, order=2),
    lambda z, y: renyi_information(z, y),
]


@pytest.mark.parametrize("measure", DIFFERENTIABLE)
def test_gradients_are_right(measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> None:
    z, labels = normal(9, 3).requires_grad_(), torch.arange(9) % 3
    assert torch.autograd.gradcheck(lambda z: measure(z, labels)[:2], (z,))


@pytest.mark.parametrize("measure", DIFFERENTIABLE)
def test_scale_shift_rotation_and_order_change_nothing(
    measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> None:
    z, labels, order = normal(60, 5), torch.arange(60) % 3, torch.randperm(60, generator=seeded())
    turned = 7 * z @ torch.linalg.qr(normal(5, 5, seed=2))[0] + 3
    for a, b in zip(measure(z, labels)[:2], measure(turned[order], 5 - labels[order])[:2], strict=True):
        assert a.item() == pytest.approx(b.item(), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("measure", DIFFERENTIABLE)
def test_lower_precision_is_upcast(
    measure: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], dtype: torch.dtype
) -> None:
    z, labels = normal(40, 5).to(dtype), torch.arange(40) % 3
    assert measure(z, labels)[0].item() == measure(z.double(), labels)[0].item()


# -- neighbours ----------------------------------------------------------------------------------------------------


def naive_ksg(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Return the estimate from all pairs, after the same scaling as in the function."""
    x, y = (v / v.std(0) for v in (x, y))
    sums = 0.0
    for i in range(len(x)):
        dx, dy = abs(x - x[i]).max(1), abs(y - y[i]).max(1)
        epsilon = np.sort(np.maximum(dx, dy))[k]
        sums += digamma(1 + (dx < epsilon).sum() - 1) + digamma(1 + (dy < epsilon).sum() - 1)
    return (digamma(k) + digamma(len(x)) - sums / len(x)) / math.log(2)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_ksg_agrees_with_a_naive_twin(k: int) -> None:
    x = normal(120, 3)
    y = x[:, :2] ** 2 + 0.5 * normal(120, 2, seed=1)
    assert ksg_information(x, y, n_neighbours=k).value == pytest.approx(naive_ksg(x.numpy(), y.numpy(), k))


def test_neighbours_agree_with_scikit_learn_on_single_features() -> None:
    x, y = correlated(400, 0.7)
    theirs = mutual_info_regression(x.numpy(), y[:, 0].numpy(), random_state=0)[0] / math.log(2)
    assert ksg_information(x, y).value == pytest.approx(theirs, abs=1e-3)  # scikit-learn adds noise
    labels = (y[:, 0] > 0).long()
    theirs = mutual_info_classif(x.numpy(), labels.numpy(), random_state=0)[0] / math.log(2)
    assert ross_information(x, labels).value == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_ksg_of_a_normal_pair_is_the_truth_within_its_error(rho: float) -> None:
    truth = -math.log2(1 - rho**2) / 2
    found = [ksg_information(*correlated(500, rho, seed=seed), generator=seeded(seed)) for seed in range(12)]
    values, errors = np.array([(f.value, f.se) for f in found]).T
    assert abs(values.mean() - truth) < 4 * values.std(ddof=1) / math.sqrt(12)
    assert np.sqrt((errors**2).mean()) == pytest.approx(values.std(ddof=1), rel=0.6)  # the error has the right size


def test_ross_of_a_noisy_bit_is_the_truth_within_its_error() -> None:
    labels = torch.arange(500) % 2
    values = []
    for seed in range(12):
        z = (2.0 * labels - 1)[:, None] + normal(500, 1, seed=seed)
        found = ross_information(z, labels)
        assert found.se is not None
        values.append((found.value, found.se))
    mean, error = np.array(values).T
    assert abs(mean.mean() - noisy_bit(1)) < 4 * mean.std(ddof=1) / math.sqrt(12)
    assert np.sqrt((error**2).mean()) == pytest.approx(mean.std(ddof=1), rel=0.6)


def test_ksg_is_low_in_many_dimensions_as_documented() -> None:
    """Normal vectors of 25 + 25 dimensions share 1.02 nats."""
    rho = math.sqrt(1 - math.exp(-2 * 1.02 / 25))
    x, noise = normal(1000, 25), normal(1000, 25, seed=1)
    found = ksg_information(x, rho * x + math.sqrt(1 - rho**2) * noise).value * math.log(2)
    assert found < 0.4


def test_neighbour_estimates_do_not_depend_on_units_or_order() -> None:
    x, y = correlated(200, 0.8)
    order = torch.randperm(200, generator=seeded())
    assert ksg_information(1024 * x[order] + 1, y[order] / 1024).value == pytest.approx(ksg_information(x, y).value)
    labels = (y[:, 0] > 0).long()
    assert ross_information(1024 * x[order], 3 - labels[order]).value == pytest.approx(
        ross_information(x, labels).value
    )


def test_few_rows_have_no_standard_error_and_repeated_rows_raise() -> None:
    x, y = correlated(6, 0.5)
    assert ksg_information(x, y).se is None
    assert ross_information(x, torch.tensor([0, 0, 0, 0, 1, 1]), n_neighbours=1).se is None
    x, y = correlated(400, 0.5)
    x[1] = x[0]
    assert ksg_information(x, y).repeated == pytest.approx(2 / 400)
    x[:40] = x[0]
    half = torch.arange(400) % 2
    for estimate in (lambda: ksg_information(x, y), lambda: ksg_information(y, x), lambda: ross_information(x, half)):
        with pytest.raises(ValueError, match="repeated rows"):
            estimate()


def test_invalid_arguments_of_neighbour_estimators_raise() -> None:
    x = normal(20, 2)
    for estimate, message in [
        (lambda: ksg_information(x, normal(19, 2)), "equally many rows"),
        (lambda: ksg_information(x, torch.zeros(20, 1)), "Expected rows of y that differ"),
        (lambda: ksg_information(x, x[:, :1], n_neighbours=20), "less than the number of rows, 20"),
        (lambda: ksg_information(x, x[:, :1], n_neighbours=0), "Expected n_neighbours of at least 1"),
        (lambda: ross_information(x, torch.arange(20)), "rows in each class, 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            estimate()


# -- decodable information -----------------------------------------------------------------------------------------


def test_decodable_information_of_a_linear_target_is_tight() -> None:
    """The true posterior of a bit in normal noise is logistic, so the bound is tight."""
    labels = torch.arange(2000) % 2
    z = torch.cat([(2.0 * labels - 1)[:, None] + normal(2000, 1), normal(2000, 2, seed=1)], 1)
    found = decodable_information(z, labels)
    assert abs(found.raw - noisy_bit(1)) < 4 * found.se
    assert found.value == found.raw
    assert found.ceiling == 1
    assert found.converged


def test_decodable_information_of_distant_clusters_is_near_its_ceiling() -> None:
    z, labels = clusters(4)
    found = decodable_information(z, labels, inverse_penalty=1e4)
    assert 1.98 < found.value <= 2 == found.ceiling


def test_decodable_information_of_independent_targets_is_zero() -> None:
    found = decodable_information(normal(200, 10), torch.arange(200) % 3)
    assert found.value == 0 > found.raw
    regression = decodable_information(normal(200, 10), normal(200, seed=1), continuous=True)
    assert regression.value < 0.02
    one = decodable_information(normal(20, 3), torch.zeros(20, dtype=torch.long))
    assert (one.value, one.ceiling) == (0, 0)


def test_decodable_information_misses_a_nonlinear_target() -> None:
    z = normal(500, 2)
    labels = (z[:, 0] * z[:, 1] > 0).long()  # exclusive or: the rows contain one bit
    assert decodable_information(z, labels).value < 0.05
    assert ross_information(z, labels).value > 0.5


@pytest.mark.parametrize("change", [lambda y: y, torch.exp, lambda y: -(y**3)])
def test_decodable_information_of_a_normal_target_is_invariant_under_monotone_maps(
    change: Callable[[Tensor], Tensor],
) -> None:
    z, y = correlated(2000, 0.8)
    found = decodable_information(z, change(y[:, 0]), continuous=True)
    assert abs(found.raw + math.log2(1 - 0.64) / 2) < 4 * found.se
    assert found.se < 0.1
    assert found.ceiling is None


def test_a_fit_that_does_not_converge_sets_the_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    z, labels = clusters(4)
    monkeypatch.setattr("probe.information.decodable._ITERATIONS", 1)
    assert not decodable_information(z, labels, inverse_penalty=1e6).converged


@pytest.mark.parametrize("continuous", [False, True])
def test_decodable_standard_error_has_the_right_size(continuous: bool) -> None:
    found = []
    for seed in range(15):
        z, y = correlated(300, 0.8, seed=seed)
        target = y[:, 0] if continuous else (y[:, 0] > 0).long()
        found.append(decodable_information(z, target, continuous=continuous))
    errors = np.sqrt(np.mean([f.se**2 for f in found]))
    assert errors == pytest.approx(np.std([f.raw for f in found], ddof=1), rel=0.6)


@pytest.mark.parametrize(
    ("targets", "kwargs", "message"),
    [
        (torch.arange(20) % 2, {"n_folds": 1}, "Expected n_folds between"),
        (torch.arange(20) % 7, {}, "at least 5 rows"),
        (torch.linspace(0, 1, 20), {}, "Expected 20 integers"),
        (torch.linspace(0, 1, 19), {"continuous": True}, "Expected 20 finite numbers"),
        (torch.full((20,), math.nan), {"continuous": True}, "Expected 20 finite numbers"),
        (torch.arange(20.0) // 2, {"continuous": True}, "Expected continuous targets"),
    ],
)
def test_invalid_targets_raise(targets: Tensor, kwargs: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decodable_information(normal(20, 3), targets, **kwargs)


# -- errors of all estimators --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "measure",
    [
        coding_rate,
        renyi_information,
        lambda z: principal_components(z, 1),
        lambda z: ksg_information(z, z),
        lambda z: ross_information(z, torch.arange(len(z)) % 2),
        lambda z: decodable_information(z, torch.arange(len(z)) % 2),
        lambda z: width_bins(z, 1.0),
        lambda z: equal_bins(z, 3),
        lambda z: quantile_bins(z, 3),
    ],
)
@pytest.mark.parametrize(
    ("z", "message"),
    [
        (torch.tensor([[0.0], [math.nan]]), "NaN or infinite"),
        (torch.zeros(1, 3), "n >= 2"),
        (torch.zeros(4), "shape"),
        (torch.zeros(4, 0), "d >= 1"),
    ],
)
def test_invalid_rows_raise(measure: Callable[[Tensor], object], z: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(z)
