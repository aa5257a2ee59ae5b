"""Warnings that point at the line of the user, and not at a line of this package or of PyTorch."""

import os
import sys
import warnings
from pathlib import Path
from types import FrameType

import torch

from probe.errors import ProbeWarning

_INSIDE = tuple(f"{folder}{os.sep}" for folder in (Path(__file__).parent.parent, Path(torch.__file__).parent))


def warn_user(message: str) -> None:
    """Issue a :class:`~probe.errors.ProbeWarning` at the innermost frame outside of this package and of PyTorch."""
    level = 2
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller.f_code.co_filename.startswith(_INSIDE):
        level, caller = level + 1, caller.f_back
    warnings.warn(message, ProbeWarning, stacklevel=level)
