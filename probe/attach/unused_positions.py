"""A warning about layers that are measured at a position from which nothing reaches the output."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from probe.forward.layers import INPUT, OUTPUT
from probe.forward.passes import Tap
from probe.forward.sites import TRACE_ROWS
from probe.forward.snapshot import Snapshot


def position_warnings(snapshot: Snapshot, taps: Iterable[Tap]) -> Iterator[str]:
    """Yield a warning if the output does not depend on the last position of the deepest layer that is measured there.

    A classifier that reads a class token in front uses no other position of its last block.
    """
    trace = snapshot.trace
    split, batch = next(iter(snapshot.data.items()))
    rows = torch.arange(TRACE_ROWS)
    site = _deepest(snapshot, taps)
    padded = batch.mask is not None and not bool(batch.mask[rows.to(batch.mask.device), -1].all())
    if site is None or padded or not (OUTPUT in trace.shapes and trace.has_rows(OUTPUT)):
        return

    def with_another_end(value: Tensor, positions: Tensor) -> Tensor:
        value = value.clone()
        value[:, -1] = torch.linspace(-1, 1, value.shape[-1]).to(value)
        return value

    edits = (None, {site: with_another_end})
    try:
        one, other = (snapshot.outputs(split, [OUTPUT], reduce="none", rows=rows, edit=edit)[OUTPUT] for edit in edits)
    except TypeError:  # the layer returns a packed sequence, which cannot be replaced
        return
    if torch.equal(one, other):
        yield (
            f"Expected the output to depend on the last position of layer {site!r}, which is measured there, got the "
            "same output with other values at this position; give the probes reduce=0 if a class token is in front, "
            "or reduce='mean'"
        )


def _deepest(snapshot: Snapshot, taps: Iterable[Tap]) -> str | None:
    """Return the last layer of sequences (n, T, d) that is measured at its last position."""
    trace = snapshot.trace
    measured = {tap.site for tap in taps if tap.reduce is None or tap.reduce == "last"} - {INPUT, OUTPUT}
    sites = [
        site
        for site in trace.order
        if site in measured and ":" not in site and len(trace.shapes[site]) == 3 and trace.shapes[site][1] > 1
        if trace.has_rows(site) and trace.is_floating(site)
    ]
    return sites[-1] if sites else None
