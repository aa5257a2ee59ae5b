"""Tests of progress measures: is a measure related to generalisation beyond its relation to time? Without PyTorch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
