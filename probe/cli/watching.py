"""The command ``probe watch``: follow a log that grows, and print the verdict whenever it changes."""

import argparse
import os
import re
import select
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probe.cli.failures import DONE, fail, failure_of
from probe.cli.inputs import fitted, read_series
from probe.cli.results import verdict
from probe.cli.terminal import json_text
from probe.errors import ProbeWarning
from probe.phases.curves import steps_name
from probe.readers.discovery import READERS
from probe.readers.folders import files_below

_COMMAND = "probe watch"
_BESIDE = ("", ".journal", "-wal")  # suffixes of files that grow in place of the log itself
# Times the CPU time of the last look that pass until the next: at most a tenth of one core is busy, and a hundredth if
# nothing changes.
_AFTER_READING, _AFTER_NOTHING = 9.0, 99.0
_NOT_IN_HEAD = ("Evidence:", "One run;", "Medians over runs:")  # lines of a summary that change with every observation
_FURTHER = 1.1  # times as many steps: new numbers are printed although class, statuses and markers are the same
_UNFINISHED = "still being written"  # in warnings of readers; expected here


def watch(args: argparse.Namespace) -> int:
    """Follow the log until Ctrl-C, or until the reader of the output closes it."""
    check_options(args)
    return follow(Watched(args))


def check_options(args: argparse.Namespace) -> None:
    """Raise ValueError for a time or a format that is none."""
    if not 0 < args.every < 1e6:
        raise ValueError(f"Expected a time between two looks above 0 s, got {args.every}; choose another --every")
    if args.format is not None and args.format not in READERS:
        raise ValueError(f"Expected one of the formats {', '.join(READERS)}, got {args.format!r}; choose one of them")


def follow(watched: "Watched") -> int:
    """Look again and again, until Ctrl-C or until the reader of the output closes it."""
    while wait(watched.look()):
        pass
    return DONE


def wait(seconds: float) -> bool:
    """Wait, and return whether the output can still be written. A closed pipe ends the wait at once."""
    try:
        poller = select.poll()
        poller.register(sys.stdout.fileno(), 0)  # reports errors and a closed other end alone
    except (AttributeError, OSError, ValueError):  # Windows, or an output without a file
        time.sleep(seconds)
        return True
    return not poller.poll(seconds * 1000)


def state_of(path: Path) -> list[tuple[Any, ...]]:
    """Return what changes whenever a file at or below the path does: names, identities, sizes and times."""
    files = files_below(path) if path.is_dir() else (path.with_name(path.name + suffix) for suffix in _BESIDE)
    return list(_states(files))


def _states(files: Iterator[Path]) -> Iterator[tuple[Any, ...]]:
    for file in files:
        try:
            found = os.stat(file)
        except OSError:  # not there, or no longer
            continue
        yield str(file), found.st_ino, found.st_size, found.st_mtime_ns


class Watched:
    """A log that is read whenever it changes, and the lines that were printed about it.

    Parameters
    ----------
    args : argparse.Namespace
        Options of the command.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.command = _COMMAND
        self._state: list[tuple[Any, ...]] | None = None  # when the log was last read
        self._shown: set[str] = set()  # lines, or the JSON, of the last verdict
        self._last_step = self._printed_step = -np.inf
        self._facts: tuple[Any, ...] = ()
        self._error = self._reported = ""  # of the last look, and the last one that was printed
        self._warned: set[str] = set()

    def look(self) -> float:
        """Read the log if it has changed, print what is new, and return the seconds to wait until the next look."""
        start = time.process_time()
        state = [one for path in self.paths() for one in state_of(path)]
        changed = state != self._state
        if changed:
            self._state = state
            try:
                with warnings.catch_warnings(record=True) as caught:
                    warnings.simplefilter("always", ProbeWarning)
                    series, detector = self.read()
            except Exception as error:
                self._fail(error)
            else:
                self._error = self._reported = ""
                self._warn([str(one.message) for one in caught if issubclass(one.category, ProbeWarning)])
                self.show(series, detector)
        pause = _AFTER_READING if changed else _AFTER_NOTHING
        return max(float(self.args.every), pause * (time.process_time() - start))

    def paths(self) -> list[Path]:
        """Return the files and folders that are looked at."""
        return [self.args.path]

    def read(self) -> tuple[xr.Dataset, Any]:
        """Return the log and a fitted detector."""
        series = read_series(self.args)
        return series, fitted(self.args, series)

    def _fail(self, error: Exception) -> None:
        """Report an error once: at the first look, or if the next look finds it again. A file may be half written."""
        failure = failure_of(error, self.command)
        first, again = not (self._error or self._shown), failure.message == self._error
        self._error = failure.message
        if failure.message != self._reported and (first or again):
            fail(error, f"{self.command}: waiting", as_json=self.args.json)
            self._reported = failure.message
            self._shown = set()  # the next verdict is new
        elif not again:
            self._state = None  # look again, changed or not

    def _warn(self, messages: list[str]) -> None:
        """Print each warning once, although its numbers change while the log grows."""
        for message in messages:
            text = re.sub(r"\d[\d.,]*", "", message)
            if text not in self._warned and _UNFINISHED not in message:
                print(f"{self.command}: warning: {message}", file=sys.stderr)
                self._warned.add(text)

    def show(self, series: xr.Dataset, detector: Any) -> None:
        """Print the verdict if it differs from the last one: as a line of JSON, or the lines that are new."""
        if self.args.json:
            lines = [json_text(verdict(detector, self.args.path.name))]
            new = [line for line in lines if line not in self._shown]
        elif not self._has_moved(series, detector):
            return
        else:
            head = detector.summary().split("\n\n")[0].splitlines()
            lines = [line for line in head if not line.startswith(_NOT_IN_HEAD)]
            new = [line for line in lines if line not in self._shown]
            new = [*self.title(series), *new] if new else []
        for line in new:
            print(line)
        sys.stdout.flush()
        self._shown = {*lines}

    def _has_moved(self, series: xr.Dataset, detector: Any) -> bool:
        """Return whether a class, a status or a marker differs from the last time, or the log has grown by a tenth."""
        markers, step = detector.markers_, float(series["step"].values[-1])
        found = (detector.verdict_["class"], markers["status"], markers["step"])
        facts = tuple(tuple(np.ravel(one.values).astype(str)) for one in found)
        moved = facts != self._facts or not self._printed_step <= step < _FURTHER * self._printed_step
        if moved:
            self._facts, self._printed_step = facts, step
        return moved

    def title(self, series: xr.Dataset) -> list[str]:
        """Return when the log was read and how far it is, and whether it starts again."""
        axis, steps = steps_name(series), series["step"].values
        runs = _ends_of_runs(series) if "run" in series.dims else ""
        title = f"{time.strftime('%H:%M:%S')}, {axis} {_shown(steps[-1])}, {len(steps):,} observations{runs}"
        again = steps[-1] < self._last_step
        before, self._last_step = self._last_step, float(steps[-1])
        return ["", title, *([f"The log starts again; it ended at {axis} {_shown(before)} before."] if again else [])]


def _shown(step: float) -> str:
    return f"{step:,.0f}" if step % 1 == 0 else f"{step:,.4g}"


def _ends_of_runs(series: xr.Dataset) -> str:
    """Return how many runs there are, and where the shortest one has arrived if it is behind the others."""
    there = series.to_array().notnull()
    there = there.any([dim for dim in there.dims if dim not in ("run", "step")])
    ends = series["step"].where(there).max("step").values
    behind = f", the shortest at {_shown(ends.min())}" if ends.min() < ends.max() else ""
    return f", {series.sizes['run']} runs{behind}"
