"""Check and convert activations and labels before an estimator uses them."""

import torch
from torch import Tensor

from probe.information.discrete import label_codes

MIN_RELATIVE_VARIANCE = 1e-12  # (2^-24 * 16)^2: below it, float32 activations differ by rounding only


def to_float64_device(activations: Tensor, device: torch.device | str | None = None) -> Tensor:
    """Return the detached tensor on ``device``, by default on its own device, but on the CPU instead of MPS.

    MPS does not support float64. The dtype does not change.
    """
    default = "cpu" if activations.device.type == "mps" else activations.device
    return activations.detach().to(device or default)


def as_finite(values: Tensor, *, name: str = "activations") -> Tensor:
    """Return ``values`` of any shape in float64; raise ValueError if a value is NaN or infinite."""
    if not torch.isfinite(values).all():
        raise ValueError(
            f"Expected finite {name}, got NaN or infinite values; remove them, information is not defined for them"
        )
    return values.double()


def as_rows(activations: Tensor, *, name: str = "activations") -> Tensor:
    """Return finite rows (n, d), n >= 2, in float64; raise ValueError otherwise. ``name`` appears in the message."""
    if activations.ndim != 2 or len(activations) < 2 or activations.shape[1] < 1:
        raise ValueError(
            f"Expected {name} of shape (n, d) with n >= 2 and d >= 1, got shape {tuple(activations.shape)}; "
            "pass one row per sample"
        )
    return as_finite(activations, name=name)


def rows_equal(rows: Tensor) -> bool:
    """Return whether all float64 rows (n, d) are equal up to the rounding of float32."""
    return bool((rows - rows.mean(0)).square().sum() <= MIN_RELATIVE_VARIANCE * rows.square().sum())


def normalise_rows(activations: Tensor) -> tuple[Tensor, float, bool]:
    """Centre the rows and divide them by the root of their total variance, in float64.

    Parameters
    ----------
    activations : Tensor of shape (n, d)

    Returns
    -------
    rows : Tensor of shape (n, d)
        Their total variance is 1. If ``collapsed``, the rows are centred only.
    variance : float
        tr Cov of ``activations``.
    collapsed : bool
        Whether the rows are equal up to rounding.
    """
    rows = as_rows(activations.detach())
    size = rows.square().sum(1).mean()
    rows = rows - rows.mean(0)
    variance = rows.square().sum(1).mean()
    collapsed = bool(variance <= MIN_RELATIVE_VARIANCE * size)
    return (rows if collapsed else rows.div_(variance.sqrt())), variance.item(), collapsed


def class_codes(labels: Tensor, activations: Tensor) -> Tensor:
    """Return the labels of the rows as int64 codes 0, ..., K-1 on the device of ``activations``.

    Raises ValueError unless ``labels`` holds one integer or bool for each row of ``activations``.
    """
    if labels.shape != activations.shape[:1] or labels.is_floating_point():
        raise ValueError(
            f"Expected {len(activations)} integers as labels, got {labels.dtype} of shape {tuple(labels.shape)}; "
            "pass one class per row"
        )
    return label_codes(labels).to(activations.device)
