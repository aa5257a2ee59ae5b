"""Cones of real trainings: ``python docs/benchmarks/cone_real.py`` prints a Markdown table, in three CPU minutes.

Five small networks with two seeds each are trained and observed at 38 to 40 steps. Two of them see new noise at each
update, so that their kernels keep moving: shifted and noisy images, or a fifth of the labels drawn at random. Two fit
their training data and slow down. The last one memorises a table and moves until the end.
"""

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from sklearn.datasets import load_digits
from torch import Tensor, nn

from probe import TangentKernelProbe, at
from probe.stats import cone_of, kernel_distances

Batch = tuple[Tensor, Tensor]
Noise = Callable[[Tensor, Tensor, torch.Generator], Batch]


class Training(NamedTuple):
    model: Callable[[], nn.Module]
    data: Callable[[], Batch]
    noise: Noise
    optimizer: Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]
    steps: int


def convolutional() -> nn.Module:
    def block(a: int, b: int) -> list[nn.Module]:
        return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]

    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(*block(1, 16), *block(16, 16), nn.MaxPool2d(2), *block(16, 32), *head)


def perceptron() -> nn.Module:
    layers = [nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10)]
    return nn.Sequential(nn.Flatten(), *layers)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(23, 32)
        self.position = nn.Parameter(torch.randn(2, 32) / 10)
        self.block = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True)
        self.head = nn.Linear(32, 23)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.embedding(x) + self.position)[:, -1])


def digits() -> Batch:
    found = load_digits()
    x, y = torch.tensor(found.images, dtype=torch.float32)[:, None] / 16, torch.tensor(found.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(5))[:1000]
    return x[order], y[order]


def division() -> Batch:
    """350 of 506 quotients modulo 23."""
    pairs = torch.tensor(list(itertools.product(range(23), range(1, 23))))
    y = torch.tensor([int(a) * pow(int(b), -1, 23) % 23 for a, b in pairs])
    order = torch.randperm(len(pairs), generator=torch.Generator().manual_seed(5))[:350]
    return pairs[order], y[order]


def unchanged(x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
    return x, y


def shifted(x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
    across, down = torch.randint(-1, 2, (2,), generator=generator).tolist()
    return torch.roll(x, (across, down), (2, 3)) + 0.3 * torch.randn(x.shape, generator=generator), y


def mislabelled(x: Tensor, y: Tensor, generator: torch.Generator) -> Batch:
    wrong = torch.rand(len(y), generator=generator) < 0.2
    return x, torch.where(wrong, torch.randint(10, y.shape, generator=generator), y)


def sgd(lr: float, decay: float) -> Callable[[Iterator[nn.Parameter]], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr, momentum=0.9, weight_decay=decay)


TRAININGS = {
    "convolutional, batch norm, noisy images": Training(convolutional, digits, shifted, sgd(0.1, 5e-4), 3000),
    "tanh perceptron, noisy labels": Training(perceptron, digits, mislabelled, sgd(0.05, 1e-3), 6000),
    "convolutional, batch norm": Training(convolutional, digits, unchanged, sgd(0.1, 1e-4), 1500),
    "tanh perceptron": Training(perceptron, digits, unchanged, sgd(0.1, 0.0), 1500),
    "transformer, division": Training(
        Transformer, division, unchanged, lambda p: torch.optim.AdamW(p, 2e-3, weight_decay=0.1), 3000
    ),
}


def recorded(training: Training, seed: int) -> xr.Dataset:
    torch.manual_seed(seed)
    model, (x, y) = training.model(), training.data()
    optimizer, generator = training.optimizer(model.parameters()), torch.Generator().manual_seed(seed)
    last = training.steps
    steps = {0, *np.geomspace(1, last, 10).round().astype(int).tolist(), *np.linspace(0, last, 31).astype(int).tolist()}
    probe = TangentKernelProbe().attach(model, (x, y), optimizer=optimizer, schedule=at(sorted(steps)))
    for _ in range(last):
        rows = torch.randint(len(x), (64,), generator=generator)
        inputs, targets = training.noise(x[rows], y[rows], generator)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    return probe.detach().series_


def line(name: str, series: xr.Dataset) -> str:
    found = cone_of(series).map(lambda variable: variable.item() if not variable.dims else variable)
    distances = kernel_distances(series)["distance"].isel(split=0).transpose("batch", "step", "step_ref").values
    alike = np.corrcoef(*(d[np.triu_indices(len(d), 1)] for d in distances))[0, 1]
    values = {key: float(found[key]) for key in ("entry", "entry_lower", "entry_upper", "path_ratio", "size_within")}
    entry, radius = "", ""
    if found["status"] == "found":
        entry = f"{values['entry']:.0f} ({values['entry_lower']:.0f} to {values['entry_upper']:.0f})"
        bounds = [float(found[key]) for key in ("radius", "radius_lower", "radius_upper")]
        radius = f"{bounds[0]:.2f} ({bounds[1]:.2f} to {bounds[2]:.2f})"
    last = [float(found[key][-1]) for key in ("window_radius", "window_walk")]
    cells = [name, str(found["status"].item()), entry, radius, f"{last[0]:.2f}, {last[1]:.2f}", f"{alike:.3f}"]
    return f"| {' | '.join(cells)} |"


def main() -> int:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    print("| training, two seeds | status | entry | radius, rad | radius at the end, random walk | correlation |")
    print("|---" * 6 + "|")
    for name, training in TRAININGS.items():
        for seed in range(2):
            print(line(name, recorded(training, seed)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
