"""The context of a training: what a probe needs to train a copy of the model from inside an observation.

Measures of training dynamics (Lyapunov exponents, sensitivity to the order of batches) continue the training on a copy
of the model. The real model, optimizer and random states stay unchanged.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from probe.forward.batching import step_batches
from probe.forward.data import map_leaves
from probe.forward.isolation import user_defaults

# A scheduler wraps ``step``, and a GradScaler sets the others on the optimizer for the time of one step.
_NOT_COPIED = {"step", "grad_scale", "found_inf"}


@dataclass(frozen=True)
class TrainingContext:
    """Optimizer, update and batches of a training, given on ``attach(..., training=)``.

    Parameters
    ----------
    optimizer
        The optimizer of the real training. It holds parameters of the observed model.
    step_fn : function(model, optimizer, batch) -> Tensor or None
        Makes one update of the model that it receives, and may return the loss. It uses its arguments only. A model, a
        scheduler, a gradient scaler or a data loader from outside would be changed by an observation.
    batches : function(step, n) -> sequence of n batches
        Returns the batches of the updates ``step + 1`` to ``step + n``. The same arguments give the same batches, so
        the function holds no iterator and draws random numbers from a generator seeded by the step.

    Notes
    -----
    A probe reads the context as ``snapshot.training``. A probe with ``requires = ("training",)`` cannot be attached
    without one.

    See Also
    --------
    probe.Snapshot : What a probe receives.
    probe.testing.check_training_untouched : Test that a probe leaves the real training unchanged.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import TrainingContext
    >>> x, y = torch.eye(4), torch.tensor([[0.0], [1.0], [1.0], [0.0]])
    >>> model = torch.nn.Linear(4, 1)
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    >>> def step_fn(model, optimizer, batch):
    ...     optimizer.zero_grad()
    ...     loss = torch.nn.functional.mse_loss(model(batch[0]), batch[1])
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> def batches(step, n):
    ...     return [(x[[k % 4]], y[[k % 4]]) for k in range(step, step + n)]
    >>> training = TrainingContext(optimizer, step_fn, batches)
    >>> model_copy, optimizer_copy = training.copy(model)
    >>> before = model.weight.clone()
    >>> for batch in training.batches(0, 3):
    ...     loss = training.update(model_copy, optimizer_copy, batch)
    >>> torch.equal(model.weight, before), torch.equal(model_copy.weight, before)
    (True, False)
    """

    optimizer: torch.optim.Optimizer
    step_fn: Callable[[nn.Module, torch.optim.Optimizer, Any], Tensor | None]
    batches: Callable[[int, int], Sequence[Any]]
    _training: frozenset[str] | None = field(default=None, repr=False)  # modules in training mode, None: as they are

    @classmethod
    def usual(
        cls,
        optimizer: torch.optim.Optimizer,
        loss: Callable[[Any, Any], Tensor],
        data: Any,
        *,
        batch_size: int | None = None,
        max_norm: float | None = None,
        random_state: int = 0,
    ) -> Self:
        """Return the context of the usual loop: gradients of a loss on one batch, then a step of the optimizer.

        Parameters
        ----------
        optimizer
            The optimizer of the real training.
        loss : function(outputs, targets) -> Tensor
            Loss of one batch, for example ``torch.nn.functional.cross_entropy``, or ``lambda outputs, targets:
            cross_entropy(outputs.logits, targets)`` if the model returns an object.
        data : DataLoader, Dataset, pair (inputs, targets), or function(step, n)
            As for :func:`probe.forward.step_batches`. A batch is a pair (inputs, targets). The model is called with
            ``model(x)``, ``model(*x)`` or ``model(**x)``.
        batch_size : int, optional
            Number of rows of a batch. Default: that of the loader, else all rows.
        max_norm : float, optional
            Largest norm of the gradient, to which :func:`torch.nn.utils.clip_grad_norm_` reduces it.
        random_state : int
            Seed of the order of the rows.

        Returns
        -------
        TrainingContext
            The real loop can use its ``batches`` and ``step_fn`` too.

        Examples
        --------
        >>> import torch
        >>> from probe.forward import TrainingContext
        >>> x, y = torch.eye(4), torch.tensor([[0.0], [1.0], [1.0], [0.0]])
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> training = TrainingContext.usual(optimizer, torch.nn.functional.mse_loss, (x, y), batch_size=2)
        >>> for step in range(3):
        ...     loss = training.step_fn(model, optimizer, *training.batches(step, 1))
        """
        batches = data if callable(data) else step_batches(data, batch_size, random_state=random_state)
        return cls(optimizer, UsualStep(loss, max_norm), batches)

    def of(self, model: nn.Module) -> Self:
        """Return this context with the present training flags of the model, which an observation switches off."""
        return replace(self, _training=frozenset(name for name, module in model.named_modules() if module.training))

    def copy(self, model: nn.Module) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Return a copy of a model, and a copy of the optimizer that holds the parameters of this copy.

        Parameters
        ----------
        model
            The model whose parameters the optimizer holds, ``snapshot.model`` in a probe.

        Returns
        -------
        model : Module
            A deep copy. Tied and frozen parameters, buffers and hooks are copied; gradients are not. Inside an
            observation each module has the training flag that it had before the observation.
        optimizer : Optimizer
            Of the same class, with the same parameter groups and a copy of the state. Hooks of the optimizer, and a
            learning rate scheduler that has wrapped its ``step``, are not copied.

        Raises
        ------
        ValueError
            If the model cannot be copied.
        """
        memo = detached_copies(model)  # shared, so that the copied optimizer refers to the copied parameters
        try:
            copied = deepcopy(model, memo)
        except Exception as error:
            raise ValueError(
                f"Expected a {type(model).__name__} that copy.deepcopy can copy, got {type(error).__name__}: {error}; "
                "remove what cannot be copied from the attributes of its modules"
            ) from error
        if self._training is not None:
            for name, module in copied.named_modules():
                module.training = name in self._training
        return copied, _copied(self.optimizer, memo)

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor | None:
        """Run ``step_fn`` with gradients enabled, which an observation disables, and return its result detached.

        Random numbers come from the global generators of PyTorch. An observation restores their states at its end. A
        probe that calls ``torch.manual_seed`` before makes the update reproducible.

        Raises
        ------
        ValueError
            If ``step_fn`` steps an optimizer of other parameters than those of ``model``.
        TypeError
            If it returns neither a Tensor nor None.
        """
        with torch.enable_grad(), user_defaults(), _one_optimizer(model, optimizer):
            loss = self.step_fn(model, optimizer, batch)
        if loss is not None and not isinstance(loss, Tensor):
            raise TypeError(
                f"Expected training.step_fn to return the loss as a Tensor, or None, got {type(loss).__name__}; "
                "return loss"
            )
        return None if loss is None else loss.detach()


@dataclass(frozen=True)
class UsualStep:
    """One update of the usual loop: gradients of a loss on a batch (inputs, targets), then a step of the optimizer."""

    loss: Callable[[Any, Any], Tensor]
    max_norm: float | None = None

    def __call__(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        """Update the model, and return the loss."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise TypeError(
                f"Expected batches (inputs, targets), got {type(batch).__name__}; pass such batches, or a step_fn of "
                "your own to TrainingContext(optimizer, step_fn, batches)"
            )
        device = next(model.parameters()).device
        x, y = map_leaves(tuple(batch), lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf)
        optimizer.zero_grad()
        outputs = model(**x) if isinstance(x, Mapping) else model(*x) if isinstance(x, (tuple, list)) else model(x)
        loss = self.loss(outputs, y)
        loss.backward()
        if self.max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), self.max_norm)
        optimizer.step()
        return loss


@contextmanager
def _one_optimizer(model: nn.Module, given: torch.optim.Optimizer) -> Iterator[None]:
    """Context manager that refuses updates of an optimizer from outside, which holds no parameter of the model."""
    own = {id(parameter) for parameter in model.parameters()}

    def check(stepped: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        if stepped.param_groups is given.param_groups:  # or one that the given optimizer wraps
            return
        if not any(id(parameter) in own for group in stepped.param_groups for parameter in group["params"]):
            raise ValueError(
                f"Expected training.step_fn to step the optimizer that it receives, got a step of another "
                f"{type(stepped).__name__}; put the parameters of several optimizers into groups of one"
            )

    handle = register_optimizer_step_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def detached_copies(model: nn.Module) -> dict[int, Any]:
    """Return copies of tensors that a forward pass has computed and stored, which deepcopy refuses."""
    stored = (value for module in model.modules() for value in vars(module).values())
    return {id(value): value.detach().clone() for value in stored if isinstance(value, Tensor) and not value.is_leaf}


def _copied(optimizer: torch.optim.Optimizer, memo: dict[int, Any]) -> torch.optim.Optimizer:
    """Copy an optimizer; ``memo`` maps the parameters to their copies."""
    copied = deepcopy(optimizer, memo)
    for name, value in vars(optimizer).items():  # pickling, and so deepcopy, drops attributes that a subclass adds
        if name not in vars(copied) and name not in _NOT_COPIED:
            setattr(copied, name, deepcopy(value, memo))
    return copied
