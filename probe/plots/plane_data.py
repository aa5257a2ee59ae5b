"""The data of an information plane: what is drawn, and its distance to the labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from sklearn.utils.validation import check_is_fitted

from probe.plots.names import chosen_split
from probe.plots.trajectories import RINGED, SHAPES

_NEEDED = ["information_x", "information_y", "information_y_ceiling"]
_OPTIONAL = [
    "information_x_ceiling", "saturated", "noise_relative",
    *(f"information_{axis}_{part}" for axis in "xy" for part in ("lower", "upper", "subsample_se")),
]  # fmt: skip


def plane_distance(series: xr.Dataset) -> xr.Dataset:
    """Return the distance in the information plane to (H(Y), H(Y)): the labels, and no other information.

    Parameters
    ----------
    series : xarray.Dataset
        As for :func:`information_plane`.

    Returns
    -------
    xarray.Dataset
        ``plane_distance`` (bits), Euclidean, over the dimensions of ``information_x``. ``plane_distance_se`` (bits)
        if standard errors were recorded: those of subsampling, or else those of Monte Carlo. ``saturated`` as
        recorded: where it is 1, the distance depends on the noise only.

    Raises
    ------
    ValueError
        If a variable is missing.

    Notes
    -----
    The standard error is the root of the sum of both squares. A distance changes by no more than its point moves, so
    that this is an upper bound, for any correlation of the two errors.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe import plots
    >>> x, dims = np.linspace(1, 4, 6)[:, None, None], ("step", "split", "layer")
    >>> values = {"information_x": x, "information_y": x / 2, "information_y_ceiling": 0 * x + 2}
    >>> series = xr.Dataset(
    ...     {name: (dims, value) for name, value in values.items()},
    ...     {"step": [0, 1, 2, 5, 10, 20], "split": ["train"], "layer": ["hidden"]},
    ... )
    >>> print(plots.plane_distance(series)["plane_distance"].values.ravel().round(2))
    [1.8  1.26 0.92 1.   1.43 2.  ]
    """
    _check(series)
    x, y, target = (series[name] for name in _NEEDED)
    kept = {key: x.attrs[key] for key in ("estimator", "noise", "noise_convention") if key in x.attrs}
    text = {"units": "bits", "long_name": "distance to (H(Y), H(Y))"}
    distance = ((x - target) ** 2 + (y - target) ** 2) ** 0.5
    out = xr.Dataset({"plane_distance": distance.assign_attrs(kept | text)})
    for kind in ("subsample_se", "se"):
        names = [f"information_{axis}_{kind}" for axis in "xy"]
        if all(name in series for name in names):
            text = {"units": "bits", "long_name": f"at most this standard error ({kind})"}
            of_x, of_y = (series[name] for name in names)
            out["plane_distance_se"] = ((of_x**2 + of_y**2) ** 0.5).assign_attrs(text)
            break
    return out.assign(saturated=series["saturated"]) if "saturated" in series else out


def selected(
    series: xr.Dataset, split: str | None, layers: Sequence[str] | None, detector: Any
) -> tuple[xr.Dataset, xr.DataArray | None]:
    """Return the variables of one split over (run, layer, step), and the steps of the rings (run, marker), or NaN."""
    _check(series)
    plane = _of_split(series[[*_NEEDED, *(name for name in _OPTIONAL if name in series)]], split)
    plane = plane.expand_dims([dim for dim in ("run", "layer") if dim not in plane.dims])
    if "run" not in plane.coords:
        plane = plane.assign_coords(run=np.arange(plane.sizes["run"]))
    both = (plane["information_x"] + plane["information_y"]).notnull()
    known = plane["layer"].values[both.any(["run", "step"]).values].tolist()
    if not known:
        raise ValueError(
            "Expected information about labels, got only missing values; MutualInfoProbe requires integer targets"
        )
    if unknown := [layer for layer in layers or () if layer not in known]:
        raise ValueError(f"Expected layers among {', '.join(map(str, known))}, got {unknown[0]!r}; pass one of them")
    shown = _some(known) if layers is None else list(layers)
    plane = plane.sel(layer=shown).transpose("run", "layer", "step").assign_attrs(layers=len(known))
    return plane, None if detector is None else _rings(detector, plane["run"])


def _some(layers: Sequence[Any]) -> list[Any]:
    """Return the layers, or as many as there are shapes, evenly spaced from the first to the last."""
    places = np.linspace(0, len(layers) - 1, min(len(layers), len(SHAPES))).round().astype(int)
    return [layers[i] for i in places]


def measured_splits(series: xr.Dataset) -> list[Any]:
    """Return the splits with information about labels; all splits if none has any."""
    if "split" not in series.coords:
        return [None]
    splits = np.atleast_1d(series["split"].values).tolist()
    if "split" not in series.dims or "information_y" not in series:
        return splits
    known = series["information_y"].notnull()
    measured = [split for split in splits if bool(known.sel(split=split).any())]
    return measured or splits


def _of_split(series: xr.Dataset, split: str | None) -> xr.Dataset:
    if "split" not in series.dims:
        return series
    splits = [str(label) for label in series["split"].values]
    return series.sel(split=chosen_split(splits, split))


def _rings(detector: Any, runs: xr.DataArray) -> xr.DataArray:
    check_is_fitted(detector)
    markers: xr.DataArray = detector.markers_["step"]
    found = markers.isel(marker=np.isin(markers["marker"].values, RINGED))
    known = found["run"].values.tolist()
    if lost := [run for run in runs.values.tolist() if run not in known]:
        raise ValueError(f"Expected a detector with the run {lost[0]!r}, got the runs {known}; fit it on these runs")
    return found.sel(run=runs)


def _check(series: xr.Dataset) -> None:
    if lost := [name for name in _NEEDED if name not in series]:
        raise ValueError(
            f"Expected {', '.join(_NEEDED)}, got a series without {', '.join(lost)}; record them with MutualInfoProbe "
            "on data with labels"
        )
