"""What happened in a run: curves made for each class, and its neighbours on the other side of each rule."""

import re
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter

from probe import PhaseDetector
from probe.errors import ProbeWarning
from probe.phases import Marker
from probe.phases.facts import LEAST_DELAY, LEAST_OBSERVATIONS, facts_of_run
from probe.phases.markers.chance import Chance
from probe.phases.verdict import CLASSES, Verdict, judge

NAMES = [kind.name for kind in CLASSES]
N = 81
STEPS = np.unique(np.geomspace(1, 1e4, N).round())
X = np.log10(STEPS)


def rise(at: float, top: float = 1.0, low: float = 0.1, width: float = 0.15) -> np.ndarray:
    """Return an accuracy that comes half of its way at log10(step) = ``at``, and 95 % of it .44 decades later."""
    return low + (top - low) / (1 + np.exp((at - X) / width))


def fall(at: float, end: float = 0.01, start: float = 2.3) -> np.ndarray:
    """Return a loss that falls at log10(step) = ``at``."""
    return start - (start - end) / (1 + np.exp((at - X) / 0.15))


def fit(chance: float | None = 0.1, **curves: np.ndarray) -> PhaseDetector:
    return PhaseDetector(chance=chance).fit({"step": STEPS} | curves)


def verdict(chance: float | None = 0.1, **curves: np.ndarray) -> xr.Dataset:
    return fit(chance, **curves).verdict_.isel(run=0)


def name_of(chance: float | None = 0.1, **curves: np.ndarray) -> str:
    return str(verdict(chance, **curves)["class"].item())


def ended(curve: np.ndarray, by: float) -> np.ndarray:
    """Return the curve with a straight change by ``by`` over the last decade and a half."""
    return curve + by * np.clip((X - 2.5) / 1.5, 0, 1)


FITTED = rise(1.5)
CHANCE = 0.1 + 0.005 * np.random.default_rng(0).standard_normal(len(X))
ACCURACIES = {
    "delayed generalisation": (FITTED, rise(3)),
    "overfitting": (FITTED, ended(rise(1.5, top=0.9), -0.2)),
    "plain learning": (FITTED, rise(1.5, top=0.9)),
    "memorised without generalising": (FITTED, CHANCE),
    "not fitted": (CHANCE + 0.05, CHANCE),
    "collapsed": (np.where(X > 3, CHANCE, FITTED), np.where(X > 3, CHANCE, rise(1.5, top=0.9))),
    "undecided": (ended(FITTED, -0.5), ended(rise(1.5, top=0.9), -0.4)),
}
LOSSES = {
    "delayed generalisation": (fall(1.5), fall(3)),
    "overfitting": (fall(1.5), ended(fall(1.5, end=0.3), 1.0)),
    "plain learning": (fall(1.5), fall(1.5, end=0.3)),
    "memorised without generalising": (fall(1.5), 2.3 + np.maximum(X - 1.5, 0)),
    "not fitted": (fall(1.5, end=2.0), fall(1.5, end=2.1)),
    "collapsed": (np.where(X > 3, 2.3, fall(1.5)), np.where(X > 3, 2.3, fall(1.5))),
    "diverged": (np.where(X > 3, np.nan, fall(1.5)), np.where(X > 3, np.nan, fall(1.5))),
}


@pytest.mark.parametrize("name", ACCURACIES)
def test_accuracies_of_each_class(name: str) -> None:
    train, test = ACCURACIES[name]
    assert name_of(train_accuracy=train, test_accuracy=test) == name
    with pytest.warns(ProbeWarning, match="percent"):
        assert name_of(train_accuracy=100 * train, test_accuracy=100 * test) == name


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_each_class(name: str) -> None:
    train, test = LOSSES[name]
    assert name_of(train_loss=train, test_loss=test) == name
    assert name_of(train_loss=1e-6 * train, test_loss=1e-6 * test) == name  # in other units


def test_too_short_to_tell_states_how_often_to_log() -> None:
    few = {"step": [0, 250, 500, 750, 1000], "test_loss": [2.0, 1.0, 0.5, 0.4, 0.3]}
    one = PhaseDetector().fit(few).verdict_.isel(run=0)
    assert one["class"] == "too short to tell"
    text = f"the test loss has 5 observations, and at least {LEAST_OBSERVATIONS} are needed. Log every 20 steps."
    assert one["sentence"] == f"Too short to tell: {text}"
    enough = {"step": np.arange(8), "train_accuracy": np.linspace(0.1, 1, 8), "test_accuracy": np.linspace(0.1, 1, 8)}
    assert PhaseDetector(chance=0.1).fit(enough).verdict_["class"].item() != "too short to tell"


def test_curves_that_rise_to_the_end_of_a_brief_record_do_not_stay() -> None:
    """Their second half spreads as far as they rise. The second curves are those of a network on digits."""
    late = [0.05, 0.07, 0.07, 0.08, 0.09, 0.11, 0.13, 0.14, 0.15, 0.16, 0.17, 0.19, 0.25, 0.24, 0.39, 0.37, 0.64, 0.75]
    late += [0.77, 0.80, 0.77]
    short = [0.08, 0.08, 0.1, 0.15, 0.3, 0.6, 0.93, 0.93, 0.93]
    for train, test in ((short, [0.08, 0.08, 0.1, 0.1, 0.2, 0.4, 0.52, 0.52, 0.52]), (late, [0.96 * a for a in late])):
        curves = {"step": np.unique(np.geomspace(1, 200, 40).round())[: len(train)]}
        one = PhaseDetector(chance=0.1).fit(curves | {"train_accuracy": train, "test_accuracy": test})
        assert f"improve together, to {train[-1]:.2f} and {test[-1]:.2f} at" in one.verdict_["sentence"].item()
    level = {"train_accuracy": 0.9 + CHANCE / 10, "test_accuracy": 0.8 + CHANCE / 10}
    assert "stay at 0.91 and 0.81 at the end" in verdict(**level)["sentence"].item()


def test_a_test_curve_that_is_first_does_not_improve_together_with_the_train_curve() -> None:
    """With wrong labels, the test accuracy is at its end long before the train accuracy."""
    for at, words in (
        (1.5, "improve together, to 1.00 and 0.90 at"),
        (0.5, "improve, the test accuracy first, to 1.00"),
    ):
        one = verdict(train_accuracy=rise(1.5), test_accuracy=rise(at, top=0.9))
        assert one["class"] == "plain learning"
        assert words in one["sentence"].item()
    losses = {"train_loss": fall(2.5), "test_loss": fall(1, end=0.3)}
    assert "train and test loss improve, the test loss first, to 0.010 and 0.30" in verdict(**losses)["sentence"].item()


# --- neighbours: the same curves on the other side of a rule ---------------------------------------------------------


@pytest.mark.parametrize("delay", [LEAST_DELAY - 0.1, LEAST_DELAY + 0.1])
def test_a_delay_counts_from_its_least_size(delay: float) -> None:
    """Fitting is at 95 % of the way, arriving at 90 %: the curves cross these levels .44 and .33 decades late."""
    one = verdict(train_accuracy=rise(1.5), test_accuracy=rise(1.5 + 0.44 - 0.33 + delay))
    assert float(one["delay"]) == pytest.approx(delay, abs=0.06)  # the grid of the record
    assert one["class"] == ("delayed generalisation" if delay > LEAST_DELAY else "plain learning")


def test_a_fall_counts_beyond_the_noise() -> None:
    noise = 0.04 * np.random.default_rng(1).standard_normal(len(X))
    best = rise(1.5, top=0.9)
    assert name_of(train_accuracy=FITTED, test_accuracy=ended(best, -0.08)) == "overfitting"
    assert name_of(train_accuracy=FITTED, test_accuracy=ended(best, -0.08) + noise) == "plain learning"
    assert name_of(train_accuracy=FITTED, test_accuracy=ended(best, -0.02)) == "plain learning"
    one = {"train_accuracy": FITTED, "test_accuracy": np.round(40 * ended(best, -0.08)) / 40, "step": STEPS}
    dataset = xr.Dataset({k: ("step", v) for k, v in one.items() if k != "step"}, {"step": STEPS})
    dataset["test_accuracy"].attrs["n"] = 40  # the standard deviation of counting is .06
    assert PhaseDetector(chance=0.1).fit(dataset).verdict_["class"] == "plain learning"


def test_slow_noise_is_no_overfitting() -> None:
    """Noise of correlation .8 between neighbours: its largest fall exceeds three standard deviations in most runs."""
    rng, steps = np.random.default_rng(2), np.linspace(0, 1e4, 300)
    train, best = (low / (1 + np.exp(-(steps - 500) / 50)) for low in (1.0, 0.9))
    noise = lfilter([0.6], [1, -0.8], rng.standard_normal((40, 400)), axis=1)[:, 100:]
    curves = {"step": steps, "train_accuracy": np.tile(train, (40, 1)), "test_accuracy": best + 0.02 * noise}
    curves["test_accuracy"] = np.clip(curves["test_accuracy"], 0, 1)
    named = PhaseDetector(chance=0.0).fit(curves).verdict_["class"].values.tolist()
    assert named.count("plain learning") >= 38
    curves["test_accuracy"] = np.clip(curves["test_accuracy"] - 0.15 * steps / 1e4, 0, 1)
    named = PhaseDetector(chance=0.0).fit(curves).verdict_["class"].values.tolist()
    assert named.count("overfitting") >= 36


def test_both_curves_fall_together_without_overfitting() -> None:
    assert name_of(train_accuracy=ended(FITTED, -0.3), test_accuracy=ended(rise(1.5, top=0.9), -0.3)) == "undecided"


def test_a_train_curve_that_falls_alone_is_no_plain_learning() -> None:
    assert name_of(train_accuracy=ended(FITTED, -0.4), test_accuracy=rise(1.5, top=0.9)) == "undecided"


def test_a_run_that_still_learns_at_its_end_is_too_short() -> None:
    for train, test in ((rise(3.9), rise(3.9)), (rise(4.2), CHANCE), (rise(3.9, top=0.7), CHANCE)):
        assert name_of(train_accuracy=train, test_accuracy=test) == "too short to tell"
    assert name_of(train_accuracy=rise(3), test_accuracy=CHANCE) == "memorised without generalising"
    assert name_of(train_accuracy=rise(3.9)) == "undecided"  # no test curve


def test_the_level_of_memorising() -> None:
    assert name_of(train_accuracy=FITTED, test_accuracy=rise(1.5, top=0.25)) == "memorised without generalising"
    assert name_of(train_accuracy=FITTED, test_accuracy=rise(1.5, top=0.35)) == "plain learning"


def test_a_loss_that_was_logged_late_may_overfit() -> None:
    epochs = np.arange(1, 101)
    curves = {"epoch": epochs, "train_loss": 0.7 * 0.95**epochs, "test_loss": 0.57 + 0.3 * epochs / 100}
    sentence = PhaseDetector(axis="epoch").fit(curves).verdict_["sentence"].item()
    assert "never falls far below its first value, 0.57: it is 0.57 at best, 0.86 at the end." in sentence
    assert sentence.endswith("fell before epoch 1, where the record starts, this may be overfitting.")
    curves |= {"epoch": epochs - 1, "test_loss": np.where(epochs > 80, 0.57 + 0.2, curves["test_loss"])}
    sentence = PhaseDetector(axis="epoch").fit(curves).verdict_["sentence"].item()
    assert sentence.endswith("0.77 at the end.")  # the record starts before the first update
    curves["test_loss"] = 0.57 + 0.3 * np.minimum(3 * epochs, 100 - 0.6 * epochs) / 100
    sentence = PhaseDetector(axis="epoch").fit(curves).verdict_["sentence"].item()
    assert " falls again, but is above its first value: train for longer to see how far." in sentence


def test_divergence_is_told_from_missing_values() -> None:
    train, test = fall(1.5), fall(1.5, end=0.3)
    nan = np.where(X > 3, np.nan, train)
    one = verdict(train_loss=nan, test_loss=np.where(X > 3, np.nan, test))
    first = STEPS[X > 3][0]
    assert one["sentence"].item().startswith(f"Diverged: the train loss is not a number from step {first:,.0f} on.")
    infinite = np.where(X > 3, np.inf, train)
    assert name_of(train_loss=infinite, test_loss=infinite) == "diverged"
    assert name_of(train_loss=nan, test_accuracy=rise(1.5), train_accuracy=FITTED) == "plain learning"  # not logged
    dead = np.where(X > 3, 0.1, rise(1.5))
    assert name_of(train_loss=nan, test_accuracy=dead, train_accuracy=dead) == "diverged"
    sparse = np.where(np.arange(len(X)) % 5 == 0, test, np.nan)  # logged at every fifth observation only
    assert name_of(train_loss=train, test_loss=sparse) == "plain learning"
    assert name_of(train_loss=2.3 + 3 * X, test_loss=2.3 + 3 * X) == "diverged"  # grows to six times its first value


def test_a_run_that_ends_before_the_others_has_not_diverged() -> None:
    short = np.where(X > 3, np.nan, fall(1.5))
    both = PhaseDetector().fit({"step": STEPS, "train_loss": np.stack([fall(1.5), short])}).verdict_
    assert both["class"].values.tolist() == ["undecided", "undecided"]  # no test curve


# --- one split only --------------------------------------------------------------------------------------------------


def test_without_a_train_curve() -> None:
    assert name_of(test_loss=fall(1.5)) == "plain learning"
    assert name_of(test_accuracy=rise(1.5)) == "plain learning"
    assert name_of(test_loss=ended(fall(1.5, end=0.3), 1.0)) == "overfitting"
    assert name_of(test_accuracy=CHANCE) == "undecided"  # it may have memorised
    assert name_of(test_loss=2.3 + 0 * X) == "not fitted"
    hump = fall(1.5) + 2 * np.exp(-(((X - 2.5) / 0.3) ** 2))
    assert name_of(test_loss=hump) == "undecided"  # a network that groks has such a hump


def test_a_curve_with_too_few_observations_is_not_called_missing() -> None:
    few = np.where(np.arange(len(X)) % 12 == 0, fall(1.5), np.nan)
    text = verdict(test_accuracy=rise(1.5), train_loss=few)["sentence"].item()
    assert text.startswith("Plain learning: the test accuracy rises from 0.10 to 1.00; the train loss has 6")
    assert (
        "but the test loss has 6 observations, and" in verdict(train_loss=fall(1.5), test_loss=few)["sentence"].item()
    )


def test_without_a_test_curve() -> None:
    for curves in ({"train_loss": fall(1.5)}, {"train_accuracy": FITTED}):
        one = verdict(**curves)
        assert one["class"] == "undecided"
        assert "no test curve is recorded. Log the test loss or accuracy." in one["sentence"].item()
    assert name_of(train_loss=fall(1.5, end=2.2)) == "not fitted"


def test_a_loss_replaces_a_missing_accuracy() -> None:
    assert name_of(train_loss=fall(1.5), test_accuracy=rise(3)) == "delayed generalisation"
    assert name_of(train_accuracy=FITTED, test_loss=fall(3)) == "delayed generalisation"
    few = np.where(np.arange(len(X)) % 20 == 0, rise(3), np.nan)  # five accuracies: the loss has more
    assert verdict(train_accuracy=FITTED, test_accuracy=few, test_loss=fall(3))["test_final"] < 0.1


def test_a_pretrained_network_has_no_chance_of_its_first_accuracy() -> None:
    one = verdict(None, train_accuracy=rise(1.5, low=0.73), test_accuracy=ended(0.96 + 0 * X, -0.12))
    assert one["class"] == "overfitting"


# --- sentences and the dataset ---------------------------------------------------------------------------------------


def test_the_hump_is_a_clause_with_its_size() -> None:
    loss = fall(3) + np.interp(X, [1, 2.5, 3.5], [0, 5, 0])
    one = verdict(train_accuracy=FITTED, test_accuracy=rise(3), test_loss=loss)
    assert one["class"] == "delayed generalisation"
    assert re.search(
        r"The test loss has a hump of 4\.\d \(\d+ % of its range\) with its top at step", one["sentence"].item()
    )
    assert float(one["hump_size"]) == pytest.approx(np.max(loss) - 2.3, rel=0.1)


def test_evidence_has_the_numbers_of_the_sentence() -> None:
    one = verdict(train_accuracy=FITTED, test_accuracy=ended(rise(1.5, top=0.9), -0.2))
    assert "train accuracy best 1.00 at step" in one["evidence"].item()
    assert float(one["test_best"]) == pytest.approx(0.9, abs=0.01)
    assert float(one["test_final"]) == pytest.approx(0.7, abs=0.03)
    assert f"{float(one['test_final']):.2f}" in one["sentence"].item()


def test_the_axis_has_its_name() -> None:
    curves = {"epoch": STEPS, "train_accuracy": FITTED, "test_accuracy": rise(3)}
    text = PhaseDetector(axis="epoch", chance=0.1).fit(curves).verdict_["sentence"].item()
    assert "epoch" in text
    assert "step" not in text


def test_the_table_of_the_page_is_that_of_the_code() -> None:
    page = (Path(__file__).parents[1] / "docs" / "phases.md").read_text(encoding="utf-8")
    assert all(f"| {kind.name} | {kind.rule} | {kind.losses} |" in page for kind in CLASSES)


# --- every run has exactly one class ---------------------------------------------------------------------------------


def random_curve(rng: np.random.Generator, n: int, accuracy: bool) -> np.ndarray:
    """Return a curve of a random kind: flat, walk, steps, noise, missing and infinite values, huge or constant."""
    kinds = [
        lambda: np.full(n, rng.uniform()),
        lambda: np.cumsum(rng.standard_normal(n)) * rng.choice([1e-9, 1, 1e9]),
        lambda: np.exp(-np.linspace(0, rng.uniform(0, 9), n)) * rng.choice([1e-9, 1, 1e9]),
        lambda: np.where(np.arange(n) > rng.integers(n), rng.uniform(), rng.uniform()),
        lambda: rng.standard_normal(n) - rng.choice([0, 100]),
    ]
    curve = kinds[rng.integers(len(kinds))]()
    curve[rng.uniform(size=n) < rng.choice([0, 0.2, 0.95])] = np.nan
    if rng.uniform() < 0.3:
        curve[rng.integers(n) :] = rng.choice([np.nan, np.inf, -np.inf])
    if accuracy:
        curve = np.where(np.isfinite(curve), np.clip(curve, 0, 1), np.nan)
    return curve


@pytest.mark.parametrize("seed", range(4))
def test_each_run_has_exactly_one_class(seed: int) -> None:
    rng = np.random.default_rng(seed)
    roles = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
    humps = (Marker("absent", ""), Marker("found", "", 5, 4, 6, size=1.0, size_share=0.5))
    for _ in range(60):
        n = int(rng.choice([1, 4, 9, 30, 100]))
        curves = {role: random_curve(rng, n, role.endswith("accuracy")) for role in roles if rng.uniform() < 0.7}
        curves = dict.fromkeys(roles, "none") | curves
        chance = Chance(*([None, np.inf], [0.1, 100])[rng.integers(2)])
        facts = facts_of_run(np.arange(float(n)), curves, humps[rng.integers(2)], chance, alone=True, axis="step")
        one = judge(facts)
        assert one.name in NAMES
        assert re.fullmatch(r"[A-Z].*\.", one.sentence)
        assert "nan" not in one.sentence + one.evidence
        assert one.name == next(kind.name for kind in CLASSES if kind.holds(facts))


def test_the_last_rule_always_holds() -> None:
    assert len({kind.name for kind in CLASSES}) == len(CLASSES) == 9
    assert CLASSES[-1].holds(None)  # type: ignore[arg-type]
    assert {"name", "sentence", "evidence", "numbers"} == set(Verdict.__dataclass_fields__)


# --- the same run, recorded in another way ---------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 30])
def test_overfitting_does_not_depend_on_how_long_the_end_is_recorded(length: int) -> None:
    """The best value lasts for less than a twentieth of a long record."""
    steps = np.arange(0, 1000 * length, 2.0)
    train, best = np.exp(-steps / 30), 0.3 + 0.7 * np.exp(-steps / 15)
    curves = {"step": steps, "train_loss": train, "test_loss": best + 0.15 * (1 - np.exp(-steps / 200))}
    assert PhaseDetector().fit(curves).verdict_["class"].item() == "overfitting"


def test_the_verdict_does_not_depend_on_the_unit_of_the_steps() -> None:
    """The same run over steps, thousands of steps, and its share of the training."""
    for factor in (1, 1e-3, 1e-5):
        curves = {"step": factor * STEPS, "train_accuracy": rise(1.5), "test_accuracy": rise(3)}
        one = PhaseDetector(chance=0.1).fit(curves).verdict_.isel(run=0)
        assert one["class"] == "delayed generalisation"
        assert "step 0 " not in one["sentence"].item()


def test_a_record_that_starts_late_has_a_verdict() -> None:
    """All steps lie within a quarter of a decade, as after a restart."""
    for first in (1e6, 1e9):
        one = PhaseDetector(chance=0.1).fit(
            {"step": first + STEPS, "train_accuracy": rise(1.5), "test_accuracy": rise(1.5)}
        )
        assert one.verdict_["class"].item() == "plain learning"


def test_swings_of_the_initial_descent_are_no_noise_of_the_rest() -> None:
    """A linear model trained with momentum, 26 observations: it swings at first, and then rises smoothly."""
    steps = [0, 1, 2, 3, 4, 5, 7, 11, 16, 23, 33, 49, 72, 106, 157, 231, 340, 501, 739, 1089, 1606, 2368, 3492, 5150]
    first = [1.02, 0.426, 0.363, 0.766, 0.731, 0.390, 0.613, 0.571, 0.474, 0.345, 0.181, 0.143, 0.128, 0.115]
    later = [0.120, 0.130, 0.144, 0.165, 0.195, 0.234, 0.280, 0.332, 0.394, 0.473, 0.576, 0.705]
    curves = {"step": [*steps, 7594, 11199], "train_loss": 1 / (1 + np.arange(26.0)) ** 2, "test_loss": first + later}
    assert PhaseDetector().fit(curves).verdict_["class"].item() == "overfitting"


def test_a_delay_of_one_test_observation_is_no_delay() -> None:
    """Test rows lie .4 dex apart, and the test accuracy arrives at the first of them after fitting."""
    train, rows = rise(1.5, width=0.1), np.arange(len(X)) % 8 == 0
    for at, name in ((1.55, "plain learning"), (2.7, "delayed generalisation")):
        sparse = np.where(rows, rise(at, width=0.1), np.nan)
        assert name_of(train_accuracy=train, test_accuracy=sparse) == name


def test_a_test_loss_alone_that_returns_to_its_start_is_no_collapse() -> None:
    """It may have collapsed or overfitted: without a train curve, the page names the second."""
    loss = ended(fall(1.5, end=0.9), 1.45)
    assert name_of(test_loss=loss) == "overfitting"
    assert name_of(test_loss=loss, train_loss=fall(1.5)) == "overfitting"
