"""What the channel estimator costs: ``python docs/benchmarks/information_speed.py`` prints Markdown tables.

One thread, CPU time of the process, least of several runs; memory: growth of the resident peak (Linux) in a process of
its own. The other estimator is the pairwise kernel one that most information planes use (Kolchinsky and Tracey's bounds
with the entropy of the noise added and subtracted again), in numpy and float64, from its formula. ``--write`` writes
the cost in rows, units, classes and layers for ``figures.py information_cost``. ``--against PYTHON`` compares the CPU
time of one observation by ``MutualInfoProbe()`` with that of the revision that this other Python has installed: both
observe in turn, and the median of the ratios counts.
"""

import argparse
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from probe.information import channel_bits, channel_information, representation_geometry

COSTS_FILE = Path(__file__).with_name("information_cost.json")
N, D, CLASSES = 4096, 128, 96
LEVELS = (0.1, 0.2, 0.4)


def layer(n: int = N, d: int = D, classes: int = CLASSES) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows scattered about the means of their classes, float32."""
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(n) % classes
    means = torch.randn(classes, d, generator=source)
    return means[labels] + 0.5 * torch.randn(n, d, generator=source), labels


def pairwise_entropy(x: np.ndarray, variance: float, *, lower: bool) -> float:
    """Bound in nats on the entropy of a mixture of Gaussians around the rows; ``variance`` per dimension."""
    n, d = x.shape
    squares = (x**2).sum(1, keepdims=True)
    distances = squares + squares.T - 2 * x @ x.T
    width = 4 * variance if lower else variance
    exponents = -distances / (2 * width)
    largest = exponents.max(1, keepdims=True)
    logs = largest[:, 0] + np.log(np.exp(exponents - largest).sum(1))
    normal = d / 2 * np.log(2 * np.pi * variance)
    return float(np.log(n) + normal + d / 2 - logs.mean())


def pairwise_bounds(z: np.ndarray, labels: np.ndarray, noise: float) -> dict[str, float]:
    """Lower and upper bounds on I(T+n; X) and the entropies for I(T+n; Y), in bits, class by class."""
    variance = noise**2 * z.var(0).sum()
    of_noise = z.shape[1] / 2 * (np.log(2 * np.pi * variance) + 1)
    found = {}
    for name, lower in (("lower", True), ("upper", False)):
        found[f"x {name}"] = (pairwise_entropy(z, variance, lower=lower) - of_noise) / np.log(2)
        rest = 0.0
        for k in np.unique(labels):
            rows = z[labels == k]
            rest += len(rows) / len(z) * (pairwise_entropy(rows, variance, lower=lower) - of_noise) / np.log(2)
        found[f"rest {name}"] = rest
    return found


def seconds(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def ours(
    n: int = N, d: int = D, classes: int = CLASSES, noise: float | Sequence[float] = 0.2, subsample_se: bool = False
) -> Callable[[], object]:
    z, labels = layer(n, d, classes)
    return lambda: channel_information(
        z, labels, noise=noise, subsample_se=subsample_se, generator=torch.Generator().manual_seed(0)
    )


def repeated(layers: int) -> Callable[[], object]:
    one = ours(n=1024)
    return lambda: [one() for _ in range(layers)]


COSTS: dict[str, tuple[list[int], Callable[[int], Callable[[], object]]]] = {
    "rows N (128 units)": ([256, 512, 1024, 2048, 4096, 8192], lambda n: ours(n=n)),
    "units d (N = 1,024)": ([4, 16, 64, 128, 512, 2048, 4096], lambda d: ours(n=1024, d=d)),
    "classes (N = 1,024)": ([2, 10, 96, 512, 1024], lambda k: ours(n=1024, classes=k)),
    "layers (N = 1,024)": ([1, 2, 4, 8, 16], repeated),
}


def theirs(repeats: int) -> tuple[float, float]:
    """Seconds of the pairwise estimator, and the largest relative difference of its bounds from ours."""
    z, labels = layer()
    wide, codes = z.double().numpy(), labels.numpy()
    cost = seconds(lambda: pairwise_bounds(wide, codes, 0.2), repeats)
    expected = pairwise_bounds(wide, codes, 0.2)
    found = channel_information(z, labels, noise=0.2)
    pairs = [(found.x.lower, expected["x lower"]), (found.x.upper, expected["x upper"])]
    assert found.x_given_y is not None
    pairs += [(found.x_given_y.lower, expected["rest lower"]), (found.x_given_y.upper, expected["rest upper"])]
    return cost, max(abs(a / b - 1) for a, b in pairs)


def peak(case: str) -> float:
    """Growth of the peak resident memory in MiB by one call, in a fresh process."""
    code = f"""
import re, runpy, torch
from pathlib import Path
torch.set_num_threads(1)
names = runpy.run_path({__file__!r}, run_name="measured")
def resident(which):
    return int(re.search(which + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
names["ours"](n=64)()
call = names["ours"](noise={LEVELS!r})
z, labels = names["layer"]()
z, labels = z.double().numpy(), labels.numpy()
names["pairwise_bounds"](z[:64], labels[:64], 0.2)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
call() if {case!r} == "ours" else names["pairwise_bounds"](z, labels, 0.2)
print(resident("VmHWM") - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def draw() -> Figure:
    """Draw the CPU seconds of information_cost.json over each size, with lines of slope 1 and 2."""
    costs = json.loads(COSTS_FILE.read_text(encoding="utf-8"))
    figure, axes = plt.subplots(1, len(costs), figsize=(10, 3.2), layout="constrained", sharey=True)
    for ax, (name, (sizes, times)) in zip(axes, costs.items(), strict=True):
        ax.loglog(sizes, times, "o-", color="#2b6ca3", ms=4, label="measured")
        for power, style in ((1, ":"), (2, "--")):
            line = [times[-1] * (size / sizes[-1]) ** power for size in sizes]
            text = f"in proportion to the size{' squared' * (power - 1)}"
            ax.loglog(sizes, line, style, lw=1, color="#777777", label=text)
        ax.axhline(0.1, color="#c4552d", lw=1, label="0.1 s")
        shown = sizes[:: -(-len(sizes) // 4)]
        ax.set_xticks(shown, [f"{size:,}" for size in shown])
        ax.minorticks_off()
        ax.set_xlabel(name)
    every = [time for _, times in costs.values() for time in times]
    axes[0].set_ylim(min(every) / 2, max(every) * 2)
    axes[0].set_ylabel("CPU time, one thread (s)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


OBSERVER = """
import sys, time, torch
from sklearn.datasets import load_digits
from probe import MutualInfoProbe, ProbeSet
torch.set_num_threads(1)
width, parameters = int(sys.argv[1]), eval(sys.argv[2])
images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32).repeat(2, 1), torch.tensor(labels).repeat(2)
x += 0.01 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
torch.manual_seed(0)
hidden = [torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, width), torch.nn.ReLU()]
model = torch.nn.Sequential(*hidden, torch.nn.Linear(width, 10))
data = {"train": (x[:2000], y[:2000]), "test": (x[2000:], y[2000:])}
probes = ProbeSet([MutualInfoProbe(**parameters)]).attach(model, data)
for step, _ in enumerate(sys.stdin):
    start = time.process_time()
    probes.observe(step)
    print(time.process_time() - start, flush=True)
"""


def in_turn(other: str, width: int, parameters: str, repeats: int) -> tuple[float, float, float]:
    """Median CPU seconds of an observation here and with the other Python, and the median of the ratios of pairs."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    arguments = [["-P", "-c", OBSERVER, str(width), text] for text in (parameters, "{}")]
    workers = [
        subprocess.Popen([python, *a], **pipes) for python, a in zip((sys.executable, other), arguments, strict=True)
    ]
    times = []
    for _ in range(repeats + 1):
        pair = []
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
            pair.append(float(worker.stdout.readline()))
        times.append(pair)
    for worker in workers:
        worker.communicate()
    ours, theirs = np.array(times[1:]).T
    return float(np.median(ours)), float(np.median(theirs)), float(np.median(ours / theirs))


def compare(other: str, repeats: int) -> None:
    """3 splits, 2 layers, 1,594 and more rows in each split."""
    print("| width of 2 layers | parameters | CPU s here | CPU s there | ratio |\n|---|---|---|---|---|")
    for width, parameters in itertools.product((32, 128, 512), ("{}", "{'max_samples': 1024}")):
        ours, theirs, ratio = in_turn(other, width, parameters, repeats)
        print(f"| {width} | {parameters} | {ours:.3f} | {theirs:.3f} | {ratio:.2f} |", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each, of which the least counts")
    parser.add_argument("--write", action="store_true", help=f"write the costs by size into {COSTS_FILE.name}")
    parser.add_argument("--against", help="a Python with another revision, to compare one observation with")
    args = parser.parse_args(argv)
    repeats = args.repeats
    if args.against:
        return compare(args.against, repeats)
    torch.set_num_threads(1)
    ours(n=256)()
    print(f"torch {torch.__version__}, numpy {np.__version__}, one thread; N={N}, d={D}, {CLASSES} classes, float32\n")
    cost, difference = theirs(repeats)
    print("| bounds for X and Y | Monte Carlo | noise levels | CPU s | MiB |\n|---|---|---|---|---|")
    print(f"| numpy, float64, pairwise | no | 1 | {cost:.2f} | {peak('theirs'):.0f} |")
    print(f"| numpy, float64, pairwise | no | 3 | {3 * cost:.2f} (3 times the above) | |")
    print(f"| channel_information | yes | 1 | {seconds(ours(), repeats):.2f} | |")
    print(f"| channel_information | yes | 3 | {seconds(ours(noise=LEVELS), repeats):.2f} | {peak('ours'):.0f} |")
    print(
        f"| the same, noise so fine that distances are float64 | yes | 1 | {seconds(ours(noise=0.01), repeats):.2f} | |"
    )
    print(f"\nLargest relative difference of the bounds: {difference:.1e}.\n")
    print("| one level, X and Y | CPU s |\n|---|---|")
    costs = {name: (sizes, [seconds(make(size), repeats) for size in sizes]) for name, (sizes, make) in COSTS.items()}
    for name, (sizes, times) in costs.items():
        for size, cost in zip(sizes, times, strict=True):
            print(f"| {name}: {size:,} | {cost:.3f} |")
    if args.write:
        COSTS_FILE.write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
    print(f"| N = 1,024, with the error over rows | {seconds(ours(n=1024, subsample_se=True), repeats):.3f} |")
    z, labels = layer(1024)
    taken = seconds(lambda: representation_geometry(z, labels), repeats)
    print(f"| N = 1,024, spread, rank and class means | {taken:.3f} |")
    leaf = z[:512].clone().requires_grad_()
    print(
        f"| N = 512, channel_bits with its gradient | {seconds(lambda: channel_bits(leaf).backward(), repeats):.3f} |"
    )


if __name__ == "__main__":
    main()
