"""The entry of arXiv:2504.12700 in the list of papers."""

from reference.claims.base import Paper
from reference.claims.two_phases.claims import CLAIMS
from reference.claims.two_phases.coarse_tables import TABLES
from reference.claims.two_phases.configurations import PAPER_RUNS
from reference.claims.two_phases.evidence import Evidence
from reference.claims.two_phases.figures import FIGURES

PAPER = Paper(
    id="2504.12700",
    title="two phases of learning, fitting and compression, in a grokking transformer",
    claims=CLAIMS,
    evidence=Evidence,
    own_runs=tuple(PAPER_RUNS.values()),
    figures=FIGURES,
    page="results.md",
    tables=TABLES,
)
