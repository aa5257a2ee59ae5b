"""When to observe: plain functions step -> bool, picklable, and any callable of yours does as well.

A schedule is asked at every optimiser step, so it must be cheap (well under a microsecond per step is usual).
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Schedule = Callable[[int], bool]


@dataclass(frozen=True)
class _Every:
    n: int

    def __call__(self, step: int) -> bool:
        return step % self.n == 0

    def below(self, stop: int) -> int:
        return max(0, math.ceil(stop / self.n))


@dataclass(frozen=True)
class _PerDecade:
    per_decade: int

    def __call__(self, step: int) -> bool:
        if step <= 1:
            return True
        k = round(self.per_decade * math.log10(step))
        # the neighbours too: at small steps several k round to one step
        return any(round(10 ** (i / self.per_decade)) == step for i in (k - 1, k, k + 1))

    def below(self, stop: int) -> int:
        last = math.ceil(self.per_decade * math.log10(max(stop, 1))) + 1
        steps = {0, *(round(10 ** (i / self.per_decade)) for i in range(last + 1))}
        return sum(step < stop for step in steps)


@dataclass(frozen=True)
class _At:
    steps: frozenset[int]

    def __call__(self, step: int) -> bool:
        return step in self.steps

    def below(self, stop: int) -> int:
        return sum(0 <= step < stop for step in self.steps)


def count(schedule: Schedule, start: int, stop: int) -> int:
    """How many of the steps from ``start``, at least 0, to ``stop``, exclusive, are due.

    By arithmetic for the schedules made here; any other is asked for each step.
    """
    if isinstance(schedule, (_Every, _PerDecade, _At)):
        return max(0, schedule.below(stop) - schedule.below(start))
    return sum(bool(schedule(step)) for step in range(start, stop))


def every(n: int) -> Schedule:
    """Observe at steps 0, n, 2n, ..."""
    if n < 1:
        raise ValueError(f"every(n) needs n >= 1, got {n}")
    return _Every(n)


def at(steps: Iterable[int]) -> Schedule:
    """Observe at exactly these steps."""
    return _At(frozenset(int(step) for step in steps))


def log_spaced(n: int | None = None, stop: int | None = None, *, per_decade: int = 12) -> Schedule:
    """Observe at step 0 and at steps evenly spaced in the logarithm: phases differ by factors, not by amounts.

    Parameters
    ----------
    n, stop
        ``n`` distinct steps at most from 1 to ``stop`` inclusive (small steps that round together count once).
        Give both, or neither for an open end.
    per_decade
        Steps per factor of ten where the end is open.
    """
    if (n is None) != (stop is None):
        raise ValueError(f"log_spaced takes n and stop together, got n={n}, stop={stop}; or only per_decade=")
    if n is None or stop is None:
        if per_decade < 1:
            raise ValueError(f"log_spaced needs per_decade >= 1, got {per_decade}")
        return _PerDecade(per_decade)
    if n < 2 or stop < 2:
        raise ValueError(f"log_spaced needs n >= 2 and stop >= 2, got n={n}, stop={stop}")
    return at([0, *(round(stop ** (i / (n - 1))) for i in range(n))])
