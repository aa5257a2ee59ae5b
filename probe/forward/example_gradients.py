"""Inner products of the gradients of single examples, without all gradients in memory.

With G the matrix (n, P) of the gradients of the losses of n examples, the Gram matrix is G G^T, (n, n). It is a sum
over parameters. So columns of G are made for one group of parameters after the other, with n backward passes for each
group. A group has at most ``GROUP`` numbers, or one column of each example. Beside G, memory holds the graph and the
gradients of one example. One group is enough for n P up to ``GROUP``.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.scores import score_rows
from probe.forward.tangents.outputs import Outputs, differentiable

GROUP = 1 << 25  # numbers in float64: 256 MiB


@dataclass(frozen=True)
class Losses(Outputs):
    """The losses of rows of fixed inputs, as a matrix (rows, 1).

    Parameters
    ----------
    targets : Tensor of shape (n, ...), optional
        Targets of all n rows.
    score : function(outputs, targets, mask) -> Tensor of shape (rows, k)
        The first column is the loss of a row.
    """

    targets: Tensor | None = None
    score: Callable[..., Tensor] = score_rows

    def of(self, rows: Tensor) -> Tensor:
        """Return the losses of rows. The caller has switched gradients and the model."""
        targets = None if self.targets is None else self.targets[rows.to(self.targets.device)]
        mask = None if self.mask is None else self.mask(rows)
        return self.score(self.returned(rows), targets, mask)[:, :1]


def example_gradient_grams(
    losses: Losses, parameters: Mapping[str, nn.Parameter], parts: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the Gram matrices of the gradients of single examples, and the losses.

    Parameters
    ----------
    losses : Losses
    parameters : {name: parameter}
    parts : {label: names of parameters}
        Parts of the parameters, each with its own Gram matrix. A parameter is in one part.

    Returns
    -------
    {label: float64 Tensor of shape (n, n)}, float64 Tensor of shape (n,)
        On the CPU.
    """
    grams = {label: torch.zeros(losses.n, losses.n, dtype=torch.float64) for label in parts}
    values = torch.zeros(losses.n, dtype=torch.float64)
    labels = {name: label for label, names in parts.items() for name in names}
    with differentiable(losses.model):
        for group in _groups(parameters, max(1, GROUP // losses.n)):
            rows = _rows(losses, [parameters[name] for name, _ in group], [place for _, place in group], values)
            for (name, _), block in zip(group, rows, strict=True):
                grams[labels[name]] += (block @ block.T).cpu()
    return grams, values


def _groups(parameters: Mapping[str, nn.Parameter], width: int) -> Iterator[list[tuple[str, slice]]]:
    """Yield groups of parts of parameters with at most ``width`` numbers."""
    group: list[tuple[str, slice]] = []
    free = width
    for name, parameter in parameters.items():
        start, size = 0, parameter.numel()
        while start < size:
            end = min(size, start + free)
            group.append((name, slice(start, end)))
            free -= end - start
            start = end
            if not free:
                yield group
                group, free = [], width
    if group:
        yield group


def _rows(losses: Losses, leaves: list[Any], places: list[slice], values: Tensor) -> list[Tensor]:
    """Return the gradients of each example, (n, size) for each leaf, and write the losses to ``values``."""
    found = [
        torch.zeros(losses.n, place.stop - place.start, dtype=torch.float64, device=leaf.device)
        for leaf, place in zip(leaves, places, strict=True)
    ]
    for row in range(losses.n):
        with losses.graph(torch.tensor([row])) as loss:
            parts = torch.autograd.grad(loss.sum(), leaves, allow_unused=True)
            values[row] = loss.item()
        for block, part, place in zip(found, parts, places, strict=True):
            if part is not None:
                block[row] = part.flatten()[place]
    return found
