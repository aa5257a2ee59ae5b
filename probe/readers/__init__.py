"""Read logs of other libraries as series; ``READERS`` lists the formats."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
