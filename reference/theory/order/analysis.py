"""The tests of order on a recording, beside what the theory predicts."""

import json
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from scipy import stats

from probe.stats import BarrierScaling, Hysteresis, barrier_scaling, binder_cumulant, hysteresis
from reference.theory.first_order.common import Floats
from reference.theory.first_order.free_length import solve_free_length
from reference.theory.first_order.teacher import solve_teacher
from reference.theory.order.chains import EDGES
from reference.theory.order.settings import OrderSettings

_MIDDLE = (EDGES[1:] + EDGES[:-1]) / 2
_Z = stats.norm.ppf(0.95)  # of the intervals of 90 %


class OrderTests(NamedTuple):
    """Results of all tests.

    Attributes
    ----------
    barriers, control : BarrierScaling
        Barriers of the overlaps against d, beyond and before the transition.
    loops : dict of int to Hysteresis
        Loops of each size.
    table : xarray.Dataset
        Numbers over ``dimension``: predicted barriers, shares from both starts, virials, rates, Binder's cumulants.
    slopes : dict of str to (float, float, float)
        Slope of the log rate per d, its standard error, and the p-value of the line.
    """

    barriers: BarrierScaling
    control: BarrierScaling
    loops: dict[int, Hysteresis]
    table: xr.Dataset
    slopes: dict[str, tuple[float, float, float]]


def settings_of(recorded: xr.Dataset) -> OrderSettings:
    """Return the settings of a recording."""
    found = json.loads(recorded.attrs["configuration"])
    values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in found.items()}
    return OrderSettings(**values)


def overlaps(histogram: xr.DataArray) -> Floats:
    """Return the overlaps of a histogram (..., run, bin) as (run, n), at the middles of the bins."""
    counts = histogram.transpose("run", ..., "bin").values
    return np.stack([np.repeat(np.broadcast_to(_MIDDLE, one.shape).ravel(), one.ravel()) for one in counts])


def order_tests(recorded: xr.Dataset) -> OrderTests:
    """Apply all tests of order to a recording of `record_order`."""
    settings = settings_of(recorded)
    samples = [overlaps(recorded.histogram.sel(dimension=d)) for d in settings.sizes]
    before = [overlaps(recorded.control_histogram.sel(control_dimension=d)) for d in settings.control_sizes]
    rows = [_row(recorded.sel(dimension=d), one, settings, d) for d, one in zip(settings.sizes, samples, strict=True)]
    table = xr.Dataset(
        {name: ("dimension", [row[name] for row in rows]) for name in rows[0]}, {"dimension": list(settings.sizes)}
    )
    lines = {name: _line(table, f"rate_{name}") for name in ("up", "down")}
    barriers = barrier_scaling(settings.sizes, samples, symmetric=True)
    control = barrier_scaling(settings.control_sizes, before, symmetric=True)
    return OrderTests(barriers, control, _loops(recorded), table, lines)


def _row(one: xr.Dataset, samples: Floats, settings: OrderSettings, d: int) -> dict[str, float]:
    """Return the numbers of a size."""
    late = one.isel(step=slice(one.sizes["step"] // 2, None))
    share = late.share.mean("step")
    difference = (share.sel(start="zero") - share.sel(start="droplet")).values
    networks = binder_cumulant(late["mean"].transpose("run", ...).values.reshape(one.sizes["run"], -1))
    neurons = binder_cumulant(samples)
    square, predicted = one.square.mean("start"), predict(settings, d)
    row = {
        "share": float(share.mean()),
        "share_difference": float(difference.mean()),
        "share_difference_se": float(difference.std(ddof=1) / np.sqrt(len(difference))),
        "virial_w": float(one.virials.sel(layer="w").mean()),
        "virial_a": float(one.virials.sel(layer="a").mean()),
        **{f"networks_{name}": getattr(networks, name) for name in ("value", "lower", "upper")},
        **{f"neurons_{name}": getattr(neurons, name) for name in ("value", "lower", "upper")},
        "networks_predicted": predicted["binder"] / settings.teacher(d).width
        - float(square.var() / square.mean() ** 2),
        **predicted,
    }
    for name in ("up", "down"):
        value, lower, upper, n = one[f"rate_{name}"].values.T
        row[f"rate_{name}"] = value.mean()
        # both starts have the same data and noise: their mean is no more exact than one of them
        row[f"rate_{name}_log_se"] = float(np.mean(np.log(upper / lower)) / (2 * _Z))
        row[f"hops_{name}"] = n.sum()
    return row


def predict(settings: OrderSettings, dimension: int) -> dict[str, float]:
    """Return what the theory predicts for a size.

    Returns
    -------
    dict
        ``barrier``, log(peak / antimode), and ``climb``, the height above q = 0, with a free length; the same by the
        paper's action, ``paper_barrier`` and ``paper_climb``; ``predicted_share``; ``binder`` of the neurons.
    """
    teacher = settings.teacher(dimension)
    free, paper = solve_free_length(teacher), solve_teacher(teacher)
    found = dict(zip(("barrier", "climb"), _heights(free.curve), strict=True))
    found |= dict(zip(("paper_barrier", "paper_climb"), _heights(paper.action(free.q)), strict=True))
    weight = np.exp(-free.curve)
    weight[0] /= 2
    second, fourth = (weight @ free.q**power / weight.sum() for power in (2, 4))
    share = weight[free.q > settings.specialised].sum() / weight.sum()
    return {**found, "predicted_share": float(share), "binder": float(1 - fourth / (3 * second**2))}


def _heights(curve: Floats) -> tuple[float, float]:
    """Return log(lower peak / antimode) and the height of the antimode above q = 0; 0 without a barrier."""
    tops = np.flatnonzero((curve[1:-1] >= curve[:-2]) & (curve[1:-1] > curve[2:])) + 1
    if not len(tops):
        return 0.0, 0.0
    top = tops[-1]
    return float(curve[top] - max(curve[top:].min(), 0)), float(curve[top])


def _line(table: xr.Dataset, name: str) -> tuple[float, float, float]:
    """Return slope, standard error and p-value of a line through the log rates.

    The error includes the scatter around the line, as networks of another size have other data.
    """
    x, y, error = table.dimension.values, np.log(table[name].values), table[f"{name}_log_se"].values
    coefficients, covariance = np.polyfit(x, y, 1, w=1 / error, cov="unscaled")
    misfit = float((((y - np.polyval(coefficients, x)) / error) ** 2).sum())
    scale = max(1.0, misfit / (len(x) - 2))
    return float(coefficients[0]), float(np.sqrt(covariance[0, 0] * scale)), float(stats.chi2.sf(misfit, len(x) - 2))


def _loops(recorded: xr.Dataset) -> dict[int, Hysteresis]:
    noise = recorded.noise.values
    steps = recorded.loop_steps.values
    rates = (noise[-1] - noise[0]) / steps
    return {
        int(d): hysteresis(rates, noise, *([one for one in recorded[name].sel(loop_dimension=d).values]
                                           for name in ("up", "down")))
        for d in recorded.loop_dimension.values
    }  # fmt: skip
