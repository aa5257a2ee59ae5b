"""Saved checkpoints: what is found, at which step, what is loaded, and that the numbers are those of the training."""

import json
import re
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
import xarray as xr
from torch import Tensor, nn

from probe import ActivationsProbe, Measured, PhaseDetector, Probe, ProbeSet, WeightsProbe, load, over_checkpoints
from probe.checkpoints.steps import step_of
from probe.errors import ProbeWarning
from probe.recording import add_digest

N_STEPS, SAVED = 24, (0, 3, 9, 24)
X = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
DATA = {"train": (X[:30], Y[:30]), "test": (X[30:], Y[30:])}
PROBES = [WeightsProbe(), ActivationsProbe()]


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))


def states() -> tuple[dict[int, dict[str, Tensor]], xr.Dataset]:
    """Return the weights at some steps of a training, and what attached probes have recorded of it."""
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), 0.05)
    probes = ProbeSet(PROBES).attach(model, DATA)
    saved = {}
    for step in range(N_STEPS + 1):
        if step in SAVED:
            saved[step] = {name: value.clone() for name, value in model.state_dict().items()}
            probes.observe(step)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X[:30]), Y[:30]).backward()
        optimizer.step()
    return saved, probes.detach().series_


STATES, RECORDED = states()


def assert_recorded(found: xr.Dataset, steps: Any = SAVED) -> None:
    """Assert that the numbers equal those of the training, bit for bit."""
    expected = RECORDED.sel(step=list(steps)).drop_vars("seconds")
    xr.testing.assert_equal(found[list(expected.data_vars)], expected)


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lightning(step: int) -> Any:
    state = {f"net.{name}": value for name, value in STATES[step].items()}
    return {"global_step": step, "state_dict": {**state, "loss.weight": torch.ones(2)}, "optimizer_states": [{}]}


FILES: dict[str, tuple[str, Callable[[int], Any]]] = {
    "state dicts": ("run7_step{}.pt", lambda step: STATES[step]),
    "wrapped": (
        "{}.pth",
        lambda step: {
            "model": {f"module.{k}": v for k, v in STATES[step].items()},
            "best": np.float64(0.5),
            "args": Namespace(lr=0.1),
        },
    ),
    "compiled": ("{}.bin", lambda step: {f"_orig_mod.{name}": value for name, value in STATES[step].items()}),
    "with an average": ("{}.pt", lambda step: {"model": STATES[step], "ema": STATES[0]}),
    "Lightning, step in the name": ("epoch=0-step={}-v1.ckpt", lightning),
    "Lightning, other numbers": ("val_loss=0.{}5.ckpt", lightning),
}


def save(name: str, content: Any, step: int) -> Path:
    path = Path("ckpt", name.format(step))
    path.parent.mkdir(exist_ok=True)
    torch.save(content, path)
    return path


@pytest.mark.parametrize("kind", FILES)
def test_numbers_are_those_of_the_training(kind: str) -> None:
    name, content = FILES[kind]
    for step in SAVED:
        save(name, content(step), step)
    Path("ckpt/log.txt").touch()
    torch.save({}, "ckpt/optimizer.pt")
    found = over_checkpoints("ckpt/*" if kind == "state dicts" else "ckpt", PROBES, DATA, build=build)
    assert_recorded(found)
    origin = "global_step of the trainer" if kind == "Lightning, other numbers" else "the "
    assert f"4 checkpoints, step 0 to 24: steps from {origin}" in found.attrs["reading"]
    if kind == "state dicts":
        assert "no checkpoints, and left out: log.txt, optimizer.pt" in found.attrs["reading"]


def distributed(step: int) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path("ckpt", f"global_step{step}")
        dcp.save(
            {"model": STATES[step], "optim": {"exp_avg": torch.ones(3)}, "step": step},
            checkpoint_id=folder,
            no_dist=True,
        )
    return folder


def test_distributed_checkpoints_are_read_without_executing_a_pickle() -> None:
    folders = [distributed(step) for step in SAVED]
    assert_recorded(over_checkpoints("ckpt", PROBES, DATA, build=build))
    (folders[1] / "__0_0.distcp").unlink()
    (folders[2] / ".metadata").write_bytes(b"cos\nsystem\n(S'touch executed'\ntR.")  # what a pickle can do
    with pytest.warns(ProbeWarning, match="It is left out") as caught:
        found = over_checkpoints("ckpt", PROBES, DATA, build=build)
    assert len([one for one in caught if "checkpoint of torch.distributed in" in str(one.message)]) == 2
    assert "os.system is no type of such metadata" in found.attrs["reading"].replace("posix", "os").replace(
        "nt.", "os."
    )
    assert not Path("executed").exists()
    assert_recorded(found, [0, 24])


def made(step: int) -> nn.Module:
    model = build()
    model.load_state_dict(STATES[step])
    return model


def test_functions_of_the_step() -> None:
    """As for published revisions. One model is in memory at a time, and the first one alone is checked."""
    alive: list[Any] = []
    passes: list[int] = []

    def one(step: int) -> nn.Module:
        import gc
        import weakref

        gc.collect()
        assert not [reference for reference in alive if reference() is not None]
        model = made(step)
        model.register_forward_pre_hook(lambda *_: passes.append(step))
        alive.append(weakref.ref(model))
        return model

    assert_recorded(over_checkpoints(one, PROBES, DATA, steps=SAVED[::-1]))
    assert [passes.count(step) for step in SAVED[1:]] == [len(DATA)] * 3 < [passes.count(0)] * 3
    paths = {3: save("three.pt", STATES[3], 3), 9: lambda: made(9), 0: lambda: made(0)}
    assert_recorded(over_checkpoints(paths, PROBES, DATA, build=build), [0, 3, 9])


class Moved(Probe):
    """Distance from the weights of the observation before."""

    def measure(self, snapshot: Any) -> dict[str, Measured]:
        weights = torch.cat([value.flatten() for value in snapshot.model.parameters()]).detach()
        before = snapshot.kept("weights")
        moved = float("nan") if before is None else float((weights - torch.from_numpy(before)).norm())
        return {"moved": Measured(moved), "weights": Measured(weights, keep=True)}


def test_measured_steps_are_only_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for step in SAVED[:2]:
        save("{}.pt", STATES[step], step)
    lines: list[str] = []
    kwargs: dict[str, Any] = {"build": build, "path": "run.nc", "report": lines.append}
    over_checkpoints("ckpt/*.pt", PROBES, DATA, **kwargs)
    for step in SAVED[2:]:
        save("{}.pt", STATES[step], step)
    Path("ckpt/0.pt").unlink()
    found = over_checkpoints("ckpt", PROBES, DATA, **kwargs)
    assert [line.split(":")[0] for line in lines] == ["step 0", "step 3", "step 9", "step 24"]
    assert "2 of the steps were measured in an earlier call" in found.attrs["reading"]
    for one in (found, load("run.nc"), over_checkpoints("ckpt", PROBES, DATA, **{**kwargs, "build": None})):
        assert_recorded(one)
    save("30.pt", STATES[24], 30)
    with pytest.raises(ValueError, match=r"Expected the configuration of .*got another configuration"):
        over_checkpoints("ckpt", PROBES, {"train": DATA["test"]}, **kwargs)
    files = ["ckpt", "run.nc", "run.nc.checkpoints.files", "run.nc.checkpoints.journal"]
    assert sorted(path.name for path in Path().iterdir()) == files
    over_checkpoints("ckpt", PROBES, {"train": DATA["test"]}, mode="overwrite", **kwargs)
    assert load("run.nc")["step"].values.tolist() == [3, 9, 24, 30]
    Path("other.nc").touch()
    with pytest.raises(FileExistsError, match=r"got other\.nc, which has other content"):
        over_checkpoints("ckpt", PROBES, DATA, **{**kwargs, "path": "other.nc"})


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_checkpoint_that_was_replaced_is_measured_again(n_jobs: int) -> None:
    for step in SAVED:
        save("{}.pt", STATES[step if step != 9 else 3], step)
    lines: list[str] = []
    kwargs: dict[str, Any] = {"build": build, "path": "run.nc", "report": lines.append, "n_jobs": n_jobs}
    over_checkpoints("ckpt", PROBES, DATA, **kwargs)
    size = save("{}.pt", STATES[9], 9).stat().st_size
    assert size == Path("ckpt/3.pt").stat().st_size
    found = over_checkpoints("ckpt", PROBES, DATA, **kwargs)
    assert_recorded(found)
    assert_recorded(load("run.nc"))
    assert [line.split(":")[0] for line in lines[4:]] == ["step 9"]
    assert "measured again, since the files differ from those of the earlier call: step 9" in found.attrs["reading"]
    with Path("run.nc.checkpoints.files").open("r+") as file:  # a kill before its last line is complete
        file.truncate(len(file.read()) - 5)
    assert_recorded(over_checkpoints("ckpt", PROBES, DATA, **kwargs))
    assert_recorded(over_checkpoints("ckpt", PROBES, DATA, **kwargs))
    assert [line.split(":")[0] for line in lines[5:]] in (["step 9"], ["step 9", "step 9"])


def test_an_interruption_keeps_what_was_measured() -> None:
    def interrupted(step: int) -> nn.Module:
        if step == 9:
            raise KeyboardInterrupt
        return made(step)

    with pytest.raises(KeyboardInterrupt):
        over_checkpoints(interrupted, PROBES, DATA, steps=SAVED, path="run.nc")
    assert_recorded(load("run.nc"), [0, 3])
    assert_recorded(over_checkpoints(made, PROBES, DATA, steps=SAVED, path="run.nc"))


def test_probes_that_compare_with_the_observation_before() -> None:
    """A checkpoint that comes later, and stands before measured ones, changes what those are compared with."""
    expected = over_checkpoints(made, [Moved()], DATA, steps=SAVED)["moved"]
    over_checkpoints(made, [Moved()], DATA, steps=[0, 9], path="run.nc")
    found = over_checkpoints(made, [Moved()], DATA, steps=SAVED, path="run.nc")["moved"]
    assert np.isfinite(found.values[1:]).all()
    xr.testing.assert_equal(found, expected)
    with pytest.warns(ProbeWarning, match="Expected n_jobs=1 for probes that compare"):
        found = over_checkpoints(made, [Moved()], DATA, steps=SAVED, n_jobs=2)["moved"]
    xr.testing.assert_equal(found, expected)


@pytest.mark.slow
def test_several_processes_return_the_same() -> None:
    for step in SAVED:
        save("{}.pt", STATES[step], step)
    Path("ckpt/9.pt").write_bytes(Path("ckpt/9.pt").read_bytes()[:900])
    lines: list[str] = []
    with pytest.warns(ProbeWarning, match="damaged file.*It is left out"):
        found = over_checkpoints("ckpt", PROBES, DATA, build=build, n_jobs=2, path="run.nc", report=lines.append)
    assert_recorded(found, [0, 3, 24])
    assert len(lines) == 3
    save("{}.pt", STATES[9], 9)
    assert_recorded(over_checkpoints("ckpt", PROBES, DATA, build=build, n_jobs=2, path="run.nc"))
    assert_recorded(load("run.nc"))


# -- Hugging Face without its packages --------------------------------------------------------------------------------


def trainer_state(folder: Path, step: int, every: int = 2) -> None:
    history = [{"step": i, "epoch": i / 4, "loss": 2.0 / (1 + i)} for i in range(every, step + 1, every)]
    history += [{"step": i, "epoch": i / 4, "eval_loss": 2.0, "eval_accuracy": i / 40} for i in range(4, step + 1, 4)]
    history.sort(key=lambda entry: entry["step"])
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": history}))


def trainer_folders(steps: Any = SAVED[1:]) -> None:
    for step in steps:
        folder = Path("out", f"checkpoint-{step}")
        folder.mkdir(parents=True)
        torch.save(STATES[step], folder / "pytorch_model.bin")
        torch.save({}, folder / "optimizer.pt")
        trainer_state(folder, step)


def test_a_folder_of_a_trainer_brings_its_curves() -> None:
    trainer_folders()
    torch.save({}, "out/training_args.bin")
    torch.save(STATES[0], "out/pytorch_model.bin")  # what save_model writes at the end
    found = over_checkpoints("out", PROBES, {"train": DATA["train"]}, build=build)
    assert "steps from trainer_state.json" in found.attrs["reading"]
    assert "out: the weights beside its checkpoints were left out" in found.attrs["reading"]
    assert 9 in over_checkpoints("out/checkpoint-9", [], DATA, build=build)["step"]
    measured = found.sel(step=[3, 9, 24])
    np.testing.assert_array_equal(measured["train_loss"], RECORDED["train_loss"].sel(step=[3, 9, 24]))
    assert found["step"].values.tolist() == sorted({*range(2, 25, 2), 3, 9})
    assert found["failed"].sel(step=4).values.tolist() == [-1, -1, -1, -1]
    assert found["logged_train_loss"].sel(step=4).item() == 0.4
    assert found["test_accuracy"].dropna("step")["step"].values.tolist() == list(range(4, 25, 4))
    assert PhaseDetector().fit(found).markers_["status"].sel(marker="generalisation_onset") != "undefined"
    whole = over_checkpoints(["out/checkpoint-*"], PROBES, DATA, build=build, path="run.nc")
    assert_recorded(whole.sel(step=[3, 9, 24]), [3, 9, 24])
    assert "logged_test_loss" in load("run.nc")
    Path("out/checkpoint-24/trainer_state.json").write_text('{"log_history"')
    found = over_checkpoints("out", PROBES, DATA, build=build)
    assert found["step"].values.max() == 24
    assert np.isfinite(found["logged_train_loss"].sel(step=8))
    assert "checkpoint-24: Expected a complete trainer_state.json" in found.attrs["reading"]


def test_missing_shards_and_unfinished_folders_are_left_out() -> None:
    trainer_folders(SAVED)
    index = {"weight_map": {name: f"part-{i % 2}.bin" for i, name in enumerate(STATES[0])}}
    for step in SAVED[1:3]:
        folder = Path("out", f"checkpoint-{step}")
        (folder / "pytorch_model.bin").unlink()
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        for part in ("part-0.bin", "part-1.bin")[: 2 if step == 9 else 1]:
            names = [name for name, file in index["weight_map"].items() if file == part]
            torch.save({name: STATES[step][name] for name in names}, folder / part)
    Path("out/checkpoint-99").mkdir()
    with pytest.warns(ProbeWarning) as caught:
        found = over_checkpoints("out", PROBES, DATA, build=build)
    texts = "\n".join(str(one.message) for one in caught)
    assert (
        "Expected the shards of pytorch_model.bin.index.json in out/checkpoint-3, got none called part-1.bin" in texts
    )
    assert "Expected weights in out/checkpoint-99, got none" in texts
    assert found.attrs["reading"].count("left out: ") == 2
    assert_recorded(found.sel(step=[0, 9, 24]), [0, 9, 24])


# -- what is wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["cut in half", "empty", "code", "a flipped bit"])
def test_a_damaged_checkpoint_is_left_out_and_the_others_are_measured(damage: str) -> None:
    for step in SAVED:
        path = save("{}.pt", STATES[step], step)
    if damage == "code":
        torch.save(build(), path)
    elif damage == "a flipped bit":
        add_digest(path)
    content = bytearray(path.read_bytes())
    if damage == "a flipped bit":
        content[len(content) // 2] ^= 1
    path.write_bytes({"cut in half": content[: len(content) // 2], "empty": b""}.get(damage, content))
    with pytest.warns(ProbeWarning, match=r"Expected weights alone in ckpt.24.pt, got .*It is left out"):
        found = over_checkpoints("ckpt", PROBES, DATA, build=build, path="run.nc")
    assert_recorded(found, SAVED[:3])
    with (
        pytest.raises(ValueError, match=r"that can be read, got none.*24\.pt"),
        pytest.warns(ProbeWarning, match="24.pt"),
    ):
        over_checkpoints(path, PROBES, DATA, build=build)


WIDER = {name: torch.cat([value, value]) if value.ndim else value for name, value in STATES[0].items()}
SHORTER = {name: value for name, value in STATES[0].items() if name != "3.bias"}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (WIDER, {}, r"Expected 0\.weight of shape \(8, 5\) in ckpt.9.pt, as the model has, got shape \(16, 5\)"),
        (SHORTER, {}, r"Expected 3\.bias of shape \(2,\) in .*got no weight of this name; .*correct build="),
        ({**STATES[9], "4.weight": X}, {}, r"no other weights than those of the model in .*got 4\.weight of shape"),
        ({"a": X}, {}, r"Expected the weights of the model in .*got a, and no name of the model"),
        ({"a": 1}, {}, r"got no tensors"),
        (
            {"ema": STATES[9], "best": STATES[9]},
            {},
            "one set of weights in .*got best/, ema/; name one with state_key=",
        ),
        ({"model": STATES[9]}, {"state_key": "ema"}, "Expected an entry 'ema' in .*got none; there are: model"),
        (STATES[9], {"step_key": "step"}, r"Expected an entry 'step' in .*got none; there are: 0\.weight"),
    ],
)
def test_another_architecture_is_named(content: Any, options: dict[str, Any], message: str) -> None:
    save("9.pt", content, 9)
    with pytest.raises(ValueError, match=message):
        over_checkpoints("ckpt", PROBES, DATA, build=build, path="run.nc", **options)
    assert [path.name for path in Path().iterdir()] == ["ckpt"]
    if not options:  # as a later checkpoint, too
        both = {0: save("0.pt", STATES[0], 0), 9: Path("ckpt/9.pt")}
        with pytest.raises(ValueError, match=message):
            over_checkpoints(both, PROBES, DATA, build=build)


def test_entries_by_name() -> None:
    save("a.pt", {"count": 9, "model": STATES[0], "ema": STATES[9]}, 9)
    assert_recorded(over_checkpoints("ckpt", PROBES, DATA, build=build, step_key="count", state_key="ema"), [9])


def test_a_copy_of_the_last_checkpoint_is_left_out() -> None:
    for step in SAVED:
        save("step={}.ckpt", lightning(step), step)
    save("last.ckpt", lightning(24), 24)
    found = over_checkpoints("ckpt", PROBES, DATA, build=build)
    assert "last.ckpt: left out, since ckpt/step=24.ckpt has its step 24" in found.attrs["reading"]
    assert_recorded(found)


def test_a_folder_of_lightning_brings_its_curves() -> None:
    """The folder of the version holds metrics.csv and the folder of checkpoints, named by an epoch and a loss."""
    for step in SAVED:
        save("epoch-val_loss=0.2{}.ckpt", lightning(step), step)
    save("last.ckpt", lightning(24), 24)
    Path("logs/version_0").mkdir(parents=True)
    Path("ckpt").rename("logs/version_0/checkpoints")
    rows = [f"0,{step},{2 / (1 + step)},," for step in range(1, 24, 2)] + [
        f"0,{s},,{s / 40},1.5" for s in (3, 7, 15, 23)
    ]
    Path("logs/version_0/metrics.csv").write_text("epoch,step,train_loss,val_acc,val_loss\n" + "\n".join(rows) + "\n")
    found = over_checkpoints("logs", PROBES, {"train": DATA["train"]}, build=build)
    measured = found.sel(step=list(SAVED))
    np.testing.assert_array_equal(measured["train_loss"], RECORDED["train_loss"])
    assert found["logged_train_loss"].sel(step=3).item() == 0.5
    assert found["test_accuracy"].dropna("step")["step"].values.tolist() == [3, 7, 15, 23]
    assert "test_loss" in found
    for line in ("checkpoints in version_0/checkpoints", "last.ckpt: left out", "global_step of the trainer", "from 0"):
        assert line in found.attrs["reading"]
    PhaseDetector(train_loss="logged_train_loss").fit(found)
    (Path("logs/version_1/checkpoints")).mkdir(parents=True)
    torch.save(lightning(3), "logs/version_1/checkpoints/step=3.ckpt")
    with pytest.raises(
        FileNotFoundError, match=r"several folders of them: version_0/checkpoints, version_1/checkpoints"
    ):
        over_checkpoints("logs", PROBES, DATA, build=build)


def test_names_of_a_real_folder() -> None:
    """Numbers with a unit, decimals, hidden files, links, unfinished saves, and what is saved beside the weights."""
    for step, name in zip(
        SAVED, ("run3-checkpoint-0k.pt", "v1.2_3_loss=0.91.pth.tar", "9.pt", "24_acc0.5.pt"), strict=True
    ):
        save(name, {"state_dict": {f"module._orig_mod.{k}": v for k, v in STATES[step].items()}, "epoch": 1}, step)
    for name in (".9.pt", "._3.pt", "optimizer_3.pt", "criterion_9.pt", "tmp-checkpoint-12/model.safetensors"):
        Path("ckpt", name).parent.mkdir(exist_ok=True)
        Path("ckpt", name).touch()
    save("best.pt", STATES[3], 3)
    Path("ckpt/latest.pt").symlink_to("24_acc0.5.pt")
    Path("ckpt/30.pt").symlink_to("nowhere.pt")
    with pytest.warns(ProbeWarning) as caught:
        found = over_checkpoints("ckpt", PROBES, DATA, build=build)
    assert [str(one.message).split(",")[0] for one in caught] == [
        "Expected a checkpoint at ckpt/30.pt",
        "Expected a step in the name best.pt",
    ]
    assert_recorded(found)
    assert "latest.pt: left out, since it is a link to 24_acc0.5.pt" in found.attrs["reading"]
    assert "Expected a checkpoint at ckpt/30.pt, got a link to nothing" in found.attrs["reading"]
    assert step_of(Path("run3-step12k.pt"), None) == (12_000, "the name")
    assert step_of(Path("model_epoch7_val0.93_run2.pt"), None) == (7, "the epoch in the name")
    Path("keras/saved_model_10").mkdir(parents=True)
    Path("keras/saved_model_10/saved_model.pb").touch()
    with pytest.raises(FileNotFoundError, match=r"got saved_model_10; .*Export weights of other libraries"):
        over_checkpoints("keras", PROBES, DATA, build=build)


def test_folders_of_accelerate() -> None:
    """Their names count the saves. ProbeContext adds the number of updates."""
    for i, step in enumerate(SAVED):
        folder = Path("ckpt", f"checkpoint_{i}")
        folder.mkdir(parents=True)
        torch.save(STATES[step], folder / "pytorch_model.bin")
        torch.save({"other": 3}, folder / "custom_checkpoint_0.pkl")
        (folder / "random_states_0.pkl").touch()
    with pytest.warns(ProbeWarning, match="got the names of Accelerate, which count its saves, as steps"):
        assert over_checkpoints("ckpt", PROBES, DATA, build=build)["step"].values.tolist() == [0, 1, 2, 3]
    for i, step in enumerate(SAVED):
        torch.save({"step": step}, Path("ckpt", f"checkpoint_{i}", "custom_checkpoint_1.pkl"))
    found = over_checkpoints("ckpt", PROBES, DATA, build=build)
    assert_recorded(found)
    assert "steps from ProbeContext" in found.attrs["reading"]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(6, 4), nn.Linear(4, 6, bias=False)
        self.head.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.table(x))  # type: ignore[no-any-return]


def test_tied_weights_may_be_saved_once_and_rounding_is_a_warning() -> None:
    model, x = Tied(), torch.arange(12) % 6
    torch.save({"table.weight": model.table.weight.detach()}, "1.pt")
    found = over_checkpoints("1.pt", PROBES, (x, x), build=Tied)
    assert found["all_loss"].item() == pytest.approx(nn.functional.cross_entropy(model(x), x).item())
    torch.save(model.double().state_dict(), "2.pt")
    with pytest.warns(ProbeWarning, match=r"got torch.float32 for table.weight of type torch.float64 .*are rounded"):
        over_checkpoints("2.pt", PROBES, (x, x), build=Tied)


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return build()


@pytest.mark.parametrize(
    ("model", "content", "message"),
    [
        (
            Tied,
            {"table.weight": torch.ones(6, 4), "head.weight": torch.zeros(6, 4)},
            "same values of .* weights are not",
        ),
        (build, {k: v.to(torch.int8) for k, v in STATES[0].items()}, "type torch.float32 .* got torch.int8; convert"),
        (build, {k: v * 1j for k, v in STATES[0].items()}, "type torch.float32 .* got torch.complex64; convert"),
        (on_meta, STATES[0], "tensors have values, got 0.weight on the meta device; .* build the model on the CPU"),
        (lambda: nn.LazyLinear(2), STATES[0], r"tensors have values, got weight without a shape \(lazy\)"),
    ],
)
def test_weights_that_the_model_cannot_hold_are_an_error(model: Any, content: Any, message: str) -> None:
    torch.save(content, "1.pt")
    with pytest.raises(ValueError, match=message):
        over_checkpoints("1.pt", PROBES, DATA, build=model)


def test_a_step_whose_model_cannot_be_made_or_read_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download that fails, and a trainer that removes a checkpoint after it was found."""

    def one(step: int) -> nn.Module:
        if step == 3:
            raise OSError("no connection")
        return made(step)

    with pytest.warns(ProbeWarning, match="model of step 3 from the function, got OSError: no connection; .* left out"):
        assert_recorded(over_checkpoints(one, PROBES, DATA, steps=SAVED), [0, 9, 24])
    for step in (0, 3):
        save("{}.pt", STATES[step], step)
    read = torch.load

    def removed(file: Any, **options: Any) -> Any:
        if Path(file).stem == "3":
            Path(file).unlink()
        return read(file, **options)

    monkeypatch.setattr(torch, "load", removed)
    with pytest.warns(ProbeWarning, match=r"Expected to read ckpt/3.pt, got .*\. It is left out"):
        assert_recorded(over_checkpoints("ckpt", PROBES, DATA, build=build), [0])


@pytest.mark.parametrize(
    ("given", "options", "error", "message"),
    [
        ("none*.pt", {}, FileNotFoundError, "Expected checkpoints that match none"),
        ("empty", {}, FileNotFoundError, "Expected checkpoints in empty, got none"),
        ({1: "1.pt"}, {}, FileNotFoundError, "Expected a checkpoint at 1.pt, got none"),
        ({}, {}, ValueError, "Expected at least one checkpoint, got none"),
        ({-1: made}, {}, ValueError, "whole numbers from 0 on, got -1"),
        ({"a": made}, {}, ValueError, "got 'a'"),
        ({0: build()}, {}, TypeError, "got Sequential; pass lambda: model"),
        (5, {}, TypeError, "got int; pass one"),
        (made, {}, ValueError, "Expected steps= beside a function"),
        ("step0.pt", {"steps": [0]}, ValueError, "Expected no steps= beside paths"),
        ("step0.pt", {"mode": None}, ValueError, "Expected mode 'resume' or 'overwrite', got None"),
        ("step0.pt", {"build": None}, ValueError, r"Expected build= \(--model\).*no config.json"),
        ("step0.pt", {"build": dict}, TypeError, "to return a torch.nn.Module, got dict"),
        ("noname.pt", {}, ValueError, "Expected a step in the name noname.pt, got no number"),
        (
            ["step0.pt", "run0.pt"],
            {},
            ValueError,
            "one checkpoint for each step, got step0.pt and run0.pt, both of step 0",
        ),
        ({0: lambda: 3}, {}, TypeError, "Expected a torch.nn.Module for step 0, got int"),
        ({0: build, 1: lambda: nn.Linear(5, 2)}, {}, ValueError, r"0\.weight of shape \(8, 5\) in step 1"),
    ],
)
def test_what_cannot_be_measured_is_an_error(
    given: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    Path("empty").mkdir()
    for name in ("step0.pt", "noname.pt", "run0.pt"):
        torch.save(STATES[0], name)
    with pytest.raises(error, match=message):
        over_checkpoints(given, PROBES, DATA, **{"build": build, **options})
    with pytest.raises(ValueError, match="Expected probes without a budget"):
        over_checkpoints(given, ProbeSet(PROBES, budget=0.1), DATA)


def test_safetensors_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "safetensors.torch", None)
    Path("step1.safetensors").touch()
    with pytest.raises(ImportError, match=re.escape("Expected the package safetensors to read step1.safetensors")):
        over_checkpoints("step1.safetensors", PROBES, DATA, build=build)
