"""One look inside a model: its layers, one forward pass, and everything left as it was."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
