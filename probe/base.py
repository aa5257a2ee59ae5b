"""The base class of probes: parameters, one abstract method, and the methods that a set of probes has too.

A new measure is a subclass of :class:`Probe` in a file of its own under ``probe/measures``; see
``docs/adding_a_measure.md``.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import torch
import xarray as xr
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from torch import nn

from probe.attach.contract import Measured
from probe.attach.memory import PeakMemory
from probe.attach.session import Session
from probe.forward.passes import Tap
from probe.forward.snapshot import Snapshot
from probe.forward.training import TrainingContext
from probe.interrupts import uninterrupted
from probe.schedule import Schedule, count, log_spaced
from probe.writers.outputs import Outputs
from probe.writers.progress import MOST, Progress

_QUICK = 10.0  # seconds: a shorter first observation is no estimate of the later ones, which compile nothing

__all__ = ["Estimate", "Measured", "Observer", "Probe", "Snapshot"]


@dataclass(frozen=True)
class Estimate:
    """The expected cost of observing, from an observation that was made. ``print`` shows it as a table.

    Attributes
    ----------
    seconds : dict
        Wall time in seconds of one observation, by probe.
    observations : int or None
        Number of observations on the schedule up to the given step.
    rows : dict
        Number of rows of the forward passes of one observation, by probe. Rows of passes through a part of the model
        count as others do.
    passes : float
        Sum of these rows over the number of rows of the data.
    counts : dict
        By probe, what follows from data and budget, as the attributes of its variables: ``n_rows``, ``n_points``,
        ``n_directions``, ``max_rows`` and others.
    memory : int or None
        Largest number of bytes of tensors at one time, beside model and data. None: not counted, since the model does
        not run in a mode that sees each operation.
    """

    seconds: dict[str, float]
    observations: int | None = None
    rows: dict[str, int] = field(default_factory=dict)
    passes: float = math.nan
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    memory: int | None = None

    def __str__(self) -> str:
        seconds, rows = sum(self.seconds.values()), sum(self.rows.values())
        lines = [self._line(value, self.rows.get(name, 0), name) for name, value in self.seconds.items()]
        memory = "" if self.memory is None else f", {self.memory / 2**20:,.1f} MiB above those of the model"
        lines.append(
            f"{seconds:9.3f} s {rows:8,} rows  one observation: {self.passes:.1f} passes over the data{memory}"
        )
        if self.observations is not None:
            lines.append(f"{seconds * self.observations:9.1f} s {'':13}  {self.observations} observations")
        return "\n".join(lines)

    def _line(self, seconds: float, rows: int, name: str) -> str:
        counts = ", ".join(f"{key}={count:,}" for key, count in self.counts.get(name, {}).items())
        return f"{seconds:9.3f} s {rows:8,} rows  {name}{f' ({counts})' if counts else ''}"


class Observer(BaseEstimator, ABC):
    """Base class of a probe and of a set of probes: attach, observe, detach, and a series."""

    _session: Session | None

    @abstractmethod
    def _members(self) -> dict[str, "Probe"]:
        """Return the probes by name. Variables get the name as a prefix, unless it is the name of the class."""

    def attach(
        self,
        model: nn.Module,
        data: Any,
        *,
        schedule: Schedule | None = None,
        optimizer: torch.optim.Optimizer | None = None,
        path: Any = None,
        mode: str | None = None,
        step: int | None = None,
        batch_size: int = 512,
        on_error: str = "warn",
        training: TrainingContext | None = None,
        output: str | int | Callable[[Any], Any] | None = None,
        targets_shift: int | None = None,
        write_to: Any = None,
        progress: Any = False,
        ranks: str = "all",
        timeout: float = 300.0,
    ) -> Self:
        """Start to observe a model. Observations leave the model, the optimizer and all random states unchanged.

        Parameters
        ----------
        model : Module
            The model. Wrappers of ``torch.compile`` and of data parallelism are unwrapped.
        data
            The fixed data of every observation: ``(inputs, targets)``, where targets may be None, or ``{split: (inputs,
            targets)}``. Inputs are a tensor for ``model(x)``, a tuple for ``model(*x)``, or a mapping for
            ``model(**x)``. Each tensor among them has n rows, unless :func:`probe.shared` marks it. The argument
            ``attention_mask`` (n, T), in a mapping or a tuple, shows which positions are padding.
        schedule
            Function ``step -> bool``, see :mod:`probe.schedule`. Default with an optimizer: 12 steps per factor of ten,
            and the last step at :meth:`detach`. Default without: every call of :meth:`observe`.
        optimizer
            The optimizer of the training. A hook on it counts the updates and observes, so the training loop needs no
            call. Step 0 is observed at once. If it is prepared by a library or wraps another optimizer, hooks are on
            the inner ones too, and a step within a step is part of it.
        path
            NetCDF file of the recording. Each observation is written when it ends, see
            :mod:`probe.recording.journal`. Default: memory only.
        mode
            ``"resume"`` or ``"overwrite"`` for a path that exists. The old recording stays until the first new
            observation is on the disk.
        step
            Number of updates made before attaching. Default: 0.
        batch_size
            Rows per forward pass.
        on_error
            ``"warn"``: after the first observation, an error of a probe is flagged in the series and the training
            continues. ``"raise"``: every error is raised.
        training
            Optimizer, update and batches of the training, for probes that train copies of the model, as
            :class:`probe.forward.TrainingContext`. Attaching updates one copy once, to test it.
        output
            What the output of the model is, the site :data:`~probe.OUTPUT`: a key, an index or the name of an attribute
            of what the model returns, or a function of it. Default: the returned tensor, or its ``logits``, or its
            first tensor that is no single number.
        targets_shift
            Number of positions between an output and its target: with 1, outputs (n, T, K) at position t are compared
            with targets (n, T) at t + 1, as in a causal language model whose targets are its input tokens. All probes
            receive the moved targets. Default: 1 with a warning if the model's own loss for its ``labels`` shows this,
            or if targets equal input tokens and the outputs do not depend on later tokens; else 0.
        write_to
            Dashboards that receive the numbers of each observation, beside the series: a ``SummaryWriter`` of
            TensorBoard, a run of W&B or trackio, the module ``mlflow``, a pair of an ``MlflowClient`` and a run, a
            logger of Lightning, an ``Accelerator``, a function of (``{name: number}``, step), or a list of these. If
            one raises, a warning is issued and the training continues; ``unwritten`` counts such writers. See
            ``docs/writers.md``.
        progress
            A line of the main numbers, and of the verdict of :class:`~probe.PhaseDetector` so far, at observations.
            True: in a notebook or a terminal it is replaced, in a log file there is a line at most every 5 s. Or a bar
            of tqdm, or a function of a line. Verdicts take at most 0.01 of the time, or a tenth of the budget.
        ranks
            In a training on several ranks (``torch.distributed``). ``"all"``: each rank attaches with the same
            arguments, they observe together, and rank 0 alone writes files. ``"this"``: this rank observes its own
            copy of the model by itself. See ``docs/ranks.md``.
        timeout
            Seconds that a rank waits for the others. It must exceed the time of one observation.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If model, data, optimizer, training context and probes do not fit.
        FileExistsError
            If ``path`` exists and ``mode`` is None.
        FileNotFoundError
            If ``mode="resume"`` and there is no recording.
        RanksApartError, RankError
            If another rank does not attach within the timeout, or its attaching fails.

        Warns
        -----
        probe.errors.ProbeWarning
            If a legal input can mislead: a model whose forward passes write to it, padding at a measured position,
            outputs that depend on the other inputs in a batch, outputs that are probabilities, floating-point targets 0
            and 1, targets that are moved, or labels among the inputs.

        See Also
        --------
        observe : Observe at a step, or add scalars.
        detach : Stop observing and write the file.
        fit : Observe one model once.

        Notes
        -----
        Attaching runs a few passes on two inputs in both modes, with a copy of the model on the CPU, and notes where
        they write to the model. Observations copy and restore these numbers. An observation that writes elsewhere, so
        that it cannot restore the model, raises :class:`probe.errors.ModelChangedError` and ends observing. A
        KeyboardInterrupt ends a measurement at once, and waits elsewhere until counts, files and the model are whole.
        """
        session = None
        try:
            with uninterrupted():
                self.detach()
                session = self._session = Session(
                    self._members(),
                    model,
                    data,
                    schedule=schedule,
                    optimizer=optimizer,
                    path=path,
                    mode=mode,
                    step=step,
                    batch_size=batch_size,
                    on_error=on_error,
                    training=training,
                    output=output,
                    targets_shift=targets_shift,
                    outputs=self._outputs(write_to, progress),
                    ranks=ranks,
                    timeout=timeout,
                    **self._limits(),
                )
                return self
        except BaseException:
            if session is not None:  # interrupted at the end
                self._session = None
                session.abandon()
            raise

    def _outputs(self, write_to: Any, progress: Any) -> Outputs:
        """Return where numbers go beside the series. Verdicts take a tenth of a budget at most."""
        if not progress:
            return Outputs(write_to)
        from probe.phases.so_far import sentence_so_far  # imports the detector

        budget = self._limits().get("budget")
        share = min(MOST, budget / 10) if isinstance(budget, float) else MOST
        return Outputs(write_to, Progress(progress, sentence_so_far, share))

    def _limits(self) -> Mapping[str, Any]:
        """Return the limits of time, ``budget`` and ``total_steps``."""
        return {}

    def observe(self, step: int | None = None, **scalars: Any) -> Self:
        """Observe the model at a step if it is due (without an optimizer), or add scalars to the observation of now.

        Parameters
        ----------
        step
            Number of updates made. Leave it out if ``attach`` got the optimizer.
        **scalars
            Numbers, tensors with one element, or callables that return one. Callables are called at due steps only.

        Returns
        -------
        self

        Raises
        ------
        NotFittedError
            If the probe is not attached.
        ValueError
            If the step is missing, decreases, or is given although an optimizer counts the steps; or if the name of a
            scalar is taken.
        """
        with uninterrupted():
            self._attached("observe").observe(step, scalars)
        return self

    def due(self, step: int) -> bool:
        """Return whether the schedule includes this step. A budget may drop a due step."""
        return self._attached("due").due(step)

    def detach(self) -> Self:
        """Stop observing: remove the hook and write the file. The series stays. Do nothing if not attached."""
        with uninterrupted():
            session = self.__dict__.get("_session")
            if session is not None:
                try:
                    session.close()
                finally:
                    self._series = session.dataset()
                    self._session = None
        return self

    def fit(
        self,
        model: nn.Module,
        data: Any,
        *,
        training: TrainingContext | None = None,
        output: str | int | Callable[[Any], Any] | None = None,
        targets_shift: int | None = None,
        ranks: str = "all",
    ) -> Self:
        """Observe one model once, as step 0.

        Parameters
        ----------
        model, data, training, output, targets_shift, ranks
            As in :meth:`attach`.

        Returns
        -------
        self
        """
        with uninterrupted():
            self.attach(
                model,
                data,
                on_error="raise",
                training=training,
                output=output,
                targets_shift=targets_shift,
                ranks=ranks,
            )
            try:
                self.observe(0)
            except BaseException:
                self._session = None
                raise
            return self.detach()

    def estimate(
        self,
        model: nn.Module,
        data: Any,
        *,
        schedule: Schedule | None = None,
        steps: int | None = None,
        training: TrainingContext | None = None,
        output: str | int | Callable[[Any], Any] | None = None,
        targets_shift: int | None = None,
        ranks: str = "all",
    ) -> Estimate:
        """Return the cost of observing, from one observation that is made on a copy of this probe.

        If it takes less than ten seconds, another one is timed, since the first one is slower. The model stays
        unchanged.

        Parameters
        ----------
        model, data, schedule, training, output, targets_shift, ranks
            As in :meth:`attach`.
        steps
            Number of updates of the training. With it, the observations on the schedule are counted.

        Returns
        -------
        Estimate
            Seconds, forward rows and counts by probe, memory, and the number of observations.

        Examples
        --------
        >>> import torch
        >>> from probe import LMNProbe
        >>> estimate = LMNProbe().estimate(torch.nn.Linear(4, 2), (torch.randn(8, 4), None), steps=100)
        >>> estimate.observations, estimate.counts
        (22, {'LMNProbe': {'n_rows': 8, 'n_points': 5, 'max_rows': 4096}})
        """

        def attached() -> Observer:
            return clone(self).attach(
                model,
                data,
                on_error="raise",
                training=training,
                output=output,
                targets_shift=targets_shift,
                ranks=ranks,
            )

        one: Observer = attached()
        memory: int | None = None
        start = time.perf_counter()
        try:
            with PeakMemory() as mode:
                one.observe(0)
            memory = mode.peak
        except Exception:  # an error of a probe is raised again
            one, start = attached(), time.perf_counter()
            one.observe(0)
        rows = dict(one._attached("estimate").rows)
        if one._attached("estimate").agrees(time.perf_counter() - start < _QUICK):
            one.observe(1)
        session = one._attached("estimate")
        seconds, counts, passes = one.series_["seconds"].isel(step=-1), session.counts(), sum(rows.values())
        one.detach()
        asked = None if steps is None else count(schedule or log_spaced(), 0, steps + 1)
        names = [str(name) for name in seconds["probe"].values]
        return Estimate(
            {name: float(seconds.sel(probe=name)) for name in names},
            asked,
            rows,
            passes / session.n_inputs,
            {name: counts[name] for name in names if counts.get(name)},
            memory,
        )

    @property
    def series_(self) -> xr.Dataset:
        """The observations so far, with the dimension ``step`` and those of the measures, see :mod:`probe.series`."""
        session = self.__dict__.get("_session")
        if session is not None:
            return session.dataset()
        if "_series" not in self.__dict__:
            raise NotFittedError(
                f"Expected an attached or fitted {type(self).__name__}, got one without a series; call "
                "attach(model, data) or fit(model, data) first"
            )
        return self._series

    def _attached(self, verb: str) -> Session:
        session = self.__dict__.get("_session")
        if session is None:
            raise NotFittedError(
                f"Expected an attached {type(self).__name__} for {verb}, got a detached one; call attach(model, data) "
                "first"
            )
        return session

    def __sklearn_is_fitted__(self) -> bool:
        return self.__dict__.get("_session") is not None or "_series" in self.__dict__

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of copies and pickles, which carry the series and not the attachment."""
        state = dict(super().__getstate__())
        session = state.pop("_session", None)
        if session is not None:
            state["_series"] = session.dataset()
        return state


class Probe(Observer):
    """Base class of a measure that observes a model.

    A subclass implements :meth:`measure`, and :meth:`taps` if it can use the forward pass that all probes share. Its
    constructor stores the parameters and does nothing else.

    Attributes
    ----------
    series_ : xarray.Dataset
        The observations so far, with the dimension ``step`` and those that the measure declares.
    requires : tuple of str
        What the probe needs, declared by the class. ``"targets"``: each split has targets. ``"training"``: ``attach``
        got a :class:`~probe.forward.TrainingContext`. If it is missing, ``attach`` raises a ValueError.

    See Also
    --------
    ProbeSet : Several probes with one shared forward pass.
    probe.testing.check_probe : Test that a probe keeps the contract.

    Examples
    --------
    >>> import torch
    >>> from probe import Measured, Probe
    >>> class WeightNorm(Probe):
    ...     def measure(self, snapshot):
    ...         squares = sum(float(p.square().sum()) for p in snapshot.model.parameters())
    ...         return {"weight_norm": Measured(squares**0.5, long_name="Euclidean norm of all weights")}
    >>> model = torch.nn.Linear(4, 1, bias=False)
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> WeightNorm().fit(model, (torch.eye(4), None)).series_["weight_norm"].values
    array([2.])
    """

    requires: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Return the values of one step.

        Parameters
        ----------
        snapshot
            The model in evaluation mode, the data, and forward passes. The model must stay unchanged. Random numbers
            come from :func:`probe.generator`.

        Returns
        -------
        {str: Measured}
            Values by the name of the variable, with the same names and labels at each step.
        """

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return what to take from the shared forward pass. Default: nothing, for a probe that makes its own passes."""
        return ()

    def _members(self) -> dict[str, "Probe"]:
        return {type(self).__name__: self}
