"""The boundary of grokking at three budgets of steps, and loops of sweeps of weight decay, from recorded runs."""

import numpy as np
import xarray as xr

from probe.stats import Hysteresis, hysteresis
from reference.experiments.first_order_grokking import BUDGETS, GROKKED, STEPS_PER_VALUE, SWEPT


def boundary_table(recorded: xr.Dataset) -> xr.DataArray:
    """Return the share of seeds whose test accuracy is 0.9 or more at each budget, (weight_decay, budget).

    ``recorded`` is what `record_part` returns for ``"boundary"``.
    """
    grokked = recorded.test_accuracy.sel(step=list(BUDGETS)).rename(step="budget") >= GROKKED
    return grokked.mean("run").transpose("weight_decay", "budget")


def sweep_loops(recorded: dict[str, xr.Dataset], variable: str, kind: str = "sweep") -> Hysteresis:
    """Test the loops of a variable over the decay for hysteresis.

    The rate is one over the steps for each value. The time until a network groks is in proportion to 1 / decay. The
    loop of such a delay has an area in proportion to the rate.

    Parameters
    ----------
    recorded
        The series by name, as `record_grokking` returns them.
    variable
        Name of a variable with the dimensions ``run`` and ``step``.
    kind : {"sweep", "collapse"}
        The sweeps across the boundary of grokking, or across that of collapse.

    Raises
    ------
    ValueError
        If no such sweep is recorded.
    """
    counts = [n for n in STEPS_PER_VALUE if f"{kind}-{n}" in recorded]
    if not counts:
        raise ValueError(f"Expected recorded runs {kind}-STEPS, got {', '.join(recorded) or 'none'}; record them.")
    up, down = zip(*(loop_curves(recorded[f"{kind}-{count}"], variable, kind) for count in counts), strict=True)
    return hysteresis([1 / count for count in counts], SWEPT[kind], up, down)


def loop_curves(series: xr.Dataset, variable: str, kind: str = "sweep") -> tuple[np.ndarray, np.ndarray]:
    """Return the values of the sweep upwards and of that downwards, (run, decay), in the order of the decays."""
    values, n = series[variable].transpose("run", "step").values[:, 2:], len(SWEPT[kind])  # after the settling
    return values[:, :n], values[:, n:][:, ::-1]
