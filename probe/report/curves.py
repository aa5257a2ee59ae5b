"""The curves of a report, and what a row of pixels can show of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from probe.report.scale import Scale
from probe.stats.one_grid import on_one_grid

COLUMNS = 1000  # of pixels that a panel is wide, at most
MEDIAN = -1  # in place of the position of a run
MAX_THIN = 12  # runs that are drawn one by one beside their median; more runs are a band
_MOST_LINES = 16  # of one variable, beside its layers and splits; a map has more and is no curve
_QUANTILES = (0.1, 0.9)
_COMPANIONS = ("_se", "_lower", "_upper")  # drawn as the band of their variable
_MINOR = ("_ceiling", "_subsample_se")  # ends of names of variables that are of interest beside another one only
_RECORD = 70  # bytes of a curve beside its numbers


@dataclass(frozen=True)
class Curve:
    """One line: a variable of one run (or the median), layer and split, at the steps where it has a value.

    Attributes
    ----------
    variable, run : int
        Positions; the run is -1 for the median, and None for a curve that belongs to all runs.
    layer : int or None
        Position of the layer.
    label : str
        Labels of the further dimensions, such as the split.
    steps, values : numpy.ndarray
        Without missing values, and reduced.
    band : tuple of numpy.ndarray, or None
        Lower and upper end of a band.
    whole : Curve, or None
        The curve with all its observations, if this one is reduced.
    """

    variable: int
    run: int | None
    layer: int | None
    label: str
    steps: np.ndarray
    values: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None
    whole: "Curve | None" = None

    @property
    def size(self) -> int:
        """The number of bytes on the page, steps not included."""
        return _RECORD + 16 * (len(self.values) // 3) * (3 if self.band else 1)


def variables_of(series: xr.Dataset) -> tuple[list[str], list[str]]:
    """Return the variables that are curves, the costs and limits last, and sentences about the others."""
    names, left_out = [], []
    for name, array in series.data_vars.items():
        if "step" not in array.dims or array.dtype.kind != "f" or is_companion(series, str(name)):
            continue
        others = [dim for dim in array.dims if dim not in ("step", "run", "layer", "split")]
        lines = int(np.prod([array.sizes[dim] for dim in others], initial=1))
        if lines > _MOST_LINES:
            left_out.append(f"{name} has {lines:,} lines over {', '.join(map(str, others))}, and is not on this page.")
        elif np.isfinite(array.values).any():
            names.append(str(name))
        else:
            left_out.append(f"{name} has no finite value.")
    return sorted(names, key=lambda name: name == "seconds" or name.endswith(_MINOR)), left_out


def is_companion(series: xr.Dataset, name: str) -> bool:
    """Return whether a variable is the error or a bound of another one."""
    return any(name.endswith(end) and name.removesuffix(end) in series for end in _COMPANIONS)


def curves_of(series: xr.Dataset, names: Sequence[str], scale: Scale) -> Iterator[Curve]:
    """Yield all curves of some variables, reduced: of each run, and their medians."""
    steps = series["step"].values.astype(float)
    for variable, name in enumerate(names):
        common = "run" not in series[name].dims and series.sizes.get("run", 1) > 1
        ends = [{(layer, label): rows for layer, label, rows in groups(one)} for one in _bands(series, name)]
        for layer, label, rows in groups(series[name]):
            place = {"variable": variable, "layer": layer, "label": label}
            of_rows = [one.get((layer, label)) for one in ends] or [None]
            for run, row in enumerate(rows):
                band = None if of_rows[0] is None or of_rows[-1] is None else (of_rows[0][run], of_rows[-1][run])
                yield from _curve(place, None if common else run, steps, row, band, scale)
            if len(rows) > 1:
                middle, band = over_runs(steps, rows)
                yield from _curve(place, MEDIAN, steps, middle, band, scale)


def _bands(series: xr.Dataset, name: str) -> list[xr.DataArray]:
    """Return the ends of the band of a variable, two standard errors or bounds; an empty list without a band."""
    if f"{name}_se" in series:
        return [series[name] - 2 * series[f"{name}_se"], series[name] + 2 * series[f"{name}_se"]]
    if f"{name}_lower" in series and f"{name}_upper" in series:
        return [series[f"{name}_lower"], series[f"{name}_upper"]]
    return []


def groups(array: xr.DataArray) -> list[tuple[int | None, str, np.ndarray]]:
    """Return (layer, label, values (run, step)) for each layer and combination of the other dimensions with a value."""
    array = array.astype(float) if "run" in array.dims else array.astype(float).expand_dims("run")
    others = [dim for dim in array.dims if dim not in ("step", "run", "layer")]
    array = (
        array.transpose("layer", *others, "run", "step")
        if "layer" in array.dims
        else array.transpose(*others, "run", "step")
    )
    found = []
    values = np.where(np.isfinite(array.values), array.values, np.nan)
    for at in np.ndindex(values.shape[:-2]):
        if np.isnan(values[at]).all():
            continue
        layer = at[0] if "layer" in array.dims else None
        rest = at[len(at) - len(others) :]
        label = " ".join(str(array[dim].values[i]) for dim, i in zip(others, rest, strict=True))
        found.append((layer, label, values[at]))
    return found


def over_runs(steps: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
    """Return the median over runs where all measured runs have a value, and its band if there are many runs."""
    grid = on_one_grid(np.log10(steps + 1.0), rows[~np.isnan(rows).all(axis=1)])[0]
    shared = ~np.isnan(grid).any(axis=0)
    middle = np.where(shared, np.median(grid, axis=0), np.nan)
    if len(grid) <= MAX_THIN:
        return middle, None
    low, high = np.quantile(np.where(shared, grid, 0.0), _QUANTILES, axis=0)
    return middle, (low, high)


def _curve(
    place: dict[str, Any],
    run: int | None,
    steps: np.ndarray,
    values: np.ndarray,
    band: tuple[np.ndarray, np.ndarray] | None,
    scale: Scale,
) -> Iterator[Curve]:
    """Yield one curve, reduced, unless it has no value."""
    seen = np.flatnonzero(~np.isnan(values))
    if not len(seen):
        return
    if band is not None and np.isnan(np.stack(band)[:, seen]).any():
        band = None

    def at(kept: np.ndarray) -> dict[str, Any]:
        ends = None if band is None else (band[0][kept], band[1][kept])
        return {"steps": steps[kept], "values": values[kept], "band": ends}

    kept = seen[columns(scale.position(steps[seen]), values[seen])]
    whole = Curve(run=run, **place, **at(seen)) if len(kept) < len(seen) else None
    yield Curve(run=run, **place, **at(kept), whole=whole)


def columns(x: np.ndarray, values: np.ndarray, n_columns: int = COLUMNS) -> np.ndarray:
    """Return the places of the least and the largest value in each column of pixels; all if there are few values."""
    if len(x) <= 2 * n_columns:
        return np.arange(len(x))
    column = np.minimum((x - x[0]) / (x[-1] - x[0]) * n_columns, n_columns - 1).astype(int)
    order = np.lexsort((values, column))
    starts = np.flatnonzero(np.diff(column[order], prepend=-1))
    ends = np.append(starts[1:], len(order)) - 1
    return np.unique(np.concatenate([[0], order[starts], order[ends], [len(x) - 1]]))
