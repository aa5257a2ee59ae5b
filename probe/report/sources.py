"""Several logs and recordings as the runs of one series."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import xarray as xr

from probe.errors import warn_user
from probe.series import concat

Path_ = str | os.PathLike[str]


def joined(paths: Sequence[Path_], read_one: Callable[[Path], xr.Dataset]) -> xr.Dataset:
    """Return all runs of some files and folders. A path that cannot be read is left out if another one can.

    Raises
    ------
    ValueError, OSError
        The first error if no path can be read.
    """
    if not paths:
        raise ValueError("Expected at least one path, got none; pass a log or a recording")
    if len(paths) == 1:
        return read_one(Path(paths[0]))
    read, notes, errors = dict[str, xr.Dataset](), list[str](), list[Exception]()
    for label, path in zip(_labels([Path(path) for path in paths]), paths, strict=True):
        try:
            read[label] = read_one(Path(path))
        except (ValueError, OSError) as error:
            errors.append(error)
            notes.append(f"{label} could not be read and was left out: {error}")
            continue
        notes += [f"{label}: {note}" for note in read[label].attrs.get("reading", "").splitlines()]
    if not read:
        raise errors[0]
    for note in notes if errors else ():
        if "was left out: " in note:
            warn_user(f"Expected a log or a recording, got one that cannot be read; {note}")
    runs = [one for label, series in read.items() for one in _runs(label, series)]
    axes = Counter(str(one["step"].attrs.get("axis", "step")) for _, one in runs)
    if len(axes) > 1:
        notes.append(f"the steps of the runs cannot be compared: {', '.join(axes)}")
    whole = concat([one for _, one in runs], [label for label, _ in runs])
    return whole.assign_attrs(reading="\n".join(dict.fromkeys(notes))) if notes else whole


def names_of(paths: Sequence[Path_]) -> str:
    """Return the names of some files, without their folders."""
    names = [Path(path).name or str(path) for path in paths]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _runs(label: str, series: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    if "run" not in series.dims:
        yield label, series
        return
    for i, run in enumerate(series["run"].values.tolist()):
        yield f"{label}/{f'{run:g}' if isinstance(run, float) else run}", series.isel(run=i, drop=True)


def _labels(paths: Sequence[Path]) -> list[str]:
    """Return the name of each path, with as many of its folders as make it a name of its own."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len({*labels}) == len(labels):
            return labels
    return [f"{path} {i}" for i, path in enumerate(paths)]
