from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probe import PerformanceProbe
from probe.errors import ProbeWarning
from probe.forward import Batch, score_rows

LOG = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2]]).log()  # logits of these probabilities


def table(*rows: tuple[float, float, float]) -> Tensor:
    return torch.tensor(rows)


@pytest.mark.parametrize("shift", [0.0, 100.0])
def test_cross_entropy_is_minus_the_log_of_the_probability_in_nats(shift: float) -> None:
    found = score_rows(LOG + shift, torch.tensor([0, 2, 0]))
    expected = table((0.693147, 1, 1), (0.223144, 1, 1), (1.609438, 0, 1))  # ln 2, ln 1.25, ln 5
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_one_logit_is_binary(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """The probabilities of 1 are 3/5, 3/5, 1/5, 1/5."""
    logits = torch.tensor([1.5, 1.5, 0.25, 0.25]).log().reshape(shape)
    found = score_rows(logits, torch.tensor([1, 0, 0, 1]).to(dtype))
    losses = -torch.tensor([0.6, 0.4, 0.8, 0.2]).log()
    torch.testing.assert_close(found, torch.stack([losses, torch.tensor([1.0, 0, 1, 0]), torch.ones(4)], 1))


def test_several_labels_of_a_row_are_each_an_answer() -> None:
    found = score_rows(torch.tensor([[0.0, 9.0], [0.0, -9.0]]), torch.tensor([[1, 1], [0, 1]]))
    assert found[:, 1:].tolist() == [[1, 2], [1, 2]]
    assert found[:, 0].tolist() == pytest.approx([0.693271, 0.693147 + 9.000123], rel=1e-5)


def test_positions_without_a_target_do_not_count() -> None:
    outputs = torch.cat([LOG, LOG[:1]]).expand(2, 4, 3)  # (n, T, K)
    targets = torch.tensor([[0, 2, -100, -100], [-100] * 4])
    found = score_rows(outputs, targets)
    torch.testing.assert_close(score_rows(outputs.movedim(-1, 1), targets), found)  # (n, K, T)
    torch.testing.assert_close(found, table((0.916291, 2, 2), (0, 0, 0)), rtol=1e-4, atol=1e-5)  # ln 2 + ln 1.25


def test_one_target_for_a_sequence_is_that_of_the_last_position() -> None:
    found = score_rows(LOG.expand(2, 3, 3), torch.tensor([1, 0]))
    torch.testing.assert_close(found, table((0.510826, 1, 1), (1.609438, 0, 1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [((2, 2), (2, 2)), ((2, 1), (2,)), ((2,), (2, 1)), ((2, 2, 1), (2, 2)), ((2, 4), (2, 2, 2)), ((2, 2, 2), (2, 4))],
)
def test_a_regression_is_a_mean_square_without_broadcasting(outputs: tuple[int, ...], targets: tuple[int, ...]) -> None:
    n = int(np.prod(outputs))
    found = score_rows(torch.arange(n).float().reshape(outputs), torch.zeros(targets))
    expected = np.square(np.arange(n)).reshape(2, -1).mean(1)
    assert found[:, 0].tolist() == expected.tolist()
    assert torch.isnan(found[:, 1]).all()


@pytest.mark.parametrize("targets", [torch.tensor([[1.0], [0.0]]), torch.tensor([[1.0 + 0j], [0j]])])
def test_the_error_of_complex_outputs_is_their_distance(targets: Tensor) -> None:
    """|3i - 1|^2 = 10 and |2|^2 = 4; the real part of the square is -8."""
    assert score_rows(torch.tensor([[3j], [2.0 + 0j]]), targets)[:, 0].tolist() == [10, 4]


def test_half_precision_is_scored_in_float32_and_float64_is_kept() -> None:
    assert score_rows(LOG.half(), torch.tensor([0, 2, 0])).dtype == torch.float32
    assert score_rows(LOG.double(), torch.tensor([0, 2, 0])).dtype == torch.float64


@pytest.mark.parametrize(
    ("outputs", "targets", "message"),
    [
        (
            torch.zeros(4, 5, 3),
            torch.zeros(4, 6).long(),
            r"got outputs of shape \(4, 5, 3\) and integer targets of shape",
        ),
        (torch.zeros(4, 3), torch.zeros(4, 2).long(), r"got outputs of shape \(4, 3\)"),
        (torch.zeros(4, 3, 8, 7), torch.zeros(4, 8, 8).long(), r"got outputs of shape \(4, 3, 8, 7\)"),
        (torch.zeros(4, 8, 8), torch.zeros(4, 8).long(), "ambiguous shape .*score="),
        (torch.zeros(4, 3), torch.zeros(4), "class labels as integers"),
        (torch.zeros(4, 3, 2), torch.zeros(4, 2, 3), "in the same order"),
        (torch.zeros(4, 5, 5, 3), torch.zeros(4, 3, 5, 5), "in the same order"),
        (torch.zeros(4, 3), torch.tensor([0, 1, 2, 3]), "classes from 0 to 2 .* got the target 3"),
        (torch.zeros(4, 3), torch.tensor([0, 1, -1, 2]), "got the target -1"),
        (
            torch.zeros(4, 1),
            torch.tensor([0, 1, 2, 3]),
            r"targets 0 or 1 .* got targets from 0 to 3.*targets.float\(\)",
        ),
    ],
)
def test_shapes_that_do_not_fit_say_so(outputs: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        score_rows(outputs, targets)


def fixed(rows: Tensor) -> nn.Module:
    """A model that looks its outputs up: ``model(i)`` is ``rows[i]``."""
    return nn.Embedding.from_pretrained(rows)


def test_losses_and_accuracies_are_means_over_the_answers_of_a_split() -> None:
    data = {"train": (torch.arange(3), torch.tensor([0, 2, 0])), "test": (torch.arange(1, 3), torch.tensor([2, 1]))}
    probe = PerformanceProbe().attach(fixed(LOG), data, batch_size=2).observe(0).detach()
    first = probe.series_.isel(step=0)
    assert first["train_loss"].item() == pytest.approx((0.693147 + 0.223144 + 1.609438) / 3, rel=1e-5)
    assert first["train_accuracy"].item() == pytest.approx(2 / 3)
    assert first["test_accuracy"].item() == 1
    assert first["train_loss"].attrs["units"] == "nats"
    assert first["nonfinite_outputs"].values.tolist() == [0, 0]


@pytest.mark.parametrize(("targets", "chance"), [([0, 1, 1, 1], 0.75), ([[0, -100], [0, 1], [1, 2], [-100, 0]], 0.5)])
def test_chance_is_the_share_of_the_largest_class(targets: Any, chance: float) -> None:
    targets = torch.tensor(targets)
    model = (
        fixed(torch.zeros(4, 3))
        if targets.ndim == 1
        else nn.Sequential(fixed(torch.zeros(4, 6)), nn.Unflatten(1, (2, 3)))
    )
    accuracy = PerformanceProbe().fit(model, (torch.arange(4), targets)).series_["all_accuracy"]
    assert accuracy.attrs["chance"] == chance
    assert accuracy.attrs["n"] == (targets != -100).sum()


def test_chance_of_sequences_counts_what_their_positions_show() -> None:
    """A model of "12+07=19" that has learnt the format only, but no sum, does not exceed chance."""
    rng = torch.Generator().manual_seed(0)
    ends = torch.tensor([2, 0]).repeat(4000, 1)  # as newline, and as padding that does not count
    ends[:, 1] = -100
    digits = torch.randint(2, (4000, 2), generator=rng) * torch.tensor([1, 0]) + torch.tensor([0, 1])
    targets = torch.cat([digits, ends], 1)  # a coin, then 1, then 2
    assert Batch(torch.zeros(4000), targets).chance == pytest.approx((0.5 + 1 + 1) / 3, abs=0.01)
    fair = torch.randint(10, (4000, 3), generator=rng)  # positions show nothing
    assert Batch(torch.zeros(4000), fair).chance == pytest.approx(0.1, abs=0.01)
    few = torch.arange(24).reshape(8, 3)  # a position has a most frequent class in its own rows only
    assert Batch(torch.zeros(8), few).chance == pytest.approx(1 / 24)


def test_a_split_without_targets_has_no_loss() -> None:
    data = {"train": (torch.arange(3), torch.tensor([0, 2, 0])), "free": (torch.arange(3), None)}
    series = PerformanceProbe().fit(fixed(LOG), data).series_
    assert "free_loss" not in series
    assert series["nonfinite_outputs"].isel(step=0).values.tolist() == [0, -1]


def test_a_regression_has_no_accuracy() -> None:
    series = PerformanceProbe().fit(fixed(LOG), (torch.arange(3), torch.zeros(3, 3))).series_
    assert "all_loss" in series
    assert "all_accuracy" not in series


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_flagged(value: float) -> None:
    rows = LOG.clone()
    rows[1] = value
    with pytest.warns(ProbeWarning, match="Expected a finite all loss"):
        series = PerformanceProbe().fit(fixed(rows), (torch.arange(3), torch.tensor([0, 2, 0]))).series_
    assert series["nonfinite_outputs"].item() == 1
    assert np.isnan(series["all_loss"].item())
    assert np.isnan(series["all_accuracy"].item())


def test_a_loss_that_stays_infinite_is_one_warning() -> None:
    probe = PerformanceProbe().attach(fixed(LOG * np.nan), (torch.arange(3), torch.tensor([0, 2, 0])))
    with pytest.warns(ProbeWarning, match="a finite all loss"):
        probe.observe(0)
    probe.observe(1)  # a further warning is an error


def test_a_split_without_a_target_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected a target to score in split 'all', got -100 for all"):
        PerformanceProbe().fit(fixed(LOG), (torch.arange(3), torch.full((3,), -100)))


def test_an_own_score_replaces_the_default() -> None:
    def score(outputs: Tensor, targets: Tensor) -> Tensor:
        return torch.stack([outputs[:, 0], targets.double(), torch.full((len(outputs),), 2.0)], 1)

    model = fixed(torch.tensor([[1.0], [2.0], [6.0]]))
    series = PerformanceProbe(score=score).fit(model, (torch.arange(3), torch.tensor([1, 1, 1]))).series_
    assert series["all_loss"].item() == 1.5
    assert series["all_accuracy"].item() == 0.5
