"""Batches of different lengths, joined with one padding."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.forward.data import leaves_of
from probe.forward.layers import IGNORED

_TARGETS = "targets"


def joined(pairs: Sequence[tuple[Any, Any]], n: int, pad: Mapping[str | int, float], tokenizer: Any) -> tuple[Any, Any]:
    """Return the first n rows of pairs (inputs, targets), padded to the longest.

    ``pad`` has values at padding by name or position. ``tokenizer`` is that of the collator, if it has one.
    """
    for one in pairs:
        _check_rows(*one)
    values = {"attention_mask": 0.0, **_masked_values(pairs), **pad}
    if getattr(tokenizer, "pad_token_id", None) is not None:
        values.setdefault("input_ids", tokenizer.pad_token_id)
    left = getattr(tokenizer, "padding_side", "right") == "left" or any(_starts_late(inputs) for inputs, _ in pairs)
    inputs = _join([inputs for inputs, _ in pairs], "inputs", n, values, left)
    targets = _join([targets for _, targets in pairs], _TARGETS, n, values, left)
    return inputs, targets


def _check_rows(inputs: Any, targets: Any) -> None:
    """Raise ValueError unless all tensors of a batch have the same number of rows."""
    if targets is not None and not isinstance(targets, Tensor):
        raise ValueError(
            f"Expected a tensor of targets in a batch, got {type(targets).__name__}; name them with targets=, or "
            "leave them out with targets=None"
        )
    tensors = [leaf for leaf in leaves_of(inputs) if isinstance(leaf, Tensor)]
    tensors += [] if targets is None else [targets]
    if tensors and (not any(tensor.ndim for tensor in tensors) or (targets is not None and not targets.ndim)):
        raise ValueError(
            "Expected batches, got a single row; pass DataLoader(data, batch_size=...), or collate=, which joins rows"
        )
    if len(lengths := {len(tensor) for tensor in tensors if tensor.ndim}) > 1:
        raise ValueError(
            f"Expected the same number of rows in all tensors of a batch, got {sorted(lengths)}; name those of the "
            "model with inputs=[...], and add others to the result as probe.shared(value). Single rows need a "
            "DataLoader, or collate="
        )


def _mask(inputs: Any) -> Tensor | None:
    mask = inputs.get("attention_mask") if isinstance(inputs, Mapping) else None
    return mask if isinstance(mask, Tensor) and mask.ndim == 2 else None


def _masked_values(pairs: Sequence[tuple[Any, Any]]) -> dict[str | int, float]:
    """Return the value of each input at the positions that the mask leaves out, where it is the same at all."""
    found: dict[str | int, set[float]] = {}
    for inputs, _ in pairs:
        mask = _mask(inputs)
        for name, value in inputs.items() if mask is not None else ():
            if isinstance(value, Tensor) and mask is not None and value.shape == mask.shape:
                found.setdefault(name, set()).update(value[mask == 0].unique().tolist())
    return {name: values.pop() for name, values in found.items() if len(values) == 1}


def _starts_late(inputs: Any) -> bool:
    """Return whether rows are padded on the left."""
    mask = _mask(inputs)
    return mask is not None and bool((mask[:, 0] == 0).any() and (mask[:, -1] != 0).all())


def _join(parts: Sequence[Any], name: str | int, n: int, values: Mapping[str | int, float], left: bool) -> Any:
    first = parts[0]
    if isinstance(first, Mapping):
        if other := [part for part in parts if set(part) != set(first)]:
            raise ValueError(
                f"Expected the entries {', '.join(map(str, first))} in each batch, got {', '.join(map(str, other[0]))};"
                " name those of the model with inputs=[...]"
            )
        return {key: _join([part[key] for part in parts], key, n, values, left) for key in first}
    if isinstance(first, tuple):
        items = [_join(list(each), i, n, values, left) for i, each in enumerate(zip(*parts, strict=True))]
        return type(first)(*items) if hasattr(first, "_fields") else tuple(items)
    if not isinstance(first, Tensor) or first.ndim == 0:
        if isinstance(first, Tensor) and len(found := {part.item() for part in parts}) > 1:
            raise ValueError(
                f"Expected the same {name} in all batches, got {sorted(found)[:4]}; leave it out with inputs=[names], "
                "or take n rows of the first batch"
            )
        return first
    return torch.cat(_padded(parts, name, values, left))[:n].detach().clone()


def _padded(parts: Sequence[Tensor], name: str | int, values: Mapping[str | int, float], left: bool) -> list[Tensor]:
    """Return tensors of the same length. Their rows are at axis 0, and what may differ is axis 1."""
    shapes = {tuple(part.shape[1:]) for part in parts}
    if len(shapes) == 1:
        return list(parts)
    lengths, rest = {shape[:1] for shape in shapes}, {shape[1:] for shape in shapes}
    value = values.get(name)
    if value is None and name == _TARGETS and not parts[0].is_floating_point():
        value = IGNORED
    if value is None or len(rest) > 1 or () in lengths:
        raise ValueError(
            f"Expected batches of one length, got {sorted(shapes)} for {name!r}; pass pad={{{name!r}: value}}, or a "
            "dataset and collate=, which pads all rows alike"
        )
    longest = max(part.shape[1] for part in parts)
    gaps = [longest - part.shape[1] for part in parts]
    behind = [0, 0] * (parts[0].ndim - 2)
    return [
        F.pad(part, [*behind, *((gap, 0) if left else (0, gap))], value=value)
        for part, gap in zip(parts, gaps, strict=True)
    ]
