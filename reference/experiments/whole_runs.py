"""Recordings that are written at the end of a run, with its configuration and seed, and only read afterwards."""

import json
from pathlib import Path
from typing import Any

import xarray as xr

import probe
from reference.runs.storage import describe_differences, provenance_of


def read_finished(path: Path, identity: dict[str, Any]) -> xr.Dataset:
    """Return the recording at ``path``, which must have this identity (configuration and seed)."""
    series = probe.load(path)
    found = {name: provenance_of(series).get(name) for name in identity}
    if difference := describe_differences(found, identity, places=("in the file", "now")):
        raise ValueError(
            f"Expected the run of this command in {path}, got another one: {difference}; give another folder by --out."
        )
    return series


def write_finished(series: xr.Dataset, path: Path, identity: dict[str, Any]) -> xr.Dataset:
    """Write the series to ``path`` with the identity in its provenance, and return what was written."""
    provenance = {**json.loads(series.attrs["provenance"]), **identity}
    path.parent.mkdir(parents=True, exist_ok=True)
    probe.save(series.assign_attrs(provenance=json.dumps(provenance)), path)
    return probe.load(path)
