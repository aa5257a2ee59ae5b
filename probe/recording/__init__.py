"""Record observations in memory and on disk: records, journal, lock, provenance, files."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
