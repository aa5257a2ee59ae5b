"""Curves that a trainer has logged beside its checkpoints, joined with what was measured at them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from probe.checkpoints.steps import STATE
from probe.readers.formats import huggingface, lightning, tensorboard
from probe.readers.log import Log, to_series
from probe.readers.reader import Candidate, Reader, ReadOptions


def logged_curves(checkpoints: Sequence[Path], notes: list[str]) -> xr.Dataset | None:
    """Return the curves that a trainer has logged; None without any.

    The state of a Trainer of Hugging Face is read in the last checkpoint, or beside it. ``metrics.csv`` of Lightning,
    or else event files, are read beside the checkpoints or in the folder above.
    """
    for reader, files in _logs(checkpoints, notes):
        try:
            log = reader.read(files, ReadOptions())[""]
            assert isinstance(log, Log)
            curves = to_series(log, {}, source=files[0].name, format=reader.name, strict=False)
        except ValueError as error:  # also a training that has logged nothing
            notes.append(f"curves: {files[0].name}: {error}")
        else:
            if reader is not huggingface.READER:
                notes.append(f"curves: steps of {files[0].name} are those of Lightning, counted from 0")
            return curves.assign_attrs(source=files[0].name)
    return None


def _logs(checkpoints: Sequence[Path], notes: list[str]) -> Iterator[tuple[Reader, list[Path]]]:
    """Yield the logs beside checkpoints, each with its reader, in the order in which they are tried."""
    states = [path / STATE for path in reversed(checkpoints)], [path.parent / STATE for path in checkpoints]
    found = [file for part in states if (file := _first_readable(dict.fromkeys(part), notes)) is not None]
    if found:
        yield huggingface.READER, found
    files = [path for path in checkpoints if path.suffix == ".ckpt"]
    folders = list(dict.fromkeys([path.parent for path in files] + [path.parent.parent for path in files]))
    for folder in folders:
        if lightning.matches(Candidate(table := folder / "metrics.csv")):
            yield lightning.READER, [table]
    for folder in folders:
        if events := sorted(folder.glob("events.out.tfevents.*")):
            yield tensorboard.READER, events


def _first_readable(files: Iterable[Path], notes: list[str]) -> Path | None:
    for file in files:
        if file.is_file():
            try:
                huggingface.READER.read([file], ReadOptions())
            except ValueError as error:
                notes.append(f"curves: {file.parent.name}: {error}")
            else:
                return file
    return None


def with_curves(measured: xr.Dataset, curves: xr.Dataset, notes: list[str]) -> xr.Dataset:
    """Return the series with all curves, at the steps of both. Names that are taken get the prefix ``logged_``."""
    names = {str(name): f"logged_{name}" if name in measured else str(name) for name in curves.data_vars}
    curves = curves.rename({old: new for old, new in names.items() if old != new})
    steps = np.union1d(measured["step"].values, curves["step"].values)
    fill = {name: np.int8(-1) if array.dtype == np.int8 else np.nan for name, array in measured.data_vars.items()}
    joined = measured.reindex(step=steps, fill_value=fill)
    joined = joined.assign({name: array.reindex(step=steps) for name, array in curves.data_vars.items()})
    joined["step"].attrs = measured["step"].attrs
    last = curves["step"].values[-1]
    notes.append(f"curves of {curves.attrs['source']} up to step {last:g}: {', '.join(names.values())}")
    reading = str(curves.attrs.get("reading", ""))
    notes += [f"curves: {line}" for line in reading.splitlines()]
    return joined
