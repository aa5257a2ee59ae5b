"""Figures of docs/measures: the standard figure of each measure; `figures.py` writes them.

Their sources are the recordings in reference/results, and small trainings on digits of a few seconds each.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import matplotlib.pyplot as plt
import torch
import xarray as xr
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

import probe
from probe import (
    ActivationsProbe,
    FisherProbe,
    FourierProbe,
    NeuralCollapseProbe,
    PerformanceProbe,
    PhaseDetector,
    ProbeSet,
    RobustnessProbe,
    WeightModesProbe,
    log_spaced,
    plots,
)
from probe.measures import random_walk_band
from probe.stats import growth_exponents, mode_classes
from reference.training import ModularConfig, train_modular

RESULTS = Path(__file__).parents[2] / "reference" / "results"
STEPS, SEEDS = 1_000, 3
MODULUS = 29
FIRST_DROP = 359  # last step before the learning rate of the VGG networks drops


@cache
def recorded(name: str) -> xr.Dataset:
    """Return a recording of reference/results."""
    return probe.load(RESULTS / f"{name}.nc")


def trained(make: Callable[[], probe.Probe], seeds: int = SEEDS) -> xr.Dataset:
    """Train small classifiers of digits with weight decay, and return what a probe measures."""
    images, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
    data = {"train": (x[:200], y[:200]), "test": (x[1000:1400], y[1000:1400])}
    found = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
        observed = make().attach(model, data, optimizer=optimizer, schedule=log_spaced(per_decade=8))
        for _ in range(STEPS):
            rows = torch.randint(200, (50,))
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        found.append(observed.detach().series_)
    return probe.concat(found, list(range(seeds))) if seeds > 1 else found[0]


def draw_fourier() -> Figure:
    """Draw the frequencies of a network that groks addition modulo 29."""
    config = ModularConfig(modulus=MODULUS, hidden=24)  # wider networks use all frequencies
    steps = sorted({0, config.steps, *filter(log_spaced(per_decade=12), range(config.steps))})
    observed = None
    for step, network in train_modular(config, 0, steps):
        if observed is None:
            observed = FourierProbe(weight="0.weight", axis=1, tokens=MODULUS).attach(network, config.data(0))
        observed.observe(step)
    return plots.measure(observed.detach().series_, "FourierProbe")


def draw_modes() -> Figure:
    """Draw the modes of one matrix with their classes, and the numbers of all classes."""
    series = trained(lambda: ProbeSet([WeightModesProbe(), PerformanceProbe()]), 1)
    fit_end = PhaseDetector().fit(series).markers_["step"].sel(marker="fit_end").item()
    windows = {"fitting": (1, fit_end), "after fitting": (fit_end, STEPS)}
    classes = mode_classes(growth_exponents(series, windows), {"random walk": random_walk_band(series, windows)})
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3.8), layout="constrained")
    shown = {"parameter": "0.weight", "window": "after fitting", "edges": windows["after fitting"]}
    plots.mode_trajectories(series, classes=classes, ax=left, **shown)
    plots.mode_classes(classes, ax=right)
    return figure


def draw_planes() -> Figure:
    """Draw the planes of training and test inputs of the demo."""
    series = recorded("demo").sel(split=["train", "test"])
    return plots.information_planes(series, detector=PhaseDetector().fit(series))


def draw_demo(name: str) -> Figure:
    """Draw a measure of the demo."""
    series = recorded("demo").sel(split=["train", "test"])
    if name == "WeightsProbe":
        series = series.sel(parameter=[one for one in series["parameter"].values if str(one).startswith("blocks.1")])
    return plots.measure(series, name)


def draw_perceptrons(name: str) -> Figure:
    """Draw a measure of the perceptrons on division."""
    return plots.measure(recorded("perceptrons-division").sel(split=["train", "test"]), name)


def draw_grokking(name: str) -> Figure:
    """Draw a measure of the networks that grok addition modulo 29, along the frequencies of the inputs."""
    series = recorded("first-order-grokking")
    if name == "WeightPhaseProbe":
        prefix = "fourier_"
        series = series[[one for one in series if one.startswith(prefix)]]
        series = series.rename({one: one.removeprefix(prefix) for one in series})
    return plots.measure(series, name, split="test")


def draw_vgg(name: str) -> Figure:
    """Draw a measure of small VGG networks, before the learning rate drops."""
    return plots.measure(recorded("chaos-cone-vgg").sel(step=slice(None, FIRST_DROP)), name)


def draw_trained(make: Callable[[], probe.Probe], seeds: int = SEEDS) -> Figure:
    """Draw a measure of small classifiers of digits."""
    return plots.measure(trained(make, seeds), type(make()).__name__)


PICTURES: dict[str, Callable[[], Figure]] = {
    "mutual_information": partial(draw_demo, "MutualInfoProbe"),
    "information_plane": draw_planes,
    "local_complexity": partial(draw_demo, "LocalComplexityProbe"),
    "linear_mapping_number": partial(draw_demo, "LMNProbe"),
    "performance": partial(draw_demo, "PerformanceProbe"),
    "robustness": partial(draw_trained, RobustnessProbe),
    "activations": partial(draw_trained, ActivationsProbe),
    "circuits": partial(draw_perceptrons, "CircuitsProbe"),
    "linear_regions": partial(draw_perceptrons, "LinearRegionsProbe"),
    "chaos_and_sharpness": partial(draw_vgg, "ChaosProbe"),
    "tangent_kernel": partial(draw_vgg, "TangentKernelProbe"),
    "weights": partial(draw_demo, "WeightsProbe"),
    "weight_modes": partial(draw_trained, WeightModesProbe),
    "mode_classes": draw_modes,
    "fisher": partial(draw_trained, partial(FisherProbe, splits=["train"]), 1),
    "weight_phase": partial(draw_grokking, "WeightPhaseProbe"),
    "feature_learning": partial(draw_grokking, "FeatureLearningProbe"),
    "fourier": draw_fourier,
    "neural_collapse": partial(draw_trained, NeuralCollapseProbe),
}
