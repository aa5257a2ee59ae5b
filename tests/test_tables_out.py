"""Series as tables and files: what is written is read again, and what a format cannot hold is known."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probe import PhaseDetector, concat, load, read, save
from probe.__main__ import main
from probe.series import validate

LOGS = Path(__file__).parent / "logs"
Captured = pytest.CaptureFixture[str]


def recording() -> xr.Dataset:
    """Two runs with settings, layers, splits, flags and further labels; steps and values of the runs differ."""
    rng = np.random.default_rng(0)

    def run(steps: list[int], layers: list[str]) -> xr.Dataset:
        shape = (len(steps), 2, len(layers))
        labels = {"step": steps, "split": ["train", "test"], "layer": layers, "factor": [0.5, 2.0]}
        information = rng.normal(size=shape)
        information[1, 0, 0] = np.nan
        return xr.Dataset(
            {
                "information_x": (("step", "split", "layer"), information, {"units": "bits", "long_name": "I(T; X)"}),
                "saturated": (("step", "layer"), rng.integers(0, 2, (len(steps), len(layers))).astype(np.int8)),
                "spread": (("step", "factor"), rng.normal(size=(len(steps), 2)) * 1e-300),
                "train_loss": ("step", 1 / rng.random(len(steps)), {"logged_as": "Loss/train"}),
                "test accuracy, best": ("step", np.array([0, 1, 1, 0.1 + 0.2])[: len(steps)]),
            },
            labels,
        )

    joined = concat([run([0, 10, 20, 40], ["0", "10"]), run([0, 5, 20], ["0", "2", "10"])], ["seed 7", "seed 8"])
    return joined.assign_coords(seed=("run", [7, 8]), optimiser=("run", ["sgd", "adam, 2"]))


def curves() -> xr.Dataset:
    return recording()[["train_loss", "test accuracy, best"]]


def test_a_recording_survives_netcdf(tmp_path: Path) -> None:
    series = recording()
    back = read(save(series, tmp_path / "run.nc"))
    xr.testing.assert_equal(back, series)
    assert back["saturated"].dtype == np.int8
    assert back["information_x"].attrs == series["information_x"].attrs
    assert back["train_loss"].attrs["logged_as"] == "Loss/train"


@pytest.mark.parametrize("which", ["runs", "one run", "axis"])
def test_a_recording_survives_a_long_table(which: str, tmp_path: Path) -> None:
    """Also one run without labels, and a log over epochs; units and names in the log are lost."""
    series = recording()
    if which != "runs":
        series = series.isel(run=0, drop=True).sel(step=[0, 10, 20, 40], layer=["0", "10"])
    if which == "axis":
        series = series.assign_coords(step=series["step"] / 4)
        series["step"].attrs["axis"] = "epoch"
    path = series.probe.to_csv(tmp_path / "long.csv", long=True)
    names = path.read_text().splitlines()[0]
    settings, axis = ",seed,optimiser" if which == "runs" else "", "epoch" if which == "axis" else "step"
    assert names == f"run{settings},{axis},variable,layer,split,factor,value"
    back = read(path)
    xr.testing.assert_equal(back, series)
    assert {str(name): array.dtype for name, array in back.data_vars.items()} == {
        str(name): array.dtype for name, array in series.data_vars.items()
    }
    assert back["step"].attrs["axis"] == axis
    assert "units" not in back["information_x"].attrs


def test_curves_survive_a_wide_table(tmp_path: Path) -> None:
    """With the settings of the runs. Numbers are exact; names of runs and of text settings too."""
    path = curves().probe.to_csv(tmp_path / "wide.csv")
    assert path.read_text().splitlines()[0] == 'run,seed,optimiser,step,train_loss,"test accuracy, best"'
    xr.testing.assert_allclose(read(path), curves(), rtol=1e-15)


def test_a_wide_table_has_a_column_for_each_curve() -> None:
    """A flag stays int8. Rows that a run does not have are left out, and one selected run is a run."""
    series = recording()
    frame = series.probe.to_pandas()
    assert list(frame.index.names) == ["run", "seed", "optimiser", "step"]
    assert len(frame) == 4 + 3
    column = frame["information_x[train, 2]"].xs("seed 8")
    expected = series["information_x"].sel(run="seed 8", split="train", layer="2", step=[0, 5, 20])
    np.testing.assert_array_equal(column.to_numpy(), expected.values)
    assert frame["saturated[2]"].dtype == np.int8
    assert frame["saturated[2]"].xs("seed 7").tolist() == [-1] * 4
    pd.testing.assert_frame_equal(series.isel(run=1).probe.to_pandas(), frame.xs("seed 8", drop_level=False))
    alone = series.isel(run=0, drop=True)
    assert alone.probe.to_pandas().index.equals(pd.Index([0, 5, 10, 20, 40], name="step"))


def test_a_long_table_has_a_row_for_each_measured_value() -> None:
    series = recording()
    frame = series.probe.to_pandas(long=True)
    assert list(frame.columns) == ["run", "seed", "optimiser", "step", "variable", "layer", "split", "factor", "value"]
    for name, array in series.data_vars.items():
        measured = array.where(array >= 0) if array.dtype == np.int8 else array
        own = frame[frame["variable"] == name]
        assert len(own) == int(measured.count())
        assert own["value"].sum() == pytest.approx(float(measured.sum()))
    assert set(frame.loc[frame["variable"] == "train_loss", "layer"]) == {""}
    assert dict(zip(frame["run"], frame["seed"], strict=True)) == {"seed 7": 7, "seed 8": 8}


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("run,step,variable,layer,split,value\n,0,a,,,1.0\n,0,a,,,2.0\n", "several values of a at one place"),
        ("run,step,variable,layer,split,value\n,0,a,,,one\n", "could not convert string to float: 'one'"),
        ("run,step,variable,layer,split,value\n,,a,,,1.0\n", "got no steps"),
        (
            "run,step,variable,layer,split,p,q,value\n"
            + "".join(f"r{i},{i},a,l{i},s{i},{i},{i},1.0\n" for i in range(60)),
            "60 values for 60 x 60 x 60 x 60 x 60 x 60 places",
        ),
    ],
)
def test_a_wrong_long_table_is_an_error(table: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(table)
    with pytest.raises(ValueError, match=r"Expected a long table of probe in long\.csv, got ") as error:
        read(tmp_path / "long.csv")
    assert found in str(error.value)


def test_phases_of_a_series(tmp_path: Path) -> None:
    """Over the axis of the log, with the parameters of the detector."""
    series = read(LOGS / "huggingface", axis="epoch")
    detector = series.probe.phases(chance=0.01)
    assert "epoch" in detector.summary()
    expected = PhaseDetector(axis="epoch", chance=0.01).fit(series.rename(step="epoch"))
    xr.testing.assert_equal(detector.markers_, expected.markers_)
    frame = curves()[["train_loss"]].probe.to_pandas()
    assert PhaseDetector().fit(frame).n_runs_ == 2
    with pytest.raises(ValueError, match="Expected a dimension and a coordinate 'step'"):
        validate(xr.Dataset({"a": ("step", [1.0])}, {"step": [0]})).rename(step="x").probe.to_pandas()


def test_convert_writes_by_the_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    log = str(LOGS / "keras")
    monkeypatch.chdir(tmp_path)
    for options, n_notes in ((["run.nc"], 0), (["wide.csv"], 1), (["long.csv", "--long"], 1)):
        assert main(["convert", log, *options]) == 0
        assert main(["convert", log, *options]) == 2
        assert main(["convert", log, *options, "--overwrite", "--json"]) == 0
        out, err = capsys.readouterr()
        assert f"written: {options[0]}" in out
        assert "which exists already; choose another name, or pass --overwrite" in err
        written = json.loads(out.splitlines()[-1])
        assert written["written"] == options[0]
        assert len([note for note in written["notes"] if "CSV holds no units" in note]) == n_notes
    series = load("run.nc")
    for name in ("wide.csv", "long.csv"):
        xr.testing.assert_allclose(read(name), series, rtol=1e-15)
        assert main(["detect", name]) == 0
    assert len({text.partition("\n\n")[0] for text in capsys.readouterr().out.split("\nDelayed")}) >= 1
    for wrong in (["x.txt"], ["x.nc", "--long"]):
        assert main(["convert", log, *wrong]) == 2
        assert "Expected " in capsys.readouterr().err
