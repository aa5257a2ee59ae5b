"""Detection of updates that the attached optimizer did not make, so that nothing counted them."""

import weakref

import torch
from torch import Tensor, nn

from probe.errors import warn_user

_CALLS = (
    3  # calls of observe(name=value) with other weights and no update; one or two can be loaded or averaged weights
)
_WRITES = 10  # writes to the weights between the last update and detach, likewise
_FIRST_NUMBERS = 16  # of each parameter; an update changes nearly all numbers


class UncountedUpdates:
    """Warn once if weights change while the hook on the optimizer counts no update.

    Another optimizer may have replaced the attached one, or a wrapper of it updates the weights by itself.

    Parameters
    ----------
    model, step
        The model, and the number of updates, at attach.
    """

    def __init__(self, model: nn.Module, step: int) -> None:
        self._start, self._numbers = step, _some_numbers(model)
        self._step, self._mark, self._changes = step, _mark(model), 0
        first = next((parameter for parameter in model.parameters() if parameter.requires_grad), None)
        self._first = (lambda: None) if first is None else weakref.ref(first)
        self._version = -1  # of the first trainable parameter after the last update
        self._warned = False

    def updated(self) -> None:
        """Note that the optimizer has made an update. This is called at each of them, so it is quick."""
        if (first := self._first()) is not None:
            self._version = first._version

    def check(self, model: nn.Module, step: int) -> None:
        """Compare the weights with those of the previous call at the same step."""
        if self._warned:
            return
        mark = _mark(model)
        if step != self._step:
            self._step, self._changes = step, 0
        elif mark != self._mark:
            self._changes += 1
        self._mark = mark
        if self._changes >= _CALLS or (self._changes and step == self._start and self._differ(model)):
            self._warn(step)

    def finish(self, model: nn.Module, step: int) -> None:
        """Compare the weights at detach with those at attach, or with those after the last update."""
        if self._warned:
            return
        if step == self._start:
            if self._differ(model):
                self._warn(step)
        elif (first := self._first()) is not None and first._version - self._version >= _WRITES:
            self._warn(step)

    def _differ(self, model: nn.Module) -> bool:
        """Return whether the numbers differ from those at attach. The same ones may have been written again."""
        return not torch.equal(self._numbers, _some_numbers(model))

    def _warn(self, step: int) -> None:
        self._warned = True
        warn_user(
            f"Expected each update to be a step of the attached optimizer, got weights that change while it has made "
            f"{step - self._start} steps, so later states are not observed; attach the optimizer whose step() the loop "
            "calls (after it was replaced or wrapped), or attach without an optimizer and call observe(step)"
        )


def _mark(model: nn.Module) -> tuple[int, int]:
    """Return a mark that changes whenever the first trainable parameter is written or replaced."""
    first = next((parameter for parameter in model.parameters() if parameter.requires_grad), None)
    return (0, 0) if first is None else (first._version, first.data_ptr())


def _some_numbers(model: nn.Module) -> Tensor:
    """Return the first numbers of each trainable parameter, with 0 in place of NaN."""
    parts = [p.detach().flatten()[:_FIRST_NUMBERS] for p in model.parameters() if p.requires_grad]
    parts = [torch.view_as_real(part).flatten() if part.is_complex() else part for part in parts]
    return torch.cat([part.double().cpu() for part in parts] or [torch.zeros(0).double()]).nan_to_num()
