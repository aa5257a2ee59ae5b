"""Measure saved checkpoints with probes: folders of Hugging Face, Lightning, torch.distributed, plain weights."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
