"""The claims of arXiv:2310.03789 on grokking as a first-order phase transition: claims, evidence and figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
