"""Boundaries where units switch, linearity along lines, and spectra of matrices. Functions of tensors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
