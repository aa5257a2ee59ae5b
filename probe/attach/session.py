"""One attachment, from attach to detach: when to observe, what to record, and how to end."""

import math
import sys
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import xarray as xr
from torch import nn

from probe.attach.budget import Budget, Unlimited, check_budget, now
from probe.attach.checks import check_settings
from probe.attach.columns import describe_parameter, describe_probe
from probe.attach.contract import SessionProbe
from probe.attach.distributed import SeveralRanks, ranks_of
from probe.attach.observation import declare_observations, observe
from probe.attach.prepare import prepare
from probe.attach.recording import Recording
from probe.attach.step_hook import StepHook, hooked_optimizers
from probe.attach.uncounted import UncountedUpdates, WrittenAfterSteps
from probe.errors import DuplicateNameError, ModelChangedError, RanksApartError, warn_user
from probe.forward.data import Batch
from probe.forward.outputs import Select
from probe.forward.training import TrainingContext
from probe.recording.records import Records
from probe.schedule import Schedule, following, log_spaced
from probe.writers.outputs import Outputs

NEVER = -1  # no step is due any more


class Session:
    """The state of one attachment. See :meth:`probe.base.Observer.attach` for the parameters."""

    def __init__(
        self,
        probes: Mapping[str, SessionProbe],
        model: nn.Module,
        data: Any,
        *,
        schedule: Schedule | None,
        optimizer: torch.optim.Optimizer | None,
        path: Any,
        mode: str | None,
        step: int | None,
        batch_size: int,
        on_error: str,
        training: TrainingContext | None = None,
        output: Select = None,
        targets_shift: int | None = None,
        budget: float | None = None,
        total_steps: int | None = None,
        outputs: Outputs,
        ranks: str = "all",
        timeout: float = 300.0,
    ) -> None:
        self.counted = optimizer is not None
        self._ranks = ranks_of(ranks, timeout, model)
        start = now()
        self.step = 0 if step is None else int(step)
        self.on_error = on_error
        self._schedule = schedule or (log_spaced() if self.counted else None)
        self._next: float = self.step  # first step that can be due
        self._observes_last = self.counted and schedule is None
        self._hook: StepHook | None = None
        self._ended = False  # by an observation that has changed the model, or because the ranks are apart
        self._apart = False
        self._last: int | None = None  # step of the last observation
        self._updated: tuple[int, int] | None = None  # mark of the weights after the last update
        self.rows: dict[str, int] = {}  # of the forward passes of the last observation, by probe
        self.keeps_values = False  # whether some probe has kept a value
        self._requested: set[str] = set()
        self._measured: set[str] = set()
        settings = {
            "probes": {name: describe_probe(probe) for name, probe in probes.items()},
            "schedule": describe_parameter(self._schedule),
            "output": describe_parameter(output),
            **{name: describe_parameter(value) for name, value in (("budget", budget), ("path", path))},
            "total_steps": total_steps,
            "targets_shift": targets_shift,
            "step": self.step,
            "batch_size": batch_size,
            "on_error": on_error,
            "optimizer": self.counted,
        }
        with self._ranks.together("the checks of attach"):
            check_settings(on_error, mode, schedule, counted=self.counted, step=step)
            check_budget(budget, total_steps)
            self._prepared = prepare(
                probes,
                model,
                data,
                optimizer=optimizer,
                training=training,
                step=self.step,
                batch_size=batch_size,
                output=output,
                targets_shift=targets_shift,
                division=self._ranks if isinstance(self._ranks, SeveralRanks) else None,
                compare=partial(self._compare_ranks, settings),
            )
            header = self._prepared.header(recorded=path is not None)
        last = self.step if self.counted else None
        self._recording = Recording(path, header, mode=mode, step=last, outputs=outputs, ranks=self._ranks)
        try:
            with self._ranks.together("the first observation"):
                self._start(budget, total_steps, now() - start)
            if optimizer is not None:
                self._uncounted = UncountedUpdates(self._prepared.model, self.step)
                optimizers = hooked_optimizers(optimizer)
                self._written = WrittenAfterSteps(optimizers)
                self._hook = StepHook(weakref.ref(self), optimizers)
        except BaseException:
            self.abandon()
            raise

    def _compare_ranks(self, settings: Mapping[str, Any], model: nn.Module, data: Mapping[str, Batch]) -> None:
        """Raise ValueError on all ranks if their arguments differ, before they make forward passes together."""
        if self._ranks.size == 1:
            return
        facts = {
            "model": {name: tuple(one.shape) for name, one in model.named_parameters()},
            "data": {split: [len(batch), batch.digest()] for split, batch in data.items()},
        }
        self._ranks.compare({**settings, **facts})

    def _start(self, budget: float | None, total_steps: int | None, attaching: float) -> None:
        """Declare the columns, and observe the first step if an optimizer counts the steps."""
        declare_observations(self._prepared.probes, self._recording.columns)
        self._budget = self._open_budget(budget if self._ranks.rank == 0 else None, total_steps, attaching)
        self._recording.open_outputs(self.step if self.counted else 0)
        if self.counted:
            self._observe_if_due(self.step)

    def abandon(self) -> None:
        """Undo an attachment that failed: remove the hook, and the files that it has made."""
        if self._hook is not None:
            self._hook.remove()
        self._recording.abandon()
        self._ranks.close()

    def _open_budget(self, share: float | None, total_steps: int | None, attaching: float) -> Budget | Unlimited:
        if share is None:
            return Unlimited()
        device = self._prepared.device
        settle = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
        budget = Budget(share, total_steps, schedule=self._schedule, step=self.step, settle=settle, attaching=attaching)
        budget.resume(self.records, self.step, counted=self.counted)
        self._recording.declare(budget.variables(), "the budget")
        return budget

    # -- observing ---------------------------------------------------------------------------------------------

    def due(self, step: int) -> bool:
        """Return whether the schedule includes this step."""
        return self._schedule is None or bool(self._schedule(step))

    def passes(self, step: int) -> bool:
        """Count an update after which nothing is due. Return False, and do nothing, if something is."""
        if step >= self._next:
            return False
        self._count(step)
        return True

    def stepped(self, step: int) -> None:
        """Count an update of the optimizer, and observe if it is due."""
        self._count(step)
        if not self._ended and self._observe_if_due(step):
            self._written.observed(step)

    def _count(self, step: int) -> None:
        """Set the number of updates. This is called at each of them, so it is quick."""
        self.step = step
        self._uncounted.updated()
        if self._observes_last:
            self._updated = self._prepared.weights()

    @property
    def compares(self) -> bool:
        """Whether weights were observed since the last step."""
        return self._written.waits

    def stepping(self) -> None:
        """Look for writes to the weights since the last step."""
        self._written.stepping()

    def _count_missed(self) -> None:
        """Count updates that were made, and not noted because of an interrupt."""
        if self._hook is not None and (step := self._hook.step) > self.step:
            self._count(step)

    def observe(self, step: int | None, scalars: Mapping[str, Any]) -> None:
        """See :meth:`probe.base.Observer.observe`."""
        if self._apart:
            return
        if self._ended:
            raise ModelChangedError(
                f"Expected no observation after that of step {self._last}, which has changed the model, got observe(); "
                "call detach(), load the last checkpoint, and attach again"
            )
        if self.counted:
            if step is not None:
                raise ValueError(
                    f"Expected observe() without a step, since the optimizer's hook counts the steps (now {self.step}),"
                    f" got step={step}; call observe(name=value) to add scalars, or attach without optimizer="
                )
            self._count_missed()
            self._uncounted.check(self._prepared.model, self.step)
            if self._last == self.step and scalars:
                self._recording.add(self.step, scalars)
            return
        if step is None:
            raise ValueError("Expected observe(step), since attach got no optimizer, got no step; give the step")
        step = int(step)
        if step < (lowest := self._last or 0):
            raise ValueError(
                f"Expected observe(step) with a step of at least {lowest}, got {step}; steps do not decrease within "
                "one attachment, so attach again to observe another training"
            )
        self.step = step
        self._observe_if_due(step, scalars)

    def _observe_if_due(self, step: int, scalars: Mapping[str, Any] | None = None) -> bool:
        """Observe if the step is due and the budget does not drop it. Return whether it was observed.

        The first rank decides this, and which step is the next one that can be due.
        """
        with self._ending_if_apart():
            decided, later = self._ranks.decide(f"step {step}", partial(self._decide, step))[:2]
            self._next = math.inf if later == NEVER else later
            if decided:
                self._observe_timed(step, scalars)
            return bool(decided)
        return False

    def _decide(self, step: int) -> tuple[bool, int]:
        """Return whether this step is observed, and the next one that can be due."""
        later = following(self._schedule, step) if self.counted else math.inf
        return self.due(step) and self._budget.grants(step), NEVER if later == math.inf else int(later)

    def _observe_timed(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        try:
            with self._budget.observation(step), self._ranks.together(f"the observation of step {step}"):
                self._annotate_dropped()
                self.record(step, scalars)
        except (KeyboardInterrupt, SystemExit):
            self._leave_others()
            raise

    @contextmanager
    def _ending_if_apart(self) -> Iterator[None]:
        """End observing if the ranks are apart, and let the training continue unless errors are to be raised."""
        try:
            yield
        except RanksApartError as error:
            self._ended = self._apart = True
            attaches = self.counted and self._hook is None
            if self.on_error == "raise" or self._last is None or attaches:
                raise
            warn_user(f"{error}. Nothing is observed from here on, and the training continues")

    def _annotate_dropped(self) -> None:
        """Add to the last observation the number of due steps dropped since, which is known only now."""
        if annotation := self._budget.annotation():
            self._recording.journal.annotate(*annotation)

    def record(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        """Observe now. The first observation raises errors, since it shows whether probes, model and data fit."""
        values = {**self._recording.values(scalars or {}), **self._budget.values()}
        snapshot = self._prepared.snapshot(step)
        try:
            found = observe(self._prepared, snapshot, self._recording, self._raises, self._ranks)
        except ModelChangedError:
            self._ended, self._last = True, step
            raise
        except Exception:
            self._recording.discard_if_empty()
            raise
        self._requested |= snapshot.requested
        self._measured |= snapshot.measured
        self._last = step
        self.rows = found.rows
        self.keeps_values |= bool(found.kept)
        self._recording.record(step, values | found.values, found.kept)
        for error, probes in found.errors.items():
            warn_user(
                f"Expected numbers of each probe, got an error of {', '.join(probes)} at step {step}, which is flagged "
                f"there while training goes on; correct its cause, or give on_error='raise' to stop. {error}"
            )

    def _raises(self, error: Exception) -> bool:
        return self.on_error == "raise" or self._last is None or isinstance(error, DuplicateNameError)

    def agrees(self, answer: bool) -> bool:
        """Return the answer of the first rank."""
        return bool(self._ranks.decide("a question", lambda: (answer,))[0])

    def move_to(self, model: nn.Module) -> None:
        """Observe another model from now on. It has the modules and shapes of the attached one, which is released."""
        self._prepared = self._prepared.moved_to(model)

    @property
    def records(self) -> Records:
        """Return the observations so far."""
        return self._recording.records

    @property
    def last(self) -> int | None:
        """Return the step of the last observation."""
        return self._last

    @property
    def n_inputs(self) -> int:
        """Return the number of rows of the data, over all splits."""
        return sum(map(len, self._prepared.data.values()))

    def counts(self) -> dict[str, dict[str, int]]:
        """Return the numbers of rows, points and the like of each probe, as the attributes of its variables."""
        return self._recording.columns.counts()

    # -- ending ------------------------------------------------------------------------------------------------

    def dataset(self) -> xr.Dataset:
        """Return all observations so far."""
        return self._recording.dataset()

    def close(self) -> None:
        """Observe the last state on the default schedule, write the file, and warn of layers that never fired."""
        self._count_missed()
        if self._hook is not None:
            self._hook.remove()
        if sys.exc_info()[0] is not None:  # an error ends the training on this rank
            self._leave_others()
        try:
            self._observe_last_state()
            self._annotate_dropped()
        finally:
            self._recording.close()
            self._ranks.close()
        self._recording.close_outputs()
        if self._last is None and not self.counted and not len(self.records):
            warn_user(
                "Expected an observation before detach, got none; give attach the optimizer, or call observe(step) in "
                "the training loop"
            )
        if excess := self._budget.excess():
            warn_user(excess)
        if self.counted:
            self._uncounted.finish(self._prepared.model, self.step)
        if silent := sorted(self._requested - self._measured):
            warn_user(
                f"Expected all selected layers to fire for all inputs, got no or partial output of "
                f"{', '.join(silent)}, which hold no numbers; select other layers. A layer does not fire when its "
                "forward is called directly, when a fused kernel replaces it (nn.MultiheadAttention.out_proj), or when "
                "the forward pass does not reach it"
            )

    def _leave_others(self) -> None:
        """End observing if there are other ranks, since they do not reach the same point."""
        self._ended = self._apart = self._apart or self._ranks.size > 1

    def _observe_last_state(self) -> None:
        if not self._observes_last or self._ended or self._last in (None, self.step):
            return
        with self._ending_if_apart():
            whole = self._updated == self._prepared.weights()  # weights that were loaded since belong to no step
            if self._ranks.decide(f"the end at step {self.step}", lambda: (whole,))[0]:
                self._budget.grant_last(self.step)
                self._observe_timed(self.step)
