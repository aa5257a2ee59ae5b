"""Counting the updates of an optimiser by a hook: what is an update, and what only looks like one."""

import warnings
from collections.abc import Callable
from typing import Any, Protocol

import torch


class Counts(Protocol):
    """What is told of updates."""

    def stepped(self) -> None:
        """The optimiser has made an update."""


class StepHook:
    """Counts the optimiser's updates; holds whom it tells weakly, and goes when that has gone."""

    def __init__(self, session: Callable[[], Counts | None]) -> None:
        self.session = session
        self.handle: Any = None

    def __call__(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        """Tell the session, unless there was no update."""
        session = self.session()
        if session is None:
            self.handle.remove()
            warnings.warn(
                "the probes attached to this optimiser are gone, and observe no more: keep a reference to what "
                "attach returned, and call detach() when you are done",
                RuntimeWarning,
                stacklevel=2,
            )
        elif capturing():
            warnings.warn(
                "the optimiser's step is being recorded in a CUDA graph; its replays call no hooks, so that they are "
                "not counted: attach without optimizer= and call observe(step) after the replays",
                RuntimeWarning,
                stacklevel=2,
            )
        elif not skipped(optimizer):
            # where the step of the optimiser is compiled, this must not be compiled too
            stepped = torch.compiler.disable(session.stepped) if torch.compiler.is_compiling() else session.stepped
            stepped()


def skipped(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the update that has just ended was none.

    A fused optimiser under a ``GradScaler`` steps in any case, and looks at ``found_inf`` in its kernel; the scaler
    leaves that on the optimiser while it steps. Other optimisers are not stepped at all.
    """
    found = getattr(optimizer, "found_inf", None)
    return isinstance(found, torch.Tensor) and bool(found.item())


def capturing() -> bool:
    """Whether this happens while a CUDA graph is recorded, which will be replayed without any hook."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()
