"""The phases of a training run, read from curves: arrays in, ends of phases out. No torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
