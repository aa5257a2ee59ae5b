"""
Chaos and cone
==============

A tiny change of the parameters grows early in training, and later it no longer does. The tangent kernel moves far early
in training, and later it may stay within a cone. This example measures both on small classifiers of digits.
"""

# %%
# Two networks, one smooth and one with kinks. The strong weight decay keeps the training moving until its end.
# `TrainingContext.usual` describes the training to the probes: optimizer, loss, data and batch size.
import copy

import matplotlib.pyplot as plt
import numpy as np
import torch
import xarray as xr
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from probe import ChaosProbe, TangentKernelProbe, plots
from probe.forward import TrainingContext
from probe.schedule import at, log_spaced
from probe.stats import cone_of

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
data = {"train": (x[:1000], y[:1000]), "test": (x[1000:], y[1000:])}
STEPS = 2000


def setup(activation, seed=0, weight_decay=0.02):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=weight_decay)
    training = TrainingContext.usual(optimizer, cross_entropy, data["train"], batch_size=32, random_state=seed)
    return model, optimizer, training


def train(model, optimizer, training, first=0, last=STEPS):
    for step in range(first, last):
        training.step_fn(model, optimizer, *training.batches(step, 1))


def chaos(activation):
    model, optimizer, training = setup(activation)
    probe = ChaosProbe(window=20).attach(
        model, data, optimizer=optimizer, training=training, schedule=log_spaced(7, STEPS)
    )
    train(model, optimizer, training)
    return probe.detach().series_


# %%
# Growth of a perturbation over 20 updates in the smooth network. All sizes grow as the derivative does. The growth is
# positive at first, and the perturbation shrinks later. The sharpness stays below the limit of stability.
plots.growth(chaos(nn.Tanh), momentum=0.9)

# %%
# The same network with ReLU. The derivative shrinks from the start, but perturbations grow early, the largest least.
# They cross kinks of the loss, which a derivative cannot see. Hollow points mark such sizes. So a growth at one size,
# without the derivative beside it, depends on the choice of this size.
plots.growth(chaos(nn.ReLU), momentum=0.9)

# %%
# The tangent kernel of the smooth network: each cell is the distance of two kernels. The kernel changes fast up to step
# 50, and then moves in a block of near kernels. The title has the entry into the cone and its interval.
model, optimizer, training = setup(nn.Tanh)
steps = sorted({*np.geomspace(1, STEPS, 16).astype(int).tolist(), *range(0, STEPS + 1, STEPS // 20)})
kernel = TangentKernelProbe(splits=["train"]).attach(model, data, optimizer=optimizer, schedule=at(steps))
train(model, optimizer, training)
kernels = kernel.detach().series_
plots.kernel_distances(kernels)

# %%
# In a cone, the radius of the movement does not depend on the window in which it is observed. The radius of a random
# walk with the same steps grows. The distance does not show the size of the kernel, which grows more than tenfold
# before the entry.
fig, axes = plt.subplots(1, 2, figsize=(9.2, 4), layout="constrained")
plots.cone_radius(kernels, ax=axes[0])
plots.kernel_norm(kernels, ax=axes[1])
found = cone_of(kernels)
print(f"radius {found['radius'].item():.2f} rad, interval {found['radius_lower'].item():.2f} to ", end="")
print(f"{found['radius_upper'].item():.2f}; norm within the cone times {found['size_within'].item():.2f}")

# %%
# A map over two steps. The parameters change by one thousandth at step t0, and both networks train on the same batches
# up to step t1, with a weight decay of 1e-4. The colour is the share of test images on which they disagree, the median
# over three seeds. A triangle is the first t0 whose perturbation changes less than 1 % of the predictions at the end.
t0, t1 = [0, 30, 100, 200, 400, 800], [30, 100, 200, 400, 800, 1000]


def predictions(model):
    with torch.no_grad():
        return model(x[1000:]).argmax(1)


def effects(seed):
    model, optimizer, training = setup(nn.ReLU, seed, weight_decay=1e-4)
    rows = np.full((len(t0), len(t1)), np.nan)
    twins = {}
    stops = sorted({*t0, *t1})
    for now, later in zip(stops, [*stops[1:], None], strict=True):
        for start, (twin, *_) in twins.items():
            if now in t1:
                disagree = (predictions(twin) != predictions(model)).double().mean().item()
                rows[t0.index(start), t1.index(now)] = disagree
        if now in t0:
            twin, twin_optimizer = copy.deepcopy((model, optimizer))
            with torch.no_grad():
                for parameter in twin.parameters():
                    noise = torch.randn_like(parameter)
                    parameter += 1e-3 * parameter.norm() / noise.norm() * noise
            twins[now] = twin, twin_optimizer
        if later is not None:
            for one, its_optimizer in [(model, optimizer), *twins.values()]:
                train(one, its_optimizer, training, now, later)
    return rows


found = xr.DataArray(
    [effects(seed) for seed in range(3)],
    {"run": range(3), "t0": t0, "t1": t1},
    attrs={"long_name": "test images with another prediction"},
)
last = found.isel(t1=-1).values
small = [np.flatnonzero(row < 0.01) for row in last]
plots.perturbation_map(found, transitions=[t0[where[0]] if len(where) else np.nan for where in small])
print(found.median("run").values.round(3))
