"""Provenance of a series: versions, parameters, code revision."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from probe.series import SCHEMA


def provenance_json(estimators: Sequence[Mapping[str, Any]], **facts: Any) -> str:
    """Return the provenance of a series as one JSON string.

    It holds versions of packages, parameters, the code revision and the time. It holds no host name and no path.

    Parameters
    ----------
    estimators
        Name and parameters of each probe.
    **facts
        Further entries, such as ``device="cpu"``. Values that JSON cannot hold are stored as their ``repr``.

    Returns
    -------
    str
        A JSON object with ``schema``, ``created`` (UTC), ``python``, ``versions``, ``git``, ``estimators`` and the
        facts. ``git`` is null outside a repository.

    See Also
    --------
    Journal : Stores the provenance in the header of a recording.

    Examples
    --------
    >>> import json
    >>> from probe.recording import provenance_json
    >>> entry = json.loads(provenance_json([{"estimator": "PerformanceProbe"}], device="cpu"))
    >>> entry["device"], entry["estimators"]
    ('cpu', [{'estimator': 'PerformanceProbe'}])
    """
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


def resumed_provenance(old: str, new: str) -> str:
    """Return the provenance of a resumed recording: that of its start, and that of each resumption."""
    first = json.loads(old)
    return json.dumps({**first, "resumed": [*first.get("resumed", []), json.loads(new)]})


@cache  # the packages of a process stay the same, and each look reads a file
def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision() -> dict[str, Any] | None:
    """Return commit and dirty flag of the repository in the working folder; None outside a repository."""
    try:
        command = ["git", "--no-optional-locks", "status", "--porcelain=v2", "--branch", "-uno"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    lines = found.stdout.splitlines()
    commit = next((line.split()[-1] for line in lines if line.startswith("# branch.oid")), "(initial)")
    if commit == "(initial)":  # a repository without a commit
        return None
    return {"revision": commit, "dirty": any(not line.startswith("#") for line in lines)}
