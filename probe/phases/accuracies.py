"""Bring the accuracies of all runs to one unit, shares, and recognise error rates among them."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from probe.errors import warn_user
from probe.readers.names import is_error_rate
from probe.run_facts import changed_chance

_ROUNDING = 1e-3  # half precision rounds a share of 1 to 1.001 at most
_PERCENT = ("%", "percent", "per cent")  # attribute units


def as_shares(
    curves: Mapping[str, xr.DataArray], names: Mapping[str, str], notes: list[str]
) -> dict[str, xr.DataArray]:
    """Return the accuracies among the curves as shares of right answers, and add a note for each change.

    The unit is one for all accuracies of all runs, since one program wrote them: percent if any value exceeds 1. A
    control that never leaves chance at 1 % is then read as the run that reaches 100 % beside it. A variable with the
    name of an error rate becomes 1 - error.

    Parameters
    ----------
    curves : mapping of str to DataArray
        By role, (step) or (run, step). Losses show whether falling accuracies are error rates.
    names : mapping of str to str
        By role, the name of the variable, in its log if it is from one. Roles without a name are functions of the user.
    notes : list of str
        Changes are added.

    Raises
    ------
    ValueError
        For values outside [0, 1] and [0, 100], and for accuracies that fall while the loss of their split falls.

    Warns
    -----
    probe.errors.ProbeWarning
        If values are read as percent, and not all accuracies have this unit.
    """
    arrays = {role: array for role, array in curves.items() if role.endswith("accuracy")}
    if not arrays:
        return {}
    ranges = {role: _range(array) for role, array in arrays.items()}
    for role, (least, most) in ranges.items():
        if least < 0 or most > 100 * (1 + _ROUNDING):
            raise ValueError(
                f"Expected {role} in [0, 1] or [0, 100], got {least:g} to {most:g}; pass an accuracy, not a loss or an "
                "error in other units."
            )
    tops = {role: most for role, (_, most) in ranges.items()}
    units = {str(array.attrs.get("units", "")).lower() for array in arrays.values()}
    if any(top > 1 + _ROUNDING for top in tops.values()) or units & {*_PERCENT}:
        arrays = _from_percent(arrays, tops, notes, warn=not units <= {*_PERCENT})
    return {role: _right(array, role, names.get(role, ""), curves, notes) for role, array in arrays.items()}


def _from_percent(
    arrays: Mapping[str, xr.DataArray], tops: Mapping[str, float], notes: list[str], *, warn: bool
) -> dict[str, xr.DataArray]:
    """Divide accuracies, and their attribute chance, by 100."""
    chances = {role: array.attrs["chance"] for role, array in arrays.items() if "chance" in array.attrs}
    divided = {role: changed_chance(array.attrs, lambda chance: chance / 100) for role, array in arrays.items()}
    text = ", ".join(f"{role} has a maximum of {top:.4g}" for role, top in tops.items())
    text += "".join(f"; the chance of {role}, {chance:g}, is divided, too" for role, chance in chances.items())
    text += _low_runs(arrays)
    notes.append(f"accuracies are read as percent, and divided by 100: {text}")
    if warn:
        warn_user(
            f"Expected accuracies in [0, 1], got percent: {text}; pass shares, or accept that all accuracies are "
            "divided by 100."
        )
    return {
        role: (array / 100).assign_attrs(array.attrs | {"units": "1"} | divided[role]) for role, array in arrays.items()
    }


def _low_runs(arrays: Mapping[str, xr.DataArray]) -> str:
    """Name the runs whose accuracies never exceed 1 %, which may be shares."""
    tops = [array.max("step") for array in arrays.values() if "run" in array.dims]
    if len(tops) < len(arrays) or not tops:
        return ""
    most = np.max([top.values for top in tops], axis=0)
    names = tops[0]["run"].values if "run" in tops[0].coords else np.arange(len(most))
    low = [str(run) for run in names[most <= 1]]
    return f"; runs that stay below 1 %: {', '.join(low[:5])}{', ...' if len(low) > 5 else ''}" if low else ""


def _right(
    array: xr.DataArray, role: str, name: str, curves: Mapping[str, xr.DataArray], notes: list[str]
) -> xr.DataArray:
    """Return the share of right answers: 1 - error if the name is that of an error rate."""
    if is_error_rate(name):
        notes.append(f"{role}: 1 - {name}, because {name!r} is the name of an error rate")
        chance = changed_chance(array.attrs, lambda chance: 1 - chance)
        return (1 - array).assign_attrs(array.attrs | chance).rename(array.name)
    loss = curves.get(role.replace("accuracy", "loss"))
    if loss is None:
        return array
    (start, end), (high, low) = _ends(array), _ends(loss)
    wrong = (start >= 0.3) & (end <= start / 3) & (low < high - abs(high) / 3)  # shape (run,), or one value
    if np.mean(wrong) > 0.5:
        raise ValueError(
            f"Expected {role} to rise while {role.replace('accuracy', 'loss')} falls, got a fall from "
            f"{np.nanmedian(start):.3g} to {np.nanmedian(end):.3g}; this is an error rate. Pass 1 - error, or rename "
            f"the variable to test_error and pass {role}='test_error'."
        )
    return array


def _range(array: xr.DataArray) -> tuple[float, float]:
    """Return the smallest and the largest finite value; infinite if there is none. The values may lie on disk."""
    values = array.variable.data
    finite = np.isfinite(values)
    return float(np.where(finite, values, np.inf).min()), float(np.where(finite, values, -np.inf).max())


def _ends(array: xr.DataArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of the first and of the last observations of each run, a tenth or ten; NaN where all miss."""
    n = min(10, max(1, array.sizes["step"] // 10))
    rows = array.variable.transpose(..., "step")
    first, last = (_mean(rows.isel(step=part).values) for part in (slice(n), slice(-n, None)))
    return first, last


def _mean(rows: np.ndarray) -> np.ndarray:
    """Return the mean of the finite values of each row."""
    finite = np.isfinite(rows)
    with np.errstate(invalid="ignore"):  # 0 / 0 in a row without values
        return np.asarray(np.where(finite, rows, 0).sum(-1) / finite.sum(-1))
