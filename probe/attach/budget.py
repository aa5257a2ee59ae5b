"""How much of the training's own time observations may take, and which of the due ones are left out for it.

The *core*, the first due step at or after each of eight points per factor of ten, is always taken and not counted, so
that the start is always seen. An observation outside the core is taken if it can be paid for:

    spent + cost <= share * (training + steps to come * pace)

training: wall seconds outside of observations so far, whatever they went for; spent: those of observations outside the
core so far; cost: the median of the last five observations; steps to come: none unless ``total_steps`` is known; pace:
the fewest seconds that a step has taken on average between two observations, so that a slow start, compiling, say,
promises nothing. With ``total_steps``, what can be paid for is spread evenly over the due steps that are left.
"""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral, Real

import numpy as np

from probe.recording.records import Records
from probe.schedule import Schedule, count
from probe.series import Variable

CORE = 8  # points per factor of ten that are never left out
_RECENT = 5  # observations whose median is the expected cost: the first one, slow, is soon outvoted


def core_index(step: int) -> int:
    """The last point of the core at or below a step: point k is the step nearest to 10^(k/8)."""
    return math.floor(CORE * math.log10(step + 0.5))


def outside_core(schedule: Schedule, start: int, total_steps: int, last: int | None = None) -> int:
    """How many due steps from ``start`` to ``total_steps`` lie outside the core; ``last`` is the level seen already."""
    found = 0
    for k in range(core_index(start), core_index(max(start, total_steps)) + 1):
        lowest, end = (math.ceil(10 ** (i / CORE) - 0.5) for i in (k, k + 1))
        due = count(schedule, max(start, lowest), min(total_steps + 1, end))
        found += due if k == last else max(0, due - 1)
    return found


def check_budget(share: float | None, total_steps: int | None) -> None:
    """ValueError for settings that cannot be."""
    if share is None and total_steps is not None:
        raise ValueError(f"total_steps={total_steps} spreads a budget, and there is none: give budget= too")
    if share is not None and not (isinstance(share, Real) and 0 < share < 1):
        raise ValueError(f"budget is a share of the training's time above 0 and below 1, as 0.03; got {share!r}")
    if total_steps is not None and not (isinstance(total_steps, Integral) and total_steps >= 1):
        raise ValueError(f"total_steps must be a whole number of at least 1, got {total_steps!r}")


class Budget:
    """The account of one attachment.

    Parameters
    ----------
    share
        Of the training's time, above 0 and below 1.
    total_steps
        Updates that the training will have made at its end.
    schedule
        What is due; None: whatever :meth:`grants` is asked for. It is asked for all steps to come in advance if
        ``total_steps`` is given, in arithmetic for the schedules of :mod:`probe.schedule`, else one by one.
    step
        Updates made so far.
    settle
        Waits until the device has done what it was told, so that training is not booked as observing.
    """

    def __init__(
        self,
        share: float,
        total_steps: int | None = None,
        *,
        schedule: Schedule | None = None,
        step: int = 0,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self.share, self.total_steps = float(share), total_steps
        self.training = self.spent = 0.0  # seconds
        self.dropped: float = 0  # due steps left out since the last observation; NaN: not known
        self.observed: int | None = None  # step of the last observation
        self._schedule, self._first, self._settle = schedule, step, settle
        self._since: float | None = None  # the training goes on since then; None: it has not begun
        self._pace = math.inf
        self._costs: deque[float] = deque(maxlen=_RECENT)
        self._asked: int | None = None
        self._asks = 0
        self._level: int | None = None
        self._core = True
        self._credit = 0.0
        self._left = self._outside(step)

    def resume(self, records: Records, step: int, *, counted: bool) -> None:
        """Go on with the account of a recording; training after its last observation is not in it."""
        if not len(records) or "observing_seconds" not in records.variables:
            return
        *before, last = records.steps
        seconds = np.nansum(records.column("seconds"), axis=1)
        self._costs.extend(seconds[-_RECENT:].tolist())
        self.training = float(records.column("training_seconds")[-1])
        self.spent = float(records.column("observing_seconds")[-1])
        if before and core_index(last) == core_index(before[-1]):
            self.spent += float(seconds[-1])  # of what came before only is in the record
        self.dropped = float(records.column("dropped")[-1])
        if counted and self._schedule is not None:  # what came after the checkpoint is undone
            self.dropped = count(self._schedule, last + 1, step)
        self.observed = self._asked = last
        self._level, self._since = core_index(last), time.perf_counter()
        self._left = self._outside(max(step, last + 1))

    def variables(self) -> Iterator[Variable]:
        """What stands in the series beside the measures."""
        facts = {
            "budget": self.share,
            "core": f"{CORE} per factor of ten",
            "total_steps": str(self.total_steps or "not given"),
        }
        yield Variable("dropped", long_name="due steps left out from here to the next observation", attrs=facts)
        yield Variable("training_seconds", units="s", long_name="time outside of observations so far")
        yield Variable("observing_seconds", units="s", long_name="time of observations outside the core before this")

    def values(self) -> dict[str, np.ndarray]:
        """Of an observation that begins; ``dropped`` is known only later."""
        return {"training_seconds": np.array(self.training), "observing_seconds": np.array(self.spent)}

    def grants(self, step: int) -> bool:
        """Whether this due step is taken; if not, it counts as dropped."""
        new, self._core = step != self._asked, self._level is None or core_index(step) > self._level
        self._asked, self._level = step, core_index(step)
        self._asks += new
        granted = self._core or self._affords(step)
        self._left -= new and not self._core
        self.dropped += new and not granted
        return granted

    def grant_last(self, step: int) -> None:
        """The last state is observed in any case, and belongs to the core."""
        self.dropped -= step == self._asked  # it was asked for, and not granted
        self._core = True

    def _affords(self, step: int) -> bool:
        """Each due step adds the share of them that can be paid for; where this makes 1, one is taken."""
        now = time.perf_counter()
        to_come = max(0, (self.total_steps or 0) - step)
        running = 0.0 if self._since is None else now - self._since
        pace = self._pace if math.isfinite(self._pace) else running / max(1, step - (self.observed or 0))
        means = self.share * (self.training + running + to_come * pace) - self.spent
        cost = statistics.median(self._costs) if self._costs else 0.0
        payable = max(0.0, means / cost) if cost else math.inf
        self._credit += min(1.0, payable / self._due(step, to_come))
        if self._credit < 1 or payable < 1:
            self._credit = min(1.0, self._credit)
            return False
        self._credit -= 1
        return True

    def _due(self, step: int, to_come: int) -> float:
        """Due steps outside the core from this one on, as far as they are known."""
        if self._schedule is not None:
            return max(1, self._left)
        return 1 + to_come * self._asks / max(1, step - self._first)  # calls come as often as so far

    def _outside(self, start: int) -> int:
        if self._schedule is None or self.total_steps is None:
            return 0
        return outside_core(self._schedule, start, self.total_steps, self._level)

    @contextmanager
    def observation(self, step: int) -> Iterator[None]:
        """Time an observation, and book it."""
        self._settle()
        start = time.perf_counter()
        if self._since is not None:
            self.training += start - self._since
            if self.observed is not None and step > self.observed:
                self._pace = min(self._pace, (start - self._since) / (step - self.observed))
        try:
            yield
            self.observed, self.dropped = step, 0
        finally:
            self._since = time.perf_counter()
            self._costs.append(self._since - start)
            self.spent += 0.0 if self._core else self._since - start
