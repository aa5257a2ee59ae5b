"""Detection of updates that the attached optimizer did not make, so that nothing counted them."""

import weakref
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from probe.errors import warn_user
from probe.forward.shards import local_part

_CALLS = 3  # of observe(name=value) with other weights and no update; one or two can be loaded or averaged weights
_WRITES = 10  # writes to the weights between the last update and detach, likewise
_FIRST_NUMBERS = 16  # of each parameter; an update changes nearly all numbers
_COMPLETIONS = 2  # observed weights that were written to before the next step; one time can be loaded weights
_SAME = 1e-5  # relative difference of weights that a loop has replaced and put back


class UncountedUpdates:
    """Warn once if weights change while the hook on the optimizer counts no update.

    Another optimizer may have replaced the attached one, or a wrapper of it updates the weights by itself.

    Parameters
    ----------
    model, step
        The model, and the number of updates, at attach.
    """

    def __init__(self, model: nn.Module, step: int) -> None:
        self._start, self._numbers = step, some_numbers(model.parameters())
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
        return not torch.equal(self._numbers, some_numbers(model.parameters()))

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


def some_numbers(parameters: Iterable[Tensor]) -> Tensor:
    """Return the first numbers of each trainable parameter on this rank, with 0 in place of NaN."""
    parts = [local_part(p.detach()).flatten()[:_FIRST_NUMBERS] for p in parameters if p.requires_grad]
    parts = [torch.view_as_real(part).flatten() if part.is_complex() else part for part in parts]
    if len({(part.dtype, part.device) for part in parts}) > 1:
        parts = [part.double().cpu() for part in parts]
    return torch.cat(parts or [torch.zeros(0)]).double().cpu().nan_to_num()  # one conversion: this follows observations


class WrittenAfterSteps:
    """Warn once if weights change between the end of a step, where they were observed, and the start of the next one.

    A wrapper of the optimizer, or the loop, then completes the update: it averages, clips or normalises the weights.

    Parameters
    ----------
    optimizers
        Only their weights are compared, since another optimizer may step in between.
    """

    def __init__(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        self._groups = [optimizer.param_groups for optimizer in optimizers]
        self._numbers: Tensor | None = None
        self._step, self._steps = 0, list[int]()

    @property
    def waits(self) -> bool:
        """Whether weights are noted, and the next step compares them."""
        return self._numbers is not None

    def _now(self) -> Tensor:
        return some_numbers(parameter for groups in self._groups for group in groups for parameter in group["params"])

    def observed(self, step: int) -> None:
        """Note the weights that an observation has measured at the end of a step."""
        if len(self._steps) < _COMPLETIONS:
            self._numbers, self._step = self._now(), step

    def stepping(self) -> None:
        """Compare the weights at the start of the next step. This is called at each of them, so it is quick."""
        if self._numbers is None:
            return
        before, now = self._numbers, self._now()
        self._numbers = None
        if before.shape != now.shape or not before.numel():  # the optimizer has other weights now
            return
        if (before - now).abs().max() <= _SAME * before.abs().max():
            return  # up to the rounding of weights that were averaged and put back
        self._steps.append(self._step)
        if len(self._steps) == _COMPLETIONS:
            warn_user(
                f"Expected weights that are complete at the end of the optimizer's step, got others before the next "
                f"one, after steps {' and '.join(map(str, self._steps))}; a wrapper or the loop writes to them (it "
                "averages, clips or normalises), and observations measure the weights before that. Attach without an "
                "optimizer and call observe(step) where an update is complete, or ignore this after loading weights"
            )
