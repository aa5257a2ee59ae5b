"""How often an observation waits for a device, counted without one, and the script of docs/gpu.md."""

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

from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, ProbeSet, reads
from probe.attach import stages
from probe.forward import scores, suffix_check

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
        if name in WAITING and args[0].dtype != torch.int64:  # indices of rows stay on the CPU
            self.names.append(name)
        return func(*args, **(kwargs or {}))


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.map, self.act = nn.Linear(8, 8), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.act(self.map(x))


@pytest.mark.parametrize(("n_layers", "n_rows"), [(1, 16), (3, 48)])
def test_an_observation_waits_once(n_layers: int, n_rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a layer nor a block of rows costs a wait. Here the CPU counts as a device that queues its work."""
    for module in (reads, suffix_check, scores, stages):
        monkeypatch.setattr(module, "has_queue", lambda device: True)
    waits, before_wait = Waits(), list[list[str]]()

    def wait(self: reads.Reads) -> None:
        if self._devices:
            before_wait.append(list(waits.names))
        self._devices.clear()

    monkeypatch.setattr(reads.Reads, "wait", wait)
    model = nn.Sequential(*(Block() for _ in range(n_layers)), nn.Linear(8, 2))
    data = {split: (torch.randn(n_rows, 8), torch.arange(n_rows) % 2) for split in ("train", "test")}
    probes = ProbeSet([MutualInfoProbe(), LocalComplexityProbe(max_rows=400), LMNProbe(max_samples=6)])
    probes.attach(model, data, batch_size=8, on_error="raise").observe(0)
    before_wait.clear()
    with waits:
        probes.observe(1)
    probes.detach()
    assert before_wait == [[]]
    assert waits.products > 2 * n_layers


@pytest.fixture(scope="module")
def on_toy_device() -> dict[str, Any]:
    """Return what tests/toy_cases.py has found."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "tests/toy_cases.py"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["two layers", "five layers", "six blocks", "data on the device"])
def test_a_device_gives_the_numbers_of_the_cpu_with_one_wait(case: str, on_toy_device: dict[str, Any]) -> None:
    found = on_toy_device[case]
    assert found["waits"][1:] == [1, 1]
    assert found["waits"][0] > 1, "the first observation reads each condition"
    assert found["equal"]


@pytest.mark.slow
def test_layer_probes_on_the_cpu_wait_once(on_toy_device: dict[str, Any]) -> None:
    found = on_toy_device["others"]
    for name in ("ActivationsProbe", "NeuralCollapseProbe"):
        assert found[f'{name}(device="cpu")'] == [1, 1, 1]
        assert found[name][1] > found[name][0] == found[name][2], "for each layer, not for each block"
    assert found["LocalComplexityProbe with all variants"] == [2, 2, 2]


@pytest.mark.slow
def test_another_outcome_of_a_condition_repeats_the_measurement(on_toy_device: dict[str, Any]) -> None:
    found = on_toy_device["random later"]
    assert found["flags"] == [0, 0, 1]
    assert found["waits"][2] > found["waits"][1] == 1
    assert "Expected classes from 0 to 2" in on_toy_device["wrong class later"]["error"]


@pytest.mark.slow
def test_rows_beyond_the_pinned_memory_arrive(on_toy_device: dict[str, Any]) -> None:
    found = on_toy_device["little pinned memory"]
    assert found["equal"]
    assert found["waits"][1] > 1


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
