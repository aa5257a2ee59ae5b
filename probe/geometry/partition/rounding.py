"""Estimates of rounding errors, by which the numbers of units count as zero.

In a small window far from the origin, a unit varies by less than the terms of its sum. Its rounding errors, which are
parts of these terms, can then be larger than the snapping width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from probe.geometry.networks import Affine, Bend, Maximum, Operation

_ROWS = 8  # vertices at which errors are estimated
_SAFETY = 16  # largest error of a number, in those that perturbations find
_EPS = torch.finfo(torch.float64).eps
_STEP = 2.0**30  # perturbations are that many rounding errors


def some_rows(value: Tensor) -> Tensor:
    """Return a few rows of a value, spread over all."""
    return value[:: max(1, len(value) // _ROWS)][:_ROWS]


def rounding_errors(operation: Operation, read: Sequence[Tensor], errors: Sequence[Tensor]) -> Tensor:
    """Return estimates of the rounding errors of the numbers that an operation writes, (1, ...).

    Parameters
    ----------
    operation
    read : Tensors of shape (rows, ...)
        A few rows of the values that it reads.
    errors : Tensors of shape (1, ...)
        Estimates for these values.
    """
    if isinstance(operation, Affine):
        return _of_sums(operation, read, errors)
    if isinstance(operation, Bend):
        return errors[0] * operation.slopes.abs().max()
    return candidate_errors(operation, errors).amax(2).reshape(1, *operation.function(*errors).shape[1:])


def candidate_errors(operation: Maximum, errors: Sequence[Tensor]) -> Tensor:
    """Return the errors of the candidates of a maximum, (1, units, k)."""
    return operation.candidates(*errors).nan_to_num(neginf=0.0).abs()


def widths_of(errors: Tensor) -> Tensor:
    """Return the distance from zero within which a number can be zero without its rounding errors."""
    return _SAFETY * errors.flatten()


def _of_sums(operation: Affine, read: Sequence[Tensor], errors: Sequence[Tensor]) -> Tensor:
    """Perturb the terms of all sums by random signs."""
    generator = torch.Generator().manual_seed(0)
    moved = []
    for value, error in zip(read, errors, strict=True):
        signs = torch.randint(0, 2, value.shape, generator=generator, dtype=torch.float64) * 2 - 1
        moved.append(value + _STEP * signs * torch.maximum(_EPS * value.abs(), error))
    return (operation.function(*moved) - operation.function(*read)).abs().amax(0, keepdim=True) / _STEP
