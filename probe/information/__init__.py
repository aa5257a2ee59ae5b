"""Estimators of information and entropy, in bits. They take tensors and return numbers; each has its own file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
