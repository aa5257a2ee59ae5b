"""Schedules of observations: picklable functions step -> bool. Any callable of this form is a schedule too.

A schedule of the user is called at every optimiser step. It must therefore be fast (usually well under a microsecond
per call). The next due step of those of this module is calculated.
"""

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property

__all__ = ["Schedule", "at", "count", "every", "log_spaced"]

Schedule = Callable[[int], bool]


@dataclass(frozen=True)
class _Every:
    n: int

    def __call__(self, step: int) -> bool:
        return step % self.n == 0

    def below(self, stop: int) -> int:
        return max(0, math.ceil(stop / self.n))

    def after(self, step: int) -> float:
        return (step // self.n + 1) * self.n


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

    def after(self, step: int) -> float:
        if step < 1:
            return step + 1 if step < 0 else 1
        k = math.floor(self.per_decade * math.log10(step)) - 1  # several k round to one step
        while (found := round(10 ** (k / self.per_decade))) <= step:
            k += 1
        return found


@dataclass(frozen=True)
class _At:
    steps: frozenset[int]

    def __call__(self, step: int) -> bool:
        return step in self.steps

    def below(self, stop: int) -> int:
        return sum(0 <= step < stop for step in self.steps)

    @cached_property
    def _sorted(self) -> list[int]:
        return sorted(self.steps)

    def after(self, step: int) -> float:
        place = bisect_right(self._sorted, step)
        return self._sorted[place] if place < len(self._sorted) else math.inf


def count(schedule: Schedule, start: int, stop: int) -> int:
    """Return the number of due steps from ``start`` to ``stop``.

    Parameters
    ----------
    schedule
        A function step -> bool. Schedules of this module are counted by arithmetic, others by one call per step.
    start, stop
        The first step, at least 0, and the step after the last one.

    Returns
    -------
    int
        The number of steps in [start, stop) for which ``schedule`` returns True.

    See Also
    --------
    every, at, log_spaced : Make a schedule.

    Examples
    --------
    >>> from probe.schedule import count, every
    >>> count(every(10), 0, 100)
    10
    """
    if isinstance(schedule, (_Every, _PerDecade, _At)):
        return max(0, schedule.below(stop) - schedule.below(start))
    return sum(bool(schedule(step)) for step in range(start, stop))


def following(schedule: Schedule | None, step: int) -> float:
    """Return the first step after ``step`` that can be due. This is the next due step of a schedule of this module."""
    return schedule.after(step) if isinstance(schedule, (_Every, _PerDecade, _At)) else step + 1


def every(n: int) -> Schedule:
    """Return a schedule of the steps 0, n, 2n, ...

    Parameters
    ----------
    n
        Distance of two observations in steps, at least 1.

    Returns
    -------
    callable
        Function step -> bool.

    Raises
    ------
    ValueError
        If ``n`` is less than 1.

    See Also
    --------
    at : Observe at given steps.
    log_spaced : Observe at steps with equal ratios.

    Examples
    --------
    >>> from probe import every
    >>> [step for step in range(10) if every(3)(step)]
    [0, 3, 6, 9]
    """
    if n < 1:
        raise ValueError(f"Expected n >= 1 in every(n), got {n}; give the distance of two observations in steps")
    return _Every(n)


def at(steps: Iterable[int]) -> Schedule:
    """Return a schedule of exactly these steps.

    Parameters
    ----------
    steps
        The steps to observe, in any order.

    Returns
    -------
    callable
        Function step -> bool.

    See Also
    --------
    every : Observe at equal distances.
    log_spaced : Observe at steps with equal ratios.

    Examples
    --------
    >>> from probe import at
    >>> [step for step in range(10) if at([0, 1, 5])(step)]
    [0, 1, 5]
    """
    return _At(frozenset(int(step) for step in steps))


def log_spaced(n: int | None = None, stop: int | None = None, *, per_decade: int = 12) -> Schedule:
    """Return a schedule of step 0 and of steps with equal ratios, because the ends of phases differ by factors.

    Parameters
    ----------
    n, stop
        At most ``n`` distinct steps from 1 to ``stop`` inclusive. Small steps that round to the same integer count
        once. Give both, or neither for a schedule without an end.
    per_decade
        Steps per factor of ten in a schedule without an end.

    Returns
    -------
    callable
        Function step -> bool.

    Raises
    ------
    ValueError
        If only one of ``n`` and ``stop`` is given, one of them is less than 2, or ``per_decade`` is less than 1.

    See Also
    --------
    every : Observe at equal distances.
    at : Observe at given steps.

    Examples
    --------
    >>> from probe import log_spaced
    >>> [step for step in range(101) if log_spaced(5, 100)(step)]
    [0, 1, 3, 10, 32, 100]
    >>> [step for step in range(101) if log_spaced(per_decade=2)(step)]
    [0, 1, 3, 10, 32, 100]
    """
    if (n is None) != (stop is None):
        raise ValueError(f"Expected n and stop together, got n={n}, stop={stop}; give both, or per_decade= alone")
    if n is None or stop is None:
        if per_decade < 1:
            raise ValueError(f"Expected per_decade >= 1, got {per_decade}; give the steps per factor of ten")
        return _PerDecade(per_decade)
    if n < 2 or stop < 2:
        raise ValueError(f"Expected n >= 2 and stop >= 2, got n={n}, stop={stop}; or use at() for a single step")
    return at([0, *(round(stop ** (i / (n - 1))) for i in range(n))])
