from .claims import CLAIMS as CLAIMS
from .evidence import Evidence as Evidence
from .figures import FIGURES as FIGURES
from .paper import PAPER as PAPER

__all__: list[str]
