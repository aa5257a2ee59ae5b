"""Probes in skorch."""

from collections.abc import Sequence
from typing import Any, Self

from probe.adapters.attachment import Attachment
from probe.adapters.checks import check_once, require
from probe.base import Observer

require("skorch", "1.2")

from skorch.callbacks import Callback  # noqa: E402

__all__ = ["ProbeCallback"]

_OWN = ("module", "optimizer")
_STEP = "probe_step"  # number of updates, in the rows of batches of a history


class ProbeCallback(Callback):
    """Callback of a ``NeuralNet`` that attaches probes at the start of ``fit`` and detaches them at its end.

    The history holds the numbers: at each observation in the row of the batch, and the last ones in the row of the
    epoch, where callbacks behind this one read them. skorch calls no callback if an error ends the training.
    Observations are on the disk then; ``probes.detach()`` writes the NetCDF file, and the next ``fit`` does so too.

    Parameters
    ----------
    probes, data, path, mode, log, **options
        As for :class:`probe.adapters.attachment.Attachment`.
    module, optimizer : str
        Names of the module that is observed, and of the optimizer whose steps are counted.
    """

    def __init__(
        self,
        probes: Observer,
        data: Any,
        *,
        module: str = "module",
        optimizer: str = "optimizer",
        path: Any = None,
        mode: str | None = None,
        log: bool | Sequence[str] = True,
        **options: Any,
    ) -> None:
        self.probes, self.data, self.module, self.optimizer = probes, data, module, optimizer
        self.path, self.mode, self.log = path, mode, log
        self.__dict__.update(options)  # skorch takes each attribute without a trailing underscore as a parameter
        self.attachment_ = self._attachment()

    def _attachment(self) -> Attachment:
        given = {name: value for name, value in self.get_params(deep=False).items() if name not in _OWN}
        return Attachment(**given)

    def initialize(self) -> Self:
        """Read the parameters again, which ``set_params`` may have changed."""
        self.attachment_.stop()
        self.attachment_ = self._attachment()
        return self

    def on_train_begin(self, net: Any, *_: Any, **__: Any) -> None:
        """Attach the probes. Modules and optimizers exist here."""
        check_once(self, [callback for _, callback in net.callbacks_])
        optimizer = getattr(net, f"{self.optimizer}_")
        self.attachment_.start(getattr(net, f"{self.module}_"), optimizer, _updates(net.history))
        self._latest_ = self.attachment_.numbers()

    def on_batch_end(self, net: Any, *_: Any, training: bool = False, **__: Any) -> None:
        """Record the number of updates, and the numbers of a new observation."""
        if training and self.attachment_.running:
            net.history.record_batch(_STEP, self.attachment_.step)
            if numbers := self.attachment_.numbers():
                self._latest_ = {**self._latest_, **numbers}
                for name, value in numbers.items():
                    net.history.record_batch(name, value)

    def on_epoch_end(self, net: Any, *_: Any, **__: Any) -> None:
        """Record the last numbers."""
        for name, value in self._latest_.items():
            net.history.record(name, value)

    def on_train_end(self, net: Any, *_: Any, **__: Any) -> None:
        """Detach the probes."""
        for name, value in self.attachment_.stop().items():
            if net.history:
                net.history.record(name, value)


def _updates(history: Any) -> int:
    """Return the number of updates that a history records, which a loaded one does too."""
    rows = (row for epoch in reversed(history) for row in reversed(epoch["batches"]) if _STEP in row)
    if (last := next(rows, None)) is not None:
        return int(last[_STEP])
    return sum(epoch.get("train_batch_count", 0) for epoch in history)
