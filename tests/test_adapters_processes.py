"""Probes in trainings on two processes: the main one observes its own copy, and nobody waits for it forever."""

import subprocess
import sys
from pathlib import Path
from typing import Any

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

torch.manual_seed(0)
x, y, on = torch.randn(48, 6), torch.arange(48) % 3, sys.argv[1] == "1"
net = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 3))
loader = DataLoader(TensorDataset(x, y), 8)
probes, options = ProbeSet([MutualInfoProbe()]), {"schedule": every(1), "path": "run.nc", "on_error": "raise"}

def save():
    torch.save(net.state_dict(), f"weights{int(on)}.pt")
    net.eval()
    torch.save(F.cross_entropy(net(x), y).item(), "loss.pt")
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
accelerator.wait_for_everyone()
if accelerator.is_main_process:
    save()
"""
LAUNCH = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]


@pytest.mark.parametrize(
    ("package", "script", "launch"), [("lightning", LIGHTNING, []), ("accelerate", ACCELERATE, LAUNCH)]
)
def test_the_main_process_observes_its_copy(tmp_path: Path, package: str, script: str, launch: Any) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed")
    (tmp_path / "train.py").write_text(COMMON + script)
    for on in "01":
        command = [sys.executable, *launch, "train.py", on]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
    assert same(torch.load(tmp_path / "weights0.pt"), torch.load(tmp_path / "weights1.pt"))
    series = probe.load(tmp_path / "run.nc")
    assert series["step"].values.tolist() == list(range(7))
    assert series["all_loss"].values[-1] == pytest.approx(torch.load(tmp_path / "loss.pt"), rel=1e-6)
