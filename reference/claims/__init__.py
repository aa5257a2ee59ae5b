"""Claims of published papers, judged on the published curves and on the recorded runs of this repository.

`PAPERS` lists the papers. A paper is one folder, such as `two_phases`, and one entry in `papers.py`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
