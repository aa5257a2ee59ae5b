"""The schema of a series: what every probe returns, every reader makes and PhaseDetector takes.

A series is an ``xarray.Dataset`` with the dimension ``step`` (completed optimiser updates, int64, increasing) and,
where they apply, ``layer``, ``split``, ``run`` and dimensions that a measure declares. Variables are float64
numbers with the attributes ``units`` and ``long_name``, or int8 flags (1 yes, 0 no, -1 not measured). Layers or
splits that a variable does not have are NaN (flags: -1). The attribute ``provenance`` is one JSON string.
"""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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


class Records:
    """Observations as numpy columns that double in length; a repeated step replaces what it repeats."""

    def __init__(self) -> None:
        self.variables: dict[str, Variable] = {}
        self._columns: dict[str, np.ndarray] = {}
        self._rows: dict[int, int] = {}  # step -> row
        self._used = 0  # rows given away, also to steps that were dropped since

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def steps(self) -> list[int]:
        """The steps observed, increasing."""
        return sorted(self._rows)

    def declare(self, variable: Variable) -> None:
        """Add a variable, once; steps recorded before hold "not measured"."""
        if variable.name in self.variables:
            return
        dtype = np.int8 if variable.flag else np.float64
        self.variables[variable.name] = variable
        self._columns[variable.name] = np.full((max(16, self._used), *variable.shape), variable.empty, dtype)

    def put(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Record one step, in place of what was recorded of it before."""
        self._rows[int(step)] = self._used
        self._used += 1
        self.annotate(step, values)

    def annotate(self, step: int, values: Mapping[str, np.ndarray]) -> None:
        """Set declared variables of a recorded step; the others keep what they have."""
        row = self._rows[int(step)]
        for name, value in values.items():
            if row >= len(self._columns[name]):
                self._grow(name, row)
            self._columns[name][row] = value

    def column(self, name: str) -> np.ndarray:
        """What was recorded of one variable, by step: (observations, ...); empty if there is no such variable."""
        if name not in self._columns:
            return np.empty(0)
        column = self._columns[name]
        rows = [self._rows[step] for step in self.steps]
        return column[[row for row in rows if row < len(column)]]

    def cut(self, step: int) -> None:
        """Drop what was recorded after this step."""
        self._rows = {kept: row for kept, row in self._rows.items() if kept <= step}

    def _grow(self, name: str, row: int) -> None:
        old = self._columns[name]
        new = np.full((max(2 * len(old), row + 1), *old.shape[1:]), self.variables[name].empty, old.dtype)
        new[: len(old)] = old
        self._columns[name] = new

    def dataset(self, order: Mapping[str, Sequence[Any]], provenance: str) -> xr.Dataset:
        """All observations, by step; labels of a dimension are united in the given ``order``."""
        steps = self.steps
        rows = np.array([self._rows[step] for step in steps], dtype=np.int64)
        union = _united(self.variables.values(), order)
        arrays = {}
        for name, variable in self.variables.items():
            if len(self._columns[name]) < self._used:
                self._grow(name, self._used - 1)
            arrays[name] = self._array(variable, self._columns[name][rows], union)
        dataset = xr.Dataset(arrays, {"step": np.array(steps, dtype=np.int64), **union})
        dataset["step"].attrs = {"units": "1", "long_name": "completed optimiser updates"}
        return dataset.assign_attrs(schema=SCHEMA, provenance=provenance)

    def _array(self, variable: Variable, values: np.ndarray, union: Mapping[str, Sequence[Any]]) -> xr.DataArray:
        coords = {dim: list(variable.coords[dim]) for dim in variable.dims}
        array = xr.DataArray(values, dims=("step", *variable.dims), coords=coords)
        array = array.reindex({dim: list(union[dim]) for dim in variable.dims}, fill_value=variable.empty)
        attrs = {"units": variable.units, "long_name": variable.long_name or variable.name, **variable.attrs}
        return array.assign_attrs(attrs)


def _united(variables: Iterable[Variable], order: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
    """The labels of each dimension: those in ``order`` first, in that order, then others as they came."""
    seen: dict[str, dict[Any, None]] = {}
    for variable in variables:
        for dim in variable.dims:
            seen.setdefault(dim, {}).update(dict.fromkeys(variable.coords[dim]))
    known = {dim: {label: i for i, label in enumerate(order.get(dim, ()))} for dim in seen}
    return {dim: sorted(seen[dim], key=lambda x: known[dim].get(x, len(known[dim]))) for dim in seen}


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


def save(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write a series to NetCDF; see :func:`write`. Not over a recording, whose journal would go on to say otherwise."""
    if Path(f"{os.fspath(path)}.journal").exists():
        raise FileExistsError(f"{os.fspath(path)} is a recording with a journal beside it; save to another path")
    return write(dataset, path)


def write(dataset: xr.Dataset, path: str | os.PathLike[str]) -> Path:
    """Write to NetCDF, atomically: the file is the old one or the new one, never half of it.

    NetCDF 3 has no 64-bit integers, so they are stored as float64 (exact up to 2**53); :func:`load` gives ``step``
    back as int64.
    """
    path = Path(path)
    wide = [name for name, array in dataset.variables.items() if array.dtype in (np.int64, np.uint64, np.uint32)]
    stored = dataset.assign({name: dataset[name].astype(np.float64).assign_attrs(dataset[name].attrs) for name in wide})
    partial = path.with_name(path.name + ".tmp")
    try:
        stored.to_netcdf(partial, engine="scipy")
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def load(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read a NetCDF series into memory and close the file."""
    with xr.open_dataset(path, engine="scipy") as file:
        dataset = file.load()
    if "step" not in dataset.coords:
        raise ValueError(
            f"{os.fspath(path)} holds no series: it has no 'step', but {', '.join(map(str, dataset.sizes))}"
        )
    steps = dataset["step"]
    if (steps % 1 != 0).any():
        return dataset
    return dataset.assign_coords(step=steps.astype(np.int64).assign_attrs(steps.attrs))


def provenance(estimators: Sequence[Mapping[str, Any]], **facts: Any) -> str:
    """Where the numbers come from, as one JSON string: versions, parameters, code revision. No host, no path."""
    packages = ("probe-dynamics", "torch", "numpy", "scipy", "scikit-learn", "xarray")
    entry = {
        "schema": SCHEMA,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
        "git": _revision(),
        "estimators": list(estimators),
        **facts,
    }
    return json.dumps(entry, default=repr)


def resumed(old: str, new: str) -> str:
    """The provenance of a recording that goes on: that of its start, and of each resumption."""
    first = json.loads(old)
    return json.dumps({**first, "resumed": [*first.get("resumed", []), json.loads(new)]})


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> dict[str, Any] | None:
    """Commit and dirty flag of the repository that the training runs in; None outside a repository."""
    try:
        git = ["git", "--no-optional-locks"]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=5, check=True)
        status = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"revision": head.stdout.strip(), "dirty": bool(status.stdout.strip())}
