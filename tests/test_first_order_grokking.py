"""Two-layer networks on modular addition: data, training, recordings, and sweeps of weight decay."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import probe
from reference.experiments import (
    first_order_analysis as analysis,
    first_order_grokking as experiment,
    first_order_loops as loops,
)
from reference.experiments.first_order_demo import record_demo_seed
from reference.experiments.first_order_figures import draw_boundary, draw_loops, draw_weights
from reference.training import DEMO
from reference.training.modular import ModularConfig, squared_errors, train_modular

RESULTS = Path(__file__).parent.parent / "reference" / "results"
TINY = ModularConfig(modulus=7, hidden=16, steps=20)
RUNS = experiment.grokking_runs()


def test_splits_are_disjoint_and_complete_and_the_control_has_other_answers() -> None:
    data, control = TINY.data(3), replace(TINY, shuffled=True).data(3)
    rows = torch.cat([x for x, _ in data.values()])
    assert len(data["train"][1]) == round(49 / 2)
    assert len(torch.unique(rows, dim=0)) == 49
    for (x, y), (same, other) in zip(data.values(), control.values(), strict=True):
        assert torch.equal((x[:, :7].argmax(1) + x[:, 7:].argmax(1)) % 7, y)
        assert torch.equal(x, same)
        assert (y == other).float().mean() < 0.5


def test_the_loss_is_that_of_the_paper_and_zero_for_right_answers() -> None:
    y = torch.tensor([0, 2])
    exact = torch.eye(3)[y] - 1 / 3
    assert squared_errors(exact, y).tolist() == [[0, 1, 1], [0, 1, 1]]
    assert squared_errors(torch.zeros(2, 3), y)[:, 0].tolist() == pytest.approx([2 / 3, 2 / 3])


def test_training_is_a_function_of_the_seed_and_decay_shrinks_the_weights() -> None:
    def weights(seed: int, steps: list[int], decay: float | None = None) -> torch.Tensor:
        schedule = None if decay is None else lambda step: decay if step >= 10 else 1.0
        *_, (_, network) = train_modular(TINY, seed, steps, schedule)
        return torch.cat([p.detach().flatten() for p in network.parameters()])

    torch.manual_seed(0)
    one = weights(0, [0, 20])
    torch.manual_seed(1)
    assert torch.equal(one, weights(0, [10, 20]))
    assert torch.equal(one, weights(0, [20], 1.0))
    assert not torch.equal(one, weights(1, [20]))
    assert weights(0, [20], 50.0).norm() < one.norm() / 2


def test_runs_have_controls_of_one_length_and_sweeps_that_return() -> None:
    lengths = {RUNS[name].training.steps for name in ("grokking", "no-decay", "shuffled")}
    assert len(lengths) == 1
    assert all(set(experiment.BUDGETS) <= set(RUNS[name].observed()) for name in RUNS if name.startswith("boundary"))
    sweep = RUNS["sweep-200"]
    decays = [sweep.decay(step - 1) for step in sweep.observed()[2:]]
    assert decays == decays[::-1]
    assert (min(decays), max(decays), sweep.decay(0)) == (0.01, 5.62, 0.01)
    assert all(sum(name.startswith(kind) for name in RUNS) >= 3 for kind in ("sweep", "collapse"))


def test_a_recording_is_resumed_and_another_run_is_refused(tmp_path: Path) -> None:
    run = experiment.GrokkingRun(name="tiny", training=TINY, pieces=((0.1, 10), (10.0, 20)))
    series = experiment.record_grokking_seed(run, 0, tmp_path / "a.nc")
    assert series.step.values.tolist() == [0, 10, 30]
    assert series.decay.values.tolist() == pytest.approx([0.1, 0.1, 10])
    assert float(series.parameter_norm[2]) < float(series.parameter_norm[1])
    assert {"train_loss", "test_loss", "train_accuracy", "test_accuracy"} <= set(series)
    written = (tmp_path / "a.nc").stat().st_mtime_ns
    experiment.record_grokking_seed(run, 0, tmp_path / "a.nc")
    assert (tmp_path / "a.nc").stat().st_mtime_ns == written
    with pytest.raises(ValueError, match="Expected the run of this command"):
        experiment.record_grokking_seed(run, 1, tmp_path / "a.nc")
    with pytest.raises(ValueError, match="Expected names among grokking"):
        experiment.record_grokking(tmp_path, names=["other"])


@pytest.mark.slow
def test_the_demo_has_a_control_of_the_same_length(tmp_path: Path) -> None:
    small = replace(DEMO, steps=3, model=replace(DEMO.model, d_model=16, d_mlp=256), task=replace(DEMO.task, size=11))
    run = record_demo_seed(0, tmp_path / "a.nc", training=small)
    control = record_demo_seed(0, tmp_path / "b.nc", control_of=run, training=replace(small, steps=99))
    assert run.step.values.tolist() == control.step.values.tolist() == [0, 1, 2, 3]
    assert run.train_loss.values.tolist() != control.train_loss.values.tolist()
    assert {"weight_phase", "read_out_accuracy", "information_x", "test_accuracy"} <= set(run)
    with pytest.raises(ValueError, match="Expected the run of this command"):
        record_demo_seed(1, tmp_path / "a.nc", training=small)


def test_loops_are_read_from_recordings() -> None:
    """A planted loop: the accuracy rises from decay 1 on the way up, and falls below 0.1 on the way down."""
    rng, recorded = np.random.default_rng(0), {}
    for name, run in RUNS.items():
        if name.startswith("sweep"):
            decay = np.array([run.decay(max(step - 1, 0)) for step in run.observed()])
            up = np.arange(len(decay)) < len(decay) / 2 + 1
            value = np.where(up, decay > 0.9, decay > 0.09) + 0.01 * rng.standard_normal((4, len(decay)))
            recorded[name] = xr.Dataset({"test_accuracy": (("run", "step"), value)}, {"step": run.observed()})
    found = loops.sweep_loops(recorded, "test_accuracy")
    assert found.areas == pytest.approx([0.79, 0.79, 0.79], abs=0.03)  # from 0.0875 to 0.875
    assert found.status == "remains"
    assert found.zero_rate.lower > 0.3
    assert len(draw_loops(recorded).axes) == 4
    with pytest.raises(ValueError, match="Expected recorded runs sweep-STEPS, got none"):
        loops.sweep_loops({}, "test_accuracy")


def test_distances_of_planted_weights() -> None:
    """The test accuracy rises at step 100, and the weights become mixed at step 1,000, in all seeds but one."""
    steps, rng = np.unique(np.round(np.geomspace(1, 4000, 60))).astype(int), np.random.default_rng(0)
    at = {"step": steps, "run": range(5), "layer": ["0"], "direction": [0], "split": ["test"]}
    rises = np.array([95, 100, 105, 100, 100])
    test, mixed = (np.where(steps >= time[:, None], 1.0, 0.0) for time in (rises, 10 * rises))
    mixed[4] = 0
    kurtosis = 6 + np.exp(-(np.log10(steps / 100) ** 2)) * np.ones((5, 1)) + 0.001 * rng.standard_normal(test.shape)
    weights = ("run", "step", "layer", "direction")
    series = xr.Dataset(
        {
            "train_accuracy": (("run", "step"), np.where(steps >= 10, 1.0, 0.0) * np.ones((5, 1))),
            "test_accuracy": (("run", "step"), test),
            "read_out_accuracy": (("run", "step", "split", "layer"), test[..., None, None]),
            "weight_phase": (weights, mixed[..., None, None]),
            "weight_phase_kurtosis": (weights, kurtosis[..., None, None]),
            "weight_phase_droplet_fraction": (weights, mixed[..., None, None] / 10),
        },
        at,
    )
    found = {
        (d.first, d.second): d for d in analysis.distances(analysis.weight_markers(series, "weight_phase", "0", "0"))
    }
    mixed_end = found["end", "mixed"]
    assert (mixed_end.verdict, mixed_end.n_found, mixed_end.n_runs) == ("apart", 4, 5)
    assert mixed_end.distance.value == pytest.approx(1, abs=0.1)
    assert found["network_half", "read_out_half"].verdict == "together"
    assert found["compression_onset", "mixed"].verdict == "too few seeds"
    assert analysis.share_mixed(series, "weight_phase").item() == pytest.approx(0.8)
    assert len(draw_weights({"grokking": series}, "weight_phase", "0", "0").axes) == 3


def test_the_boundary_of_a_delay_moves_with_the_budget() -> None:
    """Planted: a run groks after 1000 / decay steps."""
    decays, steps = np.array([0.1, 0.32, 1, 3.2]), np.array([0, *experiment.BUDGETS])
    grokked = (steps * decays[:, None] > 1000)[:, None] * np.ones((1, 2, 1))
    dims = ("weight_decay", "run", "step")
    series = xr.Dataset({"test_accuracy": (dims, grokked)}, {"weight_decay": decays, "step": steps})
    table = loops.boundary_table(series)
    assert len(draw_boundary(series).axes) == 2
    assert [float(decays[int(np.argmax(share == 1))]) for share in table.values.T] == [3.2, 1, 0.32]


def test_in_the_recordings_weights_become_mixed_after_grokking_and_not_in_controls() -> None:
    """In all seeds, by a factor of 1.8 or more after the test accuracy has reached .99."""
    recorded = {name: probe.load(RESULTS / f"first-order-{name}.nc") for name in ("grokking", "no-decay", "shuffled")}
    label = "fourier_weight_phase"
    share = {name: float(analysis.share_mixed(series, label)[0, 0]) for name, series in recorded.items()}
    assert share == {"grokking": 1, "no-decay": 0, "shuffled": 0}
    found = analysis.distances(analysis.weight_markers(recorded["grokking"], label, "0", "1"))
    assert next(d.verdict for d in found if (d.first, d.second) == ("end", "mixed")) == "apart"


@pytest.mark.parametrize("wrong", [{"activation": "sine"}, {"share": 1.0}, {"modulus": 2}, {"weight_decay": -1.0}])
def test_wrong_configurations_are_errors(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^Expected .*, got .*; "):
        ModularConfig(**wrong)


@pytest.mark.slow
def test_a_network_groks_and_its_controls_do_not(tmp_path: Path) -> None:
    """Training accuracy 1 within 100 steps; test accuracy 0.9 after ten times as many."""
    recorded = experiment.record_grokking(tmp_path, names=["grokking", "no-decay", "shuffled"], seeds=(0,), n_jobs=1)
    for series in recorded.values():
        assert (series.train_accuracy.sel(step=slice(100, None)) > 0.99).all()
    assert recorded["grokking"].test_accuracy.sel(step=100).item() < 0.3
    assert recorded["grokking"].test_accuracy[0, -1].item() > 0.99
    assert all(float(recorded[name].test_accuracy.max()) < 0.3 for name in ("no-decay", "shuffled"))
