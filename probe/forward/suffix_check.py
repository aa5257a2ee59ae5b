"""Comparison of a suffix of the model with the whole model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from probe.forward.call_graph import Link, suffix_links
from probe.forward.isolation import isolated
from probe.forward.passes import Tap
from probe.forward.runner import Runner
from probe.forward.shards import is_sharded
from probe.forward.sites import TRACE_ROWS
from probe.forward.suffix import Suffix
from probe.reads import has_queue, holds

_CHECK_ROWS = 4


class SuffixCheck:
    """Finds the suffix of the model after a site, and compares it once with the whole model.

    Before the suffix runs, the whole model runs on other rows, and on another number of rows. The comparison therefore
    rejects a suffix whose modules exchange data outside their arguments.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._suffixes: dict[tuple[str, ...], Suffix | None] = {}
        self._deterministic: set[tuple[str, ...]] = set()  # split and sites for which two passes agreed

    def suffix(self, split: str, site: str, sites: Sequence[str]) -> Suffix | None:
        """Return the suffix after a site. Return None if the whole model must run."""
        key = (split, site, *sites)
        if key not in self._suffixes:
            whole = is_sharded(self._runner.model)  # its modules do not run by themselves
            links = None if whole else suffix_links(self._runner.trace.links, site)
            self._suffixes[key] = None if links is None else self._compare(split, site, links, sites)
        return self._suffixes[key]

    def is_deterministic(self, split: str, sites: Sequence[str]) -> bool:
        """Return whether two passes over the same rows agree at these sites."""
        if (split, *sites) in self._deterministic:
            return True
        rows, taps = torch.arange(TRACE_ROWS), [Tap(site, "none") for site in sites]
        with isolated(self._runner.model):
            first = self._runner.run(split, self._runner.model_pass(taps), rows)
            second = self._runner.run(split, self._runner.model_pass(taps), rows)
        return all(tap in second and _agree(second[tap], value, value.dtype) for tap, value in first.items())

    def _compare(self, split: str, site: str, links: Sequence[Link], sites: Sequence[str]) -> Suffix | None:
        runner = self._runner
        n = len(runner.data[split])
        rows = torch.linspace(0, n - 1, min(n, _CHECK_ROWS)).long()
        taps = [Tap(later, "none") for later in sites]
        values: list[Tensor] = []

        def record(output: Tensor, positions: Tensor) -> Tensor:
            values.append(output.clone())
            return output

        expected = runner.run(split, runner.model_pass(taps, {site: record}), rows)
        others = runner.run(split, runner.model_pass(taps), torch.cat([rows.flip(0), rows[:1]]))
        if not values or len(expected) < len(taps):
            return None
        value = values[0]
        if all(tap in others and _agree(others[tap][:-1].flip(0), z, value.dtype) for tap, z in expected.items()):
            self._deterministic.add((split, *sites))
        order = runner.trace.order
        suffix = Suffix(site, links, value.dtype, order[: order.index(site) + 1])
        try:
            found = runner.run(split, runner.suffix_pass(taps, suffix, lambda _: value.clone()), rows, len(rows))
        except Exception:  # an error of the model itself is raised when the whole model runs
            return None
        same = all(tap in found and _agree(found[tap], expected[tap], value.dtype) for tap in taps)
        return suffix if same else None


def _agree(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    """Return whether two tensors are equal up to rounding in this dtype. On the CPU, bitwise equality comes first."""
    if one.shape != other.shape:
        return False
    if not other.numel() or (not has_queue(one.device) and torch.equal(one, other)):
        return True
    size = other.abs().where(other.isfinite(), 0).max().double()
    near = (one - other).abs() <= torch.finfo(dtype).eps ** 0.75 * size
    return holds((near | (one == other) | (one.isnan() & other.isnan())).all())
