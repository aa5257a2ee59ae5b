"""Figures of docs/regions.md, in a quarter of a minute; `figures.py` writes them.

The last one shows the recordings in reference/results.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import Tensor, nn

import probe
from probe import plots
from probe.forward import piecewise_linear
from probe.geometry import (
    Partition,
    input_plane,
    partition_slice,
    perceptron,
    region_changes,
    slice_through,
    square,
)
from probe.measures import circuit

DOCS = Path(__file__).parents[1]
RESULTS = DOCS.parent / "reference" / "results"
LINES = {  # each row is the line a x + b y + c = 0: before, after
    "alignment": ([(1, 0.6, 0.1), (0.6, 1, -0.1)], [(1, 0.6, 0.45), (1, 0.62, -0.45)]),
    "disappearance": ([(1, 0.6, 0.1), (1, 0.5, -0.9)], [(1, 0.6, 0.1), (1, 0.5, -2.9)]),
    "merging": ([(1, 0.6, 0.3), (1, 0.6, -0.3)], [(1, 0.6, 0.1), (2, 1.2, 0.2)]),
}


def spirals() -> tuple[Tensor, Tensor]:
    """Return points (400, 2) of two spirals, and their classes."""
    torch.manual_seed(0)
    y = torch.arange(400) % 2
    angle = 0.5 + 2.5 * math.pi * torch.rand(400)
    return angle[:, None] * torch.stack([torch.cos(angle + math.pi * y), torch.sin(angle + math.pi * y)], 1) / 10, y


def trained(x: Tensor, y: Tensor, widths: Sequence[int], steps: int) -> nn.Sequential:
    """Return a ReLU perceptron that was trained on (x, y)."""
    layers = [part for a, b in itertools.pairwise(widths) for part in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model


def draw_circuits() -> Figure:
    """Draw the circuits of two inputs of a network."""
    x, y = spirals()
    found = circuit(trained(x, y, (2, 12, 12, 12, 2), 3_000), x[:2])
    figure, axes = plt.subplots(1, 2, figsize=(9.2, 4), layout="constrained")
    plots.circuit(found, 0, ax=axes[0])
    plots.circuit(found, 1, neighbour=0, ax=axes[1])
    return figure


def draw_layers() -> Figure:
    """Draw the regions of the same network, layer by layer."""
    x, y = spirals()
    model = trained(x, y, (2, 12, 12, 12, 2), 3_000)
    return plots.partitions(partition_slice(piecewise_linear(model, x), input_plane(square(1.0))), points=x, labels=y)


def digits(steps: int) -> tuple[Partition, Tensor, Tensor]:
    """Return the partition of a network on images in the plane through three of them, and these three."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    torch.manual_seed(0)
    network = piecewise_linear(trained(x[:1000], y[:1000], (64, 64, 64, 10), steps), x[:1])
    return partition_slice(network, slice_through(x[:3])), x[:3], y[:3]


def draw_digits() -> Figure:
    """Draw the regions of a network on images in the plane through three of them."""
    partition, x, y = digits(50)
    return plots.partitions(partition, points=x, labels=y.tolist())


def draw_changes() -> Figure:
    """Draw what changes between two steps of its training."""
    before, after = digits(50)[0], digits(90)[0]
    return plots.region_changes(before, after, region_changes(before, after), names=("step 50", "step 90"))


def draw_mechanisms() -> Figure:
    """Draw two lines before and after each of the three mechanisms."""
    figure, axes = plt.subplots(2, 3, figsize=(9.2, 8.6), layout="compressed")
    for (name, rows), pair in zip(LINES.items(), axes.T, strict=True):
        tables = [torch.tensor(lines) for lines in rows]
        networks = [perceptron([(table[:, :2], table[:, 2])], last=True) for table in tables]
        before, after = (partition_slice(network, input_plane(square(1.0))) for network in networks)
        plots.region_changes(before, after, region_changes(before, after), names=(name, "after"), axes=pair)
    return figure


def draw_training() -> Figure:
    """Draw the mechanisms over training, in runs that generalise and in their controls."""
    runs, controls = (probe.load(RESULTS / f"perceptrons-division{end}.nc") for end in ("", "-control"))
    return plots.mechanisms(runs, controls)


PICTURES: dict[str, Callable[[], Figure]] = {
    "circuits": draw_circuits,
    "layers": draw_layers,
    "digits": draw_digits,
    "mechanisms": draw_mechanisms,
    "changes": draw_changes,
    "training": draw_training,
}
