"""Relevant, marginal and irrelevant modes, against nulls by name.

A null is what the exponents of a window would be if nothing but a named process acted, as a band (low, high). The rule:

    relevant    the interval of the exponent lies above the margin and above all bands
    irrelevant  it lies below minus the margin and below all bands
    marginal    it lies between minus the margin and the margin, and outside all bands
    undecided   otherwise

So "marginal" is a test of equivalence: a wide interval is undecided, and so is a mode that a null leaves in place too.
The null "weight decay" is part of the rule. Weight decay alone multiplies all modes of a matrix by one factor, and all
exponents relative to the norm of the matrix are 0: it makes all modes marginal, and none relevant or irrelevant.
"""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from probe.stats.validation import check_level, check_number

CLASSES = "relevant", "marginal", "irrelevant", "undecided"
_NEEDED = "exponent", "low", "high", "status"


def mode_classes(
    exponents: xr.Dataset, nulls: Mapping[str, xr.Dataset] | None = None, *, margin: float = 0.1
) -> xr.Dataset:
    """Return the class of each mode in each window: relevant, marginal, irrelevant or undecided.

    Parameters
    ----------
    exponents : Dataset
        Result of :func:`growth_exponents`, relative to the norm of the matrix.
    nulls : {name: Dataset}, optional
        Bands ``low`` and ``high`` of the exponents under each null, over dimensions of ``exponents``, such as
        :func:`probe.measures.random_walk_band` and :func:`control_band` return. NaN: no band, so modes are undecided.
        Weight decay alone needs no band.
    margin : float
        Largest absolute exponent of a marginal mode, between 0 and 1. At the default, 0.1, a mode changes by at most
        26 % while the number of updates grows by a factor of 10.

    Returns
    -------
    Dataset
        With the dimensions of ``exponents``: the texts ``mode_class`` and ``reason``. The reason is empty for a class
        other than "undecided". Else it is the status of the exponent, or "interval" if the interval covers more than
        one class, or the name of the first null whose band the interval meets. By class instead of mode: ``count``, the
        number of modes that were followed in the window (empty slots are no modes). The attribute ``margin``, and
        ``nulls`` with the names of the nulls.

    Raises
    ------
    ValueError
        If ``exponents`` are not those above, a null has no bands or lacks a window, parameter or run of the exponents,
        or the margin is outside its range.

    See Also
    --------
    growth_exponents : The exponents.
    control_band : Band of runs that memorise.
    probe.measures.random_walk_band : Band of random walks.
    probe.plots.mode_classes : Figure of the counts.

    Notes
    -----
    Classes are tests of single modes: some of many modes are wrong by chance. The page on measures has the shares that
    are wrong on each null.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.stats import mode_classes
    >>> low, high = [0.3, -0.05, -0.9, -0.2], [0.5, 0.03, -0.6, 0.4]
    >>> exponents = xr.Dataset({"exponent": ("mode", [0.4, 0, -0.7, 0.1])}, attrs={"relative": 1})
    >>> exponents = exponents.assign(low=("mode", low), high=("mode", high), status=("mode", ["estimated"] * 4))
    >>> mode_classes(exponents)["mode_class"].values.tolist()
    ['relevant', 'marginal', 'irrelevant', 'undecided']
    >>> found = mode_classes(exponents, {"random walk": xr.Dataset({"low": -0.8, "high": -0.1})})
    >>> found["mode_class"].values.tolist(), found["reason"].values.tolist()
    (['relevant', 'marginal', 'undecided', 'undecided'], ['', '', 'random walk', 'interval'])
    """
    nulls = dict(nulls or {})
    _check(exponents, nulls, margin)
    dims, status = exponents["exponent"].dims, exponents["status"].values
    low, high = (exponents[name].transpose(*dims).values for name in ("low", "high"))
    place = np.select([low > margin, high < -margin, (low >= -margin) & (high <= margin)], [0, 2, 1], 3)
    reason = np.where(status != "estimated", status, np.where(place == 3, "interval", "")).astype(object)
    for name, null in nulls.items():
        bottom, top = _band(name, exponents, null)
        above, below = low > top, high < bottom
        clear = np.select([place == 0, place == 2], [above, below], above | below)
        reason = np.where((reason == "") & ~clear, name, reason)
    found = np.where(reason == "", np.array(CLASSES)[place], CLASSES[3])
    held = exponents["n_observations"].transpose(*dims).values > 0 if "n_observations" in exponents else True
    counts = np.stack([((found == name) & held).sum(dims.index("mode")) for name in CLASSES])
    rest = tuple(dim for dim in dims if dim != "mode")
    return xr.Dataset(
        {
            "mode_class": (dims, found.astype(str), {"long_name": "class of the mode"}),
            "reason": (dims, reason.astype(str), {"long_name": "why the mode is undecided"}),
            "count": (("class", *rest), counts, {"units": "1", "long_name": "number of modes"}),
        },
        {**{str(name): exponents[name] for name in dims if name in exponents.coords}, "class": list(CLASSES)},
        {"margin": margin, "nulls": ", ".join(["weight decay", *nulls])},
    )


def control_band(controls: xr.Dataset, *, level: float = 0.95) -> xr.Dataset:
    """Return the band of exponents of control runs, for :func:`mode_classes`.

    Parameters
    ----------
    controls : Dataset
        Result of :func:`growth_exponents` for one or more runs that fit their data and cannot generalise, with the
        windows and parameters of the runs that are compared.
    level : float
        Share of the modes of each control in its band. The band of several controls is the hull of their bands.

    Returns
    -------
    Dataset
        ``low`` and ``high`` by (window, parameter); NaN without an estimated mode.

    Raises
    ------
    ValueError
        If ``controls`` are not those above, or ``level`` is no coverage.

    See Also
    --------
    mode_classes : Uses the band.

    Notes
    -----
    Modes of two runs do not correspond, so the band is that of all modes of a matrix together. A mode of a run is
    compared with the modes of the control that grow and shrink most.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.stats import control_band
    >>> values = [[-0.1, 0.0, 0.1], [0.0, 0.2, float("nan")]]
    >>> controls = xr.Dataset({name: (("run", "mode"), values) for name in ("exponent", "low", "high")})
    >>> controls = controls.assign(status=controls["exponent"].notnull())
    >>> band = control_band(controls, level=0.5)
    >>> round(band["low"].item(), 3), round(band["high"].item(), 3)
    (-0.05, 0.15)
    """
    check_level(level)
    _check_names(controls)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NaN without an estimated mode
        edges = controls["exponent"].quantile([(1 - level) / 2, (1 + level) / 2], dim="mode").drop_vars("quantile")
    low, high = edges.isel(quantile=0), edges.isel(quantile=1)
    if "run" in low.dims:
        low, high = low.min("run"), high.max("run")
    return xr.Dataset({"low": low, "high": high})


def _band(name: str, exponents: xr.Dataset, null: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of a null in the shape of the exponents, NaN where it has none."""
    template = exponents["exponent"]
    for dim in sorted(set(null["low"].dims) & set(null["low"].coords) & set(template.coords), key=str):
        if missing := [label for label in template[dim].values.tolist() if label not in null["low"][dim].values]:
            raise ValueError(
                f"Expected null {name!r} with each {dim} of the exponents, got none for "
                f"{', '.join(map(repr, missing))}; compute it for the same windows, parameters and runs"
            )
    low, high = ((null[name] + xr.zeros_like(template)).reindex_like(template) for name in ("low", "high"))
    return low.transpose(*template.dims).values, high.transpose(*template.dims).values


def _check(exponents: Any, nulls: Mapping[str, Any], margin: Any) -> None:
    """Raise ValueError for wrong arguments of :func:`mode_classes`."""
    check_number("margin", margin, 0, 1, "an exponent such as 0.1")
    _check_names(exponents)
    if not exponents.attrs.get("relative", 1):
        raise ValueError(
            "Expected exponents relative to the norm of the matrix, got others; call growth_exponents with "
            "relative=True"
        )
    for name, null in nulls.items():
        if not isinstance(null, xr.Dataset) or not {"low", "high"} <= set(null):
            raise ValueError(
                f"Expected a Dataset with low and high as null {name!r}, got {type(null).__name__}; pass the result of "
                "random_walk_band or control_band"
            )
        if extra := (set(null["low"].dims) | set(null["high"].dims)) - set(exponents["exponent"].dims):
            raise ValueError(
                f"Expected a null {name!r} over dimensions of the exponents, got also {', '.join(map(str, extra))}; "
                "reduce them, for example with control_band"
            )


def _check_names(exponents: Any) -> None:
    if not isinstance(exponents, xr.Dataset) or not {*_NEEDED} <= set(exponents):
        raise ValueError(
            f"Expected a Dataset with {', '.join(_NEEDED)}, got {type(exponents).__name__}; pass the result of "
            "growth_exponents"
        )
