"""Curves that a Trainer of Hugging Face has logged, joined with what was measured at its checkpoints."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from probe.checkpoints.finding import STATE
from probe.readers.formats.huggingface import READER
from probe.readers.log import Log, to_series


def logged_curves(checkpoints: Sequence[Path], notes: list[str]) -> xr.Dataset | None:
    """Return the curves in ``trainer_state.json`` of the last checkpoint or beside it; None without any."""
    candidates = [path / STATE for path in reversed(checkpoints)], [path.parent / STATE for path in checkpoints]
    files = [file for part in candidates if (file := _first_readable(dict.fromkeys(part), notes)) is not None]
    if not files:
        return None
    log = READER.read(files, None)[""]
    try:
        assert isinstance(log, Log)
        return to_series(log, {}, source=STATE, format=READER.name, strict=False)
    except ValueError:  # a training that has logged nothing
        return None


def _first_readable(files: Iterable[Path], notes: list[str]) -> Path | None:
    for file in files:
        if file.is_file():
            try:
                READER.read([file], None)
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
    notes.append(f"curves of {STATE} up to step {last:g}: {', '.join(names.values())}")
    reading = str(curves.attrs.get("reading", ""))
    notes += [f"curves: {line}" for line in reading.splitlines()]
    return joined
