"""Logs of other libraries as series: TensorBoard, Lightning, Hugging Face, W&B, MLflow, CSV, JSON, NetCDF."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
