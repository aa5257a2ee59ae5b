"""PhaseDetector: from logged curves to the ends of the phases, run by run and over runs.

Curves in, markers out. Each of the five markers is found by a rule of this package on its own curve; none is
conditioned on another, so that their order and distance are observations. Needs no torch.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import fields
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.phases.across import second_phase_across
from probe.phases.alignment import align
from probe.phases.censored import median_step
from probe.phases.curves import Curves, as_dataset, from_table, is_table, table_steps
from probe.phases.markers import Marker, sustained_crossing
from probe.phases.onsets import fitting_end
from probe.phases.peaks import second_descent
from probe.phases.roles import Role, Roles
from probe.phases.summary import describe

MARKERS = ("fit_end", "generalisation_onset", "descent_onset", "compression_onset", "end")
_ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss", "information")
_BLOCK = 64  # runs that are loaded at a time
_MOST_ACROSS = 2**25  # numbers that the test across runs holds at once


class PhaseDetector(BaseEstimator):
    """Find the ends of the phases of training in logged curves.

    Parameters
    ----------
    train_accuracy, train_loss, test_accuracy, test_loss, information : str or callable
        Roles: the name of a variable, or a function (curves Dataset) -> DataArray over ``step``. A missing
        role makes its markers "undefined". Accuracies are shares (1) or percent, information in bits. The train
        loss decides the end of fitting where there is no train accuracy.
    layer : label, optional
        Layer of the information; None takes the deepest (last) one that was measured.
    split : str
        Split of the information.
    axis : str
        What the curves run over, and what their dimension, column or key is called. Also a width or a sample size: then
        the end of fitting is the interpolation threshold.
    fit_level, end_level : float
        Train accuracy at the end of fitting (of a train loss: the share of its fall), test accuracy at the end of
        training.
    n_sustained : int
        Observations in a row that a crossing must last.
    chance : float, optional
        Accuracy of guessing; None takes the attribute ``chance`` of the test accuracy, else its first
        observation.
    spike_width : int
        Spikes of the test loss of at most this many observations are set aside and counted.
    delta : float
        Distance of two markers that still counts as aligned (dex).
    n_jobs : int, optional
        Jobs that runs are divided among; None: what ``joblib.parallel_config`` says, else one.

    Attributes
    ----------
    markers_ : xarray.Dataset
        Dimensions (run, marker): step, lower, upper (on the axis), status, p_value, fall, fall_noise,
        n_spikes, noise, correlation, rule, interval, reason; see :class:`probe.phases.markers.Marker`.
    phases_ : xarray.DataArray
        int8 (run, step): 0 before fit_end, 1 until end, 2 after, -1 if fit_end is undefined or undecided.
    alignment_ : xarray.Dataset
        Distances of all pairs of markers, see :func:`probe.phases.alignment.align`.
    across_ : xarray.Dataset or None
        With several runs, by marker: ``median`` with ``lower`` and ``upper`` (90 %) and ``status``, censored
        runs kept (:func:`probe.phases.censored.median_step`); for the two peaks the test across runs
        (:func:`probe.phases.across.second_phase_across`): ``test_status``, ``p_value``, ``fall`` with
        ``fall_lower`` and ``fall_upper`` (95 %, units of the curve), ``test_reason``.
    curves_ : xarray.Dataset
        The curves, as they were read; over ``step``, whatever the axis is called.
    notes_ : list of str
        What was assumed or rescaled.
    n_runs_ : int
        Number of runs; a single run is described, and tested against noise only.
    n_features_in_, feature_names_in_
        Of a table: its columns.

    Notes
    -----
    A table (an array, or a DataFrame without the axis) is read as scikit-learn does: rows are runs, and columns the
    steps of their train loss, named by numbers or counted from 0.
    """

    def __init__(
        self,
        *,
        train_accuracy: Role = "train_accuracy",
        train_loss: Role = "train_loss",
        test_accuracy: Role = "test_accuracy",
        test_loss: Role = "test_loss",
        information: Role = "information_x",
        layer: Hashable | None = None,
        split: str = "train",
        axis: str = "step",
        fit_level: float = 0.99,
        end_level: float = 0.99,
        n_sustained: int = 3,
        chance: float | None = None,
        spike_width: int = 3,
        delta: float = 0.25,
        n_jobs: int | None = None,
    ) -> None:
        self.train_accuracy = train_accuracy
        self.train_loss = train_loss
        self.test_accuracy = test_accuracy
        self.test_loss = test_loss
        self.information = information
        self.layer = layer
        self.split = split
        self.axis = axis
        self.fit_level = fit_level
        self.end_level = end_level
        self.n_sustained = n_sustained
        self.chance = chance
        self.spike_width = spike_width
        self.delta = delta
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Tags:
        """Missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Curves | ArrayLike, y: object = None) -> Self:
        """Find all markers of all runs.

        Parameters
        ----------
        X : xarray.Dataset, pandas.DataFrame, mapping of arrays, or array of shape (run, step)
            Curves, with the axis as dimension, column, index or key. A Dataset may also have ``run``, and ``layer``
            and ``split`` on the information, and may lie on disk (Dask): a few runs are loaded at a time. A
            DataFrame may have a column ``run``; in a mapping, arrays of shape (run, step) are several runs. A table:
            see Notes.
        y : ignored

        Raises
        ------
        TypeError, ValueError
            For curves of another kind, fewer than 4 observations, unsorted or repeated steps, mixed lengths,
            accuracies outside [0, 1] or [0, 100].
        """
        self.curves_ = self._read(X, reset=True)
        found = self._find(self.curves_)
        self.notes_, self.markers_ = found.notes, found.markers
        self.n_runs_ = self.markers_.sizes["run"]
        steps = self.curves_["step"].values
        coords = {"run": self.markers_["run"], "step": self.curves_["step"]}
        self.phases_ = xr.DataArray(_phases(steps, self.markers_), coords, ("run", "step"), "phase")
        self.alignment_ = align(self.markers_, first_step=steps[0], last_step=steps[-1], delta=self.delta)
        self.across_ = self._over_runs(found.roles, steps) if self.n_runs_ > 1 else None
        return self

    def predict(self, X: Curves | ArrayLike) -> np.ndarray:
        """Phase of each run at its last step: int8 (run,), see ``phases_``; curves as in :meth:`fit`."""
        check_is_fitted(self)
        curves = self._read(X, reset=False)
        return _phases(curves["step"].values[-1:], self._find(curves).markers)[:, 0]

    def score(self, X: Curves | ArrayLike, y: Mapping[str, ArrayLike] | ArrayLike) -> float:
        """How near the markers of ``X`` are to true ones: minus the median distance (dex), 0 at best.

        Parameters
        ----------
        X
            Curves as in :meth:`fit`.
        y : mapping of str to float or array of shape (run,), or array of shape (run,)
            True steps by marker, or of fit_end; NaN where there is none, which is left out.

        Returns
        -------
        float
            A marker that was not found counts as missed by the length of the record on the logarithmic axis.
        """
        check_is_fitted(self)
        curves = self._read(X, reset=False)
        markers, x = self._find(curves).markers, np.log10(curves["step"].values[[0, -1]] + 1.0)
        true = y if isinstance(y, Mapping) else {"fit_end": y}
        if not true or set(true) - set(MARKERS):
            raise ValueError(f"expected true steps by marker, one or more of {list(MARKERS)}, got {list(true)}")
        truth = np.stack([np.broadcast_to(np.asarray(at, float), markers.sizes["run"]) for at in true.values()])
        if (truth < 0).any():
            raise ValueError(f"expected true steps from 0 on, got {np.nanmin(truth):g}")
        found = np.stack([markers["step"].sel(marker=name).values for name in true])  # NaN unless found
        errors = np.abs(np.log10(found + 1) - np.log10(truth + 1))
        missed = np.where(np.isnan(errors), x[1] - x[0], errors)[~np.isnan(truth)]
        if not len(missed):
            raise ValueError("expected a true step in y, got missing values only; give at least one")
        return -float(np.median(missed))

    def phase_at(self, steps: ArrayLike, run: int = 0) -> np.ndarray:
        """Phase of one run (by position) at any steps: 0, 1, 2; -1 if undefined or outside the record."""
        check_is_fitted(self)
        at, record = np.asarray(steps, dtype=float), self.phases_["step"].values
        outside = (at < record[0]) | (at > record[-1])
        return np.where(outside, -1, _phases(at, self.markers_.isel(run=[run]))[0]).astype(np.int8)

    def summary(self) -> str:
        """Return one sentence, a table of all markers, distances and tests, and the notes."""
        check_is_fitted(self)
        return describe(self.markers_, self.alignment_, self.across_, self.notes_, self.axis)

    def plot(self) -> Any:
        """Draw the curves with their phases on one page, see :func:`probe.plots.overview`; returns the figure."""
        check_is_fitted(self)
        from probe.plots import overview  # matplotlib only when something is drawn

        return overview(self.curves_, self)

    def _read(self, X: Any, *, reset: bool) -> xr.Dataset:
        if isinstance(X, xr.Dataset) or not is_table(X, self.axis):
            return as_dataset(X, self.axis)
        names = {str(name) for name in getattr(X, "columns", ())}
        if known := names & {str(getattr(self, role)) for role in _ROLES}:
            raise ValueError(
                f"expected {self.axis!r} beside the columns {sorted(known)}, got {sorted(names)}; rename yours to "
                f"{self.axis!r}, or pass its name as axis="
            )
        values = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan")
        if callable(self.train_loss):
            raise ValueError("expected a name as train_loss for a table, got a function; give a Dataset or a mapping")
        return from_table(values.astype(float), table_steps(X, values.shape[1]), self.train_loss)

    def _find(self, curves: xr.Dataset) -> "_Found":
        """Markers of all runs, and where they come from."""
        wanted = {role: getattr(self, role) for role in _ROLES}
        roles = Roles(curves, wanted, layer=self.layer, split=self.split)
        notes = [*roles.notes, *self._notes(roles)]
        n_runs, steps = curves.sizes.get("run", 1), curves["step"].values.astype(float)
        rules = _Rules(self.fit_level, self.end_level, self.n_sustained, self.spike_width)
        chance = self._chance(roles)
        blocks = (roles.of_runs(slice(i, min(i + _BLOCK, n_runs))) for i in range(0, n_runs, _BLOCK))
        sizes = [min(_BLOCK, n_runs - i) for i in range(0, n_runs, _BLOCK)]
        work = (delayed(_of_block)(steps, block, n, rules, chance) for block, n in zip(blocks, sizes, strict=True))
        table = [row for rows in Parallel(n_jobs=self.n_jobs)(work) for row in rows]
        runs = np.atleast_1d(curves["run"].values) if "run" in curves.coords else np.arange(n_runs)
        return _Found(_markers_dataset(table, runs, self.axis), roles, list(dict.fromkeys(notes)))

    def _notes(self, roles: Roles) -> Iterator[str]:
        if isinstance(roles.found["train_accuracy"], str) and not isinstance(roles.found["train_loss"], str):
            yield "fit_end: from the train loss, there is no train accuracy"
        test = roles.found["test_accuracy"]
        if self.chance is None and not isinstance(test, str) and "chance" not in test.attrs:
            yield "chance: the first observation of test_accuracy; pass chance= if it is known"

    def _chance(self, roles: Roles) -> "_Chance":
        test = roles.found["test_accuracy"]
        attrs = {} if isinstance(test, str) else test.attrs
        chance = attrs.get("chance") if self.chance is None else self.chance
        if chance is not None and not 0 <= chance <= 1:
            raise ValueError(f"expected chance as a share between 0 and 1, got {chance}; divide percent by 100")
        return _Chance(chance, attrs.get("n", np.inf))

    def _over_runs(self, roles: Roles, steps: np.ndarray) -> xr.Dataset:
        """Medians of all markers, and the tests of the two peaks."""
        rows = []
        for name in MARKERS:
            one = self.markers_.sel(marker=name)
            median = median_step(
                *(one[k].values for k in ("step", "lower", "upper", "status")), first_step=steps[0], last_step=steps[-1]
            )
            role = {"descent_onset": "test_loss", "compression_onset": "information"}.get(name)
            rows.append(
                {
                    "median": median.step,
                    "lower": median.lower,
                    "upper": median.upper,
                    "status": median.status,
                    "n_found": median.n_found,
                    "reason": median.reason,
                    **_tested(steps, roles.found[role] if role else "no peak"),
                }
            )
        return xr.Dataset(
            {key: ("marker", np.array([row[key] for row in rows])) for key in rows[0]}, {"marker": list(MARKERS)}
        )


class _Found(NamedTuple):
    markers: xr.Dataset
    roles: Roles
    notes: list[str]


class _Rules(NamedTuple):
    fit_level: float
    end_level: float
    n_sustained: int
    spike_width: int


class _Chance(NamedTuple):
    share: float | None  # None: the first observation
    n: float  # examples that an accuracy is a mean over

    def level(self, accuracy: np.ndarray) -> float:
        """Chance + max(3 standard deviations of guessing, 5 %)."""
        measured = accuracy[~np.isnan(accuracy)]
        share = self.share if self.share is not None else float(measured[0]) if len(measured) else 0.0
        return float(share + max(3 * np.sqrt(share * (1 - share) / self.n), 0.05))


def _of_block(
    steps: np.ndarray, block: Mapping[str, xr.DataArray | str], n_runs: int, rules: _Rules, chance: _Chance
) -> list[list[Marker]]:
    """Five markers of each run, in the order of MARKERS."""
    loaded = {role: curve if isinstance(curve, str) else _rows(curve, n_runs) for role, curve in block.items()}
    return [
        _of_run(steps, {role: c if isinstance(c, str) else c[run] for role, c in loaded.items()}, rules, chance)
        for run in range(n_runs)
    ]


def _rows(curve: xr.DataArray, n_runs: int) -> np.ndarray:
    """Values (run, step); one curve belongs to all runs."""
    if "run" in curve.dims:
        return curve.transpose("run", "step").to_numpy()
    return np.broadcast_to(curve.to_numpy(), (n_runs, curve.sizes["step"]))


def _of_run(steps: np.ndarray, curves: Mapping[str, np.ndarray | str], rules: _Rules, chance: _Chance) -> list[Marker]:
    def marker(role: str, find: Callable[[np.ndarray], Marker]) -> Marker:
        curve = curves[role]
        return Marker("undefined", "", reason=curve) if isinstance(curve, str) else find(curve)

    def crossing(role: str, level: float) -> Callable[[np.ndarray], Marker]:
        return lambda curve: sustained_crossing(steps, curve, level, m=rules.n_sustained, name=role)

    def onset(curve: np.ndarray) -> Marker:
        level = chance.level(curve)
        if level > 1:
            return Marker("undefined", "", reason=f"chance leaves no room: {level:.3g} would be needed")
        return crossing("test_accuracy", level)(curve)

    fit_end = marker("train_accuracy", crossing("train_accuracy", rules.fit_level))
    if isinstance(curves["train_accuracy"], str) and not isinstance(curves["train_loss"], str):
        fit_end = _fitted(steps, curves["train_loss"], rules)
    return [
        fit_end,
        marker("test_accuracy", onset),
        marker("test_loss", lambda curve: second_descent(steps, curve, spike_width=rules.spike_width)),
        marker("information", lambda curve: second_descent(steps, curve, spike_width=0)),
        marker("test_accuracy", crossing("test_accuracy", rules.end_level)),
    ]


def _fitted(steps: np.ndarray, loss: np.ndarray, rules: _Rules) -> Marker:
    """End of fitting by a train loss: in log units, unless it is not positive."""
    scale = "log" if (loss[~np.isnan(loss)] > 0).all() else "linear"
    return fitting_end(steps, loss, share=rules.fit_level, m=rules.n_sustained, scale=scale)


def _tested(steps: np.ndarray, curve: xr.DataArray | str) -> dict[str, Any]:
    """The test across runs, as values of one marker."""
    reason = curve if isinstance(curve, str) else "" if "run" in curve.dims else "one curve for all runs"
    if not reason and not isinstance(curve, str) and curve.size > _MOST_ACROSS:
        reason = "too many runs to be held at once; select some and call second_phase_across"
    if reason or isinstance(curve, str):
        nan = np.nan
        return {
            "test_status": "undefined", "p_value": nan, "fall": nan, "fall_lower": nan, "fall_upper": nan,
            "n_runs": 0, "test_reason": reason,
        }  # fmt: skip
    found = second_phase_across(steps, curve.transpose("run", "step").to_numpy())
    return {
        "test_status": found.status,
        "p_value": found.p_value,
        "fall": found.mean_drop,
        "fall_lower": found.interval[0],
        "fall_upper": found.interval[1],
        "n_runs": found.n_runs,
        "test_reason": found.reason,
    }


def _markers_dataset(table: list[list[Marker]], runs: np.ndarray, axis: str) -> xr.Dataset:
    variables = {
        field.name: (
            ("run", "marker"),
            np.array([[getattr(marker, field.name) for marker in row] for row in table]),
        )
        for field in fields(Marker)
    }
    dataset = xr.Dataset(variables, {"run": runs, "marker": list(MARKERS)})
    for name in ("step", "lower", "upper"):
        dataset[name].attrs = {"units": "1", "long_name": "completed optimiser updates" if axis == "step" else axis}
    return dataset


def _phases(steps: np.ndarray, markers: xr.Dataset) -> np.ndarray:
    """Phases (run, step) at some steps."""
    status, at = (markers[name].sel(marker=["fit_end", "end"]).values for name in ("status", "step"))  # (run, 2)
    never = np.where(status == "left_censored", -np.inf, np.inf)
    fitted, ended = np.where(status == "found", at, never).T[:, :, None]  # from where they count as reached
    unknown = np.isin(status[:, :1], ["undefined", "undecided"])
    return np.where(unknown, -1, np.where(steps < fitted, 0, np.where(steps < ended, 1, 2))).astype(np.int8)
