"""Observe checkpoints one after the other into a recording that can be continued, in one process or several."""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import joblib
from sklearn.base import clone
from torch import nn

from probe.base import Observer
from probe.checkpoints.finding import Checkpoint
from probe.checkpoints.loading import layout_of
from probe.checkpoints.models import Models
from probe.checkpoints.weights import DamagedCheckpointError
from probe.errors import ProbeWarning, warn_user
from probe.recording.journal import Journal
from probe.recording.lines import journal_of
from probe.recording.reading import read_journal
from probe.recording.records import Records
from probe.recording.state import state_of
from probe.workers import in_parallel

Report = Callable[[Checkpoint, Records], None]  # called when the observation of a checkpoint is on the disk
_PARTS = 4  # parts for each process: each part is recorded when it is complete
_ONE_PART = Lock()  # a worker of Dask has several threads, but one current folder and one list of warnings


@dataclass
class Observation:
    """How to observe checkpoints. It can be pickled for another process."""

    observer: Observer
    data: Any
    models: Models
    options: Mapping[str, Any]
    left_out: list[str] = field(default_factory=list)
    keeps_values: bool = False  # whether a probe needs values of the observation before
    _layout: Any = field(default=None, repr=False)  # of the attached model
    _seen: set[str] = field(default_factory=set, repr=False)  # warnings of attaching that were issued

    def record(self, checkpoints: Sequence[Checkpoint], recording: Path, mode: str | None, report: Report) -> None:
        """Observe checkpoints in their order. Damaged ones are left out with a warning."""
        model: nn.Module | None = None
        found: nn.Module | None
        try:
            for checkpoint in checkpoints:
                if self.models.replaces(checkpoint):
                    model = found = None  # one model in memory
                    self._release()
                try:
                    found = self.models.at(checkpoint)
                except DamagedCheckpointError as error:
                    self.left_out.append(str(error))
                    warn_user(f"{error}. It is left out")
                    continue
                if found is not model:
                    model = found
                    mode = self._attach(model, recording, mode)
                self.observer.observe(checkpoint.step)
                self.keeps_values |= self.observer._attached("observe").keeps_values
                report(checkpoint, self.observer._attached("observe").records)
        finally:
            with _unrepeated(self._seen):
                self.observer.detach()
            self._layout = None
            self.models.release()

    def _release(self) -> None:
        """Drop the model. The probes stay attached, and wait for another one."""
        if self._layout is not None:
            self.observer._attached("observe").move_to(nn.Module())
        self.models.release()

    def _attach(self, model: nn.Module, recording: Path, mode: str | None) -> str:
        """Attach the probes, or move them to a model with the same layout, which takes no passes of checks."""
        layout = layout_of(model)
        if layout == self._layout:
            self.observer._attached("observe").move_to(model)
        else:
            with _unrepeated(self._seen):
                mode = mode if self._layout is None else "resume"
                self.observer.attach(model, self.data, path=recording, mode=mode, **self.options)
            self._layout = layout
        return "resume"


@contextmanager
def _unrepeated(seen: set[str]) -> Iterator[None]:
    """Context manager that issues the warnings inside at its end, those in ``seen`` excepted."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for one in caught:
        if (text := str(one.message)) not in seen:
            seen.add(text)
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def observe_all(
    observation: Observation,
    checkpoints: Sequence[Checkpoint],
    recording: Path,
    mode: str | None,
    n_jobs: int | None,
    report: Report,
) -> None:
    """Observe all checkpoints into a recording.

    The first one is observed in this process. It raises what is wrong with probes, model and data, and shows whether
    a probe needs the observation before. If none does, the others are observed by ``n_jobs`` processes.
    """
    processes = 1 if n_jobs == 1 else joblib.effective_n_jobs(n_jobs)  # Dask would replace 1
    first = 0
    if processes > 1:
        while first < len(checkpoints):
            first += 1
            observation.record(checkpoints[first - 1 : first], recording, mode, report)
            if journal_of(recording).exists():
                mode = "resume"
                break
        if observation.keeps_values or state_of(recording).exists():
            warn_user(
                f"Expected n_jobs=1 for probes that compare an observation with the one before, got {processes}; the "
                "checkpoints are measured one after the other"
            )
            processes = 1
    rest = checkpoints[first:]
    if processes > 1 and rest:
        _observe_in_parallel(observation, rest, recording, processes, report)
    elif rest:
        observation.record(rest, recording, mode, report)


def _observe_in_parallel(
    observation: Observation,
    checkpoints: Sequence[Checkpoint],
    recording: Path,
    n_jobs: int,
    report: Report,
) -> None:
    n_parts = min(len(checkpoints), _PARTS * n_jobs)
    bounds = [round(i * len(checkpoints) / n_parts) for i in range(n_parts + 1)]
    parts = [checkpoints[a:b] for a, b in pairwise(bounds)]
    start = journal_of(recording).read_bytes()
    journal = Journal(recording, read_journal(journal_of(recording)).header, mode="resume")
    one = Observation(clone(observation.observer), observation.data, observation.models, observation.options)
    tasks = [(one, os.getcwd(), part, start) for part in parts]
    try:
        for part, done in zip(parts, in_parallel(_observe_part, tasks, n_jobs), strict=True):
            _merge(journal, done.journal, [checkpoint.step for checkpoint in part])
            observation.left_out += done.left_out
            for text in dict.fromkeys(done.warnings):
                warn_user(text)
            for checkpoint in part:
                if checkpoint.step in done.observed:
                    report(checkpoint, journal.records)
    finally:
        journal.close()


@dataclass(frozen=True)
class _Part:
    """What another process has recorded."""

    journal: bytes
    left_out: list[str]
    warnings: list[str]
    observed: list[int]


def _observe_part(observation: Observation, cwd: str, checkpoints: Sequence[Checkpoint], start: bytes) -> _Part:
    """Observe some checkpoints into a copy of the recording that has the first one.

    The copy is on the machine of the worker, and nothing else is written. So a part can be observed again if its worker
    was killed. A process that joblib uses again may have another current folder than the caller.
    """
    observed: list[int] = []
    observation = Observation(clone(observation.observer), observation.data, observation.models, observation.options)
    with _ONE_PART, TemporaryDirectory() as folder, chdir(cwd), warnings.catch_warnings(record=True) as caught:
        own = Path(folder, "part.nc")
        journal_of(own).write_bytes(start)
        warnings.simplefilter("always", ProbeWarning)
        observation.record(checkpoints, own, "resume", lambda checkpoint, _: observed.append(checkpoint.step))
        content = journal_of(own).read_bytes()
    texts = [str(one.message) for one in caught if issubclass(one.category, ProbeWarning)]
    return _Part(content, observation.left_out, texts, observed)


def _merge(journal: Journal, content: bytes, steps: Sequence[int]) -> None:
    """Add the observations of some steps in the journal of a part to the recording."""
    with TemporaryDirectory() as folder:
        part = Path(folder, "part.journal")
        part.write_bytes(content)
        records = read_journal(part).records
    for variable in records.variables.values():
        journal.declare(variable)
    for step, values, _ in records.observations():
        if step in steps:
            journal.record(step, values)
