"""The position of the outputs that a target belongs to, and targets that are given among the inputs.

A causal language model predicts the next token: its output at position t belongs to the target at t + 1. Some models
shift their labels themselves, so that targets can equal the input tokens. Nothing is applied without a warning.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from probe.errors import warn_user
from probe.forward.data import Batch
from probe.forward.isolation import device_of, isolated, user_defaults
from probe.forward.layers import IGNORED
from probe.forward.outputs import Select, single_numbers, tensor_of
from probe.forward.passes import call_model
from probe.forward.scores import score_rows
from probe.forward.sites import TRACE_ROWS

_LABELS = "labels"  # the argument with which a model computes its own loss


@dataclass(frozen=True)
class _Finding:
    """A recognised shift (None: unknown), the reason, and whether the targets are the labels among the inputs."""

    shift: int | None
    reason: str = ""
    adopted: bool = False


def align_targets(
    model: nn.Module, data: Mapping[str, Batch], shift: int | None, output: Select
) -> tuple[dict[str, Batch], int]:
    """Return data whose targets stand at the positions of the outputs that predict them, and the shift.

    Parameters
    ----------
    model, data
        The model and the data of each split.
    shift
        Number of positions by which targets (n, T) are moved to the left. None: recognise it.
    output
        What the output of the model is.

    Warns
    -----
    ProbeWarning
        If ``shift`` is None and targets are moved, or labels among the inputs become targets or are not used.
    """
    if shift is not None:
        _check_shift(data, shift)
    findings = {split: _found(model, batch, output, shift) for split, batch in data.items()}
    moved = max((finding.shift or 0 for finding in findings.values()), default=0) if shift is None else shift
    aligned = {}
    for split, batch in data.items():
        targets = batch.inputs[_LABELS] if findings[split].adopted else batch.targets
        aligned[split] = batch.with_targets(targets, moved if _has_positions(targets) else 0)
    for text in _messages(findings, shift):
        warn_user(text)
    return aligned, moved


def _messages(findings: Mapping[str, _Finding], shift: int | None) -> Iterator[str]:
    """Yield a warning for each kind of finding."""
    adopted = [split for split, finding in findings.items() if finding.adopted]
    if adopted:
        finding = findings[adopted[0]]
        yield (
            f"Expected targets, got None and {_LABELS!r} among the inputs of {', '.join(adopted)}, which are used as "
            f"targets with targets_shift={finding.shift}, since {finding.reason}; pass (inputs, {_LABELS}) and "
            f"targets_shift={finding.shift} to confirm"
        )
    elif shift is None and any(finding.shift for finding in findings.values()):
        splits = [split for split, finding in findings.items() if finding.shift]
        yield (
            f"Expected targets_shift= for targets that equal the input tokens of {', '.join(splits)}, got None; "
            f"targets_shift=1 is used, since {findings[splits[0]].reason}. Pass targets_shift=1 to confirm, or 0 if "
            "the output at position t belongs to the target at t"
        )
    for split, finding in findings.items():
        if finding.shift is None and finding.reason:
            yield f"{finding.reason} (split {split!r})"


def _check_shift(data: Mapping[str, Batch], shift: Any) -> None:
    """Raise ValueError for a shift that does not fit the targets."""
    if isinstance(shift, bool) or not isinstance(shift, int) or shift < 0:
        raise ValueError(f"Expected targets_shift to be None, 0 or a positive integer, got {shift!r}; pass 1 or None")
    for split, batch in data.items():
        found = batch.targets
        if shift and found is not None and not (_has_positions(found) and found.shape[1] > shift):
            raise ValueError(
                f"Expected integer targets (n, T) with T > {shift} for targets_shift={shift}, got shape "
                f"{tuple(found.shape)} and {str(found.dtype).removeprefix('torch.')} in split {split!r}; pass "
                "targets_shift=0"
            )


def _has_positions(targets: Tensor | None) -> TypeGuard[Tensor]:
    return targets is not None and targets.ndim == 2 and not targets.is_floating_point()


def _found(model: nn.Module, batch: Batch, output: Select, shift: int | None) -> _Finding:
    targets = batch.targets
    labels = batch.inputs.get(_LABELS) if isinstance(batch.inputs, Mapping) else None
    if isinstance(labels, Tensor) and labels.ndim and targets is None:
        return _by_own_loss(model, batch, labels, output, [0, 1] if shift is None else [shift])
    if shift is not None:
        return _Finding(shift)
    if targets is None:
        return _Finding(None, _unrecorded(model, batch))
    if isinstance(labels, Tensor) and _equal(labels, targets):
        finding = _by_own_loss(model, batch, labels, output, [0, 1])
        if finding.shift is not None:
            return finding
    if _is_next_token_task(model, batch, targets, output):
        return _Finding(1, "each target equals the token at its position and the outputs do not depend on later tokens")
    return _Finding(None)


def _by_own_loss(model: nn.Module, batch: Batch, labels: Tensor, output: Select, shifts: Sequence[int]) -> _Finding:
    """Find the shift with which the outputs have the loss that the model returns for its labels."""
    adopts = batch.targets is None
    part = batch.with_targets(labels).subset(_rows_with_targets(labels), device_of(model))
    returned = _run(model, part)
    numbers = single_numbers(returned)
    loss = numbers.get("loss", next(iter(numbers.values()), None))
    if loss is not None:
        own, outputs = loss.item(), tensor_of(returned, "the model", output).detach()
        close = [shift for shift in shifts if _has_loss(part, shift, outputs, own)]
        if len(close) == 2:  # an output that is the same at all positions
            close = [1] if _is_next_token_task(model, batch, labels, output) else [0]
        if close:
            return _Finding(close[0], f"the loss is then the model's own ({own:.4g})", adopts)
    got = "does not return a loss for them" if loss is None else f"returns another loss for them ({own:.4g})"
    text = (
        f"Expected targets, got None and {_LABELS!r} among the inputs; no loss is recorded, since the model {got}: "
        "pass (inputs, targets), with integers for cross-entropy and floating-point numbers for squared error, and "
        "PerformanceProbe(score=...) for another loss"
    )
    return _Finding(None, text if adopts else "")


def _unrecorded(model: nn.Module, batch: Batch) -> str:
    """Return a warning if the model returns a number, such as a loss of targets that are among its inputs."""
    numbers = single_numbers(_run(model, batch.subset(torch.arange(TRACE_ROWS), device_of(model))))
    if not numbers:
        return ""
    names = ", ".join(map(repr, numbers))
    return (
        f"Expected targets, got None; the single numbers that the model returns ({names}) are not recorded: pass "
        "(inputs, targets) for a loss, or record them with observe(step, loss=...)"
    )


def _has_loss(part: Batch, shift: int, outputs: Tensor, own: float) -> bool:
    """Return whether the outputs have this loss up to rounding if the targets are moved by the shift."""
    if shift and not (_has_positions(part.targets) and part.targets.shape[1] > shift):
        return False
    half = outputs.dtype in (torch.float16, torch.bfloat16)
    return abs(_loss(outputs, part.with_targets(part.targets, shift)) - own) <= (2e-2 if half else 1e-4) * abs(own)


def _loss(outputs: Tensor, part: Batch) -> float:
    """Return the mean loss, or infinity if outputs and targets do not fit."""
    try:
        scores = score_rows(outputs, part.targets, part.mask).double().sum(0)
    except (ValueError, RuntimeError, IndexError):
        return math.inf
    return (scores[0] / scores[2]).item()


def _rows_with_targets(targets: Tensor) -> Tensor:
    """Return the rows with most targets, as many as a trace has."""
    counts = (targets != IGNORED).flatten(1).sum(1) if targets.ndim > 1 else targets != IGNORED
    return counts.long().argsort(descending=True, stable=True)[:TRACE_ROWS].cpu()


def _is_next_token_task(model: nn.Module, batch: Batch, targets: Tensor, output: Select) -> bool:
    """Return whether targets equal input tokens, and no output depends on later tokens.

    Such a model would only have to repeat its input, unless its targets are those of the next position.
    """
    if not _has_positions(targets) or targets.shape[1] < 2:
        return False
    counted = targets != IGNORED
    for name, tokens in _arguments(batch.inputs):
        if name == _LABELS or tokens.shape != targets.shape or tokens.is_floating_point():
            continue
        tokens = tokens.to(targets.device)
        if counted.any() and _equal(tokens[counted], targets[counted]):
            return _is_causal(model, batch, _rows_with_targets(targets), name, output)
    return False


def _is_causal(model: nn.Module, batch: Batch, rows: Tensor, name: Any, output: Select) -> bool:
    """Return whether the output at the first position stays the same when all later tokens change."""
    part = batch.subset(rows, device_of(model))
    tokens = dict(_arguments(part.inputs))[name]
    low, high = tokens.min(), tokens.max()
    changed = tokens.clone()
    changed[:, 1:] = torch.where(tokens[:, 1:] == low, high, low)
    other = Batch(_replaced(part.inputs, tokens, changed), None)
    before, after = (tensor_of(_run(model, one), "the model", output).detach().double() for one in (part, other))
    if before.ndim == 3 and before.shape[1] != tokens.shape[1]:
        before, after = before.mT, after.mT  # (n, K, T)
    if before.ndim != 3 or before.shape != after.shape or before.shape[:2] != tokens.shape:
        return False
    size = 1e-6 * before.abs().max()  # a causal model computes the first position from the same numbers
    same = (before - after).abs().amax(2) <= size  # (n, T)
    return bool(same[:, 0].all() and not same[:, 1:].all())


def _run(model: nn.Module, batch: Batch) -> Any:
    inputs, _ = batch.take(torch.arange(len(batch)), device_of(model))
    with isolated(model), user_defaults():
        return call_model(model, inputs)


def _arguments(inputs: Any) -> list[tuple[Any, Tensor]]:
    """Return the tensors among the arguments of the model, with their keys or places."""
    if isinstance(inputs, Mapping):
        pairs = list(inputs.items())
    else:
        pairs = list(enumerate(inputs if isinstance(inputs, tuple) else (inputs,)))
    return [(name, value) for name, value in pairs if isinstance(value, Tensor) and value.ndim]


def _replaced(inputs: Any, old: Tensor, new: Tensor) -> Any:
    if isinstance(inputs, Mapping):
        return {key: new if value is old else value for key, value in inputs.items()}
    if isinstance(inputs, tuple):
        return tuple(new if value is old else value for value in inputs)
    return new


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool((one.to(other.device) == other).all())
