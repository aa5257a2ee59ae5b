"""The whole tangent kernel of a model whose parameters are in linear and convolutional layers, without a Jacobian.

With the input a of a layer and the gradient b of an output with respect to what the layer returns, the gradient of
output c for input i with respect to the weight is the sum over positions p of b_icp a_ip^T. Its inner products are

    K = sum over layers of sum over p, q of (a_ip . a_jq) (b_icp . b_jdq)

(Novak et al. 2022, arXiv:2206.08720). With many positions, the gradients of some rows of one weight at a time take less
work. This needs one backward pass for each column of outputs, since an output depends on its own input only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from probe.forward.layers import named_modules
from probe.forward.tangents.kernel import TangentMap
from probe.forward.tangents.outputs import differentiable

_BLOCK = 1 << 24  # numbers of the gradients of a part of a weight: 64 MiB in float32
_CHECK = 1e-3  # relative difference of a product


class NotLayerwiseError(ValueError):
    """A parameter is not in a linear or convolutional layer that is called once."""


@dataclass
class _Call:
    """A layer, its inputs, and what it returned."""

    module: nn.Module
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)


def layers_of(tangents: TangentMap) -> dict[str, nn.Module]:
    """Return the layers that hold the parameters.

    Raises
    ------
    NotLayerwiseError
        If another module holds one, or a parameter has several owners.
    """
    names = {id(parameter): name for name, parameter in tangents.parameters.items()}
    owners: dict[int, str] = {}
    found = {}
    for name, module in named_modules(tangents.outputs.model).items():
        own = [id(value) for value in module._parameters.values() if id(value) in names]
        if not own:
            continue
        if twice := [names[key] for key in own if key in owners]:
            raise _refused(f"{twice[0]}, which several modules share")
        if not _is_layer(module):
            raise _refused(f"{names[own[0]]} of a {type(module).__name__}")
        owners.update(dict.fromkeys(own, name))
        found[name] = module
    if missing := names.keys() - owners.keys():
        raise _refused(names[missing.pop()])
    return found


def _is_layer(module: nn.Module) -> bool:
    if "forward" in vars(module):
        return False
    if type(module) in (nn.Conv1d, nn.Conv2d):
        return module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return type(module) is nn.Linear


def _refused(what: str) -> NotLayerwiseError:
    return NotLayerwiseError(
        f"Expected all parameters in Linear, Conv1d and Conv2d layers that are called once, got {what}; pass "
        'method="auto", or select other layers'
    )


def layerwise_kernel(tangents: TangentMap) -> Tensor:
    """Return the whole kernel, (n columns, n columns).

    One product with the kernel checks that no parameter has another use, and that outputs depend on their own input.

    Raises
    ------
    NotLayerwiseError
        If a parameter is elsewhere, a layer is called another number of times, or the check fails.
    """
    modules = layers_of(tangents)
    with differentiable(tangents.outputs.model):
        calls = [_Call(module) for module in modules.values()]
        gradients = [
            [torch.cat(parts) for parts in zip(*blocks, strict=True)]
            for blocks in zip(*(_gradients(tangents, rows, calls) for rows in tangents.blocks), strict=True)
        ]
        found: Tensor | None = None
        for call, parts in zip(calls, gradients, strict=True):
            own = _kernel_of(call, torch.stack(parts, 1), tangents)
            found = own if found is None else found + own
    assert found is not None
    _check(tangents, found)
    return found


def _gradients(tangents: TangentMap, rows: Tensor, calls: list[_Call]) -> list[list[Tensor]]:
    """Return by layer the gradients of each column with respect to what the layer returns, and note its inputs."""
    before = [len(call.inputs) for call in calls]
    handles = [call.module.register_forward_hook(_hook(call)) for call in calls]
    try:
        with tangents.outputs.graph(rows) as f:
            for call, count in zip(calls, before, strict=True):
                if len(call.inputs) != count + 1 or call.inputs[-1].shape[:1] != (len(rows),):
                    raise _refused(f"a {type(call.module).__name__} with {len(call.inputs) - count} calls")
            returned = [call.outputs.pop() for call in calls]
            columns = [
                torch.autograd.grad(column.sum(), returned, retain_graph=True, materialize_grads=True)
                for column in f.unbind(1)
            ]
    finally:
        for handle in handles:
            handle.remove()
    return [list(parts) for parts in zip(*columns, strict=True)]


def _hook(call: _Call) -> Callable[..., Tensor]:
    def hook(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        call.inputs.append(args[0].detach().clone())  # later layers can write to both
        call.outputs.append(output)
        return output.clone()

    return hook


def _kernel_of(call: _Call, b: Tensor, tangents: TangentMap) -> Tensor:
    """Return what one layer adds to the kernel, from b of shape (n, columns, ...)."""
    module, size = call.module, b.shape[0] * b.shape[1]
    used = {id(parameter) for parameter in tangents.parameters.values()}
    found = b.new_zeros(size, size)
    positions = list(_positions(module, torch.cat(call.inputs), b))
    if id(module.weight) in used:
        for a, part in positions:
            found += _weight_kernel(a, part)
    if id(module.bias) in used:
        for _, part in positions:
            summed = part.sum(2).flatten(0, 1)
            found += summed @ summed.T
    return found


def _positions(module: nn.Module, a: Tensor, b: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs (n, positions, inputs) and gradients (n, columns, positions, outputs), by group of a convolution."""
    if isinstance(module, nn.Linear):
        yield a.reshape(len(a), -1, a.shape[-1]), b.reshape(*b.shape[:2], -1, b.shape[-1])
        return
    assert isinstance(module, (nn.Conv1d, nn.Conv2d))
    flat = isinstance(module, nn.Conv1d)
    kernel, stride, dilation, padding = (
        (one, sizes[0]) if flat else (sizes[0], sizes[1])
        for one, sizes in (
            (1, module.kernel_size),
            (1, module.stride),
            (1, module.dilation),
            (0, [int(size) for size in module.padding]),
        )
    )
    image = a[:, :, None] if flat else a
    patches = F.unfold(image, kernel, dilation=dilation, padding=padding, stride=stride).mT
    b = b.flatten(3).mT
    yield from zip(patches.chunk(module.groups, 2), b.chunk(module.groups, 3), strict=True)


def _weight_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return the inner products of the gradients of a weight."""
    n, columns, positions, outputs = b.shape
    inputs, size = a.shape[2], n * columns
    if positions**2 <= inputs and (size * positions) ** 2 <= 4 * _BLOCK:
        activations = a.reshape(n * positions, inputs)
        gradients = b.reshape(size * positions, outputs)
        left = (activations @ activations.T).view(n, 1, positions, n, 1, positions)
        right = (gradients @ gradients.T).view(n, columns, positions, n, columns, positions)
        return (left * right).sum((2, 5)).view(size, size)
    found = b.new_zeros(size, size)
    for part in b.split(max(1, _BLOCK // (size * inputs)), 3):
        rows = (part.mT @ a[:, None]).reshape(size, -1)
        found += rows @ rows.T
    return found


def _check(tangents: TangentMap, kernel: Tensor) -> None:
    shape = tangents.outputs.n, kernel.shape[0] // tangents.outputs.n, 1
    z = torch.ones(shape, dtype=kernel.dtype, device=kernel.device)
    z.view(-1)[1::2] = -1
    expected = tangents.products(z).view(-1)
    if not (kernel @ z.view(-1) - expected).norm() <= _CHECK * expected.norm() + 1e-30 and expected.isfinite().all():
        raise _refused("parameters that the model uses in another way too, or outputs that depend on other inputs")
