"""Chains of networks at equilibrium from two starts, and sweeps of the noise down and up."""

from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from probe.stats import hopping_rates
from reference.theory.first_order.teacher import CubicTeacher, features, solve_teacher
from reference.theory.langevin import Langevin
from reference.theory.order.settings import OrderSettings
from reference.theory.simulation.teacher import TeacherNetworks

STARTS = ("zero", "droplet")
BIN = 0.005  # of the histograms of q
EDGES = np.linspace(-2.5, 2.5, 1001)


def start_networks(settings: OrderSettings, teacher: CubicTeacher, seeds: list[int], start: str) -> TeacherNetworks:
    """Return networks whose neurons are all drawn from the prior ("zero"), or all specialised ("droplet")."""
    networks = TeacherNetworks(teacher, seeds, n_test=1)
    w, a = networks.w, networks.a
    if start == "droplet":
        solution = solve_teacher(teacher)
        sign = torch.where(networks.normal(w.shape[1]) > 0, 1.0, -1.0)
        w[..., 0] = sign * settings.high
        gain = np.array([solution.linear, np.sqrt(6) * solution.cubic]) @ features(
            np.array([settings.high]), teacher.weight_variance
        )
        a.add_(sign, alpha=teacher.readout_variance * teacher.n_data / (teacher.noise * teacher.width) * float(gain[0]))
    groups = [
        {"params": [a], "lr": settings.readout_rate / networks.decay_a, "weight_decay": networks.decay_a},
        {"params": [w], "lr": settings.weight_rate / networks.decay_w, "weight_decay": networks.decay_w},
    ]
    networks.optimizer = Langevin(groups, lr=1.0, friction=0.3, seed=seeds[0])
    return networks


def equilibrium(settings: OrderSettings, dimension: int, start: str, *, control: bool = False) -> xr.Dataset:
    """Run the networks of a size from a start, and return histograms of q, hops, and numbers of each network.

    Returns
    -------
    xarray.Dataset
        ``histogram`` (run, bin) of all q in the second half; ``share`` of ``|q|`` beyond ``specialised`` and the mean
        overlap (run, step); ``square`` (run), the mean of q^2; virials (run); rates with their intervals.
    """
    seeds = list(range(settings.seed, settings.seed + settings.n_networks))
    networks = start_networks(settings, settings.teacher(dimension, control=control), seeds, start)
    shares, means, kept, virials = [], [], [], []
    for step in range(1, settings.steps + 1):
        networks.step()
        q = networks.w[..., 0]
        late = step > settings.steps // 2
        if late and step % settings.hop_every == 0:
            kept.append(q.clone())
        if step % settings.every == 0:
            shares.append(_share(q, settings))
            means.append(q.mean(1))
            if late:
                virials.append(torch.stack(list(networks.virials().values())))
    series = torch.stack(kept, 2).numpy()  # (run, neuron, time)
    thin = settings.every // settings.hop_every
    data = {
        "histogram": (("run", "bin"), _histogram(series[..., thin - 1 :: thin])),
        "share": (("run", "step"), torch.stack(shares, 1).numpy()),
        "mean": (("run", "step"), torch.stack(means, 1).numpy()),
        "square": ("run", (series**2).mean((1, 2))),
        "virials": (("layer", "run"), torch.stack(virials).mean(0).numpy()),
        **_hops(np.abs(series.reshape(-1, series.shape[2])), settings),
    }
    return xr.Dataset(data, {"step": np.arange(1, len(shares) + 1) * settings.every, "layer": ["w", "a"]})


def _share(q: Tensor, settings: OrderSettings) -> Tensor:
    return (q.abs() > settings.specialised).float().mean(1)


def _histogram(series: np.ndarray) -> np.ndarray:
    """Return counts (run, bin) of q."""
    return np.array([np.histogram(one, EDGES)[0] for one in series], dtype=np.int16)


def _hops(trajectories: np.ndarray, settings: OrderSettings) -> dict[str, tuple[str, np.ndarray]]:
    """Return rates per step of all neurons, with lower and upper bound and number of hops."""
    found = hopping_rates(trajectories, settings.low, settings.high, interval=settings.hop_every)
    return {
        f"rate_{name}": ("number", np.array([rate.value, rate.lower, rate.upper, n]))
        for name, rate, n in (("up", found.up, found.n_up), ("down", found.down, found.n_down))
    }


def loop(settings: OrderSettings, dimension: int, steps: int) -> xr.Dataset:
    """Sweep the noise down and up in ``steps`` steps each, and return the share of specialised neurons.

    Returns
    -------
    xarray.Dataset
        ``down`` and ``up`` (loop_run, noise), both in the order of increasing noise in units of that at ``coupling``.
    """
    teacher = settings.teacher(dimension)
    noises = np.linspace(*settings.loop_noises, settings.loop_points)
    seeds = list(range(settings.seed, settings.seed + settings.loop_networks))
    highest = replace(teacher, noise=teacher.noise * noises[-1])
    networks = start_networks(settings, highest, seeds, "zero")
    for _ in range(100):
        networks.step()
    found = {}
    for name, order in (("down", noises[::-1]), ("up", noises)):
        shares = []
        for noise in order:
            networks.teacher = replace(teacher, noise=teacher.noise * noise)
            total = torch.zeros(len(seeds))
            for _ in range(steps // settings.loop_points):
                networks.step()
                total += _share(networks.w[..., 0], settings)
            shares.append((total / (steps // settings.loop_points)).numpy())
        found[name] = (("loop_run", "noise"), np.stack(shares if name == "up" else shares[::-1], 1))
    return xr.Dataset(found, {"noise": noises})
