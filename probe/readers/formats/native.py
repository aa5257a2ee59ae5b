"""What probe itself recorded: NetCDF, and the journal beside it."""

from pathlib import Path

import xarray as xr

from probe.recording import journal
from probe.recording.lines import journal_of as journal_of

NAME = "probe"


def claims(path: Path) -> bool:
    """Whether this is a recording, by its name."""
    return path.suffix == ".nc" or path.name.endswith(".nc.journal")


def run_of(path: Path) -> Path:
    """The NetCDF file, also if only its journal is there."""
    return path.with_suffix("") if path.suffix == ".journal" else path


def load(path: Path) -> xr.Dataset:
    """All that was recorded, see :func:`probe.load`."""
    return journal.load(run_of(path))
