"""Where the numbers of a series come from: versions, parameters, code revision."""

import json
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from probe.series import SCHEMA


def provenance_json(estimators: Sequence[Mapping[str, Any]], **facts: Any) -> str:
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


def resumed_provenance(old: str, new: str) -> str:
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
