"""Tables of our recordings for the page: what was recorded, and all transitions."""

from collections.abc import Callable

import numpy as np

from reference.claims.chaos_cone.coincidence import NAMES
from reference.claims.chaos_cone.evidence import Evidence, Recording
from reference.claims.recorded import last


def recordings(evidence: Evidence) -> str:
    """Return the size and the accuracies of each configuration."""
    heads = ["configuration", "seeds", "updates", "learning rate drops at", "t0", "train accuracy", "test accuracy"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for one in evidence.all():
        drop = one.drops[0]
        cells = [f"`{one.name}`", f"{one.n_runs}", f"{one.last_step:,.0f}"]
        cells.append(f"{drop.step:,.0f}" if drop.status == "found" else "-")
        cells.append(", ".join(f"{t0:,.0f}" for t0 in one.series["t0"].values))
        for split in ("train", "test"):
            cells.append(_range(last(one.series[f"{split}_accuracy"].transpose("run", "step")).values, "{:.3f}"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def transitions(evidence: Evidence) -> str:
    """Return the median step of each transition over the seeds that have it, their range, and their number."""
    lines = [f"| transition | {' | '.join(f'`{one.name}`' for one in evidence.all())} |"]
    lines.append("|---" * (1 + len(evidence.names)) + "|")
    for name, label in NAMES.items():
        lines.append(f"| {label} | {' | '.join(_transition(one, name) for one in evidence.all())} |")
    return "\n".join(lines)


def _transition(one: Recording, name: str) -> str:
    marker = one.markers.sel(marker=name)
    statuses = marker["status"].values.tolist()
    found = marker["step"].values[marker["status"].values == "found"]
    others = ", ".join(f"{statuses.count(word)} {word.replace('_', ' ')}" for word in sorted({*statuses} - {"found"}))
    text = f"{_range(found, '{:,.0f}')} in {len(found)}" if len(found) else ""
    return "; ".join(part for part in (text, others) if part)


def _range(values: np.ndarray, form: str) -> str:
    """Return the median and the range of numbers."""
    low, middle, high = (form.format(q) for q in np.quantile(values, [0, 0.5, 1]))
    return middle if low == high else f"{middle} ({low} to {high})"


TABLES: dict[str, Callable[[Evidence], str]] = {"recordings": recordings, "transitions": transitions}
