"""The table of markers, the statuses, and the crossing of a threshold."""

from dataclasses import fields, replace

import matplotlib.pyplot as plt
import numpy as np
import pytest

from probe import Marker, PhaseDetector
from probe.phases import MARKERS, MarkerKind, Status, check_curve, second_descent, sustained_crossing
from probe.phases.markers import table
from probe.stats import median_step

STEPS = np.arange(0, 4000, 100.0)


# --- the table -------------------------------------------------------------------------------------------------------


def half_loss(steps: np.ndarray, loss: np.ndarray, settings: table.Settings) -> Marker:
    """Find where the train loss has lost half of its first value: a marker that a user may add."""
    return sustained_crossing(steps, -loss, -loss[0] / 2, n_sustained=settings.n_sustained, name="- train_loss")


HALF = MarkerKind(
    name="half_loss",
    rules={"train_loss": half_loss},
    sentence="the train loss is halved",
    negation="the train loss is not halved",
    colour="#123456",
    peak=False,
)


def curves(n_runs: int) -> dict[str, np.ndarray]:
    accuracy, loss = np.minimum(1, STEPS / 1000), np.exp(-STEPS / 1000)  # the loss is halved at 693
    noise = 0.001 * np.random.default_rng(0).standard_normal((n_runs, len(STEPS)))
    runs = {"step": STEPS, "train_accuracy": np.tile(accuracy, (n_runs, 1)), "train_loss": loss + noise}
    return runs if n_runs > 1 else {name: curve if name == "step" else curve[0] for name, curve in runs.items()}


@pytest.mark.parametrize("n_runs", [1, 4])
def test_a_sixth_marker_is_one_entry(monkeypatch: pytest.MonkeyPatch, n_runs: int) -> None:
    monkeypatch.setattr(table, "MARKERS", (*MARKERS, HALF))
    detector = PhaseDetector().fit(curves(n_runs))
    one = detector.markers_.sel(marker="half_loss")
    assert one["step"].values.tolist() == [700] * n_runs
    assert (one["label"], one["colour"]) == ("half loss", "#123456")
    assert "the train loss is halved at step 700" in detector.summary()
    assert (detector.alignment_["order"].sel(pair="fit_end - half_loss") == "after").all()
    assert detector.score(curves(n_runs), {"half_loss": 700}) == 0
    if n_runs > 1:
        assert float(detector.across_["median"].sel(marker="half_loss")) == pytest.approx(700)
        assert detector.across_["test_status"].sel(marker="half_loss") == "undefined"
    figure = detector.plot()
    plt.close(figure)


def test_a_sixth_marker_that_is_a_peak_is_tested_over_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = replace(HALF, peak=True)
    monkeypatch.setattr(table, "MARKERS", (*MARKERS, kind))
    detector = PhaseDetector().fit(curves(4))
    assert detector.across_["test_status"].sel(marker="half_loss") == "absent"
    _, _, line = detector.summary().partition("All 4 runs together do not show that the train loss is halved (p ")
    assert line.partition("); ")[2].startswith("the test is for a rise and fall at one time.\n")


@pytest.mark.parametrize("missing", [field.name for field in fields(MarkerKind)])
def test_an_incomplete_entry_is_an_error(missing: str) -> None:
    entry = {field.name: getattr(HALF, field.name) for field in fields(MarkerKind) if field.name != missing}
    with pytest.raises(TypeError, match=missing):
        MarkerKind(**entry)


def test_labels_and_colours_are_coordinates() -> None:
    markers = PhaseDetector().fit(curves(2)).markers_
    assert markers["label"].dims == markers["colour"].dims == ("marker",)
    assert markers["label"].values.tolist() == [kind.label for kind in MARKERS]
    assert markers["colour"].values.tolist() == [kind.colour for kind in MARKERS]
    assert len({kind.colour for kind in MARKERS}) == len({kind.name for kind in MARKERS}) == len(MARKERS)


@pytest.mark.parametrize("status", Status)
def test_each_status_has_words_in_the_summary(monkeypatch: pytest.MonkeyPatch, status: Status) -> None:
    found = {"step": 700.0, "lower": 600.0, "upper": 700.0} if status == "found" else {}

    def rule(steps: np.ndarray, loss: np.ndarray, settings: table.Settings) -> Marker:
        return Marker(status, "planted", reason="planted", **found)

    kind = replace(HALF, rules={"train_loss": rule})
    monkeypatch.setattr(table, "MARKERS", (*MARKERS, kind))
    for n_runs in (1, 2):
        detector = PhaseDetector().fit(curves(n_runs))
        assert detector.markers_["status"].sel(marker="half_loss").values.tolist() == [status.value] * n_runs
        text = detector.summary()
        assert "the train loss is halved" in text or "the train loss is not halved" in text


def test_a_status_is_its_string() -> None:
    assert Marker("found", "rule").status is Status.FOUND
    assert Status.FOUND == "found"
    with pytest.raises(ValueError, match="lost"):
        Marker("lost", "rule")


# --- crossings -------------------------------------------------------------------------------------------------------


def test_crossing_is_the_first_of_three_in_a_row() -> None:
    marker = sustained_crossing([0, 1, 2, 3, 4, 5, 6, 7], [0, 0.99, 0, 1, np.nan, 1, 1, 0], 0.99)
    assert (marker.status, marker.step, marker.lower, marker.upper) == ("found", 3, 2, 3)
    assert marker.rule == "value >= 0.99 at 3 observations in a row"


@pytest.mark.parametrize(
    ("values", "status", "reason"),
    [
        ([1, 1, 1, 0], "left_censored", "first observation"),
        ([0, 1, 1, 0], "right_censored", "ends at 0, below 0.5, at the last observation, at 4; train for longer"),
        ([0, 0, 1, 1], "right_censored", "holds at the last 2 observations only, and 3 in a row are needed"),
        ([0, 0, 0, 1], "right_censored", "holds at the last observation only, and 3 in a row are needed"),
        ([0, np.nan, np.nan, 1], "undefined", "2 valid"),
    ],
)
def test_statuses_of_a_crossing_that_is_not_found(values: list[float], status: str, reason: str) -> None:
    marker = sustained_crossing([1, 2, 3, 4], values, 0.5)
    assert marker.status == status
    assert reason in marker.reason
    assert np.isnan(marker.step)


LOG_STEPS = np.geomspace(1, 1e4, 81)
DECADES = np.log10(LOG_STEPS)
WHITE = 0.005 * np.random.default_rng(0).standard_normal(81)


@pytest.mark.parametrize(
    ("accuracy", "status", "reason"),
    [
        (np.minimum(DECADES / 2, 1) * 0.8, "not_reached", "settled at 0.8; lower the threshold of 0.99"),
        (np.minimum(DECADES / 2, 1) * 0.8 + WHITE, "not_reached", "settled at"),
        (np.interp(DECADES, [0, 2, 4], [0, 0.9, 0.7]), "not_reached", "falls from its best value, 0.89 at 100, to 0.7"),
        (DECADES / 5, "right_censored", "and still rises; train for longer"),
        (np.interp(DECADES, [0, 1, 2, 4], [0, 0.8, 0.5, 0.9]), "right_censored", "and still rises"),  # after a dip
        (0.1 + WHITE, "right_censored", "may still rise; train for longer"),  # as before delayed generalisation
        (np.interp(DECADES, [0, 3.8, 4], [0, 0.8, 0.8]), "right_censored", "and still rises"),  # level for too short
    ],
)
def test_a_threshold_that_is_not_reached_is_not_one_that_may_come(
    accuracy: np.ndarray, status: str, reason: str
) -> None:
    marker = sustained_crossing(LOG_STEPS, accuracy, 0.99)
    assert (marker.status, np.isnan(marker.step)) == (status, True)
    assert reason in marker.reason
    thinned = sustained_crossing(LOG_STEPS[::10], accuracy[::10], 0.99)
    assert thinned.status == "right_censored"  # 9 observations do not show it


def test_a_marker_that_is_not_reached_has_no_time() -> None:
    """It counts as later than the record in a median, and has no order and no distance."""
    times = {"step": [100, 300, 500, np.nan, np.nan], "status": ["found"] * 3 + ["not_reached"] * 2}
    at = np.array(times["step"])
    median = median_step(at, at, at, times["status"], first_step=1, last_step=1000)
    assert (median.status, median.step) == ("found", pytest.approx(500))
    reached = {"train_accuracy": np.minimum(DECADES / 2, 1), "test_accuracy": np.minimum(DECADES / 2, 1) * 0.8}
    detector = PhaseDetector(chance=0.1).fit({"step": LOG_STEPS} | reached)
    assert detector.markers_["status"].sel(run=0, marker="end") == "not_reached"
    pair = detector.alignment_.sel(run=0, pair="fit_end - end")
    assert (pair["order"], pair["verdict"], bool(np.isnan(pair["distance"]))) == ("open", "undecided", True)
    assert detector.phases_[0, -1] == 1
    assert "the test accuracy does not reach its threshold: the curve has settled at 0.8" in detector.summary()


@pytest.mark.parametrize(
    ("steps", "values", "message"),
    [
        ([1, 2], [1, 2, 3], "one shape"),
        ([[1, 2]], [[1, 2]], "one shape"),
        ([2, 1], [0, 0], "sort by step"),
        ([1, 1], [0, 0], "sort by step"),
        ([-1, 1], [0, 0], "sort by step"),
        ([1, np.nan], [0, 0], "sort by step"),
        ([1, 2], [0, np.inf], "first at step 2"),
    ],
)
def test_bad_curves_are_an_error(steps: list, values: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_curve(steps, values)


def test_parameters_out_of_range_are_an_error() -> None:
    with pytest.raises(ValueError, match="n_sustained >= 1"):
        sustained_crossing([1, 2], [0, 1], 0.5, n_sustained=0)
    with pytest.raises(ValueError, match="finite threshold"):
        sustained_crossing([1, 2], [0, 1], np.nan)


@pytest.mark.parametrize("n", [44, 45])
def test_a_fall_of_three_observations_at_the_end_is_no_spike(n: int) -> None:
    """The test loss of a grokking run that is recorded until it generalises."""
    steps = 100.0 * np.arange(n)
    loss = np.interp(steps, (0, 200, 1500, 4000, 4400), (5, 5.2, 9, 9.3, 0.1))
    assert second_descent(steps, loss).status == "found"
