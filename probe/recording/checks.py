"""Checks before a recording starts or continues: its path and its configuration."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from probe.errors import warn_user
from probe.recording.lines import journal_of
from probe.recording.paths import check_place, check_regular
from probe.recording.state import state_of


def check_path(path: Path | None, mode: str | None) -> None:
    """Raise ValueError or OSError if a recording cannot be made at this path in this mode."""
    if mode not in (None, "resume", "overwrite"):
        raise ValueError(f"Expected mode None, 'resume' or 'overwrite', got {mode!r}; choose one of them")
    if path is None:
        if mode is not None:
            raise ValueError(f"Expected a path for mode={mode!r}, got None; give path=, or no mode")
        return
    journal = journal_of(path)
    check_place(path)
    if path.is_symlink():
        raise OSError(f"Expected a file as path={os.fspath(path)!r}, got a link that leads to itself; correct the link")
    check_regular(journal)
    if mode is None and (existing := files_of(path)):
        raise FileExistsError(
            f"Expected a path without a file, got {existing[0]}, which exists already; attach(..., mode='resume') "
            "continues it, mode='overwrite' replaces it"
        )
    if mode == "resume" and not journal.exists():
        raise FileNotFoundError(
            f"Expected the journal {journal} for mode='resume', got none; leave mode out to start anew"
        )


def files_of(path: Path) -> list[Path]:
    """Return the files of a recording that exist: NetCDF file, journal and kept values, links that lead nowhere too."""
    return [file for file in (path, journal_of(path), state_of(path)) if os.path.lexists(file)]


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

    Parameters that only one of the two has, since the probe has changed, are ignored with a warning.
    """
    recorded: dict[str, Any] = _as_json(old)
    present: dict[str, Any] = _as_json(new)
    changed = [
        *(f"{name} (recorded {value!r}, no longer a parameter)" for name, value in _pop_unmatched(recorded, present)),
        *(f"{name} (new, {value!r})" for name, value in _pop_unmatched(present, recorded)),
    ]
    found = "; ".join(f"{where}: recorded {a!r}, now {b!r}" for where, a, b in differences(recorded, present))
    if found:
        raise ValueError(
            f"Expected the configuration of {os.fspath(path)}, got another configuration ({found}); attach with the "
            "recorded one, or record to another path"
        )
    if changed:
        warn_user(
            f"Expected the parameters recorded in {os.fspath(path)}, got other ones: {', '.join(changed)}; check "
            "that they mean the same, since recording continues"
        )


def _pop_unmatched(one: dict[str, Any], other: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Remove and yield the parameters in ``one`` that the same probe in ``other`` does not have."""
    for name, probe in _mapping(one.get("probes")).items():
        mine, theirs = _mapping(probe), _mapping(_mapping(other.get("probes")).get(name))
        if mine.get("estimator") == theirs.get("estimator"):
            parameters, matching = _mapping(mine.get("parameters")), _mapping(theirs.get("parameters"))
            for key in [key for key in parameters if key not in matching]:
                if (value := parameters.pop(key)) is not None:
                    yield f"{name}.{key}", value


def _mapping(value: Any) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for any other value."""
    return value if isinstance(value, dict) else {}


def _as_json(value: Any) -> Any:
    """Return a value as JSON reads it, so that tuples equal lists."""
    return json.loads(json.dumps(value, default=repr))
