"""The hook on the optimizer that counts its updates."""

import sys
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import FrameType
from typing import Any, Protocol

import torch

from probe.errors import warn_user
from probe.interrupts import uninterrupted

_UNKNOWN = 1 << 30  # number of steps that have begun: the hook may be made within a step


class CountsUpdates(Protocol):
    """An object that is notified of updates."""

    step: int

    def passes(self, step: int) -> bool:
        """Count an update after which nothing is due. Return False, and do nothing, if something is."""

    def stepped(self, step: int) -> None:
        """Count an update of the optimizer, and observe if it is due."""

    @property
    def compares(self) -> bool:
        """Whether the start of the next update matters."""

    def stepping(self) -> None:
        """Note that an update starts."""


class StepHook:
    """Hook that counts the updates of an optimizer. It holds the session weakly, and does nothing after it.

    It does not remove itself, because PyTorch iterates over the hooks while they run. :func:`remove_ended_hooks` does.

    Parameters
    ----------
    session
        Weak reference to the object that is notified.
    optimizers
        Optimizers whose steps are updates, see :func:`hooked_optimizers`. A step within a step is part of it.
    """

    def __init__(
        self, session: Callable[[], CountsUpdates | None], optimizers: Sequence[torch.optim.Optimizer]
    ) -> None:
        self.session = session
        self._ended = False
        for optimizer in optimizers:
            remove_ended_hooks(optimizer)
        self._optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
        # A function of C that counts its calls: no interrupt falls between an update and this count. What it wraps is a
        # class, because torch.compile bypasses the count of a function, and warns.
        self._calls = lru_cache(maxsize=0)(slice)
        self._offset = 0 if (counting := session()) is None else counting.step  # less the calls that are no updates
        self._depth = _UNKNOWN  # steps that have begun, within each other
        hooks: tuple[Callable[..., Any], ...] = (self._calls, self)
        self._handles = [optimizer.register_step_post_hook(hook) for optimizer in optimizers for hook in hooks]
        self._handles += [optimizer.register_step_pre_hook(self.starts) for optimizer in optimizers]

    def remove(self) -> None:
        """Remove the hook from all optimizers."""
        for handle in self._handles:
            handle.remove()

    @property
    def step(self) -> int:
        """Number of updates, with those of which the session was not notified, since an interrupt came first."""
        return self._calls.cache_info().misses + self._offset

    def starts(self, *_: Any) -> None:
        """Notify the session of the start of an update."""
        if torch.compiler.is_compiling():
            return
        self._depth += 1
        if (session := self.session()) is not None and session.compares:
            with uninterrupted():
                self._notify_of_start(session)

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Notify the session of an update."""
        if torch.compiler.is_compiling():
            torch.compiler.disable(self._notify)(optimizer)  # otherwise the observation is compiled with the step
        elif not self._counts(optimizer):
            with uninterrupted():
                self._notify(optimizer)

    def _counts(self, optimizer: torch.optim.Optimizer) -> bool:
        """Count an update after which nothing is due, in microseconds. Return False if there is more to find out.

        An interrupt cannot make the count wrong, because the session assigns one number, which is that of :attr:`step`.
        """
        self._depth -= 1
        session = self.session()
        if self._depth or session is None or hasattr(optimizer, "found_inf") or capturing():
            return False
        return session.passes(self.step)

    def _notify_of_start(self, session: CountsUpdates) -> None:
        if not capturing() and not _within_a_step([one() for one in self._optimizers]):
            session.stepping()

    def _notify(self, optimizer: torch.optim.Optimizer) -> None:
        session = self.session()
        if session is None:
            ended, self._ended = self._ended, True
            if ended or any(hook.session() is not None for hook in _hooks_of(optimizer)):
                return
            warn_user(
                "Expected the probes attached to this optimizer to exist, got none, so nothing is observed from here; "
                "keep a reference to what attach returned, and call detach() at the end"
            )
            return
        self._offset += max(0, session.step + 1 - self.step)  # compiled code does not count its calls
        if capturing():
            self._offset -= 1
            warn_user(
                "Expected a step of the optimizer that calls its hooks, got one that is recorded in a CUDA graph, "
                "whose replays call no hooks; attach without optimizer= and call observe(step) after the replays"
            )
        elif skipped(optimizer) or _within_a_step([reference() for reference in self._optimizers]):
            self._offset -= 1
        else:
            self._depth = 0
            session.stepped(self.step)


def hooked_optimizers(optimizer: Any) -> list[torch.optim.Optimizer]:
    """Return the optimizers whose hooks count the updates: the given one, and those that its attributes hold.

    An object that prepares or wraps an optimizer often has no hooks of its own. One that has hooks can have other
    methods for an update than ``step``, which step the inner optimizer.
    """
    found: list[torch.optim.Optimizer] = []
    waiting, seen = [optimizer], set[int]()
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        attributes = getattr(one, "__dict__", {})
        if isinstance(one, torch.optim.Optimizer) and "_optimizer_step_post_hooks" in attributes:
            found.append(one)
        waiting += [value for value in attributes.values() if isinstance(value, torch.optim.Optimizer)]
    return found


def remove_ended_hooks(optimizer: torch.optim.Optimizer) -> None:
    """Remove the hooks of sessions that no longer exist."""
    for hook in _hooks_of(optimizer):
        if hook.session() is None:
            hook.remove()


def of_a_session(hook: Callable[..., Any]) -> bool:
    """Return whether a hook before the steps of an optimizer is that of an attachment."""
    return isinstance(getattr(hook, "__self__", None), StepHook)


def _hooks_of(optimizer: torch.optim.Optimizer) -> list[StepHook]:
    return [hook for hook in optimizer._optimizer_step_post_hooks.values() if isinstance(hook, StepHook)]


def _within_a_step(optimizers: Sequence[torch.optim.Optimizer | None]) -> bool:
    """Return whether a step of one of these optimizers has called the step that has just ended.

    A class that overrides ``step`` and calls ``super().step()``, or that of another optimizer, calls the hooks twice.
    """
    frame: FrameType | None = sys._getframe(3)  # the wrapper that PyTorch gives to the step of every optimizer
    assert frame is not None
    wrapper = frame.f_code
    while (frame := frame.f_back) is not None:
        if frame.f_code is wrapper and any(value is one for value in frame.f_locals.values() for one in optimizers):
            return True
    return False


def skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether the step that has just ended made no update.

    A ``GradScaler`` always calls the step of a fused optimizer, whose kernel reads ``found_inf``. The scaler sets that
    attribute for the time of the step. It does not call the step of other optimizers.
    """
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool(found.item())


def capturing() -> bool:
    """Return whether a CUDA graph is being recorded, whose replays call no hooks."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
