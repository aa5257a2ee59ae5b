"""The contract of a probe: parameters, one abstract method, and the verbs that it shares with a set of probes.

A new measure is a subclass of :class:`Probe` in a file of its own under ``probe/measures``; see
``docs/adding_a_measure.md``.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
import xarray as xr
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import NotFittedError
from torch import nn

from probe.attach.contract import Measured
from probe.attach.session import Session
from probe.forward.passes import Tap
from probe.forward.snapshot import Snapshot
from probe.schedule import Schedule, count, log_spaced

__all__ = ["Estimate", "Measured", "Observer", "Probe", "Snapshot"]


@dataclass(frozen=True)
class Estimate:
    """What observing will cost, from one observation that was timed.

    ``seconds`` by probe for one observation; ``observations`` on the schedule up to the given steps.
    """

    seconds: dict[str, float]
    observations: int | None = None

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        lines = [f"{value:9.3f} s  {name}" for name, value in self.seconds.items()]
        lines.append(f"{total:9.3f} s  one observation")
        if self.observations is not None:
            lines.append(f"{total * self.observations:9.1f} s  {self.observations} observations")
        return "\n".join(lines)


class Observer(BaseEstimator, ABC):
    """What a probe and a set of probes have in common: attach, observe, detach, and a series."""

    @abstractmethod
    def _members(self) -> dict[str, "Probe"]:
        """The probes, by the name that marks their variables (the class name marks none)."""

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
    ) -> Self:
        """Start to observe a model; it is left exactly as it is.

        Parameters
        ----------
        model
            Any module; wrappers of ``torch.compile`` and data parallelism are looked through.
        data
            ``(inputs, targets)``, targets may be None, or ``{split: (inputs, targets)}``: the fixed data that
            every observation looks at. Inputs: a tensor for ``model(x)``, a tuple for ``model(*x)``, a mapping for
            ``model(**x)``.
        schedule
            ``step -> bool``, see :mod:`probe.schedule`. Default: 12 steps per factor of ten and the last one, at
            :meth:`detach`, with an optimizer; every call of :meth:`observe` without.
        optimizer
            If given, its updates are counted by a hook and no line is needed in the training loop.
        path
            NetCDF file to record to, line by line as the training goes (see :mod:`probe.recording.journal`).
        mode
            ``"resume"`` or ``"overwrite"`` for a path that exists.
        step
            Updates made before attaching (0 if left out).
        batch_size
            Rows per forward pass.
        on_error
            ``"warn"``: after the first observation a failing probe flags its observation, and training goes on.
            ``"raise"``: it stops.
        """
        self.detach()
        members = self._members()
        self._session: Session | None = Session(
            members,
            model,
            data,
            schedule=schedule,
            optimizer=optimizer,
            path=path,
            mode=mode,
            step=step,
            batch_size=batch_size,
            on_error=on_error,
            **self._limits(),
        )
        return self

    def _limits(self) -> Mapping[str, Any]:
        """Of the time that may be spent: ``budget`` and ``total_steps``, if there are any."""
        return {}

    def observe(self, step: int | None = None, **scalars: Any) -> Self:
        """Observe the model now (without an optimizer), or add scalars to what has been observed at this step.

        Scalars are numbers, tensors with one element, or callables that are evaluated on schedule only.
        """
        self._attached("observe").observe(step, scalars)
        return self

    def due(self, step: int) -> bool:
        """Whether the schedule asks for this step; under a budget it may be left out all the same."""
        return self._attached("due").due(step)

    def detach(self) -> Self:
        """Stop observing: remove the hook, write the file. The series stays. Does nothing if not attached."""
        session = self.__dict__.get("_session")
        if session is not None:
            self._session = None
            try:
                session.close()
            finally:
                self._series = session.dataset()
        return self

    def fit(self, model: nn.Module, data: Any) -> Self:
        """Observe one model once, as step 0."""
        self.attach(model, data, on_error="raise")
        try:
            self.observe(0)
        except BaseException:
            self._session = None
            raise
        return self.detach()

    def estimate(
        self, model: nn.Module, data: Any, *, schedule: Schedule | None = None, steps: int | None = None
    ) -> Estimate:
        """The cost of observing, from a second observation that is timed now (the first warms up)."""
        one = clone(self).attach(model, data, on_error="raise").observe(0).observe(1).detach()
        last = one.series_["seconds"].isel(step=-1)
        asked = None if steps is None else count(schedule or log_spaced(), 0, steps + 1)
        return Estimate({str(name): float(last.sel(probe=name)) for name in last["probe"].values}, asked)

    @property
    def series_(self) -> xr.Dataset:
        """The observations so far: dimensions ``step``, ``layer``, ``split``, ... (see :mod:`probe.series`)."""
        session = self.__dict__.get("_session")
        if session is not None:
            return session.dataset()
        if "_series" not in self.__dict__:
            raise NotFittedError(
                f"{type(self).__name__} has no series yet: call attach(model, data) or fit(model, data)"
            )
        return self._series

    def _attached(self, verb: str) -> Session:
        session = self.__dict__.get("_session")
        if session is None:
            raise NotFittedError(f"{verb} needs an attached {type(self).__name__}: call attach(model, data) first")
        return session

    def __sklearn_is_fitted__(self) -> bool:
        return self.__dict__.get("_session") is not None or "_series" in self.__dict__

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles carry the series, not the attachment."""
        state = dict(super().__getstate__())
        session = state.pop("_session", None)
        if session is not None:
            state["_series"] = session.dataset()
        return state


class Probe(Observer):
    """Looks at a model and says numbers. The constructor stores parameters and does nothing else.

    Attributes
    ----------
    series_ : xarray.Dataset
        What has been observed, with the dimension ``step`` and those that the measure declares.
    """

    @abstractmethod
    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Numbers for one step, by the name of the variable. Draws from no global random state."""

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """What to take from the forward pass that all probes share; nothing if the probe makes its own passes."""
        return ()

    def _members(self) -> dict[str, "Probe"]:
        return {type(self).__name__: self}
