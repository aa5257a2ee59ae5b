"""Logs that exist already, as series: TensorBoard, Lightning, Hugging Face, W&B, MLflow, CSV, JSON, NetCDF.

:func:`read` takes a file or a folder. Every reader says what it guessed, left out or found damaged, in the attribute
``reading``. No torch, no TensorFlow, no package of any logger.
"""

import os
import warnings
from pathlib import Path

import xarray as xr

from probe.readers.discovery import READERS, Found, find, labels
from probe.readers.formats import native
from probe.readers.log import to_series
from probe.readers.names import ROLES
from probe.series import concat

__all__ = ["READERS", "read"]


def read(
    path: str | os.PathLike[str], *, form: str | None = None, axis: str | None = None, strict: bool = True, **roles: str
) -> xr.Dataset:
    """Read a log, or a folder of them, as a series.

    Parameters
    ----------
    path : path
        A file, or a folder: every run in it becomes one of the dimension ``run``, called by its folder or file.
    form : str, optional
        One of ``READERS``; None recognises it by the names of the files, and says what it passed over.
    axis : str, optional
        The column that the curves run over; None takes the first of the usual names (step, global_step, ..., epoch).
        ``"row"`` counts the rows.
    strict : bool
        Whether it is an error if two names fit one role, or none is recognised; else it is said in ``reading``.
    **roles : str
        Logged names of ``train_accuracy``, ``train_loss``, ``test_accuracy``, ``test_loss``; those not given are
        recognised by the usual spellings (:func:`probe.readers.role_of`).

    Returns
    -------
    xarray.Dataset
        float64 (step), or (run, step): curves under the names of their roles, all others under their own, slashes as
        underscores. ``logged_as`` of a variable is its name in the log; ``reading`` of the Dataset lists what was
        guessed, left out and damaged.

    Raises
    ------
    FileNotFoundError
        There is nothing, or nothing that is known.
    ValueError
        A name is not in the log (near ones are listed), names are unclear, or a file cannot be read.

    Warns
    -----
    UserWarning
        For files that are damaged or cut off; what could be read is there.
    """
    path = Path(path).expanduser()
    if unknown := set(roles) - {*ROLES}:
        raise TypeError(f"expected roles among {', '.join(ROLES)}, got {', '.join(sorted(unknown))}")
    found = find(path, form)
    if found.reader is native:
        if axis not in (None, "step"):
            raise ValueError(f"expected axis 'step' for a recording, got {axis!r}; it has no other")
        series = dict(zip(labels(list(found.runs)), map(native.load, found.runs), strict=True))
    else:
        series = _read(found, path.name, axis, strict, roles)
    said = found.said + _said(series)
    for damage in (note for note in said if "damaged" in note or "cut off" in note):
        warnings.warn(damage, UserWarning, stacklevel=2)
    joined = next(iter(series.values())) if len(series) == 1 else concat(list(series.values()), list(series))
    return joined.assign_attrs(reading="\n".join(said)) if said else joined


def _read(found: Found, source: str, axis: str | None, strict: bool, roles: dict[str, str]) -> dict[str, xr.Dataset]:
    """Series by label of the run: that of its path, and that which a file gives it if it holds several."""
    logs = {
        "/".join(part for part in (label, inner) if part): log
        for label, files in zip(labels(list(found.runs)), found.runs.values(), strict=True)
        for inner, log in found.reader.read(files, axis).items()
    }
    if empty := [name for name, log in logs.items() if not log.points and len(logs) > 1]:
        found.said.append(f"nothing was logged, left out: run {', '.join(empty)}")
    return {
        name: to_series(
            log, roles, source=f"{source} (run {name})" if name else source, form=found.reader.NAME, strict=strict
        )
        for name, log in logs.items()
        if name not in empty
    }


def _said(series: dict[str, xr.Dataset]) -> list[str]:
    """What was said of each run, once if it was said of all."""
    runs_of: dict[str, list[str]] = {}
    for label, one in series.items():
        for note in one.attrs.get("reading", "").splitlines():
            runs_of.setdefault(note, []).append(label)
    return [
        note if len(runs) == len(series) else f"run {', '.join(runs[:3])}{', ...' if len(runs) > 3 else ''}: {note}"
        for note, runs in runs_of.items()
    ]
