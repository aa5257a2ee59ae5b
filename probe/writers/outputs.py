"""Where the numbers of an attachment go beside its series: to writers, and to a line of progress."""

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from probe.errors import warn_user
from probe.interrupts import interruptible
from probe.recording.records import Records
from probe.series import Variable
from probe.writers.kinds import Writer, writers_of
from probe.writers.numbers import UNWRITTEN, described, numbers_of
from probe.writers.progress import Progress

_REST = 20  # a writer that has failed is left alone for this many times the time of its failure


class Writers:
    """The writers of ``write_to``. One that raises gets a single warning, and the number of lost rows is counted.

    Parameters
    ----------
    given
        One writer, a list of them, or None.
    marks
        What marks or counts the lost rows.
    """

    def __init__(self, given: Any, marks: str = f"variable {UNWRITTEN!r} marks") -> None:
        self._writers, self._marks = writers_of(given), marks
        self._described = [False] * len(self._writers)
        self._retry_at = [0.0] * len(self._writers)
        self._lost = [0] * len(self._writers)
        self._reached: int | None = None  # last step that an earlier run has written
        self._step: int | None = None
        self._failed = set[int]()  # indices of the writers that lack numbers of this step

    def __len__(self) -> int:
        return len(self._writers)

    def resume(self, reached: int | None, step: int) -> None:
        """Leave out the steps that the recording wrote before it was resumed at a step."""
        self._reached = reached
        self._described = [reached is not None for _ in self._writers]
        if reached is not None and reached > step:
            names = ", ".join(writer.name for writer in self._writers)
            warn_user(
                f"Expected {names} to end at step {step}, where the training resumes, got rows up to step {reached} of "
                f"the run before; the rows of steps {step} to {reached} are recorded and not written again. "
                "probe.writers.send(series, writer) writes all rows to another run"
            )

    def write(self, variables: Mapping[str, Variable], values: Mapping[str, np.ndarray], step: int) -> int:
        """Write the numbers of one step, and return the number of writers that did not take them."""
        if step != self._step:
            self._step, self._failed = step, set()
        numbers = numbers_of(variables, values)
        for i in range(len(self._writers)):
            self._write_to(i, variables, numbers, step)
        return len(self._failed)

    def _write_to(self, i: int, variables: Mapping[str, Variable], numbers: dict[str, float], step: int) -> None:
        writer, start = self._writers[i], time.monotonic()
        if self._reached is not None and step <= self._reached:
            return  # the run before has written it
        try:
            if start < self._retry_at[i]:
                raise TimeoutError(f"{writer.name} failed a short time ago")
            with interruptible():
                writer.write(dict(numbers), step)
        except Exception as error:
            self._fail(i, step, error, start)
            return
        if not self._described[i]:
            self._described[i] = True
            self._attempt(writer, "take units and descriptions", partial(writer.describe, described(variables)))

    def _attempt(self, writer: Writer, what: str, call: Callable[[], None]) -> None:
        """Call a method whose error loses no row."""
        try:
            with interruptible():
                call()
        except Exception as error:
            warn_user(f"Expected {writer.name} to {what}, got {type(error).__name__}: {error}; training goes on")

    def _fail(self, i: int, step: int, error: Exception, start: float) -> None:
        now = time.monotonic()
        if start >= self._retry_at[i]:
            self._retry_at[i] = now + _REST * (now - start)
        if i in self._failed:
            return
        self._failed.add(i)
        self._lost[i] += 1
        if self._lost[i] == 1:
            warn_user(
                f"Expected {self._writers[i].name} to take the numbers of step {step}, got {type(error).__name__}: "
                f"{error}; training and recording go on. The {self._marks} the rows that are lost, and "
                "probe.writers.send(series, writer, steps=...) writes them later"
            )

    def notes(self) -> list[str]:
        """Return a note for each writer that has lost rows."""
        return [
            f"rows that {one.name} did not take: {n}" for one, n in zip(self._writers, self._lost, strict=True) if n
        ]

    def close(self) -> None:
        """Flush, and warn of lost rows."""
        for writer, lost in zip(self._writers, self._lost, strict=True):
            self._attempt(writer, "write the last rows, before its run ends", writer.flush)
            if lost > 1:
                warn_user(
                    f"Expected {writer.name} to take all rows, got errors for {lost} of them; the {self._marks} them"
                )


class Outputs:
    """Writers and line of progress of one attachment.

    Parameters
    ----------
    write_to
        As for :meth:`probe.ProbeSet.attach`.
    progress
        The line, if one is wanted.
    """

    def __init__(self, write_to: Any = None, progress: Progress | None = None) -> None:
        self._writers, self._progress = Writers(write_to), progress

    def variables(self) -> Sequence[Variable]:
        """Return the variables that the writers add to the series."""
        if not len(self._writers):
            return ()
        return (Variable(UNWRITTEN, long_name=f"writers, of {len(self._writers)}, that did not take the numbers"),)

    def values(self) -> dict[str, np.ndarray]:
        """Return the values of an observation that begins."""
        return {UNWRITTEN: np.array(0.0)} if len(self._writers) else {}

    def resume(self, records: Records, step: int) -> None:
        """Note which steps the run before has written."""
        if len(self._writers):
            self._writers.resume(records.reached.get(UNWRITTEN), step)

    def observed(self, step: int, records: Records, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write and show an observation that is recorded. Return values to add to it, if a writer failed."""
        lost = 0
        if len(self._writers):
            lost = self._writers.write(records.variables, values, step)
        if self._progress is not None:
            self._progress.observed(step, records)
        return {UNWRITTEN: np.array(float(lost))} if lost else {}

    def added(self, step: int, records: Records, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Write numbers that the training loop adds to the last observation. Return values to add as well."""
        lost = self._writers.write(records.variables, values, step) if len(self._writers) else 0
        return {UNWRITTEN: np.array(float(lost))} if lost else {}

    def close(self, records: Records) -> None:
        """Flush the writers, and show the last line."""
        self._writers.close()
        if self._progress is not None:
            self._progress.close(records)
