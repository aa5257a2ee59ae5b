import pickle
import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import reference
from probe import PhaseDetector, concat, load, save
from probe.errors import ProbeWarning
from probe.phases import MARKERS

NAMES = [kind.name for kind in MARKERS]
PROBED = ["chaos_end", "cone_entry"]  # on curves that only probes record
N = 61
STEPS = np.arange(N) * 100.0


def ramp(start: float, stop: float, low: float = 0.1) -> np.ndarray:
    """Return an accuracy that leaves ``low`` after ``start`` and is 1 from ``stop`` on."""
    return np.interp(STEPS, [start, stop], [low, 1.0])


def triangle(valley: float, peak: float, low: float, top: float) -> np.ndarray:
    return np.interp(STEPS, [0, valley, peak, STEPS[-1]], [low + 2, low, top, low - 1])


def planted() -> dict[str, np.ndarray]:
    return {
        "step": STEPS,
        "train_accuracy": ramp(0, 1000),
        "test_accuracy": ramp(2000, 5000),
        "test_loss": np.exp(triangle(500, 1500, 0, 2)),
        "information_x": triangle(300, 2500, 3, 5),
    }


def values(detector: PhaseDetector, name: str, run: int = 0) -> list:
    return detector.markers_[name].isel(run=run).values.tolist()


def test_planted_markers_are_found() -> None:
    detector = PhaseDetector(chance=0.1)
    assert detector.fit(planted()) is detector
    assert detector.markers_.marker.values.tolist() == NAMES
    assert values(detector, "status") == ["found"] * 5 + ["undefined"] * 2
    fit_end, onset, descent, compression, end, *_ = values(detector, "step")
    assert (fit_end, onset, end) == (1000, 2200, 5000)  # accuracy at 2200 is 0.16, chance + 5 % is 0.15
    assert values(detector, "lower")[0] == 900
    for name, truth, step in (("descent_onset", 1500, descent), ("compression_onset", 2500, compression)):
        marker = detector.markers_.sel(marker=name, run=0)
        assert marker["lower"] <= truth <= marker["upper"]
        assert abs(np.log10(step / truth)) < 0.1
    assert detector.notes_ == []


def test_phases_follow_the_markers() -> None:
    detector = PhaseDetector(chance=0.1).fit(planted())
    assert detector.phases_.dtype == np.int8
    assert detector.phases_.dims == ("run", "step")
    assert detector.phase_at([0, 999, 1000, 4999, 5000, 1e9, -1]).tolist() == [0, 0, 1, 1, 2, -1, -1]
    np.testing.assert_array_equal(detector.phase_at(STEPS), detector.phases_[0])
    curves = planted() | {"train_accuracy": np.ones(N), "test_accuracy": np.full(N, 0.1)}
    detector.fit(curves)
    assert values(detector, "status")[0] == "left_censored"
    assert set(detector.phases_.values.ravel()) == {1}
    detector.fit(planted() | {"train_accuracy": np.full(N, 0.5)})
    assert values(detector, "status")[0] == "right_censored"
    assert set(detector.phases_.values.ravel()) == {0}


def test_markers_do_not_depend_on_each_other() -> None:
    before = PhaseDetector(chance=0.1).fit(planted()).markers_
    after = PhaseDetector(chance=0.1).fit(planted() | {"train_accuracy": ramp(5000, 6000)}).markers_
    assert before.sel(marker=NAMES[1:]).identical(after.sel(marker=NAMES[1:]))


def test_every_kind_of_curves_gives_the_same_markers() -> None:
    frame = pd.DataFrame(planted())
    dataset = xr.Dataset({k: ("step", v) for k, v in planted().items() if k != "step"}, {"step": STEPS})
    truth = PhaseDetector().fit(planted()).markers_
    for curves in (frame, frame.set_index("step"), dataset, dataset.expand_dims(run=[0])):
        assert PhaseDetector().fit(curves).markers_.identical(truth)


def test_missing_role_is_undefined_and_similar_names_are_listed() -> None:
    curves = planted()
    curves["train_acc_2"] = curves.pop("train_accuracy")
    detector = PhaseDetector().fit(curves)
    assert values(detector, "status")[0] == "undefined"
    assert "pass train_accuracy= with the name of yours, such as 'train_acc_2'" in values(detector, "reason")[0]
    assert set(detector.phases_.values.ravel()) == {-1}
    assert values(PhaseDetector(train_accuracy="train_acc_2").fit(curves), "step")[0] == 1000
    by_function = PhaseDetector(train_accuracy=lambda curves: 1 - (1 - curves["train_acc_2"]))
    assert values(by_function.fit(curves), "step")[0] == 1000


def test_percent_is_converted_with_a_warning_and_a_note() -> None:
    curves = planted()
    percent = curves | {"train_accuracy": 100 * curves["train_accuracy"]}
    with pytest.warns(ProbeWarning, match="percent"):
        detector = PhaseDetector(chance=0.1).fit(percent)
    assert values(detector, "step")[0] == 1000
    assert "percent" in detector.notes_[0]
    with pytest.raises(ValueError, match="pass an accuracy"):
        PhaseDetector().fit(curves | {"train_accuracy": -curves["train_accuracy"]})


def test_chance_comes_from_the_parameter_then_the_attributes_then_the_first_level() -> None:
    curves = planted() | {"test_accuracy": ramp(2000, 5000, low=0.4)}
    dataset = xr.Dataset({k: ("step", v) for k, v in curves.items() if k != "step"}, {"step": STEPS})
    rule = values(PhaseDetector(chance=0.2, n_test=10_000).fit(dataset), "rule")[1]
    assert "0.25" in rule
    assert "0.5" in values(PhaseDetector(chance=0.2, n_test=16).fit(dataset), "rule")[1]  # 3 sd are .3, skewness .05
    detector = PhaseDetector(n_test=10_000).fit(dataset)
    assert "0.45" in values(detector, "rule")[1]
    assert "chance: the level at which test_accuracy starts" in detector.notes_[0]
    dataset["test_accuracy"].attrs = {"chance": 0.5, "n": 100}  # three standard deviations are 0.15
    assert "0.65" in values(PhaseDetector().fit(dataset), "rule")[1]
    with pytest.raises(ValueError, match="chance as a share"):
        PhaseDetector(chance=10).fit(dataset)


def layered() -> xr.Dataset:
    curves = planted()
    dataset = xr.Dataset({k: ("step", v) for k, v in curves.items() if k != "step"}, {"step": STEPS})
    flat, peaked = np.zeros(N), curves["information_x"]
    information = np.stack([[flat, flat], [flat, peaked], [flat * np.nan, flat * np.nan]])  # (layer, split, step)
    dataset["information_x"] = xr.DataArray(
        information, {"layer": ["a", "b", "c"], "split": ["test", "train"]}, ("layer", "split", "step")
    ).transpose("step", "split", "layer")
    return dataset.assign(collapsed=("step", np.zeros(N, np.int8)))


def test_layer_and_split_of_the_information() -> None:
    detector = PhaseDetector().fit(layered())
    assert values(detector, "status")[3] == "found"
    assert "information: layer 'b', the deepest" in detector.notes_
    assert values(PhaseDetector(layer="a").fit(layered()), "status")[3] == "absent"
    assert values(PhaseDetector(split="test").fit(layered()), "status")[3] == "absent"
    only = PhaseDetector(split="all").fit(layered().isel(split=[1]))
    assert values(only, "status")[3] == "found"
    assert any("the only one" in note for note in only.notes_)
    with pytest.raises(ValueError, match=r"layer='z'.*'a', 'b', 'c'"):
        PhaseDetector(layer="z").fit(layered())
    with pytest.raises(ValueError, match="split='all'"):
        PhaseDetector(split="all").fit(layered())


def test_curves_that_cannot_be_read_are_an_error() -> None:
    good = planted()
    short = {name: curve[:3] for name, curve in good.items()}
    with pytest.raises(ValueError, match="at least 4 observations, got 3"):
        PhaseDetector().fit(short)
    with pytest.raises(ValueError, match="at least 4 observations, got 0"):
        PhaseDetector().fit({name: curve[:0] for name, curve in good.items()})
    with pytest.raises(ValueError, match="'step'"):
        PhaseDetector().fit({"epoch": STEPS})
    with pytest.raises(ValueError, match="sort by step"):
        PhaseDetector().fit({name: curve[::-1] for name, curve in good.items()})
    with pytest.raises(ValueError, match="as long as step"):
        PhaseDetector().fit(good | {"test_loss": good["test_loss"][:5]})
    with pytest.raises(ValueError, match="Expected 2D array"):
        PhaseDetector().fit([1, 2, 3])
    with pytest.raises(ValueError, match="Expected dimensions"):
        PhaseDetector().fit(layered().assign(test_loss=layered()["test_loss"].expand_dims(head=2)))


def test_empty_and_constant_curves_do_not_affect_the_other_markers() -> None:
    detector = PhaseDetector().fit(planted() | {"test_loss": np.zeros(N), "information_x": np.full(N, np.nan)})
    status, reason = values(detector, "status"), values(detector, "reason")
    assert status == ["found", "found", "absent", "undefined", "found", "undefined", "undefined"]
    assert "0 valid" in reason[3]


def test_several_runs() -> None:
    one = planted()
    never = np.full(N, 0.2)
    curves = {name: np.stack([curve] * 3) for name, curve in one.items() if name != "step"} | {"step": STEPS}
    curves["test_accuracy"] = np.stack([one["test_accuracy"], ramp(2000, 5800), never])
    detector = PhaseDetector().fit(curves)
    assert detector.n_runs_ == 3
    assert detector.markers_["step"].sel(marker="end").values[:2].tolist() == [5000, 5800]
    assert detector.phases_[:, -1].values.tolist() == [2, 2, 1]
    assert detector.phase_at([6000], run=2).tolist() == [1]
    text = detector.summary()
    assert text.startswith("2 of 3 runs (runs 0, 1): delayed generalisation. Run 0: the train accuracy passes 0.95")
    assert "\n1 of 3 runs (run 2): memorised without generalising. Run 2: the train accuracy passes 0.95" in text
    mixed = "\nTests and medians are over runs of all classes: give controls a fit or a page of their own.\n"
    assert mixed in text
    assert mixed not in PhaseDetector().fit([one, one | {"test_accuracy": ramp(2000, 5800)}]).summary()
    # the middle one of three
    assert "the test accuracy reaches its threshold at step 5,800 (2 found, 1 not within the record)" in text


@pytest.mark.parametrize(
    ("last", "words"), [(2.5, "; from its first to its last value, .* falls from 8 to 2.5"), (8, "")]
)
def test_information_that_falls_without_a_rise_has_no_hump(last: float, words: str) -> None:
    curve = 8 - (8 - last) * np.linspace(0, 1, N) ** 4
    text = PhaseDetector().fit(planted() | {"information_x": curve}).summary()
    reason = "no rise and fall of 3 % of the range of the curve" if words else "the curve is constant"
    assert re.search(f"\n- compression onset: the information has no hump: {reason}{words}\n", text)


def test_a_best_value_within_the_end_is_explained() -> None:
    curve = np.linspace(1, 0.01, 40)
    text = PhaseDetector().fit({"step": np.arange(40), "train_loss": curve, "test_loss": curve}).summary()
    assert "train loss best 0.010 at step 39, now 0.048 (median of the last 4), 40 observations" in text


def test_summary_begins_with_a_sentence_for_each_marker() -> None:
    text = PhaseDetector(chance=0.1).fit(planted()).summary()
    assert text.startswith("Delayed generalisation (grokking): the train accuracy passes 0.95 at step 1,000, but ")
    assert (
        "\nOne run; another seed may give other steps.\n- fit end: fitting ends at step 1,000 (900 to 1,000): " in text
    )
    assert [marker for marker in NAMES if marker not in text] == PROBED
    assert "Traceback" not in text


def test_missing_curves_share_one_line_that_names_similar_curves() -> None:
    curves = planted()
    curves = {"step": STEPS, "train_accuracy": curves["train_accuracy"], "accuracy_of_mine": curves["test_accuracy"]}
    text = PhaseDetector().fit(curves).summary()
    wanted = "pass test_accuracy='accuracy_of_mine', test_loss=, information= with the names of yours"
    assert f"\n- not recorded: test accuracy, test loss, information; {wanted}\n\nrun " in text
    assert text.count("recorded") == 2  # "no test curve is recorded" in the verdict


def test_medians_of_epochs_and_distances_over_runs_in_words() -> None:
    epochs = np.arange(40)
    rises = [[np.clip((epochs - start) / 5, 0, 1) for start in starts] for starts in ((0, 1, 3, 4), (99,) * 4)]
    curves = {"epoch": epochs, "train_accuracy": np.array(rises[0]), "test_accuracy": np.array(rises[1])}
    text = PhaseDetector(axis="epoch", chance=0.0, n_test=100).fit(curves).summary()
    assert "\n- fit end: fitting ends between epoch 6 and 7 (4 found)\n" in text  # 5, 6, 8 and 9: 6.9 in log time
    assert re.search(r"\nfit_end - end: above \+0\.\d\d dex, misaligned in 4 of 4 runs$", text)
    curves["test_accuracy"] = np.array([*rises[1][:3], np.clip((epochs - 9) / 5, 0, 1)])
    text = PhaseDetector(axis="epoch", chance=0.0, n_test=100).fit(curves).summary()
    assert "fit_end - end: median +0.18 dex (1 of 4 runs has both markers), " in text  # log10 of 15 / 10


def test_bounds_large_contrasts_and_single_spikes_in_words() -> None:
    curves = planted() | {"test_accuracy": np.full(N, 0.1)}
    text = PhaseDetector(chance=0.1).fit(curves).summary()
    assert "inf" not in text.replace("information", "")
    assert re.search(r"\nfit_end - end: above \+0\.\d\d dex, misaligned\n", text)
    spiky = planted() | {"test_loss": np.where(STEPS == 5000, 50.0, planted()["test_loss"])}
    text = PhaseDetector().fit(spiky).summary()
    assert "more than 100 times the next largest wiggle" in text
    assert "; 1 spike is set aside\n" in text
    assert "\n\nNote: " in text


def test_fractions_of_an_epoch_keep_their_digits() -> None:
    curves = {"epoch": STEPS / 500, **{name: curve for name, curve in planted().items() if name != "step"}}
    text = PhaseDetector(axis="epoch", chance=0.1).fit(curves).summary()
    assert "passes 0.95 at epoch 2, but" in text
    assert "- generalisation onset: the test accuracy leaves chance at epoch 4.4 (4.2 to 4.4): " in text


def test_estimator_contract() -> None:
    detector = PhaseDetector(layer="b", n_jobs=2)
    assert clone(detector).get_params() == detector.get_params()
    assert "layer='b'" in repr(detector)
    for call in (detector.summary, detector.plot, lambda: detector.phase_at([1])):
        with pytest.raises(NotFittedError):
            call()
    copy = pickle.loads(pickle.dumps(PhaseDetector().fit(planted())))
    assert copy.markers_.identical(PhaseDetector().fit(planted()).markers_)


def test_fit_does_not_change_the_curves() -> None:
    curves = layered()
    before = curves.copy(deep=True)
    PhaseDetector().fit(curves)
    assert curves.identical(before)


def test_valid_curves_cause_no_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PhaseDetector().fit(planted()).summary()


# --- a loss instead of an accuracy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "scale"),
    [
        (np.exp(-5 * np.minimum(STEPS / 3000, 1)), "log"),
        (4 - 5 * np.minimum(STEPS / 3000, 1), "linear"),  # no logarithm: it goes below 0
    ],
)
def test_the_train_loss_replaces_a_missing_accuracy(loss: np.ndarray, scale: str) -> None:
    detector = PhaseDetector().fit({"step": STEPS, "train_loss": loss})
    assert values(detector, "step")[0] == 3000  # 99 % of the fall at 2970
    assert values(detector, "rule")[0].startswith(f"0.99 of the fall of the loss ({scale} scale)")
    assert detector.notes_ == ["fit_end: found on train_loss, because there is no train_accuracy"]
    both = PhaseDetector(chance=0.1).fit(planted() | {"train_loss": loss})
    assert values(both, "step")[0] == 1000
    assert both.notes_ == []


def test_noise_in_log_units_does_not_hide_the_fall_of_a_train_loss() -> None:
    steps = np.unique(np.geomspace(1, 2400, 40).round())
    floor = 10 ** np.random.default_rng(0).uniform(-5, -2, len(steps))  # as after interpolation with Adam
    detector = PhaseDetector().fit({"step": steps, "train_loss": np.exp(-steps / 60) + floor})
    assert values(detector, "rule")[0].startswith("0.99 of the fall of the loss (linear scale)")
    assert values(detector, "step")[0] == 267  # that is 60 ln 100 = 276, less the floor
    flat = PhaseDetector().fit({"step": steps, "train_loss": floor})
    assert values(flat, "status")[0] == "absent"
    assert re.search(r"the loss falls by 0.77 on the log scale, where three .* are 5.1", values(flat, "reason")[0])


# --- score -----------------------------------------------------------------------------------------------------------


def test_score_is_the_distance_in_decades() -> None:
    curves = planted()
    detector = PhaseDetector(chance=0.1).fit(curves)
    assert detector.score(curves, {"fit_end": 1000, "end": 5000}) == 0
    assert detector.score(curves, {"fit_end": [2 * 1001 - 1]}) == pytest.approx(-np.log10(2))
    assert detector.score(curves, [1001 / 10 - 1]) == pytest.approx(-1)  # of fit_end
    assert detector.score(curves, {"fit_end": 1000, "end": 5001 * 10 - 1}) == pytest.approx(-0.5)  # median of two
    assert detector.score(curves, {"fit_end": 10009, "end": np.nan}) == pytest.approx(-1)
    missed = curves | {"train_accuracy": np.full(N, 0.5)}
    assert detector.score(missed, {"fit_end": 1000}) == pytest.approx(-np.log10(6001))  # the length of the record


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({}, "one or more of"),
        ({"peak": 3}, r"one or more of \['fit_end', .*got \['peak'\]"),
        ({"end": -1}, "from 0 on, got -1"),
        ({"end": np.nan}, "missing values only"),
        ([1, 2], r"one for each of 1 runs, got the shapes \{'fit_end': \(2,\)\}"),
    ],
)
def test_truth_that_cannot_be_scored(truth: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhaseDetector().fit(planted()).score(planted(), truth)


# --- several runs ----------------------------------------------------------------------------------------------------


def fitted_at(*ends: float) -> PhaseDetector:
    """Fit runs whose train accuracy is 1 from these steps on; an infinite step means never."""
    accuracy = np.stack([ramp(0, end) if np.isfinite(end) else np.full(N, 0.5) for end in ends])
    return PhaseDetector().fit({"step": STEPS, "train_accuracy": accuracy})


@pytest.mark.parametrize(
    ("ends", "median"),
    [
        ((1000, 2000, 5000), 2000),
        ((1000, 2000, np.inf), 2000),
        ((1000, 2000, 4000, np.inf), np.sqrt(2001 * 4001) - 1),  # the geometric mean of the two in the middle
        ((1000, 2000, np.inf, np.inf), None),
        ((1000, np.inf, np.inf), None),
    ],
)
def test_censored_runs_stay_in_the_median(ends: tuple[float, ...], median: float | None) -> None:
    one = fitted_at(*ends).across_.sel(marker="fit_end")
    assert one["n_found"] == np.isfinite(ends).sum()
    assert one["status"] == ("right_censored" if median is None else "found")
    assert float(one["median"]) == pytest.approx(np.nan if median is None else median, nan_ok=True)


def test_the_interval_of_the_median_is_of_order_statistics() -> None:
    """Of eight values the second and the seventh: 1 - 2 (1 + 8) / 256 = .93; with the first and last it is .99."""
    one = fitted_at(1000, 1500, 2000, 2500, 3000, 3500, 4000, np.inf).across_.sel(marker="fit_end")
    assert (float(one["lower"]), float(one["upper"])) == (pytest.approx(1400), pytest.approx(4000))


def test_one_run_has_distances_but_no_test_over_runs() -> None:
    detector = PhaseDetector(chance=0.1).fit(planted())
    assert detector.across_ is None
    pair = detector.alignment_.sel(pair="fit_end - end").isel(run=0)
    assert float(pair["distance"]) == pytest.approx(np.log10(5001 / 1001))
    assert pair["verdict"] == "misaligned"
    assert detector.alignment_.sizes["pair"] == len(NAMES) * (len(NAMES) - 1) // 2
    several = fitted_at(1000, 2000, 3000)
    assert several.across_["marker"].values.tolist() == NAMES
    assert several.alignment_.sizes["run"] == 3


def test_a_fall_in_all_runs_is_measured() -> None:
    rng = np.random.default_rng(1)
    loss = np.interp(STEPS, [0, 500, 1500, 3000, 6000], [4, 1, 2, 0, 0]) + 0.05 * rng.normal(size=(6, N))
    one = PhaseDetector().fit({"step": STEPS, "test_loss": loss}).across_.sel(marker="descent_onset")
    assert one["test_status"] == "found"
    assert one["n_runs"] == 6
    assert 0 < one["fall_lower"] < one["fall"] < one["fall_upper"]
    assert float(one["fall"]) == pytest.approx(2, abs=0.3)  # a window of a twentieth of the record smooths the top
    assert PhaseDetector().fit({"step": STEPS, "test_loss": loss}).across_["test_status"][3] == "undefined"


# --- noise, spikes, long records -------------------------------------------------------------------------------------


def hump(x: np.ndarray) -> np.ndarray:
    """Return a fall, a rise and a fall over log10 steps; the top is at 3.93."""
    return np.sin(2 * x)


def test_spikes_are_counted_and_change_nothing() -> None:
    steps = np.unique(np.logspace(0, 5, 300).round())
    clean = hump(np.log10(steps + 1)) + 0.02 * np.random.default_rng(2).normal(size=len(steps))
    spiky = clean.copy()
    spiky[[60, 150, 210]] += [3, 4, -3]
    before, after = (
        PhaseDetector().fit({"step": steps, "test_loss": loss}).markers_.sel(marker="descent_onset").isel(run=0)
        for loss in (clean, spiky)
    )
    assert (before["n_spikes"], after["n_spikes"]) == (0, 3)
    assert abs(np.log10(float(after["step"] / before["step"]))) < 0.05


def test_noise_size_and_tops_of_a_hump_are_stored() -> None:
    x = np.linspace(0, 5, 600)
    loss = hump(x) + 0.05 * np.random.default_rng(3).normal(size=(9, 600))
    markers = PhaseDetector().fit({"step": 10**x - 1, "test_loss": loss}).markers_
    of = markers.sel(marker="descent_onset")
    assert float(of["noise"].median()) == pytest.approx(0.05, rel=0.25)
    assert float(of["size_share"].median()) > 0.5
    assert markers["tops"].dims == ("run", "marker", "top")
    np.testing.assert_array_equal(of["tops"].max("top"), of["step"])
    assert markers[["noise", "size", "tops"]].sel(marker="fit_end").isnull().all().to_array().all()


def test_a_long_record_is_thinned_with_a_note() -> None:
    steps = np.arange(1e5)
    loss = hump(np.log10(steps + 1)) + 0.05 * np.random.default_rng(4).normal(size=len(steps))
    detector = PhaseDetector().fit({"step": steps, "test_loss": loss})
    one = detector.markers_.sel(marker="descent_onset").isel(run=0)
    assert one["status"] == "found"
    assert abs(np.log10(float(one["step"]) + 1) - 5 * np.pi / 4) < 0.05
    assert "100,000 observations reduced to" in str(one["reason"].values)
    assert "100,000 observations reduced to" in str(detector.markers_["reason"].values)


def test_a_random_walk_is_not_a_second_phase() -> None:
    walks = np.cumsum(np.random.default_rng(5).normal(size=(40, 200)), axis=1)
    detector = PhaseDetector().fit({"step": np.arange(200.0), "test_loss": walks})
    status = detector.markers_["status"].sel(marker="descent_onset").values.tolist()
    assert "undecided" in status
    assert status.count("found") <= 6  # at the level .05: two are expected, seven come in one of 250 such tests
    assert (
        "it is undecided whether the test loss has a hump"
        in PhaseDetector().fit({"step": np.arange(200.0), "test_loss": walks[status.index("undecided")]}).summary()
    )


# --- phases and summary ----------------------------------------------------------------------------------------------


def test_phase_at_keeps_the_shape_of_the_steps() -> None:
    detector = PhaseDetector(chance=0.1).fit(planted())
    assert detector.phase_at([[0, 1000], [5000, np.nan]]).tolist() == [[0, 1], [2, -1]]
    assert detector.phase_at(3000).shape == ()
    assert detector.phase_at([]).tolist() == []
    with pytest.raises(IndexError, match="position of a run, 0 to 0, got 1"):
        detector.phase_at([0], run=1)


def test_a_long_table_is_cut_with_a_note() -> None:
    text = fitted_at(*[1000] * 25).summary()
    assert text.startswith("25 of 25 runs: undecided. Run 0: the train accuracy is 1.00 at the end, but no test curve")
    assert "\nMedians over runs, with 90 % intervals:\n- " in text
    assert "- fit end: fitting ends at step 1,000 (900 to 1,000; 25 found)" in text
    assert "... and 5 more runs: see markers_" in text
    assert "more runs" not in fitted_at(*[1000] * 20).summary()
    assert text.count("not recorded") == 1
    assert (
        "\n- not recorded: test accuracy, test loss, information; pass test_accuracy=, test_loss=, information=" in text
    )
    assert "  no variable for test_loss\n" in text


# --- recorded runs ---------------------------------------------------------------------------------------------------

RESULTS = Path(reference.__file__).parent / "results"


def recorded(name: str) -> xr.Dataset:
    with xr.open_dataset(RESULTS / f"{name}.nc", engine="scipy") as series:
        return series.load()


def test_humps_of_recorded_runs_are_where_the_loss_is_largest() -> None:
    curves = recorded("paper-division")
    markers = PhaseDetector().fit(curves).markers_.sel(marker="descent_onset")
    later = curves["test_loss"].where(curves["step"] >= 800)  # by then each run is through its initial descent
    largest = later.idxmax("step")
    found = (markers["status"] == "found").values
    assert found.sum() >= 7
    assert len(found) == 8
    distance = np.log10(markers["step"] / largest).values[found]
    assert np.abs(distance).max() < 0.2
    inside = (markers["lower"] <= largest) & (largest <= markers["upper"])
    assert inside.values[found].all()


def test_shuffled_answers_have_no_second_phase() -> None:
    detector = PhaseDetector().fit(recorded("variants/control-shuffled"))
    status = detector.markers_["status"]
    assert "found" not in status.sel(marker=["generalisation_onset", "descent_onset", "end"]).values
    assert set(status.sel(marker="fit_end").values) == {"found"}  # it is memorised
    assert detector.across_["test_status"].sel(marker="descent_onset") == "absent"


def test_the_chance_of_each_run_is_its_own(tmp_path: Path) -> None:
    steps = np.arange(0, 4000, 100)
    accuracy = np.where(steps < 2000, 0.5, 0.6)  # leaves a chance of .5, and not one of .65

    def run(chance: float, scale: float = 1.0) -> xr.Dataset:
        attrs = {"chance": chance * scale, "n": 1000, "units": "1" if scale == 1 else "percent"}
        test = xr.DataArray(accuracy * scale, dims="step", attrs=attrs)
        return xr.Dataset({"test_accuracy": test, "train_accuracy": test + 0.0}, {"step": steps})

    def statuses(series: xr.Dataset) -> list[str]:
        markers = PhaseDetector().fit(series).markers_
        return [str(one) for one in markers["status"].sel(marker="generalisation_onset").values]

    alone = [statuses(run(chance))[0] for chance in (0.5, 0.65)]
    assert alone[0] == "found" != alone[1]
    joined = concat([run(0.5), run(0.65)], runs=[3, "control"])
    assert statuses(joined) == alone
    save(joined, tmp_path / "runs.nc")
    assert statuses(load(tmp_path / "runs.nc")) == alone
    assert statuses(joined.isel(run=[1, 0])) == alone[::-1]
    assert statuses(concat([run(0.5, 100), run(0.65, 100)])) == alone
    assert concat([run(0.5), run(0.5)])["test_accuracy"].attrs["chance"] == 0.5


def test_the_axis_of_a_log_is_named_in_python_too(tmp_path: Path) -> None:
    epochs = np.arange(100)
    table = pd.DataFrame(
        {"Epoch": epochs, "train_acc": np.minimum(1, epochs / 40), "val_acc": np.minimum(0.9, epochs / 50)}
    )
    table.to_csv(tmp_path / "log.csv", index=False)
    detector = PhaseDetector().fit(tmp_path / "log.csv")
    text = detector.summary()
    assert "epoch 40" in text
    assert "step" not in text.splitlines()[0]
