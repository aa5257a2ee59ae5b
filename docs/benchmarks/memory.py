"""What memory probes take: ``python docs/benchmarks/memory.py`` prints the tables of docs/performance.md. Linux.

Each line is measured in a fresh process. A long training: the resident memory at three steps. One observation: how far
it raises the peak of resident memory, against what the formula says and what the raw activations would take.
"""

import argparse
import multiprocessing
import resource
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probe import ActivationsProbe, Measured, MutualInfoProbe, Probe, ProbeSet, Snapshot, every
from probe import Tap

MIB = 2**20


def resident() -> float:
    """MiB, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def peak() -> float:
    """MiB, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- many steps ------------------------------------------------------------------------------------------------------


def long_training(stops: Sequence[int]) -> list[tuple[int, int, float]]:
    """Steps, observations and MiB at each stop; the update is as small as one can be, and always the same."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, foreach=False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    data = {"train": (torch.randn(64, 2), torch.arange(64) % 2), "test": (torch.randn(64, 2), torch.arange(64) % 2)}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        probes = ProbeSet([MutualInfoProbe(), ActivationsProbe()])
        probes.attach(model, data, optimizer=optimizer, path=Path(folder) / "run.nc")
        for step in range(1, stops[-1] + 1):
            optimizer.step()
            if step in stops:
                found.append((step, probes.series_.sizes["step"], resident()))
        probes.detach()
    return found


def every_step(observations: int) -> dict[str, float]:
    """Bytes of one observation, in memory and in the journal, where every step is recorded."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    data = (torch.randn(16, 2), torch.arange(16) % 2)
    with tempfile.TemporaryDirectory() as folder:
        probes = ProbeSet([ActivationsProbe()]).attach(model, data, path=Path(folder) / "run.nc", schedule=every(1))
        start = 0.0
        for step in range(observations + 1):
            probes.observe(step)
            if step == observations // 4:
                start = resident()
        grown = (resident() - start) * MIB / (0.75 * observations)
        journal = (Path(folder) / "run.nc.journal").stat().st_size / (observations + 1)
        numbers = sum(array.size for array in probes.series_.data_vars.values()) / (observations + 1)
        probes.detach()
    return {"numbers": numbers, "bytes in memory": grown, "bytes in the journal": journal}


# -- one observation -------------------------------------------------------------------------------------------------


class Keeps(Probe):
    """Takes every block's output from the shared pass and computes nothing with it."""

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        return [Tap(layer) for layer in snapshot.select(None)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        return {"seen": Measured(float(len(snapshot.outputs("all", snapshot.select(None)))))}


class Wide(nn.Module):
    """An image block of 64 channels, or a token block of width 256."""

    def __init__(self, image: bool) -> None:
        super().__init__()
        self.map = nn.Conv2d(64, 64, 3, padding=1) if image else nn.Linear(256, 256)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.act(self.map(x))


def one_observation(image: bool, n: int, layers: int, batch_size: int, probe: str) -> dict[str, float]:
    """MiB: how far the peak rises, what is kept, what the raw outputs of these layers would be."""
    torch.set_num_threads(1)
    model = nn.Sequential(*(Wide(image) for _ in range(layers)))
    x = torch.randn(n, 64, 16, 16) if image else torch.randn(n, 16, 256)
    probes = ProbeSet(
        [{"nothing": Keeps, "ActivationsProbe": ActivationsProbe, "MutualInfoProbe": MutualInfoProbe}[probe]()]
    )
    probes.attach(model, (x, None), batch_size=batch_size, on_error="raise")
    before = peak()
    probes.observe(0)
    width = 64 if image else 256
    return {
        "rise": peak() - before,
        "kept": 4 * n * width * layers / MIB,
        "chunk": 4 * batch_size * x[0].numel() / MIB,
        "raw": 4 * x.numel() * layers / MIB,
    }


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


CONFIGURATIONS = [
    (True, 1024, 8, 64, "nothing"),
    (True, 4096, 8, 64, "nothing"),
    (True, 4096, 8, 512, "nothing"),
    (False, 1024, 8, 64, "nothing"),
    (False, 4096, 8, 64, "nothing"),
    (False, 4096, 16, 64, "nothing"),
    (False, 4096, 8, 64, "ActivationsProbe"),
    (False, 4096, 8, 64, "MutualInfoProbe"),
]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--observations", type=int, default=8_000)
    args = parser.parse_args(argv)
    print(f"torch {torch.__version__}, one thread\n\n| steps | observations | MiB |\n|---|---|---|")
    for step, observations, mib in fresh(long_training, [args.steps // 100, args.steps // 10, args.steps]):
        print(f"| {step:,} | {observations} | {mib:.1f} |")
    found = fresh(every_step, args.observations)
    print("\nRecorded at every step: " + ", ".join(f"{value:.0f} {name}" for name, value in found.items()) + "\n")
    print("| data | N | layers | rows a pass | computed | raw | kept | chunk | peak rises by |\n" + "|---" * 9 + "|")
    for image, n, layers, batch_size, probe in CONFIGURATIONS:
        mib = fresh(one_observation, image, n, layers, batch_size, probe)
        shape = "(N, 64, 16, 16)" if image else "(N, 16, 256)"
        told = " | ".join(f"{mib[key]:.0f}" for key in ("raw", "kept", "chunk", "rise"))
        print(f"| {shape} | {n:,} | {layers} | {batch_size} | {probe} | {told} |", flush=True)


if __name__ == "__main__":
    main()
