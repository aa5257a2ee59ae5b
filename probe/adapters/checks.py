"""Checks of packages and arguments of adapters."""

import inspect
import re
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from torch import nn

from probe.base import Observer
from probe.errors import warn_user

_GIVEN = {"self", "model", "data", "optimizer", "path", "mode", "step"}  # parameters of attach that are no options
_OPTIONS = sorted(inspect.signature(Observer.attach).parameters.keys() - _GIVEN)


def require(package: str, lowest: str) -> None:
    """Raise ImportError unless a package of at least this version, such as ``"2.4"``, is installed."""
    try:
        found = version(package)
    except PackageNotFoundError:
        found = "none"
    numbers = [int(number) for number in re.findall(r"\d+", found)[:2]]
    if numbers < [int(number) for number in lowest.split(".")]:
        raise ImportError(f"Expected {package} >= {lowest} for this adapter, got {found}; pip install -U {package}")


def check_arguments(probes: Observer, log: bool | Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise TypeError for arguments of a callback that no training can use."""
    if not isinstance(probes, Observer):
        raise TypeError(f"Expected a ProbeSet or a probe, got {type(probes).__name__}; give ProbeSet([...])")
    if unknown := sorted(options.keys() - set(_OPTIONS)):
        raise TypeError(f"Expected options among {', '.join(_OPTIONS)}, got {', '.join(unknown)}; leave these out")
    if isinstance(log, str):
        raise TypeError(f"Expected log to be True, False or a list of names, got {log!r}; give [{log!r}]")


def check_once(callback: Any, callbacks: Sequence[Any]) -> None:
    """Raise ValueError if a trainer has a callback twice."""
    if callbacks.count(callback) > 1:
        raise ValueError("Expected each callback once, got this ProbeCallback twice; remove one of them")


def check_training(model: nn.Module, optimizer: Any) -> None:
    """Raise ValueError for a training whose model or optimizer cannot be observed."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"Expected a model that is a torch.nn.Module, got {type(model).__name__}; give what is trained")
    if optimizer is None:
        raise ValueError("Expected an optimizer, got None; call the trainer's method that trains")
    if any(type(parameter).__name__ == "Int8Params" for parameter in model.parameters()):
        raise ValueError(
            "Expected a base of 4 bits or in floating point, got an 8-bit base of bitsandbytes, whose forward pass "
            "changes its weights; load the base in 4 bits or in bfloat16"
        )


def chosen_optimizer(optimizers: Sequence[Any], index: int | None) -> Any:
    """Return the only optimizer, or the one at an index."""
    if index is None and len(optimizers) == 1:
        return optimizers[0]
    if index is None or not -len(optimizers) <= index < len(optimizers):
        raise ValueError(
            f"Expected optimizer= to be the index of one of {len(optimizers)} optimizers, got {index}; give that of "
            "the one whose steps are counted"
        )
    return optimizers[index]


def of_all(optimizers: Sequence[Any], step: int) -> int:
    """Return the number of updates of all optimizers. Warn if there are several."""
    if len(optimizers) > 1:
        warn_user(
            "Expected a checkpoint with the number of updates of each optimizer, got one without, so the steps "
            f"continue at {step}, the updates of all optimizers; give the callback from the start of a training"
        )
    return step


def children_of(module: nn.Module) -> str:
    """Return the names of the submodules for messages."""
    return ", ".join(name for name, _ in module.named_children())


def submodule(module: nn.Module, name: str) -> nn.Module:
    """Return a submodule by name."""
    if (found := dict(module.named_modules()).get(name)) is None:
        raise ValueError(f"Expected model= to name a submodule, got {name!r}; give one such as {children_of(module)}")
    return found
