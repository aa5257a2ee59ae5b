"""Numbers of observations for dashboards such as TensorBoard, W&B, MLflow and trackio, and for a line of progress.

No package of a dashboard is imported: a writer is recognised by the methods that it offers.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
