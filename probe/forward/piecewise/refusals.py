"""The errors of models that are not piecewise linear."""

import torch
from torch import nn

from probe.forward.layers import named_layers
from probe.forward.piecewise.tape import Call


class NotPiecewiseLinearError(ValueError):
    """The model computes something that is no continuous piecewise-linear function of each row of its input."""


class Refusal:
    """Makes the error for a call that is not piecewise linear."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = {**named_layers(model), "": model}

    def __call__(self, call: Call, reason: str) -> NotPiecewiseLinearError:
        """Return the error. It names the function and the module."""
        kind = type(self._modules[call.module]).__name__
        where = f"module {call.module!r} ({kind})" if call.module else kind
        name, function = call.name.strip("_").removeprefix("native_"), call.function.strip("_")
        what = name if function in ("", name) else f"{function} ({name})"
        return NotPiecewiseLinearError(
            f"Expected a continuous piecewise-linear function of each row, got {what} in {where}: {reason}; replace "
            "it, start after it with stem=, select an output before it, or leave out this probe"
        )

    def check_random(self, call: Call) -> None:
        """Raise for a call that draws random numbers."""
        if torch.Tag.nondeterministic_seeded in call.operation.tags and "attention" not in call.name:
            raise self(call, "random numbers")
