"""Tables of scores as text, aligned or in Markdown."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

_HEAD = (
    "measure", "runs", "trend", "to common step", "in controls", "with test loss", "of changes", "AUC value",
    "AUC change", "lead", "moved before", "controls moved", "error (runs)", "by fit_end", "constant",
)  # fmt: skip


def scorecard_table(scores: xr.Dataset, notes: Sequence[str], *, markdown: bool) -> str:
    """Return one line per measure.

    Parameters
    ----------
    scores : xarray.Dataset
        ``ProgressScorecard.scores_``.
    notes : sequence of str
        Lines below the table.
    markdown : bool
        Return Markdown instead of aligned columns.
    """
    rows = [_HEAD, *(_row(scores.sel(measure=name)) for name in scores["measure"].values)]
    return layout(rows, markdown=markdown) + "".join(f"\nNote: {note}" for note in notes)


def warning_table(scores: xr.Dataset, notes: Sequence[str], *, markdown: bool) -> str:
    """Return one line per rule of ``EarlyWarning.scores_``; see :func:`scorecard_table`."""
    head = ("rule", "hits", "late", "misses", "false alarms", "lead (dex)", "lead (steps)", "AUC")
    rows = [head, *(_warning_row(scores.sel(rule=name)) for name in scores["rule"].values)]
    return layout(rows, markdown=markdown) + "".join(f"\nNote: {note}" for note in notes)


def layout(rows: Sequence[Sequence[str]], *, markdown: bool) -> str:
    """Return rows of cells as lines; the first row is the head."""
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:]])
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in rows)


def _row(one: xr.Dataset) -> tuple[str, ...]:
    runs, moved = int(one["n_runs"]), int(one["n_moved"])
    name = str(one["measure"].item())
    return (
        f"{name} (baseline)" if one["kind"] == "baseline" else name,
        f"{runs}+{int(one['n_controls'])}",
        _estimate(one, "monotonicity"),
        signed(one["monotonicity_common"]) if one["n_controls"] else "-",
        signed(one["monotonicity_controls"]),
        signed(one["loss_levels"]),
        _estimate(one, "loss_changes"),
        _auc(one, "auc_value"),
        _auc(one, "auc_change"),
        _lead(one),
        f"{int(one['n_before'])} of {runs}{_side(one)}" if runs else "-",
        f"{int(one['n_controls_moved'])} of {int(one['n_controls'])}" if one["n_controls"] else "-",
        f"{unsigned(one['error'])} ({moved})" if np.isfinite(one["error"]) else "-",
        unsigned(one["error_fit_end"]),
        unsigned(one["error_constant"]),
    )


def _warning_row(one: xr.Dataset) -> tuple[str, ...]:
    n, controls = int(one["n_runs"]), int(one["n_controls"])
    spread = f" (sd {unsigned(one['lead_sd'])})" if np.isfinite(one["lead_sd"]) else ""
    return (
        str(one["rule"].item()),
        f"{int(one['hits'])} of {n}",
        str(int(one["late"])),
        str(int(one["misses"])),
        f"{int(one['false_alarms'])} of {controls}" if controls else "-",
        unsigned(one["lead"]) + spread,
        f"{float(one['lead_steps']):,.0f}" if np.isfinite(one["lead_steps"]) else "-",
        _auc(one, "auc"),
    )


def signed(value: xr.DataArray | float) -> str:
    """Return two decimals with a sign, or a dash for NaN."""
    return f"{float(value):+.2f}" if np.isfinite(value) else "-"


def unsigned(value: xr.DataArray | float) -> str:
    """Return two decimals, or a dash for NaN."""
    return f"{float(value):.2f}" if np.isfinite(value) else "-"


def _estimate(one: xr.Dataset, name: str) -> str:
    low, high = one[f"{name}_lower"], one[f"{name}_upper"]
    interval = f" ({signed(low)} to {signed(high)})" if np.isfinite(low) and np.isfinite(high) else ""
    return signed(one[name]) + interval


def _auc(one: xr.Dataset, name: str) -> str:
    return f"{unsigned(one[name])} (p {float(one[f'{name}_p']):.3f})" if np.isfinite(one[name]) else "-"


def _side(one: xr.Dataset) -> str:
    """Return the direction of the departures if it is the same in all runs, and no text otherwise."""
    return {1.0: ", up", -1.0: ", down"}.get(float(one["direction"]), "")


def _lead(one: xr.Dataset) -> str:
    """Return the lead as a factor of time, with its interval."""
    low, high = (10 ** float(one[f"lead_{side}"]) for side in ("lower", "upper"))
    interval = f" ({low:.2f} to {high:.2f})" if not np.isnan([low, high]).any() else ""
    middle = f"x{float(one['lead_factor']):.2f}" if np.isfinite(one["lead"]) else "open"
    return middle + interval if middle != "open" or interval else "-"
