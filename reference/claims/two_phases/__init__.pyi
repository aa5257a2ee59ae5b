from .claims import CLAIMS as CLAIMS
from .evidence import (
    PUBLISHED_PLANE as PUBLISHED_PLANE,
    Evidence as Evidence,
    published as published,
)
from .figures import FIGURES as FIGURES
from .paper import PAPER as PAPER
from .phases import (
    our_distance as our_distance,
    our_hump as our_hump,
)

__all__: list[str]
