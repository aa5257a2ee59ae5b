from .discovery import READERS as READERS
from .names import (
    guess_roles as guess_roles,
    role_of as role_of,
)
from .reading import read as read

__all__: list[str]
