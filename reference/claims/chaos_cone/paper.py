"""The entry of arXiv:2505.13900 in the list of papers."""

from reference.claims.base import Paper
from reference.claims.chaos_cone.claims import CLAIMS
from reference.claims.chaos_cone.configurations import CONVOLUTIONAL
from reference.claims.chaos_cone.evidence import Evidence
from reference.claims.chaos_cone.figures import FIGURES
from reference.claims.chaos_cone.published import READING
from reference.claims.chaos_cone.tables import TABLES

PAPER = Paper(
    id="2505.13900",
    title="a chaotic early phase, and a cone of tangent kernels after it",
    claims=CLAIMS,
    evidence=Evidence,
    own_runs=CONVOLUTIONAL,
    figures=FIGURES,
    page="results_chaos.md",
    heads=("our seeds, the paper's kinds of network", "our seeds, other runs"),
    reported_by=READING,
    tables=TABLES,
)
