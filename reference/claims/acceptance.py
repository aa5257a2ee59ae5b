"""The acceptance of the paper's claims: every one judged on its own curves and on ours, as a table and as figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe.phases import estimates_of
from reference.claims import CLAIMS, CONTROLS, KEPT, KEPT_CONTROL, PAPER, Claim, Finding
from reference.claims.evidence import EMBEDDING, HISTOGRAM, Evidence
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED

_SIGNS = {CONFIRMED: "+", NOT_CONFIRMED: "-", UNDECIDED: "?"}


@dataclass(frozen=True)
class Judged:
    """A claim with its verdicts on the published curves and on our runs."""

    claim: Claim
    published: tuple[Finding, ...]
    ours: tuple[Finding, ...]

    @property
    def words(self) -> tuple[str, str, str]:
        """Of the published curves, our runs of the paper's tasks, our other runs; "-" where there are none."""
        own = [finding for finding in self.ours if finding.papers_own]
        other = [finding for finding in self.ours if not finding.papers_own]
        return overall(self.published), overall(own), overall(other)


def overall(findings: Sequence[Finding]) -> str:
    """One word: a claim that fails somewhere is not confirmed, one that holds everywhere is.

    A control that shows the same is no confirmation: what separates nothing says nothing about generalisation.
    """
    if not findings:
        return "-"
    words = [finding.verdict.word for finding in findings if not finding.control]
    if NOT_CONFIRMED in words:
        return NOT_CONFIRMED
    spoilt = any(finding.verdict.word == CONFIRMED for finding in findings if finding.control)
    return CONFIRMED if words and set(words) == {CONFIRMED} and not spoilt else UNDECIDED


def judge(evidence: Evidence | None = None, claims: Iterable[Claim] = CLAIMS) -> list[Judged]:
    """All claims, judged on the published curves and on ours."""
    evidence = evidence or Evidence()
    return [Judged(claim, tuple(claim.published(evidence)), tuple(claim.ours(evidence))) for claim in claims]


def as_markdown(judged: Sequence[Judged]) -> str:
    """A summary table, and each claim with all its numbers."""
    lines = [
        "| claim | where | published curves | our seeds, the paper's tasks | our seeds, other runs |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {one.claim.name} | {one.claim.where} | {' | '.join(one.words)} |" for one in judged]
    for one in judged:
        told = f"Claim ({one.claim.where}): {one.claim.text}. Expected: {one.claim.expected}."
        lines += ["", f"### {one.claim.name}", "", told, "", "| on | runs | verdict | numbers |", "|---|---|---|---|"]
        for source, findings in (("published", one.published), ("ours", one.ours)):
            lines += [f"| {source} | {f.runs} | {f.verdict.word} | {f.verdict.numbers} |" for f in findings]
    return "\n".join(lines)


def as_text(judged: Sequence[Judged]) -> str:
    """For a terminal: a line a claim, and a line a finding."""
    width = max(len(f.runs) for one in judged for f in (*one.published, *one.ours))
    lines = []
    for one in judged:
        theirs, own, other = one.words
        lines += ["", f"{one.claim.name} ({one.claim.where}): published {theirs}; our seeds {own}; other runs {other}"]
        for source, findings in (("paper", one.published), ("ours", one.ours)):
            lines += [f"  {_SIGNS[f.verdict.word]} {source:5} {f.runs:{width}}  {f.verdict.numbers}" for f in findings]
    lines += ["", "+ confirmed   - not confirmed   ? undecided"]
    return "\n".join(lines[1:])


# -- figures -------------------------------------------------------------------------------------------------------

_CURVES = {
    "train_batch_accuracy": "training batch, dropout on: accuracy",
    "test_accuracy": "test accuracy",
    "test_loss": "test loss (nats)",
}
_OURS = "#2b6ca3"


def draw_curves(evidence: Evidence) -> Figure:
    """Our seeds (median, and all in the band) over the published points of figures 3 and 4."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), layout="constrained")
    for row, (task, name) in zip(axes, PAPER.items(), strict=True):
        runs = evidence.ours(name).curves
        for ax, (curve, title) in zip(row, _CURVES.items(), strict=True):
            band = runs[curve].where(runs["step"] > 0, drop=True)
            steps = band["step"]
            ax.fill_between(steps, band.min("run"), band.max("run"), alpha=0.25, lw=0, color=_OURS)
            ax.plot(steps, band.median("run"), color=_OURS, label=f"ours, {runs.sizes['run']} seeds")
            points = evidence.published[task][curve].dropna("step")
            ax.plot(points["step"], points, "k.", ms=4, label="published, one run")
            ax.set(xscale="log", xlabel="step", title=f"{task}: {title}")
    axes[0, 0].legend(fontsize=8)
    return figure


def draw_information(evidence: Evidence) -> Figure:
    """I(T+n;X), and the paper's weight histograms below it: runs that generalise, and controls."""
    names = ("paper-division", "division-97", "subtraction-96", "s5-fast", *CONTROLS)
    figure, axes = plt.subplots(2, len(names), figsize=(2.9 * len(names), 5.4), layout="constrained", sharex="col")
    for column, name in zip(axes.T, names, strict=True):
        one = evidence.ours(name)
        for split, colour in (("train", "#c4552d"), ("test", "#2b6ca3")):
            bits = one.probes["information_x"].sel(split=split, layer=one.layers()[-1])
            _seeds(column[0], bits, colour, f"I(T+n;X), {split}")
        weights = one if HISTOGRAM in one.probes else evidence.ours(f"{name}-kept")
        _seeds(column[1], weights.measured(HISTOGRAM, parameter=EMBEDDING), "#3d8b4f", "weight histogram")
        for ax in column:
            ax.set_xscale("log")
            for step in one.fitted:
                ax.axvline(step, color="#888888", lw=0.6, ls=":")
        column[0].set_title(f"{'control: ' if name in CONTROLS else ''}{name}", fontsize=9)
        column[1].set_xlabel("step")
    axes[0, 0].set_ylabel("bits, last block")
    axes[1, 0].set_ylabel("bits, embedding weights")
    axes[0, 0].legend(fontsize=7)
    return figure


def draw_readings(evidence: Evidence) -> Figure:
    """I(T;X) of the last block by every estimator and noise, on training, test and all inputs."""
    runs, names = (*KEPT, KEPT_CONTROL), list(estimates_of(evidence.ours(KEPT[0]).probes))
    size = 2.6 * len(names), 2.4 * len(runs)
    figure, axes = plt.subplots(len(runs), len(names), figsize=size, layout="constrained", sharex="row")
    for row, run in zip(axes, runs, strict=True):
        one = evidence.ours(run)
        for ax, (name, curves) in zip(row, estimates_of(one.probes).items(), strict=True):
            for split, colour in (("train", "#c4552d"), ("test", "#2b6ca3"), ("all", "#444444")):
                _seeds(ax, curves.sel(split=split, layer=one.layers()[-1]), colour, split)
            for step in one.fitted:
                ax.axvline(step, color="#888888", lw=0.6, ls=":")
            ax.set(xscale="log", title="channel, r = .2" if name == "information_x" else name)
        row[0].set_ylabel(f"{run}, bits")
    axes[0, 0].legend(fontsize=7)
    return figure


def _seeds(ax: Axes, array: xr.DataArray, colour: str, label: str) -> None:
    """All runs as thin lines and their median; the first steps, in which layers grow out of their start, left out."""
    late = array.where(array["step"] >= 100, drop=True).transpose("run", "step")
    ax.plot(late["step"], late.values.T, color=colour, lw=0.4, alpha=0.6)
    ax.plot(late["step"], np.nanmedian(late.values, 0), color=colour, lw=1.6, label=label)


FIGURES = {"curves": draw_curves, "information": draw_information, "readings": draw_readings}


def accept(out: Path, evidence: Evidence | None = None) -> list[Judged]:
    """Judge all claims; write ``verdicts.md`` and the figures into the folder ``out``."""
    evidence = evidence or Evidence()
    judged = judge(evidence)
    out.mkdir(parents=True, exist_ok=True)
    (out / "verdicts.md").write_text(as_markdown(judged) + "\n")
    for name, draw in FIGURES.items():
        figure = draw(evidence)
        figure.savefig(out / f"{name}.png", dpi=80)
        plt.close(figure)
    return judged
