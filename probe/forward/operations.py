"""Floating-point operations of a forward pass, and the number of rows that follows from them."""

import math
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

MAX_ROWS = 4096
PASSES = 4  # over the data of all splits: two probes, a shared pass and the checks of both are 10 passes
_OPERATIONS = 2**34  # about a second of a CPU core


def default_rows(operations: int, n: int) -> int:
    """Return a number of forward rows that depends on model and data alone, never on time.

    A small model has 4,096 rows. A large one has as many as 2 ** 34 operations pay for, and at least 4 passes over the
    data. The operations of a row are rounded up to a power of 2: those of kernels and devices differ a little.

    Parameters
    ----------
    operations : int
        Floating-point operations of one row.
    n : int
        Number of rows of the data, over all splits.
    """
    return min(MAX_ROWS, max(PASSES * n, _OPERATIONS >> (max(1, operations) - 1).bit_length()))


class OperationCounter(TorchDispatchMode):
    """Context manager that counts the operations of matrix products, convolutions, attention and recurrent layers."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else the first use imports the compiler, which takes a second

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        name = func.name()
        if "scaled_dot_product" in name:  # the kernels of some devices are not in the table
            self.operations += sdpa_flop_count(*(each.shape for each in args[:3]))
        elif "rnn" in name:
            first, *others = (leaf for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
            weights = sum(leaf.numel() for leaf in others if leaf.ndim == 2)
            self.operations += 2 * math.prod(first.shape[:2]) * weights  # at each position of each row
        elif func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **kwargs, out_val=output)
        return output
