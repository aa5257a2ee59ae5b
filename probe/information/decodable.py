r"""Information about a target that a linear decoder finds in a layer: a lower bound on I(T; Y), in bits.

The cross-entropy of any classifier q on rows it was not fitted to is at least H(Y | T), so [1]_

    class targets        I(T; Y) >= H(Y) - E[ -log2 q(y | t) ]
    continuous targets   I(T; Y) >= -1/2 log2 (1 - R^2)          (Y normal; E[(y - f(t))^2] = (1 - R^2) Var y)

with logistic and ridge regression on standardised units and k-fold cross-validation. The bounds hold for expectations:
allow for the standard error. I(T; Y) does not change when Y is mapped one-to-one, so continuous targets are first
replaced by the normal scores of their ranks: the second bound then needs no assumption on their distribution. It is
what *this* decoder finds; a layer may hold more than is linear, and only a decoder that is better by itself shows it.

.. [1] Barber and Agakov 2003, The IM algorithm; as "usable" information: Xu et al. 2020, arXiv:2002.10689.
"""

import math
import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, ndtri
from scipy.stats import rankdata
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from probe.information.discrete import class_codes, discrete_entropy, rows

Array = NDArray[np.float64]
_ITERATIONS = 1000
_PENALTIES = np.logspace(-2, 4, 7)  # of ridge regression, chosen within the training rows


class DecodableInformation(NamedTuple):
    """A lower bound in bits, not below 0; as it came out (``raw``); its standard error over folds; H(Y) if it has one.

    ``converged`` tells whether all fits did; the bound holds without, and is looser.
    """

    value: float
    raw: float
    se: float
    ceiling: float | None
    converged: bool


def decodable_information(
    z: Tensor,
    targets: Tensor,
    *,
    continuous: bool = False,
    folds: int = 5,
    strength: float = 1.0,
    random_state: int = 0,
) -> DecodableInformation:
    """Lower bound on I(T; Y) by a cross-validated linear decoder.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    targets : Tensor of shape (n,)
        Integer classes, each with at least ``folds`` rows; or real numbers, with ``continuous=True``.
    continuous
        Take the targets as real numbers.
    folds
        Number of parts; each is predicted by a decoder fitted to the others.
    strength
        Inverse penalty of the logistic regression. Ridge regression chooses its own.
    random_state
        Seed of the parts.

    Returns
    -------
    DecodableInformation
    """
    t = rows(z).detach().cpu().numpy()
    if not 2 <= folds <= len(t) // 2:
        raise ValueError(f"folds must be between 2 and n/2 = {len(t) // 2}, got {folds}")
    if continuous:
        return _regression(t, _normal_scores(targets, len(t)), folds, random_state)
    classes = class_codes(targets, z)
    fewest = int(classes.bincount().min())
    if fewest < folds:
        raise ValueError(f"each class needs at least {folds} rows, one a fold, but one has {fewest}: fewer folds?")
    return _classification(t, classes.cpu().numpy(), discrete_entropy(classes), folds, strength, random_state)


def _classification(
    t: Array, y: NDArray[np.int64], ceiling: float, folds: int, strength: float, random_state: int
) -> DecodableInformation:
    if ceiling == 0:
        return DecodableInformation(0.0, 0.0, 0.0, 0.0, True)
    decoder = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=_ITERATIONS))
    losses, converged = [], True
    for fitted, held in StratifiedKFold(folds, shuffle=True, random_state=random_state).split(t, y):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it is in the result
            decoder.fit(t[fitted], y[fitted])
        converged &= bool(decoder[-1].n_iter_.max() < _ITERATIONS)
        scores = decoder.decision_function(t[held])
        if scores.ndim == 1:  # of two classes only one has a score
            scores = np.stack([np.zeros_like(scores), scores], 1)
        losses.append(-log_softmax(scores, axis=1)[np.arange(len(held)), y[held]].mean() / math.log(2))
    raw = ceiling - float(np.mean(losses))
    return DecodableInformation(max(raw, 0.0), raw, _standard_error(losses), ceiling, converged)


def _regression(t: Array, y: Array, folds: int, random_state: int) -> DecodableInformation:
    decoder = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))
    errors = []
    for fitted, held in KFold(folds, shuffle=True, random_state=random_state).split(t):
        residual = y[held] - decoder.fit(t[fitted], y[fitted]).predict(t[held])
        errors.append(np.square(residual).mean())
    error = float(np.mean(errors))
    if error == 0:
        raise ValueError("the targets are predicted without error: their information is infinite")
    raw = -math.log2(error / y.var()) / 2
    return DecodableInformation(max(raw, 0.0), raw, _standard_error(errors) / (2 * math.log(2) * error), None, True)


def _normal_scores(targets: Tensor, n: int) -> Array:
    """Ranks as quantiles of a normal distribution."""
    if targets.shape != (n,) or not targets.isfinite().all():
        raise ValueError(f"continuous targets must be {n} finite numbers, one a row, got shape {tuple(targets.shape)}")
    y = targets.detach().double().cpu().numpy()
    if len(np.unique(y)) < 0.9 * n:
        raise ValueError(f"targets take {len(np.unique(y))} values in {n} rows: not continuous; pass classes instead")
    return np.asarray(ndtri(rankdata(y) / (n + 1)))


def _standard_error(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) / math.sqrt(len(values))
