"""Random batches and masks: reproducible, uniform and independent within sampling errors.

All seeds are fixed, so that the statistics are the same in every run of the tests.
"""

import math

import pytest
import torch

from reference.training import Draws, hashed_masks, masks

SIGMAS = 4


pytestmark = pytest.mark.usefixtures("global_random_state_untouched")


def draws(seed: int = 0, **options: int) -> Draws:
    return Draws(seed, **{"n_rows": 97, "batch_size": 64, "n_masks": 9} | options)


# Rows and keys


def test_a_step_draws_the_same_after_any_other_calls():
    whole = draws()
    rows, keys = whole.rows(0, 400), whole.keys(0, 400)
    assert rows.shape == (400, 64)
    assert rows.dtype == torch.int64
    assert keys.shape == (400, 9, 2)
    assert keys.dtype == torch.int32
    other = draws()
    for step, n in ((390, 10), (0, 1), (127, 2), (255, 1), (3, 300), (128, 128), (256, 1), (399, 1)):
        assert torch.equal(other.rows(step, n), rows[step : step + n])
        assert torch.equal(other.keys(step, n), keys[step : step + n])
    assert torch.equal(draws().rows(10**6), whole.rows(10**6))


def test_returned_tensors_can_be_changed():
    """A training loop may change its batch in place; the next call returns the drawn values."""
    one = draws()
    expected = one.rows(5, 2).clone(), one.keys(5, 2).clone()
    one.rows(5, 2).zero_()
    one.keys(5, 2).zero_()
    assert torch.equal(one.rows(5, 2), expected[0])
    assert torch.equal(one.keys(5, 2), expected[1])


def test_without_replacement_an_epoch_has_each_row_once():
    one = draws(n_rows=200, batch_size=64, replacement=False)  # three batches an epoch, 8 rows left over
    rows = one.rows(0, 300)
    assert rows.shape == (300, 64)
    epochs = rows.view(100, 192)
    assert all(len(epoch.unique()) == 192 for epoch in epochs)
    assert rows.min() == 0
    assert rows.max() == 199
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == 100
    assert torch.equal(one.rows(137, 5), rows[137:142])
    assert not torch.equal(draws(1, n_rows=200, batch_size=64, replacement=False).rows(0), rows[:1])
    # every epoch drops other rows: each row 4 % of the time
    assert rows.flatten().bincount(minlength=200).float().div(100).sub(0.96).abs().max() < 0.1
    assert torch.equal(one.keys(7), draws(n_rows=200, batch_size=64).keys(7))
    with pytest.raises(ValueError, match="at most 20 training pairs without replacement, got 64"):
        draws(n_rows=20, batch_size=64, replacement=False)


def test_no_two_steps_or_seeds_draw_the_same():
    found = [draw for seed in range(5) for draw in draws(seed).rows(0, 300)]
    assert len({tuple(row.tolist()) for row in found}) == 1500
    found = [key for seed in range(5) for key in draws(seed).keys(0, 300).flatten(0, 1)]
    assert len({tuple(key.tolist()) for key in found}) == 5 * 300 * 9


@pytest.mark.parametrize("n_rows", [2, 97, 3648])
def test_rows_are_uniform(n_rows):
    drawn = draws(n_rows=n_rows, batch_size=512).rows(0, 200).flatten()
    counts = drawn.bincount(minlength=n_rows)
    assert len(counts) == n_rows  # none beyond the last, and bincount raises for negative numbers
    expected = len(drawn) / n_rows
    statistic = ((counts - expected) ** 2 / expected).sum().item()  # chi-square
    assert abs(statistic - (n_rows - 1)) < SIGMAS * math.sqrt(2 * (n_rows - 1))


def test_rows_do_not_depend_on_their_neighbours():
    drawn = draws(batch_size=512).rows(0, 200).double()
    drawn = (drawn - 48) / math.sqrt((97**2 - 1) / 12)  # mean 0 and variance 1
    other = (draws(1, batch_size=512).rows(0, 200).double() - 48) / math.sqrt((97**2 - 1) / 12)
    for one, two in ((drawn[:, 1:], drawn[:, :-1]), (drawn[1:], drawn[:-1]), (drawn, other)):
        assert abs((one * two).mean().item()) * math.sqrt(one.numel()) < SIGMAS


def test_bits_of_the_keys_are_fair_and_independent():
    keys = draws().keys(0, 500).flatten(0, 1)  # (4500, 2)
    bits = (keys[..., None] >> torch.arange(32)).flatten(1) & 1  # (4500, 64)
    signs = 2 * bits.double() - 1
    n = len(signs)
    correlations = (signs.T @ signs / n - torch.eye(64)) * math.sqrt(n)
    assert (signs.mean(0) * math.sqrt(n)).abs().max() < SIGMAS
    assert correlations.abs().max() < SIGMAS + 1  # the largest of 2,016
    assert correlations.square().sum() / (64 * 63) == pytest.approx(1, abs=0.15)


def test_the_numbers_never_change():
    """With other numbers, recorded runs cannot be repeated or resumed."""
    one = Draws(0, n_rows=3648, batch_size=512, n_masks=9)
    assert one.rows(0)[0, :8].tolist() == [42, 881, 406, 2058, 1832, 1012, 3452, 3597]
    assert one.rows(1000)[0, :4].tolist() == [302, 2962, 2120, 2606]
    assert one.keys(0)[0, :2].tolist() == [[-1323274377, -1530568577], [-1948257791, 272850629]]
    assert Draws(1, n_rows=3648, batch_size=512, n_masks=9).rows(0)[0, :4].tolist() == [1107, 3096, 569, 113]
    assert kept(masks(one.keys(0)[0, :1], iter([(24,)]), 0.5)[0]) == ".xxxxx.x.xx..x..xxx.xxx."
    assert kept(hashed_masks(one.keys(0)[0, :1], iter([(24,)]), 0.5)[0]) == "x..x...x.xxx.xx........x"


def test_dropout_does_not_change_the_batches():
    with_masks, without = (Draws(5, n_rows=100, batch_size=8, n_masks=n) for n in (9, 0))
    assert torch.equal(with_masks.rows(120, 20), without.rows(120, 20))


# Masks


def kept(mask: torch.Tensor) -> str:
    return "".join("x" if value else "." for value in mask.flatten().tolist())


both = pytest.mark.parametrize("make", [masks, hashed_masks])
rates = pytest.mark.parametrize("rate", [0.1, 0.5])


def made(make, rate: float, *, n: int = 1024, steps: int = 600, sites: int = 2, seed: int = 0) -> torch.Tensor:
    """Return which elements are not dropped, scaled to mean 0 and variance 1: `(steps, sites, n)`."""
    keys = draws(seed, n_masks=sites).keys(0, steps)
    found = torch.stack([torch.stack(make(key, iter([(n,)] * sites), rate)) for key in keys])
    return ((found > 0).double() - (1 - rate)) / math.sqrt(rate * (1 - rate))


def correlated(one: torch.Tensor, two: torch.Tensor) -> float:
    """Return deviations in standard errors."""
    return abs((one * two).mean().item()) * math.sqrt(one.numel())


@both
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.25, 0.5, 0.9])
def test_masks_are_0_at_the_rate_and_otherwise_its_inverse(make, rate):
    shapes = [(64, 4, 32), (64, 1, 4, 4), (3,)]
    found = make(draws(n_masks=3).keys(7)[0], iter(shapes), rate)
    assert [tuple(mask.shape) for mask in found] == shapes
    assert {mask.dtype for mask in found} == {torch.float32}
    values = found[0].unique().tolist()
    assert values == pytest.approx([0, 1 / (1 - rate)])
    dropped = (found[0] == 0).double().mean().item()
    assert abs(dropped - rate) < SIGMAS * math.sqrt(rate * (1 - rate) / 8192)
    assert abs((found[0].double().mean().item() - 1) * math.sqrt(8192)) < SIGMAS * math.sqrt(rate / (1 - rate))


@both
def test_mask_is_a_function_of_its_keys(make):
    keys = draws(n_masks=2).keys(3)[0]
    shapes = [(50,), (50,)]
    one, two = make(keys, iter(shapes), 0.5)
    assert torch.equal(make(keys[1:], iter(shapes[1:]), 0.5)[0], two)
    assert not torch.equal(one, two)
    for which in (0, 1):  # both keys have an effect
        changed = keys.clone()
        changed[0, which] += 2
        assert not torch.equal(make(changed, iter(shapes), 0.5)[0], one)


@both
@rates
def test_every_element_is_dropped_as_often(make, rate):
    found = made(make, rate)[:, 0]
    for dim, count in ((0, found.shape[0]), (1, found.shape[1])):  # by element, and by mask
        z = found.mean(dim) * math.sqrt(count)
        assert z.abs().max() < SIGMAS + 1  # the largest of a thousand
        assert abs(z.square().mean().item() - 1) < SIGMAS * math.sqrt(2 / z.numel())
    assert abs(found.mean().item()) * math.sqrt(found.numel()) < SIGMAS


@both
@rates
def test_masks_are_independent(make, rate):
    found = made(make, rate)
    for lag in (1, 2, 3, 4, 8, 16, 32, 64, 128, 512):
        assert correlated(found[..., lag:], found[..., :-lag]) < SIGMAS, f"elements {lag} apart"
    for lag in (1, 2, 3):
        assert correlated(found[lag:], found[:-lag]) < SIGMAS, f"steps {lag} apart"
    assert correlated(found[:, 0], found[:, 1]) < SIGMAS, "sites"
    assert correlated(found, made(make, rate, seed=1)) < SIGMAS, "seeds"


@both
def test_pairs_of_elements_are_independent(make):
    found = made(make, 0.5, n=512)[:, 0]
    z = found.T @ found / math.sqrt(len(found))
    pairs = z[torch.ones_like(z).triu(1).bool()]
    assert pairs.square().mean() == pytest.approx(1, abs=0.02)
    assert pairs.abs().max() < 6  # of 130,816


def test_hashed_masks_are_the_same_for_many_at_once():
    """The ensemble draws the masks of all members by `vmap`."""
    keys = torch.stack([draws(seed, n_masks=2).keys(0)[0] for seed in range(3)])
    shapes = [(6, 5), (7,)]
    together = torch.func.vmap(lambda key: hashed_masks(key, iter(shapes), 0.3))(keys)
    for i, key in enumerate(keys):
        for one, many in zip(hashed_masks(key, iter(shapes), 0.3), together, strict=True):
            assert torch.equal(one, many[i])
