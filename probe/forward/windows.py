"""Windows of updates on copies of a training: unperturbed, perturbed, and from the same batches and random states."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.isolation import seed_cpu
from probe.forward.training import TrainingContext

Trained = Callable[[nn.Module], Tensor]  # what to read from a model, for example its outputs


@dataclass(frozen=True)
class Ends:
    """Parameters of a copy and what was read from it, at the start and at the end of a window."""

    start: Tensor  # (P,)
    end: Tensor
    outputs_start: Tensor  # (n, K)
    outputs_end: Tensor
    rounding: Tensor  # (P,), relative distance of neighbouring numbers times the values at the start


@dataclass(frozen=True)
class Window:
    """Updates of a training from the present state on.

    Each run starts from a new copy of the model, its buffers and the optimizer. Before each update the global random
    generators are seeded by ``seed`` and the number of the update, so all runs have the same noise.
    """

    training: TrainingContext
    model: nn.Module
    batches: Sequence[Any]
    seed: int
    outputs: Trained

    def run(self, offset: Tensor | None = None) -> Ends:
        """Train a copy, after an offset (P,) was added to its trained parameters."""
        model, optimizer = self.training.copy(self.model)
        parameters = trained_parameters(model, optimizer)
        if offset is not None:
            add(parameters, offset)
        start, outputs = flat(parameters), self._read(model)
        rounding = flat([p.detach() * torch.finfo(p.dtype).eps for p in parameters])
        for k, batch in enumerate(self.batches):
            self.update(model, optimizer, batch, k)
        end = flat(parameters)
        if not bool(torch.isfinite(end).all()):
            raise ValueError(
                f"Expected finite parameters after a window of {len(self.batches)} updates, got inf or NaN; observe "
                "earlier, or shorten the window"
            )
        return Ends(start, end, outputs, self._read(model), rounding)

    def _read(self, model: nn.Module) -> Tensor:
        with torch.no_grad():
            return self.outputs(model)

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, k: int) -> None:
        """Run update k of the window on a copy.

        Raises
        ------
        ValueError
            If the loss that ``step_fn`` returns is not finite.
        """
        seed_all(self.seed + k)
        loss = self.training.update(model, optimizer, batch)
        if loss is not None and not bool(torch.isfinite(loss).all()):
            raise ValueError(
                f"Expected finite losses in a window of {len(self.batches)} updates, got {loss.flatten()[0].item()} at "
                f"update {k + 1}; observe earlier, or shorten the window"
            )


def trained_parameters(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    """Return the floating-point parameters that the optimizer holds and that have gradients, in the model's order."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return [p for p in model.parameters() if id(p) in held and p.requires_grad and p.is_floating_point()]


def flat(parameters: Sequence[Tensor]) -> Tensor:
    """Return the values of parameters as one vector (P,), a copy."""
    return torch.cat([p.detach().flatten() for p in parameters]).clone()


def parts(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return a vector (P,) in the shapes and dtypes of the parameters."""
    pieces = vector.split([p.numel() for p in parameters])
    return [piece.view(p.shape).to(p) for piece, p in zip(pieces, parameters, strict=True)]


def add(parameters: Sequence[Tensor], offset: Tensor) -> None:
    """Add an offset (P,) in place. The sum is rounded once, to the dtype of the parameter."""
    pieces = offset.split([p.numel() for p in parameters])
    with torch.no_grad():
        for parameter, piece in zip(parameters, pieces, strict=True):
            parameter.copy_(parameter.to(offset) + piece.view(parameter.shape))


def gaussian(parameters: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """Return a unit vector (P,) with Gaussian entries, scaled by the root mean square of each parameter.

    Raises
    ------
    ValueError
        If all parameters are 0, or there are none.
    """
    if not parameters:
        raise ValueError("Expected trained real parameters of the model, got none; leave this measure out")
    entries = [
        torch.randn(p.numel(), generator=generator, dtype=torch.float64)
        * p.detach().double().square().mean().sqrt().cpu()
        for p in parameters
    ]
    vector = torch.cat(entries)
    if not 0 < (norm := vector.norm().item()) < float("inf"):
        raise ValueError(f"Expected trained parameters with a finite, positive norm, got {norm}; train them first")
    return vector / norm


def seed_all(seed: int) -> None:
    """Seed the global generators of PyTorch, NumPy and Python. An observation restores their states."""
    seed_cpu(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    if torch.backends.mps.is_available():
        torch.mps.manual_seed(seed)
