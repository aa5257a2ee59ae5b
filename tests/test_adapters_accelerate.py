"""Probes in a loop with Accelerate: steps, checkpoints and trackers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from cases import splits
from setups import DATA, X, Y, adam, net
from torch.nn import functional as F
from trainer_states import same

import probe
from probe import MutualInfoProbe, ProbeSet, every

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]
accelerate = pytest.importorskip("accelerate", reason="accelerate is not installed")


class Tracker(accelerate.tracking.GeneralTracker if hasattr(accelerate, "tracking") else object):  # type: ignore[misc]
    """Keeps what it receives."""

    name, requires_logging_directory = "kept", False

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []

    @property
    def tracker(self) -> Any:
        return self.rows

    def store_init_configuration(self, values: Any) -> None:
        pass

    def log(self, values: Any, step: int | None = None, **_: Any) -> None:
        self.rows.append((step, values))


def context(accelerator: Any, model: Any, optimizer: Any, **options: Any) -> Any:
    return probe.adapters.accelerate.ProbeContext(
        accelerator, ProbeSet([MutualInfoProbe()]), splits(DATA), model, optimizer,
        **{"schedule": every(1), "on_error": "raise", **options},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def fresh() -> None:
    """Remove the settings of earlier accelerators, which Accelerate keeps in the process."""
    accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)
    accelerate.state.GradientState._reset_state()


def prepared(**settings: Any) -> Any:
    accelerator = accelerate.Accelerator(cpu=True, **settings)
    plain = net()
    return accelerator, *accelerator.prepare(plain, adam(plain))


def train(accelerator: Any, model: Any, optimizer: Any, n: int, *, infinite: int = -1) -> None:
    for i in range(n):
        with accelerator.accumulate(model):
            rows = torch.randint(len(Y), (8,))
            loss = F.cross_entropy(model(X[rows]), Y[rows])
            accelerator.backward(loss * float("inf") if i == infinite else loss)
            optimizer.step()
            optimizer.zero_grad()


def steps(one: Any) -> list[int]:
    return one.attachment.probes.series_["step"].values.tolist()


def test_training_and_checkpoints_stay_the_same_and_substeps_do_not_count(tmp_path: Path) -> None:
    states = []
    for on in (False, True):
        torch.manual_seed(0)
        accelerator, model, optimizer = prepared(gradient_accumulation_steps=2)
        one = context(accelerator, model, optimizer)
        if on:
            with one:
                train(accelerator, model, optimizer, 8)
                accelerator.save_state(str(tmp_path / str(on)))
        else:
            train(accelerator, model, optimizer, 8)
            accelerator.save_state(str(tmp_path / str(on)))
        files = [tmp_path / str(on) / "optimizer.bin", tmp_path / str(on) / "random_states_0.pkl"]
        saved = [torch.load(files[0]), torch.load(files[1], weights_only=False)["torch_manual_seed"]]
        states.append([model.state_dict(), optimizer.state_dict(), torch.get_rng_state(), saved])
    assert same(*states)
    assert (tmp_path / "True/model.safetensors").read_bytes() == (tmp_path / "False/model.safetensors").read_bytes()
    assert steps(one) == [0, 1, 2, 3, 4]
    assert not optimizer.optimizer._optimizer_step_post_hooks


def test_a_training_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.nc"
    accelerator, model, optimizer = prepared()
    with context(accelerator, model, optimizer, path=path):
        train(accelerator, model, optimizer, 3)
        accelerator.save_state(str(tmp_path / "saved"))
        train(accelerator, model, optimizer, 2)
    accelerator, model, optimizer = prepared()
    one = context(accelerator, model, optimizer, path=path)
    accelerator.load_state(str(tmp_path / "saved"))
    with one:
        train(accelerator, model, optimizer, 4)
        with pytest.raises(RuntimeError, match="Expected load_state before the probes are attached"):
            accelerator.load_state(str(tmp_path / "saved"))
        with pytest.raises(RuntimeError, match="entered once at a time"), one:
            pass
    assert steps(one) == probe.load(path)["step"].values.tolist() == list(range(8))
    another = context(*prepared(), path=path, step=7)
    with another:
        pass
    assert steps(another) == list(range(8))


def test_numbers_go_to_trackers_and_the_recording_is_whole_after_an_error(tmp_path: Path) -> None:
    path, tracker = tmp_path / "run.nc", Tracker()
    accelerator, model, optimizer = prepared(log_with=tracker)
    accelerator.init_trackers("test")
    one = context(accelerator, model, optimizer, path=path, schedule=every(2))

    def fails() -> None:
        with one:
            train(accelerator, model, optimizer, 5)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert path.exists()
    series = probe.load(path)
    assert [step for step, _ in tracker.rows] == series["step"].values.tolist() == [0, 2, 4]
    assert [row["probe/test_loss"] for _, row in tracker.rows] == series["test_loss"].values.tolist()
    assert not optimizer.optimizer._optimizer_step_post_hooks


@pytest.mark.parametrize("fused", [False, True])
def test_skipped_updates_of_a_scaler_are_no_steps(fused: bool) -> None:
    accelerator = accelerate.Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu")
    model = net()
    model, optimizer = accelerator.prepare(model, adam(model, fused=fused))
    with context(accelerator, model, optimizer) as one:
        train(accelerator, model, optimizer, 4, infinite=2)
    assert steps(one) == [0, 1, 2, 3]
    assert optimizer.scaler is accelerator.scaler
