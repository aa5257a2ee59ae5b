"""A linear read-out that is fitted again to frozen features of the training rows."""

from dataclasses import dataclass

import torch
from torch import Tensor

_PENALTIES = torch.logspace(-8, 2, 21, dtype=torch.float64)  # over the mean eigenvalue of the covariance
_FLAT = 1e-6  # of the largest feature: a smaller standard deviation is rounding


@dataclass(frozen=True)
class ReadOut:
    """Ridge regression on features of mean 0 and variance 1.

    Its penalty has the least squared leave-one-out error on the training rows; no other row counts.
    """

    mean: Tensor
    scale: Tensor
    weights: Tensor
    offset: Tensor
    penalty: float

    def __call__(self, rows: Tensor) -> Tensor:
        """Return predictions (m, columns) for rows (m, d)."""
        return ((rows.double() - self.mean) / self.scale) @ self.weights + self.offset


def fit_read_out(rows: Tensor, columns: Tensor) -> ReadOut:
    """Return the read-out of features (n, d) for targets (n, columns)."""
    rows, columns = rows.double(), columns.double().to(rows.device)
    mean, offset, scale = rows.mean(0), columns.mean(0), rows.std(0)
    constant = scale <= _FLAT * rows.abs().amax(0)
    scale = scale.masked_fill(constant, torch.inf)
    x, y = (rows - mean) / scale, columns - offset
    u, s, vt = torch.linalg.svd(x, full_matrices=False)
    squares, projected = s.square(), u.T @ y
    mean_square = squares.mean().clamp_min(torch.finfo(torch.float64).tiny)
    errors = []
    for penalty in _PENALTIES.to(rows.device) * mean_square:
        shrunk = squares / (squares + penalty)
        leverage = u.square() @ shrunk + 1 / len(rows)
        residual = (y - u @ (shrunk[:, None] * projected)) / (1 - leverage).clamp_min(1e-9)[:, None]
        errors.append(residual.square().mean())
    best = _PENALTIES.to(rows.device)[torch.stack(errors).argmin()]
    weights = vt.T @ ((s / (squares + best * mean_square))[:, None] * projected)
    return ReadOut(mean, scale, weights, offset, float(best))
