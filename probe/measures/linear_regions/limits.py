"""How many segments of a network are affordable, and where each of them stops. The choice does not depend on time."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import torch

from probe.errors import warn_user
from probe.forward.operations import OperationCounter
from probe.geometry.networks import Affine, Maximum, PiecewiseLinear
from probe.geometry.segments.segments import SegmentRegions

_OPERATIONS = 2**36  # of the segments of one observation, in float64: 4 to 20 seconds of a CPU core
_CROSSED = 0.25  # share of the units that change on a segment: 0.24 to 0.26 in networks at initialisation
_LONG = 4  # a segment stops at this many times the number of knots that it is expected to have
_MOST_KNOTS = 100_000


@dataclass(frozen=True)
class SegmentLimits:
    """Limits of the segments of one split.

    Attributes
    ----------
    n_segments : int
        Number of segments, at least 1.
    max_knots : int
        Number of knots at which a segment stops.
    """

    n_segments: int
    max_knots: int

    @classmethod
    def of(cls, network: PiecewiseLinear, wanted: int, n_splits: int, max_rows: int | None, max_bytes: int) -> Self:
        """Return the limits. Each knot takes one row of the network; without ``max_rows``, operations limit them."""
        operations, units, widest = _size(network)
        rows = (_OPERATIONS // operations if max_rows is None else max_rows) // n_splits
        count = min(wanted, max(1, int(rows / max(1, _CROSSED * units))))
        return cls(count, max(1, min(_MOST_KNOTS, _LONG * rows // count, max_bytes // (8 * widest))))


def warn_of_slices(max_regions: int, max_bytes: int) -> None:
    """Warn that a slice stopped."""
    warn_user(
        f"Expected at most {max_regions:,} regions and {max_bytes:,} bytes in each slice, stopped at a limit. The flag "
        "linear_regions_incomplete marks counts that are lower bounds. Pass LinearRegionsProbe(n_slices=0), which "
        "measures segments only, a smaller half_side, or larger max_regions and max_bytes"
    )


def warn_of_segments(segments: Sequence[SegmentRegions], wanted: int, limits: SegmentLimits) -> None:
    """Warn if there are fewer segments than wanted, or some stopped."""
    stopped = not all(each.complete for each in segments)
    if limits.n_segments < wanted or stopped:
        count = min(len(each.counts) for each in segments)
        found = f"{count} that stopped, so that numbers of knots are lower bounds" if stopped else f"{count}"
        warn_user(
            f"Expected {wanted} segments of each split, got {found}. Each knot takes a forward pass of one row; pass a "
            "larger max_rows (and max_bytes for wide layers) to LinearRegionsProbe, which takes longer"
        )


def _size(network: PiecewiseLinear) -> tuple[int, int, int]:
    """Return the floating-point operations of a row, the number of units that bend, and that of the widest value."""
    values, counter = {0: torch.zeros(1, *network.shape, dtype=torch.float64)}, OperationCounter()
    units, widest = 0, values[0].numel()
    with suppress(Exception), counter:  # some functions do not work with such a mode
        network(values[0])
    for operation, unused in network.steps():
        inputs = [values[read] for read in operation.inputs]
        new = values[operation.output] = operation.function(*inputs)
        candidates = operation.candidates(*inputs).numel() if isinstance(operation, Maximum) else 0
        units += 0 if isinstance(operation, Affine) else new.numel()
        widest = max(widest, new.numel(), candidates)
        values = {read: value for read, value in values.items() if read not in unused}
    return max(1, counter.operations), units, widest
