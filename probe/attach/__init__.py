"""From attach to detach: when to observe, what it may cost, what is written down."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
