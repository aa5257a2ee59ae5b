"""The claims of arXiv:2310.03789: text, place, expected observation, and the functions that judge them.

Nothing can be judged on published curves, because there are none. `published.py` holds the reported numbers. The
thresholds, and what was known when they were fixed, are in `configurations.py`.
"""

from reference.claims.first_order.equation_claims import EQUATIONS
from reference.claims.first_order.grokking_claims import TRAINED
from reference.claims.first_order.network_claims import NETWORKS
from reference.claims.first_order.order_claims import ORDER

CLAIMS = [*EQUATIONS, *NETWORKS, *ORDER, *TRAINED]
