"""Markers of the published curves of arXiv:2504.12700: `python docs/benchmarks/published_markers.py`.

The script reads reference/paper/curves.csv and prints Markdown tables: the marker of each rule on each curve beside an
earlier reading by eye, and the distances between markers. `--write` writes them to docs/published_markers.md.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe import Marker, PhaseDetector
from probe.phases import (
    MARKERS,
    fixed_point,
    piecewise_linear_onset,
    plateau_end,
    sustained_crossing,
    unimodal_mode,
)
from reference.claims import two_phases

PAGE = Path(__file__).parents[1] / "published_markers.md"
WITHIN = 0.15  # dex
N_TEST = 4096  # number of test examples: the test accuracy has a resolution of 1/4096


VALLEY = {"division": 800, "s5": 500}  # step of the lowest test loss before its top
INTRODUCTION = """This page compares the rules of `probe.phases` with steps that we read by eye, on the published
curves of arXiv:2504.12700 (`reference/paper`). `python docs/benchmarks/pages.py` writes this page. There is one run
of each task, with about 50 of several hundred points. The train accuracy is that of one batch of 512 with dropout. We
took the raw readings from these points by eye, or by the rule in brackets. The first five rows of each task are the
markers of `PhaseDetector`. The interval of a crossing is the gap between two points, and not a 90 % interval. `dex`
is the difference of log10(step + 1) between the marker and the raw reading.

A rule of three points in a row gives later steps if points are sparse. At the end of fitting, the points of S5 are
20,500 steps apart. On the same steps, our six seeds are fitted .08 dex later than on all evaluations."""
ALIGNMENT = """The distance of `PhaseDetector().alignment_` is log10 of the second marker over the first. Two markers
are aligned if the 90 % interval lies within +-.25 dex. There is one run of each task. Another seed may differ by more.
Pairs with `compression_onset` are not listed, because it is undefined."""


class Raw(NamedTuple):
    """A reading of the digitised curves, by eye or by the rule in its text; ``step`` is NaN for a bound."""

    text: str
    step: float = np.nan
    same_rule: bool = False
    why: str = ""  # reason of a difference, or of a missing reading


CURVES = {  # marker: curve
    "fit_end": "train_accuracy",
    "generalisation_onset": "test_accuracy",
    "descent_onset": "test_loss",
    "compression_onset": "information_x",
    "end": "test_accuracy",
}
NO_INFORMATION = "no I(T;X) is published: the plane shows entropies of weight histograms"
LATE = "the rise begins slowly, so that the lines meet late, at a test accuracy of .14 to .16"
MOVES = "no raw reading; the record ends before the curve is constant"
ONE_POINT = "the rule averages the mode over the noise; the reading is the highest point"
# The raw readings, by task and row of the table. They were taken from the same thinned points, one run each.
RAW: dict[str, dict[str, Raw]] = {
    "division": {
        "fit_end": Raw("4,200 (>= .99 at three points in a row)", 4200, True),
        "generalisation_onset": Raw(
            "before the first point (.425 there; largest class .279)", why="before the record by both rules"
        ),
        "descent_onset": Raw("2,600 (highest point, .885)", 2600, why=ONE_POINT),
        "compression_onset": Raw("-", why=NO_INFORMATION),
        "end": Raw("86,600 (first >= .99)", 86600, True),
        "train accuracy .98": Raw("2,800", 2800, True, "the point read at 2,800 is .979"),
        "test accuracy .5": Raw(
            "before 400, the second point", 400, True, "the crossing is in the interval 200 to 400"
        ),
        "test accuracy .9": Raw("7,200", 7200, True),
        "test accuracy .99": Raw("86,600", 86600, True),
        "first minimum": Raw(
            "800 (.509)",
            800,
            why="the rule averages the mode of a fit that falls, then rises; the reading is the lowest point",
        ),
        "top after it": Raw("2,600", 2600, why=ONE_POINT),
        "leaves its plateau": Raw(
            "before the first point",
            why="the record has no plateau; the rule finds the step at which the first rise becomes slower",
        ),
        "plateau before the rise": Raw("before the first point", why="the record has no plateau"),
        "plateau at the top": Raw("-", why="no raw reading; the fall follows the rise without a plateau"),
        "comes to rest": Raw("-", why=MOVES),
    },
    "s5": {
        "fit_end": Raw("145,000 (>= .99 at three points in a row)", 145000, True),
        "generalisation_onset": Raw("about 125,000 (above .06)", 125000, True, "no point between .055 and .066"),
        "descent_onset": Raw("24,500 (highest point, 14.04; within 2 % from 12,000 to 53,000)", 24500, why=ONE_POINT),
        "compression_onset": Raw("-", why=NO_INFORMATION),
        "end": Raw(
            "604,000 (first >= .99: the last point)", why="the rule needs three points in a row, the record has one"
        ),
        "train accuracy .98": Raw("58,500", 58500, True),
        "test accuracy .5": Raw("332,000", 332000, True),
        "test accuracy .9": Raw("484,500", 484500, True),
        "test accuracy .99": Raw("604,000", 604000, True),
        "first minimum": Raw("none", why="the first point is the lowest: the loss does not fall before it rises"),
        "top after it": Raw("24,500", 24500, why=ONE_POINT),
        "leaves its plateau": Raw("79,000 (above .03)", 79000, why=LATE),
        "plateau before the rise": Raw("79,000 (above .03)", 79000, why=LATE),
        "plateau at the top": Raw(
            "53,000 (last point within 2 % of the top)",
            53000,
            why="the fall begins slowly, so that the lines meet late, where the loss is 12 % below its top; "
            "the interval contains the raw reading",
        ),
        "comes to rest": Raw("-", why=MOVES),
    },
}


def published(task: str) -> xr.Dataset:
    """Return the curves of one run over the union of their steps. The curves were thinned at different steps."""
    curves = two_phases.published(task).rename(train_batch_accuracy="train_accuracy")
    curves["test_accuracy"].attrs["n"] = N_TEST
    return curves


def other_rules(curves: xr.Dataset, valley: float, top: float) -> Iterator[tuple[str, str, Marker]]:
    """Yield row, curve and marker by rules that the detector does not use, or uses with another threshold.

    The rise of the test loss begins at the step ``valley`` and ends at the step ``top``.
    """

    def on(name: str, rule: Callable[..., Marker], sign: int = 1, since: float = 0, until: float = np.inf) -> Marker:
        curve = curves[name].dropna("step").sel(step=slice(since, until))
        return rule(curve["step"].values, sign * curve.values)

    accuracy, loss = "test_accuracy", "test_loss"
    yield (
        "train accuracy .98",
        "train_accuracy",
        on("train_accuracy", partial(sustained_crossing, threshold=0.98, name="train_accuracy")),
    )
    for level in (".5", ".9", ".99"):
        first = partial(sustained_crossing, threshold=float(level), n_sustained=1, name=accuracy)
        yield f"test accuracy {level}", accuracy, on(accuracy, first)
    yield "first minimum", loss, on(loss, unimodal_mode, sign=-1, until=top)
    yield "top after it", loss, on(loss, unimodal_mode, since=valley)
    yield "leaves its plateau", accuracy, on(accuracy, piecewise_linear_onset)
    yield "plateau before the rise", accuracy, on(accuracy, partial(plateau_end, direction=-1))
    yield "plateau at the top", loss, on(loss, plateau_end, since=valley)
    yield "comes to rest", accuracy, on(accuracy, fixed_point)


def rows(task: str) -> Iterator[tuple[str, str, Marker, Raw]]:
    """Yield row, curve, marker and raw reading."""
    curves = published(task)
    found = PhaseDetector().fit(curves).markers_.isel(run=0)
    for name in (kind.name for kind in MARKERS if kind.name in CURVES):
        one = {field.name: found[field.name].sel(marker=name).item() for field in fields(Marker)}
        yield name, CURVES[name], Marker(**one), RAW[task][name]
    top = float(found["step"].sel(marker="descent_onset"))
    for name, curve, marker in other_rules(curves, VALLEY[task], top):
        yield name, curve, marker, RAW[task][name]


def difference(marker: Marker, raw: Raw) -> float:
    """Return the distance of a marker from the raw reading in dex, positive if it is later; NaN without a reading."""
    return float(np.log10(marker.step + 1) - np.log10(raw.step + 1))


def size(marker: Marker) -> str:
    return "-" if np.isnan(marker.size_share) else f"{marker.size:.2g} ({marker.size_share:.0%})"


def marker_row(task: str, name: str, curve: str, marker: Marker, raw: Raw) -> str:
    found, dex = marker.status == "found", difference(marker, raw)
    remarks = [raw.why] if raw.why else []
    remarks += [marker.reason] if marker.status in ("absent", "right_censored", "not_reached") else []
    cells = [
        task,
        name,
        curve,
        marker.rule or "-",
        f"{marker.step:,.0f}" if found else "-",
        f"{marker.lower:,.0f} to {marker.upper:,.0f}" if found else "-",
        marker.status,
        size(marker),
        raw.text,
        "same" if raw.same_rule else "other",
        "-" if np.isnan(dex) else f"{dex:+.2f}",
        "-" if np.isnan(dex) else "yes" if abs(dex) <= WITHIN else "no",
        "; ".join(remarks) or "-",
    ]
    return line(*cells)


def alignment_rows(task: str) -> Iterator[str]:
    aligned = PhaseDetector().fit(published(task)).alignment_.isel(run=0)
    for pair in aligned["pair"].values:
        one = aligned.sel(pair=pair)
        if not {one["marker_a"].item(), one["marker_b"].item()} <= {*CURVES} - {"compression_onset"}:  # undefined
            continue
        distance, lower, upper = (float(one[name]) for name in ("distance", "lower", "upper"))
        known = "-" if np.isnan(distance) else f"{distance:+.2f}"
        yield line(task, pair, known, f"{lower:+.2f} to {upper:+.2f}", one["order"].item(), one["verdict"].item())


def line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*cells: object) -> list[str]:
    return [line(*cells), line(*["---"] * len(cells))]


def page() -> str:
    """Return the page with both tables."""
    columns = ("task", "marker", "curve", "rule", "step", "90 % interval", "status", "p")
    markers = [marker_row(task, *row) for task in RAW for row in rows(task)]
    distances = [row for task in RAW for row in alignment_rows(task)]
    return "\n".join(
        [
            *("# Markers on the published curves", ""),
            INTRODUCTION,
            "",
            *head(*columns, "raw reading", "rule of the reading", "dex", f"within {WITHIN:g}", "remarks"),
            *markers,
            *("", "## Markers that coincide", "", ALIGNMENT, ""),
            *head("task", "pair", "distance (dex)", "90 % interval", "order", "verdict"),
            *distances,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"write to docs/{PAGE.name}")
    args = parser.parse_args()
    print(page())
    if args.write:
        PAGE.write_text(page() + "\n")


if __name__ == "__main__":
    main()
