"""Checks of the types of arguments, so that an error states what was expected and what to do."""

from typing import Any

import torch
from torch import Tensor


def check_tensor(values: Any, name: str) -> None:
    """Raise TypeError unless ``values`` is a dense tensor of real numbers with data."""
    if not isinstance(values, Tensor):
        raise TypeError(
            f"Expected {name} as a torch.Tensor, got {type(values).__name__}; convert it with torch.as_tensor"
        )
    if values.layout != torch.strided or values.is_meta or values.is_complex() or values.is_quantized:
        kind = "meta device" if values.is_meta else f"{values.dtype}, {values.layout}"
        raise TypeError(
            f"Expected {name} as a dense tensor of real numbers, got {kind}; convert it, for example with to_dense(), "
            "dequantize() or view_as_real()"
        )


def check_positive(value: Any, name: str, instead: str) -> None:
    """Raise ValueError unless ``value`` is a positive number whose square is a positive, finite one too."""
    try:
        positive = bool(1e-100 < value < 1e100)
    except (TypeError, ValueError, RuntimeError):
        positive = False
    if not positive:
        raise ValueError(f"Expected a positive and finite {name}, 1e-100 to 1e100, got {value!r}; pass {instead}")


def check_count(value: Any, name: str, low: int, high: int) -> None:
    """Raise ValueError unless ``value`` is an integer from ``low`` to ``high``."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"Expected {name} between {low} and {high}, got {value!r}; pass an integer in this range")
