"""Probes in skorch: steps, the history, copies, and trainings that continue."""

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from cases import splits
from setups import DATA, X, Y, net
from sklearn.base import clone
from torch import nn
from trainer_states import same

import probe
from probe import MutualInfoProbe, ProbeSet, every

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]
skorch = pytest.importorskip("skorch", reason="skorch is not installed")
STEPS = 6  # of two epochs of three batches
ROWS = 12


def callback(**options: Any) -> Any:
    return probe.adapters.skorch.ProbeCallback(
        ProbeSet([MutualInfoProbe()]), splits(DATA), **{"schedule": every(1), "on_error": "raise", **options}
    )


def classifier(*callbacks: Any, **settings: Any) -> Any:
    usual = {
        "batch_size": ROWS // 3,
        "max_epochs": 2,
        "verbose": 0,
        "train_split": None,
        "optimizer": torch.optim.AdamW,
    }
    return skorch.NeuralNetClassifier(
        net, criterion=nn.CrossEntropyLoss, callbacks=list(callbacks), **{**usual, **settings}
    )


def fit(used: Any, method: str = "fit") -> Any:
    return getattr(used, method)(X[:ROWS].numpy(), Y[:ROWS].numpy())


def steps(one: Any) -> list[int]:
    return one.probes.series_["step"].values.tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train_split": skorch.dataset.ValidSplit(2), "batch_size": ROWS // 6},
        {"optimizer": torch.optim.LBFGS, "optimizer__max_iter": 3},
        {"optimizer__fused": True},
    ],
    ids=["usual", "validation", "closures", "fused"],
)
def test_training_and_checkpoints_stay_the_same(tmp_path: Path, settings: Any) -> None:
    found = []
    for on in (False, True):
        torch.manual_seed(0)
        one = callback()
        saving = skorch.callbacks.Checkpoint(dirname=tmp_path / str(on), monitor=None, f_pickle=None)
        used = fit(classifier(*([one] if on else []), saving, **settings))
        files = [torch.load(tmp_path / str(on) / name) for name in ("params.pt", "optimizer.pt")]
        found.append([used.module_.state_dict(), files, torch.get_rng_state()])
    assert same(*found)
    assert steps(one) == list(range(STEPS + 1))
    assert not used.optimizer_._optimizer_step_post_hooks


def test_numbers_go_to_the_history(tmp_path: Path) -> None:
    one = callback(log=["train_loss", "information_x"], schedule=every(2))
    used = fit(classifier(one))
    series = one.probes.series_
    rows = [row for epoch in used.history for row in epoch["batches"] if "probe/train_loss" in row]
    assert [row["probe_step"] for row in rows] == series["step"].values.tolist()[1:] == [2, 4, 6]
    assert [row["probe/train_loss"] for row in rows] == series["train_loss"].values.tolist()[1:]
    assert used.history[:, "probe/train_loss"] == series["train_loss"].sel(step=[2, 6]).values.tolist()


def test_a_training_continues(tmp_path: Path) -> None:
    """By partial_fit, and by the checkpoint of another process."""
    one = callback(path=tmp_path / "run.nc")
    saving = skorch.callbacks.TrainEndCheckpoint(dirname=tmp_path / "saved")
    used = classifier(one, saving)
    fit(used)
    fit(used, "partial_fit")
    assert steps(one) == list(range(2 * STEPS + 1))
    two = callback(path=tmp_path / "run.nc")
    fit(classifier(skorch.callbacks.LoadInitState(saving), two))
    assert steps(two) == probe.load(tmp_path / "run.nc")["step"].values.tolist() == list(range(3 * STEPS + 1))
    fresh = classifier()
    fit(fresh)
    late = callback(path=tmp_path / "late.nc")
    fresh.set_params(callbacks=[late])
    fresh.initialize_callbacks()
    fit(fresh, "partial_fit")
    assert steps(late) == list(range(STEPS, 2 * STEPS + 1))


def test_errors_and_interrupts(tmp_path: Path) -> None:
    class Fails(skorch.callbacks.Callback):  # type: ignore[misc, name-defined]
        error: Any = KeyboardInterrupt

        def on_batch_end(self, net: Any, **_: Any) -> None:
            if net.history and len(net.history) == 2 and self.error:
                raise self.error

    path, fails = tmp_path / "run.nc", Fails()
    one = callback(path=path, mode="overwrite")
    fit(classifier(one, fails))
    assert steps(one) == [0, 1, 2, 3, 4]
    assert not one.attachment_.running
    fails.error = RuntimeError
    used = classifier(one, fails)
    with pytest.raises(RuntimeError):
        fit(used)
    assert probe.load(path)["step"].values.tolist() == [0, 1, 2, 3, 4]
    fails.error = None
    fit(used)
    assert steps(one) == list(range(STEPS + 1))


def test_copies_and_parameters() -> None:
    one = callback(batch_size=7)
    other = clone(one)
    assert other.batch_size == 7
    assert other.probes is not one.probes
    used = clone(classifier(("probe", one)))
    used.set_params(callbacks__probe__schedule=every(3))
    fit(used)
    assert dict(used.callbacks_)["probe"].probes.series_["step"].values.tolist() == [0, 3, 6]
    assert pickle.loads(pickle.dumps(used)).predict(X.numpy()).shape == Y.shape


def test_bad_input() -> None:
    one = callback()
    with pytest.raises(ValueError, match="got this ProbeCallback twice"):
        fit(classifier(("a", one), ("b", one)))
    other = probe.adapters.skorch.ProbeCallback(one.probes, DATA)
    with pytest.raises(ValueError, match="give each callback its own probes"):
        fit(classifier(one, other))
