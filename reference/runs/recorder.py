"""The recorder of one seed: writes evaluations, weights and checkpoints, and the outcome."""

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from probe.recording import Journal, journal_of, provenance_json, write_netcdf
from probe.series import Variable
from reference.runs.options import config_to_dict
from reference.runs.storage import RunFolder, RunState, ignore_incomplete_line, provenance_of
from reference.training.tasks import Task
from reference.training.train_config import TrainConfig
from reference.training.trainer import State

STORE_WEIGHTS = ("all", "log", "none")
_BATCH = "of the next training batch, dropout on, as the paper measures"


@dataclass(frozen=True)
class Outcome:
    """The result of one seed.

    Attributes
    ----------
    seed : int
        The seed.
    status : {"done", "skipped", "failed"}
        Trained to the end now; complete before; or not complete.
    step : int
        The last recorded step. 0 if the folder was not opened, because it is locked or holds another run.
    folder : Path
        Folder of the run.
    message : str
        The reason of a failure.
    """

    seed: int
    status: str
    step: int
    folder: Path
    message: str = ""

    def __str__(self) -> str:
        status = {"skipped": "skipped, finished before"}.get(self.status, self.status)
        return f"seed {self.seed}: {status} (step {self.step:,}){': ' if self.message else ''}{self.message}"


def steps_to_store(config: TrainConfig, store_weights: str) -> list[int]:
    """Return the steps whose weights are stored: all evaluations, the log-spaced ones, or none."""
    if store_weights not in STORE_WEIGHTS:
        raise ValueError(
            f"Expected store_weights among {', '.join(STORE_WEIGHTS)}, got {store_weights!r}; choose one of them."
        )
    if store_weights == "log":
        config = replace(config, every=max(1, config.steps))
    return [] if store_weights == "none" else config.evaluations()


def variables(task: Task) -> list[Variable]:
    """Return the recorded variables: those of `probe.PerformanceProbe`, and the curves of the training batch."""
    found = [Variable("seconds", ("probe",), {"probe": ["evaluation"]}, "s", "time of one observation")]
    for split, (_, y) in {"train": task.train_data, "test": task.test_data}.items():
        counts = y.unique(return_counts=True)[1]
        attrs = {"chance": (counts.max() / counts.sum()).item(), "n": len(y)}
        found.append(Variable(f"{split}_loss", units="nats", long_name=f"{split} loss"))
        found.append(Variable(f"{split}_accuracy", long_name=f"{split} accuracy", attrs=attrs))
    found.append(Variable("train_batch_loss", units="nats", long_name=f"loss {_BATCH}"))
    found.append(Variable("train_batch_accuracy", long_name=f"accuracy {_BATCH}"))
    return found


class Member:
    """The recorder of one seed of a job. Its folder must be locked.

    Parameters
    ----------
    folder : RunFolder
        Folder of the run.
    config : TrainConfig
        Configuration of the run.
    seed : int
        Seed of the run.
    store_weights : {"all", "log", "none"}
        Evaluations whose weights are stored.
    job_provenance : mapping
        Engine, device and threads, for the provenance.

    Attributes
    ----------
    step : int
        The last recorded step.
    saved : int
        The step of the checkpoint.
    state : State, optional
        The last state of training that was read.
    outcome : Outcome, optional
        None while the member is trained.
    notes : list of str
        Differences to the earlier part of the run, which change its bits.
    has_digest : bool
        Whether the checkpoint was compared with its digest.
    """

    def __init__(
        self,
        folder: RunFolder,
        config: TrainConfig,
        seed: int,
        *,
        store_weights: str,
        job_provenance: Mapping[str, Any],
    ) -> None:
        self.folder, self.config, self.seed = folder, config, seed
        run_state = folder.run_state(config, seed)
        self.step, self.state = run_state.step, run_state.state
        self.has_digest = run_state.has_digest
        self.outcome: Outcome | None = None
        self.notes: list[str] = []
        self._steps_to_store, self.saved = set(steps_to_store(config, store_weights)), self.step
        self._error: Exception | None = None
        if run_state.finished:
            self.outcome = self._outcome("skipped")
        elif self.step and self.state is None:  # killed before run.nc was written
            write_netcdf(self._recorded(), folder.series)
            self.outcome = self._outcome("done")
        else:
            self._open(run_state, job_provenance)

    def _open(self, run_state: RunState, job_provenance: Mapping[str, Any]) -> None:
        """Open the journal, to start or to resume the run."""
        identity = {"config": config_to_dict(self.config), "seed": self.seed}
        provenance = provenance_json([], model="Transformer", **identity, **job_provenance)
        restart = run_state.state is None
        if not restart:
            first = provenance_of(self._recorded())
            self._note_changes(first, json.loads(provenance))
            identity = {key: first[key] for key in identity}  # a recorded configuration may lack newer fields
        header = {"configuration": identity, "order": {"probe": ["evaluation"]}, "provenance": provenance}
        self.folder.clean_up(self.step, restart=restart)
        mode, step = ("overwrite", None) if restart else ("resume", self.step)
        with ignore_incomplete_line():
            self.journal = Journal(self.folder.series, header, mode=mode, step=step)
        for variable in variables(self.config.task.make(self.seed)) if restart else []:
            self.journal.declare(variable)

    def _note_changes(self, first: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        """Note changes of engine, device, threads or torch since the last part of the run."""
        before = [first, *first.get("resumed", [])][-1]
        pairs = {key: (before.get(key), now[key]) for key in ("engine", "device", "threads")}
        pairs["torch"] = (before["versions"].get("torch"), now["versions"]["torch"])
        self.notes = [f"{key} was {old}, is {new}" for key, (old, new) in pairs.items() if old != new]

    def _recorded(self) -> Any:
        recorded = self.folder.recorded()
        assert recorded is not None  # run_state has read it
        return recorded

    def _outcome(self, status: str, message: str = "") -> Outcome:
        return Outcome(self.seed, status, self.step, self.folder.path, message)

    # -- during training: `check` runs in the thread of the engine, `write` in the thread that writes ----------------

    def check(self, step: int, curves: Mapping[str, float], *, all_finite: bool = True) -> None:
        """Raise an earlier error of `write`, or FloatingPointError if losses are not finite.

        Parameters
        ----------
        step, curves
            The evaluation.
        all_finite
            Whether all batch losses since the last evaluation were finite.
        """
        if self._error is not None:
            raise self._error
        bad = [f"{name}={value}" for name, value in curves.items() if not math.isfinite(value)]
        if bad or not all_finite:
            raise FloatingPointError(
                f"Expected finite losses, got {', '.join(bad) or 'one that is not finite'} between the steps "
                f"{self.step} and {step}; lower lr, or lengthen warmup."
            )

    def stores_weights_at(self, step: int) -> bool:
        """Return whether the weights of this step are stored."""
        return step in self._steps_to_store

    def write(
        self, step: int, state: State | None, curves: Mapping[str, float], seconds: float, *, checkpoint: bool
    ) -> None:
        """Record an evaluation, with its weights and a checkpoint if there is a state.

        An error is stored, and the next `check` raises it.
        """
        try:
            if state is not None and step in self._steps_to_store:  # before the curves, which mark the step as done
                self.folder.store_weights(step, state.parameters)
            values = {name: np.asarray(value) for name, value in curves.items()}
            self.journal.record(step, {**values, "seconds": np.array([seconds])})
            self.step = step
            if state is None:
                return
            self.state = state
            if checkpoint and step < self.config.steps:  # the last checkpoint marks the run as done: see `finish`
                self._save(state)
        except Exception as error:
            self._error = error

    def _save(self, state: State) -> None:
        """Write the checkpoint, which must not be ahead of the journal."""
        with open(journal_of(self.folder.series), "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 2**16))
            last = json.loads(file.read().splitlines()[-1])
        if last.get("step", -1) < state.step:
            raise OSError(
                f"Expected the curves of step {state.step} in {self.folder}/run.nc.journal, got a journal without "
                "them; free disk space, and give the same command again."
            )
        self.folder.save(self.config, self.seed, state)
        self.saved = state.step

    # -- endings -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Close the journal and save the last state."""
        if self.outcome is not None:
            return
        if len(self.journal.records):
            self.journal.close()
            if self.state is not None and self.state.step != self.saved:
                self._save(self.state)
        else:
            self.journal.discard()

    def finish(self) -> None:
        """Complete the run: write the curves as NetCDF, then the last checkpoint."""
        if self._error is not None:
            raise self._error
        self.stop()
        self.folder.failure.unlink(missing_ok=True)
        self.outcome = self._outcome("done")

    def fail(self, error: BaseException) -> None:
        """End the run with an error. The files stay."""
        with suppress(Exception):  # a full disk must not hide the first error
            self.stop()
        with suppress(OSError):
            self.folder.record_failure(self.step, error)
        self.outcome = self._outcome("failed", f"{type(error).__name__}: {error}")
