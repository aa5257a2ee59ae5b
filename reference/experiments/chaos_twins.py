"""Twins of a training, and its linearisation: both start from the state of the training at a step, and end with it."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
import torch.autograd.forward_ad as fw
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from probe.geometry import angular_distance
from probe.stats import loss_barriers
from reference.training.recipes import Batch, Data, Recipe


class State(NamedTuple):
    """A copy of a model and of its optimiser after some updates. It is never trained itself."""

    model: nn.Module
    optimizer: torch.optim.Optimizer


def copied(state: State) -> State:
    """Return a copy with the same parameters, buffers and optimiser state."""
    memo: dict[int, object] = {}
    return State(deepcopy(state.model, memo), deepcopy(state.optimizer, memo))


def trained(model: nn.Module) -> list[nn.Parameter]:
    """Return the trained parameters of a model."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def perturb(model: nn.Module, size: float, seed: int) -> None:
    """Add normal numbers to the trained parameters, of length ``size`` times that of the parameters.

    The numbers of each parameter are scaled by its root mean square. A parameter that is 0 is not changed.
    """
    generator, parameters = torch.Generator().manual_seed(seed), trained(model)
    noise = [
        torch.randn(p.shape, generator=generator, dtype=torch.float64) * p.detach().double().square().mean().sqrt()
        for p in parameters
    ]
    factor = size * _norm(parameters) / _norm(noise)
    with torch.no_grad():
        for parameter, part in zip(parameters, noise, strict=True):
            parameter.copy_(parameter.double() + factor * part)


def train_twin(
    recipe: Recipe, seed: int, start: State, t0: int, steps: Sequence[int], *, size: float, noise: int
) -> Iterator[tuple[int, nn.Module]]:
    """Train a perturbed copy on the batches of the training, and yield step and model at some steps from ``t0`` on.

    The size 0 trains an unperturbed twin.
    """
    model, optimizer = copied(start)
    if size:
        perturb(model, size, noise)
    batches, at = recipe.batches(seed), t0
    for step in steps:
        for k in range(at, step):
            recipe.update(model, optimizer, *batches(k, 1))
        at = step
        yield step, model


def compare(
    base: nn.Module, twin: nn.Module, data: Mapping[str, Data], *, n_points: int, rows: int
) -> dict[str, float]:
    """Return the effect of a perturbation: angle, distance, disagreement and both barriers, with test data.

    Parameters
    ----------
    base, twin
        Models of the same step.
    data
        The splits ``train``, for the statistics of batch norm, and ``test``.
    n_points
        Number of points between both models at which the loss is measured.
    rows
        Number of training inputs in a batch for the statistics of batch norm.
    """
    a, b = (torch.cat([p.detach().flatten().double() for p in trained(model)]) for model in (base, twin))
    answers = [predict(model, data["test"][0]).argmax(1) for model in (base, twin)]
    barriers = loss_barriers(losses_on_line(base, twin, data, n_points, rows))
    return {
        "angle": angular_distance(a, b),
        "distance": ((a - b).norm() / a.norm()).item(),
        "disagreement": (answers[0] != answers[1]).double().mean().item(),
        "line": barriers.line.item(),
        "ends": barriers.ends.item(),
    }


def losses_on_line(base: nn.Module, twin: nn.Module, data: Mapping[str, Data], n_points: int, rows: int) -> Tensor:
    """Return the test losses (n_points + 2,) on the straight line between two models, the ends included.

    The statistics of batch norm are estimated again at each point, on the whole training split without augmentation.
    """
    model, losses = deepcopy(base), []
    for weight in torch.linspace(0, 1, n_points + 2, dtype=torch.float64).tolist():
        with torch.no_grad():
            for p, first, last in zip(trained(model), trained(base), trained(twin), strict=True):
                p.copy_((1 - weight) * first.double() + weight * last.double())
        estimate_batch_norm(model, data["train"][0], rows)
        losses.append(F.cross_entropy(predict(model, data["test"][0]).double(), data["test"][1]))
    return torch.stack(losses)


@torch.no_grad()
def estimate_batch_norm(model: nn.Module, inputs: Tensor, rows: int) -> None:
    """Set the statistics of batch norm to their means over batches of inputs. Without batch norm, do nothing."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [module.momentum for module in norms]
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # mean over all batches
    was, _ = model.training, model.train()
    for batch in inputs.split(rows):
        model(batch)
    model.train(was)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs of a model in evaluation mode."""
    was, _ = model.training, model.eval()
    outputs = model(inputs)
    model.train(was)
    return outputs


# -- linearised training -------------------------------------------------------------------------------------------


class Linearised(nn.Module):
    """The first-order expansion f(x; start) + J (parameters - start) of a model in evaluation mode.

    Its parameters are those of the given model, so that the optimiser of this model trains them. The statistics of
    batch norm are fixed.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._expanded = [deepcopy(model).eval()]  # in a list: its parameters are not trained
        self._start = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs to the outputs of the expansion."""
        parameters = dict(self.model.named_parameters())
        with fw.dual_level(), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script, which PyTorch uses at first
            values = {name: fw.make_dual(*self._dual(parameters[name], start)) for name, start in self._start.items()}
            value, tangent = fw.unpack_dual(torch.func.functional_call(self._expanded[0], values, (x,)))
        assert tangent is not None
        total: Tensor = value + tangent.detach()
        return total

    @staticmethod
    def _dual(parameter: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``start``, to which the gradient of the parameter is connected, and the change of the parameter."""
        return start + (parameter - parameter.detach()), parameter.detach() - start


def linearised_accuracy(recipe: Recipe, seed: int, start: State, t0: int, data: Mapping[str, Data], rows: int) -> float:
    """Return the test accuracy after the rest of the training, with the model linearised at ``t0``.

    Batches, learning rates, weight decay and the state of the optimiser are those of the training. The statistics of
    batch norm are estimated at ``t0`` on the training split, and fixed.
    """
    model, optimizer = copied(start)
    estimate_batch_norm(model, data["train"][0], rows)
    linear, batches = Linearised(model), recipe.batches(seed)
    for k in range(t0, recipe.steps):
        recipe.update(linear, optimizer, *batches(k, 1))
    x, y = data["test"]
    with torch.no_grad():
        return (linear(x).argmax(1) == y).double().mean().item()


# -- gradients -----------------------------------------------------------------------------------------------------


def signal_to_noise(model: nn.Module, batches: Iterable[Batch]) -> float:
    """Return the squared norm of the mean gradient over the total variance of the gradients of batches.

    The squared norm has the variance of the mean subtracted, so that it is unbiased and may be negative. The model runs
    in training mode; its buffers stay as they are.
    """
    model = deepcopy(model)
    gradients = torch.stack([_gradient(model, batch) for batch in batches])
    variance = gradients.var(0, correction=1).sum().item()
    return (gradients.mean(0).square().sum().item() - variance / len(gradients)) / variance


def _gradient(model: nn.Module, batch: Batch) -> Tensor:
    loss = F.cross_entropy(model(batch[0]), batch[1])
    return torch.cat([part.flatten().double() for part in torch.autograd.grad(loss, trained(model))])


def _norm(tensors: Iterable[Tensor]) -> float:
    return sum(tensor.detach().double().square().sum().item() for tensor in tensors) ** 0.5
