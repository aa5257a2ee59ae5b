"""Measure a series of checkpoints: one command in place of a training with probes attached."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import xarray as xr
from sklearn.base import clone
from torch import nn

from probe.base import Probe
from probe.checkpoints.curves import logged_curves, with_curves
from probe.checkpoints.earlier import EarlierCall
from probe.checkpoints.finding import Checkpoint, Found, find_checkpoints
from probe.checkpoints.models import Models
from probe.checkpoints.observing import Observation, observe_all
from probe.errors import warn_user
from probe.probeset import ProbeSet
from probe.recording.files import save
from probe.recording.lines import journal_of
from probe.recording.paths import user_path
from probe.recording.reading import load
from probe.recording.records import Records
from probe.writers.outputs import Writers


def over_checkpoints(
    checkpoints: Any,
    probes: ProbeSet | Probe | Sequence[Any],
    data: Any,
    *,
    build: Callable[[], nn.Module] | None = None,
    steps: Sequence[int] | None = None,
    path: str | os.PathLike[str] | None = None,
    mode: str = "resume",
    n_jobs: int | None = None,
    device: Any = None,
    batch_size: int = 512,
    output: Any = None,
    targets_shift: int | None = None,
    step_key: str | None = None,
    state_key: str | None = None,
    report: Callable[[str], None] | None = None,
    write_to: Any = None,
) -> xr.Dataset:
    """Measure saved checkpoints with probes, and return the series that probes attached to the training would record.

    Parameters
    ----------
    checkpoints : folder, path, pattern, list of them, mapping or function
        A folder with checkpoints, such as the output of a Trainer; paths or patterns such as ``"out/checkpoint-*"``;
        ``{step: path}`` or ``{step: function that returns the model}``; or a function ``step -> model`` with ``steps``.
        A checkpoint is a file of PyTorch, Lightning or safetensors, or a folder of Hugging Face, of an adapter of PEFT
        or of ``torch.distributed.checkpoint``.
    probes : ProbeSet, Probe or list of probes
    data
        As for :meth:`probe.ProbeSet.attach`. :func:`probe.from_loader` takes it from a data loader.
    build : callable, optional
        Function without arguments that returns the model, or the base of an adapter. Default: the class that the
        ``config.json`` of a folder of Hugging Face names.
    steps : list of int, optional
        The steps at which a function ``step -> model`` is called.
    path : path, optional
        NetCDF file of the series. ``<path>.checkpoints.journal`` beside it holds the observations, each written when it
        ends. Default: memory only.
    mode : "resume" or "overwrite"
        What to do with observations that ``path`` has: keep them and measure the other checkpoints, or start anew.
    n_jobs : int, optional
        Number of processes, as in joblib. Each has one model. None: the setting of `joblib.parallel_config`, such as
        all workers of a Dask cluster, else 1. Probes that compare an observation with the one before need 1.
    device : torch.device or str, optional
        Where to put the model. Default: where ``build`` puts it.
    batch_size, output, targets_shift
        As for :meth:`probe.ProbeSet.attach`.
    step_key : str, optional
        Entry of a checkpoint or of its ``trainer_state.json`` that holds the step. Default: ``global_step`` of
        ``trainer_state.json``, else the number after "step", "iter", "checkpoint" or "update" in the name, else
        ``global_step`` of a ``.ckpt`` file, else the last number in the name.
    state_key : str, optional
        Entry or prefix of the weights in a checkpoint, such as ``"ema"``. Default: the one that has all names of the
        model; among several, one of the usual names.
    report : callable, optional
        Function that receives one line for each checkpoint, such as ``print``.
    write_to : writer or list of writers, optional
        Dashboards that receive the numbers of each checkpoint that this call measures, as for
        :meth:`probe.ProbeSet.attach`.

    Returns
    -------
    xarray.Dataset
        The series in the order of the steps. Curves that a Trainer logged in ``trainer_state.json`` are variables too,
        at their own steps, where measured variables are NaN. A curve whose name is taken is called
        ``logged_<name>``. The attribute ``reading`` lists what was read, where the steps come from, and what was left
        out.

    Raises
    ------
    FileNotFoundError
        If there is no checkpoint.
    FileExistsError
        If ``path`` is a file of another kind.
    RuntimeError
        If a worker process was killed. The same call continues.
    ImportError
        If the package that reads a checkpoint is missing: safetensors, transformers or peft.
    TypeError
        If an argument has the wrong type, or ``build`` does not return a module.
    ValueError
        If two checkpoints have the same step, a name has no step, a checkpoint belongs to another architecture (the
        first name and shape that differ), no checkpoint can be read, or probes, model and data do not fit.

    Warns
    -----
    probe.errors.ProbeWarning
        If a checkpoint is left out, because it is damaged, cut off or without a shard, or a function raises an error
        for its step.

    See Also
    --------
    probe.ProbeSet.attach : Observe during the training.
    probe.from_loader : Take data from a loader.

    Notes
    -----
    Numbers equal those of probes attached to the training, bit for bit, where the same weights were saved, on the same
    machine with the same number of threads. Only tensors are read. No pickled object is executed. One model is in
    memory at a time.

    Examples
    --------
    >>> import torch
    >>> from probe import WeightsProbe, over_checkpoints
    >>> model = torch.nn.Linear(3, 2)
    >>> for step in (0, 10, 100):
    ...     _ = torch.nn.init.constant_(model.weight, step + 1.0)
    ...     torch.save(model.state_dict(), f"step{step}.pt")
    >>> data = torch.randn(8, 3), torch.tensor([0, 1] * 4)
    >>> series = over_checkpoints("step*.pt", [WeightsProbe()], data, build=lambda: torch.nn.Linear(3, 2))
    >>> series["step"].values.tolist()
    [0, 10, 100]
    >>> print(series.attrs["reading"])
    3 checkpoints, step 0 to 100: steps from the name
    """
    if mode not in ("resume", "overwrite"):
        raise ValueError(f"Expected mode 'resume' or 'overwrite', got {mode!r}; choose one of them")
    observer = _observer(probes)
    writers = Writers(write_to, "attribute 'reading' counts")
    found = find_checkpoints(checkpoints, steps, step_key)
    for reason in found.left_out:
        warn_user(f"{reason}. It is left out")
    options = {"batch_size": batch_size, "output": output, "targets_shift": targets_shift}
    observation = Observation(observer, data, Models(build, state_key, device), options, list(found.left_out))
    with _recording(path, mode) as recording:
        return _continued(observation, found, recording, path, mode, n_jobs, report or (lambda line: None), writers)


def _continued(
    observation: Observation,
    found: Found,
    recording: Path,
    path: Any,
    mode: str,
    n_jobs: int | None,
    report: Callable[[str], None],
    writers: Writers,
) -> xr.Dataset:
    """Observe the checkpoints that the recording does not have, and return the series of all."""
    there = journal_of(recording).exists()
    earlier = EarlierCall(recording, there and mode == "resume")
    missing = earlier.missing(found.checkpoints, found.notes)

    def observed(checkpoint: Checkpoint, records: Records) -> None:
        earlier.add(checkpoint)
        writers.write(records.variables, records.at(checkpoint.step), checkpoint.step)
        report(f"step {checkpoint.step}: {checkpoint.name} ({checkpoint.origin})")

    try:
        observe_all(observation, missing, recording, mode if there else None, n_jobs, observed)
    finally:
        writers.close()
        found.notes.extend(writers.notes())
        series = _finished(recording, found.checkpoints, path, found.notes, observation.left_out)
    if series is None:
        raise ValueError(
            "Expected a checkpoint that can be read, got none; the first of them is left out because of this: "
            f"{observation.left_out[0]}"
        )
    return series


def _finished(
    recording: Path, checkpoints: Sequence[Checkpoint], path: Any, notes: list[str], left_out: Sequence[str]
) -> xr.Dataset | None:
    """Return the series with curves and notes, and write it to the path. None: nothing was measured."""
    if not journal_of(recording).exists():
        return None
    series = load(recording)
    about_curves: list[str] = []
    curves = logged_curves([one.path for one in checkpoints if one.path is not None], about_curves)
    if curves is not None:
        series = with_curves(series, curves, about_curves)
    series.attrs["reading"] = "\n".join([*notes, *(f"left out: {reason}" for reason in left_out), *about_curves])
    if path is not None:
        save(series, path)
    return series


def _observer(probes: Any) -> ProbeSet:
    """Return a copy of the probes as a set. A budget has no meaning without a training."""
    found = probes if isinstance(probes, ProbeSet) else ProbeSet([probes] if isinstance(probes, Probe) else probes)
    if found.budget is not None:
        raise ValueError(
            f"Expected probes without a budget, since there is no training, got budget={found.budget}; choose fewer "
            "checkpoints instead"
        )
    found._members()  # raises for a list with other objects
    return clone(found)


@contextmanager
def _recording(path: Any, mode: str) -> Iterator[Path]:
    """Context manager of the path of the recording: beside the file, or in a temporary folder without a file."""
    if path is None:
        with TemporaryDirectory() as folder:
            yield Path(folder, "series.checkpoints")
        return
    file = user_path(path)
    recording = Path(f"{os.fspath(file)}.checkpoints")
    if journal_of(file).exists() or (file.exists() and mode == "resume" and not journal_of(recording).exists()):
        raise FileExistsError(
            f"Expected a free path, or the file of an earlier call, got {file}, which has other content; pass another "
            "path" + ("" if journal_of(file).exists() else ", or mode='overwrite' (--overwrite)")
        )
    try:
        yield recording
    finally:
        recording.unlink(missing_ok=True)  # the same as the journal
