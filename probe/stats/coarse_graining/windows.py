"""Windows of steps, for all runs or for each run, in the order of the runs of a recording."""

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr


def window_bounds(name: str, window: Any, runs: Any) -> np.ndarray:
    """Return the edges of a window for each run, (runs, 2).

    Parameters
    ----------
    name
        Name of the window, or of the group of runs, for messages.
    window : (first, last)
        Each bound is a number, or one number for each run. A bound with labels (a DataArray over ``run``, or a pandas
        Series) is brought into the order of the labels of the recording. NaN: this run has no such window.
    runs : DataArray or Dataset
        The recording, with or without ``run``.

    Raises
    ------
    ValueError
        If a bound has another number of runs, or lacks the label of a run.
    """
    labels = runs["run"].values.tolist() if "run" in runs.coords and "run" in runs.dims else None
    n_runs = runs.sizes.get("run", 1)
    try:
        first, last = window
        edges = [np.broadcast_to(_ordered(name, bound, labels), n_runs) for bound in (first, last)]
    except (TypeError, ValueError) as error:
        if str(error).startswith("Expected a bound"):
            raise
        raise ValueError(
            f"Expected window {name!r} as (first, last) step, numbers or one for each of {n_runs} runs, got "
            f"{window!r}; pass for example (100, 1000)"
        ) from None
    return np.stack(edges, -1)


def _ordered(name: str, bound: Any, labels: list[Any] | None) -> np.ndarray:
    """Return a bound as numbers, in the order of the labels of runs if both have labels."""
    if isinstance(bound, pd.Series):
        bound = xr.DataArray(bound.values, {"run": bound.index.values}, "run")
    if isinstance(bound, xr.DataArray) and labels is not None and "run" in bound.coords and bound.dims == ("run",):
        present = bound["run"].values.tolist()
        if missing := [label for label in labels if label not in present]:
            raise ValueError(
                f"Expected a bound of window {name!r} for each run, got none for {', '.join(map(repr, missing))} but "
                f"for {', '.join(map(repr, present))}; give both the same labels of runs"
            )
        bound = bound.isel(run=[present.index(label) for label in labels])
    return np.asarray(bound, dtype=float)
