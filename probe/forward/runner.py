"""Runs forward passes over the data of a snapshot, in blocks of rows."""

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from probe.forward.data import Batch
from probe.forward.isolation import device_of, isolated
from probe.forward.layers import named_layers
from probe.forward.operations import OperationCounter
from probe.forward.passes import Edit, Pass, Tap
from probe.forward.saved_values import checksum
from probe.forward.shards import is_sharded
from probe.forward.sites import TRACE_ROWS, Trace
from probe.forward.suffix import MakeValues, Suffix, SuffixPass
from probe.interrupts import uninterrupted
from probe.reads import CPU, Reads


class Division(Protocol):
    """The ranks that divide the blocks of a pass among each other."""

    size: int

    def mine(self, blocks: Sequence[range]) -> Sequence[range]:
        """Return the blocks of this rank."""

    def meet(self, place: str, mark: int) -> None:
        """Wait until all ranks are at this place. Raise an error if one has failed before, or if the marks differ."""

    def together(self, place: str) -> AbstractContextManager[None]:
        """Return a context manager at whose end all ranks report whether they have failed."""

    def objects(self, place: str, value: Any, error: Exception | None = None, mark: int = 0) -> list[Any]:
        """Return the values of all ranks. If a rank gives an error, or the marks differ, all ranks raise one."""


class Runner:
    """Runs forward passes in blocks of rows, and records which sites they visited.

    Attributes
    ----------
    requested : sites that a pass should have measured
    measured : sites that a pass has visited for all inputs
    untraced : sites of activation functions that a pass has visited, and the trace has not
    rows : number of forward rows so far, each row of a pass through a part of the model included
    reads : copies of rows to the CPU that are queued
    division : the ranks that divide the blocks of each pass, or None
    """

    def __init__(
        self,
        model: nn.Module,
        data: Mapping[str, Batch],
        trace: Trace,
        batch_size: int,
        division: Division | None = None,
    ) -> None:
        self.model = model
        self.data = data
        self.trace = trace
        self.batch_size = batch_size
        self.division = division
        self._sharded = is_sharded(model)
        self.reads = Reads()
        self.requested: set[str] = set()
        self.measured: set[str] = set()
        self.untraced: set[str] = set()
        self.rows = 0

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The layers by name."""
        return named_layers(self.model)

    @cached_property
    def device(self) -> torch.device:
        """Device of the inputs of the model."""
        return device_of(self.model)

    def model_pass(self, taps: Iterable[Tap], edits: Mapping[str, Edit] | None = None) -> Pass:
        """Return a pass through the whole model."""
        return Pass(self.model, taps, edits=edits, modules=self.modules, output=self.trace.output)

    def suffix_pass(self, taps: Iterable[Tap], suffix: Suffix, make_values: MakeValues) -> SuffixPass:
        """Return a pass through a suffix of the model."""
        return SuffixPass(self.model, taps, suffix, make_values, trace=self.trace, modules=self.modules)

    def whole_pass(self, split: str, rows: Tensor) -> None:
        """Run the model on rows of a split to its end, and note the sites that the trace does not have."""
        nowhere = Tap(":")  # a site of a function that does not exist
        self.run(split, self.model_pass([nowhere]), rows)
        self.requested.discard(nowhere.site)

    def operations(self) -> int:
        """Return the floating-point operations of one row: those that PyTorch counts, or 2 for each weight of a matrix.

        The weights of embeddings are not multiplied.
        """
        counter = OperationCounter()
        with suppress(Exception), counter:  # tensors of some classes do not work with such a mode
            self.whole_pass(next(iter(self.data)), torch.arange(TRACE_ROWS))
        modules = [module for module in self.model.modules() if not isinstance(module, (nn.Embedding, nn.EmbeddingBag))]
        weights = {id(weight): weight for module in modules for weight in module.parameters(recurse=False)}
        least = 2 * sum(weight.numel() for weight in weights.values() if weight.ndim > 1)
        return max(counter.operations // TRACE_ROWS, least)

    def run(
        self,
        split: str,
        forward: Pass,
        rows: Tensor,
        group: int = 1,
        batch_size: int | None = None,
        device: torch.device | None = None,
    ) -> dict[Tap, Tensor]:
        """Run a pass over these rows of a split, and return the rows of each tap.

        ``group`` rows stay in one block. The results are on ``device``, by default that of the model. On the CPU their
        numbers are there after a wait for ``reads``.
        """
        size = max(1, (batch_size or self.batch_size) // group) * group
        blocks = [range(first, min(first + size, len(rows))) for first in range(0, len(rows), size)]
        run: Callable[..., dict[Tap, Tensor]] = self._run_blocks
        if self.division is not None and (len(blocks) >= self.division.size or self._sharded):
            run = self._run_divided
        found = run(split, forward, rows, blocks, device, group)
        self.rows += len(rows)
        self.requested |= forward.taps_by_site.keys()
        self.measured |= {tap.site for tap in found}
        self.untraced |= forward.functions.difference(self.trace.shapes)
        return found

    def _run_blocks(
        self,
        split: str,
        forward: Pass,
        rows: Tensor,
        blocks: Sequence[range],
        device: torch.device | None,
        group: int,
        idle: Sequence[range] = (),
    ) -> dict[Tap, Tensor]:
        """Run a pass over blocks of the rows, and return the rows of each tap that all blocks have.

        A pass over ``idle`` blocks follows, whose rows are dropped.
        """
        forward.begin(sum(map(len, blocks)), device, group)
        if device == CPU:
            self.reads.expect(self.device)
        with uninterrupted() if self._sharded else nullcontext(), isolated(self.model), forward:
            for block in blocks:
                forward.run(self.data[split], rows, block, self.device)
            for block in idle:
                forward.run_idle(self.data[split], rows, block, self.device)
        return forward.found(len(blocks))

    def _run_divided(
        self,
        split: str,
        forward: Pass,
        rows: Tensor,
        blocks: Sequence[range],
        device: torch.device | None,
        group: int,
    ) -> dict[Tap, Tensor]:
        """Run the blocks of this rank, and return the rows of all ranks, in the same order as one rank would.

        The ranks of a sharded model make equally many passes, which begin when all are here. Where there are fewer
        blocks than ranks, each rank computes all of them.
        """
        division, place = self.division, f"a pass over split {split!r}"
        assert division is not None
        found, error = dict[Tap, Tensor](), None
        divided, mark = len(blocks) >= division.size, _mark(rows, forward)
        mine, idle = division.mine(blocks) if divided else blocks, list[range]()
        if self._sharded:
            division.meet(place, mark)
            idle = [blocks[0]] * (-(-len(blocks) // division.size) - len(mine)) if divided else idle
        try:
            found = self._run_blocks(split, forward, rows, mine, device, group, idle)
        except Exception as raised:
            error = raised
        taps = [tap for of_site in forward.taps_by_site.values() for tap in of_site]
        self.reads.wait()
        own = {i: found[tap].cpu() for i, tap in enumerate(taps) if tap in found}
        of_ranks = division.objects(place, (own, forward.functions) if divided else None, error, mark)
        if not divided:
            return found
        forward.functions.update(*(functions for _, functions in of_ranks))
        parts = [rows_of for rows_of, _ in of_ranks]
        used = [i for i in range(len(taps)) if all(i in part for part in parts)]
        target = device or self.device
        return {taps[i]: _joined([part[i] for part in parts]).to(target) for i in used}


def _mark(rows: Tensor, forward: Pass) -> int:
    """Return a number that depends on the rows and layers of a pass."""
    return zlib.crc32(repr(list(forward.taps_by_site)).encode(), checksum(rows))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Return rows of several ranks as one tensor."""
    if others := [part for part in parts if (part.shape[1:], part.dtype) != (parts[0].shape[1:], parts[0].dtype)]:
        raise ValueError(
            f"Expected rows of one shape and type from all ranks, got {tuple(parts[0].shape[1:])} of {parts[0].dtype} "
            f"and {tuple(others[0].shape[1:])} of {others[0].dtype}; pass output= or a probe with reduce= that return "
            "one shape for any batch"
        )
    return torch.cat(list(parts))
