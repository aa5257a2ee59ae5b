"""What the linear mapping number costs: ``python docs/benchmarks/linear_mapping_speed.py`` prints Markdown tables.

One thread, CPU time of the process, least of several runs that alternate; memory: growth of the resident peak (Linux)
in a process of its own. The tail is 100-100-31 with SiLU, 961 samples, 21 points: the setting of arXiv:2310.05918. The
pair loops take one pair at a time and are timed on a share of the pairs: one as the paper's text reads, output by
output with ``numpy.corrcoef``, and one that is vectorised within the pair.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe import LMNProbe
from probe.geometry import linear_mapping_number, pairwise_linearity

N, POINTS, PAIRS = 961, 21, 300
LAM = torch.linspace(0, 1, POINTS)


def plain() -> tuple[nn.Sequential, Tensor]:
    """A network whose tail behind its first hidden layer is 100-100-31, and inputs."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 100), nn.SiLU(), nn.Linear(100, 100), nn.SiLU(), nn.Linear(100, 31)
    )  # fmt: skip
    with torch.no_grad():
        model[2].weight.mul_(4)
    return model, 3 * torch.randn(N, 64)


def literal(tail: nn.Module, h: Tensor) -> list[float]:
    """L of the first pairs, as the text of the paper reads."""
    lam, found = LAM.numpy(), []
    for j in range(1, PAIRS + 1):
        y = tail(h[0] + LAM[:, None] * (h[j] - h[0])).numpy()
        found.append(np.mean([np.corrcoef(output, lam)[0, 1] ** 2 for output in y.T]))
    return found


def vectorised(tail: nn.Module, h: Tensor) -> list[float]:
    """The same, all outputs of a pair at once."""
    line, found = LAM - LAM.mean(), []
    for j in range(1, PAIRS + 1):
        y = tail(torch.lerp(h[0], h[j], LAM[:, None]))
        y = y - y.mean(0)
        found.append(((line @ y) ** 2 / (y.square().sum(0) * line.square().sum())).mean().item())
    return found


def at_once(tail: nn.Module, h: Tensor, rows: int) -> Tensor:
    """L of all pairs."""
    lam = torch.linspace(0, 1, POINTS, dtype=torch.float64)
    return pairwise_linearity(lambda points, first: tail(points), h, tail(h), lam, batch_size=rows).mean


def observed(model: nn.Module, x: Any, batch_size: int = 512, **parameters: Any) -> LMNProbe:
    probe = LMNProbe(**parameters)
    return probe.attach(model, (x, None), batch_size=batch_size, on_error="raise").observe(0).detach()


def seconds(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            times[name].append(time.process_time() - start)
    return {name: min(values) for name, values in times.items()}


class Block(nn.Module):
    """Of a residual network for images."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        stride = 1 if before == width else 2
        self.body = nn.Sequential(
            nn.Conv2d(before, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width),
        )  # fmt: skip
        self.way = nn.Identity() if stride == 1 else nn.Conv2d(before, width, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.way(x))


def residual() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
    blocks = nn.Sequential(*(Block(a, b) for a, b in pairwise(widths)))
    stem = nn.Conv2d(3, 64, 3, padding=1)
    model = nn.Sequential(stem, blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))
    return model, torch.randn(64, 3, 32, 32)


def transformer() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(256, 8, 1024, batch_first=True, activation="gelu", norm_first=True)
    blocks = nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(1000, 256), blocks, nn.Linear(256, 1000)), torch.randint(1000, (64, 32))


def peak(case: str) -> float:
    """Growth of the peak resident memory in MiB by one call, in a fresh process."""
    code = f"""
import re, runpy, torch
from pathlib import Path
torch.set_num_threads(1)
names = runpy.run_path({__file__!r}, run_name="measured")
def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
make, parameters = names["CASES"][{case!r}]
model, x = make()
names["observed"](model, x, **{{**parameters, "max_samples": 2}})
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
names["observed"](model, x, **parameters)
print(resident("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


PAPER = {"max_samples": N, "n_points": POINTS, "max_rows": 10**8}
CASES: dict[str, tuple[Callable[[], tuple[nn.Module, Tensor]], dict[str, Any]]] = {
    "64-100-100-31, N=961, 21 points, batch_size=4096": (plain, {**PAPER, "batch_size": 4096}),
    "64-100-100-31": (plain, {}),
    "transformer, 6 layers of width 256, 32 positions": (transformer, {"max_rows": 4096}),
    "ResNet-18, images of 32 x 32": (residual, {"max_rows": 4096}),
}


def compared(repeats: int) -> None:
    model, x = plain()
    with torch.no_grad():
        h, affine = model[:2](x), model[:3](x)
        every = N * (N - 1) // 2
        calls: dict[str, Callable[[], object]] = {
            "pair loop, output by output": lambda: literal(model[2:], h),
            "pair loop, vectorised": lambda: vectorised(model[2:], h),
            "all pairs, blocks of 1,024 rows": lambda: at_once(model[2:], h, 1024),
            "all pairs, blocks of 1,024 rows, lines behind the affine layer": lambda: at_once(model[3:], affine, 1024),
            "all pairs, blocks of 4,096 rows, lines behind the affine layer": lambda: at_once(model[3:], affine, 4096),
            "spectrum": lambda: linear_mapping_number(matrix),
            "LMNProbe, batch_size=512": lambda: observed(model, x, **PAPER),
            "LMNProbe, batch_size=4096": lambda: observed(model, x, 4096, **PAPER),
        }
        matrix = at_once(model[3:], affine, 4096)
        expected, found = np.array(literal(model[2:], h)), matrix[0, 1 : PAIRS + 1].numpy()
        twin = at_once(model[3:].double(), affine.double(), 4096)
        model.float()
        times = seconds(calls, repeats)
    times = {name: value / (PAIRS if "loop" in name else every) for name, value in times.items()}
    print("| N = 961, 21 points, tail 100-100-31 | µs a pair | s in all | times faster than the loops |")
    print("|---|---|---|---|")
    one, other = times["pair loop, output by output"], times["pair loop, vectorised"]
    for name, value in times.items():
        ratio = "" if "loop" in name or name == "spectrum" else f"{one / value:.0f}, {other / value:.0f}"
        scaled = f"(scaled from {PAIRS} pairs)" if "loop" in name else ""
        print(f"| {name} | {value * 1e6:.2f} | {value * every:.2f} {scaled} | {ratio} |")
    print(f"\nLargest difference of L: from the loop {abs(expected - found).max():.1e}, ", end="")
    print(f"from float64 {(twin - matrix).abs().max():.1e}.\n")


def whole(name: str) -> None:
    """One observation by the probe."""
    make, parameters = CASES[name]
    model, x = make()
    found: list[LMNProbe] = []
    with torch.no_grad():
        cost = seconds({"probe": lambda: found.append(observed(model, x, **parameters))}, 1)
        cost |= seconds({"rows": lambda: model(x)}, 5)
    n = found[0].series_["linear_mapping_number"].attrs["n_rows"]
    rows = cost["probe"] / cost["rows"] * len(x)
    size = sum(parameter.numel() for parameter in model.parameters())
    print(f"| {name} | {size:,} | {n} | {cost['probe']:.2f} | {rows:,.0f} | {peak(name):.0f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each, of which the least counts")
    repeats = parser.parse_args(argv).repeats
    torch.set_num_threads(1)
    print(f"torch {torch.__version__}, numpy {np.__version__}, one thread, float32\n")
    compared(repeats)
    print("| LMNProbe, default settings where not said | parameters | N | CPU s | as many whole rows | MiB |")
    print("|---|---|---|---|---|---|")
    for name in CASES:
        whole(name)


if __name__ == "__main__":
    main()
