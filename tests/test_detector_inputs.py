"""Inputs of PhaseDetector: tables, any axis, any kind of curves, curves on disk, and invalid inputs."""

import tracemalloc
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from joblib.externals.loky import get_reusable_executor
from sklearn.utils.estimator_checks import parametrize_with_checks

from probe import PhaseDetector
from probe.errors import ProbeWarning
from probe.phases import MARKERS, Status, detector as module
from probe.phases.facts import number
from probe.phases.over_runs import across as over_runs

NAMES = [kind.name for kind in MARKERS]
PROBED = {"chaos_end", "cone_entry"}  # on curves that only probes record
STEPS = np.arange(61) * 100.0
ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss", "information_x")
STATUSES = set(Status)


def curves_of(fit_end: float, peak: float = 1500, steps: np.ndarray = STEPS) -> dict[str, np.ndarray]:
    """Return one run: train accuracy is 1 from ``fit_end`` on, the losses peak at ``peak``."""
    return {
        "step": steps,
        "train_accuracy": np.interp(steps, [0, fit_end], [0.1, 1.0]),
        "test_accuracy": np.interp(steps, [2000, 5000], [0.1, 1.0]),
        "test_loss": np.interp(steps, [0, 500, peak, 6000], [3.0, 1.0, 2.0, 0.0]),
    }


def several() -> dict[str, np.ndarray]:
    runs = [curves_of(1000, 1500), curves_of(2000, 2500), curves_of(3000, 1000)]
    return {"step": STEPS} | {name: np.stack([run[name] for run in runs]) for name in runs[0] if name != "step"}


def as_runs(curves: dict[str, np.ndarray]) -> xr.Dataset:
    return xr.Dataset({k: (("run", "step"), v) for k, v in curves.items() if k != "step"}, {"step": curves["step"]})


def fallen(end: float) -> np.ndarray:
    """A train loss whose logarithm falls in a line by 5 up to the step ``end``."""
    return np.exp(-5 * np.minimum(STEPS / end, 1))


def steps_of(detector: PhaseDetector, marker: str) -> list[float]:
    return detector.markers_["step"].sel(marker=marker).values.tolist()


# --- scikit-learn, tables --------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Expected the steps as names of the columns")  # its columns are col0, col1, ...
@parametrize_with_checks([PhaseDetector()])
def test_scikit_learn_contract(estimator: PhaseDetector, check: Callable[[PhaseDetector], None]) -> None:
    check(estimator)


def test_rows_of_a_table_are_runs_of_the_train_loss() -> None:
    frame = pd.DataFrame(np.stack([fallen(2000), fallen(4000)]), columns=[f"{step:g}" for step in STEPS])
    detector = PhaseDetector().fit(frame)
    assert steps_of(detector, "fit_end") == [2000, 4000]  # 99 % of the fall at 1980 and 3960
    assert detector.feature_names_in_.tolist() == list(frame.columns)
    assert detector.n_features_in_ == 61
    assert "a table: each row is a run, its columns are train_loss at steps 0 to 6000" in detector.notes_
    counted = PhaseDetector().fit(frame.to_numpy())
    assert steps_of(counted, "fit_end") == [20, 40]
    assert not hasattr(counted, "feature_names_in_")


def test_predict_is_the_phase_at_the_last_step() -> None:
    table = np.stack([fallen(2000), np.full(61, np.nan), 1 - STEPS / 6000])
    detector = PhaseDetector().fit(table)
    assert detector.predict(table).tolist() == detector.phases_[:, -1].values.tolist()
    assert detector.predict(table)[:2].tolist() == [1, -1]
    assert detector.predict(table[:1]).dtype == np.int8
    runs = as_runs(several())
    assert PhaseDetector().fit(runs).predict(runs).tolist() == [2, 2, 2]
    assert PhaseDetector().fit(runs).predict(runs.isel(step=slice(25))).tolist() == [1, 1, 0]  # up to step 2,400


@pytest.mark.parametrize("n_columns", [1, 2, 3])
def test_a_table_of_few_columns_is_undefined(n_columns: int) -> None:
    table = np.ones((3, n_columns))
    detector = PhaseDetector().fit(table)
    assert set(detector.markers_["status"].values.ravel()) == {"undefined"}
    assert detector.predict(table).tolist() == [-1, -1, -1]
    assert detector.phases_.shape == (3, n_columns)


@pytest.mark.parametrize("axis", ["step", "width"])
def test_named_curves_without_the_axis_are_not_a_table(axis: str) -> None:
    frame = pd.DataFrame(curves_of(1000)).rename(columns={"step": "epoch"})
    with pytest.raises(ValueError, match=rf"Expected '{axis}' in the curves, got .* pass its name as axis='epoch'"):
        PhaseDetector(axis=axis).fit(frame)
    assert steps_of(PhaseDetector(axis="epoch").fit(frame), "fit_end") == [1000]


# --- kinds of curves, axis -------------------------------------------------------------------------------------------


def long_frame() -> pd.DataFrame:
    """Return one row for each run and step, in random order."""
    frame = as_runs(several()).assign_coords(run=[4, 7, 9]).to_dataframe().reset_index()
    return frame.sample(frac=1, random_state=0)


@pytest.mark.parametrize(
    "make",
    [several, lambda: as_runs(several()), long_frame, lambda: long_frame().set_index(["run", "step"])],
    ids=["arrays", "Dataset", "frame", "index"],
)
def test_several_runs_are_what_each_is_alone(make: Callable[[], Any]) -> None:
    together = PhaseDetector(chance=0.1).fit(make()).markers_
    for run in range(3):
        one = {name: values if name == "step" else values[run] for name, values in several().items()}
        alone = PhaseDetector(chance=0.1).fit(one).markers_
        assert together.isel(run=[run]).drop_vars("run").identical(alone.drop_vars("run"))
    assert steps_of(PhaseDetector().fit(make()), "fit_end") == [1000, 2000, 3000]


def test_runs_of_unequal_length() -> None:
    frame = long_frame()
    cut = frame[(frame["run"] != 7) | (frame["step"] <= 1200)]
    detector = PhaseDetector(chance=0.1).fit(cut)
    assert detector.markers_["run"].values.tolist() == [4, 7, 9]
    assert detector.markers_["status"].sel(marker="fit_end").values.tolist() == ["found", "right_censored", "found"]
    assert detector.markers_["last_step"].values.tolist() == [6000, 1200, 6000]
    short = {name: values[:13] if name == "step" else values[1, :13] for name, values in several().items()}
    alone = PhaseDetector(chance=0.1).fit(short).markers_.isel(run=0, drop=True)
    assert detector.markers_.sel(run=7, drop=True).identical(alone)


def test_a_run_is_censored_at_its_own_end() -> None:
    accuracy = np.stack([curves_of(end)["train_accuracy"] for end in (1000, 1500, 3000)])
    accuracy[2, STEPS > 500] = np.nan  # it may have fitted at 600 or never: the median is 1,000 or 1,500
    detector = PhaseDetector().fit({"step": STEPS, "train_accuracy": accuracy})
    assert detector.across_["status"].sel(marker="fit_end") == "right_censored"
    accuracy[2, STEPS > 500] = 0.5  # up to 6,000
    detector = PhaseDetector().fit({"step": STEPS, "train_accuracy": accuracy})
    assert detector.across_["status"].sel(marker="fit_end") == "found"
    assert float(detector.across_["median"].sel(marker="fit_end")) == pytest.approx(1500)


def test_rows_that_would_be_lost_are_an_error() -> None:
    frame = long_frame()
    with pytest.raises(ValueError, match="one row for each run and step, got several, first for run"):
        PhaseDetector().fit(pd.concat([frame, frame.iloc[:1]]))
    with pytest.raises(ValueError, match="run and step in every row, got 2 rows without"):
        PhaseDetector().fit(frame.assign(step=np.r_[np.nan, np.nan, frame["step"].to_numpy()[2:]]))


def test_columns_that_are_not_numeric_are_dropped_and_named() -> None:
    for frame in (long_frame(), pd.DataFrame(curves_of(1000))):
        detector = PhaseDetector().fit(frame.assign(who="a", test_loss=frame["test_loss"].astype(str)))
        assert "dropped columns that are not numeric: test_loss, who" in detector.notes_
        assert "dropped columns" in detector.summary()
        assert set(detector.markers_["status"].sel(marker="descent_onset").values) == {"undefined"}


def test_any_axis() -> None:
    curves = {"width" if name == "step" else name: values for name, values in several().items()}
    dataset = as_runs(several()).rename(step="width")
    for kind in (curves, dataset, dataset.to_dataframe().reset_index()):
        detector = PhaseDetector(axis="width").fit(kind)
        assert steps_of(detector, "fit_end") == [1000, 2000, 3000]
        assert "fitting ends at width 2,000" in detector.summary()
        assert "step" not in "".join(detector.summary().splitlines()[:3])
        assert detector.markers_["step"].attrs["long_name"] == "width"
    for kind in (several(), as_runs(several()), long_frame()):
        with pytest.raises(ValueError, match="rename the axis to 'width', or pass its name as axis="):
            PhaseDetector(axis="width").fit(kind)


# --- larger than memory ----------------------------------------------------------------------------------------------


def test_curves_on_disk_have_the_same_markers() -> None:
    pytest.importorskip("dask")
    runs = as_runs(several())
    truth = PhaseDetector().fit(runs)
    for chunks in ({"run": 1}, {"run": 2, "step": 20}):
        lazy = PhaseDetector().fit(runs.chunk(chunks))
        assert lazy.markers_.identical(truth.markers_)
        assert lazy.across_.identical(truth.across_)
        assert lazy.predict(runs.chunk(chunks)).tolist() == [2, 2, 2]


def test_a_block_of_runs_is_loaded_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory of numpy: the curves have 10 MB, and a block of runs has 1 MB."""
    dask, da = pytest.importorskip("dask"), pytest.importorskip("dask.array")
    monkeypatch.setattr(module, "_BLOCK", 16)
    n_runs, steps = 160, np.arange(8192.0)

    def ramp(block_info: Any = None) -> np.ndarray:
        (first, last), _ = block_info[None]["array-location"]
        return np.minimum(1, steps / (100 + np.arange(first, last))[:, None])

    lazy = da.map_blocks(ramp, chunks=((16,) * 10, steps.size), dtype=float)
    curves = xr.Dataset({"train_accuracy": (("run", "step"), lazy)}, {"step": steps})
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        detector = PhaseDetector(fit_threshold=1.0).fit(curves)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert steps_of(detector, "fit_end") == list(range(100, 100 + n_runs))
    assert lazy.nbytes > 10e6
    assert peak < 6e6 + detector.phases_.nbytes


def test_too_many_runs_for_the_test_over_runs_are_undefined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(over_runs, "_MAX_VALUES", 100)
    across = PhaseDetector().fit(several()).across_.sel(marker="descent_onset")
    assert across["test_status"] == "undefined"
    assert "too many runs" in str(across["test_reason"].values)
    assert across["status"] == "found"  # the median does not need the curves


def test_jobs_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)
    with joblib.parallel_config("threading"):
        two = PhaseDetector(n_jobs=2).fit(several())
    assert two.markers_.identical(PhaseDetector().fit(several()).markers_)


@pytest.mark.slow
def test_jobs_in_processes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK", 2)
    truth = PhaseDetector().fit(several()).markers_
    assert PhaseDetector(n_jobs=2).fit(several()).markers_.identical(truth)
    get_reusable_executor().shutdown()  # otherwise its workers stay alive during the tests that start runs


# --- bad input -------------------------------------------------------------------------------------------------------

LOSS = curves_of(1000)["test_loss"]


FRAME = pd.DataFrame(curves_of(1000))
BAD: list[tuple[Any, str]] = [
    ({}, "Expected 'step' in the curves"),
    (xr.Dataset(), "Expected 'step' in the curves"),
    (pd.DataFrame(), "Expected 'step' in the curves"),
    (FRAME.head(0), "at least 4 observations, got 0"),
    (pd.DataFrame(columns=["step", "test_loss"]), "at least 4 observations, got 0"),
    (np.empty((0, 5)), "0 sample"),
    ([], "got an empty list"),
    ([FRAME, 3], "got a mixture"),
    (None, "got NoneType; convert"),
    (iter([1]), "got list_iterator"),
    (FRAME["test_loss"], r"got one Series; pass the result of to_frame\('train_loss'\)"),
    (as_runs(several())["test_loss"], r"got one DataArray; pass the result of to_dataset\(name='train_loss'\)"),
    # the axis
    (FRAME.set_index("step").rename_axis(None), r"if the index holds the steps, name it with rename_axis\('step'\)"),
    (FRAME.drop(columns="step"), "Expected 'step' in the curves, got \\['train_accuracy'.* as axis="),
    (FRAME.rename(columns={"step": "epoch"}), "pass its name as axis='epoch'"),
    (pd.DataFrame({"a": ["x"] * 9, "b": 1}), "or numbers alone, got text in a"),
    ({"step": [7], "test_loss": [1.0]}, "at least 4 observations, got 1"),
    ({"step": 7, "test_loss": 1.0}, "arrays as long as step, .*'step': .., 'test_loss': .."),
    ({"step": STEPS[::-1], "test_loss": LOSS}, "strictly increasing steps from 0 on, got 60 unsorted; sort by step"),
    ({"step": np.r_[STEPS[:60], STEPS[59]], "test_loss": LOSS}, "got 1 repeated"),
    (pd.concat([FRAME, FRAME]), "got 'step' starting again once at row 62; make each block a run"),
    (FRAME.assign(step=5), "got 61 rows with step = 5 in all of them, as in a summary"),
    ({"step": STEPS - 1, "test_loss": LOSS}, "got 1 negative"),
    ({"step": np.r_[STEPS[:60], np.nan], "test_loss": LOSS}, "got 1 non-finite"),
    ({"step": STEPS.astype(str), "test_loss": LOSS}, "numbers as steps, got <U.*, such as 0.0; convert them"),
    (FRAME.assign(step=STEPS.astype(str)), "numbers as steps, got object"),
    (FRAME.assign(step=STEPS > 0), "numbers as steps, got bool"),
    (FRAME.assign(step=pd.date_range("2030", periods=61)), "numbers as steps, got datetime64"),
    (FRAME.assign(step=pd.to_timedelta(STEPS, unit="s")), "numbers as steps, got timedelta64"),
    ([FRAME.drop(columns="step")] * 2, "Expected 'step' in the curves"),
    # the columns
    (pd.concat({"a": FRAME, "b": FRAME}, axis=1), "columns with one name each, got 2 levels"),
    (pd.concat([FRAME, FRAME[["test_loss"]]], axis=1), "columns of different names, got test_loss repeatedly"),
    ({"step": STEPS, "test_loss": LOSS.astype(str)}, "numbers for test_loss, got <U"),
    ({"step": STEPS, "test_loss": LOSS + 0j}, "numbers for test_loss, got complex"),
    ({"step": STEPS, "test_loss": LOSS[:7]}, "arrays as long as step"),
    ({"step": STEPS, "test_loss": [LOSS, LOSS[:7]]}, "test_loss as one array, got runs of different lengths"),
    ({"step": STEPS, "test_loss": [LOSS] * 2, "train_loss": [LOSS] * 3}, r"as many runs in all arrays, got \[2, 3"),
    ({"a": FRAME, "step": STEPS}, "arrays as long as step"),
    # the runs
    ({"step": STEPS, "test_loss": np.empty((0, 61))}, "at least one run, got none"),
    ([FRAME.assign(run=1), FRAME], "one run in each element, got several in 0"),
    # the roles
    ({"step": STEPS, "reward": LOSS, "lr": LOSS}, "Expected a loss or an accuracy by its name, got reward, lr; pass"),
    (FRAME[["step"]].assign(test_loss="a"), r"got no curves \(dropped columns that are not numeric: test_loss\)"),
    ({"step": STEPS, "val_loss": LOSS, "eval_loss": LOSS}, "one name for test_loss in the curves, got val_loss and"),
    ({"step": STEPS, "train_loss": LOSS, "acc": LOSS / 3}, "with its split in the curves, got 'acc'; .*test_accuracy="),
    ({"step": STEPS, "test_accuracy": STEPS}, "in \\[0, 1\\] or \\[0, 100\\], got 0 to 6000"),
]


@pytest.mark.parametrize(("curves", "message"), BAD, ids=[message[:40] for _, message in BAD])
def test_curves_that_cannot_be_read(curves: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        PhaseDetector().fit(curves)


def rows() -> list[dict[str, Any]]:
    return FRAME.to_dict("records")


GOOD = {
    "rows": rows,
    "nested rows": lambda: [
        {"step": row["step"], "train": {"acc": row["train_accuracy"]}}
        | {"val": {"acc": row["test_accuracy"], "loss": row["test_loss"]}}
        for row in rows()
    ],
    "usual names": lambda: FRAME.rename(columns={"train_accuracy": "train_acc", "test_accuracy": "valAcc"}),
    "usual keys": lambda: {
        "step": STEPS, "train_top1": FRAME["train_accuracy"], "eval_accuracy": FRAME["test_accuracy"], "eval/loss": LOSS
    },
    "fastai": lambda: FRAME.rename(columns={"test_loss": "valid_loss", "test_accuracy": "accuracy"}),
    "percent": lambda: FRAME * [1, 100, 100, 1],
    "error rates": lambda: FRAME.assign(test_accuracy=1 - FRAME["test_accuracy"]).rename(
        columns={"test_accuracy": "val_error_rate"}
    ),
    "objects": lambda: FRAME.astype({"test_loss": object}),
    "nullable": lambda: FRAME.convert_dtypes(),
    "records": lambda: FRAME.to_records(index=False),
    "one run": lambda: {"a": FRAME},
    "range index": lambda: FRAME.set_index("step"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Expected accuracies in")
@pytest.mark.parametrize("kind", GOOD)
def test_the_same_curves_in_other_forms(kind: str) -> None:
    truth, detector = PhaseDetector().fit(curves_of(1000)), PhaseDetector().fit(GOOD[kind]())
    assert set(NAMES) - PROBED - {"compression_onset"} == set(
        truth.markers_["marker"].values[truth.markers_["status"][0] == "found"]
    )
    np.testing.assert_allclose(detector.markers_["step"], truth.markers_["step"])


def test_each_name_that_is_recognised_is_noted() -> None:
    frame = FRAME.rename(columns={"test_accuracy": "val_sparse_categorical_accuracy", "test_loss": "val_loss"})
    notes = PhaseDetector().fit(frame).notes_
    assert "in the curves, test_accuracy is 'val_sparse_categorical_accuracy', test_loss is 'val_loss'" in notes


def test_a_log_and_its_table_have_the_same_roles(tmp_path: Path) -> None:
    """A name that the reader left without a role, because another fits better, gets none in the detector either."""
    names = {"train_accuracy": "acc", "test_accuracy": "top1", "test_loss": "val_loss"}
    for frame in (FRAME.rename(columns=names), FRAME.rename(columns=names).assign(loss=FRAME["test_loss"])):
        frame.to_csv(tmp_path / "log.csv", index=False)
        table, log = PhaseDetector().fit(frame), PhaseDetector().fit(tmp_path / "log.csv")
        assert table.verdict_.identical(log.verdict_)
        assert "is 'top1'" not in str(log.notes_)
        assert "='top1'" in log.summary()  # a name that may fit
    other = PhaseDetector(test_loss="acc").fit(tmp_path / "log.csv")  # a name has one role
    assert "train_accuracy is 'acc'" not in str(other.notes_)


@pytest.mark.parametrize("kind", ["frame", "keys", "Dataset", "path"])
def test_a_name_that_is_not_there_is_an_error_with_near_names(kind: str, tmp_path: Path) -> None:
    FRAME.to_csv(tmp_path / "log.csv", index=False)
    dataset = FRAME.set_index("step").to_xarray()
    curves: dict[str, Any] = {
        "frame": FRAME, "keys": curves_of(1000), "Dataset": dataset, "path": tmp_path / "log.csv",
    }  # fmt: skip
    with pytest.raises(ValueError, match=r"got 'tst_los'.*near names: test_loss"):
        PhaseDetector(test_loss="tst_los").fit(curves[kind])


def test_runs_on_their_own_steps_are_a_list_or_a_mapping() -> None:
    every, third = curves_of(1000), curves_of(2000)
    third = {name: values[::3] for name, values in third.items()}
    for runs, names in (([FRAME, pd.DataFrame(third)], [0, 1]), ({"a": every, "b": third}, ["a", "b"])):
        detector = PhaseDetector().fit(runs)
        assert detector.markers_["run"].values.tolist() == names
        assert steps_of(detector, "fit_end") == [1000, 2100]
        assert detector.markers_["lower"].sel(marker="fit_end").values.tolist() == [900, 1800]
    width = [{"width" if name == "step" else name: values for name, values in run.items()} for run in (every, third)]
    assert steps_of(PhaseDetector(axis="width").fit(width), "fit_end") == [1000, 2100]


def test_columns_that_are_no_steps_are_a_table_with_a_warning() -> None:
    frame = pd.DataFrame(np.ones((3, 4)), columns=list("abcd"))
    with pytest.warns(
        ProbeWarning, match="steps as names of the columns of a table, got a, b, c, d; each row is read as"
    ):
        PhaseDetector().fit(frame)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"fit_threshold": 99}, "fit_threshold as a share above 0 and up to 1, got 99; divide percent by 100"),
        ({"end_threshold": 0}, "end_threshold as a share"),
        ({"n_sustained": 0}, "n_sustained >= 1"),
        ({"spike_width": -1}, "spike_width >= 0"),
        ({"delta": -1}, "delta > 0"),
        ({"chance": np.nan}, "chance as a share"),
        ({"n_test": 0}, "n_test as a number of examples"),
    ],
)
def test_parameters_out_of_range(parameters: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PhaseDetector(**parameters).fit(curves_of(1000))


@pytest.mark.parametrize("test", ["p97", "rises", "attribute"])
def test_percent_is_one_unit_for_all_accuracies(test: str) -> None:
    """A control at chance (1.03 %) never reaches .99, although its test accuracy lies between .9 and 1.3."""
    draws = np.random.default_rng(0).binomial(4700, 1 / 97, 61) / 47
    accuracy = {"p97": draws, "rises": np.linspace(0.02, 1.2, 61), "attribute": draws / 2}[test]
    curves = FRAME.assign(test_accuracy=accuracy).set_index("step").to_xarray()
    if test == "attribute":
        curves = curves.drop_vars("train_accuracy")
        curves["test_accuracy"].attrs["units"] = "%"
    else:
        curves["train_accuracy"] = 100 * curves["train_accuracy"]
    stated = test == "attribute"  # no warning
    text = "accept that all accuracies are divided by 100"
    with nullcontext() if stated else pytest.warns(ProbeWarning, match=text):
        markers = PhaseDetector().fit(curves).markers_.isel(run=0)
    for name in ("generalisation_onset", "end"):
        assert markers["status"].sel(marker=name) in ("right_censored", "not_reached")


def test_runs_that_stay_below_one_percent_are_named() -> None:
    accuracy = np.stack([100 * curves_of(1000)["train_accuracy"], np.full(61, 0.9)])
    with pytest.warns(ProbeWarning, match="runs that stay below 1 %: 1;"):
        detector = PhaseDetector().fit({"step": STEPS, "train_accuracy": accuracy})
    assert detector.markers_["status"].sel(marker="fit_end").values.tolist()[0] == "found"
    rounded = PhaseDetector().fit({"step": STEPS, "train_accuracy": accuracy[0] * 1.0000001 / 100})
    assert not any("percent" in note for note in rounded.notes_)


@pytest.mark.parametrize("factor", [1, 100])
def test_error_rates(factor: int) -> None:
    curves = curves_of(1000)
    truth = PhaseDetector().fit(curves).markers_["step"].values
    wrong = factor * (1 - curves["test_accuracy"])
    named = {name: values for name, values in curves.items() if name != "test_accuracy"} | {"test_err": wrong}
    named["train_accuracy"] = factor * named["train_accuracy"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ProbeWarning)  # percent
        detector = PhaseDetector(test_accuracy="test_err").fit(named)
        np.testing.assert_allclose(detector.markers_["step"].values, truth)
        assert "test_accuracy: 1 - test_err, because 'test_err' is the name of an error rate" in detector.notes_
        right = PhaseDetector(test_accuracy=lambda curves: factor - curves["test_err"]).fit(named)
        np.testing.assert_allclose(right.markers_["step"].values, truth)  # although xarray keeps the name
        reason = str(PhaseDetector().fit(named).markers_["reason"].sel(marker="end").values[0])
        assert "pass test_accuracy= with the name of yours, such as 'test_err'" in reason
        hidden = curves | {"test_accuracy": wrong, "train_accuracy": named["train_accuracy"]}
        with pytest.raises(ValueError, match=r"test_accuracy to rise while test_loss falls, got a fall from 0\.9 to 0"):
            PhaseDetector().fit(hidden)
        overfitting = hidden | {"test_loss": LOSS[::-1]}  # the loss rises
        PhaseDetector().fit(overfitting)


def test_percent_goes_with_its_chance() -> None:
    share = xr.Dataset({"test_accuracy": ("step", curves_of(1)["test_accuracy"], {"chance": 0.1})}, {"step": STEPS})
    percent = (100 * share).assign(test_accuracy=(100 * share["test_accuracy"]).assign_attrs(chance=10.0))
    with pytest.warns(ProbeWarning, match="got percent: .*; the chance of test_accuracy, 10, is divided, too"):
        found = PhaseDetector().fit(percent)
    assert "percent, and divided by 100: test_accuracy has a maximum of 100" in found.summary()
    assert found.markers_.identical(PhaseDetector().fit(share).markers_)


def test_infinite_values_are_skipped_with_a_note() -> None:
    curves, holes = curves_of(1000), curves_of(1000)
    curves["test_loss"][[3, 40]] = np.inf
    holes["test_loss"][[3, 40]] = np.nan
    detector = PhaseDetector().fit(curves)
    assert "test_loss: 2 of 61 observations are missing or infinite, and skipped" in detector.notes_
    assert detector.markers_.identical(PhaseDetector().fit(holes).markers_)
    runs = PhaseDetector().fit({k: v if k == "step" else v[None] for k, v in curves.items()})
    assert "test_loss: 2 of 61 observations are infinite, and skipped" in runs.notes_


@pytest.mark.parametrize("split", ["val", "valid", "validation", "eval", "dev"])
def test_the_split_of_the_test_curves_may_have_another_usual_name(split: str) -> None:
    curves = curves_of(1000)
    renamed = {key.replace("test", split): values for key, values in curves.items()}
    detector, usual = PhaseDetector().fit(pd.DataFrame(renamed)), PhaseDetector().fit(pd.DataFrame(curves))
    assert detector.markers_["step"].drop_vars("curve").equals(usual.markers_["step"].drop_vars("curve"))
    assert f", test_loss is '{split}_loss'" in detector.summary()
    both = pd.DataFrame(renamed | {"testing_loss": curves["test_loss"]})
    with pytest.raises(ValueError, match=f"one name for test_loss in the curves, got {split}_loss and testing_loss"):
        PhaseDetector().fit(both)
    explicit = PhaseDetector(test_loss="train_accuracy").fit(pd.DataFrame(renamed))
    assert "test_loss: the variable" not in explicit.summary()


@pytest.mark.parametrize("name", ROLES)
def test_a_missing_role_affects_its_own_markers_only(name: str) -> None:
    curves = curves_of(1000) | {"train_loss": fallen(2000), "information_x": LOSS}
    whole = PhaseDetector(chance=0.1).fit(curves).markers_
    del curves[name]
    less = PhaseDetector(chance=0.1).fit(curves).markers_
    of = {
        "train_accuracy": ["fit_end"], "train_loss": [], "test_accuracy": ["generalisation_onset", "end"],
        "test_loss": ["descent_onset"], "information_x": ["compression_onset"],
    }[name]  # fmt: skip
    same = [marker for marker in NAMES if marker not in of]
    assert less.sel(marker=same).identical(whole.sel(marker=same))
    for marker in of:
        one = less.sel(marker=marker).isel(run=0)
        instead = name == "train_accuracy"  # the loss replaces it
        assert one["status"] == ("found" if instead else "undefined")
        assert instead or "no variable for " in str(one["reason"].values)


RNG = np.random.default_rng(0)
ODD = {
    "constant": np.full(61, 0.5),
    "zero": np.zeros(61),
    "missing": np.full(61, np.nan),
    "one value": np.where(STEPS == 300, 0.5, np.nan),
    "tiny": 1e-300 * STEPS / 6000,
    "jump": (STEPS > 3000).astype(float),
    "walk": np.cumsum(RNG.normal(size=61)) / 100 + 0.5,
    "noise": RNG.uniform(size=61),
    "integers": np.arange(61) % 2,
    "booleans": STEPS > 3000,
    "objects": np.array([None, *[0.5] * 60], dtype=object),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_curves_get_a_known_status_and_a_reason(kind: str) -> None:
    detector = PhaseDetector().fit({"step": STEPS} | dict.fromkeys(ROLES, ODD[kind]))
    markers = detector.markers_.isel(run=0)
    assert set(markers["status"].values) <= STATUSES
    for name in NAMES:
        one = markers.sel(marker=name)
        assert (one["status"] == "found") == np.isfinite(one["step"])
        assert one["status"] == "found" or str(one["reason"].values)
    assert detector.summary().count("\n- ") == len(NAMES) - len(PROBED)  # a sentence for each marker with a curve
    if kind in ("constant", "zero", "missing", "one value", "objects"):
        assert "found" not in markers["status"].values


@pytest.mark.filterwarnings("error")
def test_numbers_whose_squares_are_infinite_are_skipped() -> None:
    curves = {"step": STEPS, "train_accuracy": np.minimum(1, STEPS / 2000), "test_loss": 2 + np.sin(STEPS / 1500)}
    detector = PhaseDetector().fit(curves | {"test_loss": 1e300 * curves["test_loss"]})
    assert "test_loss: 61 of 61 observations are missing or infinite or above 1e+150, and skipped" in detector.notes_
    assert detector.markers_["status"].sel(run=0, marker="fit_end") == "found"


def test_steps_that_logarithms_do_not_distinguish_are_accepted() -> None:
    steps = 2**53 + 2 * np.arange(61)
    detector = PhaseDetector().fit({"step": steps, "test_loss": 2 + np.sin(STEPS / 1500)})
    assert detector.markers_["status"].sel(run=0, marker="descent_onset") == "undefined"
    assert "9.01e+15" in detector.summary()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1.5, "1.5"), (0.12345, "0.123"), (10.4, "10"), (-3, "-3"), (123_456, "123,456"), (1e-300, "1e-300"),
        (2.0**49, "562,949,953,421,312"), (1e300, "1e+300"), (-(2.0**53), "-9.01e+15"), (np.inf, "inf"),
    ],
)  # fmt: skip
def test_steps_in_words(value: float, text: str) -> None:
    assert number(value) == text


# --- drawing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["arrays", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("Dataset", "table", "width")), "on disk"],
)
def test_every_kind_of_curves_is_drawn(kind: str) -> None:
    runs = as_runs(several())
    if kind == "on disk":
        pytest.importorskip("dask")
    curves, axis = {
        "arrays": lambda: (curves_of(1000), "step"),
        "Dataset": lambda: (runs, "step"),
        "table": lambda: (np.stack([fallen(2000)] * 2), "step"),
        "width": lambda: (runs.rename(step="width"), "width"),
        "on disk": lambda: (runs.chunk({"run": 1}), "step"),
    }[kind]()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = PhaseDetector(axis=axis).fit(curves).plot()
        figure.canvas.draw()
    assert any(axes.lines for axes in figure.axes)
    plt.close(figure)
