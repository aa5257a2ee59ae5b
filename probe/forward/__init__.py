"""Forward passes through a model: selection of layers, reduced outputs, edits, and restoration of the model's state."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
