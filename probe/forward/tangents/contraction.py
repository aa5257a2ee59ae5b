"""The whole tangent kernel of a model by contraction of the Jacobian: its rows, input by input, and their products."""

import torch
from torch import Tensor

from probe.forward.tangents.kernel import TangentMap
from probe.forward.tangents.outputs import differentiable

_JACOBIAN = 1 << 26  # numbers of the rows of J at one time: 256 MiB in float32


def contracted_kernel(tangents: TangentMap) -> Tensor:
    """Return the whole kernel, (n columns, n columns).

    The Jacobian is made for as many inputs as fit into 256 MiB, or for one. The output of an input is that for this
    input alone.
    """
    with differentiable(tangents.outputs.model):
        first = _rows(tangents, torch.arange(1))
        inputs = torch.arange(tangents.outputs.n).split(max(1, _JACOBIAN // first.numel()))
        found: list[list[Tensor]] = [[] for _ in inputs]
        for i, part in enumerate(inputs):
            left = _rows(tangents, part)
            for j in range(i):
                found[i].append(left @ _rows(tangents, inputs[j]).T)
            found[i].append(left @ left.T)
    whole = [[found[max(i, j)][min(i, j)] for j in range(len(inputs))] for i in range(len(inputs))]
    return torch.cat(
        [torch.cat([part if j <= i else part.T for j, part in enumerate(line)], 1) for i, line in enumerate(whole)]
    )


def _rows(tangents: TangentMap, inputs: Tensor) -> Tensor:
    """Return the rows of the Jacobian for some inputs, (inputs columns, P)."""
    found = []
    for one in inputs.split(1):
        with tangents.outputs.graph(one) as f:
            unit = torch.eye(f.shape[1], dtype=f.dtype, device=f.device)[:, None]
            parts = tangents.pulled(f, unit, batched=True)
        zero = [
            torch.zeros(len(unit), leaf.numel(), dtype=f.dtype, device=f.device)
            if part is None
            else part.reshape(len(unit), -1)
            for part, leaf in zip(parts, tangents.leaves, strict=True)
        ]
        found.append(torch.cat(zero, 1))
    return torch.cat(found)
