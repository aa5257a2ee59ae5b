"""Probes in Lightning: the callback counts what the optimizer does, and the training stays the same bit by bit."""

import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import xarray as xr
from cases import splits
from setups import DATA, X, Y, net
from torch import Tensor
from torch.nn import functional as F
from trainer_states import same

import probe
from probe import MutualInfoProbe, ProbeSet, every
from probe.errors import ProbeWarning

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]
pytest.importorskip("lightning", reason="lightning is not installed")
import lightning  # noqa: E402
import lightning.pytorch.callbacks  # noqa: E402

STEPS = 6  # of two epochs of three batches


class Module(lightning.LightningModule):
    """A network with batch norm and dropout."""

    def __init__(self, fails_with: type[BaseException] | None = None, **settings: Any) -> None:
        super().__init__()
        self.net, self.settings, self.fails_with = net(), settings, fails_with

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, index: int) -> Tensor:
        if self.fails_with is not None and self.trainer.global_step == 4:
            raise self.fails_with
        return F.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        self.log("val_loss", F.cross_entropy(self(batch[0]), batch[1]))

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-2, **self.settings)


class Two(Module):
    """Manual optimisation with two optimizers; the second steps at every other batch."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Any, index: int) -> None:
        for i, optimizer in enumerate(self.optimizers()):
            if i == 0 or index % 2 == 0:
                optimizer.zero_grad()
                self.manual_backward(F.cross_entropy(self(batch[0]), batch[1]))
                optimizer.step()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.net[0].parameters(), lr=0.1), torch.optim.SGD(self.net[4].parameters(), lr=0.1)


def loader(shuffle: bool = True) -> Any:
    data = torch.utils.data.TensorDataset(X, Y)
    return torch.utils.data.DataLoader(data, batch_size=len(X) // 3, shuffle=shuffle, drop_last=True)


def trainer(folder: Path, *callbacks: Any, package: Any = lightning, logger: Any = False, **settings: Any) -> Any:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": bool(callbacks)}
    return package.Trainer(
        accelerator="cpu", default_root_dir=folder, logger=logger, callbacks=list(callbacks),
        **{"max_epochs": 2, **quiet, **settings},
    )  # fmt: skip


def saving(folder: Path, **settings: Any) -> Any:
    return lightning.pytorch.callbacks.ModelCheckpoint(
        folder, save_top_k=-1, every_n_train_steps=1, filename="{step}", **settings
    )


def callback(**options: Any) -> Any:
    probes = ProbeSet([MutualInfoProbe()])
    return probe.adapters.lightning.ProbeCallback(
        probes, splits(DATA), **{"schedule": every(1), "on_error": "raise", **options}
    )


def steps(one: Any) -> list[int]:
    return one.attachment.probes.series_["step"].values.tolist()


@pytest.mark.parametrize(
    ("settings", "fused", "last"),
    [({}, False, 6), ({"accumulate_grad_batches": 2}, False, 4), ({"gradient_clip_val": 0.1}, False, 6), ({}, True, 6)],
)
def test_training_and_each_checkpoint_stay_the_same(tmp_path: Path, settings: Any, fused: bool, last: int) -> None:
    """Validation and the sanity check make no step."""
    states = []
    for on in (False, True):
        torch.manual_seed(0)
        module, one = Module(fused=fused), callback()
        used = trainer(tmp_path / str(on), *([one] if on else []), saving(tmp_path / str(on)), **settings)
        used.fit(module, loader(), loader(False))
        files = sorted((tmp_path / str(on)).glob("*.ckpt"))
        saved = [torch.load(file, weights_only=False) for file in files]
        states.append([[file.name for file in files], module.state_dict(), torch.get_rng_state()])
        states[-1] += [[one["state_dict"], one["optimizer_states"]] for one in saved]
    assert len(states[0]) == 3 + last
    assert same(*states)
    assert steps(one) == list(range(last + 1))
    assert not used.optimizers[0]._optimizer_step_post_hooks


def test_with_several_optimizers_each_callback_counts_one(tmp_path: Path) -> None:
    """A checkpoint has the counts of all callbacks, also of those with the same kinds of probes."""
    both = [callback(optimizer=0), callback(optimizer=1), callback(optimizer=1)]
    used = trainer(tmp_path, *both, saving(tmp_path))
    used.fit(Two(), loader())
    assert [steps(one) for one in both] == [list(range(7)), list(range(5)), list(range(5))]
    assert used.global_step == 10
    again = [callback(optimizer=i, path=tmp_path / f"{i}.nc") for i in (0, 1)]
    trainer(tmp_path, *again, max_epochs=3).fit(Two(), loader(), ckpt_path=sorted(tmp_path.glob("*=10.ckpt"))[0])
    assert [steps(one) for one in again] == [[6, 7, 8, 9], [4, 5, 6]]


def test_steps_of_a_checkpoint_without_the_callback(tmp_path: Path) -> None:
    """Lightning counts the updates of all optimizers. An optimizer that has made none stays at 0."""
    plain = trainer(tmp_path, saving(tmp_path), max_steps=3)
    plain.fit(Two(), loader())
    last = sorted(tmp_path.glob("*.ckpt"))[-1]
    one = callback(optimizer=0, path=tmp_path / "run.nc")
    with pytest.warns(
        ProbeWarning, match="number of updates of each optimizer, got one without, so the steps continue"
    ):
        trainer(tmp_path, one, max_epochs=3).fit(Two(), loader(), ckpt_path=last)
    assert steps(one)[0] == plain.global_step
    content = torch.load(last, weights_only=False)
    torch.save({**content, "probe": {0: 0}}, last)
    other = callback(optimizer=0)
    trainer(tmp_path, other, max_epochs=3).fit(Two(), loader(), ckpt_path=last)
    assert steps(other)[0] == 0


@pytest.mark.parametrize("optimizer", [None, 2])
def test_an_optimizer_that_is_not_there_is_refused(tmp_path: Path, optimizer: int | None) -> None:
    with pytest.raises(ValueError, match="index of one of 2 optimizers"):
        trainer(tmp_path, callback(optimizer=optimizer)).fit(Two(), loader())


def test_a_training_resumes_from_its_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "run.nc"
    torch.manual_seed(0)
    whole = callback()
    trainer(tmp_path / "whole", whole).fit(Module(), loader(False))
    torch.manual_seed(0)
    first = callback(path=path)
    trainer(tmp_path, first, saving(tmp_path), max_steps=4).fit(Module(), loader(False))
    second = callback(path=path)
    used = trainer(tmp_path, second)
    used.fit(Module(), loader(False), ckpt_path=tmp_path / "step=3.ckpt")
    assert steps(second) == list(range(STEPS + 1))
    recorded = probe.load(path)
    assert recorded["step"].values.tolist() == list(range(STEPS + 1))
    used.fit_loop.max_epochs = 3
    used.fit(Module(), loader(False))
    assert steps(second) == list(range(10))


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_in_the_loop_leaves_a_whole_recording(tmp_path: Path, error: type[BaseException]) -> None:
    path, module = tmp_path / "run.nc", Module(fails_with=error)
    one = callback(path=path)
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises((RuntimeError, SystemExit)):  # Lightning exits after Ctrl-C
            trainer(tmp_path, one).fit(module, loader())
    finally:
        signal.signal(signal.SIGINT, handler)
    assert not one.attachment.running
    assert xr.load_dataset(path)["step"].values.tolist() == probe.load(path)["step"].values.tolist() == [0, 1, 2, 3, 4]


def test_numbers_go_to_loggers_and_to_monitors(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    one = callback(log=["train_loss", "test_loss", "information_x"], schedule=every(2))
    stop = lightning.pytorch.callbacks.EarlyStopping("probe/test_loss", patience=9)
    best = lightning.pytorch.callbacks.ModelCheckpoint(tmp_path / "best", monitor="probe/test_loss")
    logger = CSVLogger(tmp_path)
    used = trainer(tmp_path, one, stop, best, logger=logger)
    used.fit(Module(), loader(), loader(False))
    series = one.attachment.probes.series_
    rows = pd.read_csv(Path(logger.log_dir) / "metrics.csv").dropna(subset="probe/train_loss")
    assert rows["step"].tolist() == [0, 2, 4, 6]
    assert rows["probe/train_loss"].tolist() == series["train_loss"].values.tolist()
    layer = series["layer"].values[0]
    value = series["information_x"].sel(step=4, split="test", layer=layer).item()
    assert rows[f"probe/information_x/test/{layer}"].iloc[2] == value
    assert used.callback_metrics["probe/test_loss"].item() == pytest.approx(series["test_loss"].values[-1])
    assert best.best_model_score is not None


def test_both_packages_are_served(tmp_path: Path) -> None:
    other = pytest.importorskip("pytorch_lightning", reason="pytorch_lightning is not installed")

    class Small(other.LightningModule):  # type: ignore[name-defined, misc]
        configure_optimizers, forward = Module.configure_optimizers, Module.forward

        def __init__(self) -> None:
            super().__init__()
            self.net, self.settings = net(), dict[str, Any]()

        def training_step(self, batch: Any, index: int) -> Tensor:
            return F.cross_entropy(self(batch[0]), batch[1])

    one = callback()
    assert isinstance(one, (lightning.Callback, other.Callback))
    trainer(tmp_path, one, package=other).fit(Small(), loader())
    assert steps(one) == list(range(STEPS + 1))


def test_a_module_without_forward_needs_the_name_of_a_submodule(tmp_path: Path) -> None:
    class Silent(Module):
        forward = lightning.LightningModule.forward

        def training_step(self, batch: Any, index: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

    with pytest.raises(ValueError, match="model= the name of a submodule: net"):
        trainer(tmp_path, callback()).fit(Silent(), loader())
    with pytest.raises(ValueError, match="Expected model= to name a submodule, got 'layers'; give one such as net"):
        trainer(tmp_path, callback(model="layers")).fit(Silent(), loader())
    one = callback(model="net")
    trainer(tmp_path, one).fit(Silent(), loader())
    assert steps(one) == list(range(STEPS + 1))


def test_a_callback_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    one = callback()
    with pytest.raises(ValueError, match="got this ProbeCallback twice"):
        trainer(tmp_path, one, one).fit(Module(), loader())
    other = probe.adapters.lightning.ProbeCallback(one.attachment.probes, DATA, model="net")
    with pytest.raises(ValueError, match="give each callback its own probes"):
        trainer(tmp_path, one, other).fit(Module(), loader())


def test_a_second_fit_is_a_new_training_and_needs_another_file(tmp_path: Path) -> None:
    one = callback(path=tmp_path / "run.nc")
    trainer(tmp_path, one).fit(Module(), loader())
    with pytest.raises(FileExistsError, match="mode='overwrite'"):
        trainer(tmp_path, one).fit(Module(), loader())
    again = callback()
    used = trainer(tmp_path, again)
    used.fit(module := Module(), loader())
    used.fit_loop.max_epochs = 3
    with pytest.warns(ProbeWarning, match="so the series starts at this step"):
        used.fit(module, loader())
    assert steps(again) == [6, 7, 8, 9]


def test_skipped_updates_of_a_scaler_are_no_steps(tmp_path: Path) -> None:
    from lightning.pytorch.plugins.precision import MixedPrecision

    class Overflows(Module):
        def training_step(self, batch: Any, index: int) -> Tensor:
            return super().training_step(batch, index) * (float("inf") if index == 1 else 1.0)

    one = callback()
    plugin = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    used = trainer(tmp_path, one, plugins=[plugin])
    used.fit(Overflows(), loader())
    assert steps(one) == [0, 1, 2, 3, 4]
    assert used.global_step == STEPS
