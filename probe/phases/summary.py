"""Describe the results of a PhaseDetector: a sentence for each marker, tables, tests and notes."""

import numpy as np
import xarray as xr

from probe.phases.markers import table
from probe.phases.markers.marker import Status

# How the sentence of a marker continues, or is embedded, if the marker was not found.
_NOT_FOUND = {
    Status.ABSENT: "{sentence} nowhere in the record",
    Status.LEFT_CENSORED: "{sentence} before the record begins",
    Status.RIGHT_CENSORED: "{sentence} after the record ends, or never",
    Status.UNDEFINED: "the curves do not show whether {sentence}",
    Status.UNDECIDED: "the data do not decide whether {sentence}",
}
_MAX_ROWS = 100


def describe(
    markers: xr.Dataset, aligned: xr.Dataset, across: xr.Dataset | None, notes: list[str], axis: str = "step"
) -> str:
    """Return the summary, a text of several lines.

    Parameters
    ----------
    markers, aligned, across : xarray.Dataset
        As ``PhaseDetector.markers_``, ``alignment_`` and ``across_``.
    notes : list of str
        Assumptions and changes of the values.
    axis : str
        Name of the axis of the curves.
    """
    lines = [*_sentences(markers, across, axis), "", *_table(markers, axis), *_distances(aligned)]
    if across is not None:
        lines += [_tested(across.sel(marker=kind.name)) for kind in table.MARKERS if kind.peak]
    return "\n".join([*lines, *(f"Note: {note}" for note in notes)])


def _sentences(markers: xr.Dataset, across: xr.Dataset | None, axis: str) -> list[str]:
    """Return a heading, and one line for each marker."""
    n_runs = markers.sizes["run"]
    if n_runs == 1:
        one = markers.isel(run=0)
        lines = [_of_run(kind.sentence, one.sel(marker=kind.name), axis) for kind in table.MARKERS]
        return ["One run. Another seed may give other markers.", *(f"- {line}" for line in lines)]
    lines = [_of_runs(kind.sentence, markers, across, kind.name, axis) for kind in table.MARKERS]
    heading = f"{n_runs} runs. Each {axis} is a median over runs, with a 90 % interval from 5 runs on."
    return [heading, *(f"- {line}" for line in lines)]


def _number(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "-"


def _run_name(run: object) -> str:
    """Return the name of a run; recordings store numbers as floats."""
    return f"{run:g}" if isinstance(run, float) else str(run)


def _of_run(sentence: str, marker: xr.Dataset, axis: str) -> str:
    """Describe the marker of one run."""
    status = Status(marker["status"].item())
    if status != Status.FOUND:
        return f"{_NOT_FOUND[status].format(sentence=sentence)} ({marker['reason'].item()})"
    step, lower, upper = (_number(marker[name].item()) for name in ("step", "lower", "upper"))
    return f"{sentence} at {axis} {step} ({lower} to {upper})"


def _of_runs(sentence: str, markers: xr.Dataset, across: xr.Dataset | None, name: str, axis: str) -> str:
    """Describe one marker over all runs."""
    names, counts = np.unique(markers["status"].sel(marker=name).values, return_counts=True)
    tally = ", ".join(f"{count} {status.replace('_', '-')}" for status, count in zip(names, counts, strict=True))
    if across is None or across["status"].sel(marker=name) != Status.FOUND:
        return f"the runs give no median {axis} at which {sentence} ({tally})"
    step, lower, upper = (float(across[k].sel(marker=name)) for k in ("median", "lower", "upper"))
    interval = f"{_number(lower)} to {_number(upper)}; " if np.isfinite(upper) else ""
    return f"{sentence} at {axis} {_number(step)} ({interval}{tally})"


def _table(markers: xr.Dataset, axis: str) -> list[str]:
    """Return the table of markers, with at most `_MAX_ROWS` rows."""
    rows: list[tuple[str, ...]] = [("run", "marker", axis, "interval", "status", "p", "rule or reason")]
    n_runs, n_markers = markers.sizes["run"], markers.sizes["marker"]
    n_shown = min(n_runs, _MAX_ROWS // n_markers)
    for run in range(n_shown):
        rows += [_row(markers.isel(run=run, marker=i)) for i in range(n_markers)]
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in rows]
    return [*lines, f"... and {n_runs - n_shown} more runs: see markers_"] if n_shown < n_runs else lines


def _row(marker: xr.Dataset) -> tuple[str, ...]:
    p, found = float(marker["p_value"]), marker["status"] == Status.FOUND
    interval = f"{_number(float(marker['lower']))} to {_number(float(marker['upper']))}" if found else "-"
    return (
        _run_name(marker["run"].item()),
        str(marker["marker"].item()),
        _number(float(marker["step"])),
        interval,
        str(marker["status"].item()),
        "-" if np.isnan(p) else f"{p:.3f}",
        str(marker["rule"].item() if found else marker["reason"].item() or marker["rule"].item()),
    )


def _distances(aligned: xr.Dataset) -> list[str]:
    """Return one line for each pair of markers that has a distance or a verdict."""
    lines = [line for pair in aligned["pair"].values if (line := _distance(aligned.sel(pair=pair)))]
    if not lines:
        return []
    delta = float(aligned.attrs["delta"])
    heading = (
        "Distances in dex: log10 of the second marker over the first. Two markers are aligned if the 90 % interval of "
        f"their distance lies within {delta:g} dex of 0."
    )
    return ["", heading, *lines, ""]


def _distance(pair: xr.Dataset) -> str:
    """Describe the distance of one pair over (run); an empty string if nothing is known."""
    names, counts = np.unique(pair["verdict"].values, return_counts=True)
    if names.tolist() == ["undecided"] and not np.isfinite(pair["distance"]).any():
        return ""
    name = pair["pair"].item()
    if pair.sizes["run"] == 1:
        distance, low, high = (float(pair[k].isel(run=0)) for k in ("distance", "lower", "upper"))
        number = f"{distance:+.2f} dex " if np.isfinite(distance) else ""
        return f"{name}: {number}({low:+.2f} to {high:+.2f}), {names[0]}"
    median = float(pair["distance"].median("run"))
    number = f"median {median:+.2f} dex, " if np.isfinite(median) else ""
    return f"{name}: {number}" + ", ".join(f"{name} in {n}" for name, n in zip(names, counts, strict=True))


def _tested(marker: xr.Dataset) -> str:
    """Describe the test over runs of one marker."""
    p, status, reason = float(marker["p_value"]), marker["test_status"].item(), str(marker["test_reason"].item())
    number = f" (p {p:.4f}, {int(marker['n_runs'])} runs)" if np.isfinite(p) else ""
    return f"Across runs, {marker['marker'].item()}: {status}{number}" + (f"; {reason}" if reason else "")
