"""The frame around everything that runs a model: evaluation mode inside, and outside nothing has changed."""

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

import numpy as np
import torch
from torch import Tensor, nn

Devices = set[torch.device]

_around: ContextVar[tuple[nn.Module, Devices] | None] = ContextVar("around", default=None)  # known within preserved()


@contextmanager
def preserved(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no gradients, no autocast, no fused attention layers, inside; outside, nothing has changed.

    Restored: the training flag of each module (set directly, since ``model.train()`` may be overridden), and the
    random states of torch (CPU and the model's CUDA devices), numpy and Python. Where one is inside another for the
    same model, the outer one cares for the random states: reading and setting them takes longer than a small pass.
    """
    flags = {module: module.training for module in model.modules()}
    with ExitStack() as stack:
        devices = stack.enter_context(_random_states(model))
        stack.enter_context(torch.no_grad())
        for kind in {device.type for device in devices} | {"cpu"}:
            stack.enter_context(torch.autocast(kind, enabled=False))
        stack.callback(torch.backends.mha.set_fastpath_enabled, torch.backends.mha.get_fastpath_enabled())
        torch.backends.mha.set_fastpath_enabled(False)  # its fused kernels pass by the layers inside
        if "torch._dynamo" in sys.modules:  # compiled code ignores hooks that come after it
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        try:
            _set_training(dict.fromkeys(flags, False))
            yield
        finally:
            _set_training(flags)


def _set_training(flags: Mapping[nn.Module, bool]) -> None:
    for module, flag in flags.items():
        if module.training != flag:  # setting an attribute of a module takes long
            module.training = flag


@contextmanager
def _random_states(model: nn.Module) -> Iterator[Devices]:
    """Put them back at the end, unless that is done further out; the devices of the model."""
    if (around := _around.get()) and around[0] is model:
        yield around[1]
        return
    devices = {tensor.device for tensor in _tensors_of(model)}
    python_state, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    token = _around.set((model, devices))
    try:
        with torch.random.fork_rng([device for device in devices if device.type == "cuda"]):
            yield devices
    finally:
        _around.reset(token)
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002


def _tensors_of(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()


def device_of(model: nn.Module) -> torch.device:
    """Where the model expects its inputs: the device of its first parameter or buffer."""
    return next((tensor.device for tensor in _tensors_of(model)), torch.device("cpu"))
