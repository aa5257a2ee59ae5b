"""Papers, their claims, and the findings about a claim."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.figure import Figure

from reference.claims.verdicts import Verdict


@dataclass(frozen=True)
class Finding:
    """One verdict on a claim.

    Attributes
    ----------
    runs : str
        The runs that were judged. The name of our configuration comes first.
    verdict : Verdict
        The verdict on these runs.
    """

    runs: str
    verdict: Verdict


@dataclass(frozen=True)
class Claim:
    """A claim of a paper and how it is judged.

    Attributes
    ----------
    name, where, text : str
        Short name; sections and figures of the paper; the claim in our words.
    expected : str
        The observation that confirms the claim.
    published, ours : callable
        Judge the claim on the published curves and on our runs. The argument is the evidence of the paper.
    reported : mapping of str to str
        Numbers of the paper by the network that it used, for a paper without available curves. They are shown beside
        our verdicts and not judged.
    """

    name: str
    where: str
    text: str
    expected: str
    published: Callable[[Any], Iterator[Finding]]
    ours: Callable[[Any], Iterator[Finding]]
    reported: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Paper:
    """A paper with claims that this repository judges.

    Attributes
    ----------
    id : str
        The arXiv identifier, such as ``"2504.12700"``.
    title : str
        One line about the paper.
    claims : sequence of Claim
        All claims, in the order of the report.
    evidence : callable
        Load the published curves and our recorded runs. The result is the argument of the claims and the figures.
    own_runs : tuple of str
        Configurations of ours with the tasks and settings of the paper. Names that begin so count too.
    figures : mapping of str to callable
        File name without suffix, and the function that draws the figure from the evidence.
    page : str
        The page in ``docs`` that shows the verdicts.
    heads : tuple of str
        Heads of the verdicts on the own runs and on the others.
    reported_by : str
        The source of the numbers in `Claim.reported`.
    tables : mapping of str to callable
        Name of a place on the page, and the function that returns a table for it from the evidence.
    """

    id: str
    title: str
    claims: Sequence[Claim]
    evidence: Callable[[], Any]
    own_runs: tuple[str, ...]
    figures: Mapping[str, Callable[[Any], Figure]]
    page: str
    heads: tuple[str, str] = ("our seeds, the paper's tasks", "our seeds, other runs")
    reported_by: str = ""
    tables: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)


def nothing_published(_: Any) -> Iterator[Finding]:
    """Return no findings, for a claim without published curves."""
    return iter(())
