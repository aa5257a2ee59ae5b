"""Section 1: recorded curves whose verdict an expert wrote down before any detector saw them."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from curves.densities import DENSITIES

from probe import PhaseDetector
from probe.phases import Marker
from verdicts.decisions import Bar, Number, Section, Table
from verdicts.records import Record, Rule

Verdicts = dict[str, dict[str, tuple[Marker, Record]]]  # by curve and density
CURVES = Path(__file__).parents[1] / "curves"
LEAST_SIZE = 0.03  # a thinned record whose interior rise is smaller, as a share of its range, has no hump to find
AVERAGES = {"average6": 0.6, "average9": 0.9}
CHANCE = "percent_chance_p97"


@dataclass(frozen=True)
class Expert:
    """The expert's verdict: statuses that are right and, for a hump, the steps between which its top lies."""

    right: tuple[str, ...]
    top: tuple[float, float] = (np.nan, np.nan)


EXPERT = {
    "grok_p23_s0_wd1": Expert(("found",), (70, 105)),
    "parity_s1": Expert(("found",), (120, 210)),
    "linreg_dd": Expert(("found",), (105, 190)),
    "nogrok_p23_s0_wd0": Expert(("right_censored", "absent")),
    "shuffled_p23_s0_wd1": Expert(("right_censored", "absent")),
    "overfit_noise40": Expert(("right_censored",)),
    "steplr": Expert(("absent",)),
    "poly_mlp": Expert(("absent",)),
    "tiny_test50": Expert(("absent",)),
    "finetune": Expert(("right_censored", "absent", "undecided")),
    "convex_softmax_const_seed12": Expert(("absent",)),
    "convex_softmax_step_seed5": Expert(("absent",)),
    "convex_softmax_cos_seed7": Expert(("absent",)),
    "flat_t5_1": Expert(("absent",)),
    CHANCE: Expert(("right_censored", "not_reached")),
}


def given() -> dict[str, Record]:
    """Return steps and test loss of each given curve but the one of accuracies alone."""
    with np.load(CURVES / "given.npz") as file:
        return {
            name: (file[f"{name}/step"].astype(float), file[f"{name}/test_loss"].astype(float))
            for name in EXPERT
            if name != CHANCE
        }


def chance_statuses(density: str) -> list[str]:
    """Return the statuses of onset and end of the run at chance, whose accuracies are in per cent."""
    with np.load(CURVES / "given.npz") as file:
        steps, *curves = (file[f"{CHANCE}/{k}"].astype(float) for k in ("step", "train_accuracy", "test_accuracy"))
    train, test = (DENSITIES[density](steps, values) for values in curves)
    detector = PhaseDetector().fit({"step": test[0], "train_accuracy": train[1][None], "test_accuracy": test[1][None]})
    return [str(detector.markers_.status.sel(marker=m).item()) for m in ("generalisation_onset", "end")]


def interior_rise(values: np.ndarray) -> float:
    """Return the largest rise above the lowest values before and after, as a share of the range."""
    before, after = np.minimum.accumulate(values), np.minimum.accumulate(values[::-1])[::-1]
    return float((values - np.maximum(before, after)).max() / max(np.ptp(values), 1e-300))


def allowed_top(steps: np.ndarray, top: tuple[float, float], dense: np.ndarray, density: str) -> tuple[float, float]:
    """Return the steps between which a top is right: those of the dense record, up to the neighbouring rows.

    An exponential average shifts it to the right, by up to twice the lag of the average.
    """
    lower, upper = top
    if density in AVERAGES:
        lag = 2 * AVERAGES[density] / (1 - AVERAGES[density])
        upper = dense[min(int(np.searchsorted(dense, upper) + np.ceil(lag)), len(dense) - 1)]
    first, last = int(np.searchsorted(steps, lower, "right")) - 1, int(np.searchsorted(steps, upper))
    return steps[max(first, 0)], steps[min(last, len(steps) - 1)]


def is_right(marker: Marker, expert: Expert, dense: Record, density: str) -> bool:
    """Return whether the verdict on a record is the expert's."""
    steps, values = DENSITIES[density](*dense)
    if marker.status == "found" and "found" in expert.right:
        lower, upper = allowed_top(steps, expert.top, dense[0], density)
        return bool(lower <= marker.step <= upper)
    if marker.status == "absent" and expert.right == ("found",):
        return interior_rise(values) < LEAST_SIZE
    return marker.status in expert.right


def rows_on_hump(marker: Marker, record: Record, steps: np.ndarray) -> int:
    """Return how many of ``steps`` lie on the upper half of the hump that ``marker`` found in ``record``."""
    s, v = record
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(v, 2, mode="edge"), 5), 1)
    k = int(np.abs(s - marker.step).argmin())
    rise = min(smooth[k] - smooth[: k + 1].min(), smooth[k] - smooth[k:].min())
    low = np.flatnonzero(smooth <= smooth[k] - rise / 2)
    left, right = low[low < k], low[low > k]
    first, last = (s[left[-1]] if len(left) else s[0]), (s[right[0]] if len(right) else s[-1])
    return int(((steps > first) & (steps < last)).sum())


def contradict(one: tuple[Marker, Record], other: tuple[Marker, Record]) -> bool:
    """Return whether two verdicts on one run contradict each other.

    That is `found` against `absent` or `right_censored` while three rows of the second record show the hump.
    """
    for (found, record), (marker, rows) in ((one, other), (other, one)):
        if found.status == "found" and marker.status in ("absent", "right_censored"):
            return rows_on_hump(found, record, rows[0]) >= 3
    return False


def given_section(rule: Rule, draws: int, seed: int) -> Section:
    """Return the verdicts on the given curves at each density, and how often they are right."""
    verdicts: Verdicts = {}
    table = Table(
        "Verdicts", "Wrong ones in bold. Of the last curve, the statuses of generalisation onset and end.",
        ("curve", "right"), tuple(DENSITIES),
    )  # fmt: skip
    right, wrongly_found = dict.fromkeys(DENSITIES, 0), dict.fromkeys(DENSITIES, 0)
    for name, dense in given().items():
        expert, cells = EXPERT[name], {}
        records = {density: thin(*dense) for density, thin in DENSITIES.items()}
        verdicts[name] = {density: (rule(*record), record) for density, record in records.items()}
        for density, (marker, _) in verdicts[name].items():
            good = is_right(marker, expert, dense, density)
            right[density] += good
            wrongly_found[density] += marker.status == "found" and not good
            text = str(marker.status) + (f" {marker.step:.0f}" if marker.status == "found" else "")
            cells[density] = text if good else f"**{text}**"
        table.add((name, " or ".join(expert.right)), cells)
    cells = {}
    for density in DENSITIES:
        statuses = chance_statuses(density)
        good = set(statuses) <= set(EXPERT[CHANCE].right)
        right[density] += good
        cells[density] = ", ".join(statuses) if good else f"**{', '.join(statuses)}**"
    table.add((CHANCE, " or ".join(EXPERT[CHANCE].right)), cells)
    return Section(
        "given",
        "Given curves",
        [_counts(right, wrongly_found), table, contradictions_table("Verdicts that contradict each other", verdicts)],
    )


def _counts(right: Mapping[str, int], wrongly_found: Mapping[str, int]) -> Table:
    """Return the table of counts of right and of wrongly found verdicts."""
    table = Table(
        "Right verdicts", f"Number of {len(EXPERT)} recorded curves on which the verdict is the expert's.",
        ("verdict",), tuple(DENSITIES),
    )  # fmt: skip
    bars = {density: Bar(12 if density == "even30" else 14, at_most=False) for density in DENSITIES}
    table.add(("right",), {density: Number(count, bars[density]) for density, count in right.items()})
    table.add(("wrongly found",), {density: Number(count) for density, count in wrongly_found.items()})
    return table


def contradictions_table(title: str, verdicts: Verdicts) -> Table:
    """Return the number of curves and of pairs of densities whose verdicts contradict each other."""
    pairs = {
        name: [f"{a}/{b}" for a, b in combinations(of, 2) if contradict(of[a], of[b])] for name, of in verdicts.items()
    }
    wrong = {name: found for name, found in pairs.items() if found}
    caption = (
        "`found` against `absent` or `right_censored` at another density, while at least three of its rows lie on the "
        "upper half of the hump." + "".join(f" {name}: {', '.join(found)}." for name, found in wrong.items())
    )
    table = Table(title, caption, ("count",), ("number",))
    table.add(("curves",), {"number": Number(len(wrong), Bar(0))})
    table.add(("pairs of densities",), {"number": Number(sum(map(len, wrong.values())), Bar(0))})
    return table
