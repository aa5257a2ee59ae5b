"""Stochastic gradient descent on a convex problem, for many draws at once: its loss without noise only falls.

Softmax regression on a fixed sample. Each curve is the loss of the whole sample, which the descent minimises: full
gradients of the same rates make it fall at every step.
"""

from collections.abc import Callable

import numpy as np

STEPS, BATCH = 600, 8
N_ROWS, N_INPUTS, N_CLASSES = 200, 10, 5
RATE = 0.5  # full gradients fall monotonically up to about 3


def _cyclic(t: np.ndarray) -> np.ndarray:
    """Six triangles between the tenth of the rate and the rate."""
    return 0.1 + 0.9 * np.abs((12 * t / STEPS + 1) % 2 - 1)


SCHEDULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "constant": lambda t: np.ones_like(t),
    "steps": lambda t: 0.1 ** (3 * t // STEPS),
    "cosine": lambda t: (1 + np.cos(np.pi * t / STEPS)) / 2,
    "cyclic": _cyclic,
}


def problem() -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs with a column of ones, (rows, inputs), and the one-hot classes, (rows, classes)."""
    generator = np.random.default_rng(0)
    inputs = generator.standard_normal((N_ROWS, N_INPUTS))
    logits = inputs @ generator.standard_normal((N_INPUTS, N_CLASSES)) + generator.gumbel(size=(N_ROWS, N_CLASSES))
    inputs = np.column_stack([inputs, np.ones(N_ROWS)]).astype(np.float32)
    return inputs, np.eye(N_CLASSES, dtype=np.float32)[logits.argmax(1)]


def losses(schedule: str, draws: int, generator: np.random.Generator, batch: int | None = BATCH) -> np.ndarray:
    """Return the loss before each step, (draws, STEPS); ``batch=None`` takes full gradients."""
    inputs, classes = problem()
    rates = RATE * SCHEDULES[schedule](np.arange(STEPS, dtype=float))
    weights = np.zeros((draws, N_INPUTS + 1, N_CLASSES), np.float32)
    curves = np.empty((draws, STEPS))
    for t, rate in enumerate(rates):
        probabilities, curves[:, t] = _softmax(inputs @ weights, classes)
        residuals = probabilities - classes
        if batch is None:
            gradient = inputs.T @ residuals / N_ROWS
        else:
            rows = generator.integers(N_ROWS, size=(draws, batch))
            chosen = np.take_along_axis(residuals, rows[:, :, None], 1)
            gradient = inputs[rows].transpose(0, 2, 1) @ chosen / batch
        weights -= np.float32(rate) * gradient
    return curves


def _softmax(logits: np.ndarray, classes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the probabilities, (draws, rows, classes), and the mean cross-entropy, (draws,)."""
    logits -= logits.max(-1, keepdims=True)
    true = (logits * classes).sum(-1)
    exponentials = np.exp(logits, out=logits)
    totals = exponentials.sum(-1)
    return exponentials / totals[..., None], (np.log(totals) - true).mean(-1)
