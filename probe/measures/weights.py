"""Norms, ranks and spectral entropy of weight matrices.

For a matrix W with singular values s_k: the Frobenius norm, the stable rank sum s^2 / max s^2, the effective rank
exp(entropy of s / sum s) (Roy and Vetterli 2007) and that entropy in bits; see :mod:`probe.geometry.spectra`. They look at the
parameters alone: no data, no forward pass. Weight decay shrinks the norm whether or not anything is learnt, and in
front of a normalising layer the norm means nothing.

On request also the entropy of each matrix's histogram, the quantity on the axes of the information plane of
arXiv:2504.12700: see :mod:`probe.information.weight_histogram`.
"""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import named_layers
from probe.geometry.spectra import (
    BLOCK,
    effective_rank,
    spectral_entropy,
    squared_singular_values,
    stable_rank,
)
from probe.information.validation import to_float64_device
from probe.information.weight_histogram import weight_histogram_entropy


class WeightSummary(NamedTuple):
    """Of one matrix; the ranks and the entropy (bits) are NaN where there are none, and ``undefined`` says so."""

    norm: float
    stable_rank: float
    effective_rank: float
    spectral_entropy: float
    undefined: int


def weight_summary(weight: Tensor, *, max_side: int = 2048) -> WeightSummary:
    """Norm, ranks and entropy of a weight tensor.

    Parameters
    ----------
    weight : Tensor of shape (out, ...)
        Read as a matrix (out, rest): kernels of a convolution are one row for each output channel.
    max_side
        Above it, of the smaller side, no singular values are computed, which takes time with its third power.

    Returns
    -------
    WeightSummary
        ``undefined``: 1 for a matrix of zeros or with NaN or infinite entries, -1 above ``max_side``, else 0.
    """
    matrix, norm = weight.flatten(1), frobenius_norm(weight)
    lost = not 0 < norm < math.inf
    if lost or min(matrix.shape) > max_side:
        return WeightSummary(norm, math.nan, math.nan, math.nan, 1 if lost else -1)
    squares = squared_singular_values(matrix)
    values = squares.sqrt()
    ranks = stable_rank(squares).item(), effective_rank(values).item()
    return WeightSummary(norm, *ranks, spectral_entropy(values).item(), 0)


def frobenius_norm(weight: Tensor) -> float:
    """Root of the sum of squares of a tensor of any shape, summed in float64, block by block."""
    dtype = torch.promote_types(weight.dtype, torch.float64)
    return math.hypot(*(torch.linalg.vector_norm(part, dtype=dtype).item() for part in weight.flatten().split(BLOCK)))


def weight_matrices(model: nn.Module) -> dict[str, Tensor]:
    """Floating-point parameters with two or more dimensions, by name; each once, also where it is tied.

    A parametrised one (:mod:`torch.nn.utils.parametrizations`) is the tensor that the layer computes with.
    """
    found: dict[str, Tensor] = {}
    for name, module in {"": model, **named_layers(model)}.items():
        if "parametrizations" in name.split("."):
            continue
        own = dict(module.named_parameters(recurse=False))
        if is_parametrized(module):
            own.update({key: getattr(module, key) for key in cast(nn.ModuleDict, module.parametrizations)})
        found.update({f"{name}.{attribute}".lstrip("."): value for attribute, value in own.items()})
    matrices = {name: w for name, w in found.items() if w.ndim > 1 and (w.is_floating_point() or w.is_complex())}
    first = {id(weight): name for name, weight in reversed(matrices.items())}
    return {name: weight for name, weight in matrices.items() if first[id(weight)] == name}


class WeightsProbe(Probe):
    """Norms and ranks of each weight matrix, and the norm of all trainable parameters.

    Parameters
    ----------
    max_side
        Matrices whose smaller side is larger have a norm and no ranks (flag -1).
    histogram
        Also ``weight_histogram_entropy``.
    random_state
        Not used, since nothing is drawn; accepted as by every probe.
    device
        Where singular values are computed. Default: where the weights are.

    Notes
    -----
    Variables by ``parameter`` (names as in ``model.named_parameters()``, vectors left out, frozen ones included):
    ``weight_norm``, ``weight_stable_rank``, ``weight_effective_rank``, ``weight_spectral_entropy`` (bits), and the flag
    ``weight_rank_undefined`` (see :func:`weight_summary`); ``weight_norm_total``: root of the sum of squares of all
    trainable parameters, vectors too, each once, as an optimiser with weight decay sees them. A stack such as
    ``in_proj_weight`` of :class:`torch.nn.MultiheadAttention` is one matrix.

    With ``histogram`` also ``weight_histogram_entropy`` (bits, at most log2 30) by ``parameter``: what arXiv:2504.12700
    plots as information. No data is in it. Where a weight is not finite it is NaN, and ``weight_rank_undefined`` 1.
    """

    def __init__(
        self, *, max_side: int = 2048, histogram: bool = False, random_state: int = 0, device: Any = None
    ) -> None:
        self.max_side = max_side
        self.histogram = histogram
        self.random_state = random_state
        self.device = device

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Decompose each matrix."""
        matrices = weight_matrices(snapshot.model)
        if not matrices:
            raise ValueError("expected a floating-point parameter with two or more dimensions; this model has none")
        cells = [weight_summary(to_float64_device(w, self.device), max_side=self.max_side) for w in matrices.values()]
        norms = [frobenius_norm(to_float64_device(w)) for w in snapshot.model.parameters() if w.requires_grad]
        dims, coords = ("parameter",), {"parameter": list(matrices)}

        def by(field: str, text: str, **kwargs: Any) -> Measured:
            return Measured([getattr(cell, field) for cell in cells], dims, coords, long_name=text, **kwargs)

        measured = {
            "weight_norm": by("norm", "Frobenius norm"),
            "weight_stable_rank": by("stable_rank", "stable rank"),
            "weight_effective_rank": by("effective_rank", "effective rank of singular values"),
            "weight_spectral_entropy": by("spectral_entropy", "entropy of singular values", units="bits"),
            "weight_rank_undefined": by("undefined", "zero or not finite", flag=True),
            "weight_norm_total": Measured(math.hypot(*norms), long_name="norm of all weights"),
        }
        if self.histogram:
            known = zip(matrices.values(), cells, strict=True)
            bits = [_histogram(w) if math.isfinite(cell.norm) else math.nan for w, cell in known]
            text = "entropy of the histogram of weights: 29 bins on [-1, 1], one for all outside"
            measured["weight_histogram_entropy"] = Measured(bits, dims, coords, units="bits", long_name=text)
        return measured


def _histogram(weight: Tensor) -> float:
    return weight_histogram_entropy(torch.view_as_real(weight) if weight.is_complex() else weight)
