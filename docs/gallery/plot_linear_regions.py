"""
Circuits and linear regions
===========================

A ReLU network is linear on each of many regions of its input space, one for each circuit of active units. This example
draws circuits and regions, counts them exactly during training, and finds out what changes their number.
"""

# %%
# A small network with two inputs learns two spirals. The probe partitions a square around three training points at each
# observation, exactly.
import math

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from probe import LinearRegionsProbe, plots
from probe.forward import piecewise_linear
from probe.geometry import input_plane, partition_slice, perceptron, region_changes, slice_through, square
from probe.measures import circuit

torch.manual_seed(0)
y = torch.arange(400) % 2
angle = 0.5 + 2.5 * math.pi * torch.rand(400)
x = angle[:, None] * torch.stack([torch.cos(angle + math.pi * y), torch.sin(angle + math.pi * y)], 1) / 10
model = nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)


def partition():
    return partition_slice(piecewise_linear(model, x), input_plane(square(1.0)))


kept = {}
probe = LinearRegionsProbe(n_segments=0, half_side=1.0, snaps=()).attach(model, {"train": (x, y)}, optimizer=optimizer)
for step in range(2001):
    if step in (0, 50, 2000):
        kept[step] = partition()
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
probe.detach()

# %%
# The circuit of an input consists of its active units and the weights between them. Two near inputs have different
# circuits if a boundary lies between them: a line on which one unit switches on or off.
found = circuit(model, x[:2])
fig, axes = plt.subplots(1, 2, figsize=(9.2, 4), layout="constrained")
plots.circuit(found, 0, ax=axes[0])
plots.circuit(found, 1, neighbour=0, ax=axes[1])

# %%
# All inputs with one circuit form a region, and there the network is an affine map. The first layer draws straight
# lines. The second layer divides these regions further, and its lines bend where they cross lines of the first layer.
# A region keeps the hue of the region that it divides.
plots.partitions(kept[2000], points=x, labels=y)

# %%
# The decision boundary of the network consists of one line segment in each region that it crosses. The second picture
# counts the units that differ from the circuit in the middle of the spirals.
fig, axes = plt.subplots(1, 2, figsize=(9.2, 5.4), layout="compressed")
plots.partition(kept[2000], colour="output", points=x, labels=y, ax=axes[0])
plots.partition(kept[2000], colour="hamming", ax=axes[1])

# %%
# The number of regions falls in three ways, and each way has a reverse. Each column has two lines. The lines align
# until they no longer cross, a line leaves the window, or the lines merge into one.
cases = {
    "alignment": ([(1, 0.6, 0.1), (0.6, 1, -0.1)], [(1, 0.6, 0.45), (1, 0.62, -0.45)]),
    "disappearance": ([(1, 0.6, 0.1), (1, 0.5, -0.9)], [(1, 0.6, 0.1), (1, 0.5, -2.9)]),
    "merging": ([(1, 0.6, 0.3), (1, 0.6, -0.3)], [(1, 0.6, 0.1), (2, 1.2, 0.2)]),
}
fig, axes = plt.subplots(2, 3, figsize=(9.2, 8.6), layout="compressed")
for (name, rows), pair in zip(cases.items(), axes.T, strict=True):
    tables = [torch.tensor(lines) for lines in rows]  # each row is the line a x + b y + c = 0
    networks = [perceptron([(table[:, :2], table[:, 2])], last=True) for table in tables]
    before, after = (partition_slice(network, input_plane(square(1.0))) for network in networks)
    plots.region_changes(before, after, region_changes(before, after), names=(name, "after"), axes=pair)

# %%
# The same picture shows what changed between steps 0 and 50 of the training. The parts of all mechanisms add up to the
# change exactly.
changes = region_changes(kept[0], kept[50])
plots.region_changes(kept[0], kept[50], changes, names=("step 0", "step 50"))

# %%
# The probe attributes each change between two observations. The areas add each mechanism and its reverse. The numbers
# below are much larger, since lines move in and out of the window and across each other all the time. This network
# gains regions while it learns the spirals. Other networks, tasks and windows differ: nothing general follows from it.
series = probe.series_
plots.mechanisms(series)
at = series.sel(split="train").isel(slice=0)
print(f"regions: {at['linear_regions_total'][0]:.0f} at step 0, {at['linear_regions_total'][-1]:.0f} at the end")
for name, value in at["linear_regions_change"].sum(["step", "layer"]).to_series().items():
    print(f"{name}: {value:+.0f}")

# %%
# A network with many inputs is partitioned in the plane through three of them. The three images are data, and all other
# points of the plane are mixtures of them. The axes have the units of the pixels.
images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 16, dtype=torch.float32)
labels = torch.tensor(labels)
digits = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = torch.optim.AdamW(digits.parameters(), lr=0.01)
for _ in range(200):
    loss = nn.functional.cross_entropy(digits(images[:1000]), labels[:1000])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
three = torch.stack([images[labels == digit][0] for digit in (0, 1, 3)])
here = partition_slice(piecewise_linear(digits, images[:2]), slice_through(three))
fig, axes = plt.subplots(1, 2, figsize=(9.2, 5.8), layout="compressed")
plots.partition(here, points=three, labels=[0, 1, 3], ax=axes[0])
plots.partition(here, points=three, labels=[0, 1, 3], colour="output", ax=axes[1])

# %%
# Layers of more than 16 units are drawn as cells: the circuits of the digits 0 and 1.
plots.circuit(circuit(digits, three), 0, neighbour=1)
