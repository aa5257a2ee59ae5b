"""The files of one run: curves, checkpoint, stored weights and lock. Each file is written atomically.

``run.nc`` and ``run.nc.journal`` are a recording of `probe.recording`. ``checkpoint.pt`` is the state from which
training continues. ``weights/<step>.pt`` holds the parameters at a step. ``failed.txt`` holds the reason of a failure.
"""

import io
import json
import os
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor

from probe import load
from probe.errors import ProbeWarning
from probe.recording import (
    Lock,
    add_digest,
    atomic_write,
    differences,
    journal_of,
    read_checked,
    read_netcdf,
)
from reference.runs.options import config_from_dict, config_to_dict, with_defaults
from reference.training.model import Transformer
from reference.training.tasks import Task
from reference.training.train_config import TrainConfig
from reference.training.trainer import State

_ENTRIES: dict[str, Any] = {  # of a checkpoint, with their types
    "config": dict, "seed": int, "step": int, "parameters": dict, "first": dict, "second": dict,
}  # fmt: skip


class RunLockedError(RuntimeError):
    """Another process trains in this folder."""


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes
    ----------
    step : int
        The step of the checkpoint; 0 without one.
    finished : bool
        Whether the run is complete. If ``step`` is the last one, ``state`` is None and ``finished`` is False, then all
        is recorded and only ``run.nc`` must be written.
    state : State, optional
        The state of the checkpoint. None: training starts from the beginning.
    has_digest : bool
        Whether the checkpoint was compared with its digest. Those of older versions have none.
    """

    step: int
    finished: bool = False
    state: State | None = None
    has_digest: bool = True


class RunFolder:
    """The folder of one run. Only :meth:`locked` and the methods that write create anything.

    Parameters
    ----------
    path
        Such as ``runs/division-97/seed-3``.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.series, self.checkpoint = self.path / "run.nc", self.path / "checkpoint.pt"
        self.weights, self.failure, self.lock = self.path / "weights", self.path / "failed.txt", self.path / "lock"

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    # -- reading ---------------------------------------------------------------------------------------------------

    def recorded(self) -> xr.Dataset | None:
        """Return the recorded curves; None if the journal has no complete first line."""
        journal = journal_of(self.series)
        if journal.exists():
            with open(journal, "rb") as file:
                if not file.readline().endswith(b"\n"):
                    return None
        elif not self.series.exists():
            return None
        with ignore_incomplete_line():
            return load(self.series)

    def run_state(self, config: TrainConfig, seed: int) -> RunState:
        """Return how far the run of this configuration is. Nothing is changed.

        Raises
        ------
        ValueError
            If the folder holds a run of another configuration, if the journal lacks steps before the checkpoint, or if
            the checkpoint cannot be read.
        """
        saved, has_digest = self._read_checkpoint()  # before the curves, which another process may be extending
        series = self.recorded()
        expected = {"config": config_to_dict(config), "seed": seed}
        for found in ([provenance_of(series)] if series is not None else []) + ([saved] if saved else []):
            self._compare(found, expected)
        steps = [] if series is None else series["step"].values.tolist()
        if saved is None:  # without a checkpoint the run starts anew, unless all steps are recorded
            complete = bool(steps) and steps[-1] == config.steps
            return RunState(config.steps if complete else 0, finished=complete and self._last_written() == config.steps)
        state = State(*(saved[key] for key in ("step", "parameters", "first", "second")))
        missing = {step for step in config.evaluations() if step <= state.step} - set(steps)
        finished = state.step == config.steps
        if missing or not (finished or journal_of(self.series).exists()):
            raise ValueError(
                f"Expected run.nc.journal in {self} with all evaluations until step {state.step}, the step of the "
                f"checkpoint, got a journal without {len(missing)} of them, or none; restore it, or delete "
                "checkpoint.pt to start anew."
            )
        return RunState(state.step, finished, state, has_digest)

    def _last_written(self) -> int | None:
        """Return the last step in the NetCDF file, which may be behind the journal."""
        return int(read_netcdf(self.series)["step"][-1]) if self.series.exists() else None

    def _compare(self, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
        recorded = {"config": with_defaults(found["config"]), "seed": found["seed"]}
        if difference := describe_differences(recorded, expected):
            raise ValueError(
                f"Expected a run of this configuration in {self}, got another: {difference}; give --out FOLDER to "
                "train this configuration elsewhere, or give the recorded configuration to continue."
            )

    def _read_checkpoint(self) -> tuple[dict[str, Any] | None, bool]:
        """Return the content of the checkpoint, None if there is none, and whether it was compared with a digest."""
        if not self.checkpoint.exists():
            return None, True
        try:
            saved, has_digest = _load(self.checkpoint)
            if saved.get("digest") and not has_digest:
                raise ValueError("the digest is missing")
            return {name: kind(saved[name]) for name, kind in _ENTRIES.items()}, has_digest
        except Exception as error:  # a damaged archive raises errors of many classes
            raise ValueError(
                f"Expected a checkpoint in {self}/checkpoint.pt, got a damaged or incomplete file "
                f"({type(error).__name__}); restore it, or delete it to start this run anew. Nothing was changed."
            ) from error

    # -- writing ---------------------------------------------------------------------------------------------------

    def save(self, config: TrainConfig, seed: int, state: State) -> None:
        """Write the checkpoint."""
        head = {"config": config_to_dict(config), "seed": seed, "torch": str(torch.__version__), "digest": True}
        with atomic_write(self.checkpoint) as file:
            torch.save({**head, **vars(state)}, file)
            add_digest(file)

    def store_weights(self, step: int, parameters: Mapping[str, Tensor]) -> None:
        """Store the weights of a step."""
        self.weights.mkdir(exist_ok=True)
        with atomic_write(_weights_file(self.path, step)) as file:
            torch.save(dict(parameters), file)
            add_digest(file)

    def record_failure(self, step: int, error: BaseException) -> None:
        """Write the reason of a failure."""
        trace = "".join(traceback.format_exception(error))
        with atomic_write(self.failure) as file:
            file.write_text(f"failed after step {step}\n\n{trace}", encoding="utf-8")

    def clean_up(self, step: int, *, restart: bool) -> None:
        """Remove incomplete files of a killed process, and weights of steps that are trained again."""
        for left in (*self.path.glob("*.tmp"), *self.weights.glob("*.tmp"), *self.path.glob("run.nc*.new")):
            left.unlink()
        for later in stored_steps(self.path):
            if restart or later > step:
                _weights_file(self.path, later).unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and exclude other processes from it.

        The operating system releases the lock when the process ends. The file ``lock`` stays; it holds the number of
        the last process.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lock = Lock(self.lock)
        except BlockingIOError as error:
            holder = self.lock.read_text(encoding="utf-8").strip() or "unknown"
            raise RunLockedError(
                f"Expected no other process in {self}, got one that trains there (pid {holder}); wait for it, or stop "
                "it."
            ) from error
        with lock:
            self.lock.write_text(f"{os.getpid()}\n", encoding="utf-8")
            yield


@contextmanager
def ignore_incomplete_line() -> Iterator[None]:
    """Ignore the warning about an incomplete last line of a journal: its step is trained again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*last line.*cut off", ProbeWarning)
        yield


def describe_differences(
    first: Mapping[str, Any], second: Mapping[str, Any], *, places: tuple[str, str] = ("there", "here")
) -> str:
    """Return the fields in which two configurations differ, as text; empty if they are equal."""
    fields = differences(dict(first), dict(second))
    return "; ".join(f"{name} is {old!r} {places[0]} and {new!r} {places[1]}" for name, old, new in fields)


def provenance_of(series: xr.Dataset) -> dict[str, Any]:
    """Return the provenance of a recorded run."""
    provenance: dict[str, Any] = json.loads(series.attrs["provenance"])
    return provenance


# -- stored weights ------------------------------------------------------------------------------------------------


def stored_steps(folder: str | os.PathLike[str]) -> list[int]:
    """Return the steps whose weights are stored in the folder of a run, in increasing order."""
    return sorted(int(file.stem) for file in Path(folder).glob("weights/*.pt") if file.stem.isdigit())


def load_model(folder: str | os.PathLike[str], step: int) -> tuple[Transformer, Task]:
    """Load the model at a stored step, and its task.

    Parameters
    ----------
    folder
        Folder of one run, such as ``runs/division-97/seed-3``.
    step
        One of ``stored_steps(folder)``.

    Returns
    -------
    Transformer, Task
        The model on the CPU in eval mode, and the task with its split.

    Raises
    ------
    FileNotFoundError
        If the folder holds no run, or the weights of this step are not stored.
    """
    series = RunFolder(folder).recorded()
    if series is None:
        raise FileNotFoundError(
            f"Expected a run in {os.fspath(folder)}, got no run.nc; give the folder of one seed, such as "
            "runs/division-97/seed-3."
        )
    if not _weights_file(folder, step).exists():
        near = sorted(stored_steps(folder), key=lambda stored: abs(stored - step))[:3]
        raise FileNotFoundError(
            f"Expected a step whose weights are stored, got {step}; choose one of stored_steps(folder), nearest: "
            f"{', '.join(map(str, near)) or 'none is stored'}."
        )
    facts = provenance_of(series)
    config, seed = config_from_dict(facts["config"]), facts["seed"]
    task = config.task.make(seed)
    model = Transformer(config.model, task.n_tokens, task.n_classes, seed=seed)
    model.load_state_dict(load_weights(folder, step))
    return model.eval(), task


def load_weights(folder: str | os.PathLike[str], step: int) -> dict[str, Tensor]:
    """Load the weights of a stored step to the CPU. Damage is found by the digest of the file, if it has one."""
    file = _weights_file(folder, step)
    try:
        weights: dict[str, Tensor] = _load(file)[0]
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive raises errors of many classes
        raise ValueError(
            f"Expected weights in {file}, got a damaged or incomplete file ({type(error).__name__}); restore it, or "
            "use another step."
        ) from error
    return weights


def _load(file: Path) -> tuple[Any, bool]:
    """Return the content of a file of torch, and whether it was compared with a digest."""
    content, has_digest = read_checked(file)
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True), has_digest


def _weights_file(folder: str | os.PathLike[str], step: int) -> Path:
    return Path(folder) / "weights" / f"{step}.pt"
