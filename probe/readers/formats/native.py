"""Recordings of probe: NetCDF files and their journals."""

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from probe.readers.reader import Reader
from probe.recording.reading import load


def matches(path: Path) -> bool:
    """Return whether the file is a recording or a journal, by its name."""
    return path.suffix == ".nc" or path.name.endswith(".nc.journal")


def run_path(path: Path) -> Path:
    """Return the NetCDF file of a recording, also if only its journal exists."""
    return path.with_suffix("") if path.suffix == ".journal" else path


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, xr.Dataset]:
    """Load one recording, see :func:`probe.load`."""
    if axis not in (None, "step"):
        raise ValueError(f"Expected axis 'step' for a recording, got {axis!r}; leave axis out")
    return {"": load(run_path(files[0]))}


READER = Reader("probe", "*.nc", matches, read, run_path)
