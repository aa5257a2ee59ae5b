"""Warnings about data that a model accepts, but that does not mean what it seems to mean."""

import inspect
import random
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from probe.attach.contract import SessionProbe
from probe.forward.data import Batch
from probe.forward.layers import INPUT, OUTPUT
from probe.forward.outputs import reduce_output
from probe.forward.passes import Scored, Tap
from probe.forward.sites import TRACE_ROWS
from probe.forward.snapshot import Snapshot

_REPEATS = 3  # equal passes: outputs with few possible values agree by chance
# Floating-point targets that are probably two classes: the targets in words, and the same classes as integers.
_TWO_CLASSES = {(0, 1): ("0 and 1", "targets.long()"), (-1, 1): ("-1 and 1", "(targets > 0).long()")}
_SCORED_ROWS = 32  # enough rows that logits do not all lie between 0 and 1 by chance
_FIRST: WeakKeyDictionary[Snapshot, dict[str, Tensor]] = WeakKeyDictionary()  # outputs of the first rows, by split
_ORDERED_ROWS = 6  # enough rows that they are rarely sorted already, or are all for one expert


def batch_warnings(snapshot: Snapshot) -> Iterator[str]:
    """Yield a warning for each split in which the output of an input depends on the other inputs in its batch."""
    if OUTPUT not in snapshot.trace.shapes or not snapshot.trace.has_rows(OUTPUT):
        return
    for split, batch in snapshot.data.items():
        one, other = torch.tensor([0, 1]), torch.tensor([0, len(batch) - 1, 1])
        first, different = _first_outputs(snapshot, split), _outputs(snapshot, split, other)
        different = different[[0, 2]] if len(different) == 3 else different[:0]
        if agree(snapshot.model, first, different):
            continue
        if all(agree(snapshot.model, first, _outputs(snapshot, split, one)) for _ in range(_REPEATS)):
            several = len(list(batch.arguments())) > 1
            advice = "mark an argument that all inputs share: probe.shared(x). Otherwise " if several else ""
            if first.shape[1:] != different.shape[1:]:
                advice = "pass output=, a part of what the model returns with its own row for each input. Otherwise "
            yield (
                f"Expected the output of an input not to depend on the other inputs in its batch, got other outputs of "
                f"the first 2 inputs of split {split!r} in a batch of 3; {advice}measurements depend on batch_size and "
                "on the choice of inputs"
            )


def order_warnings(snapshot: Snapshot, taps: Iterable[Tap]) -> Iterator[str]:
    """Yield a warning for each split with layers in which row i does not belong to input i.

    A model may sort its inputs, for example by length or by expert, and put them back in order later.
    """
    trace = snapshot.trace
    named = dict.fromkeys([*(tap.site for tap in taps), *trace.activations])
    sites = [site for site in named if site not in (INPUT, OUTPUT) and trace.is_floating(site) and trace.has_rows(site)]
    for split in snapshot.data if sites else ():
        if disordered := _disordered(snapshot, split, sites):
            yield (
                f"Expected row i of a layer to belong to input i alone, got other rows for the same inputs of split "
                f"{split!r} in another batch at {', '.join(disordered)}; the model sorts or mixes its inputs there, or "
                "decides by the whole batch, so that numbers of these layers, and linear mapping numbers of earlier "
                "ones, are wrong. Name other layers (layers=), or let the model treat each input alone"
            )


def _disordered(snapshot: Snapshot, split: str, sites: Sequence[str]) -> list[str]:
    """Return the sites whose rows are not those of their inputs, in the order of the data or backwards.

    Two copies of an input have equal rows in any order.
    """
    n = len(snapshot.data[split])
    rows = torch.linspace(0, n - 1, min(n, _ORDERED_ROWS)).long()
    before = _random_state(snapshot.device)
    forwards, backwards, first = (
        _rows_at(snapshot, split, sites, some) for some in (rows, rows.flip(0), rows[:1].repeat(2))
    )
    if _random_state(snapshot.device) != before:
        return []  # rows that are drawn differ anyway
    if all(_in_order(snapshot, *(found.get(site) for found in (first, forwards, backwards))) for site in sites):
        return []  # nearly always
    copies = [first, *(_rows_at(snapshot, split, sites, row.repeat(2)) for row in [*rows[1:], rows[0]])]

    def is_disordered(site: str) -> bool:
        everything = (*copies, forwards, backwards)
        if not all(site in found and bool(found[site].isfinite().all()) for found in everything):
            return False  # did not fire, or overflows, which depends on the order of a sum
        *each, again = (found[site][:1] for found in copies)
        if not agree(snapshot.model, each[0], again) or len({value.shape for value in each}) > 1:
            return False  # not a function of the input, or not of one shape
        rows_of_inputs = torch.cat(each)
        ordered = agree(snapshot.model, rows_of_inputs, forwards[site])
        return not (ordered and agree(snapshot.model, rows_of_inputs.flip(0), backwards[site]))

    return list(filter(is_disordered, sites))


def _random_state(device: torch.device) -> list[object]:
    """Return the state of the generators that a forward pass can draw from."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    states = [state.numpy().tobytes() for state in (torch.get_rng_state(), *cuda)]
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    return [*states, random.getstate(), numpy_state[1].tobytes(), *numpy_state[2:]]


def _in_order(snapshot: Snapshot, first: Tensor | None, forwards: Tensor | None, backwards: Tensor | None) -> bool:
    """Return whether the rows of a site are the same, row by row, in the order of the data and backwards."""
    if first is None or forwards is None or backwards is None:
        return False
    return agree(snapshot.model, forwards, backwards.flip(0)) and agree(snapshot.model, first[:1], forwards[:1])


def _rows_at(snapshot: Snapshot, split: str, sites: Sequence[str], rows: Tensor) -> dict[str, Tensor]:
    """Return the rows of sites for some inputs, in one forward pass."""

    def reduce(value: Tensor, targets: Tensor | None, mask: Tensor | None) -> Tensor | None:
        if value.is_nested or value.shape[:1] != (len(rows),):
            return None
        return reduce_output(value, None, mask=mask)

    return snapshot.outputs(split, sites, reduce=Scored(reduce, mask=True), rows=rows)  # type: ignore[arg-type]


def agree(model: nn.Module, one: Tensor, other: Tensor) -> bool:
    """Return whether two outputs are equal up to the rounding of the model: kernels can add in another order."""
    if one.shape != other.shape or not (one.is_floating_point() or one.is_complex()):
        return torch.equal(one, other)
    dtypes = [parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()]
    eps = max(torch.finfo(dtype).eps for dtype in [one.dtype, *dtypes])
    size = one.abs().nan_to_num(0, 0, 0).max().item() if one.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=eps**0.5 * size, equal_nan=True)


def score_warnings(snapshot: Snapshot, probes: Mapping[str, SessionProbe]) -> Iterator[str]:
    """Yield warnings about outputs and targets that the default score takes for something else."""
    if not any(probe.get_params(deep=False).get("score", True) is None for probe in probes.values()):
        return
    for split, batch in snapshot.data.items():
        targets = batch.targets
        if targets is None:
            continue
        if targets.is_floating_point():
            if (classes := _TWO_CLASSES.get(tuple(targets.unique().tolist()))) is not None:
                yield (
                    f"Expected integers as classes, got the floating-point targets {classes[0]} in split {split!r}, "
                    f"which are scored by their squared error; pass {classes[1]} for cross-entropy and accuracy "
                    "(targets.argmax(-1) if each row has a single 1), or PerformanceProbe(score=score_rows) to keep "
                    "the squared error"
                )
            elif _sum_to_one(targets, {targets.ndim - 1, 1}):
                yield (
                    f"Expected numbers as floating-point targets, got probabilities of classes in split {split!r}, "
                    "which are scored by their squared error; pass PerformanceProbe(score=...) with the loss of the "
                    "training, targets.argmax(-1) for the most probable class, or PerformanceProbe(score=score_rows) "
                    "to keep the squared error"
                )
        elif _are_probabilities(snapshot, split):
            yield (
                f"Expected logits as the output of the model, got probabilities in split {split!r}, which are scored "
                "as if they were logits; return logits, or pass output=lambda output: output.log() (torch.logit for "
                "the output of a sigmoid)"
            )


def _are_probabilities(snapshot: Snapshot, split: str) -> bool:
    """Return whether outputs are those of a softmax (they sum to 1), or of the last sigmoid of the model."""
    rows = torch.arange(min(_SCORED_ROWS, len(snapshot.data[split])))
    for run in (lambda: _first_outputs(snapshot, split), lambda: _outputs(snapshot, split, rows)):
        outputs = run()  # the first rows show most logits
        if outputs.is_complex() or not ((outputs >= 0) & (outputs <= 1)).all():
            return False
    if _sum_to_one(outputs, {1, outputs.ndim - 1}):
        return True
    sigmoids = [site for site in snapshot.trace.order if "sigmoid" in site and site.endswith("->")]
    found = snapshot.outputs(split, sigmoids, reduce="none", rows=rows)
    return any(torch.equal(value.flatten(), outputs.flatten()) for value in found.values())


def _sum_to_one(values: Tensor, axes: Collection[int]) -> bool:
    """Return whether values are probabilities whose sums over one of these axes are 1."""
    if values.ndim < 2 or not ((values >= 0) & (values <= 1)).all():
        return False
    sums = (values.double().sum(axis) for axis in axes if values.shape[axis] > 1)
    return any(((total - 1).abs() < 1e-2).all() for total in sums)


def _outputs(snapshot: Snapshot, split: str, rows: Tensor) -> Tensor:
    return snapshot.outputs(split, [OUTPUT], reduce="none", rows=rows)[OUTPUT]


def _first_outputs(snapshot: Snapshot, split: str) -> Tensor:
    """Return the outputs of the first rows, from one pass for all checks."""
    found = _FIRST.setdefault(snapshot, {})
    if split not in found:
        found[split] = _outputs(snapshot, split, torch.arange(TRACE_ROWS))
    return found[split]


def padding_warnings(model: nn.Module, data: Mapping[str, Batch], shapes: Iterable[tuple[int, ...]]) -> Iterator[str]:
    """Yield a warning for each split whose padding can be at the last position of a layer.

    ``shapes`` are those of the layers that are measured at their last position.
    """
    lengths = {batch.n_positions for batch in data.values()}
    measured = {shape[1] for shape in shapes if len(shape) == 3}
    if names := dict.fromkeys(name for batch in data.values() for name in _other_masks(batch, measured)):
        yield (
            f"Expected padding to be marked by attention_mask, got {', '.join(names)}, which differs between inputs at "
            "the last position, where layers are measured; if it marks padding, let the model take it as "
            "attention_mask (true for tokens), pad on the left, or give another reduce=: 0 or a callable"
        )
    for split, batch in data.items():
        n = 0 if batch.mask is None else int((~batch.mask[:, -1]).sum())
        if n and measured - lengths:
            yield (
                f"Expected layers of {batch.n_positions} positions, as attention_mask has, got layers of "
                f"{', '.join(map(str, sorted(measured - lengths)))} positions, whose last one can be padding in {n} of "
                f"{len(batch)} inputs of split {split!r}; pad on the left, or give another reduce=: 0 (the first "
                "position) or a callable"
            )
        if n and measured & lengths and _decodes(model, batch):
            yield (
                f"Expected attention_mask to belong to all layers, got a decoder whose inputs have {batch.n_positions} "
                f"positions too in split {split!r}. Its layers are measured at the last position that attention_mask "
                "keeps; pass targets of another length, or give reduce=-1 for the layers of the decoder"
            )


def _other_masks(batch: Batch, lengths: Collection[int]) -> Iterator[str]:
    """Yield the names of masks (n, T) that may mark padding at the last of these numbers of positions."""
    for name, leaf in batch.arguments():
        if leaf.ndim == 2 and leaf.shape[1] in lengths and "attention_mask" not in name:
            is_mask = leaf.dtype == torch.bool or ("mask" in name and ((leaf == 0) | (leaf == 1)).all())
            if is_mask and len(leaf[:, -1].unique()) > 1:
                yield name


def _decodes(model: nn.Module, batch: Batch) -> bool:
    """Return whether the model has a decoder with inputs of its own, of the length of ``attention_mask``."""
    names = inspect.signature(model.forward).parameters
    if not any("decoder" in name for name in names):
        return False
    own = (value for name, value in batch.named_inputs.items() if "decoder" in name or name == "labels")
    return any(isinstance(value, Tensor) and value.shape[1:2] == (batch.n_positions,) for value in own)
