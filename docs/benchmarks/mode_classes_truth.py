"""Errors of :func:`probe.stats.mode_classes` on nulls and planted modes: docs/measures/mode_classes.md.

    python docs/benchmarks/mode_classes_truth.py [--draws 8]

All matrices go through WeightModesProbe and growth_exponents. A window has a factor of 30 in steps and 16 observations.
Random walks add matrices of random signs in many updates, so their law is not that of the null inside. Under weight
decay, a float32 matrix is multiplied by 1 - rate at each update, also by a rate that changes. Controls are perceptrons
that memorise random labels: each run is compared with some of the others. Planted modes have known exponents.
"""

import argparse
from collections import Counter
from collections.abc import Iterator

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe import WeightModesProbe
from probe.measures import random_walk_band
from probe.stats import control_band, growth_exponents, mode_classes

STEPS = np.unique(np.geomspace(10, 300, 16).round().astype(int))
WINDOW = {"window": (10, 300)}
CLASSES = ("relevant", "marginal", "irrelevant", "undecided")
SHAPE = (40, 60)
KINDS = ("Gaussian", "four strong modes", "power law")
# Two strong modes hold most of the norm, so that powers and exponents relative to the norm nearly agree.
SIZES, POWERS = np.array([12.0, 9, 6, 1.5, 1]), np.array([0, 0, -0.4, 0.4, 0.3])
TRUTH = ("marginal", "marginal", "irrelevant", "relevant", "relevant")


def recorded(matrices: Iterator[torch.Tensor]) -> xr.Dataset:
    """Return the modes of one matrix at each of STEPS."""
    model, found = nn.Linear(SHAPE[1], SHAPE[0], bias=False), WeightModesProbe(max_modes=SHAPE[0])
    found.attach(model, (torch.zeros(2, SHAPE[1]), None))
    for step, matrix in zip(STEPS, matrices, strict=True):
        model.weight.data.copy_(matrix)
        found.observe(int(step))
    return found.series_


def start(kind: str, generator: np.random.Generator) -> torch.Tensor:
    """Return a matrix: Gaussian, Gaussian with four strong modes, or with a power law of singular values."""
    noise = generator.normal(size=SHAPE) / SHAPE[1] ** 0.5
    if kind == "Gaussian":
        return torch.tensor(noise)
    u, s, v = np.linalg.svd(noise, full_matrices=False)
    s = np.concatenate([[6.0, 5, 4, 3], s[4:]]) if kind == "four strong modes" else 5 / np.arange(1, len(s) + 1)
    return torch.tensor(u * s @ v)


def walk(kind: str, sizes: str, share: float, generator: np.random.Generator) -> Iterator[torch.Tensor]:
    """Yield a walk whose whole way is a share of the first norm. Updates are constant, falling or growing."""
    matrix = start(kind, generator)
    times = np.arange(STEPS[0], STEPS[-1])
    size = {"constant": np.ones(len(times)), "falling": times**-0.5, "growing": times**0.5}[sizes]
    scale = share * matrix.norm().item() / np.sqrt((size**2).sum() * matrix.numel())
    yield matrix
    for step in range(STEPS[0], STEPS[-1]):
        signs = generator.integers(0, 2, SHAPE) * 2 - 1
        matrix = matrix + torch.tensor(scale * size[step - STEPS[0]] * signs)
        if step + 1 in STEPS:
            yield matrix


def decay(kind: str, schedule: bool, generator: np.random.Generator) -> Iterator[torch.Tensor]:
    """Yield a matrix under weight decay alone, in float32."""
    matrix = start(kind, generator).float()
    yield matrix
    for step in range(STEPS[0], STEPS[-1]):
        rate = 0.01 * (0.5 + 0.5 * np.cos(step / 100) if schedule else 1.0)
        matrix = matrix * (1 - rate)
        if step + 1 in STEPS:
            yield matrix


def planted(noise: str, share: float, generator: np.random.Generator) -> Iterator[torch.Tensor]:
    """Yield five modes of known powers with noise, a walk or independent at each observation."""
    u, v = (np.linalg.qr(generator.normal(size=(n, len(POWERS))))[0] for n in SHAPE)
    errors = generator.normal(size=(len(STEPS), *SHAPE)) * share * np.linalg.norm(SIZES) / np.sqrt(np.prod(SHAPE))
    if noise == "walk":
        errors = (errors * np.sqrt(np.diff(STEPS, prepend=STEPS[0]) / np.ptp(STEPS))[:, None, None]).cumsum(0)
    for step, error in zip(STEPS, errors, strict=True):
        yield torch.tensor(u * (SIZES * (step / STEPS[0]) ** POWERS) @ v.T + error)


def memorised(optimizer: str, seed: int) -> xr.Dataset:
    """Return the modes of the two inner matrices of a perceptron that memorises random labels."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 5))
    x, y = torch.randn(80, 20), torch.randint(5, (80,))
    adam = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    steps = adam if optimizer == "AdamW" else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    found = WeightModesProbe(max_modes=40).attach(model, (x, y))
    for step in range(1, int(STEPS[-1]) + 1):
        loss = nn.functional.cross_entropy(model(x), y)
        model.zero_grad()
        loss.backward()
        steps.step()
        if step in STEPS:
            found.observe(step)
    if not loss < 0.1:
        raise ValueError(f"Expected a perceptron that memorises its labels, got a loss of {loss:.2f}")
    return found.series_.sel(parameter=["0.weight", "2.weight"])


def counted(classes: xr.Dataset, exponents: xr.Dataset) -> Counter[str]:
    """Return the classes of the modes with an exponent."""
    return Counter(classes["mode_class"].values[(exponents["status"] == "estimated").values].tolist())


def against_walks(matrices: Iterator[torch.Tensor]) -> tuple[Counter[str], Counter[str]]:
    """Return the classes of one matrix with the null of random walks, and without it."""
    series = recorded(matrices)
    exponents = growth_exponents(series, WINDOW)
    band = random_walk_band(series, WINDOW)
    with_walk, alone = (mode_classes(exponents, nulls) for nulls in ({"random walk": band}, {}))
    return counted(with_walk, exponents), counted(alone, exponents)


def row(name: str, *counts: Counter[str]) -> str:
    """Return a line of a table: numbers of modes, and their classes in percent."""
    cells = []
    for count in counts:
        total = sum(count.values())
        cells += [f"{total:,}", *(f"{100 * count[c] / total:.1f}" for c in CLASSES)]
    return f"| {name} | {' | '.join(cells)} |"


def header(first: str, *kinds: str) -> str:
    names = [first, *(f"{word}{kind}" for kind in kinds for word in ("modes", *CLASSES))]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def print_walks(draws: int) -> None:
    print(header("walk: start, updates, way", "", ", no null"))
    for kind in KINDS:
        for sizes in ("constant", "falling", "growing") if kind == "Gaussian" else ("constant",):
            for share in (0.1, 0.5, 2.0) if sizes == "constant" else (0.5,):
                pairs = [against_walks(walk(kind, sizes, share, np.random.default_rng(seed))) for seed in range(draws)]
                totals = [sum(counts, Counter()) for counts in zip(*pairs, strict=True)]
                print(row(f"{kind}, {sizes}, {share:g}", *totals), flush=True)


def print_decay(draws: int) -> None:
    print(header("weight decay alone", "", ", no null"))
    for kind in KINDS[:2]:
        for schedule in (False, True):
            pairs = [against_walks(decay(kind, schedule, np.random.default_rng(seed))) for seed in range(draws)]
            totals = [sum(counts, Counter()) for counts in zip(*pairs, strict=True)]
            print(row(f"{kind}, {'falling' if schedule else 'constant'} rate", *totals), flush=True)


def print_controls(runs: int) -> None:
    print(header("perceptron that memorises", ""))
    for optimizer in ("AdamW", "SGD"):
        exponents = [growth_exponents(memorised(optimizer, seed), WINDOW) for seed in range(runs)]
        for others in (1, 2, 5):
            total = Counter[str]()
            for k, one in enumerate(exponents):
                controls = xr.concat([exponents[(k + j) % runs] for j in range(1, others + 1)], "run")
                total += counted(mode_classes(one, {"control": control_band(controls)}), one)
            print(row(f"{optimizer}, {others} control{'s' if others > 1 else ''}", total), flush=True)
        total = sum((counted(mode_classes(one), one) for one in exponents), Counter[str]())
        print(row(f"{optimizer}, without controls", total), flush=True)


def print_planted(draws: int) -> None:
    print("| noise, size over norm | true class | right | wrong | undecided |\n|---|---|---|---|---|")
    for noise, share in (("walk", 0.02), ("walk", 0.1), ("walk", 0.3), ("independent", 0.1), ("independent", 0.3)):
        seen: dict[str, Counter[str]] = {name: Counter() for name in CLASSES[:3]}
        for seed in range(draws):
            series = recorded(planted(noise, share, np.random.default_rng(seed)))
            exponents = growth_exponents(series, WINDOW)
            found = mode_classes(exponents, {"random walk": random_walk_band(series, WINDOW)})
            for mode, truth in enumerate(TRUTH):
                seen[truth][found["mode_class"].values[0, 0, mode]] += 1
        for truth, count in seen.items():
            total, right, open_ = sum(count.values()), count[truth], count["undecided"]
            cells = (f"{100 * n / total:.0f}" for n in (right, total - right - open_, open_))
            print(f"| {noise}, {share:g} | {truth} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=8)
    draws = parser.parse_args().draws
    torch.set_num_threads(1)
    for table in (print_planted, print_controls, print_decay, print_walks):
        table(draws)
        print()


if __name__ == "__main__":
    main()
