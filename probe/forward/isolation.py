"""The frame around everything that runs a model: evaluation mode inside, and outside nothing has changed."""

import random
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from probe.forward.layers import named_modules

_KINDS = ("cpu", "cuda", "mps", "xpu")  # of devices for which there is autocast


@dataclass(frozen=True)
class _Frame:
    """What the outermost :func:`isolated` found."""

    model: nn.Module
    modules: Sequence[nn.Module]


_around: ContextVar[_Frame | None] = ContextVar("around", default=None)  # known within preserved()


@contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, no autocast, no fused attention layers, inside; outside, nothing has changed.

    Restored: the training flag of each module (set directly, since ``model.train()`` may be overridden), and the
    random states of torch (CPU and the model's CUDA devices), numpy and Python. Where one is inside another for the
    same model, it cares for training flags and gradients only: all else takes longer than a small pass.
    """
    frame = _around.get()
    if frame is not None and frame.model is model:
        with torch.no_grad() if torch.is_grad_enabled() else nullcontext(), _evaluating(frame.modules):
            yield
        return
    modules = list(named_modules(model).values())
    devices = set()
    if torch.cuda.is_initialized():
        devices = {tensor.device for module in modules for tensor in _tensors_in(module) if tensor.is_cuda}
    token = _around.set(_Frame(model, modules))
    try:
        with _random_states(devices), ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            for kind in _KINDS:
                if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
                    stack.enter_context(torch.autocast(kind, enabled=False))
            stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
            torch.backends.mha.set_fastpath_enabled(False)  # its fused kernels pass by the layers inside
            if "torch._dynamo" in sys.modules:  # compiled code ignores hooks that come after it
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            stack.enter_context(_evaluating(modules))
            yield
    finally:
        _around.reset(token)


@contextmanager
def _evaluating(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Training flags off, and at the end what they were."""
    training = _training(modules)
    try:
        _set_training(training, False)
        yield
    finally:
        _set_training(_training(modules), False)
        _set_training(training, True)


def _training(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [module for module in modules if module.training]


def _set_training(modules: Iterable[nn.Module], flag: bool) -> None:
    for module in modules:
        if "training" in vars(module):  # setting an attribute of a module takes long
            vars(module)["training"] = flag
        else:
            module.training = flag


@contextmanager
def _random_states(devices: Iterable[torch.device]) -> Iterator[None]:
    """Put them back at the end."""
    states = {device: torch.cuda.get_rng_state(device) for device in devices}
    state, python_state, numpy_state = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        for device, kept in states.items():
            torch.cuda.set_rng_state(kept, device)
        torch.set_rng_state(state)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _tensors_in(module: nn.Module) -> Iterator[Tensor]:
    """Parameters and buffers of the module itself."""
    for tensor in (*module._parameters.values(), *module._buffers.values()):
        if tensor is not None:
            yield tensor


def device_of(model: nn.Module) -> torch.device:
    """Where the model expects its inputs: the device of its first parameter or buffer."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


Defaults = tuple[torch.dtype, torch.device]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_PLAIN: Defaults = torch.float32, torch.device("cpu")
_users: ContextVar[Defaults | None] = ContextVar("users", default=None)  # known within plain()
_nothing = nullcontext()


def torch_defaults() -> AbstractContextManager[None]:
    """PyTorch's own defaults inside."""
    return _nothing if _users.get() == _PLAIN else _torch_defaults()


def user_defaults() -> AbstractContextManager[None]:
    """Within :func:`torch_defaults`, the defaults that were outside of it."""
    users = _users.get() or _PLAIN
    return _nothing if users == _PLAIN else _set(users)


def with_user_defaults(function: _Function) -> _Function:
    """A function, to be called within :func:`torch_defaults`, with the defaults inside that were outside of it."""
    if (_users.get() or _PLAIN) == _PLAIN:
        return function

    def called(*args: Any) -> Any:
        with user_defaults():
            return function(*args)

    return cast(_Function, called)


@contextmanager
def _torch_defaults() -> Iterator[None]:
    users = _users.get() or _now()
    token = _users.set(users)
    try:
        with _nothing if users == _PLAIN else _set(_PLAIN):
            yield
    finally:
        _users.reset(token)


def _now() -> Defaults:
    made = torch.empty(0)  # quicker than asking
    return made.dtype, made.device


@contextmanager
def _set(wanted: Defaults) -> Iterator[None]:
    (dtype, device), before = wanted, _now()
    torch.set_default_dtype(dtype)
    try:
        with nullcontext() if device == before[1] else device:
            yield
    finally:
        torch.set_default_dtype(before[0])
