"""Probes in Lightning, as the package ``lightning`` or ``pytorch_lightning``."""

from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import distributions
from typing import Any

import torch
from torch import nn

from probe.adapters.attachment import Attachment
from probe.adapters.checks import check_once, children_of, chosen_optimizer, of_all, require, submodule
from probe.base import Observer

__all__ = ["ProbeCallback"]

_KEY = "probe"  # of the number of updates by optimizer, in a checkpoint
_PACKAGES = ("lightning", "pytorch_lightning", "torch")  # their forward raises an error


def _bases() -> tuple[type, ...]:
    """Return the callback class of each installed package, since a trainer accepts only its own."""
    names = {"lightning": "lightning.pytorch", "pytorch-lightning": "pytorch_lightning"}
    installed = [name for name in names if any(distributions(name=name))] or ["lightning"]
    for name in installed:
        require(name, "2.5")
    return tuple(import_module(names[name]).Callback for name in installed)


def _bar(trainer: Any) -> Any:
    """Return what adds a text to the numbers in the bar of a trainer, or None if it shows none."""
    if not getattr(trainer.progress_bar_callback, "is_enabled", False):
        return None
    return partial(trainer.progress_bar_metrics.__setitem__, "probe")


_Callback: Any = type("_Callback", _bases(), {})


class ProbeCallback(_Callback):
    """Callback of Lightning that attaches probes at the start of ``fit`` and detaches them at its end.

    Parameters
    ----------
    probes, data, path, mode, log, **options
        As for :class:`probe.adapters.attachment.Attachment`.
    model : str, optional
        Name of the submodule that is observed. Default: the LightningModule itself, whose ``forward`` is called.
    optimizer : int, optional
        Index of the optimizer whose steps are counted. Needed if there are several.
    """

    def __init__(
        self,
        probes: Observer,
        data: Any,
        *,
        model: str | None = None,
        optimizer: int | None = None,
        path: Any = None,
        mode: str | None = None,
        log: bool | Sequence[str] = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.model, self.optimizer, self._loaded = model, optimizer, False  # loaded: the number of updates
        self.attachment = Attachment(probes, data, path=path, mode=mode, log=log, **options)

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Save the number of updates, which is not ``trainer.global_step`` if there are several optimizers."""
        checkpoint.setdefault(_KEY, {})[self.optimizer or 0] = self.attachment.step

    def on_load_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Restore the number of updates."""
        saved = checkpoint.get(_KEY, {}).get(self.optimizer or 0)
        self._loaded, self.attachment.step = saved is not None, saved or 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Attach the probes. Optimizers exist here, the checkpoint is loaded, and the sanity check is over."""
        check_once(self, trainer.callbacks)
        optimizer = chosen_optimizer(trainer.optimizers, self.optimizer)
        self.attachment.bar = partial(_bar, trainer)
        self.attachment.start(self._observed(pl_module), optimizer, self._step(trainer))
        self._report(trainer, self.attachment.numbers())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Log the numbers of a new observation, also for callbacks that monitor one. ``log_dict`` is slow."""
        if numbers := self.attachment.numbers():
            self._report(trainer, numbers)
            trainer.callback_metrics.update({name: torch.tensor(value) for name, value in numbers.items()})

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Detach the probes."""
        self._report(trainer, self.attachment.stop())

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Detach the probes, so that the recording is complete."""
        self.attachment.stop()

    def _step(self, trainer: Any) -> int:
        """Return the number of updates that were made so far."""
        if trainer.global_step and not (self._loaded or self.attachment.step):
            return of_all(trainer.optimizers, trainer.global_step)
        return self.attachment.step if trainer.global_step else 0

    def _report(self, trainer: Any, numbers: dict[str, float]) -> None:
        """Log at once. Lightning would wait for a multiple of ``log_every_n_steps``, and lose the others."""
        for logger in trainer.loggers if numbers and trainer.is_global_zero else ():
            logger.log_metrics(numbers, step=trainer.global_step)

    def _observed(self, pl_module: Any) -> nn.Module:
        if self.model is not None:
            return submodule(pl_module, self.model)
        if getattr(type(pl_module).forward, "__module__", "").split(".")[0] in _PACKAGES:
            raise ValueError(
                f"Expected a LightningModule with a method forward, got {type(pl_module).__name__} without one; give "
                f"model= the name of a submodule: {children_of(pl_module)}"
            )
        return pl_module
