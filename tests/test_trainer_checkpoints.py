"""Checkpoints as trainers write them: the numbers are those that were recorded during the training, bit for bit."""

import runpy
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.utils.data import DataLoader

from probe import ActivationsProbe, ProbeSet, WeightsProbe, from_loader, load, over_checkpoints
from probe.__main__ import main
from probe.errors import ProbeWarning

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")

K, T = 20, 8
PROBES = [WeightsProbe(), ActivationsProbe()]
IDS = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}


class Tokens(torch.utils.data.Dataset[Any]):
    def __init__(self, n: int) -> None:
        self.rows = torch.randint(1, K, (n, T), generator=torch.Generator().manual_seed(n))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {"input_ids": self.rows[i], "labels": self.rows[i]}


def gpt2() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"vocab_size": K, "n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes, **IDS))  # type: ignore[no-any-return]


class Observe(transformers.TrainerCallback):  # type: ignore[misc]
    """Observes at each save."""

    def __init__(self, probes: ProbeSet) -> None:
        self.probes = probes

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.probes.observe(state.global_step)


def trained(model: nn.Module, data: Any, out: Path, **options: Any) -> xr.Dataset:
    """Train for 12 steps, save every third, and return what probes have recorded at the same steps."""
    settings = {"max_steps": 12, "save_steps": 3, "logging_steps": 1, "report_to": [], "use_cpu": True, **options}
    arguments = transformers.TrainingArguments(str(out), disable_tqdm=True, learning_rate=1e-2, **settings)
    probes = ProbeSet(PROBES)
    trainer = transformers.Trainer(model, arguments, train_dataset=Tokens(40), callbacks=[Observe(probes)])
    probes.attach(model, data, targets_shift=1)
    trainer.train()
    return probes.detach().series_


def assert_recorded(found: xr.Dataset, recorded: xr.Dataset) -> None:
    expected = recorded.drop_vars("seconds")
    xr.testing.assert_equal(found.sel(step=expected["step"])[list(expected.data_vars)], expected)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, xr.Dataset, Any]:
    out = tmp_path_factory.mktemp("run")
    data = {"train": from_loader(Tokens(40), 16), "test": from_loader(DataLoader(Tokens(24), 4), 24)}
    return out, trained(gpt2(), data, out), data


def test_a_trainer_folder(trainer: tuple[Path, xr.Dataset, Any]) -> None:
    out, recorded, data = trainer
    for build in (None, gpt2):
        found = over_checkpoints(out, PROBES, data, targets_shift=1, build=build)
        assert_recorded(found, recorded)
        assert "4 checkpoints, step 3 to 12: steps from trainer_state.json" in found.attrs["reading"]
        assert np.isfinite(found["logged_train_loss"].values).all()
        assert found.sizes["step"] == 12


def test_the_command_on_a_trainer_folder(
    trainer: tuple[Path, xr.Dataset, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, recorded, data = trainer
    monkeypatch.chdir(tmp_path)
    torch.save(data, "data.pt")
    Path("data_of_trainer.py").write_text("import torch\ndef make(): return torch.load('data.pt')\n")
    command = ["measure", str(out / "checkpoint-*"), "--data", "data_of_trainer:make", "--targets-shift", "1"]
    assert main([*command, "--probes", "WeightsProbe,ActivationsProbe"]) == 0
    assert_recorded(load("probe.nc"), recorded)
    assert "4 checkpoints, step 3 to 12: steps from trainer_state.json" in capsys.readouterr().out
    assert main(["detect", "probe.nc"]) == 0


def test_shards_halves_and_another_architecture(trainer: tuple[Path, xr.Dataset, Any], tmp_path: Path) -> None:
    out, recorded, data = trainer
    for step in (3, 6, 9):
        model = transformers.GPT2LMHeadModel.from_pretrained(out / f"checkpoint-{step}")
        model.save_pretrained(tmp_path / f"checkpoint-{step}", max_shard_size="2KB")
    shards = sorted((tmp_path / "checkpoint-6").glob("*.safetensors"))
    assert len(shards) > 1
    shards[0].unlink()
    half = tmp_path / "checkpoint-12.safetensors"
    whole = (out / "checkpoint-12/model.safetensors").read_bytes()
    half.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(ProbeWarning) as caught:
        found = over_checkpoints(tmp_path, PROBES, data, targets_shift=1)
    left_out = [str(one.message) for one in caught if "left out" in str(one.message)]
    assert ["got none called model-0000" in text or "incomplete file" in text for text in left_out] == [True, True]
    assert_recorded(found, recorded.sel(step=[3, 9]))
    other = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=K, n_positions=16, n_embd=16, n_layer=2, n_head=2, **IDS)
    )
    other.save_pretrained(tmp_path / "checkpoint-30")
    with pytest.raises(ValueError, match=r"transformer\.wte\.weight of shape \(20, 8\) in .*got shape \(20, 16\)"):
        over_checkpoints({3: out / "checkpoint-3", 30: tmp_path / "checkpoint-30"}, PROBES, data, targets_shift=1)
    (tmp_path / "checkpoint-30/config.json").write_bytes((out / "checkpoint-3/config.json").read_bytes())
    with pytest.raises(ValueError, match=r"Expected transformer\.h\.0\.\S+ of shape .* as the model has, got shape"):
        over_checkpoints({30: tmp_path / "checkpoint-30"}, PROBES, data, targets_shift=1)


@pytest.mark.parametrize("with_base", [False, True])
def test_adapters_on_a_base(with_base: bool, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    gpt2().save_pretrained(tmp_path / "base")
    base = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    config = peft.LoraConfig(
        task_type="CAUSAL_LM", r=2, target_modules=["c_attn"], lora_dropout=0.1, fan_in_fan_out=True
    )
    model = peft.get_peft_model(base, config)
    data = {"train": from_loader(Tokens(40), 16)}
    recorded = trained(model, data, tmp_path / "out")
    found = over_checkpoints(
        tmp_path / "out",
        PROBES,
        data,
        targets_shift=1,
        build=(lambda: transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "base")) if with_base else None,
    )
    assert_recorded(found, recorded)


def test_lightning(tmp_path: Path) -> None:
    lightning = pytest.importorskip("lightning")
    rows = torch.randn(32, 3)

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self, width: int = 4) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.net = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 2))

        def training_step(self, batch: Any, _: int) -> Any:
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 0.05)

    loader = DataLoader(torch.utils.data.TensorDataset(rows, (rows[:, 0] > 0).long()), 4, shuffle=True)
    data = {"train": from_loader(loader, 20)}
    module, probes = Module(), ProbeSet(PROBES)

    class Saved(lightning.pytorch.callbacks.ModelCheckpoint):  # type: ignore[misc, name-defined]
        def _save_checkpoint(self, trainer: Any, filepath: str) -> None:
            super()._save_checkpoint(trainer, filepath)
            if "last" not in filepath:
                probes.observe(trainer.global_step)

    saved = Saved(tmp_path / "ckpt", every_n_train_steps=4, save_top_k=-1, save_last=True)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = lightning.Trainer(max_epochs=2, callbacks=[saved], default_root_dir=tmp_path, **quiet)
    probes.attach(module.net, data)
    trainer.fit(module, loader)
    recorded = probes.detach().series_
    found = over_checkpoints(tmp_path / "ckpt", PROBES, data, build=lambda: Module().net)
    assert "last.ckpt: left out" in found.attrs["reading"]
    assert recorded.sizes["step"] >= 4
    assert_recorded(found, recorded)


def test_the_gallery_example_of_accelerate() -> None:
    """It asserts that a folder of checkpoints gives what the callback has recorded, bit for bit."""
    pytest.importorskip("accelerate")
    names = runpy.run_path(str(Path(__file__).parent.parent / "docs/gallery/plot_accelerate.py"))
    plt.close("all")
    assert names["measured"]["step"].values.tolist() == list(range(0, 301, 20))
    assert "16 checkpoints, step 0 to 300: steps from ProbeContext" in names["measured"].attrs["reading"]
    assert_recorded(names["measured"], names["recorded"])
