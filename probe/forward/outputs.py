"""How the outputs of layers become rows of numbers."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

Reduce = str | int | Callable[[Tensor], Tensor] | None


_REDUCTIONS = (None, "last", "mean", "flatten", "tokens", "none")


def tensor_of(output: Any, where: str) -> Tensor:
    """The tensor that an output stands for: itself, its ``logits``, else the first tensor in it."""
    if isinstance(output, Tensor):
        return output
    found = _first_tensor(output)
    if found is None:
        raise TypeError(f"{where} returned {type(output).__name__} with no tensor in it; select another layer")
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


def replaced(output: Any, new: Tensor, where: str) -> Any:
    """The same output with the tensor that it stands for (see :func:`tensor_of`) exchanged."""
    return _exchanged(output, tensor_of(output, where), new)


def _exchanged(output: Any, old: Tensor, new: Tensor) -> Any:
    if output is old:
        return new
    if isinstance(output, Mapping):
        changed = copy(output)
        for key, value in output.items():
            changed[key] = _exchanged(value, old, new)  # type: ignore[index]
        return changed
    if isinstance(output, (tuple, list)):
        items = [_exchanged(item, old, new) for item in output]
        return type(output)(*items) if hasattr(output, "_fields") else type(output)(items)
    if is_dataclass(output) and not isinstance(output, type):
        changed_fields = {field.name: _exchanged(getattr(output, field.name), old, new) for field in fields(output)}
        return replace(output, **changed_fields)
    return output


def reduced(output: Tensor, reduce: Reduce, where: str = "a layer") -> Tensor:
    """Rows of numbers from what a layer returns.

    Parameters
    ----------
    output : Tensor of shape (n, ...)
    reduce
        None: (n, d) as it is, (n, T, d) the last position, (n, C, H, W) the mean over space. ``"last"``, ``"mean"``
        (over all but the first and the feature axis), ``"flatten"``, ``"tokens"`` (positions become rows), an index
        of a position, ``"none"`` (as it is), or a callable. Where there are no positions, (n, d), all but a callable
        leave it as it is.

    Returns
    -------
    Tensor of shape (n, d); (n*T, d) or (n*H*W, C) for ``"tokens"``. Half precision and integers become float32,
    complex features two real ones each (for ``"none"`` and a callable they are an error).
    """
    if callable(reduce):
        rows = _floating(tensor_of(reduce(output), f"the callable reduce of {where}"))
        if rows.ndim == 0:
            raise ValueError(f"the callable reduce of {where} returned a single number, expected a row for each input")
        return rows
    if not isinstance(reduce, int) and reduce not in _REDUCTIONS:
        raise ValueError(
            f"reduce must be None, 'last', 'mean', 'flatten', 'tokens', 'none', an index or a callable, got {reduce!r}"
        )
    if output.is_complex() and reduce != "none":
        output = _as_real(output)
    output = _floating(output)
    if reduce == "none":
        return output
    if output.ndim == 0:
        raise ValueError(f"{where} returns a single number, expected one row for each input; select another layer")
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
    index = -1 if reduce == "last" else int(reduce)
    if not -output.shape[1] <= index < output.shape[1]:
        raise ValueError(f"reduce={index} asks {where} for a position that it lacks: it has {output.shape[1]}")
    return output[:, index].flatten(1)


def _as_real(output: Tensor) -> Tensor:
    """Real and imaginary parts side by side along the feature axis: distances stay what they are."""
    axis = -1 if output.ndim <= 3 else 1
    return torch.cat([output.real, output.imag], axis) if output.ndim > 1 else torch.view_as_real(output)


def _floating(output: Tensor) -> Tensor:
    if output.is_nested:
        raise TypeError("nested tensors have no rows of one length; give reduce= a callable that makes them")
    if output.is_quantized:
        return output.dequantize()
    if output.layout != torch.strided:
        output = output.to_dense()
    if output.is_complex():
        raise TypeError("complex outputs have no order; give reduce= a callable that makes them real")
    return output if output.dtype in (torch.float32, torch.float64) else output.float()
