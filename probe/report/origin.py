"""From what a report was made, and with which versions, as HTML."""

import json
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import xarray as xr

from probe.phases.facts import number
from probe.report.text import MOST_TEXT, safe

_MOST_SOURCES = 5  # provenances
_MOST_DISTINCT = 3  # values of one fact in a sentence
_NONE = "The source has no provenance."


def origin(series: xr.Dataset, source: str) -> str:
    """Return who wrote the page, when and from what; and what is known of the recording."""
    n_runs, steps = series.sizes.get("run", 1), series["step"].values
    axis = series["step"].attrs.get("axis", "step")
    runs = "1 run" if n_runs == 1 else f"{n_runs:,} runs"
    ends = " to ".join(dict.fromkeys(number(step) for step in steps[[0, -1]])) if len(steps) else ""
    ends = f", {axis} {ends}" if ends else ""
    count = f"{len(steps):,} observation{'s' if len(steps) != 1 else ''}"
    written = (
        f"Written by probe {_version()} at {time.strftime('%Y-%m-%d %H:%M')} from {source}: {runs}, {count}{ends}."
    )
    return f'<p class="soft origin">{safe(written)}{safe(_recorded(_several(series)))}</p>'


def _recorded(sources: list[Any]) -> str:
    """Return a sentence about model, versions and time of the recording; empty if they are not known."""
    known = [one for one in sources if isinstance(one, dict)]
    versions = [one["versions"] for one in known if isinstance(one.get("versions"), dict)]
    facts: dict[str, list[Any]] = {
        "at": [str(one.get("created") or "")[:16].replace("T", " ") for one in known],
        "of the model": [one.get("model") for one in known],
        "with probe": [one.get("probe-dynamics") for one in versions],
        "with torch": [one.get("torch") for one in versions],
        "on": [one.get("device") for one in known],
    }
    parts = [f"{word} {_distinct(found)}" for word, found in facts.items() if any(found)]
    return f" Recorded {', '.join(parts)}." if parts else ""


def _distinct(found: list[Any]) -> str:
    texts = [str(one)[:60] for one in dict.fromkeys(str(one) for one in found if one)]
    more = f" and {len(texts) - _MOST_DISTINCT} more" if len(texts) > _MOST_DISTINCT else ""
    return ", ".join(texts[:_MOST_DISTINCT]) + more


def provenance(series: xr.Dataset) -> str:
    """Return the provenance of each recording as indented JSON, or as the text that it is."""
    texts = [one if isinstance(one, str) else json.dumps(one, indent=1) for one in _several(series)]
    distinct = list(dict.fromkeys(texts))
    more = f"<p>{len(distinct) - _MOST_SOURCES:,} more are not shown.</p>" if len(distinct) > _MOST_SOURCES else ""
    return "".join(f"<pre>{safe(one[:MOST_TEXT])}</pre>" for one in distinct[:_MOST_SOURCES]) + more


def _several(series: xr.Dataset) -> list[Any]:
    """Return the provenance of each run, parsed if it is JSON."""
    found = _parsed(series.attrs.get("provenance"))
    return [_parsed(one) if isinstance(one, str) else one for one in found] if isinstance(found, list) else [found]


def _parsed(text: object) -> Any:
    try:
        return json.loads(str(text)) if text else _NONE
    except (ValueError, RecursionError):
        return str(text)


def _version() -> str:
    try:
        return version("probe-dynamics")
    except PackageNotFoundError:
        return "without a version"
