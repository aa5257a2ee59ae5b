"""What can be attached to: models and optimisers that are refused, what to do instead, and what is worth a word."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from probe.attach.side_effects import Place, describe_places
from probe.forward.data import Batch


def check_model(model: Any) -> None:
    """Refuse what cannot be observed."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    held = [*model.named_parameters(), *model.named_buffers()]
    if lazy := [name for name, tensor in held if is_lazy(tensor)]:
        raise ValueError(
            f"{', '.join(lazy[:5])}{', ...' if len(lazy) > 5 else ''} of this model: not initialised yet (a lazy "
            "module); run the model once, model(x), before the optimizer is made and probes are attached"
        )
    if empty := [name for name, tensor in held if tensor.device.type == "meta"]:
        raise ValueError(
            f"{', '.join(empty[:5])}{', ...' if len(empty) > 5 else ''} of this model: on the meta device, without "
            "numbers; load them first: model.to_empty(device=...), model.load_state_dict(...)"
        )


def check_optimizer(optimizer: Any, model: nn.Module) -> None:
    """Refuse what does not train the model."""
    if isinstance(optimizer, (list, tuple)):
        raise TypeError(
            f"optimizer must be one torch.optim.Optimizer, got {len(optimizer)} of them; give the one that steps last: "
            "its updates are counted, and the model is seen after them"
        )
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise TypeError(f"optimizer must be a torch.optim.Optimizer, got {type(optimizer).__name__}")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if not any(id(parameter) in held for parameter in model.parameters()):
        raise ValueError(
            "the optimizer holds no parameter of this model; give the one that trains it. A copy of a model that is "
            "trained (an average of its weights, say) is attached without: call observe(step) when it is up to date"
        )


def attach_warnings(
    model: nn.Module, written: Iterable[Place], data: Mapping[str, Batch], shapes: Iterable[tuple[int, ...]]
) -> Iterator[str]:
    """What is no error, but may not be what one takes it for.

    ``written``: what forward passes write to the model; ``shapes``: of the layers that are read at their last position
    if they have any.
    """
    if names := describe_places(model, written):
        yield (
            f"each forward pass of this model writes to {', '.join(names)}, also in evaluation mode; observations put "
            "that back, but what they measure may hang on it"
        )
    if any(len(shape) == 3 for shape in shapes):
        for split, batch in data.items():
            if n := batch.padded_at_the_end():
                yield (
                    f"the last position is padding in {n} of {len(batch)} inputs of split {split!r}, and layers are "
                    "read there: pad on the left, or give another reduce=, as 0 (the first position), 'tokens' (all "
                    "positions; those with target -100 are left out) or a callable"
                )
