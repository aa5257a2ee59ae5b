"""A training on several ranks, which tests run. The argument is a folder for its results."""

import os
import sys
import warnings
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import probe
from probe import LocalComplexityProbe, Measured, MutualInfoProbe, Probe, ProbeSet, every


class FailsOnRankOne(Probe):
    """A probe that fails on one rank at step 3."""

    def measure(self, snapshot: probe.Snapshot) -> dict[str, Measured]:
        """Return a number."""
        if snapshot.step == 3 and dist.get_rank() == 1:
            raise ValueError("no number here")
        return {"number": Measured(1.0)}


def make() -> tuple[nn.Module, tuple[torch.Tensor, torch.Tensor]]:
    """Return the model and the data, the same on all ranks."""
    torch.manual_seed(0)
    x = torch.randn(160, 6)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    return net, (x, (x[:, 0] > 0).long())


def train(net: nn.Module, data: tuple[torch.Tensor, torch.Tensor], probes: ProbeSet | None, path: Path) -> None:
    """Train for six steps; each rank has its part of each batch."""
    model = DistributedDataParallel(net)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    if probes is not None:
        probes.attach(model, data, optimizer=optimizer, schedule=every(3), path=path, batch_size=48, timeout=60)
    for k in range(6):
        rows = torch.arange(20 * k, 20 * k + 20).chunk(dist.get_world_size())[dist.get_rank()]
        optimizer.zero_grad()
        F.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
        optimizer.step()
    if probes is not None:
        probes.detach()


def observe_fixed_weights(path: Path) -> None:
    """Record one observation of a model that is not trained."""
    net, data = make()
    probes = ProbeSet([MutualInfoProbe(), LocalComplexityProbe()])
    probes.attach(net, data, path=path, batch_size=48, timeout=60).observe(0).detach()


def main(folder: Path) -> None:
    """Train with and without probes, and save weights and series; then observe a model that is not trained."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=size)
    for name, members in {"with": [MutualInfoProbe(), FailsOnRankOne()], "without": None}.items():
        net, data = make()
        probes = None if members is None else ProbeSet(members)
        train(net, data, probes, folder / "training.nc")
        torch.save(net.state_dict(), folder / f"{name}-{rank}.pt")
        if probes is not None:
            probe.save(probes.series_, folder / f"series-{rank}.nc")
    observe_fixed_weights(folder / "fixed-two.nc")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
