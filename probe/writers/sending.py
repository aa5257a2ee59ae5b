"""Write a series that is recorded to a dashboard."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from probe.series import Variable
from probe.writers.kinds import writers_of
from probe.writers.numbers import described, numbers_of


def send(series: xr.Dataset, write_to: Any, *, steps: Iterable[int] | None = None) -> int:
    """Write a recorded series, as ``attach(write_to=)`` does during a training. Errors of a writer are raised.

    Parameters
    ----------
    series : xarray.Dataset
        Series of one run, such as ``probes.series_`` or the result of :func:`probe.load`.
    write_to
        Writer or list of writers, as for :meth:`probe.ProbeSet.attach`.
    steps : iterable of int, optional
        Steps to write. Default: all.

    Returns
    -------
    int
        Number of steps that were written.

    Raises
    ------
    TypeError
        If ``write_to`` is no writer.
    ValueError
        If the series has several runs, or lacks a step.

    See Also
    --------
    probe.ProbeSet.attach : Writes during the training.

    Examples
    --------
    >>> import xarray as xr
    >>> from probe.writers import send
    >>> series = xr.Dataset({"train_loss": ("step", [2.0, 1.5])}, {"step": [0, 10]})
    >>> send(series, lambda numbers, step: print(step, numbers))
    0 {'probe/train_loss': 2.0}
    10 {'probe/train_loss': 1.5}
    2
    """
    if "run" in series.dims:
        raise ValueError("Expected a series of one run, got several; send series.isel(run=0) to a writer of its own")
    writers = writers_of(write_to)
    known = series["step"].values.tolist()
    wanted = known if steps is None else [int(step) for step in steps]
    if missing := sorted(set(wanted) - set(known)):
        raise ValueError(f"Expected steps of the series, got {missing[:5]}; see series['step']")
    variables = {str(name): _variable(str(name), array) for name, array in series.data_vars.items()}
    for step in wanted:
        row = series.sel(step=step)
        numbers = numbers_of(variables, {name: np.asarray(row[name].values) for name in variables})
        for writer in writers:
            writer.write(dict(numbers), int(step))
    for writer in writers:
        writer.describe(described(variables))
        writer.flush()
    return len(wanted)


def _variable(name: str, array: xr.DataArray) -> Variable:
    dims = tuple(str(dim) for dim in array.dims if dim != "step")
    coords: dict[str, list[Any]] = {
        dim: array[dim].values.tolist() if dim in array.coords else list(range(array.sizes[dim])) for dim in dims
    }
    units, title = str(array.attrs.get("units", "1")), str(array.attrs.get("long_name", name))
    return Variable(name, dims, coords, units, title, flag=array.dtype.kind == "i" and array.dtype.itemsize == 1)
