"""Langevin sampling of the networks of arXiv:2310.03789, many networks as one batched model."""
