"""Recordings of probe: NetCDF files and their journals."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.recording.reading import load


def matches(candidate: Candidate) -> bool:
    """Return whether the file is a recording or a journal, by its name."""
    return candidate.path.suffix == ".nc" or candidate.path.name.endswith(".nc.journal")


def run_path(path: Path) -> Path:
    """Return the NetCDF file of a recording, also if only its journal exists."""
    return path.with_suffix("") if path.suffix == ".journal" else path


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, xr.Dataset]:
    """Load one recording, see :func:`probe.load`."""
    options.check_no_columns("a recording")
    series = load(run_path(files[0]))
    if (np.diff(series["step"]) <= 0).any():
        raise ValueError(f"Expected increasing steps in {files[0].name}, got others; restore the file from a copy")
    return {"": series}


READER = Reader("probe", "*.nc", matches, read, run_path)
