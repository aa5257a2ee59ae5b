"""Probes in the loops of trainers: one file for each library, which is imported on first use.

``import probe`` imports none of these libraries, and neither does this package.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submodules=["accelerate", "huggingface", "lightning", "skorch"]
)
