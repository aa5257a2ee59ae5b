"""Every marker on the published curves of arXiv:2504.12700: `python docs/benchmarks/published_markers.py`.

Reads reference/paper/curves.csv and prints Markdown: what each rule finds on each curve, beside what was read off the
digitised curves before, and which markers fall together. `--write` puts it into docs/published_markers.md.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from probe import PhaseDetector
from probe.phases import MARKERS
from probe import Marker
from probe.phases import sustained_crossing
from probe.phases import piecewise_linear_onset, plateau_end
from probe.stats import second_phase_table
from probe.phases import unimodal_mode
from probe.phases import fixed_point
from reference.claims import two_phases

PAGE = Path(__file__).parents[1] / "published_markers.md"
WITHIN = 0.15  # dex
N_TEST = 4096  # examples behind a test accuracy: it moves in steps of 1/4096


VALLEY = {"division": 800, "s5": 500}  # lowest point of the test loss before its top
INTRODUCTION = """`python docs/benchmarks/published_markers.py --write`: the rules of `probe.phases` on the curves of
arXiv:2504.12700 (`reference/paper`: one run each, some 50 of several hundred points, train accuracy of one batch of 512
with dropout). The raw readings were taken from these points by eye, or by the rule in brackets. The first five rows
of each task are those of `PhaseDetector`. The interval of a crossing is the gap between two points, no 90 % interval.
`dex` is log10(step + 1) less that of the raw reading."""
ALIGNMENT = """`PhaseDetector().alignment_`: log10 of the second marker over the first, aligned if the 90 % interval
lies within +-.25 dex. One run each: this describes, another seed may differ by more. Pairs with `compression_onset`,
which is undefined, are left out."""


class Raw(NamedTuple):
    """What was read off the digitised curves, by eye or by the rule in the words; ``step`` is NaN for a mere bound."""

    words: str
    step: float = np.nan
    same_rule: bool = False
    why: str = ""  # where the rule is another one, or there is nothing to compare


CURVES = {  # marker: curve
    "fit_end": "train_accuracy",
    "generalisation_onset": "test_accuracy",
    "descent_onset": "test_loss",
    "compression_onset": "information_x",
    "end": "test_accuracy",
}
NO_INFORMATION = "no information about the inputs is published: the plane shows entropies of weight histograms"
LATE = "the rise begins gently, so straight pieces meet late: the test accuracy is .14 to .16 there"
MOVES = "no raw reading; the record ends before the curve rests"
ONE_POINT = "the mean of the mode over the noise, not the one highest point"
# The raw readings, by task and row of the table. They were taken from the same thinned points, one run each.
RAW: dict[str, dict[str, Raw]] = {
    "division": {
        "fit_end": Raw("4,200 (>= .99 at three points in a row)", 4200, True),
        "generalisation_onset": Raw(
            "before the first point (.425 there; largest class .279)", why="before the record by both"
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
            "800 (.509)", 800, why="the mean of the mode of a fall-then-rise fit, not the lowest point"
        ),
        "top after it": Raw("2,600", 2600, why=ONE_POINT),
        "leaves its plateau": Raw(
            "before the first point", why="there is no plateau in the record: this is where the first rise slackens"
        ),
        "plateau before the rise": Raw("before the first point", why="there is no plateau in the record"),
        "plateau at the top": Raw("-", why="no raw reading; rise and fall meet without a plateau"),
        "comes to rest": Raw("-", why=MOVES),
    },
    "s5": {
        "fit_end": Raw("145,000 (>= .99 at three points in a row)", 145000, True),
        "generalisation_onset": Raw("about 125,000 (above .06)", 125000, True, "no point between .055 and .066"),
        "descent_onset": Raw("24,500 (highest point, 14.04; within 2 % from 12,000 to 53,000)", 24500, why=ONE_POINT),
        "compression_onset": Raw("-", why=NO_INFORMATION),
        "end": Raw("604,000 (first >= .99: the last point)", why="three in a row are asked for, the record has one"),
        "train accuracy .98": Raw("58,500", 58500, True),
        "test accuracy .5": Raw("332,000", 332000, True),
        "test accuracy .9": Raw("484,500", 484500, True),
        "test accuracy .99": Raw("604,000", 604000, True),
        "first minimum": Raw("none", why="the lowest point is the first one: the loss does not fall before it rises"),
        "top after it": Raw("24,500", 24500, why=ONE_POINT),
        "leaves its plateau": Raw("79,000 (above .03)", 79000, why=LATE),
        "plateau before the rise": Raw("79,000 (above .03)", 79000, why=LATE),
        "plateau at the top": Raw(
            "53,000 (last point within 2 % of the top)",
            53000,
            why="the fall begins gently, so straight pieces meet late: the loss is 12 % below its top there; "
            "the interval holds the raw reading",
        ),
        "comes to rest": Raw("-", why=MOVES),
    },
}


def published(task: str) -> xr.Dataset:
    """The curves of one run over the union of their steps; a curve was not thinned at the same steps as another."""
    curves = two_phases.published(task).rename(train_batch_accuracy="train_accuracy")
    curves["test_accuracy"].attrs["n"] = N_TEST
    return curves


def other_rules(curves: xr.Dataset, valley: float, top: float) -> Iterator[tuple[str, str, Marker]]:
    """Row, curve and marker by rules that the detector does not use, or uses at another level.

    The hump of the test loss begins at ``valley`` and is highest at ``top``.
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
    """Row, curve, marker and raw reading."""
    curves = published(task)
    found = PhaseDetector().fit(curves).markers_.isel(run=0)
    for name in (kind.name for kind in MARKERS):
        one = {field.name: found[field.name].sel(marker=name).item() for field in fields(Marker)}
        yield name, CURVES[name], Marker(**one), RAW[task][name]
    top = float(found["step"].sel(marker="descent_onset"))
    for name, curve, marker in other_rules(curves, VALLEY[task], top):
        yield name, curve, marker, RAW[task][name]


def difference(marker: Marker, raw: Raw) -> float:
    """Distance in dex, later than the raw reading positive; NaN if there is none."""
    return float(np.log10(marker.step + 1) - np.log10(raw.step + 1))


def probability(p: float) -> str:
    least = float(second_phase_table().p[-1])  # the table ends there
    return "-" if np.isnan(p) else f"<= {least:g}" if p <= least * 1.001 else f"{p:.3f}"


def marker_row(task: str, name: str, curve: str, marker: Marker, raw: Raw) -> str:
    found, dex = marker.status == "found", difference(marker, raw)
    said = [raw.why] if raw.why else []
    said += [marker.reason] if marker.status in ("absent", "right_censored") else []
    cells = [
        task,
        name,
        curve,
        marker.rule or "-",
        f"{marker.step:,.0f}" if found else "-",
        f"{marker.lower:,.0f} to {marker.upper:,.0f}" if found else "-",
        marker.status,
        probability(marker.p_value),
        raw.words,
        "same" if raw.same_rule else "other",
        "-" if np.isnan(dex) else f"{dex:+.2f}",
        "-" if np.isnan(dex) else "yes" if abs(dex) <= WITHIN else "no",
        "; ".join(said) or "-",
    ]
    return line(*cells)


def alignment_rows(task: str) -> Iterator[str]:
    aligned = PhaseDetector().fit(published(task)).alignment_.isel(run=0)
    for pair in aligned["pair"].values:
        one = aligned.sel(pair=pair)
        if "compression_onset" in str(pair):  # undefined
            continue
        distance, lower, upper = (float(one[name]) for name in ("distance", "lower", "upper"))
        known = "-" if np.isnan(distance) else f"{distance:+.2f}"
        yield line(task, pair, known, f"{lower:+.2f} to {upper:+.2f}", one["order"].item(), one["verdict"].item())


def line(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*cells: object) -> list[str]:
    return [line(*cells), line(*["---"] * len(cells))]


def page() -> str:
    """The two tables."""
    columns = ("task", "marker", "curve", "rule", "step", "90 % interval", "status", "p")
    markers = [marker_row(task, *row) for task in RAW for row in rows(task)]
    distances = [row for task in RAW for row in alignment_rows(task)]
    return "\n".join(
        [
            *("---", "orphan: true", "---", "", "# Markers on the published curves", ""),
            INTRODUCTION,
            "",
            *head(*columns, "raw reading", "its rule", "dex", f"within {WITHIN:g}", "remarks"),
            *markers,
            *("", "## Which markers fall together", "", ALIGNMENT, ""),
            *head("task", "pair", "distance (dex)", "90 % interval", "order", "verdict"),
            *distances,
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    print(page())
    if args.write:
        PAGE.write_text(page() + "\n")


if __name__ == "__main__":
    main()
