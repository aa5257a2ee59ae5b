"""Checks before a recording starts or continues: its path and its configuration."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from probe.errors import warn_user
from probe.recording.lines import journal_of


def check_path(path: Path | None, mode: str | None) -> None:
    """Raise ValueError or OSError if a recording cannot be made at this path in this mode."""
    if mode not in (None, "resume", "overwrite"):
        raise ValueError(f"Expected mode None, 'resume' or 'overwrite', got {mode!r}; choose one of them")
    if path is None:
        if mode is not None:
            raise ValueError(f"Expected a path for mode={mode!r}, got None; give path=, or no mode")
        return
    journal = journal_of(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Expected an existing folder {path.parent} for path={os.fspath(path)!r}, got none; make it"
        )
    if path.is_dir():
        raise IsADirectoryError(
            f"Expected a file as path={os.fspath(path)!r}, got a folder; name a file in it, such as 'run.nc'"
        )
    if mode is None and (path.exists() or journal.exists()):
        raise FileExistsError(
            f"Expected a path without a file, got {path}, which exists already; attach(..., mode='resume') "
            "continues it, mode='overwrite' replaces it"
        )
    if mode == "resume" and not journal.exists():
        raise FileNotFoundError(
            f"Expected the journal {journal} for mode='resume', got none; leave mode out to start anew"
        )


def differences(old: Any, new: Any, where: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the fields in which two configurations differ.

    Parameters
    ----------
    old, new
        Nested mappings of plain values. A missing field counts as None.
    where
        Prefix of the names of the fields.

    Yields
    ------
    tuple of str, object, object
        The name of a field with dots between the levels, its old value and its new value.

    See Also
    --------
    Journal : Compares the configurations when a recording is resumed.

    Examples
    --------
    >>> from probe.recording import differences
    >>> list(differences({"seed": 0, "model": {"width": 8}}, {"seed": 0, "model": {"width": 16}}))
    [('model.width', 8, 16)]
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            yield from differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
    elif old != new:
        yield where, old, new


def check_configuration(path: str | os.PathLike[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Raise ValueError unless a recording of the configuration ``old`` can be resumed with ``new``.

    Recorded parameters that a probe no longer has are ignored with a warning.
    """
    recorded: dict[str, Any] = _as_json(old)
    present: dict[str, Any] = _as_json(new)
    removed = _pop_removed_parameters(recorded, present)
    found = "; ".join(f"{where}: recorded {a!r}, now {b!r}" for where, a, b in differences(recorded, present))
    if found:
        raise ValueError(
            f"Expected the configuration of {os.fspath(path)}, got another configuration ({found}); attach with the "
            "recorded one, or record to another path"
        )
    if removed:
        warn_user(
            f"Expected the parameters recorded in {os.fspath(path)}, got probes that no longer have "
            f"{', '.join(removed)}; these parameters are ignored and recording continues"
        )


def _pop_removed_parameters(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Remove parameters from ``old`` that the same probe in ``new`` does not have; return their names and values."""
    removed = []
    for name, probe in _mapping(new.get("probes")).items():
        before, now = _mapping(_mapping(old.get("probes")).get(name)), _mapping(probe)
        recorded, present = _mapping(before.get("parameters")), _mapping(now.get("parameters"))
        if before.get("estimator") == now.get("estimator"):
            gone = [key for key in recorded if key not in present and recorded[key] is not None]
            removed += [f"{name}.{key} (recorded {recorded.pop(key)!r})" for key in gone]
    return removed


def _mapping(value: Any) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def _as_json(value: Any) -> Any:
    """Return a value as JSON reads it, so that tuples equal lists."""
    return json.loads(json.dumps(value, default=repr))
