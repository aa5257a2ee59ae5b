"""Growth exponents of followed modes in windows of time.

The exponent of a mode in a window is d log s / d log t, with t the number of updates. It is relative to the Frobenius
norm of the matrix, d log (s / ||W||) / d log t, unless ``relative`` is False: weight decay and scale invariance change
all modes of a matrix by one factor, which is then no growth.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.stats.coarse_graining.slopes import slope_interval
from probe.stats.coarse_graining.windows import window_bounds
from probe.stats.validation import check_count, check_level, check_number

_NEEDED = "mode_singular_value", "mode_matched", "mode_norm", "mode_undefined", "mode_degenerate"
_DIMS = "parameter", "mode"
RESOLVED = 1e-7  # part of the largest singular value, below which values are rounding
_NUMBERS = {
    "exponent": "d log s / d log t",
    "low": "lower bound of the exponent",
    "high": "upper bound of the exponent",
    "n_observations": "observations of the mode in the window",
    "coverage": "part of the window, in log t, over which the mode kept its identity",
    "degenerate_share": "part of the observations at which the mode was matched as a part of a subspace",
}


def growth_exponents(
    series: xr.Dataset,
    windows: Mapping[str, Any],
    *,
    relative: bool = True,
    level: float = 0.9,
    min_observations: int = 5,
    min_coverage: float = 0.5,
) -> xr.Dataset:
    """Estimate how fast each followed mode grows in each window of steps.

    Parameters
    ----------
    series : Dataset
        Series of :class:`probe.WeightModesProbe`, of one run or with a dimension ``run``.
    windows : mapping of names to (first, last)
        First and last step of each window, at least 1. A bound is a number, or one number for each run. A DataArray
        over ``run`` is matched by its labels, others by their order. NaN: this run has no such window. Fix the windows
        beforehand, by step or by markers of other curves.
    relative : bool
        Whether growth is relative to the norm of the matrix.
    level : float
        Coverage of the intervals.
    min_observations : int
        Least number of observations of a mode in a window, at least 4.
    min_coverage : float
        Least part of the window, in log t, over which a mode keeps its identity.

    Returns
    -------
    Dataset
        By (run, window, parameter, mode), without ``run`` for one run: ``exponent``, ``low``, ``high``,
        ``n_observations``, ``coverage``, ``degenerate_share`` (units of 1), and the text ``status``:

        - ``"estimated"``
        - ``"no_window"``: the window is not defined, or ends before it starts.
        - ``"few_observations"``: the series has fewer than ``min_observations`` in the window.
        - ``"undefined"``: the matrix is zero or not finite, or was not decomposed, at all of them.
        - ``"untracked"``: no mode is followed in this slot.
        - ``"not_covered"``: the observations of the run cover less than ``min_coverage`` of the window.
        - ``"only_mode"``: the matrix has one row, one column or rank 1, so its mode cannot grow against its norm.
        - ``"identity_lost"``: the longest trajectory in this slot is too short, in observations or in coverage.

        The numbers are NaN except with the status ``"estimated"``; the last three numbers also describe lost modes.

    Raises
    ------
    TypeError
        If ``series`` is no Dataset, or ``windows`` no mapping.
    ValueError
        If the series has no followed modes, a window is malformed, or a parameter is outside its range.

    See Also
    --------
    slope_interval : The estimate and its interval.
    probe.WeightModesProbe : Records the modes.

    Examples
    --------
    >>> import torch
    >>> from probe import WeightModesProbe
    >>> from probe.stats import growth_exponents
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> probe = WeightModesProbe().attach(model, (torch.zeros(2, 2), None))
    >>> for step in (1, 2, 4, 8, 16, 32):
    ...     _ = model.weight.data.copy_(torch.diag(torch.tensor([9.0, 0.2 * step**0.5])))
    ...     _ = probe.observe(step)
    >>> found = growth_exponents(probe.series_, {"all": (1, 32)}, relative=False)
    >>> round(found["exponent"].sel(mode=1).item(), 3), found["status"].sel(mode=1).item()
    (0.5, 'estimated')
    """
    _check(series, windows, level, min_observations, min_coverage)
    runs = [series.isel(run=i) for i in range(series.sizes["run"])] if "run" in series.dims else [series]
    bounds = {name: _bounds(name, window, series) for name, window in windows.items()}
    limits = min_observations, min_coverage
    cells = [
        [_growth(run, edges[i], relative, level, limits) for edges in bounds.values()] for i, run in enumerate(runs)
    ]
    lead = ("run", "window") if "run" in series.dims else ("window",)
    columns = {}
    for name in (*_NUMBERS, "status"):
        values = np.stack([np.stack([cell[name] for cell in row]) for row in cells])
        values = values if "run" in lead else values[0]
        columns[name] = ((*lead, *_DIMS), values, {"long_name": _NUMBERS.get(name, "status")})
    coords = {dim: list(windows) if dim == "window" else series[dim].values for dim in (*lead, *_DIMS)}
    return xr.Dataset(columns, coords, {"level": level, "relative": int(relative)})


def _growth(
    series: xr.Dataset, edges: np.ndarray, relative: bool, level: float, limits: tuple[int, float]
) -> dict[str, np.ndarray]:
    """Return the columns of one run and window, (parameter, mode)."""
    first, last = edges if edges[0] < edges[1] else (np.inf, np.inf)  # False also if a bound is NaN
    series = _recorded(series.sel(step=slice(first, last)).transpose("step", *_DIMS, ...))
    values, matched = series["mode_singular_value"].values, series["mode_matched"].values
    logs, norms = np.log(series["step"].values), series["mode_norm"].values[..., None]
    present = (values > 0) & (norms > 0) & np.isfinite(norms)
    chosen, extent = _longest(present, (matched == 0).cumsum(0), logs)
    width = np.log(last / first) if first < last else 1.0
    coverage, counts = extent / width, chosen.sum(0)
    conditions = {
        "no_window": np.full(counts.shape, not first < last),
        "few_observations": np.full(counts.shape, len(logs) < limits[0]),
        "undefined": np.broadcast_to((series["mode_undefined"].values != 0).all(0)[:, None], counts.shape),
        "untracked": ~present.any(0),
        "not_covered": np.full(counts.shape, np.ptp(logs) < limits[1] * width if len(logs) else True),
        "only_mode": np.broadcast_to(_rank_one(series)[:, None] & relative, counts.shape),
        "identity_lost": (counts < limits[0]) | (coverage < limits[1]),
    }
    status = np.select(list(conditions.values()), list(conditions), "estimated")
    found = {name: np.full(counts.shape, np.nan) for name in ("exponent", "low", "high")}
    if (estimated := status == "estimated").any():
        curves = np.log(np.where(chosen, values / norms if relative else values, np.nan))[:, estimated]
        slopes = slope_interval(logs, curves, level=level, logarithms=True)
        for name, column in zip(found, slopes, strict=False):
            found[name][estimated] = column
    degenerate = (chosen & (series["mode_degenerate"].values == 1)).sum(0) / np.maximum(counts, 1)
    return {**found, "n_observations": counts, "coverage": coverage, "degenerate_share": degenerate, "status": status}


def _recorded(series: xr.Dataset) -> xr.Dataset:
    """Return the steps of this run. Runs on different steps have empty ones after they were joined."""
    seen = series["mode_norm"].notnull() | (series["mode_undefined"] == 1)
    return series.isel(step=seen.any("parameter").values)


def _rank_one(series: xr.Dataset) -> np.ndarray:
    """Return which matrices (parameter,) have one mode only, whose share of the norm is 1 by definition."""
    if "mode_spectrum" not in series or not series.sizes["step"]:
        return np.zeros(series.sizes["parameter"], bool)
    values = series["mode_spectrum"].transpose("step", "parameter", "rank").values
    return np.asarray((values > RESOLVED * values[..., :1]).sum(-1).max(0) == 1)


def _longest(present: np.ndarray, trajectory: np.ndarray, logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which observations (step, ...) belong to the longest trajectory of each slot, and its extent in log t."""
    chosen, extent = np.zeros_like(present), np.full(present.shape[1:], -1.0)
    for number in range(int(trajectory.max(initial=-1)) + 1):  # none without observations
        mine = present & (trajectory == number)
        places = mine.argmax(0), len(mine) - 1 - mine[::-1].argmax(0)
        length = np.where(mine.any(0), logs[places[1]] - logs[places[0]], -1.0)
        longer = length > extent
        chosen, extent = np.where(longer, mine, chosen), np.where(longer, length, extent)
    return chosen, extent.clip(min=0)


def _bounds(name: str, window: Any, series: xr.Dataset) -> np.ndarray:
    """Return the edges of one window for each run, (runs, 2), after a check for logarithms."""
    edges = window_bounds(name, window, series)
    if (edges < 1)[:, 0].any() or np.isinf(edges).any():
        raise ValueError(
            f"Expected window {name!r} as a first step of at least 1 and a finite last step, got {window!r}; start at "
            "step 1, since log 0 is infinite"
        )
    return edges


def _check(series: Any, windows: Any, level: Any, min_observations: Any, min_coverage: Any) -> None:
    """Raise an error for wrong arguments of :func:`growth_exponents`."""
    if not isinstance(series, xr.Dataset):
        raise TypeError(f"Expected a Dataset, got {type(series).__name__}; pass the series_ of WeightModesProbe")
    if missing := [name for name in _NEEDED if name not in series]:
        raise ValueError(f"Expected a series with followed modes, got none of {missing}; record WeightModesProbe")
    if not isinstance(windows, Mapping) or not windows:
        raise TypeError(
            f'Expected windows as a mapping of names to (first, last), got {windows!r}; pass {{"early": (1, 100)}}'
        )
    check_level(level)
    check_count("min_observations", min_observations, 4)
    if min_coverage != 1:
        check_number("min_coverage", min_coverage, 0, 1, "a share such as 0.5")
