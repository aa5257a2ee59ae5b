"""Regions of many slices of the perceptrons, before and after: `python docs/benchmarks/perceptron_slices.py FOLDER`.

The recordings have one slice of each split, and add up the changes between neighbouring observations. This script
trains the same runs again, partitions `--slices` slices of each split when the training set is fitted and at the end,
and attributes the change between these two steps in one comparison. It prints Markdown. A repeated command continues:
FOLDER holds one file for each run. It takes about 12 CPU minutes.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from probe.geometry import PiecewiseLinear, partition_slice, perceptron, region_changes, slice_through
from probe.stats import separation
from reference.claims.two_phases import Evidence
from reference.claims.two_phases.configurations import PERCEPTRONS, control_of
from reference.experiments import perceptron_config
from reference.training import PerceptronConfig, train_perceptron

SPLITS = ("train", "test", "random")
NET = {
    "disappearance less appearance": ("disappearance", "appearance"),
    "merging less splitting": ("merging", "splitting"),
    "alignment less crossing": ("alignment", "crossing"),
    "folding": ("folding",),
}


def points(config: PerceptronConfig, seed: int, n: int) -> dict[str, torch.Tensor]:
    """Return n inputs of each split, and n points that are uniform in the box around all inputs."""
    data = config.data(seed)
    both = torch.cat([x for x, _ in data.values()])
    source = torch.Generator().manual_seed(seed + 1_000)
    found = {split: x[torch.randperm(len(x), generator=source)[:n]] for split, (x, _) in data.items()}
    share = torch.rand(n, both.shape[1], generator=source)
    return {**found, "random": both.amin(0) + share * (both.amax(0) - both.amin(0))}


def as_operations(network: nn.Sequential) -> PiecewiseLinear:
    """Return a copy of the network, in float64."""
    layers = [(part.weight.detach().double(), part.bias.detach().double()) for part in network[::2]]
    return perceptron([(weight.clone(), bias.clone()) for weight, bias in layers])


def compared(config: PerceptronConfig, seed: int, fitted: int, n_slices: int, margin: float) -> np.ndarray:
    """Return regions when fitted, regions at the end, and each net change: (splits, slices, 2 + changes)."""
    steps = (fitted, config.steps)
    networks = [as_operations(network) for _, network in train_perceptron(config, seed, steps)]
    rows = []
    for inputs in points(config, seed, 3 * n_slices).values():
        for corners in inputs.split(3):
            before, after = (partition_slice(network, slice_through(corners, margin=margin)) for network in networks)
            changes = region_changes(before, after)
            net = [sum(changes.total(part) for part in parts) for parts in NET.values()]
            rows.append([before.n_regions, after.n_regions, *net])
    return np.array(rows, float).reshape(len(SPLITS), n_slices, -1)


def cached(folder: Path, name: str, seed: int, fitted: int, n_slices: int, margin: float) -> np.ndarray:
    """Return the result of `compared`, from the folder if it is there."""
    file = folder / f"{name}-{seed}-{n_slices}-{margin:g}.npy"
    if not file.exists():
        task, control = name.split("-")[1], name.endswith("control")
        found = compared(perceptron_config(task, control=control), seed, fitted, n_slices, margin)
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, found)
    found = np.load(file)
    return np.asarray(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--margin", type=float, default=0.0, help="of the windows (default: 0, that of the recordings)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    evidence = Evidence()
    print("| runs, slices | when fitted | at the end | log10 of the change (sd) | " + " | ".join(NET) + " | AUC |")
    print("|---" * (5 + len(NET)) + "|")
    for task in PERCEPTRONS:
        tables = {}
        for name in (task, control_of(task)):
            one = evidence.ours(name)
            seeds = zip(one.curves["seed"].values.tolist(), one.fitted.astype(int).tolist(), strict=True)
            each = [cached(args.folder, name, seed, fitted, args.slices, args.margin) for seed, fitted in seeds]
            tables[name] = np.stack(each).mean(2)  # (seeds, splits, numbers), means over slices
        for k, split in enumerate(SPLITS):
            logs = {name: np.log10(table[:, k, 1] / table[:, k, 0]) for name, table in tables.items()}
            found = separation(*logs.values(), level=0.9)
            for name, table in tables.items():
                shares = (table[:, k, 2:] / table[:, k, :1]).mean(0)
                cells = [f"{name}, {split}", *(f"{number:,.0f}" for number in table[:, k, :2].mean(0))]
                cells += [f"{logs[name].mean():+.3f} ({logs[name].std(ddof=1):.3f})", *(f"{s:+.3f}" for s in shares)]
                cells.append(f"{found.auc:.2f} ({found.lower:.2f} to {found.upper:.2f}), p {found.p_value:.3f}")
                print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
