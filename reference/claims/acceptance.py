"""Judge all claims of a paper, and write the verdicts as a table, as text and as figures."""

import re
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
    paper : Paper
        The paper of the claim.
    """

    claim: Claim
    published: tuple[Finding, ...]
    ours: tuple[Finding, ...]
    paper: Paper

    @property
    def verdicts(self) -> tuple[str, str, str]:
        """Overall verdicts on the published curves, our runs of the paper's tasks, and our other runs."""
        own = [finding for finding in self.ours if finding.runs.startswith(self.paper.own_runs)]
        other = [finding for finding in self.ours if not finding.runs.startswith(self.paper.own_runs)]
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
        Judgement(claim, tuple(claim.published(evidence)), tuple(claim.ours(evidence)), paper) for claim in paper.claims
    ]


def as_markdown(judgements: Sequence[Judgement]) -> str:
    """Return a summary table, and a section with all numbers for each claim.

    The column of the published curves is left out if no claim was judged on them.
    """
    shown = [i for i in range(3) if i or any(one.published for one in judgements)]
    heads = ("published curves", *judgements[0].paper.heads)
    lines = [
        f"| claim | where | {' | '.join(heads[i] for i in shown)} |",
        "|---" * (2 + len(shown)) + "|",
    ]
    for one in judgements:
        verdicts = " | ".join(one.verdicts[i] for i in shown)
        lines.append(f"| {one.claim.name} | {one.claim.where} | {verdicts} |")
    for one in judgements:
        lines += ["", f"### {one.claim.name}", "", _description(one.claim), ""]
        lines += ["| on | runs | verdict | numbers |", "|---|---|---|---|"]
        source = f"reported ({one.paper.reported_by})"
        lines += [f"| {source} | {runs} | not judged | {numbers} |" for runs, numbers in one.claim.reported.items()]
        for source, findings in (("published", one.published), ("ours", one.ours)):
            lines += [f"| {source} | {f.runs} | {f.verdict.word} | {f.verdict.numbers} |" for f in findings]
    return "\n".join(lines)


def _description(claim: Claim) -> str:
    """Return sentences on what is claimed or tested, and what is expected."""
    place = "" if claim.where == "-" else f" ({claim.where})"
    ours = re.fullmatch(r"\(no claim of the paper(?:, which (.+?))?: (.+)\)", claim.text)
    if ours:
        test = f". We {ours[2][3:]}" if ours[2].startswith("we ") else f": {ours[2]}"
        text = f"Our test{place}; the paper makes no such claim{test}."
        text += f" The paper {ours[1]}." if ours[1] else ""
    elif claim.text.startswith("(no claim of the paper"):
        text = f"Our test{place}: {claim.text[1:-1]}."
    else:
        text = f"Claim{place}: {claim.text}."
    return f"{text} Expected: {claim.expected}."


def as_text(judgements: Sequence[Judgement]) -> str:
    """Return the verdicts for a terminal: one line for each claim and for each finding."""
    names = [f.runs for one in judgements for f in (*one.published, *one.ours)]
    width = max(len(name) for name in (*names, *(name for one in judgements for name in one.claim.reported)))
    lines: list[str] = []
    for one in judgements:
        heads = ("published", *one.paper.heads)
        pairs = list(zip(heads, one.verdicts, strict=True))
        verdicts = "; ".join(f"{head}: {verdict}" for head, verdict in (pairs if one.published else pairs[1:]))
        where = "our test" if one.claim.where == "-" else one.claim.where
        lines += ["", f"{one.claim.name} ({where}): {verdicts}"]
        lines += [f"  . paper {runs:{width}}  {numbers}" for runs, numbers in one.claim.reported.items()]
        for source, findings in (("paper", one.published), ("ours", one.ours)):
            lines += [f"  {_SIGNS[f.verdict.word]} {source:5} {f.runs:{width}}  {f.verdict.numbers}" for f in findings]
    lines += ["", "+ confirmed   - not confirmed   ? undecided"]
    if any(one.claim.reported for one in judgements):
        lines[-1] += f"   . not judged, {judgements[0].paper.reported_by}"
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
