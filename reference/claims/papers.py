"""The papers whose claims this repository judges."""

from reference.claims.base import Paper
from reference.claims.chaos_cone.paper import PAPER as CHAOS_CONE
from reference.claims.first_order.paper import PAPER as FIRST_ORDER
from reference.claims.two_phases.paper import PAPER as TWO_PHASES

PAPERS: dict[str, Paper] = {paper.id: paper for paper in (TWO_PHASES, CHAOS_CONE, FIRST_ORDER)}
