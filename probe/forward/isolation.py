"""Context managers that isolate the forward passes of probes from the training.

:func:`isolated` runs a model in evaluation mode and restores what a forward pass can change: the state of the model
(see :mod:`probe.forward.model_state`), training flags, random states and the settings of PyTorch.
:func:`torch_defaults` and :func:`user_defaults` switch the default dtype and device. The code of probes runs with the
defaults of PyTorch, whatever the user has set. The modules of the model run with the defaults of the user.
"""

import random
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar, cast
from weakref import WeakSet

import numpy as np
import torch
from torch import nn, overrides
from torch.utils import _device as default_device

from probe.forward.layers import named_modules
from probe.forward.model_state import ModelState, Place, Structure
from probe.interrupts import uninterrupted

Defaults = tuple[torch.dtype, torch.device]
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class _Frame:
    """Model, modules and saved state of the outermost :func:`isolated`."""

    model: nn.Module
    modules: Sequence[nn.Module]
    state: ModelState


_AUTOCAST_DEVICES = ("cpu", "cuda", "mps", "xpu")
_PYTORCH: Defaults = torch.float32, torch.device("cpu")
_NO_CHANGE = nullcontext()

_outermost: ContextVar[_Frame | None] = ContextVar("outermost", default=None)  # set within isolated()
_users: ContextVar[Defaults | None] = ContextVar("users", default=None)  # set within torch_defaults()
_differentiating = WeakSet[nn.Module]()  # models whose forward passes compute derivatives


# -- state of the model, settings and random states ------------------------------------------------------------------


@contextmanager
def isolated(
    model: nn.Module, copied: Collection[Place] | None = None, structure: Structure | None = None
) -> Iterator[ModelState]:
    """Context manager that runs a model in evaluation mode and restores the state afterwards.

    Inside, there are no gradients, no autocast and no fused attention layers. At the end, these settings, the state of
    the model (parameters, buffers, hooks, submodules and attributes), the training flag of each module, and the random
    states of PyTorch (CPU and the CUDA devices of the model), NumPy and Python are restored. Training flags are set
    directly, since a class can override ``model.train()``.

    An inner ``isolated`` for the same model restores only training flags and gradients. The rest would take longer than
    a small forward pass.

    Parameters
    ----------
    model : torch.nn.Module
    copied
        Places of the model whose numbers are copied before, because forward passes are known to write to them. Default:
        all, which takes as much memory of the CPU as the model.
    structure
        ``structure`` of the state of an earlier observation. It is used again if the model still has it, which saves
        most of the time.

    Yields
    ------
    ModelState
        The saved state. Its ``lost`` lists writes to other places, which cannot be undone.

    See Also
    --------
    probe.Snapshot.outputs : Run forward passes that are isolated already.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import isolated
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Dropout())
    >>> with isolated(model):
    ...     output = model(torch.ones(4, 3))
    ...     print(model.training, output.requires_grad)
    ...     _ = model[0].weight.data.zero_()
    False False
    >>> model.training, bool(model[0].weight.any())
    (True, True)
    """
    frame = _outermost.get()
    if frame is not None and frame.model is model:
        with torch.no_grad() if torch.is_grad_enabled() else nullcontext(), _evaluation_mode(frame.modules):
            yield frame.state
        return
    stack = ExitStack()
    try:
        with uninterrupted():
            state = _isolate(stack, model, copied, structure)
        yield state
    finally:
        with uninterrupted():
            stack.close()


def _isolate(
    stack: ExitStack, model: nn.Module, copied: Collection[Place] | None, structure: Structure | None
) -> ModelState:
    """Switch the model and PyTorch for forward passes, and let the stack undo it."""
    stack.enter_context(restored_random_states(model))
    stack.enter_context(_torch_settings())
    structure = _evaluated(stack, model, copied, structure)
    state = ModelState(structure)
    stack.callback(_outermost.reset, _outermost.set(_Frame(model, list(structure.modules.values()), state)))
    stack.callback(state.restore)
    return state


def _evaluated(
    stack: ExitStack, model: nn.Module, copied: Collection[Place] | None, earlier: Structure | None
) -> Structure:
    """Switch the model to evaluation mode, and return its structure."""
    if earlier is not None:
        earlier.shards.reshard()
        with ExitStack() as trial:
            trial.enter_context(_evaluation_mode(list(earlier.modules.values())))
            if earlier.serves(copied):
                stack.push(trial.pop_all())
                return earlier
    stack.enter_context(_evaluation_mode(list(named_modules(model).values())))
    return Structure(model, copied)


def _cuda_devices(model: nn.Module) -> set[torch.device]:
    if not torch.cuda.is_initialized():
        return set()
    return {tensor.device for tensor in chain(model.parameters(), model.buffers()) if tensor.is_cuda}


@contextmanager
def _torch_settings() -> Iterator[None]:
    """Context manager that switches the settings of PyTorch for forward passes, and restores them at the end."""
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        for device_type in _AUTOCAST_DEVICES:
            if torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type):
                stack.enter_context(torch.autocast(device_type, enabled=False))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)  # its fused kernels do not call the inner layers
        if "torch._dynamo" in sys.modules:  # compiled code ignores hooks that are registered later
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        if "torch.nn.utils.parametrize" in sys.modules:
            stack.enter_context(_without_cached_weights())
        modes, device = overrides._get_current_function_mode_stack(), default_device.CURRENT_DEVICE
        stack.callback(_restore_modes, modes, device)
        yield


@contextmanager
def _without_cached_weights() -> Iterator[None]:
    """Context manager in which parametrised weights are computed anew, also within ``parametrize.cached()``."""
    from torch.nn.utils import parametrize

    enabled, cache = parametrize._cache_enabled, parametrize._cache
    if not enabled:
        yield
        return
    parametrize._cache_enabled, parametrize._cache = 0, {}
    try:
        yield
    finally:
        parametrize._cache_enabled, parametrize._cache = enabled, cache


def _restore_modes(modes: list[Any], device: torch.device | None) -> None:
    """Restore the modes that see each function call, since an interrupted pass can leave its own."""
    if overrides._get_current_function_mode_stack() != modes:
        while overrides._get_current_function_mode_stack():
            overrides._pop_mode()
        for mode in modes:
            overrides._push_mode(mode)
    default_device.CURRENT_DEVICE = device


@contextmanager
def _evaluation_mode(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Context manager that clears the training flags and restores them at the end."""
    training = _in_training(modules)
    try:
        set_training(training, False)
        yield
    finally:
        set_training(_in_training(modules), False)
        set_training(training, True)


def _in_training(modules: Iterable[nn.Module]) -> list[nn.Module]:
    return [module for module in modules if module.training]


def set_training(modules: Iterable[nn.Module], flag: bool) -> None:
    """Set the training flags of modules, without a call of ``module.train()``."""
    for module in modules:
        if "training" in vars(module):  # faster than nn.Module.__setattr__
            vars(module)["training"] = flag
        else:
            module.training = flag


@contextmanager
def restored_random_states(model: nn.Module | None = None) -> Iterator[None]:
    """Context manager that restores the random states at the end, those of the GPUs of the model among them."""
    devices = () if model is None else _cuda_devices(model)
    states = {device: torch.cuda.get_rng_state(device) for device in devices}
    of_cpu = get_random_states()
    try:
        yield
    finally:
        for device, cuda_state in states.items():
            torch.cuda.set_rng_state(cuda_state, device)
        set_random_states(of_cpu)


def get_random_states() -> tuple[Any, ...]:
    """Return the states of the global generators of PyTorch on the CPU, of Python and of NumPy."""
    return torch.get_rng_state().numpy(), random.getstate(), np.random.get_state()  # noqa: NPY002


def set_random_states(states: tuple[Any, ...]) -> None:
    """Set the states that :func:`get_random_states` returns."""
    state, python_state, numpy_state = states
    torch.set_rng_state(torch.from_numpy(state))
    random.setstate(python_state)
    np.random.set_state(numpy_state)  # noqa: NPY002


def seed_cpu(seed: int) -> None:
    """Seed the global generators of PyTorch on the CPU, of NumPy and of Python."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)


def set_differentiating(model: nn.Module, flag: bool) -> None:
    """Note whether the forward pass of a model computes derivatives, as that of a force field."""
    (_differentiating.add if flag else _differentiating.discard)(model)


def gradient_mode(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context manager for a forward pass, which enables gradients if the pass computes derivatives."""
    return _with_gradients(model) if model in _differentiating else _NO_CHANGE


@contextmanager
def _with_gradients(model: nn.Module) -> Iterator[None]:
    with kept_gradients(model), torch.enable_grad():
        yield


@contextmanager
def kept_gradients(model: nn.Module) -> Iterator[None]:
    """Context manager that restores the gradients of parameters. A model that writes them computes derivatives."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.grad = None
        yield
        if any(parameter.grad is not None for parameter in parameters):
            set_differentiating(model, True)
    finally:
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient


def device_of(model: nn.Module) -> torch.device:
    """Return the device on which the model expects its inputs: that of its first parameter or buffer."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device


# -- default dtype and device ----------------------------------------------------------------------------------------


def torch_defaults() -> AbstractContextManager[None]:
    """Return a context manager in which the default dtype and device are those of PyTorch: float32 on the CPU."""
    return _NO_CHANGE if _users.get() == _PYTORCH else _torch_defaults()


def user_defaults() -> AbstractContextManager[None]:
    """Return a context manager that restores the user's defaults within :func:`torch_defaults`."""
    users = _users.get() or _PYTORCH
    return _NO_CHANGE if users == _PYTORCH else _with_defaults(users)


def with_user_defaults(function: _Function) -> _Function:
    """Return a function that runs with the user's defaults within :func:`torch_defaults`."""
    if (_users.get() or _PYTORCH) == _PYTORCH:
        return function

    def wrapper(*args: Any) -> Any:
        with user_defaults():
            return function(*args)

    return cast(_Function, wrapper)


@contextmanager
def _torch_defaults() -> Iterator[None]:
    users = _users.get() or _current_defaults()
    token = _users.set(users)
    try:
        with _NO_CHANGE if users == _PYTORCH else _with_defaults(_PYTORCH):
            yield
    finally:
        _users.reset(token)


def _current_defaults() -> Defaults:
    tensor = torch.empty(0)  # faster than torch.get_default_dtype() and torch.get_default_device()
    return tensor.dtype, tensor.device


@contextmanager
def _with_defaults(defaults: Defaults) -> Iterator[None]:
    (dtype, device), before = defaults, _current_defaults()
    torch.set_default_dtype(dtype)
    try:
        with nullcontext() if device == before[1] else device:
            yield
    finally:
        torch.set_default_dtype(before[0])
