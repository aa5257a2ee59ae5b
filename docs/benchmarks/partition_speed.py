"""What an exact partition costs: ``python docs/benchmarks/partition_speed.py`` prints a Markdown table.

The other program is regioncam 0.5.2, which is compiled and computes in float32 (``pip install regioncam==0.5.2``). Both
run in turn, in one process and one thread; the ratio is the median over the pairs of runs. CPU time of the process;
memory: growth of the resident peak (Linux) in a process of its own. The numbers of regions are those on which two other
programs agree. Results and versions are written to partition_speed.json.
"""

import argparse
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from torch import nn

from probe.geometry import Slice, input_plane, partition_slice, perceptron, slice_through, square

RESULTS = Path(__file__).with_suffix(".json")
CASES = {
    "2-16-16": ((2, 16, 16), 1, 127),
    "2-32-32-32": ((2, 32, 32, 32), 1, 1_180),
    "2-64-64-64": ((2, 64, 64, 64), 3, 14_439),
    "2-500": ((2, 500), 10, 116_081),
    "2-200-200": ((2, 200, 200), 1, 25_142),
    "2-200-200-200, 1": ((2, 200, 200, 200), 1, 53_325),
    "2-200-200-200, 3": ((2, 200, 200, 200), 3, 124_986),
    "784-200-200-200, 1": ((784, 200, 200, 200), 1, 743),
    "784-200-200-200, 4": ((784, 200, 200, 200), 4, 7_576),
    "784-200-200-200, 16": ((784, 200, 200, 200), 16, 63_383),
}
BARS = {"2-64-64-64": 1.0, "2-200-200-200, 1": 1.3, "2-200-200-200, 3": 1.1}  # times regioncam
RATE, LARGE = 25_000, 10_000  # regions per CPU second, for networks with that many regions
FLOAT32 = 1e-4  # part of the regions that regioncam may miss: it finds 63,382 of 63,383 in this plane
SHORT = 2.0  # seconds after which a case has been repeated enough


def case(name: str) -> tuple[list[nn.Linear], Slice, int]:
    """Layers, slice and number of regions. Half sides are in units of the input."""
    sizes, half_side, regions = CASES[name]
    torch.manual_seed(0)
    points = torch.rand(3, sizes[0]).double() if sizes[0] > 2 else None
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    window = square(half_side)
    return layers, input_plane(window) if points is None else slice_through(points, half_side=half_side), regions


def ours(layers: Sequence[nn.Linear], plane: Slice) -> int:
    """Number of regions, with polygons and outputs."""
    network = perceptron([(layer.weight.detach(), layer.bias.detach()) for layer in layers], last=True)
    return partition_slice(network, plane).n_regions


def theirs(layers: Sequence[nn.Linear], plane: Slice) -> int:
    """Number of regions by regioncam. The plane is a part of the first layer, for networks with many inputs."""
    import regioncam

    first, half_side = layers[0], plane.window.max().item()
    if first.in_features > 2:
        folded = nn.Linear(2, first.out_features)
        with torch.no_grad():
            weight = first.weight.double()
            folded.weight.copy_(weight @ plane.axes.T)
            folded.bias.copy_(first.bias.double() + weight @ plane.origin)
        first = folded
    drawing = regioncam.Regioncam(size=half_side)
    drawing.add(nn.Sequential(*[part for layer in (first, *layers[1:]) for part in (layer, nn.ReLU())]))
    return drawing.num_faces


def seconds(name: str, minimum: int) -> tuple[list[float], list[float]]:
    """CPU seconds of both programs, in turn. Counts must be those of the case."""
    layers, plane, regions = case(name)
    times: tuple[list[float], list[float]] = ([], [])
    while len(times[0]) < minimum or sum(times[0]) + sum(times[1]) < SHORT:
        for program, found in zip((ours, theirs), times, strict=True):
            start = time.process_time()
            count = program(layers, plane)
            found.append(time.process_time() - start)
            allowed = 0 if program is ours else FLOAT32 * regions
            assert abs(count - regions) <= allowed, f"{name}: {program.__name__} found {count}, expected {regions}"
    return times


def peak(name: str) -> float:
    """Growth of the peak resident memory in MiB by our partition, in a fresh process."""
    code = f"""
import re, runpy, torch
from pathlib import Path
torch.set_num_threads(1)
names = runpy.run_path({__file__!r}, run_name="measured")
def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
names["ours"](*names["case"]("2-16-16")[:2])
layers, plane, _ = names["case"]({name!r})
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
names["ours"](layers, plane)
print(resident("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def measured(name: str, minimum: int) -> dict[str, float]:
    """Results of a case."""
    mine, other = seconds(name, minimum)
    regions = CASES[name][2]
    memory = peak(name)
    return {
        "regions": regions,
        "seconds": min(mine),
        "seconds_regioncam": min(other),
        "rate": regions / min(mine),
        "rate_regioncam": regions / min(other),
        "ratio": statistics.median(b / a for a, b in zip(mine, other, strict=True)),
        "peak_mib": memory,
        "bytes_per_region": memory * 2**20 / regions,
        "pairs": len(mine),
    }


def failures(results: dict[str, dict[str, float]]) -> list[str]:
    """Bars that are missed."""
    slow = [
        f"{name}: ratio {results[name]['ratio']:.2f}, bar {bar}"
        for name, bar in BARS.items()
        if name in results and results[name]["ratio"] < bar
    ]
    low = [
        f"{name}: {found['rate']:,.0f} regions per second, bar {RATE:,}"
        for name, found in results.items()
        if found["regions"] >= LARGE and found["rate"] < RATE
    ]
    return slow + low


def versions() -> dict[str, str]:
    found = {name: version(name) for name in ("torch", "numpy", "regioncam")}
    return {"python": platform.python_version(), **found, "processor": platform.machine(), "cores": str(os.cpu_count())}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=7, help="runs of each program, at least")
    parser.add_argument("--only", nargs="*", choices=CASES, default=list(CASES), help="cases")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    columns = ["network, half side", "regions", "CPU s", "regions per CPU s", "regioncam", "ratio", "peak MiB"]
    print(f"{versions()}\n\n| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    results = {}
    for name in options.only:
        found = results[name] = measured(name, options.pairs)
        numbers = (f"{found['regions']:,}", f"{found['seconds']:.3f}", f"{found['rate']:,.0f}")
        others = (f"{found['rate_regioncam']:,.0f}", f"{found['ratio']:.2f}", f"{found['peak_mib']:.0f}")
        print(f"| {' | '.join((name, *numbers, *others))} |", flush=True)
    if options.write:
        RESULTS.write_text(json.dumps({"versions": versions(), "results": results}, indent=1) + "\n")
    print("\n".join(["", *(failures(results) or ["All bars are met."])]))


if __name__ == "__main__":
    main()
