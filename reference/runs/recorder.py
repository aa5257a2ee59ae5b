"""One seed on its way: what is written of it at each evaluation, and how it ended."""

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
from reference.runs.storage import RunFolder, RunState, forgiving, origin
from reference.training.tasks import Task
from reference.training.trainer import State, TrainConfig

KEEP = ("all", "log", "none")
_BATCH = "of the next training batch, dropout on, as the paper measures"


@dataclass(frozen=True)
class Outcome:
    """What became of one seed.

    Attributes
    ----------
    seed : int
        Which.
    status : {"done", "skipped", "failed"}
        Trained to the end now; or before; or not.
    step : int
        Where it stands; 0 of a folder that was refused or is locked, whose run may stand elsewhere.
    folder : Path
        Its files.
    message : str
        Why it failed.
    """

    seed: int
    status: str
    step: int
    folder: Path
    message: str = ""

    def __str__(self) -> str:
        said = {"skipped": "skipped, finished before"}.get(self.status, self.status)
        return f"seed {self.seed}: {said} (step {self.step:,}){': ' if self.message else ''}{self.message}"


def kept_steps(config: TrainConfig, keep: str) -> list[int]:
    """Steps whose weights are kept: all evaluations, the log-spaced ones, or none."""
    if keep not in KEEP:
        raise ValueError(f"Expected keep among {', '.join(KEEP)}, came {keep!r}.")
    if keep == "log":
        config = replace(config, every=max(1, config.steps))
    return [] if keep == "none" else config.evaluations()


def variables(task: Task) -> list[Variable]:
    """What is recorded, as `probe.PerformanceProbe` names it, and what is so only here."""
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
    """The recorder of one seed; its folder must be locked.

    Parameters
    ----------
    folder, config, seed
        Where and what.
    keep : {"all", "log", "none"}
        Steps whose weights are kept.
    facts : mapping
        Engine, device and threads, for the provenance.
    """

    def __init__(
        self, folder: RunFolder, config: TrainConfig, seed: int, *, keep: str, facts: Mapping[str, Any]
    ) -> None:
        self.folder, self.config, self.seed = folder, config, seed
        standing = folder.standing(config, seed)
        self.step, self.state = standing.step, standing.state
        self.outcome: Outcome | None = None
        self.notes: list[str] = []
        self._keep, self.saved = set(kept_steps(config, keep)), self.step
        self._error: Exception | None = None
        if standing.finished:
            self.outcome = self._outcome("skipped")
        elif self.step and self.state is None:  # killed before run.nc was written
            recorded = folder.recorded()
            assert recorded is not None  # standing has seen it
            write_netcdf(recorded, folder.series)
            self.outcome = self._outcome("done")
        else:
            self._open(standing, facts)

    def _open(self, standing: RunState, facts: Mapping[str, Any]) -> None:
        asked = {"config": config_to_dict(self.config), "seed": self.seed}
        provenance = provenance_json([], model="Transformer", **asked, **facts)
        header = {"configuration": asked, "order": {"probe": ["evaluation"]}, "provenance": provenance}
        anew = standing.state is None
        if not anew:
            self._compare(json.loads(provenance))
        self.folder.tidy(self.step, anew=anew)
        with forgiving():
            self.journal = Journal(
                self.folder.series, header, mode="overwrite" if anew else "resume", step=None if anew else self.step
            )
        for variable in variables(self.config.task.make(self.seed)) if anew else []:
            self.journal.declare(variable)

    def _compare(self, now: Mapping[str, Any]) -> None:
        """Note what differs from how the run was trained so far, so that its bits will."""
        recorded = self.folder.recorded()
        assert recorded is not None  # standing has seen it
        first = origin(recorded)
        before = [first, *first.get("resumed", [])][-1]
        pairs = {key: (before.get(key), now[key]) for key in ("engine", "device", "threads")}
        pairs["torch"] = (before["versions"].get("torch"), now["versions"]["torch"])
        self.notes = [f"{key} was {old}, is {new}" for key, (old, new) in pairs.items() if old != new]

    def _outcome(self, status: str, message: str = "") -> Outcome:
        return Outcome(self.seed, status, self.step, self.folder.path, message)

    # --- on the way: `check` where the engine runs, `write` perhaps in another thread --------------------------------

    def check(self, step: int, curves: Mapping[str, float], *, all_finite: bool = True) -> None:
        """Raise what went wrong: a file that could not be written, or losses that are not finite.

        `all_finite` tells of the losses since the last evaluation, `curves` of those now.
        """
        if self._error is not None:
            raise self._error
        lost = [f"{name}={value}" for name, value in curves.items() if not math.isfinite(value)]
        if lost or not all_finite:
            raise FloatingPointError(
                f"Expected finite losses, came {', '.join(lost) or 'one that is not'} between the steps {self.step} "
                f"and {step}. Lower lr, or lengthen warmup."
            )

    def needs(self, step: int) -> bool:
        """Whether the state of this step must be written."""
        return step in self._keep

    def write(
        self, step: int, state: State | None, curves: Mapping[str, float], seconds: float, *, checkpoint: bool
    ) -> None:
        """Record an evaluation, and its state if there is one; the next `check` raises what goes wrong."""
        try:
            if state is not None and step in self._keep:  # before the curves, which say that it is done
                self.folder.keep(step, state.parameters)
            values = {name: np.asarray(value) for name, value in curves.items()}
            self.journal.record(step, {**values, "seconds": np.array([seconds])})
            self.step = step
            if state is None:
                return
            self.state = state
            if checkpoint and step < self.config.steps:  # the last one says that all is done: see `finish`
                self._save(state)
        except Exception as error:
            self._error = error

    def _save(self, state: State) -> None:
        """Write the checkpoint, which must not be ahead of the journal."""
        with open(journal_of(self.folder.series), "rb") as file:
            file.seek(max(0, file.seek(0, 2) - 2**16))
            last = json.loads(file.read().splitlines()[-1])
        if last.get("step", -1) < state.step:
            raise OSError(f"the curves of step {state.step} could not be written to {self.folder}/run.nc.journal")
        self.folder.save(self.config, self.seed, state)
        self.saved = state.step

    # --- the end -----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Save where it stands, and close."""
        if self.outcome is not None:
            return
        if len(self.journal.records):
            self.journal.close()
            if self.state is not None and self.state.step != self.saved:
                self._save(self.state)
        else:
            self.journal.discard()

    def finish(self) -> None:
        """All steps are made: the curves as NetCDF, then the checkpoint that says so."""
        if self._error is not None:
            raise self._error
        self.stop()
        self.folder.failure.unlink(missing_ok=True)
        self.outcome = self._outcome("done")

    def fail(self, error: BaseException) -> None:
        """Record why it cannot go on; what there is stays."""
        with suppress(Exception):  # a full disk must not hide the first error
            self.stop()
        with suppress(OSError):
            self.folder.fail(self.step, error)
        self.outcome = self._outcome("failed", f"{type(error).__name__}: {error}")
