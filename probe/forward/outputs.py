"""Conversion of the outputs of layers into rows of numbers."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

Reduce = str | int | Callable[[Tensor], Tensor] | None

_REDUCTIONS = (None, "last", "mean", "flatten", "tokens", "none")
_ALLOWED = "None, 'last', 'mean', 'flatten', 'tokens', 'none', an index or a callable"


def tensor_of(output: Any, where: str) -> Tensor:
    """Return the tensor that represents an output: the output itself, its ``logits``, or else its first tensor."""
    if isinstance(output, Tensor):
        return output
    found = _first_tensor(output)
    if found is None:
        raise TypeError(
            f"Expected a tensor in the output of {where}, got {type(output).__name__}, which has no tensor; "
            "select another layer"
        )
    return found


def _first_tensor(output: Any) -> Tensor | None:
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        items: Iterable[Any] = [output["logits"]] if "logits" in output else output.values()
    elif isinstance(output, (tuple, list)):
        items = [cast(Any, output).logits] if "logits" in getattr(output, "_fields", ()) else output
    elif is_dataclass(output):
        names = [field.name for field in fields(output)]
        items = [getattr(output, name) for name in (["logits"] if "logits" in names else names)]
    else:
        return None
    return next((found for found in map(_first_tensor, items) if found is not None), None)


def replace_tensor(output: Any, new: Tensor, where: str) -> Any:
    """Return the output with a new tensor in the place of the one that represents it, see :func:`tensor_of`."""
    return _substitute(output, tensor_of(output, where), new)


def _substitute(output: Any, old: Tensor, new: Tensor) -> Any:
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed = copy(output)
        for key, value in output.items():
            changed[key] = _substitute(value, old, new)  # type: ignore[index]
        return changed
    if isinstance(output, (tuple, list)):
        items = [_substitute(item, old, new) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    if is_dataclass(output) and not isinstance(output, type):
        changed_fields = {field.name: _substitute(getattr(output, field.name), old, new) for field in fields(output)}
        return replace(output, **changed_fields)
    return output


def reduce_output(output: Tensor, reduce: Reduce, where: str = "a layer") -> Tensor:
    """Reduce the output of a layer to rows of numbers.

    Parameters
    ----------
    output : Tensor of shape (n, ...)
    reduce : str, int, callable or None
        How to reduce an output with positions, (n, T, d) or (n, C, H, W):

        - None (default): the last position of a sequence (n, T, d), the spatial mean of an image (n, C, H, W).
        - ``"last"``: the last position.
        - ``"mean"``: the mean over all axes except the first one and the feature axis.
        - ``"flatten"``: all numbers of an input in one row.
        - ``"tokens"``: each position becomes a row.
        - ``"none"``: the unchanged output.
        - An integer: the position with this index.
        - A callable: ``reduce(output)``.

        An output of shape (n, d) has no positions, and only a callable changes it.
    where : str
        Name of the layer for error messages.

    Returns
    -------
    Tensor of shape (n, d)
        For ``"tokens"`` (n*T, d) or (n*H*W, C). Half precision and integers become float32, float64 is kept. A complex
        feature becomes two real ones.

    Raises
    ------
    ValueError
        If ``reduce`` is unknown, the position does not exist, or the output is a single number.
    TypeError
        If the output is a nested tensor, or complex numbers remain with ``"none"`` or a callable.

    See Also
    --------
    probe.Snapshot.outputs : Apply a reduction to the outputs of layers.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import reduce_output
    >>> tokens = torch.arange(12.0).reshape(2, 3, 2)  # (n, T, d)
    >>> reduce_output(tokens, None).tolist()
    [[4.0, 5.0], [10.0, 11.0]]
    >>> reduce_output(tokens, "mean").tolist()
    [[2.0, 3.0], [8.0, 9.0]]
    >>> reduce_output(tokens, "tokens").shape
    torch.Size([6, 2])
    """
    if callable(reduce):
        rows = _to_floating(tensor_of(reduce(output), f"the callable reduce of {where}"))
        if rows.ndim == 0:
            raise _not_rows(f"the callable reduce of {where}", "return a row for each input")
        return rows
    if not isinstance(reduce, int) and reduce not in _REDUCTIONS:
        raise ValueError(f"Expected reduce= to be {_ALLOWED}, got {reduce!r}; pass one of these")
    if output.is_complex() and reduce != "none":
        output = _as_real(output)
    output = _to_floating(output)
    if reduce == "none":
        return output
    if output.ndim == 0:
        raise _not_rows(where, "select another layer")
    if output.ndim == 1:
        return output[:, None]
    if reduce == "flatten" or output.ndim == 2:
        return output.flatten(1)
    if reduce is None:
        reduce = "last" if output.ndim == 3 else "mean"
    if reduce == "mean":
        return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(2)
    if reduce == "tokens":
        return (output if output.ndim == 3 else output.movedim(1, -1)).flatten(0, -2)
    index, n = -1 if reduce == "last" else int(reduce), output.shape[1]
    if not -n <= index < n:
        raise ValueError(f"Expected an index in [{-n}, {n - 1}] for a position of {where}, got {index}; change reduce=")
    return output[:, index].flatten(1)


def _not_rows(where: str, advice: str) -> ValueError:
    return ValueError(f"Expected one row for each input from {where}, got a single number; {advice}")


def _as_real(output: Tensor) -> Tensor:
    """Concatenate the real and imaginary parts along the feature axis, which keeps all distances."""
    axis = -1 if output.ndim <= 3 else 1
    return torch.cat([output.real, output.imag], axis) if output.ndim > 1 else torch.view_as_real(output)


def _to_floating(output: Tensor) -> Tensor:
    """Convert into a dense tensor of float32, or of float64 if it is one already."""
    if output.is_nested:
        raise TypeError(
            "Expected rows of one length, got a nested tensor; pass a callable reduce= that makes such rows"
        )
    if output.is_quantized:
        return output.dequantize()
    if output.layout != torch.strided:
        output = output.to_dense()
    if output.is_complex():
        raise TypeError("Expected real numbers, got complex ones; pass a callable reduce= that makes them real")
    return output if output.dtype in (torch.float32, torch.float64) else output.float()
