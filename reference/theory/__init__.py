"""Grokking as a first-order phase transition (arXiv:2310.03789): its theory, and simulations of its networks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
