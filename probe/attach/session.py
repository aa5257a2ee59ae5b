"""One attachment: probes, a model, data, a schedule and a file, from attach to detach."""

import os
import time
import warnings
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import nn

from probe.attach.budget import Budget, check_budget
from probe.attach.checks import attach_warnings, check_model, check_optimizer
from probe.attach.columns import DuplicateNameError, SeriesColumns, describe_probe
from probe.attach.contract import SessionProbe
from probe.attach.side_effects import recording_side_effects, restoring
from probe.attach.step_hook import StepHook
from probe.forward import passes
from probe.forward.data import Batch, read_data, shape_of
from probe.forward.isolation import device_of, isolated, torch_defaults
from probe.forward.layers import unwrap
from probe.forward.snapshot import Snapshot
from probe.recording.journal import Journal
from probe.recording.provenance import provenance_json
from probe.schedule import Schedule, log_spaced
from probe.series import Variable


class Session:
    """The machine behind ``attach``; see :meth:`probe.base.Observer.attach` for the parameters."""

    def __init__(
        self,
        members: Mapping[str, SessionProbe],
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
        budget: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        if on_error not in ("warn", "raise"):
            raise ValueError(f"on_error must be 'warn' or 'raise', got {on_error!r}")
        if mode == "resume" and optimizer is not None and step is None:
            raise ValueError("mode='resume' with an optimizer needs step=, the number of updates made so far")
        if schedule is not None and not callable(schedule):
            raise TypeError(
                f"schedule must be a function step -> bool, got {schedule!r}; probe.every(100), probe.at([...])"
            )
        check_budget(budget, total_steps)
        self.members = dict(members)
        self.model = unwrap(model)
        check_model(self.model)
        if optimizer is not None:
            check_optimizer(optimizer, self.model)
        self.data = read_data(data)
        self.batch_size = batch_size
        self.on_error = on_error
        self.step = 0 if step is None else int(step)
        self.counted = optimizer is not None
        self._last: int | None = None
        self._default = schedule is None
        self._mark: tuple[int, int] | None = None
        self._schedule = schedule or (log_spaced() if self.counted else None)
        self._asked: set[str] = set()
        self._fired: set[str] = set()
        self._shared: list[passes.Tap] = []
        with torch_defaults(), recording_side_effects(self.model) as self._written:
            self.trace = self._traced()
            self._shared = [tap for probe in self.members.values() for tap in probe.taps(self._snapshot())]
            self._try_out()
        shapes = [self.trace.shapes.get(tap.site, ()) for tap in self._shared if tap.reduce in (None, "last")]
        for text in attach_warnings(self.model, self._written, self.data, shapes):
            warnings.warn(text, RuntimeWarning, stacklevel=4)
        self.journal = Journal(
            path, self._header(recorded=path is not None), mode=mode, step=self.step if self.counted else None
        )
        self._columns = SeriesColumns(self.journal)
        # also where nobody calls detach: at the end of the process
        self._finalizer = weakref.finalize(self, _close, self.journal, os.getpid())
        self._begin()
        self._budget = None if budget is None else self._opened(budget, total_steps)
        if optimizer is not None:
            try:
                if self.due(self.step):
                    self._take(self.step)
            except BaseException:
                self._finalizer()  # a recording that was to go on is let go of
                raise
            self._count(optimizer)

    # -- attaching ---------------------------------------------------------------------------------------------

    def _traced(self) -> passes.Trace:
        trace = passes.Trace()
        for split, batch in self.data.items():
            inputs, _ = batch.take(torch.arange(passes.TRACE_ROWS), device_of(self.model))
            try:
                trace.join(passes.trace(self.model, inputs))
            except Exception as error:
                raise ValueError(
                    f"the model rejected the first two inputs of split {split!r} ({shape_of(inputs)}): "
                    f"{type(error).__name__}: {error}. data must be (inputs, targets) or "
                    "{split: (inputs, targets)} with inputs as the model takes them: x for model(x), a tuple for "
                    "model(*x), a mapping for model(**x)"
                ) from error
        return trace

    def _try_out(self) -> None:
        """The shared pass over two rows of each split: what cannot work is an error now, not a flag at each step."""
        for split, batch in self.data.items():
            few = {split: Batch(*batch.take(torch.arange(passes.TRACE_ROWS), device_of(self.model)))}
            try:
                Snapshot(self.model, self.step, few, self.trace, shared=self._shared).share()
            except Exception as error:
                raise ValueError(
                    f"two inputs of split {split!r} ({shape_of(few[split].inputs)}) cannot be measured: "
                    f"{type(error).__name__}: {error}"
                ) from error

    def _weights(self) -> tuple[int, int]:
        """Changes whenever weights are written or exchanged."""
        first = next(self.model.parameters())
        return first._version, first.data_ptr()

    def _header(self, *, recorded: bool) -> dict[str, Any]:
        """Of the journal; the data is fingerprinted for a file only, since only a file is resumed."""
        estimators = {name: describe_probe(probe) for name, probe in self.members.items()}
        device = device_of(self.model).type
        return {
            "configuration": {
                "probes": estimators,
                "data": {split: [len(batch), batch.digest()] for split, batch in self.data.items() if recorded},
                "layers": self.trace.order,
            },
            "order": {"layer": self.trace.order, "split": list(self.data)},
            "provenance": provenance_json(list(estimators.values()), device=device, model=type(self.model).__name__),
        }

    def _begin(self) -> None:
        probes = {"probe": ["shared pass", *self.members]}
        self._columns.declare(Variable("seconds", ("probe",), probes, "s", "time of one observation"))
        self._columns.declare(Variable("failed", ("probe",), probes, flag=True, long_name="the probe raised an error"))

    def _opened(self, share: float, total_steps: int | None) -> Budget:
        device = device_of(self.model)
        settle = partial(torch.cuda.synchronize, device) if device.type == "cuda" else lambda: None
        budget = Budget(share, total_steps, schedule=self._schedule, step=self.step, settle=settle)
        budget.resume(self.journal.records, self.step, counted=self.counted)
        for variable in budget.variables():
            self._columns.declare(variable)
            self._columns.claim(variable.name, "the budget")
        return budget

    def _count(self, optimizer: torch.optim.Optimizer) -> None:
        hook = StepHook(weakref.ref(self))
        hook.handle = optimizer.register_step_post_hook(hook)
        self._hook = hook

    def _snapshot(self, step: int = 0) -> Snapshot:
        return Snapshot(self.model, step, self.data, self.trace, shared=self._shared, batch_size=self.batch_size)

    # -- observing ---------------------------------------------------------------------------------------------

    def due(self, step: int) -> bool:
        """Whether the schedule asks for this step."""
        return self._schedule is None or bool(self._schedule(step))

    def stepped(self) -> None:
        """The optimiser has made an update."""
        self.step += 1
        if self._default:
            self._mark = self._weights()
        if self.due(self.step):
            self._take(self.step)

    def observe(self, step: int | None, scalars: Mapping[str, Any]) -> None:
        """See :meth:`probe.base.Observer.observe`."""
        if self.counted:
            if step is not None:
                raise ValueError(
                    f"observe(step={step}): steps are counted by the optimiser's hook (now {self.step}); call "
                    "observe(name=value) to add scalars, or attach without optimizer= to give the steps yourself"
                )
            if self._last == self.step and scalars:
                self.journal.annotate(self.step, self._columns.scalars(scalars))
            return
        if step is None:
            raise ValueError("observe needs the step, since no optimizer was given to attach: observe(step)")
        step = int(step)
        if step < 0 or (self._last is not None and step < self._last):
            raise ValueError(f"observe(step={step}) goes backwards: the last observation was step {self._last}")
        self.step = step
        if self.due(step):
            self._take(step, scalars)

    def _take(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        """Observe a step that is due, unless the budget leaves it out."""
        if self._budget is None or self._budget.grants(step):
            self._booked(step, scalars)

    def _booked(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        with nullcontext() if self._budget is None else self._budget.observation(step):
            self._tell_dropped()
            self.record(step, scalars)

    def _tell_dropped(self) -> None:
        """Note with the last observation how many due steps were left out since; it is known only now."""
        if self._budget is not None and self._budget.observed is not None:
            self.journal.annotate(self._budget.observed, {"dropped": np.array(float(self._budget.dropped))})

    def record(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        """Observe now. The first observation raises what goes wrong: it shows whether probes, model and data fit."""
        values = self._columns.scalars(scalars or {})
        if self._budget is not None:
            values.update(self._budget.values())
        snapshot = self._snapshot(step)
        names = ["shared pass", *self.members]
        failed, seconds = np.zeros(len(names), np.int8), np.full(len(names), np.nan)
        told: dict[str, list[str]] = {}
        with isolated(self.model), torch_defaults():  # once for all: random states take longer than a pass
            for i, name in enumerate(names):
                start = time.perf_counter()
                try:
                    with restoring(self._written) if self._written else nullcontext():
                        values.update(self._measured(name, snapshot))
                except Exception as error:
                    if self.on_error == "raise" or self._last is None or isinstance(error, DuplicateNameError):
                        self._withdraw()
                        raise
                    failed[i] = 1
                    told.setdefault(f"{type(error).__name__}: {error}", []).append(name)
                seconds[i] = time.perf_counter() - start
        self._asked |= snapshot.asked
        self._fired |= snapshot.fired
        self._last = step
        self.journal.record(step, {**values, "failed": failed, "seconds": seconds})
        for error_text, who in told.items():
            warnings.warn(
                f"{', '.join(who)} failed at step {step} and is flagged there; training goes on. {error_text}",
                RuntimeWarning,
                stacklevel=2,
            )

    def _withdraw(self) -> None:
        """If nothing was recorded yet, leave no files that would stand in the way of the next try."""
        if not len(self.journal.records):
            self._finalizer.detach()
            self.journal.discard()

    def _measured(self, name: str, snapshot: Snapshot) -> dict[str, np.ndarray]:
        if name == "shared pass":
            snapshot.share()
            return {}
        probe = self.members[name]
        prefix = "" if name == type(probe).__name__ else f"{name}_"
        with isolated(self.model):  # training flags that a probe sets are no business of the next
            snapshot.history = lambda key: self.journal.records.column(f"{prefix}{key}")
            measured = probe.measure(snapshot)
        found = {f"{prefix}{key}": value for key, value in measured.items()}
        arrays = {key: value.array(key) for key, value in found.items()}
        for key, value in found.items():
            self._columns.claim(key, name, probe)
            if not self._columns.has(key, value.dims, value.coords):
                self._columns.declare(value.variable(key, type(probe).__name__, prefix))
        return arrays

    # -- ending ------------------------------------------------------------------------------------------------

    def dataset(self) -> xr.Dataset:
        """All observations so far."""
        return self.journal.dataset()

    def close(self) -> None:
        """Observe the last state if the schedule is the default one, write the file, name layers that never fired."""
        if self.counted:
            self._hook.handle.remove()
            # not if other weights were loaded since the last update: they are those of no step
            if self._default and self._last not in (None, self.step) and self._mark == self._weights():
                if self._budget is not None:
                    self._budget.grant_last(self.step)
                self._booked(self.step)
        self._tell_dropped()
        if self._last is None and not self.counted and not len(self.journal.records):
            warnings.warn(
                "nothing was observed: give attach the optimizer, or call observe(step) in the training loop",
                RuntimeWarning,
                stacklevel=4,
            )
        if self._finalizer.detach():
            try:
                self.journal.close()
            except OSError as error:
                warnings.warn(
                    f"{self.journal.path} could not be written ({error}); the series is in memory: "
                    "probe.save(probes.series_, 'other.nc') writes it elsewhere",
                    RuntimeWarning,
                    stacklevel=4,
                )
        silent = sorted(self._asked - self._fired)
        if silent:
            warnings.warn(
                f"these layers never fired for all inputs, and hold no numbers: {', '.join(silent)}. A layer does not "
                "fire when its forward is called directly, when a fused kernel replaces it "
                "(nn.MultiheadAttention.out_proj), or when the forward pass does not reach it",
                RuntimeWarning,
                stacklevel=4,
            )


def _close(journal: Journal, process: int) -> None:
    if os.getpid() == process:  # a forked worker that ends must not write its parent's files
        journal.close()
