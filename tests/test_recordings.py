"""Recordings of an older revision load as they did then, and recording continues in them; see recordings/README.md."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from probe import (
    FourierProbe,
    LocalComplexityProbe,
    Measured,
    MutualInfoProbe,
    PerformanceProbe,
    Probe,
    ProbeSet,
    RobustnessProbe,
    Snapshot,
    WeightsProbe,
    load,
)
from probe.errors import ProbeWarning
from probe.recording import journal_of, read_netcdf

FILES = Path(__file__).parent / "recordings"
EXPECTED = json.loads((FILES / "expected.json").read_text())


@pytest.fixture(params=EXPECTED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def copied(name: str, folder: Path, *, journal: bool = True, netcdf: bool = True) -> Path:
    path = folder / f"{name}.nc"
    if netcdf:
        shutil.copy(FILES / path.name, path)
    if journal:
        shutil.copy(journal_of(FILES / path.name), journal_of(path))
    return path


def as_recorded(expected: dict[str, Any]) -> xr.Dataset:
    """Return the series that the older revision loaded."""
    variables = {
        key: xr.Variable(
            entry["dims"], np.array(entry["values"]).reshape(entry["shape"]).astype(entry["dtype"]), entry["attrs"]
        )
        for key, entry in expected["variables"].items()
    }
    coords = {key: variables.pop(key) for key in list(variables) if variables[key].dims == (key,)}
    return xr.Dataset(variables, coords, expected["attrs"])


def assert_same(found: xr.Dataset, expected: xr.Dataset) -> None:
    xr.testing.assert_identical(found, expected)
    for key in ["step", *expected]:
        assert found[key].dtype == expected[key].dtype, key


# -- loading -----------------------------------------------------------------------------------------------------------


def test_a_recording_loads_as_before(name: str, tmp_path: Path) -> None:
    assert_same(load(copied(name, tmp_path)), as_recorded(EXPECTED[name]))


def test_a_journal_alone_loads_as_before(name: str, tmp_path: Path) -> None:
    assert_same(load(copied(name, tmp_path, netcdf=False)), as_recorded(EXPECTED[name]))


def test_a_netcdf_file_alone_loads_as_far_as_it_was_written(name: str, tmp_path: Path) -> None:
    found, expected = load(copied(name, tmp_path, journal=False)), as_recorded(EXPECTED[name])
    last = {"finished": 6, "killed": 3, "several": 1}[name]
    assert found["step"].values[-1] == last
    assert_same(found, expected[[str(key) for key in found]].sel(step=slice(last)))


def test_the_older_file_of_a_killed_run_is_not_what_is_loaded() -> None:
    assert read_netcdf(FILES / "killed.nc").sizes["step"] < load(FILES / "killed.nc").sizes["step"]


# -- resuming ----------------------------------------------------------------------------------------------------------


def split(n: int, offset: int) -> tuple[Tensor, Tensor]:
    """As in recordings/make.py, in exact arithmetic: a recording continues with the same data only."""
    x = ((torch.arange(n * 4) * 37 + offset) % 101).reshape(n, 4).float() / 128
    return x, (x.sum(1) > 1.5).long()


DATA = {"train": split(24, 0), "test": split(16, 5)}


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.mark.parametrize("netcdf", [True, False])
def test_a_killed_recording_is_resumed(netcdf: bool, tmp_path: Path) -> None:
    path = copied("killed", tmp_path, netcdf=netcdf)
    before = load(path)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    probes = ProbeSet([PerformanceProbe(), MutualInfoProbe(layers=["3"], max_samples=1024, pooled=False)])
    with pytest.warns(
        ProbeWarning, match=r"subsamples \(recorded 2, no longer a parameter\), .*subsample_se \(new, True\)"
    ):
        probes.attach(model, DATA, optimizer=optimizer, path=path, mode="resume", step=3)
    probes.detach()
    found = load(path)
    assert found["step"].values.tolist() == [0, 1, 2, 3], "step 4 came after the checkpoint"
    recorded = [str(key) for key in before if key != "seconds"]
    xr.testing.assert_equal(found[recorded].sel(step=slice(2)), before[recorded].sel(step=slice(2)))
    xr.testing.assert_identical(read_netcdf(path), found)
    assert found["information_x"].sel(step=3).notnull().all()


def test_a_finished_recording_is_resumed(tmp_path: Path) -> None:
    path = copied("finished", tmp_path)
    PerformanceProbe().attach(net(), DATA, path=path, mode="resume").observe(8).detach()
    assert load(path)["step"].values.tolist() == [0, 2, 4, 6, 8]
    assert len(json.loads(load(path).attrs["provenance"])["resumed"]) == 1


class Failing(Probe):
    def measure(self, snapshot: Snapshot) -> dict[str, Measured]:
        return {"scale": Measured(np.array([1.0, 2.0, 3.0]), ("place",), {"place": ["a", "b", "c"]})}


def test_a_parameter_that_a_probe_has_lost_does_not_stop_a_resume(tmp_path: Path) -> None:
    path = copied("several", tmp_path)
    probes = ProbeSet(
        [
            LocalComplexityProbe(max_rows=64),
            FourierProbe(weight="0.weight", top=2),
            WeightsProbe(),
            RobustnessProbe(n_directions=2, max_rows=64),
            ("failing", Failing()),
        ]
    )
    with pytest.warns(ProbeWarning, match=r"FourierProbe\.random_state \(recorded 0, no longer a parameter\)"):
        probes.attach(net(), DATA, path=path, mode="resume")
    probes.observe(3, loss=0.25).detach()
    found, before = load(path), as_recorded(EXPECTED["several"])
    assert found["step"].values.tolist() == [0, 1, 2, 3]
    xr.testing.assert_equal(found[[str(key) for key in before]].sel(step=slice(2)), before)
    assert found["fourier_norm"].sel(step=3).notnull().all()
    assert found["failing_scale"].sel(step=3).values.tolist() == [1, 2, 3]
