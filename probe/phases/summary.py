"""What a PhaseDetector found, in words: a sentence, the table of markers, what was assumed."""

import numpy as np
import xarray as xr

from probe.phases.markers import table

_WORDS = {
    "absent": "not seen",
    "left_censored": "before the record begins",
    "right_censored": "not within the record",
    "undefined": "unknown",
    "undecided": "the data cannot tell",
}
_MOST_ROWS = 100


def describe(
    markers: xr.Dataset, aligned: xr.Dataset, across: xr.Dataset | None, notes: list[str], axis: str = "step"
) -> str:
    """Text of several lines.

    Parameters
    ----------
    markers, aligned, across : xarray.Dataset
        As ``PhaseDetector.markers_``, ``alignment_`` and ``across_``.
    notes : list of str
        What was assumed.
    axis : str
        What the axis of the curves is called.
    """
    n_runs = markers.sizes["run"]
    sentences = {kind.name: kind.sentence for kind in table.MARKERS}
    if n_runs == 1:
        head = "One run, descriptive"
        said = [
            sentences[str(name)] + _when(markers.sel(marker=name).isel(run=0), axis)
            for name in markers["marker"].values
        ]
    else:
        head = f"{n_runs} runs, median (90 % interval)"
        said = [
            sentences[str(name)] + _over_runs(markers, across, str(name), axis) for name in markers["marker"].values
        ]
    lines = [f"{head}: {'; '.join(said)}.", "", *_table(markers, axis), *_distances(aligned)]
    if across is not None:
        lines += [_tested(across, name) for name in (kind.name for kind in table.MARKERS if kind.peak)]
    return "\n".join([*lines, *(f"Note: {note}" for note in notes)])


def _number(value: float) -> str:
    return f"{value:,.0f}" if np.isfinite(value) else "-"


def _label(run: object) -> str:
    """A run's name; recordings hold numbers as floats."""
    return f"{run:g}" if isinstance(run, float) else str(run)


def _when(marker: xr.Dataset, axis: str) -> str:
    status = str(marker["status"].item())
    if status != "found":
        return f": {_WORDS[status]} ({marker['reason'].item()})"
    step, lower, upper = (_number(marker[name].item()) for name in ("step", "lower", "upper"))
    return f" at {axis} {step} ({lower} to {upper})"


def _over_runs(markers: xr.Dataset, across: xr.Dataset | None, name: str, axis: str) -> str:
    """One marker over all runs."""
    names, counts = np.unique(markers["status"].sel(marker=name).values, return_counts=True)
    tally = ", ".join(f"{count} {status.replace('_', '-')}" for status, count in zip(names, counts, strict=True))
    if across is None or across["status"].sel(marker=name) != "found":
        return f": {tally}"
    step, lower, upper = (float(across[k].sel(marker=name)) for k in ("median", "lower", "upper"))
    interval = f"{_number(lower)} to {_number(upper)}; " if np.isfinite(upper) else ""
    return f" at {axis} {_number(step)} ({interval}{tally})"


def _table(markers: xr.Dataset, axis: str) -> list[str]:
    rows: list[tuple[str, ...]] = [("run", "marker", axis, "interval", "status", "p", "rule")]
    for run in range(min(markers.sizes["run"], _MOST_ROWS // markers.sizes["marker"])):
        one = markers.isel(run=run)
        rows += [_row(one.isel(marker=k)) for k in range(one.sizes["marker"])]
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in rows]
    left_out = markers.sizes["run"] - (len(rows) - 1) // markers.sizes["marker"]
    return [*lines, f"... and {left_out} more runs: see markers_"] if left_out else lines


def _row(marker: xr.Dataset) -> tuple[str, ...]:
    p, found = float(marker["p_value"]), marker["status"] == "found"
    interval = f"{_number(float(marker['lower']))} to {_number(float(marker['upper']))}" if found else "-"
    return (
        _label(marker["run"].item()),
        str(marker["marker"].item()),
        _number(float(marker["step"])),
        interval,
        str(marker["status"].item()),
        "-" if np.isnan(p) else f"{p:.3f}",
        str(marker["rule"].item() if found else marker["reason"].item() or marker["rule"].item()),
    )


def _distances(aligned: xr.Dataset) -> list[str]:
    """Which pairs of markers are aligned; one line for each pair that has a verdict."""
    lines = []
    for pair in aligned["pair"].values:
        one = aligned.sel(pair=pair)
        names, counts = np.unique(one["verdict"].values, return_counts=True)
        tally = dict(zip(names.tolist(), counts.tolist(), strict=True))
        if set(tally) == {"undecided"} and not np.isfinite(one["distance"]).any():
            continue
        if aligned.sizes["run"] == 1:
            distance, low, high = (float(one[k].isel(run=0)) for k in ("distance", "lower", "upper"))
            number = f"{distance:+.2f} dex " if np.isfinite(distance) else ""
            lines.append(f"{pair}: {number}({low:+.2f} to {high:+.2f}), {names[0]}")
        else:
            median = float(one["distance"].median("run"))
            number = f"median {median:+.2f} dex, " if np.isfinite(median) else ""
            lines.append(f"{pair}: {number}" + ", ".join(f"{name} in {count}" for name, count in tally.items()))
    if not lines:
        return []
    delta = float(aligned.attrs["delta"])
    return [
        "",
        f"Distances in time, log10 of the second over the first; aligned means within {delta:g} dex:",
        *lines,
        "",
    ]


def _tested(across: xr.Dataset, name: str) -> str:
    one = across.sel(marker=name)
    p = float(one["p_value"])
    number = f" (p {p:.4f}, {int(one['n_runs'])} runs)" if np.isfinite(p) else ""
    reason = str(one["test_reason"].item())
    return f"Across runs, {name}: {one['test_status'].item()}{number}" + (f"; {reason}" if reason else "")
