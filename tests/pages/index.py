"""A small model with its training, and a folder of logs, for the cards of the front page."""

import shutil
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

import probe
from probe import MutualInfoProbe, PhaseDetector, ProbeSet  # noqa: F401

shutil.copytree(Path(probe.__file__).parents[1] / "tests" / "logs" / "tensorboard" / "plain", "runs")
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
x = torch.randn(60, 6)
y = x[:, :3].argmax(1)
data = {"train": (x[:40], y[:40]), "test": (x[40:], y[40:])}


def train():
    for _ in range(20):
        optimizer.zero_grad()
        cross_entropy(model(x[:40]), y[:40]).backward()
        optimizer.step()


def check(names, printed):
    assert names["probes"].detach().series_["step"].values[-1] == 20
    assert "grokking" in printed
