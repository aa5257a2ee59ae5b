"""A job: some seeds of a configuration that one worker trains on one device."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from reference.training.train_config import TrainConfig
from reference.training.trainer import Engine, Trainer


@dataclass(frozen=True, kw_only=True)
class Job:
    """The task of a worker; picklable.

    Attributes
    ----------
    name, config, seeds
        Name of the configuration, the configuration, and the seeds to train.
    folder : Path
        Folder of the configuration.
    device : {"cpu", "cuda"}
        Kind of device.
    number : int
        Number of the job. Jobs take the GPUs of a machine in turn.
    ensemble : bool
        Train all seeds as one `Ensemble`; otherwise one seed by a `Trainer`.
    compiled : bool, optional
        Compile the model. None: only an ensemble on a GPU.
    threads : int
        Threads of torch.
    store_weights : {"all", "log", "none"}
        Evaluations whose weights are stored.
    checkpoint_seconds : float
        Least time between two checkpoints, in s.
    bar : bool
        Show a progress bar.
    """

    name: str
    config: TrainConfig
    seeds: tuple[int, ...]
    folder: Path
    device: str
    number: int
    ensemble: bool
    compiled: bool | None
    threads: int
    store_weights: str
    checkpoint_seconds: float
    bar: bool

    def torch_device(self) -> torch.device:
        """Return the device of this job on the machine of the worker."""
        if self.device == "cpu":
            return torch.device("cpu")
        if not (n := torch.cuda.device_count()):
            raise ValueError(
                "Expected a GPU on the machine of this worker, got none; use other workers, or --device cpu."
            )
        return torch.device(f"cuda:{self.number % n}")

    def provenance(self) -> dict[str, object]:
        """Return engine, device and threads, for the provenance of the recording."""
        default = self.ensemble and self.device == "cuda"
        names = {"name": "ensemble", "seeds": list(self.seeds)} if self.ensemble else {"name": "solo"}
        engine = {**names, "compiled": default if self.compiled is None else self.compiled}
        return {"engine": engine, "device": self.device, "threads": self.threads}


def make_engine(job: Job, seeds: Sequence[int], device: str) -> Engine:
    """Return the trainer or the ensemble for these seeds."""
    if not job.ensemble:
        return Trainer(job.config, seeds[0], device=device, compiled=bool(job.compiled))
    from reference.training.ensemble import Ensemble  # takes seconds to import

    return Ensemble(job.config, seeds, device=device, compiled=job.compiled)


@contextmanager
def torch_threads(n: int) -> Iterator[None]:
    """Set the number of threads of torch, and restore it afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
