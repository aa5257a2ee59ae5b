"""The words and tables of a report as HTML. Every text that comes from data is escaped."""

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import numpy as np
import xarray as xr

from probe.errors import printable
from probe.phases.facts import number
from probe.plots.names import layer_name, marker_labels
from probe.report.curves import groups
from probe.words import STATUS_NAMES

MOST_ROWS = 200  # of a table
_MOST_RUNS = 100  # in the tables of runs and markers
_MOST_OPEN = 8  # runs, above which their tables are closed at first
MOST_TEXT = 20_000  # characters of a note or a provenance
# What an author can do, at the end of a message, a reason or a note.
_ADVICE = re.compile(
    r"[;,] (pass|choose|measure|observe|record|rename|select|sort|attach|name|check|use|drop|convert|lower) .*", re.S
)
_PART = "Distances in dex"  # with which their part of a summary begins


def safe(text: object) -> str:
    """Return a text as HTML, with control characters shown."""
    return escape(printable(str(text)))


def without_advice(text: str) -> str:
    """Return a message without its last part, such as "; pass test_loss= ...", which the reader of a page cannot do."""
    return _ADVICE.sub("", text)


def layer_labels(series: xr.Dataset) -> list[str]:
    """Return the name of each layer, in full: "layer 1" for a number."""
    labels = [str(label) for label in series["layer"].values] if "layer" in series.dims else []
    return [layer_name(label) if label.isdigit() else printable(label) for label in labels]


def verdict(detector: Any, reason: str) -> str:
    """Return the first part of the summary as paragraphs and a list, or why there is none."""
    if detector is None:
        return f"<p>There is no verdict: {safe(without_advice(reason))}</p>"
    lines = detector.summary().split("\n\n")[0].splitlines()
    parts, items = [], list[str]()
    for line in [*lines, ""]:
        if line.startswith("- "):
            items.append(f"<li>{safe(without_advice(line[2:]))}</li>")
            continue
        parts += [f"<ul>{''.join(items)}</ul>"] if items else []
        items = []
        parts += [f"<p>{safe(line)}</p>"] if line else []
    return "".join(parts)


def table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """Return a table whose first column names its rows; ``numbers`` are the columns of numbers."""
    right = {*numbers}
    kinds = [' class="n"' if i in right else "" for i in range(len(columns))]
    head = "".join(f'<th scope="col"{kind}>{safe(name)}</th>' for name, kind in zip(columns, kinds, strict=True))
    body = "".join(
        "<tr>"
        + f'<th scope="row">{safe(row[0])}</th>'
        + "".join(f"<td{kind}>{safe(cell)}</td>" for cell, kind in zip(row[1:], kinds[1:], strict=True))
        + "</tr>"
        for row in rows[:MOST_ROWS]
    )
    more = f" ({len(rows) - MOST_ROWS:,} more rows are not shown)" if len(rows) > MOST_ROWS else ""
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{safe(caption)}"><table><caption>{safe(caption)}'
        f"{more}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def results(detector: Any, run_names: Sequence[str]) -> str:
    """Return the verdict on each run, the table of markers, and the distances."""
    if detector is None:
        return "<p>There are no markers without a verdict.</p>"
    count = min(len(run_names), _MOST_RUNS)
    runs = run_names[:count]
    left_out = f"<p>The tables show {count:,} of {len(run_names):,} runs.</p>" if count < len(run_names) else ""
    distances = [part for part in detector.summary().split("\n\n") if part.startswith(_PART)]
    labels = marker_labels(detector.markers_)
    apart = "".join(_distances(part, labels) for part in distances)
    tables = left_out + _of_runs(detector, runs) + _markers(detector, runs)
    if count > _MOST_OPEN:
        tables = f"<details><summary>Verdicts and markers of {count:,} runs</summary>{tables}</details>"
    return tables + apart


def _distances(part: str, labels: dict[str, str]) -> str:
    for name, label in labels.items():
        part = part.replace(f"{name} - ", f"{label} to ").replace(f"{name}: ", f"{label}: ")
    head, *lines = part.splitlines()
    return f"<p>{safe(head)}</p><ul>{''.join(f'<li>{safe(line)}</li>' for line in lines)}</ul>"


def _of_runs(detector: Any, runs: Sequence[str]) -> str:
    if detector.verdict_.sizes["run"] == 1:
        return ""
    classes, sentences = (detector.verdict_[name].values for name in ("class", "sentence"))
    rows = [(name, classes[i], sentences[i]) for i, name in enumerate(runs)]
    return table("Verdict on each run", ("run", "class", "sentence"), rows)


def _markers(detector: Any, runs: Sequence[str]) -> str:
    found = detector.markers_
    kinds = [i for i, reasons in enumerate(found["status"].values.T) if (reasons != "undefined").any()]
    parts = {name: found[name].values for name in ("step", "lower", "upper", "status", "size_share", "rule", "reason")}
    texts, rows = list(marker_labels(found).values()), []
    for run, label in enumerate(runs):
        for i in kinds:
            step, lower, upper, status, share, rule, reason = (part[run, i] for part in parts.values())
            interval = f"{number(lower)} to {number(upper)}" if status == "found" else "-"
            size = f"{100 * share:.0f} %" if np.isfinite(share) else "-"
            rows.append(
                (label, texts[i], number(step) if np.isfinite(step) else "-", interval,
                 STATUS_NAMES.get(status, status), size, rule if status == "found" else without_advice(reason) or rule)
            )  # fmt: skip
    heads = ("run", "marker", detector.curves_["step"].attrs["axis"], "interval", "status", "size", "rule or reason")
    missing = [text for i, text in enumerate(texts) if i not in kinds]
    note = f"<p>Without a curve in any run: {safe(', '.join(missing))}.</p>" if missing else ""
    return table("Markers", heads, rows, numbers=(2, 3, 5)) + note


def numbers(series: xr.Dataset, names: Sequence[str], layers: Sequence[str]) -> str:
    """Return the table of all curves: first, least, largest and last value; of several runs their medians."""
    rows = []
    for name in names:
        for layer, label, values in groups(series[name]):
            curve = ", ".join(part for part in (name, label, "" if layer is None else layers[layer]) if part)
            ends = [(one[0], one.min(), one.max(), one[-1]) for row in values if len(one := row[~np.isnan(row)])]
            shown = [f"{value:.4g}" for value in np.median(ends, axis=0)]
            rows.append((curve, str(series[name].attrs.get("units", "1")), *shown, str(len(ends))))
    heads = ("curve", "unit", "first", "least", "largest", "last", "runs")
    title = "All curves; medians over runs" if series.sizes.get("run", 1) > 1 else "All curves"
    return table(title, heads, rows, numbers=range(2, 7)) if rows else "<p>There is no curve with a finite value.</p>"


def flagged(series: xr.Dataset, detector: Any, left_out: Sequence[str]) -> str:
    """Return what was guessed, ignored, damaged or flagged, and what is not on the page."""
    notes = series.attrs.get("reading", "").splitlines() if detector is None else detector.notes_
    notes = [without_advice(note) for note in notes]
    items = [*left_out, *_flags(series), *notes]
    shown = [
        *items[:MOST_ROWS],
        *([f"{len(items) - MOST_ROWS:,} more are not shown"] if len(items) > MOST_ROWS else []),
    ]
    return f"<ul>{''.join(f'<li>{safe(item[:MOST_TEXT])}</li>' for item in shown)}</ul>" if items else "<p>Nothing.</p>"


def _flags(series: xr.Dataset) -> list[str]:
    """Return the flags of the measures that are set."""
    found = []
    for name, array in series.data_vars.items():
        if array.dtype == np.int8 and (count := int((array.values == 1).sum())):
            text = array.attrs.get("long_name", name)
            found.append(f"{name}: {count:,} of {int((array.values >= 0).sum()):,} values are flagged ({text})")
    return found
