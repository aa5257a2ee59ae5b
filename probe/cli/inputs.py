"""Options of the commands as a series, as the names of its roles, and as a fitted detector."""

import argparse
from pathlib import Path
from typing import Any

import xarray as xr

from probe.cli.options import ROLES
from probe.phases.curves import named, steps_name
from probe.phases.detector import PhaseDetector
from probe.readers.reading import read
from probe.report.sources import joined


def read_series(args: argparse.Namespace, path: Path | None = None, *, strict: bool = True) -> xr.Dataset:
    """Return the log at the path of the command, or at another path."""
    roles = {role: getattr(args, role) for role in ROLES if getattr(args, role)}
    columns = {"axis": args.axis, "run": args.run, "split": args.split}
    return read(path or args.path, format=args.format, strict=strict, **columns, **roles)


def paths_of(args: argparse.Namespace) -> list[Path]:
    """Return all paths of a command that takes several."""
    return [args.path, *args.more]


def read_runs(args: argparse.Namespace) -> xr.Dataset:
    """Return the logs at all paths of the command, as runs of one series."""
    return joined(paths_of(args), lambda path: read_series(args, path))


def roles_of(args: argparse.Namespace, series: xr.Dataset) -> dict[str, Any]:
    """Return the variables of the roles that the user gave. A recording keeps its own names."""
    given = {role: getattr(args, role, None) for role in (*ROLES, "information")}
    roles = {role: named(series, name) for role, name in given.items() if name}
    if missing := [name for name in roles.values() if name not in series]:
        names = ", ".join(map(str, series.data_vars))
        raise ValueError(f"Expected a variable of {args.path}, got {missing[0]!r}; there are: {names}")
    return roles


def fitted(args: argparse.Namespace, series: xr.Dataset) -> PhaseDetector:
    """Return the detector of the options, fitted to the series."""
    axis, roles = steps_name(series), roles_of(args, series)
    detector = PhaseDetector(
        split=args.information_split,
        layer=args.information_layer,
        axis=axis,
        chance=args.chance,
        n_test=args.n_test,
        **roles,
    )
    return detector.fit(series if axis == "step" else series.rename(step=axis))


def check_new(path: Path, overwrite: bool, advice: str = "choose another name") -> None:
    """Raise FileExistsError if the file exists and the user has not allowed to replace it."""
    if path.exists() and not overwrite:
        raise FileExistsError(f"Expected a new file, got {path}, which exists already; {advice}, or pass --overwrite")


def print_notes(series: xr.Dataset) -> None:
    """Print what was guessed, ignored and damaged."""
    for note in series.attrs.get("reading", "").splitlines():
        print(f"Note: {note}")
