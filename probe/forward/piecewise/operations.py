"""The operations of piecewise-linear networks: which ones are affine, which ones bend, and which ones take a maximum.

Operations have the names of ATen, without the underscore of the forms that write in place. Most functions of ``torch``
are made of these operations. :func:`probe.forward.piecewise_linear` refuses all others.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

# -- affine ----------------------------------------------------------------------------------------------------------

_SHAPES = frozenset([
    "view", "_unsafe_view", "_reshape_alias", "expand", "permute", "transpose", "t", "squeeze", "unsqueeze",
    "select", "slice", "split", "split_with_sizes", "unsafe_split", "unbind", "diagonal", "unfold", "tril", "triu",
    "cat", "stack", "repeat", "roll", "flip", "rot90", "pixel_shuffle", "pixel_unshuffle", "channel_shuffle",
    "im2col", "col2im", "select_scatter", "slice_scatter", "diagonal_scatter",
    "constant_pad_nd", "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "replication_pad1d", "replication_pad2d", "replication_pad3d",
    "alias", "clone", "detach", "lift", "lift_fresh", "lift_fresh_copy", "_to_copy", "copy",
])  # fmt: skip
_SUMS = frozenset([
    "add", "sub", "rsub", "neg", "fill", "zero", "sum", "mean", "cumsum",
    "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d", "_adaptive_avg_pool3d",
    "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "_upsample_nearest_exact3d",
    "upsample_linear1d", "upsample_bilinear2d", "_upsample_bilinear2d_aa", "upsample_bicubic2d", "upsample_trilinear3d",
])  # fmt: skip
# Affine in the arguments at these positions together, if the other arguments do not depend on the input.
_PARTLY_AFFINE = {
    "div": (0,),
    "index": (0,), "index_select": (0,), "gather": (0,), "grid_sampler_2d": (0,), "grid_sampler_3d": (0,),
    "masked_fill": (0, 2), "index_fill": (0, 3), "index_put": (0, 2), "_unsafe_index": (0,), "where": (1, 2),
    "scatter": (0, 3), "scatter_add": (0, 3), "index_add": (0, 3), "index_copy": (0, 3), "masked_scatter": (0, 2),
    "lerp": (0, 1),
    "native_batch_norm": (0,), "_native_batch_norm_legit_no_training": (0,), "_batch_norm_no_update": (0,),
}  # fmt: skip
# Affine in each of the arguments at these positions, if the others of them do not depend on the input.
_PRODUCTS = {
    "mul": (0, 1), "mm": (0, 1), "bmm": (0, 1), "mv": (0, 1), "dot": (0, 1), "_trilinear": (0, 1, 2),
    "addmm": (1, 2), "baddbmm": (1, 2), "addbmm": (1, 2), "addmv": (1, 2), "addr": (1, 2), "addcmul": (1, 2),
    "convolution": (0, 1),
}  # fmt: skip


def why_not_affine(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], depends: set[int]) -> str:
    """Return why an operation is not affine in the arguments at these positions, which depend on the input."""
    if kwargs.get("rounding_mode") or kwargs.get("reduce"):
        return "not piecewise linear"
    if name in _PRODUCTS:
        return "a product of values that all depend on the input" if len(depends & set(_PRODUCTS[name])) > 1 else ""
    if name == "native_batch_norm" and args[5]:
        return "batch normalisation with the statistics of the batch"
    if name in _PARTLY_AFFINE:
        return "" if depends <= set(_PARTLY_AFFINE[name]) else "a function of several values that depend on the input"
    return "" if name in _SHAPES or name in _SUMS else "not piecewise linear"


# -- bends -----------------------------------------------------------------------------------------------------------

Number = float | Tensor
Pieces = tuple[list[Number], list[Number]]  # breakpoints and slopes


def _clamp(low: Number | None = None, high: Number | None = None) -> Pieces:
    """Return the pieces of min(max(x, low), high)."""
    if low is None:
        return ([], [1.0]) if high is None else ([high], [1.0, 0.0])
    if high is None:
        return [low], [0.0, 1.0]
    low, high = (torch.as_tensor(bound, dtype=torch.float64) for bound in (low, high))  # floats are float32 else
    low = torch.minimum(low, high)
    return [low, high], [0.0, 1.0, 0.0]


# The breakpoints and slopes of functions of one number x, by the arguments after x.
BENDS: Mapping[str, Callable[..., Pieces]] = {
    "relu": lambda: ([0.0], [0.0, 1.0]),
    "leaky_relu": lambda slope=0.01: ([0.0], [slope, 1.0]),
    "_prelu_kernel": lambda slope: ([0.0], [slope, 1.0]),
    "abs": lambda: ([0.0], [-1.0, 1.0]),
    "hardtanh": lambda low=-1.0, high=1.0: _clamp(low, high),
    "hardsigmoid": lambda: ([-3.0, 3.0], [0.0, 1 / 6, 0.0]),
    "softshrink": lambda size=0.5: ([-size, size], [1.0, 0.0, 1.0]),
    "threshold": lambda at, value: ([at], [0.0, 1.0]),  # if value == at
    "clamp": _clamp,
    "clamp_min": lambda low: _clamp(low),
    "clamp_max": lambda high: _clamp(None, high),
    "maximum": lambda other: _clamp(other),
    "minimum": lambda other: _clamp(None, other),
    "fmax": lambda other: _clamp(other),
    "fmin": lambda other: _clamp(None, other),
}

# -- maxima ----------------------------------------------------------------------------------------------------------

Shape = tuple[int, ...]


def _reduced(shape: Shape, out: Shape, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Return the places that a maximum over axes compares."""
    axes = [axis % len(shape) for axis in ((dim,) if isinstance(dim, int) else dim)] or list(range(len(shape)))
    places = torch.arange(math.prod(shape)).reshape(shape)
    return places.movedim(axes, list(range(-len(axes), 0))).reshape(math.prod(out), -1)


def _pooled(
    d: int, shape: Shape, out: Shape, kernel: Any, stride: Any = (), padding: Any = 0, dilation: Any = 1, *_: Any
) -> Tensor:
    """Return the places that max-pooling over d axes compares, and -1 for places outside."""
    sizes, edges, gaps = (_each(given, d) for given in (kernel, padding, dilation))
    steps = _each(stride, d) if stride != () else sizes
    windows = []
    for length, n, size, step, edge, gap in zip(shape[-d:], out[-d:], sizes, steps, edges, gaps, strict=True):
        places = torch.arange(n)[:, None] * step - edge + torch.arange(size) * gap
        windows.append(places.masked_fill((places < 0) | (places >= length), -1))
    return _windows(shape, windows)


def _adaptively_pooled(d: int, shape: Shape, out: Shape, size: Any) -> Tensor:
    """Return the places that adaptive max-pooling over d axes compares, and -1 to fill up smaller windows."""
    windows = []
    for length, n in zip(shape[-d:], out[-d:], strict=True):
        starts = torch.arange(n) * length // n
        ends = -(-(torch.arange(n) + 1) * length // n)
        places = starts[:, None] + torch.arange(int((ends - starts).max()))
        windows.append(places.masked_fill(places >= ends[:, None], -1))
    return _windows(shape, windows)


def _each(given: Any, d: int) -> tuple[int, ...]:
    given = (given,) if isinstance(given, int) else tuple(given)
    return given * d if len(given) == 1 else given


def _windows(shape: Shape, windows: Sequence[Tensor]) -> Tensor:
    """Return the flat places of all windows, from the places along each axis (windows, places)."""
    found = torch.arange(math.prod(shape[: -len(windows)]))[:, None]
    for length, places in zip(shape[-len(windows) :], windows, strict=True):
        inside = (found[:, None, :, None] >= 0) & (places[None, :, None, :] >= 0)
        joined = found[:, None, :, None] * length + places[None, :, None, :]
        found = joined.masked_fill(~inside, -1).flatten(2).flatten(0, 1)
    return found


# The places (units, k) among the numbers of x that each unit compares, by the shapes of x and of the output and the
# arguments after x.
MAXIMA: Mapping[str, Callable[..., Tensor]] = {
    "amax": _reduced,
    "max": _reduced,
    "max_pool2d_with_indices": partial(_pooled, 2),
    "max_pool3d_with_indices": partial(_pooled, 3),
    "adaptive_max_pool2d": partial(_adaptively_pooled, 2),
    "adaptive_max_pool3d": partial(_adaptively_pooled, 3),
}
# Operations -g(-x) for a maximum g.
MINIMA = {"amin": "amax", "min": "max", "minimum": "maximum", "fmin": "fmax"}
# Bends if one of the two arguments does not depend on the input, else maxima or minima of two values.
PAIRWISE = frozenset(["maximum", "minimum", "fmax", "fmin"])

# -- other forms of the same operations ------------------------------------------------------------------------------

_aten: Any = torch.ops.aten


def _rrelu(x: Any, noise: Any, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, *_: Any) -> Any:
    """Return the call that replaces a randomised ReLU in evaluation."""
    return _aten.leaky_relu.default, (x, (lower + upper) / 2)


def _batch_norm(*args: Any) -> Any:
    """Return the call that replaces batch normalisation of one kind of device."""
    return _aten.native_batch_norm.default, args[:8]


REPLACED: Mapping[str, Callable[..., tuple[Any, tuple[Any, ...]]]] = {
    "rrelu_with_noise": _rrelu,
    "rrelu_with_noise_functional": _rrelu,
    "cudnn_batch_norm": _batch_norm,
    "miopen_batch_norm": _batch_norm,
}
RESHAPES = frozenset(["view", "_unsafe_view", "_reshape_alias", "squeeze", "unsqueeze"])
# Operations that return one part for few rows, and more for many. The model then does the same with all parts.
SPLITS = frozenset(["split", "split_with_sizes", "unsafe_split"])
# Operations whose result depends on the shape of their argument alone.
FILLS = frozenset([
    "empty_like", "zeros_like", "ones_like", "full_like",
    "new_empty", "new_empty_strided", "new_zeros", "new_ones", "new_full",
])  # fmt: skip
# Operations whose result is uninitialised memory, in place of which recordings have zeros.
EMPTY = frozenset(["empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided"])
# Operations that return Python numbers.
READS = frozenset(["_local_scalar_dense", "equal"])
