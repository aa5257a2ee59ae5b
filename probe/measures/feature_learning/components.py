"""How much of given target components the outputs of a model contain, and the scale of its logits."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from probe.forward.snapshot import Snapshot


def component_values(snapshot: Snapshot, split: str, name: str, component: Any, rows: Tensor, like: Tensor) -> Tensor:
    """Return the values of a component on some rows, of the shape of the outputs (n, C)."""
    if callable(component):
        values = component(snapshot.data[split].take(rows, snapshot.device)[0])
    elif isinstance(component, Mapping) and split in component:
        values = torch.as_tensor(component[split])[rows]
    else:
        raise ValueError(
            f"Expected component {name!r} as a function of the inputs or as arrays for each split, got "
            f"{type(component).__name__} without {split!r}; pass {{split: array}}"
        )
    try:
        found = torch.as_tensor(values).to(like).double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"Expected numbers as values of component {name!r}, got {type(values).__name__}; return a tensor"
        ) from error
    if found.numel() != like.numel() or len(found) != len(like):
        raise ValueError(
            f"Expected values of component {name!r} of the shape of the outputs {tuple(like.shape)} in {split!r}, got "
            f"{tuple(found.shape)}; pass one number for each output"
        )
    return found.reshape(like.shape)


def learned_fraction(outputs: Tensor, component: Tensor) -> tuple[float, float]:
    """Return <f, component> / <component, component> over rows, and its standard error by the delta method."""
    f, c = outputs.double(), component.double()
    norm = c.square().sum()
    if not 0 < norm < math.inf or not f.isfinite().all():
        return math.nan, math.nan
    fraction = (f * c).sum() / norm
    residuals = (c * (f - fraction * c)).sum(1)
    return float(fraction), float(residuals.square().sum().sqrt() / norm)


def logit_scale(outputs: Tensor) -> float:
    """Return the root mean square of outputs (n, C), minus their mean over the outputs of an input if C > 1."""
    f = outputs.double()
    f = f - f.mean(1, keepdim=True) if f.shape[1] > 1 else f
    return float(f.square().mean().sqrt())
