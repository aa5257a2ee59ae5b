"""Results of a detector as a table and as JSON."""

from typing import Any

import numpy as np
import xarray as xr

from probe.phases.detector import PhaseDetector


def table(detector: PhaseDetector) -> Any:
    """Return the markers as a DataFrame with a row for each run and marker."""
    return _flat(detector.markers_).to_dataframe().reset_index()


def _flat(markers: xr.Dataset) -> xr.Dataset:
    """Return the markers with the tops of a marker as one list, so that all variables are over (run, marker)."""
    tops = np.empty(markers["status"].shape, dtype=object)
    for at in np.ndindex(tops.shape):
        tops[at] = [top for top in markers["tops"].transpose("run", "marker", "top").values[at].tolist() if top == top]
    return markers.drop_vars("tops").assign(tops=(("run", "marker"), tops))


def verdict(detector: PhaseDetector, source: str) -> dict[str, Any]:
    """Return all results, by names that the page on logs lists."""
    across = detector.across_
    return {
        "source": source,
        "axis": detector.curves_["step"].attrs["axis"],
        "verdict": _records(detector.verdict_, ("run",)),
        "markers": _records(_flat(detector.markers_), ("run", "marker")),
        "alignment": _records(detector.alignment_, ("run", "pair")),
        "across": None if across is None else _records(across, ("marker",)),
        "notes": detector.notes_,
        "summary": detector.summary().split("\n\n")[0],
    }


def _records(found: xr.Dataset, dims: tuple[str, ...]) -> list[dict[str, Any]]:
    found = found.drop_vars([name for name, array in found.variables.items() if set(array.dims) - {*dims}])
    rows = found.to_dataframe(dim_order=list(dims)).reset_index().to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]
