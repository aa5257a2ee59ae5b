"""The schema of a series: what every probe returns, every reader makes and PhaseDetector takes.

A series is an ``xarray.Dataset`` with the dimension ``step`` (completed optimiser updates, int64, increasing) and,
where they apply, ``layer``, ``split``, ``run`` and dimensions that a measure declares. Variables are float64
numbers with the attributes ``units`` and ``long_name``, or int8 flags (1 yes, 0 no, -1 not measured). Layers or
splits that a variable does not have are NaN (flags: -1). The attribute ``provenance`` is one JSON string.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import xarray as xr

SCHEMA = 1
COMPARES = "compares"  # attribute of a variable: the name of the one that it is another reading of


@dataclass(frozen=True)
class Variable:
    """What stands beside the numbers of one variable: dimensions (without ``step``), labels, units."""

    name: str
    dims: tuple[str, ...] = ()
    coords: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    units: str = "1"
    long_name: str = ""
    flag: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "/" in self.name:
            raise ValueError(f"{self.name!r} cannot name a variable of a series: NetCDF allows no slash; use '_'")

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers of one step."""
        return tuple(len(self.coords[dim]) for dim in self.dims)

    @property
    def empty(self) -> float | int:
        """The value that stands for "not measured"."""
        return -1 if self.flag else np.nan

    def to_json(self) -> dict[str, Any]:
        """As a journal holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Variable":
        """Back from a journal."""
        return cls(**{**entry, "dims": tuple(entry["dims"])})


def validate(dataset: xr.Dataset) -> xr.Dataset:
    """Return the series as it is if it follows the schema; else say what is wrong and what to do."""
    if "step" not in dataset.dims or "step" not in dataset.coords:
        raise ValueError(
            f"a series needs a dimension and a coordinate 'step', got dimensions {list(dataset.dims)}; "
            "rename yours: dataset.rename(epoch='step')"
        )
    steps = np.asarray(dataset["step"].values, dtype=float)
    if not np.isfinite(steps).all() or (np.diff(steps) <= 0).any():
        raise ValueError(
            "the steps of a series must be finite, increasing and unique; "
            "dataset.sortby('step').drop_duplicates('step') makes them so"
        )
    for name, array in dataset.data_vars.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"variable {name!r} holds {array.dtype}, expected numbers; drop it from the series")
    return dataset


def concat(series: Sequence[xr.Dataset], runs: Sequence[Any] | None = None) -> xr.Dataset:
    """Several runs as one series with a dimension ``run`` (steps are united; what a run lacks is NaN, flags -1)."""
    if not series:
        raise ValueError("concat needs at least one series, got none")
    labels = list(range(len(series))) if runs is None else list(runs)
    if len(labels) != len(series):
        raise ValueError(f"concat got {len(series)} series and {len(labels)} run labels; give one label for each")
    fill = {str(name): np.int8(-1) for one in series for name, array in one.data_vars.items() if array.dtype == np.int8}
    kwargs: dict[str, Any] = {"dim": "run", "join": "outer", "coords": "minimal", "compat": "override"}
    joined = xr.concat(
        [validate(one) for one in series], data_vars="all", fill_value={**_nan_fill(series), **fill}, **kwargs
    )
    named = {str(dim) for dim, labels in joined.indexes.items() if labels.dtype.kind not in "fiub"}
    order = {dim: _merged([one[dim].values.tolist() for one in series if dim in one.dims]) for dim in named}
    joined = joined.sel(order)  # an outer join sorts names, "z.10" before "z.2"
    provenances = [one.attrs.get("provenance", "") for one in series]
    return joined.assign_coords(run=labels).assign_attrs(schema=SCHEMA, provenance=json.dumps(provenances))


def _merged(lists: Iterable[Sequence[Any]]) -> list[Any]:
    """All labels, each list in its own order as far as the lists agree."""
    merged: list[Any] = []
    for labels in lists:
        place = 0 if set(labels) & set(merged) else len(merged)
        for label in labels:
            if label not in merged:
                merged.insert(place, label)
            place = merged.index(label) + 1
    return merged


def _nan_fill(series: Sequence[xr.Dataset]) -> dict[str, float]:
    return {str(name): np.nan for one in series for name, array in one.data_vars.items() if array.dtype.kind == "f"}
