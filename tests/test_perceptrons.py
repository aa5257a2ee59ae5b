"""``python -m reference perceptrons``: data, training and recordings of ReLU perceptrons."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import probe
from probe import PerformanceProbe, ProbeSet
from reference.__main__ import main
from reference.experiments import observed_data, observed_steps, perceptron_config, record_perceptron
from reference.training import PerceptronConfig, train_perceptron

TINY = PerceptronConfig(task="digits", n_train=40, hidden=(16,), lr=1e-2, steps=30)


def few() -> ProbeSet:
    return ProbeSet([PerformanceProbe()])


@pytest.mark.parametrize("task", ["division", "digits"])
def test_splits_are_disjoint_and_complete(task: str) -> None:
    config = perceptron_config(task)
    data = config.data(3)
    rows = torch.cat([torch.cat([x, y[:, None]], 1) for x, y in data.values()])
    every = torch.cat([torch.cat([x, y[:, None]], 1) for x, y in config.data(4).values()])
    assert len(data["train"][1]) == config.n_train
    assert sorted(rows.tolist()) == sorted(every.tolist())
    assert not torch.equal(rows, every)


def test_division_is_division() -> None:
    x, y = perceptron_config("division").data(0)["test"]
    a, b = x[:, :59].argmax(1), x[:, 59:].argmax(1)
    assert torch.equal(y * b % 59, a)
    assert torch.equal(x.sum(1), torch.full((len(x),), 2.0))


@pytest.mark.parametrize("task", ["division", "digits"])
def test_a_control_has_the_same_inputs_and_other_answers(task: str) -> None:
    runs, controls = (perceptron_config(task, control=control) for control in (False, True))
    assert replace(controls, shuffled=False) == runs
    for (x, y), (same, other) in zip(runs.data(1).values(), controls.data(1).values(), strict=True):
        assert torch.equal(x, same)
        assert (y == other).float().mean() < 0.25  # by chance .02 and .1
    answers = [torch.cat([y for _, y in config.data(1).values()]).sort().values for config in (runs, controls)]
    assert torch.equal(*answers)


def test_training_is_a_function_of_configuration_and_seed() -> None:
    def weights(seed: int, steps: list[int]) -> torch.Tensor:
        *_, (_, network) = train_perceptron(TINY, seed, steps)
        return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])

    torch.manual_seed(0)
    one = weights(0, [0, 30])
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert torch.equal(one, weights(0, [0, 7, 8, 30]))  # the observed steps do not matter
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(one, weights(1, [30]))


def test_the_loss_of_the_training_falls_to_that_of_its_kind() -> None:
    for loss in ("cross entropy", "squared error"):
        config = replace(TINY, loss=loss, weight_decay=0.0, steps=200)
        (x, y), losses = config.data(0)["train"], []
        for _, network in train_perceptron(config, 0, [0, 200]):
            outputs = network(x).detach().numpy()
            truth = np.eye(10)[y]
            if loss == "squared error":
                losses.append(((outputs - truth) ** 2).mean())
            else:
                exps = np.exp(outputs - outputs.max(1, keepdims=True))
                losses.append(-np.log((exps / exps.sum(1, keepdims=True))[truth == 1]).mean())
            assert config.training_loss(network(x), y).item() == pytest.approx(losses[-1], rel=1e-4)
        assert losses[1] < 0.5 * losses[0]


def test_initial_scale() -> None:
    one, eight = (replace(TINY, init_scale=scale).network(0) for scale in (1.0, 8.0))
    for first, second in zip(one.parameters(), eight.parameters(), strict=True):
        assert torch.equal(8 * first, second)


def test_midpoints_lie_between_training_inputs() -> None:
    data = observed_data(perceptron_config("division"), 0)
    midpoints = data["midpoint"][0]
    assert data["midpoint"][1] is None
    assert set(midpoints.unique().tolist()) <= {0.0, 0.5, 1.0}
    assert (midpoints.sum(1) == 2).all()
    assert ((midpoints == 0.5).sum(1) >= 2).all()  # of two different inputs


def test_steps_of_the_observations() -> None:
    steps = observed_steps(perceptron_config("division"))
    assert steps[:4] == [0, 1, 2, 3]
    assert steps[-1] == 4_000
    assert max(np.diff(steps)) <= 334


def test_a_finished_run_is_only_read(tmp_path: Path) -> None:
    path = tmp_path / "seed-0.nc"
    first = record_perceptron(TINY, 0, path, few)
    content = path.read_bytes()
    assert first["step"].values.tolist() == observed_steps(TINY)
    assert record_perceptron(TINY, 0, path, few).identical(first)
    assert path.read_bytes() == content
    path.unlink()
    again = record_perceptron(TINY, 0, path, few)  # a run that was cut starts again, and ends the same
    assert again["test_loss"].identical(first["test_loss"])
    assert again["training_loss"].identical(first["training_loss"])
    for config, seed in ((replace(TINY, lr=1e-3), 0), (TINY, 1)):
        with pytest.raises(ValueError, match="Expected the run of this command"):
            record_perceptron(config, seed, path, few)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reference.experiments.perceptron_probes", few)
    command = ["perceptrons", "--task", "digits", "--control", "--seeds", "0,2", "--steps", "4", "--jobs", "1"]
    assert main([*command, "--out", str(tmp_path)]) == 0
    merged = probe.load(tmp_path / "perceptrons-digits-control.nc")
    assert merged["seed"].values.tolist() == [0, 2]
    assert all(json.loads(one)["config"]["shuffled"] for one in json.loads(merged.attrs["provenance"]))
    assert "seeds: 2" in capsys.readouterr().out
