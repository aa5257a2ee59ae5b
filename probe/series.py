"""The schema of a series: the type that every probe and every reader returns, and that PhaseDetector takes.

A series is an ``xarray.Dataset`` with the dimension ``step`` (completed optimiser updates, int64, increasing). It can
have the dimensions ``layer``, ``split`` and ``run`` and those that a measure declares. Variables are float64 numbers
with the attributes ``units`` and ``long_name``, or int8 flags (1 yes, 0 no, -1 not measured). Layers or splits that a
variable does not have are NaN (flags: -1). The attribute ``provenance`` is one JSON string.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
import xarray as xr

from probe.run_facts import keep_run_facts

__all__ = ["COMPARES", "SCHEMA", "Variable", "concat", "validate"]

_DIMENSIONS = ("step", "layer", "split", "run", "probe")
SCHEMA = 1
MAX_STEP = 2**53  # NetCDF 3 holds steps as float64
COMPARES = "compares"  # attribute of a variable: the name of the variable of which it is another estimate

# Names in NetCDF 3. Its types are no names. Beyond ASCII, scipy writes files that the NetCDF library cannot open.
_NAME = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9_.@+\- !\"#$%&\\()*,:;<=>?\[\]^`{|}~]*(?<! )")
_TYPES = {
    "byte", "char", "short", "ushort", "int", "uint", "int64", "uint64", "float", "real", "double", "bool", "string",
}  # fmt: skip
# xarray converts these units to times. Its readers leave the abbreviations alone.
_TIMES = {
    "days": "d", "hours": "h", "minutes": "min", "seconds": "s",
    "milliseconds": "ms", "microseconds": "us", "nanoseconds": "ns",
}  # fmt: skip
# xarray takes these attributes as instructions: to scale, to mask, to convert.
_INSTRUCTIONS = {
    "_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned", "dtype", "calendar", "coordinates",
    "_Encoding",
}  # fmt: skip


def check_name(name: str) -> None:
    """Raise ValueError if NetCDF 3 does not allow this name of a variable, a dimension or an attribute."""
    if "/" in name:
        raise ValueError(f"Expected a name without a slash, which NetCDF does not allow, got {name!r}; use '_'")
    if name in _TYPES or not _NAME.fullmatch(name):
        raise ValueError(
            f"Expected a name that NetCDF allows, got {name!r}; use ASCII letters, digits and '_', and no name of a "
            "type such as 'double'"
        )


def _is_text(text: str) -> bool:
    """Return whether NetCDF returns this text as it is: no half of a character, no zero byte."""
    return "\0" not in text and text == text.encode(errors="ignore").decode()


def _accessor(dataset: xr.Dataset) -> Any:
    """Return ``dataset.probe``. Its module is imported on first use, because it is far above this one."""
    return import_module("probe.accessor").SeriesAccessor(dataset)


if not hasattr(xr.Dataset, "probe"):  # the module may be imported again
    xr.register_dataset_accessor("probe")(_accessor)


def storable_attrs(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes as NetCDF 3 holds them: text and numbers stay, all others become JSON text.

    Units of time are abbreviated, because xarray converts "seconds" and "days" to times.

    Raises
    ------
    ValueError
        If NetCDF does not allow the name of an attribute, or a reader would take it as an instruction.
    """
    stored = {}
    for name, value in attrs.items():
        check_name(str(name))
        if name in _INSTRUCTIONS or (name == "units" and " since " in str(value)):
            raise ValueError(
                f"Expected attributes that describe the variable, got {name}={value!r}, which xarray reads as an "
                "instruction to convert its numbers; rename it"
            )
        value = _TIMES.get(value, value) if name == "units" and isinstance(value, str) else value
        stored[str(name)] = value if _is_storable(value) else json.dumps(value, default=_as_json)
    return stored


def _as_json(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.generic, np.ndarray)) else repr(value)


def _is_storable(value: Any) -> bool:
    if isinstance(value, str):
        return _is_text(value)
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number, np.ndarray, list, tuple)):
        return False
    array = np.asarray(value)
    small = array.dtype.kind != "i" or bool((np.abs(array.astype(float)) < 2**31).all())
    return array.ndim < 2 and array.size > 0 and array.dtype.kind in "if" and small


@dataclass(frozen=True)
class Variable:
    """Description of one variable of a series: dimensions without ``step``, labels and units.

    Attributes
    ----------
    name : str
        Name without a slash, because NetCDF allows none.
    dims : tuple of str
        Dimensions without ``step``.
    coords : mapping of str to sequence
        Labels of each dimension.
    units : str
        Units such as "bits", "nats" or "s"; "1" for none.
    long_name : str
    flag : bool
        True for int8 flags, False for float64 numbers.
    attrs : mapping
        Further attributes.

    Raises
    ------
    ValueError
        If NetCDF does not allow the name or a dimension, if labels repeat or are neither text nor numbers, or if an
        attribute would make xarray convert the numbers.

    Notes
    -----
    Units of time are abbreviated ("seconds" becomes "s"), because xarray reads the long words as times. Attributes that
    NetCDF cannot hold become JSON text.

    Examples
    --------
    >>> from probe.series import Variable
    >>> variable = Variable("information_x", ("layer",), {"layer": ["0", "2"]}, "bits")
    >>> variable.shape
    (2,)
    """

    name: str
    dims: tuple[str, ...] = ()
    coords: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    units: str = "1"
    long_name: str = ""
    flag: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name in _DIMENSIONS or self.name in self.dims:
            raise ValueError(
                f"Expected another name for a variable than that of a dimension, got {self.name!r}; choose another"
            )
        for name in (self.name, *self.dims):
            check_name(name)
        for dim in self.dims:
            _check_labels(dim, self.coords[dim])
        if " since " in self.units:
            raise ValueError(
                f"Expected units of numbers, got {self.units!r}, which xarray reads as dates; shorten them"
            )
        object.__setattr__(self, "units", _TIMES.get(self.units, self.units))
        object.__setattr__(self, "attrs", storable_attrs(self.attrs))

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Shape of the numbers of one step."""
        return tuple(len(self.coords[dim]) for dim in self.dims)

    @property
    def empty(self) -> float | int:
        """The value that means "not measured": NaN, or -1 for a flag."""
        return -1 if self.flag else np.nan

    def to_json(self) -> dict[str, Any]:
        """Return the fields as a mapping, as a journal holds them."""
        return asdict(self)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Variable":
        """Return the variable of a mapping from :meth:`to_json`."""
        return cls(**{**entry, "dims": tuple(entry["dims"])})


def _check_labels(dim: str, labels: Sequence[Any]) -> None:
    texts = [label for label in labels if isinstance(label, str)]
    numbers = [label for label in labels if isinstance(label, (int, float, np.number)) and not isinstance(label, bool)]
    if not len(labels):
        raise ValueError(f"Expected at least one label of {dim!r}, got none, which NetCDF cannot hold; leave it out")
    if len(labels) not in (len(texts), len(numbers)) or len({*labels}) < len(labels) or not all(map(_is_text, texts)):
        raise ValueError(
            f"Expected different labels of {dim!r} that are all text or all numbers, got {list(labels)[:8]!r}; rename "
            "them"
        )


def validate(dataset: xr.Dataset) -> xr.Dataset:
    """Return the series unchanged if it follows the schema.

    Parameters
    ----------
    dataset
        The series.

    Returns
    -------
    xarray.Dataset
        The same object.

    Raises
    ------
    ValueError
        If there is no dimension ``step``, its values are not finite, increasing and unique, or a variable does not hold
        numbers.

    See Also
    --------
    concat : Join several runs.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.series import validate
    >>> series = xr.Dataset({"train_loss": ("step", [2.0, 1.0])}, {"step": [0, 10]})
    >>> validate(series) is series
    True
    """
    if "step" not in dataset.dims or "step" not in dataset.coords:
        raise ValueError(
            f"Expected a dimension and a coordinate 'step', got dimensions {list(dataset.dims)}; rename yours, as in "
            "dataset.rename(epoch='step')"
        )
    steps = np.asarray(dataset["step"].values, dtype=float)
    if not np.isfinite(steps).all() or (np.diff(steps) <= 0).any():
        raise ValueError(
            "Expected finite, increasing and unique steps, got others; use "
            "dataset.sortby('step').drop_duplicates('step')"
        )
    for name, array in dataset.data_vars.items():
        if array.dtype.kind not in "fiub":
            raise ValueError(f"Expected numbers in variable {name!r}, got {array.dtype}; drop it from the series")
    return dataset


def concat(series: Sequence[xr.Dataset], runs: Sequence[Any] | None = None) -> xr.Dataset:
    """Join several runs into one series with the dimension ``run``.

    Parameters
    ----------
    series
        One series per run.
    runs
        Labels of the runs. None: 0, 1, 2, ...

    Returns
    -------
    xarray.Dataset
        The series with the steps and labels of all runs. Values that a run does not have are NaN, and flags are -1.
        Scalar coordinates, such as the seed of each run, become coordinates over ``run``. The
        attribute ``provenance`` is a JSON list of the provenance of each run. If the ``chance`` or ``n`` of a variable
        differ between runs, its attribute ``chance_by_run`` or ``n_by_run`` holds them as JSON by label.

    Raises
    ------
    ValueError
        If there is no series, the numbers of series and labels differ, or a series does not follow the schema.

    See Also
    --------
    validate : Check one series.
    probe.read : Read a folder of logs as one series.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe import concat
    >>> one = xr.Dataset({"train_loss": ("step", [2.0, 1.0])}, {"step": [0, 10]})
    >>> two = xr.Dataset({"train_loss": ("step", [3.0, 2.5])}, {"step": [0, 20]})
    >>> concat([one, two], runs=["seed-0", "seed-1"])["train_loss"].values.tolist()
    [[2.0, 1.0, nan], [3.0, nan, 2.5]]
    """
    if not series:
        raise ValueError("Expected at least one series, got none; check the selection of runs")
    labels = list(range(len(series))) if runs is None else list(runs)
    if len(labels) != len(series):
        raise ValueError(
            f"Expected one label for each of {len(series)} series, got {len(labels)} labels; give one label for each"
        )
    fill = {str(name): np.int8(-1) for one in series for name, array in one.data_vars.items() if array.dtype == np.int8}
    kwargs: dict[str, Any] = {"dim": "run", "join": "outer", "coords": "minimal", "compat": "override"}
    curves = {name for one in series for name in one.data_vars}
    joined = xr.concat(
        [_without_settings(validate(one), curves) for one in series],
        data_vars="all",
        fill_value={**_nan_fill(series), **fill},
        **kwargs,
    )
    text = {str(dim) for dim, labels in joined.indexes.items() if labels.dtype.kind not in "fiub"}
    order = {dim: merged_labels([one[dim].values.tolist() for one in series if dim in one.dims]) for dim in text}
    joined = joined.sel(order)  # an outer join sorts text, "z.10" before "z.2"
    provenances = [one.attrs.get("provenance", "") for one in series]
    joined = joined.assign_coords(_run_coordinates(series, {*map(str, joined.data_vars), *map(str, joined.dims)}))
    keep_run_facts(joined, series, labels)
    return joined.assign_coords(run=labels).assign_attrs(schema=SCHEMA, provenance=json.dumps(provenances))


def _without_settings(one: xr.Dataset, curves: set[Any]) -> xr.Dataset:
    """Return a run in which a scalar coordinate that is a curve of other runs is a constant curve."""
    clashes = [name for name, array in one.coords.items() if not array.ndim and name in curves]
    constant = {name: one[name] for name in clashes if one[name].dtype.kind in "fiu"}
    one = one.drop_vars(clashes)
    return one.assign({k: ("step", np.full(one.sizes["step"], float(v)), v.attrs) for k, v in constant.items()})


def _run_coordinates(series: Sequence[xr.Dataset], taken: set[str]) -> dict[str, xr.DataArray]:
    """Return the scalar coordinates of the runs over ``run``. A run without one has NaN, or "" for text."""
    scalars = [{str(name): array for name, array in one.coords.items() if not array.ndim} for one in series]
    found = {}
    for name in dict.fromkeys(name for own in scalars for name in own if name not in taken):
        arrays = [own.get(name) for own in scalars]
        values = [None if array is None else array.item() for array in arrays]
        if any(isinstance(value, str) for value in values):
            column = np.array(["" if value is None else str(value) for value in values])
        else:
            column = np.array([np.nan if value is None else value for value in values])
        attrs = next(array.attrs for array in arrays if array is not None)
        found[name] = xr.DataArray(column, dims="run", attrs=attrs)
    return found


def merged_labels(lists: Iterable[Sequence[Any]]) -> list[Any]:
    """Return all labels. Each list keeps its own order as far as the lists agree."""
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
