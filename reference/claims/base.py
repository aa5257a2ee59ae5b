"""What a claim is, what a finding is, and which runs stand for what."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from reference.claims.evidence import Evidence
from reference.claims.verdicts import Verdict

TOGETHER = 0.25  # dex
PAPER = {"division": "paper-division", "s5": "paper-s5"}  # published task -> our configuration
TRUE = ("division-97", "subtraction-96")  # tables that are division, and are learnt
CONTROLS = ("control-shuffled", "control-few")  # fitted, and not to be generalised
KEPT = ("division-59", "paper-division-kept")  # every estimator, all inputs, weight histograms
KEPT_CONTROL = "control-59"  # of the first of them
NOT_LEARNT = (*CONTROLS, "division-96", KEPT_CONTROL)  # fitted; test accuracy stays below .6 to the end of the record


@dataclass(frozen=True)
class Finding:
    """One verdict on one claim: of which runs. ``control``: these do not generalise, and should not show it."""

    runs: str
    verdict: Verdict
    control: bool = False

    @property
    def papers_own(self) -> bool:
        """Whether the runs have the paper's tasks and settings."""
        return self.runs.startswith(tuple(PAPER.values()))


@dataclass(frozen=True)
class Claim:
    """What the paper says, where, what would confirm it and why so, and how to judge it."""

    name: str
    where: str
    text: str
    expected: str
    published: Callable[[Evidence], Iterator[Finding]]
    ours: Callable[[Evidence], Iterator[Finding]]


def nothing_published(_: Evidence) -> Iterator[Finding]:
    """Of the paper's curves, where none is about this."""
    return iter(())
