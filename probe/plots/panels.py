"""The panels of an overview: which variables share a pair of axes."""

from collections.abc import Hashable, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from probe.plots.names import label_text
from probe.readers.names import role_of

PLANE = ("information_plane",)
_ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss", "information", "growth")
_GROWTH, _DISTANCE, _VELOCITY = "chaos_growth", "tangent_kernel_distance", "tangent_kernel_velocity"
_OF_MODEL = {"run", "step", "split"}  # dimensions of a curve of the whole model
_MOST_PANELS = 8  # of a series without usual measures
COMPANIONS = ("_se", "_lower", "_upper", "_ceiling")  # drawn with the variable whose name they continue
_MOST_SHARE = 1 + 1e-6  # no share is larger, up to rounding
_LARGE = 0.1  # size of a hump over the range of all losses, from which on a linear axis shows it well
_LOG_RATIO = 30  # largest over smallest loss, from which on the axis is logarithmic


class Panel(NamedTuple):
    """Variables of one pair of axes; label (None: of the first variable), scale and least value of its y axis.

    ``zero`` draws a line at 0. Missing markers of the curves ``marked`` are named below the axes, as those of
    ``names``.
    """

    names: Sequence[str]
    ylabel: str | None = None
    log: bool = False
    least: float | None = None
    zero: bool = False
    marked: tuple[str, ...] = ()


def standard_panels(series: xr.Dataset, detector: Any) -> list[Panel]:
    """Return the panels of the usual measures that the series contains."""
    information = getattr(detector, "information", "information_x")
    single = [information if isinstance(information, str) else "information_x", "local_complexity_total"]
    accuracies, losses = (_of_kind(series, detector, kind) for kind in ("accuracy", "loss"))
    panels = [
        *([Panel(accuracies, _accuracy(series, accuracies))] if accuracies else []),
        *([_of_losses(series, detector, losses, "loss")] if losses else []),
        *(Panel([name]) for name in [*single, "linear_mapping_number"] if name in series),
        *_of_chaos(series, detector),
        *_of_kernels(series, detector),
    ]
    if _has_plane(series):
        panels.append(Panel(PLANE))
    if not panels:
        names = ", ".join(map(str, series.data_vars))
        raise ValueError(
            "Expected a variable of a panel (*_accuracy, *_loss, information_x, local_complexity_total, "
            f"linear_mapping_number, chaos_growth or tangent_kernel_velocity), got {names}; pass panels= "
            "with their names"
        )
    return panels


def _has_plane(series: xr.Dataset) -> bool:
    """Return whether the series has splits and points of an information plane."""
    needed = {"information_x", "information_y", "split"} <= {*map(str, series.data_vars), *map(str, series.dims)}
    return needed and bool((series["information_x"] + series["information_y"]).notnull().any())


def any_panels(series: xr.Dataset) -> list[str] | None:
    """Return None if the series has usual measures, else its first curves, one for each panel."""
    curves = _curves(series)
    found = [name for name in curves if not any(name == f"{other}{end}" for other in curves for end in COMPANIONS)]
    if not found:
        raise ValueError(
            f"Expected a numeric variable over step, got {', '.join(map(str, series.data_vars)) or 'none'}; record one"
        )
    try:
        standard_panels(series, None)
    except ValueError:
        return found[:_MOST_PANELS]
    return None


def _curves(series: xr.Dataset) -> list[str]:
    """Return the numeric variables over step."""
    return [
        str(name) for name, array in series.data_vars.items() if "step" in array.dims and array.dtype.kind in "fiub"
    ]


def _of_chaos(series: xr.Dataset, detector: Any) -> list[Panel]:
    """Return the panel of the growth of perturbations, with a line at 0."""
    name = _curve(detector, "chaos_end") or _GROWTH
    return [Panel([name], "log growth of a perturbation", zero=True)] if name in series else []


def _of_kernels(series: xr.Dataset, detector: Any) -> list[Panel]:
    """Return the panel of the velocity of tangent kernels, on a logarithmic axis."""
    curve = _curve(detector, "cone_entry") or _DISTANCE
    name = curve.removesuffix(_DISTANCE) + _VELOCITY
    if name not in series:
        return []
    return [Panel([name], "velocity of the tangent kernel", bool((series[name] > 0).any()), marked=(curve,))]


def _curve(detector: Any, marker: str) -> str:
    """Return the variable on which a marker was searched; empty without one."""
    markers = getattr(detector, "markers_", None)
    if markers is None or "curve" not in markers.coords or marker not in markers["marker"]:
        return ""
    return str(markers["curve"].sel(marker=marker).item())


def wanted_panels(series: xr.Dataset, detector: Any, wanted: Sequence[str | Sequence[str]] | str) -> list[Panel]:
    """Return the panels that a user asked for."""
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    if not wanted:
        raise ValueError("Expected at least one panel, got none; pass names of variables, or None for the usual ones.")
    panels = []
    for entry in wanted:
        if entry in (PLANE[0], PLANE, [*PLANE]):
            panels.append(Panel(PLANE))
            continue
        names = [_variable(series, detector, name) for name in ([entry] if isinstance(entry, str) else entry)]
        if not names:
            raise ValueError("Expected names of variables in each panel, got an empty panel; remove it.")
        kinds = [
            kind for kind in ("accuracy", "loss") if all(name in _of_kind(series, detector, kind) for name in names)
        ]
        label = _label(series, names, kinds)
        if "loss" in kinds:
            panels.append(_of_losses(series, detector, names, label))
            continue
        of_probes = [*_of_chaos(series, detector), *_of_kernels(series, detector)]
        panels.append(next((one for one in of_probes if list(one.names) == names), Panel(names, label)))
    return panels


def _variable(series: xr.Dataset, detector: Any, name: str) -> str:
    """Return the variable with this name, with this name in the log, or with this role."""
    curves = _curves(series)
    by_name = {name: name for name in curves}
    in_log = {str(series[key].attrs["logged_as"]): key for key in curves if "logged_as" in series[key].attrs}
    roles = {
        role: value for role in _ROLES if isinstance(value := getattr(detector, role, None), str) and value in curves
    }
    found = (in_log | roles | by_name).get(str(name))
    if found is not None:
        return found
    near = get_close_matches(str(name), {*curves, *in_log, *PLANE}, n=3, cutoff=0.5)
    hint = f"near names: {', '.join(near)}" if near else f"there are: {', '.join(curves[:20])}"
    raise ValueError(f"Expected a curve of the series as a panel, got {name!r}; {hint}")


def _of_kind(series: xr.Dataset, detector: Any, kind: str) -> list[str]:
    """Return the accuracies or the losses of the model, those of training first, none over layers."""
    of_roles: list[Hashable] = [getattr(detector, role, None) for role in _ROLES if role.endswith(kind)]

    def fits(name: str) -> bool:
        role = role_of(name)
        known = name in of_roles or name.endswith(f"_{kind}") or (role is not None and role.endswith(kind))
        return known and {*series[name].dims} <= _OF_MODEL and series[name].dtype.kind == "f"

    names = [str(name) for name in series.data_vars if "step" in series[name].dims and fits(str(name))]
    return sorted(names, key=lambda name: not (role_of(name) or name).startswith("train"))  # train first


def _label(series: xr.Dataset, names: Sequence[str], kinds: Sequence[str]) -> str | None:
    """Return the label of the y axis of several variables; None is that of the only one."""
    if len(names) == 1:
        return None
    texts = [label_text(series[name].attrs.get("long_name", name)) for name in names]
    if kinds:
        return _accuracy(series, names) if kinds[0] == "accuracy" else kinds[0]
    return label_text(", ".join(texts), 60)


def _accuracy(series: xr.Dataset, names: Sequence[str]) -> str:
    """Return the label of accuracies, which are in percent if any is above 1. A unit is appended to the label later."""
    percent = any(bool((series[name] > _MOST_SHARE).any()) for name in names)
    return "accuracy (%)" if percent and series[names[0]].attrs.get("units", "1") == "1" else "accuracy"


def _of_losses(series: xr.Dataset, detector: Any, names: Sequence[str], label: str | None) -> Panel:
    """Return the panel of some losses, logarithmic if they differ much, and no hump is large on a linear axis."""
    finite = {name: series[name].where(np.isfinite(series[name])) for name in names}
    least = {name: float(array.min()) for name, array in finite.items()}
    low, high = np.nanmin([*least.values(), np.inf]), np.nanmax([*(float(a.max()) for a in finite.values()), -np.inf])
    if not 0 < low < high / _LOG_RATIO or _hump(detector, names) > _LARGE * (high - low):
        return Panel(names, label)
    of_test = [one for name, one in least.items() if (role_of(name) or name).startswith("test")]
    test = [one for one in of_test if np.isfinite(one)]
    return Panel(names, label, True, min(test) / _LOG_RATIO if test else None)


def _hump(detector: Any, names: Sequence[str]) -> float:
    """Return the median size of the humps of these variables over runs; 0 without a hump."""
    if detector is None or "curve" not in detector.markers_.coords or "size" not in detector.markers_:
        return 0.0
    markers = detector.markers_
    sizes = markers["size"].where(markers["status"] == "found").values[:, np.isin(markers["curve"].values, list(names))]
    return float(np.median(sizes[sizes > 0])) if (sizes > 0).any() else 0.0
