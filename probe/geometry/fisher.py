"""How many parameters the data determine, from the empirical Fisher matrix of n examples.

With the gradients g_i of the losses of the examples (minus log-likelihoods, in nats), the empirical Fisher matrix is
F = (1/n) sum_i g_i g_i^T, (P, P). The Gram matrix of the gradients, (n, n), has the eigenvalues e_k = n lambda_k of n F
that are not 0. A prior with the precision a (1 over variance) of each parameter is compared with them (MacKay 1992,
Neural Computation 4, 415):

    rank above the level a      number of e_k > a: the data determine this direction better than the prior
    well-determined parameters  sum_k e_k / (e_k + a)
    participation ratio         (sum_k e_k)^2 / sum_k e_k^2, without a level

The default level is the prior that is most probable for these parameters w, a = gamma / |w|^2 (equation 4.10), with
gamma the number of well-determined parameters at this level. This equation has one solution, because gamma falls with
the level. So a direction counts if a movement of length |w| / sqrt(gamma) along it changes the log-likelihood of the n
examples by more than 1/2 nat, in the quadratic approximation e_k |dw|^2 / 2. The default depends neither on the unit of
the parameters nor on their number.
"""

import math
from typing import NamedTuple

import torch
from scipy.optimize import brentq
from torch import Tensor

from probe.geometry.spectra import participation_ratio


class FisherNumbers(NamedTuple):
    """Numbers of an empirical Fisher matrix.

    Attributes
    ----------
    rank : float
        Number of eigenvalues of n F above the level.
    determined : float
        Number of well-determined parameters, at most ``min(n, P)``.
    participation_ratio : float
        1 to ``min(n, P)``.
    trace : float
        Trace of F, the mean squared norm of the gradients, in nats^2 over the squared unit of the parameters.
    level : float
        The level, in 1 over the squared unit of the parameters.
    """

    rank: float
    determined: float
    participation_ratio: float
    trace: float
    level: float


def fisher_numbers(gram: Tensor, norm: float, *, level: float | None = None, rounding: float = 0.0) -> FisherNumbers:
    """Return rank, number of well-determined parameters and participation ratio of an empirical Fisher matrix.

    Parameters
    ----------
    gram : Tensor of shape (n, n)
        Inner products of the gradients of the losses of n examples, in nats^2 over the squared unit of the parameters.
    norm : float
        Euclidean norm of the parameters.
    level : float, optional
        Least eigenvalue of n F that counts. Default: ``determined / norm**2``, see above.
    rounding : float
        Relative precision of the gradients. The level is at least this share of the trace of ``gram``.

    Returns
    -------
    FisherNumbers
        All numbers but the trace are NaN if all gradients are 0, values are not finite, or the norm is 0 and
        ``level`` is None.

    Raises
    ------
    ValueError
        If ``gram`` is no square matrix, or the level is not positive.

    See Also
    --------
    probe.FisherProbe : The same over training, for each layer.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import fisher_numbers
    >>> found = fisher_numbers(torch.diag(torch.tensor([9.0, 1.0, 0.1])), norm=1.0, level=1 / 3)
    >>> found.rank, round(found.determined, 2), round(found.participation_ratio, 2)
    (2.0, 1.95, 1.24)
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or not len(gram):
        raise ValueError(f"Expected a square matrix, got shape {tuple(gram.shape)}; pass G @ G.T of the gradients G")
    if level is not None and not 0 < level < math.inf:
        raise ValueError(f"Expected a positive level, got {level}; pass a precision, or None for the default")
    total, n = gram.trace().item(), len(gram)
    if not (0 < total < math.inf and torch.isfinite(gram).all() and (level is not None or 0 < norm < math.inf)):
        return FisherNumbers(math.nan, math.nan, math.nan, total / n, math.nan)
    eigenvalues = torch.linalg.eigvalsh(gram.double()).clamp(min=0)
    a = max(_evidence_level(eigenvalues, norm) if level is None else level, rounding * total)
    determined = (eigenvalues / (eigenvalues + a)).sum().item()
    rank = float((eigenvalues > a).sum())
    return FisherNumbers(rank, determined, participation_ratio(eigenvalues).item(), total / n, a)


def _evidence_level(eigenvalues: Tensor, norm: float) -> float:
    """Return the level a with a = gamma / norm^2, where gamma is the number of well-determined parameters at a."""
    sizes = eigenvalues * norm**2

    def excess(gamma: float) -> float:
        return (sizes / (sizes + gamma)).sum().item() - gamma

    return float(brentq(excess, 1e-300, len(sizes))) / norm**2
