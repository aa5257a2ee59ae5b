"""Batches of inputs of which the kernel is measured: random vectors, products and the whole kernel."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from probe.forward.snapshot import Snapshot, generator
from probe.forward.tangents.contraction import contracted_kernel
from probe.forward.tangents.kernel import TangentMap
from probe.forward.tangents.layerwise import NotLayerwiseError, layerwise_kernel
from probe.forward.tangents.outputs import Outputs
from probe.layer_probe import random_rows
from probe.measures.neural_tangent.targets import target_matrix


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
        return contracted_kernel(self.tangents)


@dataclass(frozen=True)
class Division:
    """How the inputs of a split are divided into batches, and which outputs count: parameters of TangentKernelProbe."""

    n_batches: int
    max_samples: int | None
    max_outputs: int | None
    reduction: str | None
    random_state: int

    def parts(self, snapshot: Snapshot, split: str, parameters: dict[str, nn.Parameter]) -> Iterator[Part]:
        """Yield the batches of a split, of equal size."""
        n = len(snapshot.data[split])
        rows = random_rows(n, n if self.max_samples is None else self.max_samples, self.random_state)
        if len(rows) < self.n_batches:
            raise ValueError(
                f"Expected at least {self.n_batches} inputs for {self.n_batches} batches, got {len(rows)} in "
                f"{split!r}; lower n_batches, or pass more data"
            )
        size = len(rows) // self.n_batches
        for k in range(self.n_batches):
            yield self._part(snapshot, split, parameters, rows[k * size : (k + 1) * size].sort().values, k)

    def _part(
        self, snapshot: Snapshot, split: str, parameters: dict[str, nn.Parameter], rows: Tensor, number: int
    ) -> Part:
        batch = snapshot.data[split]
        outputs = Outputs(
            snapshot.model,
            lambda at: snapshot.inputs(split, rows[at]),
            len(rows),
            snapshot.trace.output,
            mask=None if batch.mask is None else lambda at: batch.mask_of(rows[at], snapshot.device),
            summed=self.reduction == "sum_logits",
        )
        shape = outputs.shape()
        count, targets = shape.numel(), None
        if self.max_outputs is not None and count > self.max_outputs:
            columns = random_rows(count, self.max_outputs, self.random_state).sort().values
            outputs, count = replace(outputs, columns=columns), len(columns)
        if self.reduction is None:
            labels = batch.targets_of(rows, snapshot.device)
            targets = target_matrix(labels, torch.Size((len(rows), *shape)), outputs.columns)
        tangents = TangentMap(outputs, parameters, snapshot.graph_rows)
        return Part(tangents, 1 if outputs.summed else count, targets, self.reduction, self.random_state + number)
