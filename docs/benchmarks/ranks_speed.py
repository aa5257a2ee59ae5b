"""Cost of probes in a training on two ranks, and of one observation on two ranks and on one.

``python docs/benchmarks/ranks_speed.py`` starts two processes that communicate by gloo. It needs two free cores.
``--steps`` and ``--pairs`` make it shorter.

1. Two small transformers with the same start are trained with DDP in the same processes. One has probes and a budget
   of 1 % of its time. They take each update one after the other, in changing order, because two whole trainings
   differ by more than the probes cost. The ratio of their times should be at most 1.02.
2. A network that fills a core is observed by both ranks together, and by the first rank alone while the second waits.
   The ratio should be at most 0.7.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from probe import MutualInfoProbe, PerformanceProbe, ProbeSet, WeightsProbe

N_TOKENS, LENGTH, WIDTH = 32, 16, 64
WIDE, N_ROWS, BATCH = 2048, 2048, 256


class Transformer(nn.Module):
    """Two layers of 64 units, 2 heads."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(N_TOKENS, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 2 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, N_TOKENS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return the logits of the next token after the last one."""
        return self.head(self.layers(self.tokens(tokens))[:, -1])  # type: ignore[no-any-return]


class Training:
    """A training of the small transformer on two ranks, whose updates are timed."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = DistributedDataParallel(Transformer())
        self.optimizer = torch.optim.AdamW(self.model.parameters())
        self.x = torch.randint(N_TOKENS, (512, LENGTH))
        self.y = self.x.sum(1) % N_TOKENS
        self.seconds = 0.0

    def timed(self, call: Callable[[], object]) -> None:
        """Call a function, and add its time."""
        start = time.perf_counter()
        call()
        self.seconds += time.perf_counter() - start

    def update(self, k: int) -> None:
        """Make one update."""
        rows = torch.arange(32 * k, 32 * k + 32).remainder(len(self.x)).chunk(dist.get_world_size())[dist.get_rank()]
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(self.x[rows]), self.y[rows]).backward()
        self.optimizer.step()


def train(steps: int) -> tuple[float, float, int]:
    """Return the times of a training with probes and of its twin without, and the number of observations."""
    observed, plain = Training(), Training()
    # the budget is a share of all elapsed time, half of which is that of the twin
    probes = ProbeSet([MutualInfoProbe(max_samples=256), WeightsProbe(), PerformanceProbe()], budget=0.005)
    data = (observed.x, observed.y)
    observed.timed(lambda: probes.attach(observed.model, data, optimizer=observed.optimizer))
    for k in range(steps):
        for one in (observed, plain) if k % 2 else (plain, observed):
            one.timed(partial(one.update, k))
    observed.timed(probes.detach)
    return observed.seconds, plain.seconds, probes.series_.sizes["step"]


def observe(*, together: bool) -> float:
    """Return the time of one observation by both ranks, or by the first one alone."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, 10))
    x = torch.randn(N_ROWS, WIDE)
    data = {"train": (x, x[:, :10].argmax(1)), "test": (x.flip(0), x.flip(0)[:, :10].argmax(1))}
    probe = PerformanceProbe()
    if together or dist.get_rank() == 0:
        probe.attach(net, data, batch_size=BATCH, ranks="all" if together else "this").observe(0)
    dist.barrier()
    start = time.perf_counter()
    if together or dist.get_rank() == 0:
        for step in range(1, 4):
            probe.observe(step)
    dist.barrier()
    seconds = time.perf_counter() - start
    probe.detach()
    return seconds / 3


def work(folder: Path, steps: int, pairs: int) -> None:
    """Measure on one rank, and write the result of the first rank."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    train(50)  # the first passes and imports are slow
    observe(together=True)
    found: dict[str, Any] = {"observation": [], "training": []}
    for k in range(pairs):
        kinds = (True, False) if k % 2 else (False, True)
        times = {together: observe(together=together) for together in kinds}
        found["observation"].append((times[True], times[False]))
        *both, found["observations"] = train(steps)
        found["training"].append(both)
    if rank == 0:
        (folder / "result.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    """Start both ranks, and print ratios beside their bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder is not None:
        work(given.folder, given.steps, given.pairs)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            __file__,
            "--folder",
            folder,
            "--steps",
            str(given.steps),
            "--pairs",
            str(given.pairs),
        ]
        ranks = [{**os.environ, "RANK": str(rank), "OMP_NUM_THREADS": "1"} for rank in range(2)]
        started = [subprocess.Popen(command, env=one) for one in ranks]
        if any([process.wait() for process in started]):
            sys.exit("Expected two ranks that end without an error, got an error; see above")
        found = json.loads((Path(folder) / "result.json").read_text())
    for name, bar in (("training", 1.02), ("observation", 0.7)):
        ratios = [one / other for one, other in found[name]]
        first, second = (statistics.median(times) for times in zip(*found[name], strict=True))
        print(
            f"{name}: {first:.3f} s and {second:.3f} s, ratio {statistics.median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f}, {len(ratios)} pairs), bar {bar}"
        )
    print(f"{found['observations']} observations in {given.steps} steps, load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
