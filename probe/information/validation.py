"""Check and convert activations and labels before an estimator uses them."""

import math

import torch
from torch import Tensor

from probe.information.arguments import check_tensor
from probe.information.discrete import label_codes

_SIZES = 1e-150, 1e150  # of activations: their squares, and the sums of these, are float64 numbers


def rounding_variance(dtype: torch.dtype) -> float:
    """Return the ratio of variance to mean square below which numbers of this dtype differ by rounding only.

    The rounding of single numbers is eps / 2. A factor of 16 covers sums of many numbers: the ratio is 9e-13 for
    float32
    and 3e-30 for float64. Half precision needs no such margin, because its sums are rounded once, from float32.
    """
    eps = torch.finfo(dtype if dtype.is_floating_point else torch.float32).eps
    return (8 * eps if eps < 1e-6 else eps) ** 2


def to_float64_device(activations: Tensor, device: torch.device | str | None = None) -> Tensor:
    """Return the detached tensor on ``device``, by default on its own device, but on the CPU instead of MPS.

    MPS does not support float64. The dtype does not change.
    """
    default = "cpu" if activations.device.type == "mps" else activations.device
    return activations.detach().to(device or default)


def is_finite(values: Tensor) -> bool:
    """Return whether no value is NaN or infinite, or so large that its square is."""
    if values.dtype == torch.float64 and values.numel() and not values.detach().abs().max().item() <= _SIZES[1]:
        return False
    # a sum is finite if its terms are, except for overflow, and is quicker than a test of each term
    return math.isfinite(values.detach().sum().item()) or bool(torch.isfinite(values).all())


def as_finite(values: Tensor, *, name: str = "activations") -> Tensor:
    """Return ``values`` of any shape in float64; raise ValueError if a value is NaN, infinite or above 1e150."""
    check_tensor(values, name)
    if not is_finite(values):
        raise ValueError(
            f"Expected finite {name}, got NaN or infinite values, or some above {_SIZES[1]:g}; remove them, "
            "information is not defined for them"
        )
    return values.double()


def as_rows(activations: Tensor, *, name: str = "activations") -> Tensor:
    """Return finite rows (n, d), n >= 2, in float64; raise ValueError otherwise. ``name`` appears in the message."""
    check_tensor(activations, name)
    if activations.ndim != 2 or len(activations) < 2 or activations.shape[1] < 1:
        raise ValueError(
            f"Expected {name} of shape (n, d) with n >= 2 and d >= 1, got shape {tuple(activations.shape)}; "
            "pass one row per sample"
        )
    rows = as_finite(activations, name=name)
    if activations.dtype == torch.float64 and 0 < (size := rows.detach().abs().max().item()) < _SIZES[0]:
        raise ValueError(
            f"Expected {name} of at least {_SIZES[0]:g} in size, got {size:.3g}; multiply them by a constant"
        )
    return rows


def rows_equal(activations: Tensor, dtype: torch.dtype | None = None) -> bool:
    """Return whether all rows (n, d) are equal up to the rounding of ``dtype``, by default their own."""
    rows = activations.detach().double()
    variances = (rows - rows.mean(0)).square().mean(0)
    return bool(_constant(rows.mean(0), variances, dtype or activations.dtype).all())


def normalise_rows(activations: Tensor) -> tuple[Tensor, float, bool]:
    """Centre the rows and divide them by the root of their total variance, in float64.

    Parameters
    ----------
    activations : Tensor of shape (n, d)

    Returns
    -------
    rows : Tensor of shape (n, d)
        Their total variance is 1. If ``collapsed``, the rows are 0. Features that are constant up to rounding are 0.
    variance : float
        tr Cov of ``activations``.
    collapsed : bool
        Whether the rows are equal up to rounding.
    """
    rows = as_rows(activations).detach()
    mean = rows.mean(0)
    rows = rows - mean
    variances = rows.square().mean(0)
    constant = _constant(mean, variances, activations.dtype)
    if constant.any():
        rows[:, constant], variances = 0, variances.masked_fill(constant, 0)
    variance = variances.sum().item()
    return (rows.div_(math.sqrt(variance)) if variance else rows), variance, not variance


def _constant(mean: Tensor, variance: Tensor, dtype: torch.dtype) -> Tensor:
    """Return for each feature whether its rows of this dtype differ by rounding only.

    The rounding is relative to the feature, or to the mean of all features, whose sums can have contained larger terms.
    """
    size = variance + mean.square()
    return variance <= rounding_variance(dtype) * size.clamp(min=size.mean())


def class_codes(labels: Tensor, activations: Tensor) -> Tensor:
    """Return the labels of the rows as int64 codes 0, ..., K-1 on the device of ``activations``.

    Raises ValueError unless ``labels`` holds one integer or bool for each row of ``activations``.
    """
    check_tensor(activations, "activations")
    check_tensor(labels, "labels")
    if labels.shape != activations.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"Expected {len(activations)} integers as labels, got {labels.dtype} of shape {tuple(labels.shape)}; "
            "pass one class per row"
        )
    return label_codes(labels).to(activations.device)
