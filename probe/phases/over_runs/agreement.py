"""Test whether the step of the maximum of a curve depends on the noise level or on the estimator.

An information that rises and falls does so at some resolution. If its maximum lies at another step for half or twice
the noise, or for another estimator on the same rows, the maximum is a property of the estimate and not of the network.
"""

import numpy as np
import xarray as xr

from probe.phases.markers.modes import top_inside
from probe.series import COMPARES

_BY_NOISE = "_by_noise"


def peak_agreement(series: xr.Dataset, variable: str = "information_x", *, delta: float = 0.3) -> xr.Dataset:
    """Compare the step of the maximum over all estimates of a variable.

    Parameters
    ----------
    series : xarray.Dataset
        Contains ``variable`` and further estimates of it, see :func:`estimates_of`.
    variable : str
        Its dimensions besides ``step`` (run, split, layer) are kept.
    delta : float
        Largest distance of two maxima that agree, in decades of ``step + 1``.

    Returns
    -------
    xarray.Dataset
        ``step``, ``lower`` and ``upper`` (90 % credible, see :func:`probe.phases.unimodal_mode`) with a dimension
        ``estimate``, NaN if the curve has no maximum inside the record. ``spread`` (decades) is the distance from the
        first maximum to the last. The flag ``agree`` is 1 (yes), 0 (no), or -1 if an estimate has no maximum.

    Raises
    ------
    ValueError
        If there is no second estimate.

    See Also
    --------
    estimates_of : The curves that are compared.
    align : Distances between markers on different curves.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe.phases import peak_agreement
    >>> x = np.linspace(0, 4, 41)
    >>> curve = xr.DataArray(-np.abs(x - 2), {"step": 10**x - 1}, ["step"])
    >>> binned = (2 * curve).assign_attrs(compares="information_x")
    >>> peaks = peak_agreement(xr.Dataset({"information_x": curve, "information_x_binned": binned}))
    >>> print(peaks["estimate"].values.tolist(), int(peaks["agree"]))
    ['information_x', 'binned'] 1
    """
    estimates = estimates_of(series, variable)
    if len(estimates) < 2:
        raise ValueError(
            f"Expected at least two estimates of {variable!r}, got one; record further estimates with "
            'MutualInfoProbe(noise_factors=(0.5, 2), compare=("coding_rate",)).'
        )
    curves = xr.concat([curve.reset_coords(drop=True) for curve in estimates.values()], dim="estimate", join="outer")
    curves = curves.assign_coords(estimate=list(estimates))
    tops = xr.apply_ufunc(
        lambda values: _top(series["step"].values, values),
        curves,
        input_core_dims=[["step"]],
        output_core_dims=[["bound"]],
        vectorize=True,
    )
    return _agreement(tops, delta, variable)


def _agreement(tops: xr.DataArray, delta: float, variable: str) -> xr.Dataset:
    """Return the Dataset of :func:`peak_agreement`; the dimension ``bound`` is step, lower, upper."""
    result = xr.Dataset({name: tops.isel(bound=i) for i, name in enumerate(("step", "lower", "upper"))})
    x: xr.DataArray = np.log10(result["step"] + 1)  # type: ignore[assignment]
    spread, known = x.max("estimate") - x.min("estimate"), result["step"].notnull()
    agree = xr.where(known.all("estimate"), spread <= delta, -1).astype(np.int8)
    result = result.assign(spread=spread.where(known.sum("estimate") > 1), agree=agree)
    result["step"].attrs = {"units": "1", "long_name": f"step of the maximum of {variable}"}
    result["spread"].attrs = {"units": "decades", "long_name": "distance from the first maximum to the last"}
    return result.assign_attrs(delta=delta)


def estimates_of(series: xr.Dataset, variable: str = "information_x") -> dict[str, xr.DataArray]:
    """Return all estimates of one quantity: other noise levels and other estimators.

    Parameters
    ----------
    series : xarray.Dataset
        Contains ``variable``. Further estimates are ``<variable>_by_noise`` and the variables with the attribute
        ``compares`` (``MutualInfoProbe(noise_factors=(0.5, 2), compare=("coding_rate",))``).
    variable : str
        Name of the quantity.

    Returns
    -------
    dict of str to xarray.DataArray
        Curves by name, all with the dimensions of the variable. The first is the variable itself. ``noise x 0.5`` is
        the estimate at half the noise.

    Raises
    ------
    ValueError
        If the series does not contain the variable.

    See Also
    --------
    peak_agreement : Compares the steps of the maxima.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.phases import estimates_of
    >>> curve = xr.DataArray([1.0, 2.0], {"step": [0, 1]}, ["step"])
    >>> both = {"information_x": curve, "information_x_binned": curve.assign_attrs(compares="information_x")}
    >>> list(estimates_of(xr.Dataset(both)))
    ['information_x', 'binned']
    """
    if variable not in series:
        names = ", ".join(map(str, series.data_vars))
        raise ValueError(f"Expected {variable!r} in the series, got {names}; pass variable= with one of these names.")
    estimates = {variable: series[variable]}
    by_noise = series.get(f"{variable}{_BY_NOISE}")
    if by_noise is not None:
        estimates |= {f"noise x {k:g}": by_noise.sel(noise_factor=k) for k in by_noise["noise_factor"].values}
    for name, array in series.data_vars.items():
        if array.attrs.get(COMPARES) == variable:
            estimates[str(name).removeprefix(f"{variable}_")] = array
    return estimates


def _top(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return step, lower and upper; NaN if the curve has no maximum inside the record."""
    top = top_inside(steps, values)
    return np.full(3, np.nan) if top is None else np.array([top.step, top.lower, top.upper])
