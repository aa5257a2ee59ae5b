"""One page of HTML about a training: verdict, linked charts, tables, provenance. It needs Bokeh, and no network."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
