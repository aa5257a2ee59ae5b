"""A budget of time: which due steps are observed, so that observing takes a given share of the training time.

The *core* is the first due step at or after each of eight points per factor of ten. Before step 100, core steps are
always observed, so the start of the training is always recorded. Another due step is observed if

    spent + cost <= means,    means = max(expected - fixed, expected / 2),
    expected = share * (training + remaining steps * pace)

All time of the probes is within the share as soon as the fixed time is at most half of it. Before that, the other half
is for later observations. From step 100 on, core steps come first: the first due step that is affordable after each
point is observed, and with ``total_steps`` the others leave the time for the core steps to come.

training
    Wall time in seconds outside of observations so far, whatever it was used for.
fixed
    Wall time in seconds of attaching, and of observations at core steps before step 100.
spent
    Wall time in seconds of the other observations so far.
cost
    Median time of the last five observations.
remaining steps
    0 if ``total_steps`` is not given.
pace
    Smallest mean time of a step between two observations. A slow start (compilation) therefore does not raise the
    expected training time.

With ``total_steps``, the affordable observations are spread evenly over the due steps that remain.
"""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from numbers import Integral, Real
from typing import Any

import numpy as np

from probe.recording.records import Records
from probe.schedule import Schedule, count
from probe.series import Variable

CORE = 8  # points per factor of ten whose steps come first
FREE = 100  # first step that a budget can drop although it is in the core
_MOST = 1.5  # real share over the budget, above which detach warns
_RECENT = 5  # observations whose median time is the expected cost; the first, slow one soon has no weight


def now() -> float:
    """Return the time in seconds, from an arbitrary start."""
    return time.perf_counter()


def core_index(step: int) -> int:
    """Return the index k of the last core point at or before a step; point k is the step nearest to 10^(k/8)."""
    return math.floor(CORE * math.log10(step + 0.5))


def outside_core(schedule: Schedule, start: int, total_steps: int, last: int | None = None) -> int:
    """Return the number of due steps outside the core, from ``start`` to ``total_steps`` inclusive.

    Parameters
    ----------
    schedule
        Function ``step -> bool``. Schedules of :mod:`probe.schedule` are counted by arithmetic, any other is called for
        each step.
    start, total_steps
        First and last step.
    last
        Index of the core point whose step is observed already. Default: none.

    See Also
    --------
    Budget : Selects the due steps that are observed.
    probe.schedule.count : Number of due steps, those of the core included.

    Examples
    --------
    >>> from probe import every
    >>> from probe.attach import outside_core
    >>> from probe.schedule import count
    >>> count(every(1), 0, 101), outside_core(every(1), 0, 100)  # 16 steps are in the core
    (101, 85)
    """
    found = 0
    for k in range(core_index(start), core_index(max(start, total_steps)) + 1):
        lowest, end = (math.ceil(10 ** (i / CORE) - 0.5) for i in (k, k + 1))
        due = count(schedule, max(start, lowest), min(total_steps + 1, end))
        found += due if k == last else max(0, due - 1)
    return found


def check_budget(share: float | None, total_steps: int | None) -> None:
    """Raise ValueError for invalid settings of a budget."""
    if share is None and total_steps is not None:
        raise ValueError(f"Expected budget= with total_steps={total_steps}, got None; give budget= too")
    if share is not None and not (isinstance(share, Real) and 0 < share < 1):
        raise ValueError(f"Expected a budget above 0 and below 1, got {share!r}; give a share of the time, as 0.03")
    if total_steps is not None and not (isinstance(total_steps, Integral) and total_steps >= 1):
        raise ValueError(
            f"Expected total_steps to be an integer of at least 1, got {total_steps!r}; give the number of updates"
        )


class Unlimited:
    """The account of an attachment without a budget: each due step is observed, and nothing is added to the series."""

    def resume(self, records: Records, step: int, *, counted: bool) -> None:
        """Do nothing."""

    def variables(self) -> tuple[Variable, ...]:
        """Return no variables."""
        return ()

    def values(self) -> dict[str, np.ndarray]:
        """Return no values."""
        return {}

    def grants(self, step: int) -> bool:
        """Return True."""
        return True

    def grant_last(self, step: int) -> None:
        """Do nothing."""

    def observation(self, step: int) -> AbstractContextManager[None]:
        """Return a context manager that does nothing."""
        return nullcontext()

    def annotation(self) -> tuple[int, Mapping[str, np.ndarray]] | None:
        """Return None."""
        return None

    def excess(self) -> str | None:
        """Return None."""
        return None


class Budget:
    """The account of time of one attachment.

    A session asks :meth:`grants` at each due step, and runs each observation within :meth:`observation`.

    Parameters
    ----------
    share
        Share of the training time, above 0 and below 1.
    total_steps
        Number of updates at the end of the training, if known.
    schedule
        Function ``step -> bool``. None: each step that :meth:`grants` is asked for is due. With ``total_steps`` the due
        steps that remain are counted: by arithmetic for the schedules of :mod:`probe.schedule`, else one by one.
    step
        Updates made so far.
    settle
        Synchronises the device, so that queued training kernels do not count as observation time.
    attaching
        Seconds that the checks of attach took.

    Attributes
    ----------
    training, observing, spent : float
        Seconds outside of observations, of attaching and all observations, and of those that a budget can drop, so far.
    dropped : float
        Due steps not observed since the last observation. NaN: not known.
    observed : int or None
        Step of the last observation.

    See Also
    --------
    probe.ProbeSet : Takes ``budget`` and ``total_steps``.
    outside_core : Number of due steps that a budget can drop.

    Examples
    --------
    >>> from probe import every
    >>> from probe.attach import Budget
    >>> budget = Budget(0.03, total_steps=1000, schedule=every(10))
    >>> budget.grants(0)  # the first due step is in the core
    True
    >>> with budget.observation(0):
    ...     pass
    >>> budget.observed, budget.spent
    (0, 0.0)
    """

    def __init__(
        self,
        share: float,
        total_steps: int | None = None,
        *,
        schedule: Schedule | None = None,
        step: int = 0,
        settle: Callable[[], object] = lambda: None,
        attaching: float = 0.0,
    ) -> None:
        self.share, self.total_steps = float(share), total_steps
        self.training = self.spent = 0.0
        self.observing = attaching
        self.dropped: float = 0
        self.observed: int | None = None
        self._schedule, self._first, self._settle = schedule, step, settle
        self._since: float | None = None  # end of the last observation; None: the training has not begun
        self._pace = math.inf
        self._costs: deque[float] = deque(maxlen=_RECENT)
        self._asked: int | None = None
        self._n_asked = 0
        self._level: int | None = None  # core point of the last observation
        self._asked_level: int | None = None  # core point of the last due step
        self._free = True
        self._credit = 0.0
        self._left = self._outside(step)

    def resume(self, records: Records, step: int, *, counted: bool) -> None:
        """Continue the account of a recording. Training after its last observation is not included.

        Parameters
        ----------
        records
            The observations so far.
        step
            Updates made so far.
        counted
            Whether an optimizer counts the steps, so that ``step`` is known.
        """
        if not len(records) or "observing_seconds" not in records.variables:
            return
        *before, last = records.steps
        seconds = np.nansum(records.column("seconds"), axis=1)
        self._costs.extend(seconds[-_RECENT:].tolist())
        self.training = float(records.column("training_seconds")[-1])
        self.observing += float(records.column("observing_seconds")[-1])
        self.spent = float(records.column("counted_seconds")[-1])
        # the record excludes the time of its own observation
        self.observing += float(seconds[-1])
        if last >= FREE or (before and core_index(last) == core_index(before[-1])):
            self.spent += float(seconds[-1])
        self.dropped = float(records.column("dropped")[-1])
        if counted and self._schedule is not None:  # steps after the checkpoint are made again
            self.dropped = count(self._schedule, last + 1, step)
        self.observed = self._asked = last
        self._level = self._asked_level = core_index(last)
        self._since = now()
        self._left = self._outside(max(step, last + 1))

    def variables(self) -> tuple[Variable, ...]:
        """Return the variables that the account adds to the series."""
        facts: dict[str, Any] = {
            "budget": self.share,
            "core": f"{CORE} per factor of ten, never dropped before step {FREE}",
            "total_steps": str(self.total_steps or "not given"),
        }
        return (
            Variable("dropped", long_name="due steps dropped between this observation and the next", attrs=facts),
            Variable("training_seconds", units="s", long_name="time outside of observations so far"),
            Variable(
                "observing_seconds", units="s", long_name="time of attaching and the observations before this one"
            ),
            Variable("counted_seconds", units="s", long_name="time of those that the budget can drop"),
            Variable("observing_share", long_name="time of all that over the time of the training, until the next"),
        )

    def values(self) -> dict[str, np.ndarray]:
        """Return the values of an observation that begins; the others are known only later, see :meth:`annotation`."""
        return {
            "training_seconds": np.array(self.training),
            "observing_seconds": np.array(self.observing),
            "counted_seconds": np.array(self.spent),
        }

    def annotation(self) -> tuple[int, Mapping[str, np.ndarray]] | None:
        """Return the step of the last observation, the due steps dropped since and the share; None without one."""
        if self.observed is None:
            return None
        values = {"dropped": float(self.dropped), "observing_share": self._real_share()}
        return self.observed, {name: np.array(value) for name, value in values.items()}

    def excess(self) -> str | None:
        """Return a warning if attaching and all observations took far more than the budget."""
        real = self._real_share()
        if not (self.training > 0 and real > _MOST * self.share):
            return None
        return (
            f"Expected observations to take {self.share:.3g} of the training time, got {real:.3g}: "
            f"{self.observing:.3g} s beside {self.observing / real:.3g} s of training. "
            f"{self.observing - self.spent:.3g} s of them are of attaching and of core steps before step {FREE}, which "
            "no budget drops; train longer, or choose less data or cheaper probes (estimate() lists their times)"
        )

    def _real_share(self) -> float:
        """Return the time of attaching and all observations over that of the training so far; NaN before any."""
        training = self.training + (0.0 if self._since is None else now() - self._since)
        return self.observing / training if training > 0 else math.nan

    def grants(self, step: int) -> bool:
        """Return whether this due step is observed. If not, it counts as dropped."""
        new, level = step != self._asked, core_index(step)
        core = self._level is None or level > self._level  # no observation since this point of the core
        self._left -= new and self._asked_level is not None and level == self._asked_level
        self._asked, self._asked_level = step, level
        self._n_asked += new
        self._free = core and step < FREE
        granted = self._free or self._affords(step, core=core)
        if granted:
            self._level = level
        self.dropped += new and not granted
        return granted

    def grant_last(self, step: int) -> None:
        """Grant the last state, which is always observed."""
        self.dropped -= step == self._asked  # asked for before, and not granted
        self._free = step < FREE

    def _affords(self, step: int, *, core: bool) -> bool:
        """Return whether an observation is affordable.

        Steps outside the core add the affordable share of the due steps to a credit. An observation takes 1 of it.
        """
        to_come = max(0, (self.total_steps or 0) - step)
        running = 0.0 if self._since is None else now() - self._since
        pace = self._pace if math.isfinite(self._pace) else running / max(1, step - (self.observed or 0))
        expected = self.share * (self.training + running + to_come * pace)
        means = max(expected - self.observing, expected / 2 - self.spent)
        cost = statistics.median(self._costs) if self._costs else 0.0
        payable = max(0.0, means / cost) if cost else math.inf
        if core:
            return payable >= 1
        if self.total_steps is not None:
            payable = max(0.0, payable - max(0, core_index(self.total_steps) - core_index(step)))
        self._credit += min(1.0, payable / self._due(step, to_come))
        if self._credit < 1 or payable < 1:
            self._credit = min(1.0, self._credit)
            return False
        self._credit -= 1
        return True

    def _due(self, step: int, to_come: int) -> float:
        """Return the number of due steps outside the core from this one on, as far as it is known."""
        if self._schedule is not None:
            return max(1, self._left)
        return 1 + to_come * self._n_asked / max(1, step - self._first)  # at the rate so far

    def _outside(self, start: int) -> int:
        if self._schedule is None or self.total_steps is None:
            return 0
        return outside_core(self._schedule, start, self.total_steps, self._level)

    @contextmanager
    def observation(self, step: int) -> Iterator[None]:
        """Measure the time of an observation, and add it to the account."""
        self._settle()
        start = now()
        if self._since is not None:
            self.training += start - self._since
            if self.observed is not None and step > self.observed:
                self._pace = min(self._pace, (start - self._since) / (step - self.observed))
        self._since = None
        try:
            yield
            self.observed, self.dropped = step, 0
        finally:
            self._since = now()
            seconds = self._since - start
            self._costs.append(seconds)
            self.observing += seconds
            self.spent += 0.0 if self._free else seconds
