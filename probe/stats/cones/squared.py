"""Squared distances between all observations of a trajectory: checks, lengths, and lengths that add up along a path.

The squared chord of a cosine distance c is 2 c, and its angle arccos(1 - c). In space, the squared steps of a random
walk add up to its squared distance. On a sphere their cosines multiply, and -2 log(cosine) adds up. It is the squared
angle where both are small.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from probe.stats.validation import as_numbers, as_vectors

Kind = Literal["cosine", "euclidean"]
_KINDS = "cosine", "euclidean"
_LEAST_COSINE = 0.01


def increasing(steps: ArrayLike, kind: str) -> np.ndarray:
    """Check the kind of the distances, and return the steps as an array."""
    if kind not in _KINDS:
        raise ValueError(f"Expected kind 'cosine' or 'euclidean', got {kind!r}; pass one of them")
    (s,) = as_vectors(steps=steps)
    if not np.isfinite(s).all() or (s < 0).any() or (np.diff(s) <= 0).any():
        raise ValueError("Expected finite, increasing steps of at least 0, got others; sort the observations by step")
    return s


def squared(name: str, distances: ArrayLike, n: int, kind: str) -> np.ndarray:
    """Return squared distances (n, n), or squared chords of cosine distances."""
    d = as_numbers(name, distances)
    if d.shape != (n, n):
        raise ValueError(f"Expected {name} of shape {(n, n)}, got {d.shape}; pass one row per step")
    scale = 1e-6 * np.abs(d).max(initial=0.0)
    if not np.isfinite(d).all() or (d < -scale - 1e-9).any() or (np.abs(d - d.T) > scale + 1e-9).any():
        raise ValueError(
            f"Expected {name} that are finite, symmetric and at least 0, got others; pass 1 - similarities, "
            "without the observations that have none"
        )
    d = np.maximum(d + d.T, 0) / 2
    d = 2 * d if kind == "cosine" else d**2
    np.fill_diagonal(d, 0)
    return d


def additive(d: np.ndarray, kind: str) -> np.ndarray:
    """Return squared lengths that add up along a random walk."""
    return -2 * np.log(np.maximum(1 - d / 2, _LEAST_COSINE)) if kind == "cosine" else d


def chords(lengths: np.ndarray, kind: str) -> np.ndarray:
    """Return the squared distances of squared lengths that add up."""
    return 2 * (1 - np.exp(-lengths / 2)) if kind == "cosine" else lengths


def length(d: np.ndarray, kind: str) -> np.ndarray:
    """Return angles (rad) of squared chords, or the distances of their squares."""
    found: np.ndarray = np.arccos(np.clip(1 - d / 2, -1, 1)) if kind == "cosine" else np.sqrt(d)
    return found
