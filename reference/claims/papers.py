"""The papers whose claims this repository judges."""

from reference.claims.base import Paper
from reference.claims.two_phases.paper import PAPER as TWO_PHASES

PAPERS: dict[str, Paper] = {paper.id: paper for paper in (TWO_PHASES,)}
