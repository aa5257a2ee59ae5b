"""Judge all claims of a paper, and write the verdicts as a table, as text and as figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from reference.claims.base import Claim, Finding, Paper
from reference.claims.papers import PAPERS
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED

_SIGNS = {CONFIRMED: "+", NOT_CONFIRMED: "-", UNDECIDED: "?"}


@dataclass(frozen=True)
class Judgement:
    """A claim with its findings on the published curves and on our runs.

    Attributes
    ----------
    claim : Claim
        The claim.
    published, ours : tuple of Finding
        Findings on the published curves and on our runs.
    own_runs : tuple of str
        Beginnings of the names of our runs with the tasks and settings of the paper.
    """

    claim: Claim
    published: tuple[Finding, ...]
    ours: tuple[Finding, ...]
    own_runs: tuple[str, ...]

    @property
    def verdicts(self) -> tuple[str, str, str]:
        """Overall verdicts on the published curves, our runs of the paper's tasks, and our other runs."""
        own = [finding for finding in self.ours if finding.runs.startswith(self.own_runs)]
        other = [finding for finding in self.ours if not finding.runs.startswith(self.own_runs)]
        return overall(self.published), overall(own), overall(other)


def overall(findings: Sequence[Finding]) -> str:
    """Return one verdict for several findings; "-" if there are none.

    A claim that fails on some runs is not confirmed. A claim that holds on all runs is confirmed. A comparison of runs
    with controls is a finding of its own, see `by_separation`.
    """
    if not findings:
        return "-"
    words = {finding.verdict.word for finding in findings}
    if NOT_CONFIRMED in words:
        return NOT_CONFIRMED
    return CONFIRMED if words == {CONFIRMED} else UNDECIDED


def find_papers(paper_id: str | None = None) -> list[Paper]:
    """Return the paper with this arXiv identifier, or all papers.

    Raises
    ------
    ValueError
        If the identifier is unknown. The message lists the known ones.
    """
    if paper_id is None:
        return list(PAPERS.values())
    known = paper_id.lower().removeprefix("arxiv:")
    if known not in PAPERS:
        raise ValueError(
            f"Expected the arXiv identifier of a paper with claims, got {paper_id!r}; "
            f"choose one of: {', '.join(PAPERS)}."
        )
    return [PAPERS[known]]


def judge(paper: Paper, evidence: Any = None) -> list[Judgement]:
    """Judge all claims of a paper on the published curves and on our runs."""
    evidence = paper.evidence() if evidence is None else evidence
    return [
        Judgement(claim, tuple(claim.published(evidence)), tuple(claim.ours(evidence)), paper.own_runs)
        for claim in paper.claims
    ]


def as_markdown(judgements: Sequence[Judgement]) -> str:
    """Return a summary table, and a section with all numbers for each claim."""
    lines = [
        "| claim | where | published curves | our seeds, the paper's tasks | our seeds, other runs |",
        "|---|---|---|---|---|",
    ]
    lines += [f"| {one.claim.name} | {one.claim.where} | {' | '.join(one.verdicts)} |" for one in judgements]
    for one in judgements:
        description = f"Claim ({one.claim.where}): {one.claim.text}. Expected: {one.claim.expected}."
        lines += ["", f"### {one.claim.name}", "", description, ""]
        lines += ["| on | runs | verdict | numbers |", "|---|---|---|---|"]
        for source, findings in (("published", one.published), ("ours", one.ours)):
            lines += [f"| {source} | {f.runs} | {f.verdict.word} | {f.verdict.numbers} |" for f in findings]
    return "\n".join(lines)


def as_text(judgements: Sequence[Judgement]) -> str:
    """Return the verdicts for a terminal: one line for each claim and for each finding."""
    width = max(len(f.runs) for one in judgements for f in (*one.published, *one.ours))
    lines: list[str] = []
    for one in judgements:
        published, own, other = one.verdicts
        lines += [
            "",
            f"{one.claim.name} ({one.claim.where}): published {published}; our seeds {own}; other runs {other}",
        ]
        for source, findings in (("paper", one.published), ("ours", one.ours)):
            lines += [f"  {_SIGNS[f.verdict.word]} {source:5} {f.runs:{width}}  {f.verdict.numbers}" for f in findings]
    lines += ["", "+ confirmed   - not confirmed   ? undecided"]
    return "\n".join(lines[1:])


def accept(paper: Paper, out: Path, evidence: Any = None) -> list[Judgement]:
    """Judge all claims of a paper; write ``verdicts.md`` and the figures into the folder ``out``."""
    evidence = paper.evidence() if evidence is None else evidence
    judgements = judge(paper, evidence)
    out.mkdir(parents=True, exist_ok=True)
    (out / "verdicts.md").write_text(as_markdown(judgements) + "\n", encoding="utf-8")
    for name in paper.figures:
        draw_figure(paper, name, evidence, out / f"{name}.png")
    return judgements


def draw_figure(paper: Paper, name: str, evidence: Any, file: Path) -> None:
    """Draw one figure of a paper and save it."""
    figure = paper.figures[name](evidence)
    figure.savefig(file, dpi=80)
    plt.close(figure)
