r"""Geometry of a representation: total variance, participation ratio, and how well class means separate the classes.

These numbers help to interpret an information. If an information follows only the scale, or only a few directions, its
decrease is not a compression. If I(T+n; Y) is below the bound that class means give, the noise hides the labels; the
layer has not lost them. With C = Cov(T), K classes, and the error e of the nearest class mean on the same rows,

    participation ratio = (tr C)^2 / tr C^2                     (at most min(n - 1, d))
    within share        = mean |t_i - mean of its class|^2 / tr C
    I(T; Y) >= H(Y) - h(e) - e log2(K - 1)                      (Fano [1]_; h is the binary entropy)

.. [1] Cover and Thomas 2006, Elements of Information Theory, theorem 2.10.1.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from probe.information.discrete import check_codes, discrete_entropy
from probe.information.validation import class_codes, normalise_rows


class RepresentationGeometry(NamedTuple):
    """Result of :func:`representation_geometry`.

    Attributes
    ----------
    variance : float
        tr Cov(T), in squared units of the activations.
    participation_ratio : float
        Effective number of directions of the rows. NaN if the variance is 0.
    within_share : float or None
        Share of the variance within classes, from 0 to 1. None without labels, NaN if the variance is 0.
    class_mean_accuracy : float or None
        Share of the rows whose nearest class mean is that of their own class. None without labels.
    fano_bound : float or None
        Fano's lower bound on I(T; Y) at this accuracy, in bits. None without labels.
    """

    variance: float
    participation_ratio: float
    within_share: float | None
    class_mean_accuracy: float | None
    fano_bound: float | None


def representation_geometry(activations: Tensor, labels: Tensor | None = None) -> RepresentationGeometry:
    """Variance and participation ratio of the rows, and the separation of their classes.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,), optional
        Classes of the rows.

    Returns
    -------
    RepresentationGeometry
        The accuracy is measured on the rows that determine the class means. A class of one row is therefore always
        recognised.

    Raises
    ------
    ValueError
        If ``activations`` is not a finite matrix of at least two rows, or if ``labels`` does not match its rows.

    See Also
    --------
    fano_bound : The bound alone.
    probe.geometry.effective_rank : Another effective number of directions, from the entropy of a spectrum.

    Examples
    --------
    The four corners of a square spread equally in two directions. Each class is one side.

    >>> import torch
    >>> from probe.information import representation_geometry
    >>> corners = torch.tensor([[-1.0, -1.0], [-1.0, 1.0], [1.0, -1.0], [1.0, 1.0]])
    >>> result = representation_geometry(corners, torch.tensor([0, 0, 1, 1]))
    >>> round(result.variance, 6), round(result.participation_ratio, 6), round(result.within_share, 6)
    (2.0, 2.0, 0.5)
    >>> result.class_mean_accuracy, round(result.fano_bound, 6)
    (1.0, 1.0)
    """
    normalised = normalise_rows(activations)
    return geometry_of(normalised, None if labels is None else class_codes(labels, activations))


def geometry_of(normalised: tuple[Tensor, float, bool], codes: Tensor | None) -> RepresentationGeometry:
    """Return the geometry of rows of total variance 1, see :func:`probe.information.validation.normalise_rows`."""
    rows, variance, collapsed = normalised
    single = rows.float()  # the ratio of sums of squares needs no more
    product = single.T @ single if len(rows) > rows.shape[1] else single @ single.T
    ratio = math.nan if collapsed else (len(rows) ** 2 / product.double().square().sum()).item()
    if codes is None:
        return RepresentationGeometry(variance, ratio, None, None, None)
    sizes = codes.bincount()
    means = rows.new_zeros(len(sizes), rows.shape[1]).index_add_(0, codes, rows) / sizes[:, None]
    between = (means.square().sum(1) * sizes).sum().item() / len(rows)
    nearest = (rows @ means.T - means.square().sum(1) / 2).argmax(1)
    accuracy = (nearest == codes).double().mean().item()
    within = math.nan if collapsed else min(max(1 - between, 0.0), 1.0)
    return RepresentationGeometry(variance, ratio, within, accuracy, fano_bound(accuracy, codes))


def fano_bound(accuracy: float, codes: Tensor) -> float:
    """Fano's lower bound on I(T; Y), in bits, for a decoder of Y from T with a given accuracy.

    Parameters
    ----------
    accuracy : float
        Share of rows that the decoder classifies correctly, from 0 to 1.
    codes : int64 Tensor of shape (n,)
        The labels as codes 0, ..., K-1, see :func:`label_codes`.

    Returns
    -------
    float
        max(0, H(Y) - h(e) - e log2(K - 1)) with e = 1 - accuracy (Cover and Thomas 2006, theorem 2.10.1).

    See Also
    --------
    representation_geometry : The bound for the nearest class mean.
    decodable_information : The lower bound of a linear decoder.

    Examples
    --------
    Perfect decoding of two equally frequent classes needs one bit. Decoding at chance needs none.

    >>> import torch
    >>> from probe.information import fano_bound
    >>> codes = torch.tensor([0, 1])
    >>> round(fano_bound(1.0, codes), 6), round(fano_bound(0.5, codes), 6)
    (1.0, 0.0)
    """
    check_codes(codes, "codes")
    if not 0 <= accuracy <= 1:
        raise ValueError(f"Expected an accuracy from 0 to 1, got {accuracy}; pass the share of right answers")
    error, n_others = 1 - accuracy, int(codes.max())
    binary = torch.special.entr(torch.tensor([error, accuracy], dtype=torch.float64)).sum().item() / math.log(2)
    return max(0.0, discrete_entropy(codes) - binary - (error * math.log2(n_others) if n_others else 0.0))
