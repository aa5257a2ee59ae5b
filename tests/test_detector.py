import pickle
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from probe.phases.detector import MARKERS, PhaseDetector

N = 61
STEPS = np.arange(N) * 100.0


def ramp(start: float, stop: float, low: float = 0.1) -> np.ndarray:
    """Accuracy that leaves ``low`` after ``start`` and is 1 from ``stop`` on."""
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
    assert detector.markers_.marker.values.tolist() == list(MARKERS)
    assert values(detector, "status") == ["found"] * 5
    fit_end, onset, descent, compression, end = values(detector, "step")
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
    assert before.sel(marker=list(MARKERS[1:])).identical(after.sel(marker=list(MARKERS[1:])))


def test_every_kind_of_curves_gives_the_same_markers() -> None:
    frame = pd.DataFrame(planted())
    dataset = xr.Dataset({k: ("step", v) for k, v in planted().items() if k != "step"}, {"step": STEPS})
    truth = PhaseDetector().fit(planted()).markers_
    for curves in (frame, frame.set_index("step"), dataset, dataset.expand_dims(run=[0])):
        assert PhaseDetector().fit(curves).markers_.identical(truth)


def test_missing_role_is_undefined_and_names_what_is_near() -> None:
    curves = planted()
    curves["train_acc"] = curves.pop("train_accuracy")
    detector = PhaseDetector().fit(curves)
    assert values(detector, "status")[0] == "undefined"
    assert "near names: train_acc" in values(detector, "reason")[0]
    assert set(detector.phases_.values.ravel()) == {-1}
    assert values(PhaseDetector(train_accuracy="train_acc").fit(curves), "step")[0] == 1000
    by_function = PhaseDetector(train_accuracy=lambda curves: 1 - (1 - curves["train_acc"]))
    assert values(by_function.fit(curves), "step")[0] == 1000


def test_percent_is_recognised_and_said() -> None:
    curves = planted()
    percent = curves | {"train_accuracy": 100 * curves["train_accuracy"]}
    with pytest.warns(UserWarning, match="percent"):
        detector = PhaseDetector(chance=0.1).fit(percent)
    assert values(detector, "step")[0] == 1000
    assert "percent" in detector.notes_[0]
    with pytest.raises(ValueError, match="is it an accuracy"):
        PhaseDetector().fit(curves | {"train_accuracy": -curves["train_accuracy"]})


def test_chance_comes_from_the_parameter_then_the_attributes_then_the_first_observation() -> None:
    curves = planted() | {"test_accuracy": ramp(2000, 5000, low=0.4)}
    dataset = xr.Dataset({k: ("step", v) for k, v in curves.items() if k != "step"}, {"step": STEPS})
    rule = values(PhaseDetector(chance=0.2).fit(dataset), "rule")[1]
    assert "0.25" in rule
    detector = PhaseDetector().fit(dataset)
    assert "0.45" in values(detector, "rule")[1]
    assert "first observation" in detector.notes_[0]
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


def test_curves_that_cannot_be_read_are_refused() -> None:
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
    with pytest.raises(ValueError, match="expected dimensions"):
        PhaseDetector().fit(layered().assign(test_loss=layered()["test_loss"].expand_dims(head=2)))


def test_empty_and_constant_curves_do_not_cost_the_other_markers() -> None:
    detector = PhaseDetector().fit(planted() | {"test_loss": np.zeros(N), "information_x": np.full(N, np.nan)})
    status, reason = values(detector, "status"), values(detector, "reason")
    assert status == ["found", "found", "absent", "undefined", "found"]
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
    assert text.startswith("3 runs")
    assert "test accuracy reaches its end at step 5,800 (2 found, 1 right-censored)" in text  # the middle one of three


def test_summary_begins_with_a_sentence() -> None:
    text = PhaseDetector(chance=0.1).fit(planted()).summary()
    assert text.startswith("One run, descriptive: fitting ends at step 1,000 (900 to 1,000); test accuracy leaves")
    assert all(marker in text for marker in MARKERS)
    assert "Traceback" not in text


def test_estimator_contract() -> None:
    detector = PhaseDetector(layer="b", n_jobs=2)
    assert clone(detector).get_params() == detector.get_params()
    assert "layer='b'" in repr(detector)
    for call in (detector.summary, detector.plot, lambda: detector.phase_at([1])):
        with pytest.raises(NotFittedError):
            call()
    copy = pickle.loads(pickle.dumps(PhaseDetector().fit(planted())))
    assert copy.markers_.identical(PhaseDetector().fit(planted()).markers_)


def test_fit_leaves_the_curves_alone() -> None:
    curves = layered()
    before = curves.copy(deep=True)
    PhaseDetector().fit(curves)
    assert curves.identical(before)


def test_import_needs_no_torch() -> None:
    code = "import sys; import probe.phases.detector; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_no_warning_on_plain_curves() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PhaseDetector().fit(planted()).summary()
