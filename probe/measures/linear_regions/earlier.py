"""The borders of the last observation, which later attributions compare with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from probe.attach.contract import Measured
from probe.base import Snapshot
from probe.geometry.regions.borders import BoundaryGraph
from probe.measures.linear_regions.variables import NAME
from probe.recording.state import MAX_KEPT_BYTES

_BORDERS = f"{NAME}_borders"


@dataclass(frozen=True)
class Earlier:
    """The borders of each slice at the last observation.

    Attributes
    ----------
    graphs : list of BoundaryGraph or None
        None where there is nothing to compare with.
    skipped : int
        Number of observations in between that failed.
    first : bool
        Whether there is no earlier observation.
    """

    graphs: list[BoundaryGraph | None]
    skipped: int
    first: bool

    @classmethod
    def of(cls, snapshot: Snapshot, n_slices: int, sites: Sequence[str]) -> Self:
        """Read what :func:`kept_graphs` has kept. What was not kept is None."""
        packed = snapshot.kept(_BORDERS)
        measured = np.flatnonzero(~np.isnan(snapshot.history(f"{NAME}_skipped")))
        skipped = len(snapshot.history(f"{NAME}_skipped")) - 1 - measured[-1] if len(measured) else 0
        if packed is None:
            return cls([None] * n_slices, skipped, first=not len(measured))
        lengths, numbers = packed[:n_slices], packed[n_slices:]
        parts = np.split(numbers, np.cumsum(lengths)[:-1])
        graphs = [BoundaryGraph.unpack(part, sites) if len(part) else None for part in parts]
        return cls(graphs, skipped, first=False)


def kept_graphs(graphs: Sequence[BoundaryGraph | None]) -> dict[str, Measured]:
    """Return the values to keep: no borders where a partition is incomplete, and none at all if they are too large."""
    parts = [np.empty(0, np.int32) if graph is None else graph.pack() for graph in graphs]
    if sum(part.nbytes for part in parts) > MAX_KEPT_BYTES // 2:
        parts = [part[:0] for part in parts]
    lengths = np.array([len(part) for part in parts], np.int32)
    return {_BORDERS: Measured(np.concatenate([lengths, *parts]), keep=True)}
