"""Conversion of the outputs of layers into rows of numbers."""

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

Reduce = str | int | Callable[[Tensor], Tensor | None] | None
Select = (
    str | int | Callable[[Any], Any] | None
)  # which part of an output represents it: key, attribute, index, function

_REDUCTIONS = (None, "last", "mean", "flatten", "tokens", "none")
_ALLOWED = "None, 'last', 'mean', 'flatten', 'tokens', 'none', an index or a callable"


class OutputError(ValueError):
    """The model returns nothing that ``output=`` selects, or no tensor with one row for each input."""


def tensor_of(output: Any, where: str, select: Select = None) -> Tensor:
    """Return the tensor that represents an output: the output itself, its ``logits``, or else its first tensor.

    A tensor with an axis comes before a single number, such as a loss. A packed sequence becomes a tensor (n, T, d)
    whose rows end with the last position. The positions before a shorter sequence are NaN.

    Parameters
    ----------
    output
        What a module returns.
    where : str
        Name of the module for error messages.
    select
        Key, attribute, index or function that returns the part of the output to look at.

    Raises
    ------
    OutputError
        If ``select`` selects nothing.
    TypeError
        If there is no tensor.
    """
    if select is not None:
        output = _selected(output, select)
    if isinstance(output, Tensor):
        return output
    found = _first_tensor(output)
    if found is None:
        raise TypeError(
            f"Expected a tensor in the output of {where}, got {type(output).__name__}, which has no tensor; "
            "select another layer"
        )
    return _unpacked(found) if isinstance(found, PackedSequence) else found


def _selected(output: Any, select: Select) -> Any:
    """Return the part of an output that a key, an attribute, an index or a function selects."""
    if callable(select):
        try:
            return select(output)
        except Exception as error:
            raise OutputError(
                f"Expected output= to return a part of what the model returns, {describe_output(output)}, got "
                f"{type(error).__name__}: {error}; correct the function"
            ) from error
    if not isinstance(output, Tensor):
        try:
            return output[select]
        except (KeyError, IndexError, TypeError, ValueError):
            if isinstance(select, str) and hasattr(output, select):
                return getattr(output, select)
    raise OutputError(
        f"Expected output={select!r} to be a part of what the model returns, got {describe_output(output)}; pass the "
        "key, the index or the attribute of one of these, or a function"
    )


def _unpacked(sequence: PackedSequence) -> Tensor:
    """Return a packed sequence as (n, T, d), aligned at the end."""
    padding = torch.nan if sequence.data.is_floating_point() else 0
    padded, lengths = pad_packed_sequence(sequence, batch_first=True, padding_value=padding)
    places = torch.arange(padded.shape[1])[None] + lengths[:, None]  # at the padding first, then at the sequence
    places = (places % padded.shape[1]).to(padded.device)
    return padded.gather(1, places.view(*places.shape, *[1] * (padded.ndim - 2)).expand_as(padded))


def describe_output(output: Any) -> str:
    """Return what a model returns, in words for an error message."""
    if isinstance(output, Tensor):
        return f"a tensor of shape {tuple(output.shape)}"
    parts = ", ".join(f"{key!r}: {_brief(value)}" for key, value in _parts(output))
    return f"{type(output).__name__} with {parts or 'no parts'}"


def _brief(value: Any) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def _parts(output: Any) -> Iterable[tuple[Any, Any]]:
    """Return the parts of an output with their keys, indices or names of attributes."""
    if isinstance(output, Mapping):
        return output.items()
    if isinstance(output, (tuple, list)):
        return enumerate(output)
    return vars(output).items() if hasattr(output, "__dict__") else ()


def single_numbers(output: Any) -> dict[Any, Tensor]:
    """Return the floating-point tensors without axes among the parts of an output, such as a loss."""
    found = {key: value for key, value in _parts(output) if isinstance(value, Tensor)}
    return {key: value for key, value in found.items() if value.ndim == 0 and value.is_floating_point()}


def _first_tensor(output: Any) -> Tensor | PackedSequence | None:
    if isinstance(output, (Tensor, PackedSequence)):
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
    tensors = [found for found in map(_first_tensor, items) if found is not None]
    with_axes = (found for found in tensors if isinstance(found, PackedSequence) or found.ndim)
    return next(with_axes, tensors[0] if tensors else None)


def replace_tensor(output: Any, new: Tensor, where: str) -> Any:
    """Return the output with a new tensor in the place of the one that represents it, see :func:`tensor_of`."""
    found = output if isinstance(output, Tensor) else _first_tensor(output)
    if isinstance(found, PackedSequence):
        raise TypeError(
            f"Expected a tensor in the output of {where} to replace, got a packed sequence; choose another layer"
        )
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


def reduce_output(output: Tensor, reduce: Reduce, where: str = "a layer", *, mask: Tensor | None = None) -> Tensor:
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
    mask : bool Tensor of shape (n, T), optional
        The positions that hold a token. For an output (n, T, d) with as many positions, the last position is then the
        last one that the mask keeps, and the mean is that of the kept ones. The other reductions ignore the mask.

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
    if mask is not None and reduce in ("last", "mean") and output.ndim == 3 and output.shape[:2] == mask.shape:
        return _kept_mean(output, mask) if reduce == "mean" else last_kept(output, mask)
    if reduce == "mean":
        return output.mean(1) if output.ndim == 3 else output.flatten(2).mean(2)
    if reduce == "tokens":
        return (output if output.ndim == 3 else output.movedim(1, -1)).flatten(0, -2)
    index, n = -1 if reduce == "last" else int(reduce), output.shape[1]
    if not -n <= index < n:
        raise ValueError(f"Expected an index in [{-n}, {n - 1}] for a position of {where}, got {index}; change reduce=")
    return output[:, index].flatten(1)


def last_kept(output: Tensor, mask: Tensor) -> Tensor:
    """Return the last position (n, ...) of an output (n, T, ...) that a mask (n, T) keeps, or the last one of none."""
    n, length = mask.shape
    last = length - 1 - mask.flip(1).byte().argmax(1)
    return output[torch.arange(n, device=output.device), last.to(output.device)]


def _kept_mean(output: Tensor, mask: Tensor) -> Tensor:
    mask = mask.to(output.device)[:, :, None]
    return output.where(mask, 0).sum(1) / mask.sum(1)


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
        raise TypeError(
            "Expected real numbers, got complex ones; pass a callable output= to attach, or a callable reduce= to a "
            "probe that has it, which makes them real"
        )
    return output if output.dtype in (torch.float32, torch.float64) else output.float()
