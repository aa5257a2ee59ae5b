"""The entry of arXiv:2310.03789 in the list of papers."""

from reference.claims.base import Paper
from reference.claims.first_order.claims import CLAIMS
from reference.claims.first_order.evidence import Evidence
from reference.claims.first_order.figures import FIGURES
from reference.claims.first_order.published import READING
from reference.claims.first_order.tables import TABLES

PAPER = Paper(
    id="2310.03789",
    title="grokking as a first-order phase transition in two-layer networks",
    claims=CLAIMS,
    evidence=Evidence,
    own_runs=("solved",),
    figures=FIGURES,
    page="results_first_order.md",
    heads=("the equations, solved", "networks, sampled or trained"),
    reported_by=READING,
    tables=TABLES,
)
