"""Numbers of one direction: twins at each size, the tangent, and what rounding allows."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from probe.forward.data import Batch
from probe.forward.isolation import set_training, user_defaults
from probe.forward.layers import OUTPUT
from probe.forward.outputs import tensor_of
from probe.forward.sites import Trace
from probe.forward.windows import Ends, Window
from probe.geometry.growth import FLOOR, angular_distance, distance, log_growth, smallest_size

KINK = 0.1  # difference of log growths from which the growth is one of finite size
REALISED = 0.01  # largest relative error of the size of a perturbation


@dataclass(frozen=True)
class Reference:
    """The unperturbed window, and what rounding makes of it."""

    ends: Ends
    repeated: float  # distance of the ends of two unperturbed runs, 0 if the training is deterministic
    floor: float  # distance of the ends of two runs whose starts are one rounding apart
    output_floor: float  # the same of the outputs


def reference(window: Window, generator: torch.Generator) -> Reference:
    """Run the window twice as it is, and once from a start that is one rounding away."""
    ends = window.run()
    signs = torch.randint(2, ends.start.shape, generator=generator) * 2.0 - 1
    rounding = signs.double() * ends.rounding.cpu().double()
    others = window.run(), window.run(rounding)
    floors = [distance(other.end, ends.end) for other in others]
    output_floors = [distance(other.outputs_end, ends.outputs_end) for other in others]
    return Reference(ends, floors[0], max(floors), max(output_floors))


@dataclass(frozen=True)
class Twin:
    """Numbers of one perturbation."""

    growth: float
    output_growth: float
    angle: float
    disagreement: float
    rounded: bool
    output_rounded: bool
    unrealised: bool  # the start is not ``size`` away
    smallest: float  # smallest usable size
    end: Tensor  # parameters (P,)


def twin(window: Window, given: Reference, direction: Tensor, size: float) -> Twin:
    """Run the window from a start that is ``size`` away in a direction of length 1."""
    ends, found = given.ends, window.run(size * direction)
    realised, final = distance(ends.start, found.start), distance(ends.end, found.end)
    unrealised = abs(realised / size - 1) > REALISED
    moved = distance(ends.outputs_end, found.outputs_end)
    exact = 2 * ends.rounding.double().norm().item()  # below, the start is rounded
    return Twin(
        log_growth(ends.start, ends.end, found.start, found.end),
        log_growth(ends.outputs_start, ends.outputs_end, found.outputs_start, found.outputs_end),
        angular_distance(ends.end, found.end),
        disagreement(ends.outputs_end, found.outputs_end),
        unrealised or _below(final, given.floor),
        unrealised or _below(moved, given.output_floor),
        unrealised,
        max(exact, smallest_size(realised, final, given.floor)) if final > 0 else exact,
        found.end,
    )


def _below(final: float, floor: float) -> bool:
    """Return whether a floor changes the logarithm of a distance by more than .01."""
    return not final > 0 or floor / final > FLOOR


def kinks(sizes: Sequence[float], twins: Sequence[Twin], tangent: float) -> float:
    """Return the smallest usable size at which a twin grows otherwise than the tangent, NaN if there is none."""
    differ = [
        size
        for size, found in zip(sizes, twins, strict=True)
        if not found.rounded and abs(found.growth - tangent) > KINK
    ]
    return min(differ, default=math.nan)


def disagreement(outputs: Tensor, others: Tensor) -> float:
    """Return the share of rows (n, K) with another largest entry, NaN for one column."""
    if outputs.shape[1] < 2:
        return math.nan
    return (outputs.argmax(1) != others.argmax(1)).double().mean().item()


def output_reader(data: Sequence[tuple[Batch, Tensor]], trace: Trace, batch_size: int) -> Callable[[nn.Module], Tensor]:
    """Return a function that reads the outputs (n, K) of a model in evaluation mode, on rows of batches."""

    def read(model: nn.Module) -> Tensor:
        found = [outputs_of(model, batch, rows, trace, batch_size) for batch, rows in data]
        found = [torch.view_as_real(part).flatten(-2) if part.is_complex() else part for part in found]
        return torch.cat([part.reshape(-1, part.shape[-1] if part.ndim > 1 else 1) for part in found])

    return read


def outputs_of(model: nn.Module, batch: Batch, rows: Tensor, trace: Trace, batch_size: int) -> Tensor:
    """Return the outputs (n, ...) of a model in evaluation mode, on rows of a batch, with gradients if enabled."""
    device = next(model.parameters()).device
    training = [module for module in model.modules() if module.training]
    set_training(training, False)
    try:
        with user_defaults():
            return torch.cat([_called(model, batch.take(part, device)[0], trace) for part in rows.split(batch_size)])
    finally:
        set_training(training, True)


def _called(model: nn.Module, inputs: object, trace: Trace) -> Tensor:
    outputs = (
        model(**inputs) if isinstance(inputs, dict) else model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    )
    found = tensor_of(outputs, OUTPUT, trace.output)
    if not (found.is_floating_point() or found.is_complex()):
        raise TypeError(f"Expected floating-point outputs of the model, got {found.dtype}; select the logits: output=")
    return found
