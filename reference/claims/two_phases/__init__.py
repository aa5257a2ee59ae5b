"""The claims of arXiv:2504.12700 on two phases of learning: claims, evidence and figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
