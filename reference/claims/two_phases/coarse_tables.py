"""Table of coarse graining for the page: numbers of modes, and changes of effective numbers of parameters."""

from collections.abc import Callable

import numpy as np
import xarray as xr

from reference.claims.two_phases.coarse_graining import NAMES, recorded
from reference.claims.two_phases.evidence import Evidence
from reference.experiments.coarse_graining_analysis import CLASSED, CLASSES, KINDS, NUMBERS, counts
from reference.experiments.coarse_graining_rules import WINDOWS, change_in

_TITLES = {"run": "runs", "control": "controls"}


def coarse_table(evidence: Evidence) -> str:
    """Return medians over seeds by network, window, and runs or controls."""
    heads = ["network", "window", "steps", "of", *CLASSES.values(), *(f"{text}, x" for text in NUMBERS.values())]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name in NAMES:
        series = recorded(evidence, name)
        for window in WINDOWS:
            bounds = series["window_steps"].sel(window=window)
            if bounds.notnull().any():
                lines += [_line(name, series, window, bounds, kind) for kind in KINDS]
    return "\n".join(lines)


def _line(name: str, series: xr.Dataset, window: str, bounds: xr.DataArray, kind: str) -> str:
    steps = " to ".join(f"{step:,.0f}" for step in np.nanmedian(bounds.values, 0))
    has = np.isfinite(bounds.values).all(1)
    modes = ["-"] * len(CLASSES)
    if window in CLASSED:
        modes = [f"{np.median(number[has]):.0f}" for number in counts(series, window, kind).values()]
    return f"| {' | '.join([name, window, steps, _TITLES[kind], *modes, *_changes(series, bounds, kind)])} |"


def _changes(series: xr.Dataset, bounds: xr.DataArray, kind: str) -> list[str]:
    """Return the median factor by which each effective number changes in a window."""
    found = [change_in(bounds, series[number].sel(kind=kind)) for number in NUMBERS]
    return [f"{10 ** np.nanmedian(one):.2f}" if np.isfinite(one).any() else "-" for one in found]


TABLES: dict[str, Callable[[Evidence], str]] = {"coarse graining": coarse_table}
