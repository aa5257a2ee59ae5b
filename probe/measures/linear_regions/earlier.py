"""The borders of the last observation, which later attributions compare with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from probe.attach.contract import Measured
from probe.base import Snapshot
from probe.geometry.borders import BoundaryGraph
from probe.measures.linear_regions.variables import NAME
from probe.recording.state import MAX_KEPT_BYTES

_BORDERS, _STEP = f"{NAME}_borders", f"{NAME}_borders_step"


@dataclass(frozen=True)
class Earlier:
    """The borders of each slice at the last observation.

    Attributes
    ----------
    graphs : list of BoundaryGraph or None
        None where there is nothing to compare with.
    step : float
        NaN if there is no earlier observation.
    first : bool
        Whether there is none.
    """

    graphs: list[BoundaryGraph | None]
    step: float
    first: bool

    @classmethod
    def of(cls, snapshot: Snapshot, n_slices: int, sites: Sequence[str]) -> Self:
        """Read what :func:`kept_graphs` has kept. What was not kept is None."""
        packed, step = snapshot.kept(_BORDERS), snapshot.kept(_STEP)
        first = not len(snapshot.history(f"{NAME}_since"))
        if packed is None or step is None:
            return cls([None] * n_slices, np.nan, first)
        lengths, numbers = packed[:n_slices], packed[n_slices:]
        parts = np.split(numbers, np.cumsum(lengths)[:-1])
        return cls([BoundaryGraph.unpack(part, sites) if len(part) else None for part in parts], float(step), first)

    def since(self) -> dict[str, Measured]:
        """Return the step with which this observation is compared, as a variable."""
        return {f"{NAME}_since": Measured(self.step, long_name="step of the observation that is compared with")}


def kept_graphs(graphs: Sequence[BoundaryGraph | None], step: int) -> dict[str, Measured]:
    """Return the values to keep: no borders where a partition is incomplete, and none at all if they are too large."""
    parts = [np.empty(0, np.int32) if graph is None else graph.pack() for graph in graphs]
    if sum(part.nbytes for part in parts) > MAX_KEPT_BYTES // 2:
        parts = [part[:0] for part in parts]
    lengths = np.array([len(part) for part in parts], np.int32)
    return {
        _BORDERS: Measured(np.concatenate([lengths, *parts]), keep=True),
        _STEP: Measured(np.int64(step), keep=True),
    }
