"""The memory of the tensors that exist at one time."""

import weakref
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class PeakMemory(TorchDispatchMode):
    """Context manager that counts the bytes of the tensors that are made inside, on all devices.

    Attributes
    ----------
    peak : int
        Largest number of bytes at one time. Memory inside an operation is not counted.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._known: weakref.WeakSet[Any] = weakref.WeakSet()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first use imports the compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):  # made outside; a view of it uses no memory
            if isinstance(leaf, Tensor):
                self._known.add(leaf.untyped_storage())
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage()) not in self._known:
                self._known.add(storage)
                self._add(size := storage.nbytes())
                weakref.finalize(storage, self._add, -size)
        return output

    def _add(self, size: int) -> None:
        self._now += size
        self.peak = max(self.peak, self._now)
