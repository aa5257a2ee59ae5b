"""``python -m reference measure``: probes on stored weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import TINY

import probe
from probe import PerformanceProbe, ProbeSet, WeightsProbe
from reference.__main__ import main
from reference.experiments import all_probes, measure, measure_run
from reference.runs import run, stored_steps


def few() -> ProbeSet:
    return ProbeSet([WeightsProbe(histogram=True)])


def trained(folder: Path, *, seeds: str = "0,1", store_weights: str = "all") -> Path:
    run(TINY, seeds, out=folder, device="cpu", n_jobs=1, store_weights=store_weights)
    return next(folder.glob("*"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("runs"))


def test_measured_losses_are_those_that_were_recorded(runs: Path) -> None:
    found = measure(runs, probes=few, n_jobs=1)
    assert found["seed"].values.tolist() == [0, 1]
    assert found["step"].values.tolist() == stored_steps(runs / "seed-0")
    for seed in (0, 1):
        recorded = probe.load(runs / f"seed-{seed}" / "run.nc").sel(step=found["step"])
        for name in ("train_loss", "test_loss", "test_accuracy"):
            np.testing.assert_allclose(found[name].isel(run=seed), recorded[name], rtol=1e-5)


def test_only_new_steps_are_measured(tmp_path: Path) -> None:
    folder = trained(tmp_path, seeds="0") / "seed-0"
    later = [(folder / "weights" / f"{step}.pt") for step in stored_steps(folder)[-3:]]
    aside = {file: file.read_bytes() for file in later}
    for file in later:
        file.unlink()
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    first = measure_run(folder, few)
    assert torch.get_num_threads() == threads + 1
    torch.set_num_threads(threads)
    assert first.sizes["step"] + 3 == measured_after(folder, aside).sizes["step"]
    for file in set(folder.glob("weights/*.pt")) - {folder / "weights" / "0.pt"}:
        file.write_bytes(b"")  # must not be read again
    assert measure_run(folder, few).sizes["step"] == first.sizes["step"] + 3


def measured_after(folder: Path, files: dict[Path, bytes]) -> object:
    for file, content in files.items():
        file.write_bytes(content)
    return measure_run(folder, few)


def test_all_probes_include_the_published_quantity_and_mutual_information(runs: Path) -> None:
    folder = runs / "seed-0"
    state = torch.load(folder / "weights" / "0.pt", weights_only=True)
    model_steps = stored_steps(folder)
    assert model_steps[0] == 0
    names = {type(one).__name__ for one in all_probes().probes}
    assert names == {"MutualInfoProbe", "LocalComplexityProbe", "LMNProbe", "WeightsProbe"}
    counts = np.histogram(state["tokens.weight"].numpy(), np.linspace(-1, 1, 30))[0]
    inside = counts.sum()
    shares = np.array([*counts, state["tokens.weight"].numel() - inside]) / state["tokens.weight"].numel()
    entropy = -(shares[shares > 0] * np.log2(shares[shares > 0])).sum()
    found = measure(runs, probes=few, seeds=[0], n_jobs=1)["weight_histogram_entropy"]
    assert found.sel(parameter="tokens.weight", step=0).item() == pytest.approx(entropy, abs=1e-6)


def test_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "__kwdefaults__", {**measure.__kwdefaults__, "probes": few})
    out = tmp_path / "measured.nc"
    assert main(["measure", str(runs), "--jobs", "1", "--out", str(out)]) == 0
    assert "2 runs" in capsys.readouterr().out
    assert probe.load(out)["weight_norm_total"].sizes["run"] == 2


def test_errors_for_runs_without_weights(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="seed 7"):
        measure(runs, probes=few, seeds=[0, 7])
    with pytest.raises(FileNotFoundError, match="does not exist"):
        measure(tmp_path / "nowhere", probes=few)
    with pytest.raises(FileNotFoundError, match="--store-weights log"):
        measure(trained(tmp_path, seeds="0", store_weights="none"), probes=few)
    with pytest.raises(ValueError, match="probes"):
        measure(runs, probes=losses_only, seeds=[0], n_jobs=1)


def losses_only() -> ProbeSet:
    return ProbeSet([PerformanceProbe()])
