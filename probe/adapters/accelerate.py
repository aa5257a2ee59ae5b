"""Probes in a training loop with Accelerate."""

from collections.abc import Sequence
from typing import Any, Self

from torch import nn

from probe.adapters.attachment import Attachment
from probe.adapters.checks import require
from probe.attach.step_hook import hooked_optimizers
from probe.base import Observer

require("accelerate", "1.0")

__all__ = ["ProbeContext"]


class ProbeContext:
    """Context manager of a training loop, within which probes are attached.

    It registers itself with the accelerator, so that ``save_state`` saves the number of updates. If ``load_state``
    restores a checkpoint with it, make the context before, and enter it afterwards. A checkpoint without it is loaded
    before the context is made, with ``step``.

    Parameters
    ----------
    accelerator
        The ``Accelerator``. Numbers go to its trackers.
    probes, data, path, mode, log, **options
        As for :class:`probe.adapters.attachment.Attachment`.
    model, optimizer
        What ``accelerator.prepare`` returns.
    step
        Number of updates that the training has made. Default: that of the loaded checkpoint, or 0.
    """

    def __init__(
        self,
        accelerator: Any,
        probes: Observer,
        data: Any,
        model: nn.Module,
        optimizer: Any,
        *,
        step: int = 0,
        path: Any = None,
        mode: str | None = None,
        log: bool | Sequence[str] = True,
        **options: Any,
    ) -> None:
        self.accelerator, self.model, self.optimizer = accelerator, model, optimizer
        self.attachment = Attachment(probes, data, path=path, mode=mode, log=log, **options)
        self.attachment.step = step
        self._hook: Any = None
        accelerator.register_for_checkpointing(self)

    def __enter__(self) -> Self:
        if self.attachment.running:
            raise RuntimeError("Expected a context that is entered once at a time, got a second with; leave the first")
        self.attachment.start(self.model, self.optimizer, self.attachment.step)
        self._report()
        # the hook of the probes on this optimizer comes before this one
        self._hook = hooked_optimizers(self.optimizer)[-1].register_step_post_hook(self._report)
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()
        if numbers := self.attachment.stop():
            self.accelerator.log(numbers, step=self.attachment.step)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of updates."""
        return {"step": self.attachment.step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the number of updates."""
        if self.attachment.running:
            raise RuntimeError(
                "Expected load_state before the probes are attached, got it within the context; load, then enter it"
            )
        self.attachment.step = state_dict["step"]

    def _report(self, *_: Any) -> None:
        if numbers := self.attachment.numbers():
            self.accelerator.log(numbers, step=self.attachment.step)
