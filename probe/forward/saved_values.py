"""Copies of tensors, random generators and arrays, from which their numbers can be restored."""

import pickle
import random
import zlib
from collections.abc import Sequence
from copy import deepcopy
from operator import attrgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.forward.shards import local_part


def version_of(tensor: Tensor) -> int:
    """Return a number that changes when a tensor is written to; tensors of inference mode have none."""
    return -1 if tensor.is_inference() else tensor._version


def address_of(tensor: Tensor) -> int:
    """Return the address of the numbers of a tensor; 0 for a tensor without one block of memory."""
    try:
        return tensor.data_ptr()
    except RuntimeError:
        return 0


def versions_of(tensors: Sequence[Tensor]) -> list[int]:
    """Return :func:`version_of` of each tensor."""
    try:
        return list(map(attrgetter("_version"), tensors))  # several times as fast
    except RuntimeError:
        return list(map(version_of, tensors))


def addresses_of(tensors: Sequence[Tensor]) -> list[int]:
    """Return :func:`address_of` of each tensor."""
    try:
        return list(map(Tensor.data_ptr, tensors))
    except RuntimeError:
        return list(map(address_of, tensors))


class SavedTensor:
    """The numbers of a tensor, copied to the CPU or to the device of the tensor, and its memory and version."""

    def __init__(self, tensor: Tensor, *, on_cpu: bool) -> None:
        self.tensor, self.version = tensor, version_of(tensor)
        self.memory = local_part(tensor).detach()
        self.address = address_of(tensor)
        self.numbers = self.memory.to("cpu", copy=True) if on_cpu else self.memory.clone()

    def restore(self) -> bool:
        """Restore numbers, memory and version, and return whether the tensor was written to, if only by equal numbers.

        A later backward pass checks the version.
        """
        moved = address_of(self.tensor) != self.address or local_part(self.tensor).shape != self.memory.shape
        if moved:
            self.tensor.data = self.memory
        written = not tensors_equal(self.numbers, self.memory)
        if written:
            with torch.no_grad():
                self.memory.copy_(self.numbers)
        noted = version_of(self.tensor) != self.version
        if noted:
            torch._C._autograd._unsafe_set_version_counter((self.tensor,), (self.version,))
        return moved or written or noted


def tensors_equal(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, NaN at the same places."""
    if (one.shape, one.dtype) != (other.shape, other.dtype):
        return False
    one, other = _bits(one).to(other.device), _bits(other)
    if one.numel() % 8 == one.storage_offset() % 8 == other.storage_offset() % 8 == 0:
        one, other = one.view(torch.int64), other.view(torch.int64)  # three times as fast as single bytes
    return torch.equal(one, other)


def _bits(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor as bytes, which are equal for equal NaN too."""
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.int_repr()
    dense = tensor if tensor.layout == torch.strided else tensor.to_dense()
    return as_bytes(dense.resolve_conj().resolve_neg())


def as_bytes(tensor: Tensor) -> Tensor:
    """Return the memory of a dense tensor as bytes, in the order of its numbers."""
    flat = tensor.contiguous().flatten()
    if flat.stride() != (1,):  # a tensor of one number counts as contiguous with any stride
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8)


def checksum(tensor: Tensor) -> int:
    """Return a number that depends on all numbers of a tensor."""
    data = tensor.detach().to_dense() if tensor.layout != torch.strided else tensor.detach()
    return zlib.crc32(as_bytes(data.cpu()).numpy().data)


class SavedState:
    """The state of an object that is read and set as a whole: a random generator, or the numbers of an array."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.state = deepcopy(_state(value))
        self.bytes = pickle.dumps(self.state)

    def restore(self) -> bool:
        """Restore the state, and return whether it had changed."""
        changed = pickle.dumps(_state(self.value)) != self.bytes
        if changed:
            _set_state(self.value, self.state)
        return changed


def has_state(value: Any) -> bool:
    """Return whether :class:`SavedState` can save a value."""
    kinds = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
    return isinstance(value, kinds) or (isinstance(value, np.ndarray) and value.dtype != object)


def _state(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.random.Generator):
        return value.bit_generator.state
    if isinstance(value, torch.Generator):
        return value.get_state().numpy()  # equal states of a tensor can have different pickles
    return value.getstate() if isinstance(value, random.Random) else value.get_state()


def _set_state(value: Any, state: Any) -> None:
    if isinstance(value, np.ndarray):
        value[...] = state
    elif isinstance(value, np.random.Generator):
        value.bit_generator.state = state
    elif isinstance(value, random.Random):
        value.setstate(state)
    elif isinstance(value, torch.Generator):
        value.set_state(torch.from_numpy(state))
    else:
        value.set_state(state)
