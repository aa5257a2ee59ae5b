"""What an observation asks of a device, counted without one, and the script of docs/gpu.md."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from probe import ActivationsProbe, PerformanceProbe, ProbeSet
from probe.forward.data import read_data
from probe.forward.snapshot import Snapshot

ROOT = Path(__file__).parent.parent
WAITING = {"_local_scalar_dense", "equal", "is_nonzero", "nonzero", "_unique2", "unique_dim", "masked_select"}


class Waits(TorchDispatchMode):
    """Counts matrix products, and lists the operations for which the program would wait for a device."""

    def __init__(self) -> None:
        super().__init__()
        self.products = 0
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.split("::")[1]
        self.products += name == "addmm"
        if name in WAITING:
            self.names.append(name)
        return func(*args, **(kwargs or {}))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.act = nn.Linear(8, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.map(x))


def test_the_shared_pass_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a layer nor a block of rows costs a synchronisation."""
    model = nn.Sequential(*(Block() for _ in range(3)), nn.Linear(8, 2))
    data = {split: (torch.randn(24, 8), torch.arange(24) % 2) for split in ("train", "test")}
    probes = ProbeSet([PerformanceProbe(), ActivationsProbe()])
    probes.attach(model, data, batch_size=8, on_error="raise").observe(0)
    shared, waits = Snapshot.run_shared_pass, Waits()

    def counted(self: Snapshot) -> None:
        with waits:
            shared(self)

    monkeypatch.setattr(Snapshot, "run_shared_pass", counted)
    probes.observe(1)
    probes.detach()
    assert waits.products == 2 * 3 * 4  # splits, blocks of rows, layers
    assert waits.names == []


def test_rows_are_queued_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy that blocks waits for the passes of all blocks before it."""
    copies: list[tuple[str, bool]] = []

    def to(self: Tensor, device: torch.device, non_blocking: bool = False) -> Tensor:
        copies.append((device.type, non_blocking))
        return self

    batch = read_data((torch.randn(6, 2), torch.arange(6)))["all"]
    monkeypatch.setattr(Tensor, "to", to)
    inputs, targets = batch.take(torch.tensor([4, 1]), torch.device("cuda"))
    assert copies == [("cpu", False), ("cuda", True)] * 2
    assert torch.equal(inputs, batch.inputs[[4, 1]])
    assert targets is not None
    assert targets.tolist() == [4, 1]


@pytest.mark.slow
def test_the_script_writes_one_json(tmp_path: Path) -> None:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [
        sys.executable,
        "docs/benchmarks/gpu.py",
        "--device",
        "cpu",
        "--quick",
        "--out",
        str(tmp_path / "gpu.json"),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["tests"]["exit_code"] == 0
    assert found["overhead"]["transformer"]["observation_s"] > found["overhead"]["transformer"]["hook_s"] > 0
    assert found["throughput"][0]["seed_steps_per_s"] > 0
    assert "skipped" in found["memory"]
