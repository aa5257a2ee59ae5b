"""Whether the top of a curve hangs on the noise level or on the estimator: the same peak, read in several ways.

An information that rises and falls does so at some resolution. If its top lies elsewhere at half or twice the noise, or
for another estimator on the same rows, it is a property of the reading and not of the network.
"""

import numpy as np
import xarray as xr

from probe.phases.markers.peaks import top_inside
from probe.series import COMPARES

_BY_NOISE = "_by_noise"


def peak_agreement(series: xr.Dataset, variable: str = "information_x", *, delta: float = 0.3) -> xr.Dataset:
    """The step of the maximum for every reading of a variable, and whether they agree.

    Parameters
    ----------
    series
        With ``variable`` and further readings of it: ``<variable>_by_noise`` and variables with the attribute
        ``compares`` (``MutualInfoProbe(noise_factors=(0.5, 2), compare=("coding_rate",))``).
    variable
        Its dimensions besides ``step`` (run, split, layer) are kept.
    delta
        Peaks agree if all lie within this many decades of ``step + 1``.

    Returns
    -------
    Dataset
        ``step``, ``lower`` and ``upper`` (90 % credible, see :func:`probe.phases.unimodal_mode`) with a
        dimension ``reading``, NaN where the curve has no top inside the record; ``spread`` (decades) between the
        first top and the last; the flag ``agree`` (-1 where fewer than two readings have a top, or not all).

    Raises
    ------
    ValueError
        If there is no second reading.
    """
    named = estimates_of(series, variable)
    if len(named) < 2:
        raise ValueError(
            f"{variable!r} has one reading; measure others beside it: MutualInfoProbe(noise_factors=(0.5, 2), "
            'compare=("coding_rate",))'
        )
    curves = xr.concat([curve.reset_coords(drop=True) for curve in named.values()], dim="reading", join="outer")
    curves = curves.assign_coords(reading=list(named))
    tops = xr.apply_ufunc(
        lambda values: _top(series["step"].values, values),
        curves,
        input_core_dims=[["step"]],
        output_core_dims=[["bound"]],
        vectorize=True,
    )
    found = xr.Dataset({name: tops.isel(bound=k) for k, name in enumerate(("step", "lower", "upper"))})
    axis: xr.DataArray = np.log10(found["step"] + 1)  # type: ignore[assignment]
    spread, known = axis.max("reading") - axis.min("reading"), found["step"].notnull()
    agree = xr.where(known.all("reading"), spread <= delta, -1).astype(np.int8)
    found = found.assign(spread=spread.where(known.sum("reading") > 1), agree=agree)
    found["step"].attrs = {"units": "1", "long_name": f"step of the maximum of {variable}"}
    found["spread"].attrs = {"units": "decades", "long_name": "between the first maximum and the last"}
    return found.assign_attrs(delta=delta)


def estimates_of(series: xr.Dataset, variable: str = "information_x") -> dict[str, xr.DataArray]:
    """The same quantity by other noises and other estimators: name -> curves, all with the dimensions of the variable.

    The first is the variable itself; ``noise x 0.5`` and such are its readings at other noises.
    """
    if variable not in series:
        raise ValueError(f"the series has no {variable!r}; it has {', '.join(map(str, series.data_vars))}")
    found = {variable: series[variable]}
    by_noise = series.get(f"{variable}{_BY_NOISE}")
    if by_noise is not None:
        found |= {f"noise x {k:g}": by_noise.sel(noise_factor=k) for k in by_noise["noise_factor"].values}
    for name, array in series.data_vars.items():
        if array.attrs.get(COMPARES) == variable:
            found[str(name).removeprefix(f"{variable}_")] = array
    return found


def _top(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Step, lower, upper; NaN where the curve has no top inside the record."""
    top = top_inside(steps, values)
    return np.full(3, np.nan) if top is None else np.array([top.step, top.lower, top.upper])
