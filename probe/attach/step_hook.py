"""The hook on the optimizer that counts its updates."""

from collections.abc import Callable
from typing import Any, Protocol

import torch

from probe.errors import warn_user


class CountsUpdates(Protocol):
    """An object that is notified of updates."""

    def stepped(self) -> None:
        """Count an update of the optimizer."""


class StepHook:
    """Hook that counts the updates of an optimizer. It holds the session weakly, and does nothing after it.

    It does not remove itself, because PyTorch iterates over the hooks while they run. :func:`remove_ended_hooks` does.

    Parameters
    ----------
    session
        Weak reference to the object that is notified.
    """

    def __init__(self, session: Callable[[], CountsUpdates | None]) -> None:
        self.session = session
        self.handle: Any = None
        self._ended = False

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Notify the session of an update."""
        session = self.session()
        if session is None:
            ended, self._ended = self._ended, True
            if ended or any(hook.session() is not None for hook in _hooks_of(optimizer)):
                return
            warn_user(
                "Expected the probes attached to this optimizer to exist, got none, so nothing is observed from here; "
                "keep a reference to what attach returned, and call detach() at the end"
            )
        elif capturing():
            warn_user(
                "Expected a step of the optimizer that calls its hooks, got one that is recorded in a CUDA graph, "
                "whose replays call no hooks; attach without optimizer= and call observe(step) after the replays"
            )
        elif not skipped(optimizer):
            # if the step of the optimizer is compiled, the observation must not be compiled with it
            stepped = torch.compiler.disable(session.stepped) if torch.compiler.is_compiling() else session.stepped
            stepped()


def remove_ended_hooks(optimizer: torch.optim.Optimizer) -> None:
    """Remove the hooks of sessions that no longer exist."""
    for hook in _hooks_of(optimizer):
        if hook.session() is None:
            hook.handle.remove()


def _hooks_of(optimizer: torch.optim.Optimizer) -> list[StepHook]:
    return [hook for hook in optimizer._optimizer_step_post_hooks.values() if isinstance(hook, StepHook)]


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
