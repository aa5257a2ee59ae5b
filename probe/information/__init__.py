"""Estimators of information and entropy, in bits: tensors in, numbers out. One estimator, one file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
