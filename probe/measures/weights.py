"""Norms, ranks and spectral entropy of weight matrices.

For a matrix W with singular values s_k: the Frobenius norm, the stable rank sum s^2 / max s^2, the effective rank
exp(entropy of s / sum s) (Roy and Vetterli 2007), this entropy in bits, and the participation ratio
(sum s^2)^2 / sum s^4; see :mod:`probe.geometry.spectra`. All are functions of the parameters alone and need no data.
The weight is the one that the layer computes with, see :mod:`probe.forward.effective_weights`. Weight decay shrinks the
norm whether or not the network learns, and in front of a normalising layer the norm has no effect on the output.

On request, the probe also measures the entropy of each matrix's histogram, the quantity on the axes of the information
plane of arXiv:2504.12700: see :mod:`probe.information.weight_histogram`.
"""

import math
from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from probe.base import Measured, Probe, Snapshot
from probe.errors import warn_user
from probe.forward.effective_weights import effective_weights
from probe.forward.passes import Tap
from probe.forward.shards import whole
from probe.geometry.spectra import (
    BLOCK,
    effective_rank,
    participation_ratio,
    spectral_entropy,
    squared_singular_values,
    stable_rank,
)
from probe.information.validation import to_float64_device
from probe.information.weight_histogram import weight_histogram_entropy
from probe.layer_probe import Variables, tabulated

_VARIABLES: Variables = {
    "weight_norm": ("1", "Frobenius norm", False),
    "weight_stable_rank": ("1", "stable rank", False),
    "weight_effective_rank": ("1", "effective rank of singular values", False),
    "weight_spectral_entropy": ("bits", "entropy of singular values", False),
    "weight_participation_ratio": ("1", "participation ratio of squared singular values", False),
    "weight_rank_undefined": ("1", "zero or not finite", True),
}
_HISTOGRAM: Variables = {
    "weight_histogram_entropy": (
        "bits",
        "entropy of the histogram of weights: 29 bins on [-1, 1], one for all outside",
        False,
    )
}


class WeightSummary(NamedTuple):
    """Norm, ranks (in units of 1) and entropy (bits) of one matrix; NaN if undefined, as ``undefined`` flags."""

    norm: float
    stable_rank: float
    effective_rank: float
    spectral_entropy: float
    participation_ratio: float
    undefined: int


def weight_summary(weight: Tensor, *, max_side: int = 2048) -> WeightSummary:
    """Return norm, ranks and entropy of a weight tensor.

    Parameters
    ----------
    weight : Tensor of shape (out, in) or (k, out, in)
        A matrix; or a stack of matrices (k, out, in) that act on different inputs, so that they are the blocks of one
        block-diagonal matrix. More dimensions are read as (out, rest).
    max_side : int
        Largest smaller side for which singular values are computed. Their time grows with its third power.

    Returns
    -------
    WeightSummary
        ``undefined`` is 1 for a matrix of zeros or with NaN or infinite entries, -1 above ``max_side``, else 0.

    Raises
    ------
    TypeError
        If ``weight`` is no tensor of real or complex floating-point numbers.
    ValueError
        If ``weight`` has fewer than two dimensions.

    See Also
    --------
    frobenius_norm : The norm alone, of a tensor of any shape.
    probe.WeightsProbe : The same numbers over training.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import weight_summary
    >>> found = weight_summary(torch.diag(torch.tensor([2.0, 2.0, 2.0, 2.0])))
    >>> round(found.norm, 4), round(found.stable_rank, 4), round(found.spectral_entropy, 4)
    (4.0, 4.0, 2.0)
    """
    _check_weight(weight)
    matrices, norm = weight if weight.ndim == 3 else weight.flatten(1)[None], frobenius_norm(weight)
    undefined = not 0 < norm < math.inf
    if undefined or min(matrices.shape[1:]) > max_side:
        return WeightSummary(norm, *4 * (math.nan,), 1 if undefined else -1)
    if 1 in matrices.shape[1:]:  # vectors, as the kernels of a depthwise convolution, of which there are thousands
        squares = matrices.flatten(1).to(torch.promote_types(matrices.dtype, torch.float64)).abs().square().sum(1)
    else:
        squares = torch.cat([squared_singular_values(matrix) for matrix in matrices])
    values = squares.sqrt()
    ranks = stable_rank(squares).item(), effective_rank(values).item()
    return WeightSummary(norm, *ranks, spectral_entropy(values).item(), participation_ratio(squares).item(), 0)


def _check_weight(weight: Any) -> None:
    """Raise an error unless ``weight`` is a floating-point tensor of two or more dimensions."""
    if not isinstance(weight, Tensor) or not (weight.is_floating_point() or weight.is_complex()):
        kind = weight.dtype if isinstance(weight, Tensor) else type(weight).__name__
        raise TypeError(f"Expected weight as a floating-point tensor, got {kind}; convert it with .float()")
    if weight.ndim < 2:
        raise ValueError(
            f"Expected a matrix (out, in) or a stack of them, got shape {tuple(weight.shape)}; reshape it, or use "
            "frobenius_norm"
        )


def frobenius_norm(weight: Tensor) -> float:
    """Return the root of the sum of squares of a tensor, summed in float64 block by block.

    Parameters
    ----------
    weight : Tensor of any shape
        Numbers of any precision, also complex.

    Returns
    -------
    float
        Norm in the units of ``weight``; NaN or infinite if an entry is.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import frobenius_norm
    >>> frobenius_norm(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
    5.0
    """
    dtype = torch.promote_types(weight.dtype, torch.float64)
    parts = (part if part.dtype.is_floating_point or part.is_complex() else part.to(dtype) for part in _blocks(weight))
    return math.hypot(*(torch.linalg.vector_norm(part, dtype=dtype).item() for part in parts))


def _blocks(weight: Tensor) -> tuple[Tensor, ...]:
    return weight.flatten().split(BLOCK)


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Return the matrices with which the modules of a model compute.

    Parameters
    ----------
    model : torch.nn.Module
        Any module.

    Returns
    -------
    dict of str to Tensor
        Floating-point matrices (out, in) by the names of ``model.named_parameters()``, each once: a tied one under its
        first name. A stack (k, out, in) holds matrices that act on different inputs: the groups of a convolution, or
        experts. A parametrised, pruned or quantised weight is the one that the layer computes with. A layer with
        adapters (LoRA) is one matrix, ``"<name of the layer>.weight"``. The projections of
        :class:`torch.nn.MultiheadAttention` are three matrices.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import weight_matrices
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Linear(4, 2))
    >>> list(weight_matrices(model))
    ['0.weight', '2.weight']
    """
    return dict(effective_weights(model).matrices)


class WeightsProbe(Probe):
    """Measure norms and ranks of each weight matrix, and the norm of all trainable parameters.

    Parameters
    ----------
    max_side : int
        Largest smaller side of a matrix for which ranks are computed; larger ones have a norm and the flag -1.
    histogram : bool
        Whether to measure ``weight_histogram_entropy``.
    device
        Device of the singular values. Default: the device of the weights.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, parameter), with the names of :func:`probe.measures.weight_matrices`, with frozen matrices:
        ``weight_norm``, ``weight_stable_rank``, ``weight_effective_rank``, ``weight_spectral_entropy`` (bits),
        ``weight_participation_ratio``, and the flag ``weight_rank_undefined`` (see
        :func:`probe.measures.weight_summary`). By step: ``weight_norm_total``, the root of the sum of squares of all
        trainable parameters, vectors too, each once, which is the norm that weight decay acts on. The matrices are
        those of the first observation. If the model loses one of them later, it is NaN from then on; later ones are
        named in a warning and count in ``weight_norm_total`` alone. The attribute ``tied`` lists further names of
        measured matrices, and ``left_out`` weights that could not be read; these are a warning too.

        With ``histogram`` also ``weight_histogram_entropy`` by (step, parameter), in bits, at most log2 30. It is the
        quantity that arXiv:2504.12700 plots as information, and it depends on no data. If a weight is not finite, the
        entropy is NaN and ``weight_rank_undefined`` is 1.

    See Also
    --------
    probe.measures.weight_summary : The same numbers of one matrix.

    Examples
    --------
    >>> import torch
    >>> from probe import WeightsProbe
    >>> model = torch.nn.Linear(3, 3, bias=False)
    >>> _ = model.weight.data.copy_(torch.eye(3))
    >>> series = WeightsProbe().fit(model, (torch.zeros(2, 3), None)).series_
    >>> round(series["weight_stable_rank"].item(), 4), round(series["weight_norm_total"].item(), 4)
    (3.0, 1.7321)
    """

    _known_new: Set[str] = frozenset()  # matrices of which a warning was issued

    def __init__(self, *, max_side: int = 2048, histogram: bool = False, device: Any = None) -> None:
        self.max_side = max_side
        self.histogram = histogram
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return no taps, after a check that there are matrices. Weights that are left out are a warning."""
        self._known_new = frozenset()
        found = effective_weights(snapshot.model)
        if not found.matrices:
            raise ValueError(
                "Expected a floating-point parameter with two or more dimensions, got a model without any; leave "
                "WeightsProbe out"
            )
        if found.left_out:
            names = "; ".join(f"{name} ({reason})" for name, reason in found.left_out.items())
            warn_user(
                f"Expected weights that can be read as numbers, got others, which WeightsProbe leaves out: {names}; "
                "measure the layers' outputs with ActivationsProbe"
            )
        return ()

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Decompose each matrix."""
        found = effective_weights(snapshot.model)
        norms = [frobenius_norm(to_float64_device(whole(w))) for w in snapshot.model.parameters() if w.requires_grad]
        names = snapshot.labels("weight_norm", "parameter") or list(found.matrices)
        self._warn_of_new(found.matrices.keys() - set(names))
        cells = [self._cell(found.matrices[name]) if name in found.matrices else {} for name in names]
        coords = {"parameter": names}
        notes = {
            "tied": "; ".join(f"{name} is {first}" for name, first in found.tied.items()),
            "left_out": "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items()),
        }
        attrs = {key: text for key, text in notes.items() if text}
        return {
            **tabulated(cells, _VARIABLES, coords, attrs),
            "weight_norm_total": Measured(math.hypot(*norms), long_name="norm of all weights"),
            **tabulated(cells, _HISTOGRAM if self.histogram else {}, coords),
        }

    def _warn_of_new(self, names: Set[str]) -> None:
        """Warn of matrices that the first observation did not have, once of each."""
        new, self._known_new = names - self._known_new, self._known_new | names
        if new:
            warn_user(
                f"Expected the matrices of the first observation, got new ones: {', '.join(sorted(new))}; WeightsProbe "
                "leaves them out. Record them in a new series: attach again after the model has changed"
            )

    def _cell(self, weight: Tensor) -> dict[str, float]:
        found = weight_summary(to_float64_device(weight, self.device), max_side=self.max_side)
        cell = dict(zip(_VARIABLES, found, strict=True))
        if self.histogram and math.isfinite(found.norm):
            values = torch.view_as_real(weight) if weight.is_complex() else weight
            cell["weight_histogram_entropy"] = weight_histogram_entropy(values)
        return cell
