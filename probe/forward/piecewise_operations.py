"""The operations that are piecewise linear: what is affine, what bends, and what takes a maximum.

Operations have the names of ATen, without the underscore of the forms that write in place.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# Affine in all their tensors together.
_SUMS = (
    ["add", "sub", "rsub", "neg", "cat", "stack", "sum", "mean", "cumsum", "trace"]
    + [
        "view",
        "_unsafe_view",
        "reshape",
        "_reshape_alias",
        "expand",
        "permute",
        "transpose",
        "t",
        "squeeze",
        "unsqueeze",
    ]
    + ["select", "slice", "split", "split_with_sizes", "unbind", "narrow", "diagonal", "unfold", "tril", "triu"]
    + ["select_scatter", "slice_scatter", "diagonal_scatter", "as_strided_scatter"]
    + ["alias", "clone", "detach", "lift_fresh", "lift_fresh_copy", "_to_copy", "copy", "contiguous"]
    + ["constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d"]
    + ["replication_pad1d", "replication_pad2d", "replication_pad3d"]
    + ["roll", "flip", "repeat", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle", "im2col", "col2im"]
    + ["avg_pool1d", "avg_pool2d", "avg_pool3d"]
    + ["_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_avg_pool1d"]
    + ["upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d"]
    + ["_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d"]
    + ["upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d"]
)
# Affine in these arguments together, if the others do not depend on the input.
_ARGUMENTS = {
    "div": (0,),
    "index": (0,),
    "index_select": (0,),
    "gather": (0,),
    "masked_fill": (0, 2),
    "index_put": (0, 2),
    "scatter": (0, 3),
    "scatter_add": (0, 3),
    "index_add": (0, 3),
    "where": (1, 2),
    "lerp": (0, 1),
    "native_batch_norm": (0,),
    "cudnn_batch_norm": (0,),
    "grid_sampler_2d": (0,),
}
# Affine in each of two factors, if the other does not depend on the input.
_PRODUCTS = {
    **dict.fromkeys(["mul", "mm", "bmm", "mv", "dot", "convolution"], (0, 1)),
    **dict.fromkeys(["addmm", "baddbmm", "addbmm", "addmv", "addcmul"], (1, 2)),
}


def is_affine(name: str, args: Sequence[Any], depends: set[int]) -> bool:
    """Return whether an operation is affine in the arguments at these positions, which depend on the input."""
    if name in _PRODUCTS:
        return len(depends.intersection(_PRODUCTS[name])) < 2
    if name in _ARGUMENTS:
        training = name.endswith("batch_norm") and args[5]
        return depends <= set(_ARGUMENTS[name]) and not training
    return name in _SUMS


Pieces = tuple[Sequence[Any], Sequence[Any]]  # breakpoints and slopes, numbers or tensors like the value


def _hardtanh(low: float = -1.0, high: float = 1.0) -> Pieces:
    return [low, high], [0.0, 1.0, 0.0]


def _clamp(low: Any = None, high: Any = None) -> Pieces:
    bounds = [(bound, slope) for bound, slope in ((low, 1.0), (high, 0.0)) if bound is not None]
    first = 0.0 if low is not None else 1.0
    return [bound for bound, _ in bounds], [first, *(slope for _, slope in bounds)]


def _leaky(slope: Any = 0.01) -> Pieces:
    return [0.0], [slope, 1.0]


# Breakpoints and slopes by the arguments after the input.
BENDS: Mapping[str, Callable[..., Pieces]] = {
    "relu": lambda: ([0.0], [0.0, 1.0]),
    "leaky_relu": _leaky,
    "_prelu_kernel": _leaky,
    "abs": lambda: ([0.0], [-1.0, 1.0]),
    "hardtanh": _hardtanh,
    "hardsigmoid": lambda: ([-3.0, 3.0], [0.0, 1 / 6, 0.0]),
    "clamp": _clamp,
    "clamp_min": lambda low: _clamp(low),
    "clamp_max": lambda high: _clamp(None, high),
    "softshrink": lambda size=0.5: ([-size, size], [1.0, 0.0, 1.0]),
}
