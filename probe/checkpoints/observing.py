"""Observe checkpoints one after the other into a recording that can be continued, in one process or several."""

import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
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

Report = Callable[[Checkpoint, Records], None]  # called when the observation of a checkpoint is on the disk
_PARTS = 4  # parts for each process: each part is recorded when it is complete


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
                report(checkpoint, self.observer._attached("observe").journal.records)
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
    processes = joblib.effective_n_jobs(n_jobs)
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
                f"Expected n_jobs=1 for probes that compare an observation with the one before, got {n_jobs}; the "
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
    with TemporaryDirectory() as folder:
        start = Path(folder, "start.nc")
        shutil.copy(journal_of(recording), journal_of(start))
        header = read_journal(journal_of(start)).header
        journal = Journal(recording, header, mode="resume")
        one = Observation(clone(observation.observer), observation.data, observation.models, observation.options)
        try:
            observe = joblib.delayed(partial(_observe_part, one, os.getcwd()))
            tasks = [observe(part, start, i) for i, part in enumerate(parts)]
            for done in joblib.Parallel(n_jobs=n_jobs, return_as="generator")(tasks):
                _merge(journal, done.path, [checkpoint.step for checkpoint in parts[done.number]])
                observation.left_out += done.left_out
                for text in dict.fromkeys(done.warnings):
                    warn_user(text)
                for checkpoint in parts[done.number]:
                    if checkpoint.step in done.observed:
                        report(checkpoint, journal.records)
        finally:
            journal.close()


@dataclass(frozen=True)
class _Part:
    """What another process has recorded."""

    number: int
    path: Path
    left_out: list[str]
    warnings: list[str]
    observed: list[int]


def _observe_part(
    observation: Observation, cwd: str, checkpoints: Sequence[Checkpoint], start: Path, number: int
) -> _Part:
    """Observe some checkpoints into a copy of the recording that has the first one.

    A process that joblib uses again may have another current folder than the caller.
    """
    own = start.with_name(f"part-{number}.nc")
    shutil.copy(journal_of(start), journal_of(own))
    observed: list[int] = []
    observation = Observation(clone(observation.observer), observation.data, observation.models, observation.options)
    with chdir(cwd), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ProbeWarning)
        observation.record(checkpoints, own, "resume", lambda checkpoint, _: observed.append(checkpoint.step))
    texts = [str(one.message) for one in caught if issubclass(one.category, ProbeWarning)]
    return _Part(number, own, observation.left_out, texts, observed)


def _merge(journal: Journal, part: Path, steps: Sequence[int]) -> None:
    """Add the observations of some steps in a part to the recording."""
    records = read_journal(journal_of(part)).records
    for variable in records.variables.values():
        journal.declare(variable)
    for step, values, _ in records.observations():
        if step in steps:
            journal.record(step, values)
