"""Checks of the arguments of :mod:`probe.stats`, so that an error states what was expected and what to do."""

from typing import Any

import numpy as np


def as_vectors(**values: Any) -> tuple[np.ndarray, ...]:
    """Return float64 arrays (n,) of one length; raise ValueError otherwise. The names appear in the message."""
    found = {name: as_numbers(name, value) for name, value in values.items()}
    if any(array.ndim != 1 for array in found.values()) or len({array.shape for array in found.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
        raise ValueError(f"Expected {_and(found)} of one shape (n,), got {shapes}; pass one number per observation")
    return tuple(found.values())


def as_curves(values: Any) -> np.ndarray:
    """Return a float64 array of shape (curves, n), n >= 4; raise ValueError otherwise."""
    array = as_numbers("values", values)
    if array.ndim != 2 or array.shape[1] < 4:
        raise ValueError(
            f"Expected values of shape (curves, n) with n >= 4, got {array.shape}; pass values[None] of one"
        )
    return array


def as_numbers(name: str, values: Any) -> np.ndarray:
    """Return a float64 array; raise ValueError for text, complex numbers, and what is no array."""
    try:
        found = np.asarray(values)
        if found.dtype.kind in "biufO":
            return np.asarray(found, dtype=float)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a tensor with a gradient
        pass
    raise ValueError(f"Expected numbers as {name}, got {_described(values)}; pass an array of real numbers")


def check_level(level: Any) -> None:
    """Raise ValueError unless ``level`` is a coverage."""
    check_number("level", level, 0, 1, "a coverage such as 0.9")


def check_number(name: str, value: Any, low: float, high: float, instead: str) -> None:
    """Raise ValueError unless ``value`` is a number strictly between ``low`` and ``high``."""
    try:
        inside = bool(low < value < high)
    except (TypeError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise ValueError(f"Expected {name} between {low:g} and {high:g}, got {_described(value)}; pass {instead}")


def check_count(name: str, value: Any, least: int) -> None:
    """Raise ValueError unless ``value`` is an integer of at least ``least``."""
    if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or not least <= value < 2**31:
        raise ValueError(f"Expected an integer of at least {least} as {name}, got {_described(value)}; pass one")


def check_bounds(low: np.ndarray, high: np.ndarray) -> None:
    """Raise ValueError if a bound is NaN, or a lower bound is above its upper bound."""
    if not (low <= high).all():
        wrong = ~(low <= high)
        raise ValueError(
            f"Expected lower bounds of at most the upper ones, got {low[wrong][0]} and {high[wrong][0]}; pass -inf or "
            "inf where a value has no bound"
        )


def _described(value: Any) -> str:
    """Return a value on one short line."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _and(names: Any) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
