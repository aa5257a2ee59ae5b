"""The claims of arXiv:2505.13900 on the chaos effect and the cone effect: claims, evidence and figures."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
