"""Probes in trainings on two processes: all ranks observe together, and the first one has recording and loggers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainer_states import same

import probe

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:(?!Expected):Warning")]

COMMON = """
import sys, warnings
warnings.simplefilter("ignore")
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
import probe
from probe import MutualInfoProbe, ProbeSet, every

class Averages:  # a logger
    def add_scalar(self, name, value, step):
        with open("logged.txt", "a") as file:
            print(probe_rank(), name, step, file=file)

def probe_rank():
    return torch.distributed.get_rank()

torch.manual_seed(0)
x, y, on = torch.randn(48, 6), torch.arange(48) % 3, sys.argv[1] == "1"
net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
loader = DataLoader(TensorDataset(x, y), 8)
probes = ProbeSet([MutualInfoProbe()])
options = {"schedule": every(1), "path": "run.nc", "on_error": "raise", "write_to": Averages(), "timeout": 60}

def save():
    torch.save(net.state_dict(), f"weights{int(on)}.pt")
    net.eval()
    torch.save(F.cross_entropy(net(x), y).item(), "loss.pt")

def save_series():
    if on:
        probe.save(probes.series_, f"series{probe_rank()}.nc")
"""
LIGHTNING = """
import lightning

class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = net

    def training_step(self, batch, index):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

callback = probe.adapters.lightning.ProbeCallback(probes, (x, y), model="net", **options)
trainer = lightning.Trainer(
    max_epochs=2, accelerator="cpu", devices=2, strategy="ddp", logger=False, enable_progress_bar=False,
    enable_checkpointing=False, callbacks=[callback] if on else [],
)
trainer.fit(Module(), loader)
save_series()
if trainer.is_global_zero:
    save()
"""
ACCELERATE = """
from contextlib import nullcontext
from accelerate import Accelerator

accelerator = Accelerator(cpu=True)
model, optimizer, loader = accelerator.prepare(net, torch.optim.SGD(net.parameters(), lr=0.1), loader)
used = (accelerator, probes, (x, y), model, optimizer)
with probe.adapters.accelerate.ProbeContext(*used, **options) if on else nullcontext():
    for _ in range(2):
        for rows, labels in loader:
            optimizer.zero_grad()
            accelerator.backward(F.cross_entropy(model(rows), labels))
            optimizer.step()
save_series()
accelerator.wait_for_everyone()
if accelerator.is_main_process:
    save()
"""
TRANSFORMERS = """
from transformers import Trainer, TrainingArguments

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net

    def forward(self, x, labels=None):
        logits = self.net(x)
        return {"loss": F.cross_entropy(logits, labels), "logits": logits} if labels is not None else {"logits": logits}

callback = probe.adapters.huggingface.ProbeCallback(probes, ({"x": x}, y), output="logits", **options)
arguments = TrainingArguments(
    "out", num_train_epochs=2, per_device_train_batch_size=8, use_cpu=True, ddp_backend="gloo", report_to=[],
    save_strategy="no", disable_tqdm=True, learning_rate=0.1,
)
rows = [{"x": one, "labels": label} for one, label in zip(x, y)]
Trainer(Model(), arguments, train_dataset=rows, callbacks=[callback] if on else []).train()
save_series()
if probe_rank() == 0:
    save()
"""
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.parametrize(
    ("package", "script", "launch"),
    [("lightning", LIGHTNING, []), ("accelerate", ACCELERATE, LAUNCH), ("transformers", TRANSFORMERS, LAUNCH)],
)
def test_all_ranks_observe_and_the_first_one_writes(tmp_path: Path, package: str, script: str, launch: Any) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    (tmp_path / "train.py").write_text(COMMON + script)
    for on in "01":
        command = [sys.executable, *launch, "train.py", on]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert same(torch.load(tmp_path / "weights0.pt"), torch.load(tmp_path / "weights1.pt"))
    series = probe.load(tmp_path / "run.nc")
    for rank in "01":  # callbacks on all ranks receive the same numbers
        other = probe.load(tmp_path / f"series{rank}.nc")
        np.testing.assert_array_equal(other["all_loss"].values, series["all_loss"].values)
        np.testing.assert_array_equal(other["information_x"].values, series["information_x"].values)
    logged = [line.split() for line in (tmp_path / "logged.txt").read_text().splitlines()]
    assert {rank for rank, *_ in logged} == {"0"}
    assert {int(step) for *_, step in logged} == set(range(7))
    assert series["step"].values.tolist() == list(range(7))
    assert series["all_loss"].values[-1] == pytest.approx(torch.load(tmp_path / "loss.pt"), rel=1e-6)
