"""Sites of the activation functions that a forward pass calls, as modules or as functions.

The list of functions is closed. For these functions the site holds the input x, since they bend at 0 or are smooth:
``relu``, ``leaky_relu``, ``prelu``, ``rrelu``, ``elu``, ``selu``, ``celu``, ``abs``, ``gelu``, ``silu``, ``mish``,
``softplus``, ``softsign``, ``tanh``, ``tanhshrink``, ``sigmoid`` (also as ``expit``), ``logsigmoid``.

The other functions have one site for each bend. It holds the distance of the input from this bend:

- ``clamp`` (also as ``clip``): ``clamp_min`` holds x - min, ``clamp_max`` holds x - max. Infinite bounds have no site.
- ``hardtanh`` (also as ``nn.ReLU6``), ``relu6``: ``hardtanh_min``, ``hardtanh_max`` and so on, likewise.
- ``hardsigmoid``, ``hardswish``: x + 3 and x - 3. ``hardshrink``, ``softshrink``: x + lambda and x - lambda.
- ``threshold``: x - threshold.
- ``maximum``, ``minimum`` (also as binary ``max``, ``min``, ``fmax``, ``fmin``), if one argument is the same for all
  inputs (one number, one row, ``zeros_like``): the first argument minus the second. The maximum of two values that both
  depend on the input has no site, since models use it to keep exponentials finite, where the function does not bend.
- ``glu_gate``: the half that goes through the sigmoid.
- ``comparison``: a - b, if floating-point tensors are compared (``a > b``, ``>=``, ``<``, ``<=``) and the result is a
  factor of a product, or selects values in ``where``, ``masked_fill`` or ``x[mask] = value``.

The output of a function with several bends belongs to the last one: ``clamp_max->``. Calls on parameters have
no site, nor have calls of ``abs`` and of the functions below on other than floating-point numbers.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Self, TypeGuard

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.forward.calls import CallCounter

# Names, since one function is several objects (F.relu, torch.relu, Tensor.relu). In-place forms end with "_".
_AT_ZERO = frozenset(
    [
        "relu",
        "leaky_relu",
        "prelu",
        "rrelu",
        "elu",
        "selu",
        "celu",
        "abs",
        "gelu",
        "silu",
        "mish",
        "softplus",
        "softsign",
        "tanh",
        "tanhshrink",
        "sigmoid",
        "logsigmoid",
        "log_sigmoid",
    ]
)
# Functions that models also use for other purposes: their outputs are no default layers.
_ARITHMETIC = frozenset(["abs", "clamp_min", "clamp_max", "maximum", "minimum", "comparison"])
_ALIASES = {
    "special_expit": "sigmoid",
    "absolute": "abs",
    "__abs_": "abs",
    "clip": "clamp",
    "_threshold": "threshold",
    "fmax": "maximum",
    "fmin": "minimum",
}
Arguments = Mapping[str | int, Any]  # positional and keyword arguments of a call
Bounds = Mapping[str, Any]  # {end of the name of the site: bound}


def _clamp(given: Arguments) -> Bounds:
    return {"_min": given.get(1, given.get("min")), "_max": given.get(2, given.get("max"))}


def _hardtanh(given: Arguments) -> Bounds:
    return {"_min": given.get(1, given.get("min_val", -1.0)), "_max": given.get(2, given.get("max_val", 1.0))}


def _shrink(given: Arguments) -> Bounds:
    size = given.get(1, given.get("lambd", 0.5))
    return {"_min": -size, "_max": size}


def _second(given: Arguments) -> Bounds:
    one, other = given.get(0, given.get("input")), given.get(1, given.get("other"))
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):  # max(x, dim) is a reduction
        return {}
    return {"": other} if _is_constant(other, one) or _is_constant(one, other) else {}


# The bends of a call, by the name of its function and the end of the name of the site.
_BENDS: Mapping[str, Callable[[Arguments], Bounds]] = {
    "clamp": _clamp,
    "clamp_min": lambda given: {"_min": given.get(1, given.get("min"))},
    "clamp_max": lambda given: {"_max": given.get(1, given.get("max"))},
    "hardtanh": _hardtanh,
    "relu6": lambda given: {"_min": 0.0, "_max": 6.0},
    "hardsigmoid": lambda given: {"_min": -3.0, "_max": 3.0},
    "hardswish": lambda given: {"_min": -3.0, "_max": 3.0},
    "hardshrink": _shrink,
    "softshrink": _shrink,
    "threshold": lambda given: {"": given.get(1, given.get("threshold"))},
    "maximum": _second,
    "minimum": _second,
    "max": _second,
    "min": _second,
}
_LABELS = {"clamp_min": "clamp", "clamp_max": "clamp", "max": "maximum", "min": "minimum"}
_FILLS = frozenset(
    ["zeros", "zeros_like", "ones", "ones_like", "full", "full_like", "new_zeros", "new_ones", "new_full"]
)
_COMPARES = frozenset(["gt", "ge", "lt", "le", "greater", "greater_equal", "less", "less_equal"])
_KEEPS_COMPARISONS = frozenset(
    ["float", "double", "half", "bfloat16", "to", "type", "type_as", "unsqueeze", "logical_not", "bitwise_not",
     "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor", "__invert_", "__and_",
     "__or_", "__xor_"]
)  # fmt: skip
_SELECTS = frozenset(["mul", "multiply", "where", "masked_fill", "__setitem_"])


# Functions without a site: those of elementwise functions that can serve as activation functions, and others.
UNCOUNTED_ACTIVATIONS = frozenset(
    ["exp", "exp2", "expm1", "log1p", "sin", "cos", "tan", "arctan", "atan", "sinh", "cosh", "asinh", "arcsinh", "erf",
     "erfc", "sinc", "sign", "sgn", "round", "floor", "ceil", "trunc", "frac", "fix", "heaviside", "lstm", "gru",
     "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"]
)  # fmt: skip
_UNCOUNTED = UNCOUNTED_ACTIVATIONS | frozenset(
    ["maximum", "minimum", "fmax", "fmin", "log", "log2", "log10", "pow", "__pow_", "__rpow_", "float_power",
     "square", "sqrt", "rsqrt", "reciprocal", "__rdiv_", "__rtruediv_", "softmax", "softmin", "log_softmax",
     "logsumexp", "gumbel_softmax", "max", "min", "amax", "amin", "aminmax", "cummax", "cummin", "sort", "topk",
     "median", "scaled_dot_product_attention", "multi_head_attention_forward", "max_pool1d", "max_pool2d",
     "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "lp_pool1d", "lp_pool2d",
     "lp_pool3d"]
)  # fmt: skip


class _Comparison:
    """The difference of two compared tensors, and whether it was visited."""

    def __init__(self, difference: Tensor) -> None:
        self.difference = difference
        self.visited = False


class ActivationMode(TorchFunctionMode):
    """Context manager that calls ``visit`` before and after each activation function.

    Parameters
    ----------
    modules
        The modules by name. The hooks of :meth:`hooks` must be registered on them.
    visit : function(site, tensor) -> tensor
        Receives the values of the sites of the input, and the output of the function. Returns the tensor that replaces
        it. For the names of sites see :mod:`probe.forward.sites`.
    is_paused : function() -> bool
        While it returns True, the calls do not belong to the model and are ignored.
    calls
        Counter of the calls of each forward pass.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        visit: Callable[[str, Tensor], Tensor],
        is_paused: Callable[[], bool],
        calls: CallCounter,
    ) -> None:
        super().__init__()
        self._modules = modules
        self._visit = visit
        self._is_paused = is_paused
        self._calls = calls

    def __enter__(self) -> Self:
        self._callers = [""]
        self._kinds = _KINDS  # after the first comparison, those of functions that select by it, too
        return super().__enter__()

    def hooks(self) -> Iterator[Any]:
        """Register hooks that record which module runs, and yield their handles."""
        for name, module in self._modules.items():
            yield module.register_forward_pre_hook(self._enter_module(name))
            yield module.register_forward_hook(self._leave_module, always_call=True)

    def _enter_module(self, name: str) -> Callable[..., None]:
        return lambda module, args: self._callers.append(name)

    def _leave_module(self, *_: Any) -> None:
        if len(self._callers) > 1:
            self._callers.pop()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        call = self._kinds.get(getattr(func, "__name__", "").removesuffix("_"))
        if call is None or self._is_paused():
            return func(*args, **(kwargs or {}))
        method, name = call
        return method(self, func, name, args, kwargs or {})

    def _at_zero(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Call a function whose site holds its input."""
        x = args[0] if args else kwargs.get("input")
        if not isinstance(x, Tensor) or _is_parameter(x) or (name == "abs" and not x.is_floating_point()):
            return func(*args, **kwargs)
        site = self._site(name)
        return self._finish(func, site, x, self._visit(site, x), args, kwargs)

    def _at_bends(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Call a function with one site for each bend."""
        x = args[0] if args else kwargs.get("input")
        bounds = _BENDS[name]({**dict(enumerate(args)), **kwargs})
        bounds = {part: bound for part, bound in bounds.items() if _is_finite(bound)}
        if not bounds or not any(map(_is_value, (x, *bounds.values()))):
            return func(*args, **kwargs)
        new, site = x, ""
        for end, bound in bounds.items():
            site = self._site(_LABELS.get(name, name) + end)
            distance = x if isinstance(bound, (int, float)) and bound == 0 else x - bound
            changed = self._visit(site, distance)
            if changed is not distance:
                x = new = changed + bound
        return self._finish(func, site, args[0] if args else kwargs["input"], new, args, kwargs)

    def _gated(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Call a gated linear unit, whose site holds the gate."""
        x = args[0] if args else kwargs.get("input")
        if not _is_value(x):
            return func(*args, **kwargs)
        site, dim = self._site("glu_gate"), args[1] if len(args) > 1 else kwargs.get("dim", -1)
        linear, gate = x.chunk(2, dim)
        changed = self._visit(site, gate)
        new = x if changed is gate else torch.cat([linear, changed], dim)
        return self._finish(func, site, x, new, args, kwargs)

    def _finish(self, func: Any, site: str, x: Tensor, new: Tensor, args: Any, kwargs: Any) -> Any:
        """Call the function on the new input, and visit its output. In-place calls write to the old input."""
        result = func(new, *args[1:], **kwargs) if args else func(**{**kwargs, "input": new})
        if result is new and new is not x:
            result = x.copy_(result)
        output = self._visit(f"{site}->", result)
        in_place = output is not result and (result is x or result is kwargs.get("out"))
        return result.copy_(output) if in_place else output

    def _fill(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Return a tensor of equal numbers, marked as such."""
        result = func(*args, **kwargs)
        result._is_constant = True
        return result

    def _compare(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Compare, and keep the difference with the result."""
        result = func(*args, **kwargs)
        given = {**dict(enumerate(args)), **kwargs}
        one: Any = given.get(0, given.get("input"))
        other: Any = given.get(1, given.get("other"))
        if (_is_value(one) or _is_value(other)) and _is_finite(other) and result is not one:
            self._kinds = _KINDS_AFTER_COMPARISON
            result._compared = (_Comparison(one - other),)
        return result

    def _keep_comparisons(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Call a function whose result selects by the same comparisons as its arguments."""
        result = func(*args, **kwargs)
        if (compared := _compared(args)) and isinstance(result, Tensor):
            result._compared = compared  # type: ignore[attr-defined]
        return result

    def _select(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        """Visit the comparisons that select values."""
        for comparison in _compared((*args, *kwargs.values())):
            if not comparison.visited:
                comparison.visited = True
                site = self._site("comparison")
                if self._visit(site, comparison.difference) is not comparison.difference:
                    raise ValueError(
                        f"Expected edits of sites that can be replaced, got an edit of {site!r}, which holds the "
                        "difference of two compared tensors; edit the layer before it"
                    )
        return func(*args, **kwargs)

    def _site(self, function: str) -> str:
        return self._calls.next(f"{self._callers[-1]}:{function}")


class RecordingMode(ActivationMode):
    """Mode that also adds the nonlinear functions without a site to ``uncounted``, as in a trace."""

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        visit: Callable[[str, Tensor], Tensor],
        is_paused: Callable[[], bool],
        calls: CallCounter,
        uncounted: dict[str, dict[str, tuple[int, ...]]],
    ) -> None:
        super().__init__(modules, visit, is_paused, calls)
        self._uncounted = uncounted

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "").removesuffix("_").removeprefix("special_")
        x = args[0] if args else (kwargs or {}).get("input")
        counted = name in _BENDS and _second({**dict(enumerate(args)), **(kwargs or {})})
        if name in _UNCOUNTED and _is_value(x) and not self._is_paused() and not counted:
            self._uncounted.setdefault(self._callers[-1], {}).setdefault(name.strip("_"), tuple(x.shape))
        return super().__torch_function__(func, types, args, kwargs)


_METHODS: Sequence[tuple[Any, Sequence[str]]] = [
    (ActivationMode._at_zero, sorted(_AT_ZERO)),
    (ActivationMode._at_bends, list(_BENDS)),
    (ActivationMode._gated, ["glu"]),
    (ActivationMode._fill, sorted(_FILLS)),
    (ActivationMode._compare, sorted(_COMPARES)),
]
_METHODS_AFTER_COMPARISON: Sequence[tuple[Any, Sequence[str]]] = [
    (ActivationMode._keep_comparisons, sorted(_KEEPS_COMPARISONS)),
    (ActivationMode._select, sorted(_SELECTS)),
]
# The name of a function without the last "_": the method that calls it, and its name in sites.
_KINDS = {name: (method, name) for method, names in _METHODS for name in names}
_KINDS |= {alias: _KINDS[name] for alias, name in _ALIASES.items()}
_KINDS_AFTER_COMPARISON = _KINDS | {
    name: (method, name) for method, names in _METHODS_AFTER_COMPARISON for name in names
}


def holds_input(site: str) -> bool:
    """Return whether the site of an activation function holds its input itself, and not the distance from a bend."""
    return function_of(site) in _AT_ZERO


def is_hidden_value(site: str) -> bool:
    """Return whether a site is the output of a function that, unlike ``abs`` and ``clamp``, serves activation alone."""
    return site.endswith("->") and function_of(site) not in _ARITHMETIC


def function_of(site: str) -> str:
    """Return the name of the function in the name of a site."""
    return site.partition(":")[2].removesuffix("->").split(".")[0]


def _is_value(x: Any) -> TypeGuard[Tensor]:
    return isinstance(x, Tensor) and x.is_floating_point() and not _is_parameter(x)


def _is_parameter(x: Tensor) -> bool:
    return type(x) is not Tensor and isinstance(x, nn.Parameter)  # the first condition is faster


def _is_finite(bound: Any) -> bool:
    return isinstance(bound, Tensor) or (isinstance(bound, (int, float)) and math.isfinite(bound))


def _is_constant(x: Tensor, other: Tensor) -> bool:
    """Return whether a tensor is the same for all rows of another one."""
    return x.numel() == 1 or x.ndim < other.ndim or x.shape[0] == 1 or hasattr(x, "_is_constant")


def _compared(arguments: Sequence[Any]) -> tuple[_Comparison, ...]:
    """Return the comparisons that made these arguments, also those in an index."""
    found: tuple[_Comparison, ...] = ()
    for argument in arguments:
        if isinstance(argument, Tensor):
            found += getattr(argument, "_compared", ())
        elif isinstance(argument, tuple):
            found += _compared(argument)
    return found
