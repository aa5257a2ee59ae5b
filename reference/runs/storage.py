"""The files of one run, each old or new and never half: curves, checkpoint, kept weights, lock.

``run.nc`` and ``run.nc.journal`` are those of `probe.recording.journal`; ``checkpoint.pt`` is what training goes on from;
``weights/<step>.pt`` are the parameters at that step; ``failed.txt`` says why a run stopped.
"""

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
from probe.recording import differences, journal_of, read_netcdf
from reference.runs.options import config_from_dict, config_to_dict
from reference.training.model import Transformer
from reference.training.tasks import Task
from reference.training.trainer import State, TrainConfig

try:
    import fcntl
except ImportError:  # no such thing on Windows
    fcntl = None  # type: ignore[assignment]


class RunLockedError(RuntimeError):
    """Another process trains in this folder."""


@dataclass(frozen=True)
class RunState:
    """Where a run stands: `state` to go on from (None: from the start), or `finished`.

    At the last step without a state and not finished: all is recorded, only ``run.nc`` must be written.
    """

    step: int
    finished: bool = False
    state: State | None = None


class RunFolder:
    """Where one run keeps its files. Only :meth:`locked` and what writes make anything."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.series, self.checkpoint = self.path / "run.nc", self.path / "checkpoint.pt"
        self.weights, self.failure, self.lock = self.path / "weights", self.path / "failed.txt", self.path / "lock"

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    # --- reading -----------------------------------------------------------------------------------------------

    def recorded(self) -> xr.Dataset | None:
        """The curves so far; None if not even the first line of the journal was written."""
        journal = journal_of(self.series)
        if journal.exists():
            with open(journal, "rb") as file:
                if not file.readline().endswith(b"\n"):
                    return None
        elif not self.series.exists():
            return None
        with forgiving():
            return load(self.series)

    def standing(self, config: TrainConfig, seed: int) -> RunState:
        """Where the run of this configuration stands.

        Raises
        ------
        ValueError
            If the folder holds a run of another configuration or files that do not go together, or if the
            checkpoint cannot be read. Nothing is changed.
        """
        saved = self._saved()  # before the curves: it must not be ahead of them if somebody trains here now
        series = self.recorded()
        asked = {"config": config_to_dict(config), "seed": seed}
        for there in ([origin(series)] if series is not None else []) + ([saved] if saved else []):
            self._compare(there, asked)
        steps = [] if series is None else series["step"].values.tolist()
        if saved is None:  # killed before the first one: anew, unless all was recorded
            done = bool(steps) and steps[-1] == config.steps
            return RunState(config.steps if done else 0, finished=done and self._written() == config.steps)
        state = State(*(saved[key] for key in ("step", "parameters", "first", "second")))
        missing = {step for step in config.evaluations() if step <= state.step} - set(steps)
        finished = state.step == config.steps
        if missing or not (finished or journal_of(self.series).exists()):
            raise ValueError(
                f"Expected run.nc.journal in {self} with all that was recorded until step {state.step}, where the "
                f"checkpoint stands; came one without {len(missing)} of these steps, or none. Restore it, or delete "
                "checkpoint.pt to start anew."
            )
        return RunState(state.step, finished, state)

    def _written(self) -> int | None:
        """The last step in the NetCDF file, which may lag behind the journal."""
        return int(read_netcdf(self.series)["step"][-1]) if self.series.exists() else None

    def _compare(self, there: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        told = in_words({key: there.get(key) for key in asked}, asked)
        if told:
            raise ValueError(
                f"{self} holds a run of another configuration: {told}. Give --out FOLDER to train this one elsewhere, "
                "or ask for what is there to go on with it."
            )

    def _saved(self) -> dict[str, Any] | None:
        if not self.checkpoint.exists():
            return None
        try:
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            return {key: saved[key] for key in ("config", "seed", "step", "parameters", "first", "second")}
        except Exception as error:
            raise ValueError(
                f"{self}/checkpoint.pt cannot be read ({type(error).__name__}: it is damaged, or cut short). Restore "
                "it, or delete it to start this run anew. Nothing was changed."
            ) from error

    # --- writing -----------------------------------------------------------------------------------------------

    def save(self, config: TrainConfig, seed: int, state: State) -> None:
        """Write the checkpoint."""
        head = {"config": config_to_dict(config), "seed": seed, "torch": str(torch.__version__)}
        _replace(self.checkpoint, {**head, **vars(state)})

    def keep(self, step: int, parameters: Mapping[str, Tensor]) -> None:
        """Keep the weights of a step."""
        self.weights.mkdir(exist_ok=True)
        _replace(self.weights / f"{step}.pt", dict(parameters))

    def fail(self, step: int, error: BaseException) -> None:
        """Note why the run stopped."""
        told = "".join(traceback.format_exception(error))
        partial = self.failure.with_name("failed.txt.tmp")
        partial.write_text(f"failed after step {step}\n\n{told}", encoding="utf-8")
        os.replace(partial, self.failure)

    def tidy(self, step: int, *, anew: bool) -> None:
        """Remove what a killed process left half done, and weights of steps that will be made again."""
        for left in (*self.path.glob("*.tmp"), *self.weights.glob("*.tmp"), *self.path.glob("run.nc*.old")):
            left.unlink()
        for later in kept(self.path):
            if anew or later > step:
                (self.weights / f"{later}.pt").unlink()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and keep other processes out of it.

        The kernel gives the lock back when a process dies, however it dies.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = self._acquire()
        try:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            yield
        finally:
            self.lock.unlink(missing_ok=True)  # while it is held: nobody else's
            os.close(descriptor)

    def _acquire(self) -> int:
        while True:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                self._flock(descriptor)
                if _same(descriptor, self.lock):  # else its holder has just removed it
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)

    def _flock(self, descriptor: int) -> None:
        if fcntl is None:
            warnings.warn(f"{self} cannot be locked here; start no second process on it", RuntimeWarning, stacklevel=5)
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 20).decode().strip()
            raise RunLockedError(
                f"{self} is being trained by another process (pid {holder or 'unknown'}). Wait for it, or stop it."
            ) from None
        except OSError as error:  # some network file systems
            told = f"{self} cannot be locked ({error}); start no second process on it"
            warnings.warn(told, RuntimeWarning, stacklevel=5)


@contextmanager
def forgiving() -> Iterator[None]:
    """A last line cut off by a kill is no surprise here: its step is made again."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the last line of .* was cut off", RuntimeWarning)
        yield


def in_words(there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """In which fields two configurations in plain values differ; empty if in none."""
    found = differences(dict(there), dict(asked))
    return "; ".join(f"{where} is {old!r} there, and {new!r} was asked for" for where, old, new in found)


def origin(series: xr.Dataset) -> dict[str, Any]:
    """The provenance of a recorded run."""
    return json.loads(series.attrs["provenance"])


def kept(folder: str | os.PathLike[str]) -> list[int]:
    """Steps whose weights are in a run's folder, increasing."""
    return sorted(int(file.stem) for file in Path(folder).glob("weights/*.pt") if file.stem.isdigit())


def load_model(folder: str | os.PathLike[str], step: int) -> tuple[Transformer, Task]:
    """The model as it was at a kept step, on the CPU and in eval mode, and what it learnt.

    Parameters
    ----------
    folder
        Of one run, such as ``runs/division-97/seed-3``.
    step
        One of ``kept(folder)``.

    Raises
    ------
    FileNotFoundError
        If there is no run, or these weights were not kept.
    """
    series = RunFolder(folder).recorded()
    if series is None:
        raise FileNotFoundError(f"Expected a run in {os.fspath(folder)}, came no run.nc. Give the folder of one seed.")
    if not _weights_of(folder, step).exists():
        near = sorted(kept(folder), key=lambda there: abs(there - step))[:3]
        raise FileNotFoundError(
            f"Expected a step whose weights are kept, came {step}. "
            f"kept(folder) lists them; nearest: {', '.join(map(str, near)) or 'none was kept'}."
        )
    facts = origin(series)
    config, seed = config_from_dict(facts["config"]), facts["seed"]
    task = config.task.make(seed)
    model = Transformer(config.model, task.n_tokens, task.n_classes, seed=seed)
    model.load_state_dict(load_weights(folder, step))
    return model.eval(), task


def load_weights(folder: str | os.PathLike[str], step: int) -> dict[str, Tensor]:
    """The weights of a kept step, on the CPU."""
    return torch.load(_weights_of(folder, step), map_location="cpu", weights_only=True)


def _weights_of(folder: str | os.PathLike[str], step: int) -> Path:
    return Path(folder) / "weights" / f"{step}.pt"


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Write so that it is on disk, under its name, when this returns."""
    partial = path.with_name(f"{path.name}.tmp")
    with open(partial, "wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    if fcntl is not None:  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
