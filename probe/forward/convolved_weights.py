"""The kernels with which a convolution with a forward pass of its own computes."""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from probe.forward.isolation import user_defaults
from probe.forward.shards import is_distributed

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_FUNCTIONS = {getattr(torch, f"conv{kind}{d}d") for kind in ("", "_transpose") for d in (1, 2, 3)}
_FUNCTIONS |= {torch.convolution}


def has_own_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Return whether the module is a convolution whose class has another forward pass than that of PyTorch."""
    kind = next((kind for kind in CONVOLUTIONS if isinstance(module, kind)), None)
    return kind is not None and any(
        getattr(type(module), name, None) is not getattr(kind, name, None) for name in ("forward", "_conv_forward")
    )


def convolved_weight(module: nn.Conv2d) -> Tensor | None:
    """Return the weight that the module passes to the one convolution whose result, or a part of it, it returns.

    None if it computes in another way, or if the weight has another shape than its parameter. The module is run on a
    small input.
    """
    if is_distributed(module.weight):  # it does not run alone
        return None
    sizes = [2 + 2 * size * spread for size, spread in zip(module.kernel_size, module.dilation, strict=True)]
    inputs = torch.ones(1, module.in_channels, *sizes).to(module.weight)
    try:
        with user_defaults(), _Convolutions() as calls:
            output = module(inputs)
    except Exception:
        return None
    if len(calls.found) != 1 or not isinstance(output, Tensor):
        return None
    weight, result, version = calls.found[0]
    is_result = (
        output.untyped_storage().data_ptr() == result.untyped_storage().data_ptr() and result._version == version
    )
    if not is_result or weight.shape != module.weight.shape:
        return None
    return weight if weight is module.weight else weight.detach()


class _Convolutions(TorchFunctionMode):
    """Context manager that collects weight, result and version of the result of each convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor, int]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func in _FUNCTIONS:
            self.found.append((kwargs["weight"] if "weight" in kwargs else args[1], result, result._version))
        return result
