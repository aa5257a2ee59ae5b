"""A batch of inputs of which the kernel is measured: random vectors, products and the whole kernel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from probe.forward.snapshot import generator
from probe.forward.tangents.kernel import TangentMap
from probe.forward.tangents.layerwise import NotLayerwiseError, layerwise_kernel


@dataclass(frozen=True)
class Part:
    """The outputs of one batch, and how its kernel is made.

    Parameters
    ----------
    tangents : TangentMap
    columns : int
        Number of outputs of each input.
    targets : Tensor of shape (n, columns) or None
        What the kernel is compared with.
    reduction : str or None
        Reduction to a kernel between inputs, ``"trace"`` or ``"sum_logits"``.
    seed : int
        Seed of random vectors and sketches.
    """

    tangents: TangentMap
    columns: int
    targets: Tensor | None
    reduction: str | None
    seed: int

    @property
    def n(self) -> int:
        """Number of inputs."""
        return self.tangents.outputs.n

    @property
    def rows(self) -> int:
        """Number of rows of the kernel."""
        return self.n if self.reduction else self.n * self.columns

    def vectors(self, n_probes: int) -> Tensor:
        """Return random signs, (n, columns, n_probes), or (n, n_probes) for the trace over outputs."""
        shape = (self.n, n_probes) if self.reduction == "trace" else (self.n, self.columns, n_probes)
        signs = torch.randint(2, shape, generator=generator(self.seed)) * 2 - 1
        leaf = next(iter(self.tangents.parameters.values()))
        return signs.to(leaf.device, torch.promote_types(leaf.dtype, torch.float32))

    def products(self, z: Tensor) -> Tensor:
        """Return the products of the kernel with vectors, (rows, m)."""
        if self.reduction != "trace":
            return self.tangents.products(z).flatten(0, 1)
        found = torch.zeros_like(z)
        for column in range(self.columns):
            one = z.new_zeros(z.shape[0], self.columns, z.shape[1])
            one[:, column] = z
            found += self.tangents.products(one)[:, column] / self.columns
        return found

    def whole(self, method: str) -> Tensor:
        """Return the kernel: by contraction if ``method`` is ``"exact"``, else layer by layer, if possible for auto."""
        kernel = self._kernel(method)
        if self.reduction != "trace":
            return kernel
        return kernel.view(self.n, self.columns, self.n, self.columns).diagonal(dim1=1, dim2=3).mean(-1)

    def _kernel(self, method: str) -> Tensor:
        if method != "exact":
            try:
                return layerwise_kernel(self.tangents)
            except NotLayerwiseError:
                if method == "layerwise":
                    raise
        return self.tangents.kernel()
