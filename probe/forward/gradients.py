"""Derivatives of the output of a model with respect to the value of a site. Parameters get no gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.isolation import isolated
from probe.forward.layers import OUTPUT
from probe.forward.outputs import Select
from probe.forward.passes import Pass
from probe.forward.shards import refuse_sharded

_HOOKS = "_backward_hooks", "_backward_pre_hooks"


class _LeafPass(Pass):
    """Forward pass in which the value of a site is a leaf, so that derivatives end there."""

    def __init__(self, model: nn.Module, site: str, output: Select) -> None:
        super().__init__(model, (), output=output)
        self._site = site
        self._hooked |= {site, OUTPUT}
        self._activations = self._activation_mode() if ":" in site else None
        self.leaf: Tensor | None = None
        self.returned: Tensor | None = None

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        if site == OUTPUT:
            self.returned = tensor
        if site != self._site:
            return tensor
        self.leaf = tensor.detach().requires_grad_()
        return self.leaf.clone()  # a module can write to it


@contextmanager
def differentiable(model: nn.Module, inputs: Any, site: str, output: Select = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Context manager that yields the value of a site and the output of a model, with the graph between them.

    Raises
    ------
    RuntimeError
        If the output does not depend on the value by operations with derivatives.
    """
    refuse_sharded(model, "derivatives of the output")
    with isolated(model), without_backward_hooks(model), torch.enable_grad(), _LeafPass(model, site, output) as forward:
        forward.run_inputs(inputs)
        leaf, returned = forward.leaf, forward.returned
        if leaf is None or returned is None or not returned.requires_grad:
            raise RuntimeError(
                f"Expected an output that depends on {site!r} by operations with derivatives, got none; choose another "
                "site"
            )
        yield leaf, returned


def summed_gradient(model: nn.Module, inputs: Any, site: str, output: Select = None) -> tuple[Tensor, Tensor]:
    """Return the value of a site, and the gradient of the sum of all outputs with respect to it."""
    with differentiable(model, inputs, site, output) as (leaf, returned):
        (gradient,) = torch.autograd.grad(returned.sum(), leaf, materialize_grads=True)
        return leaf.detach(), gradient


@contextmanager
def without_backward_hooks(model: nn.Module) -> Iterator[None]:
    """Context manager in which derivatives call no hooks of the user, which may count the steps of the training."""
    hooks = [(vars(module), name, vars(module)[name]) for module in model.modules() for name in _HOOKS]
    hooks = [(state, name, registered) for state, name, registered in hooks if registered]
    try:
        for state, name, registered in hooks:
            state[name] = type(registered)()
        yield
    finally:
        for state, name, registered in hooks:
            state[name] = registered
