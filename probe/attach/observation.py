"""One observation: measure every probe on one snapshot, and collect values, times and errors."""

import time
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from probe.attach.columns import SeriesColumns
from probe.attach.contract import SessionProbe, check_measured
from probe.attach.distributed import Ranks
from probe.attach.prepare import Prepared
from probe.attach.recording import Recording
from probe.attach.side_effects import check_writes
from probe.attach.stages import Begun, begin, finish
from probe.forward.isolation import isolated, torch_defaults
from probe.forward.model_state import ModelState
from probe.forward.snapshot import Snapshot
from probe.interrupts import interruptible
from probe.recording.state import MAX_KEPT_BYTES
from probe.series import Variable

SHARED_PASS = "shared pass"  # its label among the probes


@dataclass
class Observation:
    """What one observation has found.

    ``values`` are the columns of the series, ``kept`` the values beside them, ``errors`` maps the text of an error to
    the probes that raised it, and ``rows`` has the number of forward rows of each probe.
    """

    values: dict[str, np.ndarray] = field(default_factory=dict)
    kept: dict[str, np.ndarray] = field(default_factory=dict)
    errors: dict[str, list[str]] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)


def declare_observations(probes: Mapping[str, SessionProbe], columns: SeriesColumns) -> None:
    """Declare the columns of times and failures."""
    coords = {"probe": [SHARED_PASS, *probes]}
    columns.declare(Variable("seconds", ("probe",), coords, "s", "time of one observation"))
    columns.declare(Variable("failed", ("probe",), coords, flag=True, long_name="the probe raised an error"))


def observe(
    prepared: Prepared,
    snapshot: Snapshot,
    recording: Recording,
    raises: Callable[[Exception], bool],
    ranks: Ranks,
) -> Observation:
    """Run the shared pass and every probe, and leave the model unchanged.

    An error for which ``raises`` returns True is raised. Any other is noted, and flagged in ``failed``. An error on
    one of the ranks is one on all of them.

    Raises
    ------
    ModelChangedError
        If the model was changed and cannot be restored.
    """
    names = [SHARED_PASS, *prepared.probes]
    failed, seconds = np.zeros(len(names), np.int8), np.zeros(len(names))
    found, begun = Observation({"failed": failed, "seconds": seconds}), dict[str, Begun]()

    def measure(name: str) -> _Answer:
        if name != SHARED_PASS:
            return _measure(name, prepared, snapshot, recording, begun)
        with interruptible():
            snapshot.run_shared_pass()
        return _Answer()

    with ranks.alike(prepared.model), _isolated(prepared, snapshot.step) as state, torch_defaults():
        for i, name in _rounds(names, begun, snapshot, seconds):
            start, rows = time.perf_counter(), snapshot.rows
            answer, error = _attempt(measure, name)
            if error := ranks.settled(f"{name} at step {snapshot.step}", error):
                if raises(error):
                    raise error
                failed[i] = 1
                found.errors.setdefault(f"{type(error).__name__}: {error}", []).append(name)
            else:
                found.values.update(answer.values)
                found.kept.update(answer.kept)
            if prepared.written:
                state.restore()  # the next probe sees the model as it was
            seconds[i] += time.perf_counter() - start
            found.rows[name] = found.rows.get(name, 0) + snapshot.rows - rows
    return found


def _rounds(
    names: Sequence[str], begun: Mapping[str, Begun], snapshot: Snapshot, seconds: np.ndarray
) -> Iterator[tuple[int, str]]:
    """Yield the place and name of each probe, and again of those that have begun, after one wait for the device."""
    yield from enumerate(names)
    if begun:
        start = time.perf_counter()
        with interruptible():
            snapshot.reads.wait()
        seconds[0] += time.perf_counter() - start
        yield from [(i, name) for i, name in enumerate(names) if name in begun]


class _Answer(NamedTuple):
    """What one probe has measured: columns of the series, and values beside them."""

    values: Mapping[str, np.ndarray] = MappingProxyType({})
    kept: Mapping[str, np.ndarray] = MappingProxyType({})


def _attempt(measure: Callable[[str], _Answer], name: str) -> tuple[_Answer, Exception | None]:
    try:
        return measure(name), None
    except Exception as error:
        return _Answer(), error


@contextmanager
def _isolated(prepared: Prepared, step: int) -> Iterator[ModelState]:
    """Isolate all probes once, since this takes longer than a small pass, and check what they wrote to the model."""
    state = None
    try:
        with isolated(prepared.model, prepared.written, prepared.structure) as state:
            yield state
    finally:
        if state is not None:
            prepared.keep(state.structure)
            check_writes(state, prepared.written, step)


def _measure(
    name: str, prepared: Prepared, snapshot: Snapshot, recording: Recording, begun: MutableMapping[str, Begun]
) -> _Answer:
    """Measure one probe, and return its values: none yet if it is among those that have ``begun``."""
    probe, columns, journal = prepared.probes[name], recording.columns, recording.journal
    prefix = "" if name == type(probe).__name__ else f"{name}_"
    with isolated(prepared.model), interruptible():  # training flags that this probe sets do not reach the next one
        snapshot.history = lambda key: journal.records.column(f"{prefix}{key}", snapshot.step)
        snapshot.kept = lambda key: journal.kept(f"{prefix}{key}", snapshot.step)
        snapshot.labels = lambda key, dim: columns.labels(f"{prefix}{key}", dim)
        answer = finish(begun.pop(name), name, probe, snapshot) if name in begun else begin(name, probe, snapshot)
        if isinstance(answer, Begun):
            begun[name] = answer
            return _Answer()
        answer = check_measured(answer, type(probe).__name__)
        measured = {f"{prefix}{key}": value for key, value in answer.items()}
    snapshot.check_shared_rows()
    arrays = {key: value.kept_array(key) if value.keep else value.array(key) for key, value in measured.items()}
    kept = {key: arrays.pop(key) for key, value in measured.items() if value.keep}
    if kept:
        _check_size(name, kept)
    for key, value in measured.items():
        columns.claim(key, name, probe)
        if not value.keep and not columns.has(key, value.dims, value.coords):
            columns.declare(value.variable(key, type(probe).__name__, prefix))
    return _Answer(arrays, kept)


def _check_size(name: str, kept: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError if the kept values of one probe exceed the limit."""
    if (size := sum(array.nbytes for array in kept.values())) > MAX_KEPT_BYTES:
        raise ValueError(
            f"Expected {name} to keep at most {MAX_KEPT_BYTES:,} bytes at an observation, got {size:,}; keep fewer "
            "numbers (a random projection, a subset) or a smaller type (float32)"
        )
