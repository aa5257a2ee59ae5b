"""What the claims read: markers, windows, growth and classes of modes, effective numbers of parameters, and spectra.

`summarise_coarse` turns the recordings of `reference.experiments.coarse_graining` into one small Dataset. Its rules
were written before any spectrum of these runs was seen; `reference.experiments.coarse_graining_rules` has the others.

- The participation ratio and the stable rank of a network are sums over its matrices. The rank of the empirical Fisher
  matrix is that of all parameters. It is missing where the number of examples limits it, or it is 0.
- A mode is a slot of `probe.WeightModesProbe`. It counts in a window if it is followed there. A mode that loses its
  identity in the window is undecided. Growth, intervals, margin and nulls are those of `probe.stats.growth_exponents`,
  `probe.stats.mode_classes` and `probe.measures.random_walk_band` with their defaults, but 5 walks.
- Spectra at the end of a run are those of its last three observations.
"""

import numpy as np
import xarray as xr

from probe.measures import random_walk_band
from probe.stats import control_band, growth_exponents, mode_classes
from reference.experiments.coarse_graining_rules import WINDOWS, run_markers, windows_of

KINDS = ("run", "control")
RELEVANT, MARGINAL, IRRELEVANT, UNDECIDED, NO_MODE = 1, 0, -1, 2, -2  # of `mode_class`
CLASSES = {RELEVANT: "grow", MARGINAL: "stay", IRRELEVANT: "shrink", UNDECIDED: "undecided"}
NUMBERS = {
    "participation_ratio": "participation ratio",
    "stable_rank": "stable rank",
    "fisher_rank": "rank of the empirical Fisher matrix",
}
CURVES = ["train_loss", "train_accuracy", "test_loss", "test_accuracy"]
CLASSED = ("fitting", "second")  # the windows in which modes are classed
N_WALKS, WALK_STEPS = 5, 6
_CODES = {"relevant": RELEVANT, "marginal": MARGINAL, "irrelevant": IRRELEVANT}
LAST = ["last-2", "last-1", "last"]
SNAPSHOTS = ["first", "fit_end", "end", *LAST]


def effective_numbers(series: xr.Dataset) -> xr.Dataset:
    """Return the effective numbers of parameters by three definitions, over (run, step)."""
    squares = series["mode_spectrum"].astype(float) ** 2
    total = squares.sum("rank", min_count=1)
    fisher = series[["fisher_rank", "fisher_saturated"]].sel(layer="<all>", split="train", drop=True)
    found = {
        "participation_ratio": (total**2 / (squares**2).sum("rank")).sum("parameter", min_count=1),
        "stable_rank": (total / squares.max("rank")).sum("parameter", min_count=1),
        "fisher_rank": fisher["fisher_rank"].where((fisher["fisher_saturated"] == 0) & (fisher["fisher_rank"] > 0)),
    }
    return xr.Dataset(found).transpose("run", "step")


def snapshot_steps(series: xr.Dataset, markers: xr.DataArray, windows: dict[str, xr.DataArray]) -> xr.DataArray:
    """Return the observed steps of `SNAPSHOTS`, over (run, snapshot): the nearest ones to the markers."""
    found = []
    for run, row in enumerate(series["test_accuracy"].transpose("run", "step").values):
        steps = series["step"].values[np.isfinite(row)]
        wanted = (markers.sel(marker="fit_end").values[run], windows["second"].values[run, 1])
        near = [steps[np.abs(np.log((steps + 1) / (at + 1))).argmin()] if np.isfinite(at) else np.nan for at in wanted]
        found.append([steps[0], *near, *steps[-len(LAST) :]])
    return xr.DataArray(np.array(found, float), {"snapshot": SNAPSHOTS}, ("run", "snapshot"))


def spectra_at(series: xr.Dataset, steps: xr.DataArray) -> xr.DataArray:
    """Return spectra (run, snapshot, parameter, rank) at steps of each run; NaN where a step is NaN."""
    spectrum = series["mode_spectrum"].transpose("run", "step", "parameter", "rank")
    place = np.searchsorted(series["step"].values, steps.fillna(series["step"][0]).values)
    values = spectrum.values[np.arange(len(place))[:, None], place]
    found = xr.DataArray(_rounded(values), dims=("run", "snapshot", "parameter", "rank"))
    return found.where(steps.notnull()).assign_coords(parameter=series["parameter"], snapshot=steps["snapshot"])


def summarise_coarse(runs: xr.Dataset, controls: xr.Dataset) -> xr.Dataset:
    """Return what the claims and the figure read, from the recordings of runs and of the controls of the same seeds.

    Returns
    -------
    xarray.Dataset
        By (kind, run, step), where a kind is ``"run"`` or ``"control"``: losses, accuracies and effective numbers. By
        (kind, run, window, parameter, mode): ``exponent``, ``low``, ``high``; ``mode_class`` against the
        nulls weight decay and random walk; ``mode_class_beyond_control`` against controls, too; ``mode_reason``, why a
        mode is undecided (1: identity or observations, 2: interval, 3: a null). By (kind, run, snapshot, parameter,
        rank): ``spectrum``. By (run, ...): ``marker_step``, ``window_steps`` and ``snapshot_step``, all of the runs.
    """
    markers = run_markers(runs[CURVES])
    windows = windows_of(markers, runs["step"].where(runs["test_accuracy"].notnull()).max("step").values)
    steps = snapshot_steps(runs, markers, windows)
    bounds = _bounds(windows)
    growth = [growth_exponents(series, bounds) for series in (runs, controls)]
    walks = [{"random walk": walk_band(series, bounds)} for series in (runs, controls)]
    beyond = [{**walk, "control": control_band(growth[1])} for walk in walks]
    both = [
        _of_kind(series, one, _coded(one, walk), _coded(one, more)[0], steps)
        for series, one, walk, more in zip((runs, controls), growth, walks, beyond, strict=True)
    ]
    found = xr.concat(both, xr.DataArray(list(KINDS), dims="kind", name="kind"), coords="minimal", join="outer")
    flags = {"mode_class": NO_MODE, "mode_class_beyond_control": NO_MODE, "mode_reason": 0}
    found = found.reindex(window=list(WINDOWS), fill_value={**dict.fromkeys(found, np.nan), **flags})
    found["marker_step"], found["snapshot_step"] = markers, steps
    found["window_steps"] = xr.concat(list(windows.values()), xr.DataArray(list(windows), dims="window", name="window"))
    return found.assign_coords(seed=runs["seed"]).assign_attrs(provenance=runs.attrs["provenance"])


def _bounds(windows: dict[str, xr.DataArray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {name: (windows[name].values[:, 0], windows[name].values[:, 1]) for name in CLASSED}


def walk_band(series: xr.Dataset, bounds: dict[str, tuple[np.ndarray, np.ndarray]]) -> xr.Dataset:
    """Return the band of the exponents of random walks in the windows of each run.

    A walk is seen at most at `WALK_STEPS` observations of a window. Its law there is that of the walk at all of them,
    because its independent updates add in squares. With 6 observations, 5 walks are as cheap as a recording.
    """
    found = []
    for run in range(series.sizes["run"]):
        own = {name: (float(first[run]), float(last[run])) for name, (first, last) in bounds.items()}
        one = series.isel(run=run)
        thin = thinned_updates(one.isel(step=one["test_accuracy"].notnull().values), own)
        found.append(random_walk_band(thin, own, n_walks=N_WALKS))
    return xr.concat(found, "run")


def thinned_updates(series: xr.Dataset, bounds: dict[str, tuple[float, float]]) -> xr.Dataset:
    """Return at most `WALK_STEPS` observations of each window of a run, with the updates between them as of a walk."""
    steps, chosen = series["step"].values, {0}
    for first, last in bounds.values():
        inside = np.flatnonzero((steps >= first) & (steps <= last))
        if len(inside):
            chosen.update(inside[np.unique(np.linspace(0, len(inside) - 1, WALK_STEPS).round().astype(int))].tolist())
    places = np.array(sorted(chosen))
    squares = (series["mode_update_norm"].fillna(0) ** 2).cumsum("step").isel(step=places)
    updates = (squares - squares.shift(step=1)) ** 0.5
    return series.isel(step=places).assign(mode_update_norm=updates)


def _of_kind(
    series: xr.Dataset,
    growth: xr.Dataset,
    classes: tuple[xr.DataArray, xr.DataArray],
    beyond: xr.DataArray,
    steps: xr.DataArray,
) -> xr.Dataset:
    """Return curves, effective numbers, growth, classes and spectra of runs or controls, in small numbers."""
    small = {name: growth[name].copy(data=_rounded(growth[name].values)) for name in ("exponent", "low", "high")}
    curves = series[CURVES].merge(effective_numbers(series)).astype("f4").drop_attrs()
    flags = {"mode_class": classes[0], "mode_reason": classes[1], "mode_class_beyond_control": beyond}
    return curves.assign({**small, **flags, "spectrum": spectra_at(series, steps)})


def _rounded(values: np.ndarray) -> np.ndarray:
    """Return float32 with 12 significant bits, which a file compresses well."""
    bits = values.astype("f4").view("u4")
    return np.where(np.isfinite(values), ((bits + 0x800) & 0xFFFFF000).view("f4"), np.float32(np.nan))


def _coded(growth: xr.Dataset, nulls: dict[str, xr.Dataset]) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the class of each mode as a number, and why it is undecided."""
    found = mode_classes(growth, nulls)
    named, reason = found["mode_class"].values, found["reason"].values
    codes = np.select([named == name for name in _CODES], list(_CODES.values()), UNDECIDED)
    missing = growth["status"].isin(["no_window", "untracked", "undefined"]).values
    reasons = np.select([reason == "", missing, reason == "interval", np.isin(reason, list(nulls))], [0, 0, 2, 3], 1)
    both = np.where(missing, NO_MODE, codes), reasons
    one, other = (found["mode_class"].copy(data=values.astype(np.int8)).drop_attrs() for values in both)
    return one, other


def counts(series: xr.Dataset, window: str, kind: str = "run") -> dict[int, np.ndarray]:
    """Return the number of modes of each class by run, over all matrices."""
    classes = series["mode_class"].sel(kind=kind, window=window).stack(m=("parameter", "mode")).transpose("run", "m")
    return {label: (classes.values == label).sum(-1) for label in CLASSES}


def shares(series: xr.Dataset, window: str, kind: str = "run") -> dict[int, np.ndarray]:
    """Return the share of modes of each class by run; NaN without modes."""
    found = counts(series, window, kind)
    total = np.sum(list(found.values()), axis=0)
    return {label: np.where(total > 0, number / np.maximum(total, 1), np.nan) for label, number in found.items()}
