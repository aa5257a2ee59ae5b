"""Self-consistent equations of arXiv:2310.03789, their solvers and their closed forms."""
