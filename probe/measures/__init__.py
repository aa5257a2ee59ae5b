"""Measures: each file has the formula and source of one measure, a function of tensors, and a probe that calls it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
