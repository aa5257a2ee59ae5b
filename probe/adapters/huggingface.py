"""Probes in the Trainer of transformers, and in trainers that derive from it, such as those of TRL."""

import sys
from collections.abc import Sequence
from functools import partial
from types import FrameType
from typing import Any

from probe.adapters.attachment import Attachment
from probe.adapters.checks import check_once, require
from probe.base import Observer

require("transformers", "4.47")

from transformers import Trainer, TrainerCallback  # noqa: E402

__all__ = ["ProbeCallback"]

_KEY = "probe"  # of the number of updates in trainer_state.json


class ProbeCallback(TrainerCallback):
    """Callback of a ``Trainer`` that attaches probes at the start of ``train`` and detaches them at its end.

    The Trainer calls no callback if an error ends the training. Observations are on the disk then; ``probes.detach()``
    writes the NetCDF file, and the next ``train`` does so too.

    Parameters
    ----------
    probes, data, path, mode, log, **options
        As for :class:`probe.adapters.attachment.Attachment`.
    """

    def __init__(
        self,
        probes: Observer,
        data: Any,
        *,
        path: Any = None,
        mode: str | None = None,
        log: bool | Sequence[str] = True,
        **options: Any,
    ) -> None:
        self.attachment = Attachment(probes, data, path=path, mode=mode, log=log, **options)
        self.attachment.bar = self._bar

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Attach the probes. The optimizer exists here, and a checkpoint is loaded."""
        if (trainer := self._trainer()) is not None:
            check_once(self, trainer.callback_handler.callbacks)
        saved = state.stateful_callbacks.get(_KEY, {}) if state.global_step else {}
        step = saved.get("step", state.global_step)
        smaller = getattr(trainer, "_train_batch_size", None) != args.train_batch_size  # after an error of memory
        again = args.auto_find_batch_size and smaller
        self.attachment.start(kwargs["model"], kwargs["optimizer"], step, again=again)
        self._report(state, self.attachment.numbers())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Log the numbers of a new observation, and note the updates for a checkpoint."""
        if self.attachment.running:
            self._report(state, self.attachment.numbers())

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Detach the probes after the last step, before ``load_best_model_at_end`` replaces the weights."""
        if control.should_training_stop:
            self._stop(state)

    on_save = on_epoch_end  # an evaluation may have stopped the training

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Detach the probes."""
        self._stop(state)

    def _stop(self, state: Any) -> None:
        if self.attachment.running:
            self._report(state, self.attachment.stop())

    def _report(self, state: Any, numbers: dict[str, float]) -> None:
        """Log numbers by the method of ``Trainer``. Those of derived classes add averages, and reset them."""
        state.stateful_callbacks[_KEY] = {"step": self.attachment.step}
        if numbers and (trainer := self._trainer()) is not None:
            due = trainer.control.should_log
            Trainer.log(trainer, numbers)
            trainer.control.should_log = due  # the trainer's own numbers are still to be logged

    def _bar(self) -> Any:
        """Return what sets the text of the bar of the trainer, or None. The trainer makes it after this callback."""
        callbacks = [] if (trainer := self._trainer()) is None else trainer.callback_handler.callbacks
        bar = next((bar for one in callbacks if (bar := getattr(one, "training_bar", None)) is not None), None)
        return None if bar is None else partial(bar.set_postfix_str, refresh=False)

    def _trainer(self) -> Any:
        """Return the trainer that has called this callback. It gives callbacks no reference to itself."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not isinstance(frame.f_locals.get("self"), Trainer):
            frame = frame.f_back
        return None if frame is None else frame.f_locals["self"]
