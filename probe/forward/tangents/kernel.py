"""The empirical tangent kernel of a model: products with it, and the whole kernel.

With the Jacobian J of the outputs f, (n C, P), with respect to the parameters, the kernel is K = J J^T, (n C, n C). Its
entry at ((i, c), (j, d)) is the inner product of the gradients of output c for input i and of output d for input j.

    products    K z = J (J^T z): a backward pass for J^T z, and forward-mode derivatives for J v. Where an operation has
                none, J v is a second derivative: the gradient of (J^T u) . v with respect to u
    contraction the rows of J, input by input, and their inner products (``contraction.py``)

Products run in groups of vectors z, such that the numbers of all J^T z together are at most ``GROUP``, or one by one.
Beside the graph, their memory is a constant or a small multiple of the parameters, whichever is larger. Each product is
compared with z . K z = |J^T z|^2. One product takes as many operations as 4/3 forward and backward passes. On a CPU,
convolutions run in groups of four vectors, with one backward pass for each: batched passes took 1.6 times as long.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, jvp, vmap

from probe.forward.tangents.outputs import Outputs, differentiable

GROUP = 1 << 24  # numbers: 64 MiB in float32
_GROUP_OF_CONVOLUTIONS = 4  # vectors
_ADVICE = 'pass method="exact" with few inputs, which needs first derivatives only'


class TangentMap:
    """Products with the tangent kernel of a model on fixed inputs.

    Parameters
    ----------
    outputs : Outputs
    parameters : {name: parameter}
        Parameters that the kernel refers to.
    block : int
        Number of inputs in one graph.
    """

    def __init__(self, outputs: Outputs, parameters: dict[str, nn.Parameter], block: int) -> None:
        self.outputs = outputs
        self.parameters = parameters
        self.blocks = torch.arange(outputs.n).split(max(1, block))
        self.forward_mode = True  # False after an operation without forward-mode derivatives
        self.leaves = list(parameters.values())
        self.size = sum(parameter.numel() for parameter in self.leaves)
        convolutions = any(isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d) for module in outputs.model.modules())
        self._one_by_one = convolutions and self.leaves[0].device.type == "cpu"

    def products(self, z: Tensor) -> Tensor:
        """Return K z for the columns of z.

        Parameters
        ----------
        z : Tensor of shape (n, columns, m)

        Returns
        -------
        Tensor of shape (n, columns, m)

        Raises
        ------
        ValueError
            If the outputs are no differentiable function of the parameters, or an operation has neither forward-mode
            nor second derivatives.
        """
        group = max(1, GROUP // self.size)
        with differentiable(self.outputs.model):
            found = []
            for part in z.split(min(group, _GROUP_OF_CONVOLUTIONS) if self._one_by_one else group, 2):
                made = self._by_forward_mode(part) if self.forward_mode else None
                self.forward_mode = made is not None
                found.append(self._by_second_derivatives(part) if made is None else made)
            return torch.cat(found, 2)

    def _by_forward_mode(self, z: Tensor) -> Tensor | None:
        """Return the products of a group, or None if an operation has no such derivatives or a parameter is missed."""
        vectors = [torch.zeros(z.shape[2], *leaf.shape, dtype=leaf.dtype, device=leaf.device) for leaf in self.leaves]
        for rows in self.blocks:
            with self.outputs.graph(rows) as f:
                u = z[rows].movedim(2, 0).to(f)
                for total, part in zip(vectors, self.pulled(f, u, batched=not self._one_by_one), strict=True):
                    if part is not None:
                        total += part
        point = {name: leaf.detach() for name, leaf in self.parameters.items()}
        tangents = dict(zip(point, vectors, strict=True))
        try:
            with _quiet():
                moved = [_pushed(self.outputs, rows, point, tangents) for rows in self.blocks]
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError, ValueError, TypeError):
            return None
        products = torch.cat(moved, 1).movedim(0, 2)
        norms = [
            torch.linalg.vector_norm(vector.reshape(len(vector), -1), dim=1, dtype=torch.float64) for vector in vectors
        ]
        squares = torch.stack(norms).square().sum(0)
        return products if self._consistent(z, products, squares) else None

    def pulled(self, f: Tensor, u: Tensor, *, batched: bool) -> Sequence[Tensor | None]:
        """Return J^T u for each u of a group, ``batched`` if possible."""
        if batched and len(u) > 1:
            try:
                with _quiet():
                    return torch.autograd.grad(
                        f, self.leaves, u, retain_graph=True, is_grads_batched=True, allow_unused=True
                    )
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # an operation that cannot be batched
                pass
        one_by_one = [
            torch.autograd.grad(f, self.leaves, row, retain_graph=True, allow_unused=True) for row in u.unbind()
        ]
        return [None if parts[0] is None else torch.stack(parts) for parts in zip(*one_by_one, strict=True)]

    def _by_second_derivatives(self, z: Tensor) -> Tensor:
        """Return the products of a group. If all inputs are in one graph, one forward pass serves all vectors."""
        found = torch.empty(z.shape, dtype=self._dtype(z), device=z.device)
        squares = torch.empty(z.shape[2], dtype=torch.float64, device=z.device)
        if len(self.blocks) == 1:
            with self.outputs.graph(self.blocks[0]) as f:
                for k in range(z.shape[2]):
                    pulled, u = self._pulled_with_graph(f, z[..., k].to(f))
                    vector = [None if part is None else part.detach() for part in pulled]
                    found[..., k], squares[k] = self._second_derivative(pulled, u, vector), _square(vector)
        else:
            for k in range(z.shape[2]):
                vector = self._vector(z[..., k])
                squares[k] = _square(vector)
                for rows in self.blocks:
                    with self.outputs.graph(rows) as f:
                        pulled, u = self._pulled_with_graph(f, torch.zeros_like(f))
                        found[rows, :, k] = self._second_derivative(pulled, u, vector).to(found)
        if not self._consistent(z, found, squares):
            raise ValueError(
                "Expected second derivatives that agree with the first ones, got others: an operation has none, or the "
                f"model draws random numbers in evaluation mode; {_ADVICE}"
            )
        return found

    def _vector(self, z: Tensor) -> list[Tensor | None]:
        """Return J^T z for one z, (n, columns)."""
        found: list[Tensor | None] = [torch.zeros_like(leaf) for leaf in self.leaves]
        for rows in self.blocks:
            with self.outputs.graph(rows) as f:
                parts: Sequence[Tensor | None] = torch.autograd.grad(f, self.leaves, z[rows].to(f), allow_unused=True)
                for total, part in zip(found, parts, strict=True):
                    if total is not None and part is not None:
                        total += part
        return found

    def _pulled_with_graph(self, f: Tensor, u: Tensor) -> tuple[Sequence[Tensor | None], Tensor]:
        """Return J^T u with its graph to u, and u."""
        u = u.detach().requires_grad_()
        return torch.autograd.grad(f, self.leaves, u, create_graph=True, allow_unused=True), u

    def _second_derivative(self, pulled: Sequence[Tensor | None], u: Tensor, vector: Sequence[Tensor | None]) -> Tensor:
        """Return J v as the gradient of (J^T u) . v with respect to u."""
        pairs = [(a, b) for a, b in zip(pulled, vector, strict=True) if a is not None and a.requires_grad]
        try:
            return torch.autograd.grad(
                [a for a, _ in pairs], u, [b for _, b in pairs], retain_graph=True, materialize_grads=True
            )[0]
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise ValueError(
                f"Expected operations with forward-mode or second derivatives, got one without: {error}; {_ADVICE}"
            ) from error

    def _dtype(self, z: Tensor) -> torch.dtype:
        return torch.promote_types(z.dtype, self.leaves[0].dtype)

    def _consistent(self, z: Tensor, products: Tensor, squares: Tensor) -> bool:
        """Return whether z . K z = |J^T z|^2 up to rounding, for each column. Values that are not finite pass."""
        z, products = z.double().flatten(0, 1), products.double().flatten(0, 1)
        rounding = max(torch.finfo(leaf.dtype).eps for leaf in self.leaves) ** 0.5
        tolerance = rounding * z.norm(dim=0) * products.norm(dim=0)
        return not bool((((z * products).sum(0) - squares.to(z.device)).abs() > tolerance).any())


def _square(vector: Sequence[Tensor | None]) -> Tensor:
    norms = [torch.linalg.vector_norm(part, dtype=torch.float64) for part in vector if part is not None]
    return torch.stack(norms).square().sum()


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager without warnings of what PyTorch does inside: batching by a loop, compiling derivatives."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        yield


def _pushed(outputs: Outputs, rows: Tensor, point: dict[str, Tensor], tangents: dict[str, Tensor]) -> Tensor:
    """Return J v for each v of a group, (group, rows, columns)."""

    def f(parameters: dict[str, Tensor]) -> Tensor:
        return functional_call(
            _Model(outputs, rows), {f"model.{name}": value for name, value in parameters.items()}, ()
        )

    def push(vector: dict[str, Tensor]) -> Tensor:
        moved: Any = jvp(f, (point,), (vector,))[1]
        return moved

    with torch.no_grad():
        if len(next(iter(tangents.values()))) == 1:  # without vmap, which some operations lack
            return push({name: vector[0] for name, vector in tangents.items()})[None]
        return vmap(push, randomness="same")(tangents)


class _Model(nn.Module):
    """The outputs of a model for some rows, as a module."""

    def __init__(self, outputs: Outputs, rows: Tensor) -> None:
        super().__init__()
        self.model = outputs.model
        self._outputs, self._rows = outputs, rows

    def forward(self) -> Tensor:
        return self._outputs.of(self._rows)
