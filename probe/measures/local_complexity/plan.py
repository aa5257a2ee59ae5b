"""The numbers of points and directions that a budget of forward rows pays for."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from probe.forward.operations import MAX_ROWS

DIRECTIONS = 25
FEW_POINTS = 4  # below it, a mean has no useful standard error
_CHECKED = 4  # points of a large model
_POINTS = 16  # of each split, for which a large model has fewer directions


@dataclass(frozen=True)
class Plan:
    """Numbers of points of each split at most, of random points, of directions, and the budget of rows."""

    n_points: int
    n_random: int
    n_directions: int
    max_rows: int

    @property
    def n_checked(self) -> int:
        """Number of points of each split whose functions the first observation compares with those of the trace."""
        return self.n_points if self.max_rows >= MAX_ROWS else min(self.n_points, _CHECKED)

    def at_least(self, points: int) -> Self:
        """Return the plan with at least this many points."""
        n_random = max(points, self.n_random) if self.n_random else 0
        return replace(self, n_points=max(points, self.n_points), n_random=n_random)


def planned(
    max_rows: int,
    sizes: Sequence[int],
    n_radii: int,
    *,
    directions: int,
    n_random: int,
    centre: bool,
    fewer_directions: bool,
) -> Plan:
    """Divide the rows among the splits, the random points and the radii.

    Parameters
    ----------
    max_rows
        Budget of forward rows: 2 P for each point and radius, and one more with ``centre``.
    sizes
        Number of inputs of each split.
    directions
        Largest number of directions.
    n_random
        Largest number of random points.
    fewer_directions
        Whether a large model, with fewer rows than a small one has, may have fewer directions.
    """
    sets = len(sizes) + bool(n_random)
    if fewer_directions and max_rows < MAX_ROWS:
        each = max_rows // (sets * n_radii * min(_POINTS, max(sizes)))  # rows of a point
        directions = max(1, min(directions, (each - centre) // 2))
    points = max_rows // (n_radii * (2 * directions + centre))
    n_random = min(n_random, points // sets)
    return Plan((points - n_random) // len(sizes), n_random, directions, max_rows)
