"""What an observation of modes costs beside bare SVDs: ``python docs/benchmarks/renormalisation_speed.py``.

The model is an encoder with 25 million parameters: 8 blocks of 512 units, 48 matrices. ``WeightModesProbe`` observes it
after each of several small changes of all weights; ``torch.linalg.svd`` decomposes the same matrices, in float32, in
turn with it, in one process and one thread. CPU seconds. The script fails if the ratio of the medians exceeds 1.2.
Memory: what is kept between observations, and growth of the resident peak (Linux) at a later observation.
"""

import argparse
import re
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from probe import Measured, Snapshot, WeightModesProbe
from probe.measures import weight_matrices

BAR = 1.2
LIMIT = 64  # MiB of kept values


def model(blocks: int, width: int) -> nn.Module:
    """Return an encoder. Its attention has four matrices in each block."""
    torch.manual_seed(0)
    block = nn.TransformerEncoderLayer(width, 8, 4 * width, batch_first=True, dropout=0.0)
    return nn.TransformerEncoder(block, blocks, enable_nested_tensor=False).eval()


def move(network: nn.Module) -> None:
    """Change all weights by about a hundredth of their size."""
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.01 * weight.abs().mean() * torch.randn_like(weight))


def seconds(function: Callable[[], object]) -> float:
    """Return the CPU seconds of a call."""
    start = time.process_time()
    function()
    return time.process_time() - start


def decompose(matrices: list[Tensor], *, vectors: bool = True) -> None:
    """Decompose all matrices by the bare function."""
    for matrix in matrices:
        torch.linalg.svd(matrix, full_matrices=False) if vectors else torch.linalg.svdvals(matrix)


def resident(which: str) -> float:
    """Return resident memory in MiB: VmRSS now, VmHWM at its peak."""
    found = re.search(which + r":\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    return int(found[1]) / 1024 if found else float("nan")


class Counting(WeightModesProbe):
    """The probe, with the size of what it keeps in bytes."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Measure, and add up the sizes."""
        found = super().measure(snapshot)
        Counting.kept = sum(value.kept_array(name).nbytes for name, value in found.items() if value.keep)
        return found

    kept = 0


def main() -> None:
    """Print the table, and fail above the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--width", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    network = model(options.blocks, options.width)
    matrices = [weight.detach() for weight in weight_matrices(network).values()]
    probe = Counting().attach(network, (torch.zeros(2, 4, options.width), None)).observe(0)
    times: dict[str, list[float]] = {"WeightModesProbe": [], "torch.linalg.svd": [], "torch.linalg.svdvals": []}
    for step in range(1, options.repeats + 1):
        move(network)
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        before = resident("VmRSS")
        times["WeightModesProbe"].append(seconds(partial(probe.observe, step)))
        peak = resident("VmHWM") - before
        times["torch.linalg.svd"].append(seconds(partial(decompose, matrices)))
        times["torch.linalg.svdvals"].append(seconds(partial(decompose, matrices, vectors=False)))
    series = probe.series_
    matched = (series["mode_matched"][1:] == 1).mean().item()
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"{sum(w.numel() for w in network.parameters()) / 1e6:.1f} M parameters, {len(matrices)} matrices")
    print("\n| | CPU seconds, median | from | to | times the SVDs |\n|---|---|---|---|---|")
    for name, found in times.items():
        ratio = medians[name] / medians["torch.linalg.svd"]
        print(f"| `{name}` | {medians[name]:.2f} | {min(found):.2f} | {max(found):.2f} | {ratio:.2f} |")
    print(f"\nkept: {Counting.kept / 2**20:.1f} MiB of at most {LIMIT}; growth of the resident peak: {peak:.0f} MiB")
    print(f"{series.sizes['mode']} modes per matrix, {100 * matched:.1f} % matched")
    if (ratio := medians["WeightModesProbe"] / medians["torch.linalg.svd"]) > BAR:
        raise SystemExit(f"Expected at most {BAR} times the bare SVDs, got {ratio:.2f}")


if __name__ == "__main__":
    main()
