"""PhaseDetector: from logged curves to the ends of the phases, run by run and over runs.

Curves in, markers out. Each of the five markers is found by a rule of this package on its own curve; none is
conditioned on another, so that their order and distance are observations. Needs no torch.
"""

from collections.abc import Hashable, Iterator, Mapping
from os import PathLike
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.phases.curves import Curves, as_dataset, from_path, from_table, is_table, named, table_steps
from probe.phases.markers import table
from probe.phases.markers.table import Chance, Settings
from probe.phases.over_runs.alignment import align
from probe.phases.over_runs.second_phase import second_phase_across
from probe.phases.roles import Role, Roles
from probe.phases.runs import markers_dataset, markers_of_runs, phases_between
from probe.phases.summary import describe
from probe.stats.censored import median_step

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
    fit_threshold, end_threshold : float
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
        n_spikes, noise, correlation, rule, interval, reason; see :class:`probe.Marker`. Dimension
        run: first_step, last_step of its curves; in ``across_`` and ``alignment_`` a run is censored at its own end.
    phases_ : xarray.DataArray
        int8 (run, step): 0 before fit_end, 1 until end, 2 after, -1 if fit_end is undefined or undecided.
    alignment_ : xarray.Dataset
        Distances of all pairs of markers, see :func:`probe.phases.align`.
    across_ : xarray.Dataset or None
        With several runs, by marker: ``median`` with ``lower`` and ``upper`` (90 %) and ``status``, censored
        runs kept (:func:`probe.stats.median_step`); for the two peaks the test across runs
        (:func:`probe.phases.second_phase_across`): ``test_status``, ``p_value``, ``fall`` with
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
        fit_threshold: float = 0.99,
        end_threshold: float = 0.99,
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
        self.fit_threshold = fit_threshold
        self.end_threshold = end_threshold
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

    def fit(self, X: Curves | ArrayLike | PathLike[str] | str, y: object = None) -> Self:
        """Find all markers of all runs.

        Parameters
        ----------
        X : path, xarray.Dataset, pandas.DataFrame, mapping of arrays, or array (rows are runs)
            A log or a folder of logs (:func:`probe.readers.read`); roles are then named as in the log. Or curves, with
            the axis as dimension, column, index or key. A Dataset may also have ``run``, and ``layer`` and ``split`` on
            the information, and may lie on disk (Dask): a few runs are loaded at a time. A DataFrame may have a column
            ``run``; in a mapping, arrays of shape (run, step) are several runs. A table: see Notes.
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
        self.phases_ = xr.DataArray(phases_between(steps, self.markers_), coords, ("run", "step"), "phase")
        first, last = self.markers_["first_step"].values, self.markers_["last_step"].values
        self.alignment_ = align(self.markers_, first_step=first, last_step=last, delta=self.delta)
        self.across_ = self._over_runs(found.roles, steps) if self.n_runs_ > 1 else None
        return self

    def predict(self, X: Curves | ArrayLike | PathLike[str] | str) -> np.ndarray:
        """Phase of each run at its last step: int8 (run,), see ``phases_``; curves as in :meth:`fit`."""
        check_is_fitted(self)
        curves = self._read(X, reset=False)
        return phases_between(curves["step"].values[-1:], self._find(curves).markers)[:, 0]

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
        truth = _truth(y, markers.sizes["run"])
        found = np.stack([markers["step"].sel(marker=name).values for name in truth])  # NaN unless found
        true = np.stack(list(truth.values()))
        errors = np.abs(np.log10(found + 1) - np.log10(true + 1))
        return -float(np.median(np.where(np.isnan(errors), x[1] - x[0], errors)[~np.isnan(true)]))

    def phase_at(self, steps: ArrayLike, run: int = 0) -> np.ndarray:
        """Phase of one run (by position) at steps of any shape: 0, 1, 2; -1 if undefined or outside the record."""
        check_is_fitted(self)
        if not -self.n_runs_ <= run < self.n_runs_:
            raise IndexError(f"expected the position of a run, 0 to {self.n_runs_ - 1}, got {run}; see markers_")
        at, record = np.asarray(steps, dtype=float), self.phases_["step"].values
        inside = (at >= record[0]) & (at <= record[-1])  # false for NaN
        phases = phases_between(at.ravel(), self.markers_.isel(run=[run]))[0].reshape(at.shape)
        return np.where(inside, phases, np.int8(-1))

    def summary(self) -> str:
        """Return one sentence, a table of all markers, distances and tests, and the notes."""
        check_is_fitted(self)
        return describe(self.markers_, self.alignment_, self.across_, self.notes_, self.axis)

    def plot(self) -> Any:
        """Draw the curves with their phases on one page, see :func:`probe.plots.page`; returns the figure."""
        check_is_fitted(self)
        from probe.plots import overview  # matplotlib only when something is drawn

        return overview(self.curves_, self)

    def _read(self, X: Any, *, reset: bool) -> xr.Dataset:
        if isinstance(X, (str, PathLike)):
            X = from_path(X, self.axis, {role: getattr(self, role) for role in _ROLES if role != "information"})
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
        wanted = {role: named(curves, getattr(self, role)) for role in _ROLES}
        roles = Roles(curves, wanted, layer=self.layer, split=self.split)
        notes = [*curves.attrs.get("reading", "").splitlines(), *roles.notes, *self._notes(roles)]
        n_runs, steps = curves.sizes.get("run", 1), curves["step"].values.astype(float)
        settings = self._settings(roles)
        blocks = (slice(i, min(i + _BLOCK, n_runs)) for i in range(0, n_runs, _BLOCK))
        work = (
            delayed(markers_of_runs)(steps, roles.of_runs(block), block.stop - block.start, settings)
            for block in blocks
        )
        found = [run for block in Parallel(n_jobs=self.n_jobs)(work) for run in block]
        runs = np.atleast_1d(curves["run"].values) if "run" in curves.coords else np.arange(n_runs)
        return _Found(markers_dataset(found, runs, self.axis), roles, list(dict.fromkeys(notes)))

    def _settings(self, roles: Roles) -> Settings:
        for name in ("fit_threshold", "end_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"expected {name} as a share above 0 and up to 1, got {getattr(self, name)}; divide percent by 100"
                )
        if self.spike_width < 0:
            raise ValueError(f"expected spike_width from 0 on, got {self.spike_width}; 0 sets no spikes aside")
        return Settings(self.fit_threshold, self.end_threshold, self.n_sustained, self.spike_width, self._chance(roles))

    def _notes(self, roles: Roles) -> Iterator[str]:
        for kind in table.MARKERS:
            if (role := kind.role_among(roles.found)) != kind.role:
                yield f"{kind.name}: found on {role}, because there is no {kind.role}"
        test = roles.found["test_accuracy"]
        if self.chance is None and not isinstance(test, str) and "chance" not in test.attrs:
            yield "chance: the first observation of test_accuracy; pass chance= if it is known"

    def _chance(self, roles: Roles) -> Chance:
        test = roles.found["test_accuracy"]
        attrs = {} if isinstance(test, str) else test.attrs
        chance = attrs.get("chance") if self.chance is None else self.chance
        if chance is not None and not 0 <= chance <= 1:
            raise ValueError(f"expected chance as a share between 0 and 1, got {chance}; divide percent by 100")
        return Chance(chance, attrs.get("n", np.inf))

    def _over_runs(self, roles: Roles, steps: np.ndarray) -> xr.Dataset:
        """Medians of all markers, and the tests of the two peaks."""
        rows = []
        for kind in table.MARKERS:
            one = self.markers_.sel(marker=kind.name)
            times = (one[k].values for k in ("step", "lower", "upper", "status"))
            median = median_step(*times, first_step=one["first_step"].values, last_step=one["last_step"].values)
            rows.append(
                {
                    "median": median.step,
                    "lower": median.lower,
                    "upper": median.upper,
                    "status": median.status,
                    "n_found": median.n_found,
                    "reason": median.reason,
                    **_tested(steps, roles.found[kind.role_among(roles.found)] if kind.peak else "no peak"),
                }
            )
        return xr.Dataset(
            {key: ("marker", np.array([row[key] for row in rows])) for key in rows[0]},
            {"marker": [kind.name for kind in table.MARKERS]},
        )


class _Found(NamedTuple):
    markers: xr.Dataset
    roles: Roles
    notes: list[str]


def _truth(y: Mapping[str, ArrayLike] | ArrayLike, n_runs: int) -> dict[str, np.ndarray]:
    """True steps (run,) by marker, checked."""
    true = y if isinstance(y, Mapping) else {"fit_end": y}
    names = [kind.name for kind in table.MARKERS]
    if not true or set(true) - set(names):
        raise ValueError(f"Expected true steps by marker, one or more of {names}, got {list(true)}; rename the keys.")
    arrays = {name: np.asarray(at, dtype=float) for name, at in true.items()}
    if any(array.shape not in ((), (n_runs,)) for array in arrays.values()):
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"expected one true step, or one for each of {n_runs} runs, got the shapes {shapes}")
    steps = np.concatenate([array.ravel() for array in arrays.values()])
    if (steps < 0).any():
        raise ValueError(f"expected true steps from 0 on, got {np.nanmin(steps):g}")
    if np.isnan(steps).all():
        raise ValueError("expected a true step in y, got missing values only; give at least one")
    return {name: np.broadcast_to(array, n_runs) for name, array in arrays.items()}


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
