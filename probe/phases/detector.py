"""PhaseDetector: the ends of the phases of training, from logged curves, run by run and over runs.

The detector finds each marker of :mod:`probe.phases.markers.table` by its own rule on its own curve. No rule uses the
result of another, so that order and distance of the markers are observations. This module does not use PyTorch.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple, Self

import numpy as np
import xarray as xr
from joblib import Parallel, delayed
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from probe.phases.curves import Curves, as_dataset, from_path, from_table, is_table, table_steps
from probe.phases.markers import table
from probe.phases.markers.chance import Chance
from probe.phases.markers.table import Settings
from probe.phases.over_runs.across import across_runs
from probe.phases.over_runs.alignment import align
from probe.phases.roles import Role, Roles
from probe.phases.runs import markers_dataset, markers_of_runs, phases_between
from probe.phases.scoring import median_distance
from probe.phases.summary import describe
from probe.phases.verdict import verdict_dataset
from probe.readers.names import ROLES
from probe.run_facts import attributes_of_run, differ_between_runs

_ROLES = (*ROLES, "information", "growth", "kernel_distances")
_BLOCK = 64  # runs that are loaded at a time


class PhaseDetector(BaseEstimator):
    """Estimator of the ends of the phases of training, from logged curves.

    Parameters
    ----------
    train_accuracy, train_loss, test_accuracy, test_loss, information : str, callable or None
        Roles: the name of a variable, a function (curves Dataset) -> DataArray over ``step``, or None for a role that
        is not used. A variable that is missing under its default name is recognised by the usual names, such as
        ``val_acc`` (:func:`probe.readers.guess_roles`), with a note. Without a curve the markers of a role are
        "undefined". The train loss determines the end of fitting if there is no train accuracy. Information is in
        bits. Accuracies are shares (1) or percent: one unit for all accuracies of all runs, percent if any value
        exceeds 1. A name such as ``test_error`` or ``error_rate`` makes an accuracy 1 - error, with a note.
    growth : str, callable or None
        Role of the log growth of a perturbation (nats): what a :class:`probe.ChaosProbe` records, or a curve over
        ``step`` of your own, which may have the dimension ``direction``. Of the directions of a probe only the random
        one, "gaussian", counts, if it was recorded; all directions of other names count by their mean. Over ``size``
        the detector takes the largest growth of sizes up to 1e-3 and of the derivative: in networks with kinks the
        derivative is blind, and in others they agree. A variable with the name of a probe before its own is recognised,
        too.
    kernel_distances : str, callable or None
        Role of the distances (one minus a cosine) between the tangent kernels of all steps, over ``step`` and
        ``step_ref``, and ``split`` and ``batch``. If they are missing, they are computed from the
        ``tangent_kernel_sketch`` of a :class:`probe.TangentKernelProbe`. Batches 0 and 1 of the split are compared.
        Distances without ``batch`` are taken to have no error.
    layer : label, optional
        Layer of the information; None selects the deepest (last) measured layer.
    split : str
        Split of the information and of the tangent kernels.
    axis : str
        Name of the axis of the curves: a dimension, a column or a key. The axis may also be a width or a sample size;
        the end of fitting is then the interpolation threshold.
    fit_threshold : float
        Train accuracy at the end of fitting, or the share of the fall of the train loss (1).
    end_threshold : float
        Test accuracy at the end of training (1).
    n_sustained : int
        Observations in a row for which an accuracy must stay at its threshold.
    chance : float, optional
        Accuracy of guessing (1). None takes the attribute ``chance`` of the test accuracy, or else the level at which
        the test accuracy starts (:func:`probe.phases.leaves_chance`).
    n_test : int, optional
        Number of examples that a test accuracy is a mean over. None takes the attribute ``n`` or ``n_test`` of the
        test accuracy, or else estimates the noise from its values.
    spike_width : int
        Spikes of the test loss of at most this many observations are excluded and counted.
    least_size : float
        Least size of a hump of the test loss or the information, as a share of the range of the curve; see
        :func:`probe.phases.second_descent`.
    smoothing : float
        Decay a of an exponential average, ``y_t = a y_{t-1} + (1 - a) x_t``, of the test loss and the information,
        which is undone before the search for a hump. 0 for a log that is not smoothed.
    delta : float
        Largest distance of two markers that counts as aligned (dex).
    n_jobs : int, optional
        Number of jobs that process the runs. None is one job, or that of ``joblib.parallel_config``.

    Attributes
    ----------
    markers_ : xarray.Dataset
        Dimensions (run, marker): step, lower, upper (on the axis), status, fall, fall_noise, n_spikes, noise,
        correlation, size, size_share, contrast, rule, interval, reason; see :class:`probe.Marker`. Dimensions (run,
        marker, top): ``tops``, filled with NaN. Coordinates over marker: ``curve``, the variable on which the marker
        was searched, ``label`` and ``colour`` for plots. Dimension run: first_step and last_step of the curves of the
        run. In ``across_`` and ``alignment_`` a run is censored at its own end.
    verdict_ : xarray.Dataset
        What happened in each run, over (run). ``class`` is one of the names of ``probe.phases.verdict.CLASSES``:
        delayed generalisation, overfitting, plain learning, memorised without generalising, not fitted, collapsed,
        diverged, undecided, too short to tell. ``sentence`` states it with its numbers, ``evidence`` adds those of each
        curve. The numbers themselves: ``train_final``, ``test_final``, ``test_best`` (1 for accuracies, else units of
        the loss), ``test_best_step`` (on the axis), ``fit_step`` and ``arrival_step`` (where the train curve has come
        95 % of the way, and the test curve 90 % of its own; ``fit_end`` has a higher threshold), ``delay`` between
        these two (dex), ``hump_size`` (units of the test loss), ``hump_share`` (of its range, 1), ``n_observations``
        (of the longest curve).
    phases_ : xarray.DataArray
        int8 (run, step): 0 before fit_end, 1 until end, 2 after, -1 if fit_end is undefined or undecided.
    alignment_ : xarray.Dataset
        Distances of all pairs of markers, see :func:`probe.phases.align`.
    across_ : xarray.Dataset or None
        With several runs, by marker: ``median`` with ``lower`` and ``upper`` (90 %), ``status`` and ``reason``, with
        censored runs as bounds (:func:`probe.stats.median_step`). If the median depends on a censored run, it is NaN,
        and ``low`` and ``high`` are its bounds. ``median_found`` is the median of the ``n_found`` runs in which the
        marker was found. For markers that are peaks, the test over runs (:func:`probe.phases.second_phase_across`):
        ``test_status``, ``p_value``, ``test_first`` and ``test_last`` (window of the top of the mean curve), ``fall``
        with ``fall_lower`` and ``fall_upper`` (95 %, units of the curve), ``interpolated`` (share of the values),
        ``test_reason``. Equal runs are no independent evidence: the test is then undefined, and a run
        that equals another one in its curve and in all markers does not count in the medians.
    curves_ : xarray.Dataset
        The curves as they were read, over ``step``, whatever the name of the axis.
    notes_ : list of str
        Assumptions and changes of the values.
    n_runs_ : int
        Number of runs. A single run is only tested against its noise.
    n_features_in_ : int
        Number of columns, for a table.
    feature_names_in_ : array of str
        Names of the columns, for a DataFrame that is a table.

    See Also
    --------
    probe.phases.second_phase_across : The test over runs.
    probe.phases.co_movement : Test whether two markers move together over runs.
    probe.readers.read : Reads logs of other libraries.

    Notes
    -----
    A table (an array, or a DataFrame without the axis) has the form of scikit-learn: rows are runs, and columns are
    the steps of their train loss. Steps are the names of the columns if these are numbers, else 0, 1, ...

    Examples
    --------
    >>> import numpy as np
    >>> from probe import PhaseDetector
    >>> steps = np.arange(0, 3000, 100)
    >>> accuracy = np.minimum(1, steps / 1000)  # fitting ends at step 1,000
    >>> detector = PhaseDetector().fit({"step": steps, "train_accuracy": accuracy})
    >>> print(float(detector.markers_["step"].sel(run=0, marker="fit_end")))
    1000.0
    >>> detector.phase_at([500, 2000]).tolist()
    [0, 1]
    """

    def __init__(
        self,
        *,
        train_accuracy: Role = "train_accuracy",
        train_loss: Role = "train_loss",
        test_accuracy: Role = "test_accuracy",
        test_loss: Role = "test_loss",
        information: Role = "information_x",
        growth: Role = "chaos_growth",
        kernel_distances: Role = "tangent_kernel_distance",
        layer: Hashable | None = None,
        split: str = "train",
        axis: str = "step",
        fit_threshold: float = 0.99,
        end_threshold: float = 0.99,
        n_sustained: int = 3,
        chance: float | None = None,
        n_test: int | None = None,
        spike_width: int = 3,
        least_size: float = 0.03,
        smoothing: float = 0.0,
        delta: float = 0.25,
        n_jobs: int | None = None,
    ) -> None:
        self.train_accuracy = train_accuracy
        self.train_loss = train_loss
        self.test_accuracy = test_accuracy
        self.test_loss = test_loss
        self.information = information
        self.growth = growth
        self.kernel_distances = kernel_distances
        self.layer = layer
        self.split = split
        self.axis = axis
        self.fit_threshold = fit_threshold
        self.end_threshold = end_threshold
        self.n_sustained = n_sustained
        self.chance = chance
        self.n_test = n_test
        self.spike_width = spike_width
        self.least_size = least_size
        self.smoothing = smoothing
        self.delta = delta
        self.n_jobs = n_jobs

    def __sklearn_tags__(self) -> Tags:
        """Allow missing values."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def fit(self, X: Curves | ArrayLike | PathLike[str] | str, y: object = None) -> Self:
        """Find all markers of all runs.

        Parameters
        ----------
        X : path, xarray.Dataset, pandas.DataFrame, mapping, list or array
            A log or a folder of logs (:func:`probe.readers.read`); roles then have their names in the log. Or curves
            with the axis as dimension, column, index, key or field of a structured array. A Dataset may also have the
            dimension ``run``, and ``layer`` and ``split`` for the information. It may lie on disk (Dask): a few runs
            are loaded at a time. A DataFrame may have a column ``run``. In a mapping, arrays of shape (run, step) are
            several runs. A list of dicts has one dict for each step. A list, or a mapping by name, of DataFrames,
            Datasets or mappings of arrays has one element for each run, each with its own steps. For a table (an
            array: rows are runs), see Notes.
        y : ignored
            For compatibility with scikit-learn.

        Returns
        -------
        PhaseDetector
            The detector itself.

        Raises
        ------
        TypeError, ValueError
            For curves of another kind, fewer than 4 observations, unsorted or repeated steps, different lengths, a
            name that is not a variable, several variables for one role, no variable for any role, accuracies outside
            [0, 1] and [0, 100], or accuracies that fall as error rates do.

        Warns
        -----
        probe.errors.ProbeWarning
            If accuracies are read as percent, or a DataFrame without the axis as a table.
        """
        self.curves_ = self._read(X, reset=True)
        found = self._find(self.curves_)
        self.notes_, self.markers_, self.verdict_ = found.notes, found.markers, found.verdict
        self.n_runs_ = self.markers_.sizes["run"]
        steps = self.curves_["step"].values
        coords = {"run": self.markers_["run"], "step": self.curves_["step"]}
        self.phases_ = xr.DataArray(phases_between(steps, self.markers_), coords, ("run", "step"), "phase")
        first, last = self.markers_["first_step"].values, self.markers_["last_step"].values
        self.alignment_ = align(self.markers_, first_step=first, last_step=last, delta=self.delta)
        self.across_ = None
        if self.n_runs_ > 1:
            self.across_, notes = across_runs(steps, found.roles.found, self.markers_)
            self.notes_ += notes
        return self

    def predict(self, X: Curves | ArrayLike | PathLike[str] | str) -> np.ndarray:
        """Return the phase of each run at the last step: int8 (run,), see ``phases_``; curves as in :meth:`fit`."""
        check_is_fitted(self)
        curves = self._read(X, reset=False)
        return phases_between(curves["step"].values[-1:], self._find(curves).markers)[:, 0]

    def score(self, X: Curves | ArrayLike, y: Mapping[str, ArrayLike] | ArrayLike) -> float:
        """Return minus the median distance (dex) of the markers of ``X`` from true steps, at most 0.

        Parameters
        ----------
        X
            Curves as in :meth:`fit`.
        y : mapping of str to float or array of shape (run,), or array of shape (run,)
            True steps by marker, or of fit_end. NaN where there is no true step; such a marker does not count.

        Returns
        -------
        float
            The distance of a marker that was not found is the length of the record on the logarithmic axis.

        Raises
        ------
        ValueError
            For unknown markers, shapes that do not match, negative steps, or no true step at all.
        """
        check_is_fitted(self)
        curves = self._read(X, reset=False)
        first_step, last_step = curves["step"].values[[0, -1]].astype(float)
        return -median_distance(self._find(curves).markers, y, first_step, last_step)

    def phase_at(self, steps: ArrayLike, run: int = 0) -> np.ndarray:
        """Return the phase of one run (by position) at steps of any shape: 0, 1, 2; -1 if unknown or not recorded."""
        check_is_fitted(self)
        if not -self.n_runs_ <= run < self.n_runs_:
            raise IndexError(f"Expected the position of a run, 0 to {self.n_runs_ - 1}, got {run}; see markers_.")
        at, record = np.asarray(steps, dtype=float), self.phases_["step"].values
        inside = (at >= record[0]) & (at <= record[-1])  # false for NaN
        phases = phases_between(at.ravel(), self.markers_.isel(run=[run]))[0].reshape(at.shape)
        return np.where(inside, phases, np.int8(-1))

    def summary(self) -> str:
        """Return what happened, a sentence for each marker, a table of all markers, distances, tests and notes."""
        check_is_fitted(self)
        results = self.verdict_, self.markers_, self.alignment_, self.across_
        return describe(*results, self.notes_, _axis_of(self.curves_))

    def plot(self, *, panels: Sequence[str | Sequence[str]] | str | None = None) -> Any:
        """Draw verdict, curves and phases on one page (:func:`probe.plots.overview`) and return the figure.

        Parameters
        ----------
        panels : sequence of str or of sequences of str, optional
            One entry per panel: a variable of ``curves_``, a role, or several of them for one pair of axes. By default
            the accuracies, the losses and the usual measures.

        Raises
        ------
        ValueError
            For an unknown variable; near names are listed.
        """
        check_is_fitted(self)
        from probe.plots import overview  # imports matplotlib

        return overview(self.curves_, self, panels=panels)

    def _read(self, X: Any, *, reset: bool) -> xr.Dataset:
        if isinstance(X, (str, PathLike)):
            X = from_path(X, self.axis, {role: getattr(self, role) for role in ROLES})
        if isinstance(X, xr.Dataset) or not is_table(X, self.axis):
            return as_dataset(X, self.axis)
        values = validate_data(self, X, reset=reset, dtype="numeric", ensure_all_finite="allow-nan")
        if not isinstance(self.train_loss, str):
            raise ValueError(
                f"Expected a name as train_loss for a table, got {type(self.train_loss).__name__}; pass a Dataset or a "
                "mapping as curves."
            )
        return from_table(values.astype(float), table_steps(X, values.shape[1]), self.train_loss)

    def _find(self, curves: xr.Dataset) -> "_Found":
        """Find the markers of all runs, block by block."""
        roles = Roles(curves, {role: getattr(self, role) for role in _ROLES}, layer=self.layer, split=self.split)
        notes = [*curves.attrs.get("reading", "").splitlines(), *roles.notes, *self._notes(roles)]
        n_runs, steps, settings = curves.sizes.get("run", 1), curves["step"].values.astype(float), self._settings(roles)
        runs = np.atleast_1d(curves["run"].values) if "run" in curves.coords else np.arange(n_runs)
        axis, chances = _axis_of(curves), self._chances(roles, runs.tolist())
        blocks = (slice(i, min(i + _BLOCK, n_runs)) for i in range(0, n_runs, _BLOCK))
        work = (
            delayed(markers_of_runs)(
                steps,
                roles.of_runs(block),
                block.stop - block.start,
                settings,
                chances=chances[block],
                alone=n_runs == 1,
                axis=axis,
            )
            for block in blocks
        )
        found = [run for block in Parallel(n_jobs=self.n_jobs)(work) for run in block]
        verdict = verdict_dataset([run.verdict for run in found], runs)
        markers = markers_dataset(found, runs, axis).assign_coords(curve=("marker", self._curves_of(roles)))
        return _Found(markers, verdict, roles, list(dict.fromkeys(notes)))

    def _curves_of(self, roles: Roles) -> list[str]:
        """Return the name of the variable of each marker; empty without a curve, and for a role that is a function."""
        names = []
        for role in (kind.role_among(roles.found) for kind in table.MARKERS):
            curve = roles.found[role]
            names.append("" if isinstance(curve, str) or callable(getattr(self, role)) else str(curve.name))
        return names

    def _settings(self, roles: Roles) -> Settings:
        for name in ("fit_threshold", "end_threshold"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"Expected {name} as a share above 0 and up to 1, got {getattr(self, name)}; divide percent by 100."
                )
        if self.spike_width < 0:
            raise ValueError(f"Expected spike_width >= 0, got {self.spike_width}; 0 excludes no spikes.")
        return Settings(
            self.fit_threshold, self.end_threshold, self.n_sustained, self.spike_width, self.least_size,
            self.smoothing, self._chance(_test_attributes(roles)),
        )  # fmt: skip

    def _notes(self, roles: Roles) -> Iterator[str]:
        for kind in table.MARKERS:
            if (role := kind.role_among(roles.found)) != kind.role:
                yield f"{kind.name}: found on {role}, because there is no {kind.role}"
        test = roles.found["test_accuracy"]
        if not isinstance(test, str) and self._chance(test.attrs).share is None and "chance_by_run" not in test.attrs:
            yield "chance: the level at which test_accuracy starts; pass chance= (--chance) if it is known"

    def _chances(self, roles: Roles, runs: list[Any]) -> list[Chance]:
        """Return the chance of each run; none if it is the same for all."""
        attrs = _test_attributes(roles)
        return [self._chance(attributes_of_run(attrs, run)) for run in runs] if differ_between_runs(attrs) else []

    def _chance(self, attrs: Mapping[Any, Any]) -> Chance:
        chance = attrs.get("chance") if self.chance is None else self.chance
        n = attrs.get("n", attrs.get("n_test", np.inf)) if self.n_test is None else self.n_test
        if chance is not None and not 0 <= chance <= 1:
            raise ValueError(f"Expected chance as a share between 0 and 1, got {chance}; divide percent by 100.")
        if not n >= 1:
            raise ValueError(f"Expected n_test as a number of examples, at least 1, got {n}; pass None to estimate it.")
        return Chance(chance, n)


def _test_attributes(roles: Roles) -> Mapping[Any, Any]:
    """Return the attributes of the test accuracy; none without one."""
    test = roles.found["test_accuracy"]
    return {} if isinstance(test, str) else test.attrs


def _axis_of(curves: xr.Dataset) -> str:
    """Return the name of the axis."""
    return str(curves["step"].attrs["axis"])


class _Found(NamedTuple):
    markers: xr.Dataset
    verdict: xr.Dataset
    roles: Roles
    notes: list[str]
