r"""Information about a target that a linear decoder extracts from a layer: a lower bound on I(T; Y), in bits.

The cross-entropy of any classifier q on rows that it was not fitted to is at least H(Y | T). Therefore [1]_

    class targets        I(T; Y) >= H(Y) - E[ -log2 q(y | t) ]
    continuous targets   I(T; Y) >= -1/2 log2 (1 - R^2)          (Y normal; E[(y - f(t))^2] = (1 - R^2) Var y)

The decoders are logistic and ridge regression on standardised units, with k-fold cross-validation. The bounds hold for
expectations, so an estimate can exceed the truth by a few standard errors.

I(T; Y) is invariant under one-to-one maps of Y. Continuous targets are therefore replaced by the normal scores of their
ranks, and the second bound needs no assumption on their distribution. The bound measures what *this* decoder finds. A
layer can contain information that is not linear; only a better decoder can show it.

.. [1] Barber and Agakov 2003, The IM algorithm; as "usable" information: Xu et al. 2020, arXiv:2002.10689.
.. [2] Nadeau and Bengio 2003, Inference for the generalization error, Machine Learning 52, 239.
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

from probe.information.arguments import check_positive, check_tensor
from probe.information.discrete import discrete_entropy
from probe.information.validation import as_rows, class_codes

Array = NDArray[np.float64]
_ITERATIONS = 1000
_PENALTIES = np.logspace(-2, 4, 7)  # of ridge regression, chosen within the training rows
_MIN_DISTINCT = 0.9  # share of distinct values from which targets count as continuous


class DecodableInformation(NamedTuple):
    """Result of :func:`decodable_information`, in bits.

    Attributes
    ----------
    value : float
        The lower bound on I(T; Y), clipped at 0.
    raw : float
        The lower bound before clipping.
    se : float
        Standard error of ``raw``, from the spread over folds, corrected because their decoders share rows (Nadeau and
        Bengio 2003). Over draws of 50 to 500 rows, +- 2 se contains the mean in 82 to 98 % of the cases.
    ceiling : float or None
        H(Y). None for continuous targets.
    converged : bool
        Whether all fits converged. Without convergence the bound is valid, but looser.
    """

    value: float
    raw: float
    se: float
    ceiling: float | None
    converged: bool


def decodable_information(
    activations: Tensor,
    targets: Tensor,
    *,
    continuous: bool = False,
    n_folds: int = 5,
    inverse_penalty: float = 1.0,
    random_state: int = 0,
) -> DecodableInformation:
    """Lower bound on I(T; Y), in bits, from a cross-validated linear decoder.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    targets : Tensor of shape (n,)
        Integer classes, each with at least ``n_folds`` rows, or real numbers with ``continuous=True``.
    continuous : bool
        Whether the targets are real numbers.
    n_folds : int
        Number of folds. A decoder that is fitted to the other folds predicts each fold.
    inverse_penalty : float
        Inverse regularisation strength of the logistic regression (``C`` of scikit-learn). Ridge regression chooses
        its penalty by cross-validation within the training rows.
    random_state : int
        Seed of the folds.

    Returns
    -------
    DecodableInformation

    Raises
    ------
    ValueError
        If the folds are too many for the rows or for a class, if ``targets`` does not match the rows, if continuous
        targets are not finite or have many ties, or if continuous targets are predicted without error.

    See Also
    --------
    channel_information : Information through Gaussian noise, including what is not linear.
    fano_bound : Lower bound from an accuracy.

    Examples
    --------
    Two distant clusters contain nearly one bit about their label.

    >>> import torch
    >>> from probe.information import decodable_information
    >>> labels = torch.arange(40) % 2
    >>> result = decodable_information(labels[:, None].float(), labels, inverse_penalty=1e4)
    >>> round(result.value, 2), result.ceiling
    (1.0, 1.0)
    """
    rows = as_rows(activations).detach().cpu().numpy()
    if n_folds not in range(2, len(rows) // 2 + 1):
        raise ValueError(
            f"Expected n_folds between 2 and n/2 = {len(rows) // 2}, got {n_folds}; change n_folds or pass more rows"
        )
    check_positive(inverse_penalty, "inverse_penalty", "a number such as 1.0")
    if continuous:
        return _regression(rows, _normal_scores(targets, len(rows)), n_folds, random_state)
    codes = class_codes(targets, activations)
    smallest = int(codes.bincount().min())
    if smallest < n_folds:
        raise ValueError(
            f"Expected at least {n_folds} rows of each class, one per fold, got a class of {smallest}; lower n_folds, "
            "or drop rare classes"
        )
    entropy = discrete_entropy(codes)
    return _classification(rows, codes.cpu().numpy(), entropy, n_folds, inverse_penalty, random_state)


def _classification(
    rows: Array, codes: NDArray[np.int64], ceiling: float, n_folds: int, inverse_penalty: float, random_state: int
) -> DecodableInformation:
    if ceiling == 0:
        return DecodableInformation(0.0, 0.0, 0.0, 0.0, True)
    decoder = make_pipeline(StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=_ITERATIONS))
    losses, converged = [], True
    for fitted, held in StratifiedKFold(n_folds, shuffle=True, random_state=random_state).split(rows, codes):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the field `converged` of the result replaces it
            decoder.fit(rows[fitted], codes[fitted])
        converged &= bool(decoder[-1].n_iter_.max() < _ITERATIONS)
        scores = decoder.decision_function(rows[held])
        if scores.ndim == 1:  # scikit-learn returns one score for two classes
            scores = np.stack([np.zeros_like(scores), scores], 1)
        losses.append(-log_softmax(scores, axis=1)[np.arange(len(held)), codes[held]].mean() / math.log(2))
    raw = ceiling - float(np.mean(losses))
    return DecodableInformation(max(raw, 0.0), raw, _standard_error(losses), ceiling, converged)


def _regression(rows: Array, scores: Array, n_folds: int, random_state: int) -> DecodableInformation:
    decoder = make_pipeline(StandardScaler(), RidgeCV(_PENALTIES))
    errors = []
    for fitted, held in KFold(n_folds, shuffle=True, random_state=random_state).split(rows):
        residual = scores[held] - decoder.fit(rows[fitted], scores[fitted]).predict(rows[held])
        errors.append(np.square(residual).mean())
    error = float(np.mean(errors))
    if error == 0:
        raise ValueError(
            "Expected targets with a prediction error above 0, got an error of 0; their information is infinite, so "
            "remove the targets from the activations"
        )
    raw = -math.log2(error / scores.var()) / 2
    return DecodableInformation(max(raw, 0.0), raw, _standard_error(errors) / (2 * math.log(2) * error), None, True)


def _normal_scores(targets: Tensor, n_rows: int) -> Array:
    """Return the ranks as quantiles of a normal distribution."""
    check_tensor(targets, "targets")
    if targets.shape != (n_rows,) or not targets.isfinite().all():
        raise ValueError(
            f"Expected {n_rows} finite numbers as continuous targets, got shape {tuple(targets.shape)} with "
            f"{int(targets.isfinite().sum())} finite numbers; pass one finite number per row"
        )
    values = targets.detach().double().cpu().numpy()
    n_distinct = len(np.unique(values))
    if n_distinct < _MIN_DISTINCT * n_rows:
        raise ValueError(
            f"Expected continuous targets, got {n_distinct} distinct values in {n_rows} rows; pass integer classes "
            "with continuous=False"
        )
    return np.asarray(ndtri(rankdata(values) / (n_rows + 1)))


def _standard_error(values: list[float]) -> float:
    """Return the standard error of a mean over folds, whose decoders share rows: 1.5 times larger for 5 folds."""
    return float(np.std(values, ddof=1)) * math.sqrt(1 / len(values) + 1 / (len(values) - 1))
