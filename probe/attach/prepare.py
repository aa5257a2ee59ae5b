"""Preparation of an attachment: check model, data and probes, trace the model, try out what observations will do."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import nn

from probe.attach.checks import attach_warnings, check_model, check_optimizer, check_requirements, check_training
from probe.attach.columns import describe_parameter, describe_probe
from probe.attach.contract import SessionProbe
from probe.attach.data_checks import batch_warnings, order_warnings, padding_warnings, score_warnings
from probe.attach.hidden_state import hidden_state_warnings
from probe.attach.side_effects import written_places
from probe.attach.targets import align_targets
from probe.attach.unused_positions import position_warnings
from probe.errors import RanksApartError, warn_user
from probe.forward import tracing
from probe.forward.data import Batch, read_data, shape_of
from probe.forward.isolation import device_of, isolated, torch_defaults
from probe.forward.layers import OUTPUT, unwrap
from probe.forward.model_state import Place, Structure, attribute_of
from probe.forward.outputs import OutputError, Select
from probe.forward.passes import Tap
from probe.forward.runner import Division
from probe.forward.saved_values import checksum
from probe.forward.shards import begin_shards, is_sharded
from probe.forward.sites import TRACE_ROWS, Trace
from probe.forward.snapshot import Snapshot
from probe.forward.training import TrainingContext
from probe.interrupts import interruptible
from probe.recording.provenance import provenance_json


@dataclass(frozen=True)
class Prepared:
    """A model, data and probes that fit together.

    ``taps`` is what the probes take from the shared forward pass, ``written`` the attributes of modules that forward
    passes write to, and ``division`` the ranks that divide the passes of an observation.
    """

    probes: Mapping[str, SessionProbe]
    model: nn.Module
    data: Mapping[str, Batch]
    trace: Trace
    taps: Sequence[Tap]
    written: set[Place]
    training: TrainingContext | None
    batch_size: int
    targets_shift: int
    division: Division | None = None
    _structures: list[Structure] = field(default_factory=list, repr=False)

    @property
    def structure(self) -> Structure | None:
        """Return the structure of the model at the last observation, if it was kept."""
        return self._structures[0] if self._structures else None

    def keep(self, structure: Structure) -> None:
        """Keep a structure for the next observation, unless it holds tensors that the model may let go before."""
        self._structures[:] = [structure] if structure.contents.lasting else []

    @property
    def device(self) -> torch.device:
        """Return the device of the model, which may move."""
        return device_of(self.model)

    def snapshot(self, step: int) -> Snapshot:
        """Return the model at this step, as probes receive it. Training flags must be those of the training."""
        snapshot = Snapshot(
            self.model,
            step,
            self.data,
            self.trace,
            shared=self.taps,
            batch_size=self.batch_size,
            division=self.division,
        )
        snapshot.training = None if self.training is None else self.training.of(self.model)
        return snapshot

    def moved_to(self, model: nn.Module) -> "Prepared":
        """Return the same for another model with the same modules and shapes, whose checks would find the same."""
        return replace(self, model=unwrap(model), _structures=[])

    def weights(self) -> tuple[int, int]:
        """Return a mark that changes whenever the weights are written or replaced."""
        module, name = self._first
        try:
            first = module._parameters[name]
        except KeyError:  # the module has other parameters now
            first = None
        if first is None:
            first = next(self.model.parameters())
        return first._version, first.data_ptr()

    @cached_property
    def _first(self) -> tuple[nn.Module, str]:
        """Return the module that holds the first parameter, and its name there. This is quicker than a search."""
        modules = self.model.modules()
        return next((one, name) for one in modules for name, value in one._parameters.items() if value is not None)

    def header(self, *, recorded: bool) -> dict[str, Any]:
        """Return the header of the journal. The data is fingerprinted for a file only, as only a file is resumed."""
        estimators = {name: describe_probe(probe) for name, probe in self.probes.items()}
        return {
            "configuration": {
                "probes": estimators,
                "data": {split: [len(batch), batch.digest()] for split, batch in self.data.items() if recorded},
                "layers": self.trace.order,
                "output": describe_parameter(self.trace.output),
                "targets_shift": self.targets_shift or None,
            },
            "order": {"layer": self.trace.order, "split": list(self.data)},
            "provenance": provenance_json(
                list(estimators.values()), device=self.device.type, model=type(self.model).__name__
            ),
        }


def prepare(
    probes: Mapping[str, SessionProbe],
    model: Any,
    data: Any,
    *,
    optimizer: torch.optim.Optimizer | None,
    training: TrainingContext | None,
    step: int,
    batch_size: int,
    output: Select = None,
    targets_shift: int | None = None,
    division: Division | None = None,
    compare: Callable[[nn.Module, Mapping[str, Batch]], None] = lambda model, data: None,
) -> Prepared:
    """Check that probes, model and data fit, and leave the model unchanged. What cannot work raises an error.

    ``compare`` raises an error if other ranks have another model or other data.
    """
    model = unwrap(model)
    check_model(model, together=division is not None)
    begin_shards(model)
    if optimizer is not None:
        check_optimizer(optimizer, model)
    _check_output_setting(output)
    batches = {split: batch.with_names(model) for split, batch in read_data(data).items()}
    compare(model, batches)
    if training is not None:
        check_training(training, model, step)
    context = None if training is None else training.of(model)
    passes = division if is_sharded(model) else None
    with isolated(model) as state, torch_defaults(), nullcontext() if is_sharded(model) else interruptible():
        trace = _traced(model, batches, output)
        batches, targets_shift = align_targets(model, batches, targets_shift, output)
        check_requirements(probes, batches, training)
        snapshot = Snapshot(model, step, batches, trace, batch_size=batch_size, division=passes)
        with nullcontext() if division is None else division.together("the choice of layers"):
            taps = [tap for probe in probes.values() for tap in probe.taps(snapshot)]
        _try_shared_pass(model, step, batches, trace, taps, passes)
        if context is not None:
            _try_update(context, model, step)
        notes = list(batch_warnings(snapshot)) or list(order_warnings(snapshot, taps))
        notes += score_warnings(snapshot, probes)
        shapes = [trace.shapes.get(tap.site, ()) for tap in taps if tap.reduce in (None, "last")]
        positions = list(padding_warnings(model, batches, shapes)) or list(position_warnings(snapshot, taps))
        few, _ = next(iter(batches.values())).take(torch.arange(TRACE_ROWS), device_of(model))
        written = written_places(state, model, few)
        notes += hidden_state_warnings(state, model, few, output)
    for text in [*attach_warnings(model, written), *positions, *notes]:
        warn_user(text)
    places = set(map(attribute_of, written))
    return Prepared(dict(probes), model, batches, trace, taps, places, training, batch_size, targets_shift, division)


def _check_output_setting(output: Any) -> None:
    if not (output is None or callable(output) or (isinstance(output, (str, int)) and not isinstance(output, bool))):
        raise TypeError(
            f"Expected output to be a key, an index, the name of an attribute or a function, got {output!r}; pass one"
        )


def _traced(model: nn.Module, data: Mapping[str, Batch], output: Select) -> Trace:
    trace = Trace(output=output)
    for split, batch in data.items():
        inputs, _ = batch.take(torch.arange(TRACE_ROWS), device_of(model))
        try:
            trace.merge(tracing.trace(model, inputs, output=output))
        except OutputError:
            raise
        except Exception as error:
            raise ValueError(
                f"Expected the model to accept two inputs of split {split!r} ({shape_of(inputs)}), got "
                f"{type(error).__name__}: {error}; give (inputs, targets) or {{split: (inputs, targets)}} with inputs "
                "as the model takes them, also in dtype: x for model(x), a tuple for model(*x), a mapping for "
                f"model(**x){_about_arguments(batch)}"
            ) from error
    return trace


def _about_arguments(batch: Batch) -> str:
    """Return further advice for a model with several arguments that rejects a few rows of them."""
    if batch.n_shared:
        return (
            ". A model that needs all rows at once, as the nodes of one graph, has no inputs that can be measured one "
            "by one: pass several graphs, or several signals on one graph"
        )
    if len(list(batch.arguments())) > 1:
        return ". Mark an argument that all inputs share: probe.shared(x)"
    return ""


def _try_shared_pass(
    model: nn.Module,
    step: int,
    data: Mapping[str, Batch],
    trace: Trace,
    taps: Sequence[Tap],
    division: Division | None,
) -> None:
    """Run the shared pass over two rows of each split, so that an error is raised now and not flagged at each step."""
    for tap in taps:
        if tap.site == OUTPUT:
            trace.check_output(tap.reduce)
    for split, batch in data.items():
        few = {split: batch.subset(torch.arange(TRACE_ROWS), device_of(model))}
        try:
            Snapshot(model, step, few, trace, shared=taps, division=division).run_shared_pass()
        except RanksApartError:
            raise
        except Exception as error:
            raise ValueError(
                f"Expected the probes to measure two inputs of split {split!r} ({shape_of(few[split].inputs)}), got "
                f"{type(error).__name__}: {error}; correct the probe, its layers= or its reduce="
            ) from error


def _try_update(training: TrainingContext, model: nn.Module, step: int) -> None:
    """Update a copy once. A ``step_fn`` that writes to the model itself would change the training."""
    before = _training_state(training.optimizer, model)
    with isolated(model):
        copied, optimizer = training.copy(model)
        try:
            training.update(copied, optimizer, training.batches(step, 1)[0])
        except Exception as error:
            raise ValueError(
                f"Expected training.step_fn to update a copy of the model, got {type(error).__name__}: {error}; use "
                "the arguments (model, optimizer, batch) only, and if the model returns an object, give a loss that "
                "selects its logits: lambda outputs, targets: cross_entropy(outputs.logits, targets)"
            ) from error
    if changed := [name for name, value in _training_state(training.optimizer, model).items() if value != before[name]]:
        raise ValueError(
            f"Expected training.step_fn to change its arguments only, got other {', '.join(changed)} of the attached "
            "training; use the arguments (model, optimizer, batch) in the function. Build model, optimizer and "
            "scheduler anew, since this attempt has changed them"
        )


def _training_state(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Any]:
    """Return checksums of all that an update may change, by what it is."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    tensors: dict[str, Iterable[torch.Tensor]] = {
        "parameters": model.parameters(),
        "gradients": gradients,
        "buffers": model.buffers(),
    }
    state: dict[str, Any] = {name: [checksum(tensor) for tensor in found] for name, found in tensors.items()}
    groups = optimizer.param_groups
    settings = [{key: repr(value) for key, value in group.items() if key != "params"} for group in groups]
    return state | {"settings of the optimizer": settings}
