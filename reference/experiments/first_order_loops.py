"""The boundary of grokking at three budgets of steps, and loops of sweeps of weight decay, from recorded runs."""

import numpy as np
import xarray as xr

from probe.stats import Hysteresis, hysteresis
from reference.experiments.first_order_grokking import BUDGETS, GROKKED, STEPS_PER_VALUE, SWEPT, grokking_runs


def boundary_table(recorded: dict[str, xr.Dataset]) -> xr.DataArray:
    """Return the share of seeds whose test accuracy is 0.9 or more at each budget, (decay, budget)."""
    runs = {name: run for name, run in grokking_runs().items() if name.startswith("boundary-") and name in recorded}
    budgets = [budget for budget in BUDGETS if all(budget in recorded[name].step for name in runs)]
    shares = [
        [float((recorded[name].test_accuracy.sel(step=budget) >= GROKKED).mean()) for budget in budgets]
        for name in runs
    ]
    decays = [run.training.weight_decay for run in runs.values()]
    return xr.DataArray(shares, {"decay": decays, "budget": budgets}, ("decay", "budget"))


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
    control = np.array(SWEPT[kind])
    n, up, down = len(control), [], []
    for count in counts:
        values = recorded[f"{kind}-{count}"][variable].transpose("run", "step").values[:, 2:]  # after the settling
        up.append(values[:, :n])
        down.append(values[:, n:][:, ::-1])
    return hysteresis([1 / count for count in counts], control, up, down)
