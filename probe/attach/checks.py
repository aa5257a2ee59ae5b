"""Checks of what is attached: settings, model, optimizer and training context; and warnings about legal inputs."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from probe.attach.contract import SessionProbe
from probe.attach.side_effects import describe_places
from probe.attach.step_hook import hooked_optimizers, of_a_session
from probe.forward.data import Batch
from probe.forward.isolation import isolated
from probe.forward.model_state import Place
from probe.forward.saved_values import tensors_equal
from probe.forward.shards import divided_otherwise, is_inner, is_sharded, is_stage, n_ranks, refuse_sharded
from probe.forward.training import TrainingContext

_NEEDS = ("targets", "training")


def check_settings(on_error: str, mode: str | None, schedule: Any, *, counted: bool, step: int | None) -> None:
    """Raise an error for settings that contradict each other."""
    if on_error not in ("warn", "raise"):
        raise ValueError(f"Expected on_error to be 'warn' or 'raise', got {on_error!r}; choose one of the two")
    if mode == "resume" and counted and step is None:
        raise ValueError("Expected step= with mode='resume' and an optimizer, got None; give the updates made so far")
    if schedule is not None and not callable(schedule):
        raise TypeError(
            f"Expected schedule to be a function step -> bool, got {schedule!r}; use probe.every(100) or "
            "probe.at([0, 10, 100])"
        )


def check_model(model: Any, *, together: bool = False) -> None:
    """Raise an error for a model that cannot be observed. ``together``: all ranks of the training attach."""
    if not isinstance(model, nn.Module):
        advice = f"use fully_shard on the whole model, or {_COPY}" if is_stage(model) else "give the module itself"
        raise TypeError(f"Expected model to be a torch.nn.Module, got {type(model).__name__}; {advice}")
    kind, named = torch.jit.ScriptModule, model.named_modules()
    if scripted := [name or "the whole model" for name, module in named if isinstance(module, kind)]:
        raise TypeError(
            f"Expected modules of Python, whose layers hooks can read, got TorchScript in {_first_five(scripted)}; "
            "attach to the module from which torch.jit.script or torch.jit.trace made it"
        )
    _check_division(model, together)
    held = [*model.named_parameters(), *model.named_buffers()]
    if lazy := [name for name, tensor in held if is_lazy(tensor)]:
        raise ValueError(
            f"Expected initialised parameters, got {_first_five(lazy)} of a lazy module; run the model once, "
            "model(x), before the optimizer is made and probes are attached"
        )
    if empty := [name for name, tensor in held if tensor.device.type == "meta"]:
        raise ValueError(
            f"Expected parameters with values, got {_first_five(empty)} on the meta device; load values first: "
            "model.to_empty(device=...), model.load_state_dict(...)"
        )


_COPY = (
    "gather the parameters (torch.distributed.checkpoint.state_dict.get_model_state_dict with full_state_dict=True), "
    "load them into an unsharded copy of the model on one rank, attach to this copy without an optimizer and with "
    "ranks='this', and call observe(step)"
)


def _check_division(model: nn.Module, together: bool) -> None:
    """Raise TypeError for a model that is divided among ranks, unless ``fully_shard`` did it and all ranks attach."""
    if divided := divided_otherwise(model):
        raise TypeError(
            f"Expected whole parameters, or those that fully_shard divides among all ranks, got "
            f"{' and '.join(dict.fromkeys(divided.values()))} in {_first_five(list(divided))}; use fully_shard (FSDP2) "
            f"on the whole model, or {_COPY}"
        )
    if is_sharded(model) and not together and n_ranks() > 1:
        raise TypeError(
            "Expected ranks='all' for a model that fully_shard divides, since each forward pass needs all ranks, got "
            f"ranks='this'; attach on all ranks, or {_COPY}"
        )
    if is_sharded(model) and is_inner(model):
        raise TypeError(
            "Expected the model that fully_shard got last, got a module inside of it, which cannot run alone; attach "
            "the whole model, and select layers by layers="
        )


def _first_five(names: list[str]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"


def check_optimizer(optimizer: Any, model: nn.Module, name: str = "optimizer") -> None:
    """Raise an error for an optimizer that does not train the model."""
    if isinstance(optimizer, (list, tuple)):
        raise TypeError(
            f"Expected {name} to be one torch.optim.Optimizer, got {len(optimizer)} of them; give the one that steps "
            "last: its updates are counted, and the model is observed after them"
        )
    found, kind = hooked_optimizers(optimizer), type(optimizer).__name__
    if not found:
        reason = (
            f"{kind}, whose __init__ does not call that of torch.optim.Optimizer, so that its steps call no hooks; "
            "attach without an optimizer and call observe(step)"
            if isinstance(optimizer, torch.optim.Optimizer)
            else f"{kind}; give the optimizer itself"
        )
        raise TypeError(f"Expected {name} to be a torch.optim.Optimizer, got {reason}")
    inside = {id(inner) for one in found for inner in hooked_optimizers(one)[1:]}
    if len(outer := [one for one in found if id(one) not in inside]) > 1:
        raise TypeError(
            f"Expected {name} to be one torch.optim.Optimizer, got {kind}, which holds {len(outer)} of them; give the "
            "one that steps last: its updates are counted, and the model is observed after them"
        )
    trained = {id(parameter) for one in found for group in one.param_groups for parameter in group["params"]}
    if not any(id(parameter) in trained for parameter in model.parameters()):
        raise ValueError(
            f"Expected {name} to hold parameters of this model, got none; give the optimizer that trains it. A copy "
            "that is not trained itself (an average of weights), or a model whose optimizer updates other copies of "
            "its parameters (sharded, in higher precision), is attached without an optimizer: call observe(step)"
        )


def check_training(training: Any, model: nn.Module, step: int) -> None:
    """Raise an error for a training context that cannot train copies of the model."""
    if not isinstance(training, TrainingContext):
        raise TypeError(
            f"Expected training to be a probe.forward.TrainingContext, got {type(training).__name__}; give "
            "TrainingContext.usual(optimizer, loss, loader), or TrainingContext(optimizer, step_fn, batches)"
        )
    refuse_sharded(model, "training=, which trains copies of the model")
    check_optimizer(training.optimizer, model, "training.optimizer")
    if hooked_optimizers(training.optimizer) != [training.optimizer]:
        raise TypeError(
            "Expected training.optimizer to be a torch.optim.Optimizer that holds no other, since copies of it train "
            f"copies of the model, got {type(training.optimizer).__name__}; give the inner optimizer"
        )
    for name in ("step_fn", "batches"):
        if not callable(getattr(training, name)):
            found = type(getattr(training, name)).__name__
            raise TypeError(f"Expected training.{name} to be a function, got {found}; give the function itself")
    _check_hooks(training.optimizer, model)
    with isolated(model):  # restores random states that the batches may set
        first, second = training.batches(step, 2), training.batches(step, 2)
    for result in (first, second):
        if not hasattr(result, "__len__") or len(result) != 2:
            size = f"{len(result)} of them" if hasattr(result, "__len__") else type(result).__name__
            raise ValueError(
                f"Expected training.batches({step}, 2) to return a list of 2 batches, got {size}; return a list of n"
            )
    if not all(map(_equal, first, second)):
        raise ValueError(
            f"Expected training.batches({step}, 2) to return the same batches twice, got different ones; make the "
            "batches a function of the step, with random numbers from a generator seeded by the step"
        )


def _check_hooks(optimizer: torch.optim.Optimizer, model: nn.Module) -> None:
    """Raise ValueError for hooks that a copy of the training would lack, so that it would train otherwise."""
    on_tensors = [
        name
        for name, parameter in model.named_parameters()
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None)
    ]
    before = [hook for hook in optimizer._optimizer_step_pre_hooks.values() if not of_a_session(hook)]
    where = [*on_tensors, *(["the optimizer (step_pre_hook)"] if before else [])]
    if where:
        raise ValueError(
            f"Expected no hooks on parameters and before optimizer steps for training=, since copies lack them, got "
            f"hooks on {', '.join(where)}; do their work in step_fn"
        )


def _equal(one: Any, other: Any) -> bool:
    """Return whether two batches hold the same numbers, NaN at the same places."""
    if type(one) is not type(other):
        return False
    if isinstance(one, Tensor):
        return tensors_equal(one, other)
    if isinstance(one, np.ndarray):
        return one.shape == other.shape and bool(((one == other) | ((one != one) & (other != other))).all())
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(_equal, one, other))
    return _equal(vars(one), vars(other)) if hasattr(one, "__dict__") else bool(one is other or one == other)


def check_requirements(
    probes: Mapping[str, SessionProbe], data: Mapping[str, Batch], training: TrainingContext | None
) -> None:
    """Raise ValueError for a probe that requires what was not given."""
    without = [split for split, batch in data.items() if batch.targets is None]
    for name, probe in probes.items():
        if unknown := [need for need in probe.requires if need not in _NEEDS]:
            raise ValueError(
                f"Expected {type(probe).__name__}.requires to hold {' or '.join(map(repr, _NEEDS))}, got {unknown}; "
                "name these only"
            )
        if "targets" in probe.requires and without:
            raise ValueError(
                f"Expected targets in each split, since {name} requires them, got none in {', '.join(without)}; give "
                "(inputs, targets), or leave the probe out"
            )
        if "training" in probe.requires and training is None:
            raise ValueError(
                f"Expected training= since {name} requires it, got None; give "
                "training=probe.forward.TrainingContext.usual(optimizer, loss, loader), or leave the probe out"
            )


def attach_warnings(model: nn.Module, written: Iterable[Place]) -> Iterator[str]:
    """Yield warnings about a legal model whose measurements can mislead.

    ``written`` are the buffers and attributes that forward passes write to.
    """
    if names := describe_places(model, written):
        yield (
            f"Expected forward passes in evaluation mode that leave the model unchanged, got writes to "
            f"{_first_five(names)}; observations restore these values, but measurements may depend on them, so compare "
            "with a model without them if this matters"
        )
