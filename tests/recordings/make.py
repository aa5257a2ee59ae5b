"""Three recordings of revision b6d31b2, and the series that its `probe.load` returned, as JSON.

This script runs with that revision only.
"""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import probe
from probe import (
    FourierProbe,
    LocalComplexityProbe,
    MutualInfoProbe,
    PerformanceProbe,
    ProbeSet,
    RobustnessProbe,
    WeightsProbe,
    every,
)

OUT = Path("out")


def split(n, offset):
    numbers = torch.arange(n * 4) * 37 + offset
    x = (numbers % 101).reshape(n, 4).float() / 128
    return x, (x.sum(1) > 1.5).long()


DATA = {"train": split(24, 0), "test": split(16, 5)}


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3), nn.ReLU(), nn.Linear(3, 2))


def train(model, optimizer, updates):
    for _ in range(updates):
        optimizer.zero_grad()
        F.cross_entropy(model(DATA["train"][0]), DATA["train"][1]).backward()
        optimizer.step()
        yield


def finished():
    """One probe, to the end."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    probes = PerformanceProbe().attach(model, DATA, optimizer=optimizer, schedule=every(2), path=OUT / "finished.nc")
    for _ in train(model, optimizer, 6):
        probes.observe(lr=0.5)
    probes.detach()


def killed():
    """The process ends after step 4; the NetCDF file is older than the journal."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    probes = ProbeSet([PerformanceProbe(), MutualInfoProbe(layers=["3"], subsamples=2, pooled=False)]).attach(
        model, DATA, optimizer=optimizer, schedule=every(1), path=OUT / "killed.nc"
    )
    for _ in train(model, optimizer, 4):
        assert probes  # it would stop if nothing held it
    os._exit(9)


class Failing(probe.Probe):
    def measure(self, snapshot):
        if snapshot.step == 1:
            raise RuntimeError("asked to fail")
        return {"scale": probe.Measured(np.array([np.inf, -np.inf, np.nan]), ("place",), {"place": ["a", "b", "c"]})}


def several():
    """Several probes, one of which fails at step 1; the process ends after step 2."""
    model = net()
    probes = ProbeSet(
        [
            LocalComplexityProbe(max_rows=64),
            FourierProbe(weight="0.weight", top=2),
            WeightsProbe(),
            RobustnessProbe(n_directions=2, max_rows=64),
            ("failing", Failing()),
        ]
    )
    probes.attach(model, DATA, path=OUT / "several.nc")
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    probes.observe(0)
    for step, _ in enumerate(train(model, optimizer, 2), 1):
        probes.observe(step, loss=float("nan") if step == 1 else 0.5)
    os._exit(9)


def plain(array):
    values = array.values
    return {
        "dims": list(array.dims),
        "dtype": values.dtype.kind + (str(values.dtype.itemsize) if values.dtype.kind != "U" else ""),
        "values": [repr(v) for v in values.ravel().tolist()] if values.dtype.kind == "f" else values.ravel().tolist(),
        "shape": list(values.shape),
        "attrs": {k: v.item() if isinstance(v, np.generic) else v for k, v in array.attrs.items()},
    }


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:]:
        globals()[sys.argv[1]]()
        sys.exit()
    OUT.mkdir()
    for name in ("finished", "killed", "several"):
        subprocess.run([sys.executable, __file__, name])
    expected = {}
    for file in sorted(OUT.glob("*.nc")):
        series = probe.load(file)
        expected[file.stem] = {
            "attrs": dict(series.attrs),
            "variables": {name: plain(array) for name, array in series.variables.items()},
        }
    (OUT / "expected.json").write_text(json.dumps(expected, separators=(",", ":")) + "\n")
