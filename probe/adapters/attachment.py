"""What all adapters share: probes from the start of a training to its end, and their numbers for loggers."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from probe.adapters.checks import check_arguments, check_training
from probe.attach.session import Session
from probe.attach.step_hook import hooked_optimizers
from probe.base import Observer
from probe.errors import warn_user
from probe.recording.checks import files_of
from probe.recording.paths import user_path
from probe.writers.displays import InBar
from probe.writers.numbers import is_written, numbers_of


class Attachment:
    """Probes that a trainer attaches and detaches.

    Parameters
    ----------
    probes, data
        As for :meth:`probe.ProbeSet.attach`.
    path, mode
        As for :meth:`probe.ProbeSet.attach`. A training that continues at a step above 0 resumes the recording.
    log : bool or sequence of str
        Numbers for the trainer's loggers. True: variables with one number at each step and split. Names of variables:
        these, with all labels. False: none.
    **options
        Further keyword arguments of :meth:`probe.ProbeSet.attach`. ``training`` can be a function (model, optimizer)
        that returns the context, since the trainer makes the optimizer.

    Attributes
    ----------
    step : int
        Number of updates that were made so far.
    """

    def __init__(
        self, probes: Observer, data: Any, *, path: Any, mode: str | None, log: bool | Sequence[str], **options: Any
    ) -> None:
        check_arguments(probes, log, options)
        self.probes, self.data, self.path, self.mode = probes, data, path, mode
        self.log, self.options = log, options
        self.bar: Callable[[], Callable[[str], Any] | None] | None = None  # finds the bar of the trainer
        self._step = 0
        self._session: Session | None = None
        self._logged: int | None = None  # step of the observation whose numbers were returned last

    @property
    def running(self) -> bool:
        """Whether the probes are attached, by this object."""
        return self._attached is not None

    @property
    def _attached(self) -> Session | None:
        """Return the session, unless the user has detached the probes."""
        return self._session if self.probes.__dict__.get("_session") is self._session else None

    @property
    def step(self) -> int:
        """Number of updates that were made so far."""
        return self._step if self._attached is None else self._attached.step

    @step.setter
    def step(self, step: int) -> None:
        self._step = int(step)

    def start(self, model: nn.Module, optimizer: Any, step: int, *, again: bool = False) -> None:
        """Attach the probes to a model whose training has made this number of updates.

        ``again``: the trainer itself starts a training again, whose recording is replaced.
        """
        again &= self.running
        if self.probes.__dict__.get("_session") is not None and not self.running:
            raise ValueError(
                "Expected probes that are not attached, got probes that another callback or attach() has attached; "
                "give each callback its own probes"
            )
        self.stop()  # an earlier training that an error has ended
        check_training(model, optimizer)
        mode = "overwrite" if again and step == 0 else self._mode(step)
        options = {**self.options, "optimizer": optimizer, "step": step, "path": self.path, "mode": mode}
        if options.get("progress") is True and self.bar is not None:
            options["progress"] = InBar(self.bar)
        if callable(training := self.options.get("training")):
            options["training"] = training(model, hooked_optimizers(optimizer)[-1])
        self.probes.attach(model, self.data, **options)
        self._session, self._logged = self.probes._attached("start"), None

    def _mode(self, step: int) -> str | None:
        """Return how to treat files at the path: a training that continues resumes its recording."""
        if step == 0:
            return self.mode
        if self.path is None:
            warn_user(
                f"Expected path= for a training that continues at step {step}, got None, so the series starts at this "
                "step; give path= to continue the earlier recording"
            )
            return None
        return "resume" if files_of(user_path(self.path)) else None

    def stop(self) -> dict[str, float]:
        """Detach the probes, if they are attached, and return numbers that were not logged."""
        if (session := self._attached) is None:
            return {}
        try:
            self.probes.detach()
        finally:
            self._session, self._step = None, session.step
        return self._numbers(session)

    def numbers(self) -> dict[str, float]:
        """Return the numbers of the last observation by name, once; empty if they were returned before."""
        return {} if (session := self._attached) is None else self._numbers(session)

    def _numbers(self, session: Session) -> dict[str, float]:
        if session.last is None or session.last == self._logged or self.log is False:
            return {}
        records = session.records
        if self.log is True:
            known = [(name, one) for name, one in records.variables.items() if is_written(one) and not one.flag]
            names = [name for name, one in known if set(one.dims) <= {"split"}]
        else:
            names = [name for name in self.log if name in records.variables]
            if self._logged is None and (unknown := set(self.log) - set(names)):
                warn_user(
                    f"Expected log= to name variables of the series, got {', '.join(sorted(unknown))}; give "
                    f"names among {', '.join(records.variables)}"
                )
        self._logged = session.last
        return numbers_of(records.variables, records.at(session.last), names)
