"""The warnings and errors of the package, so that a program can filter and catch them."""

import sys
import warnings
from types import FrameType

__all__ = ["DuplicateNameError", "ProbeWarning", "warn_user"]


class ProbeWarning(UserWarning):
    """Every warning that this package issues is of this class.

    Examples
    --------
    >>> import warnings
    >>> from probe.errors import ProbeWarning
    >>> warnings.simplefilter("ignore", ProbeWarning)  # silence probe, and nothing else
    """


class DuplicateNameError(ValueError):
    """Two probes of one set make variables of the same name.

    Examples
    --------
    >>> from probe.errors import DuplicateNameError
    >>> issubclass(DuplicateNameError, ValueError)
    True
    """


def warn_user(message: str) -> None:
    """Issue a :class:`ProbeWarning` that points at the innermost line outside of this package and of PyTorch.

    Parameters
    ----------
    message
        The text of the warning.

    Examples
    --------
    >>> import warnings
    >>> from probe.errors import warn_user
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_user("Expected an observation, got none; call observe(step)")
    >>> caught[0].category.__name__
    'ProbeWarning'
    """
    level = 2
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller.f_globals.get("__name__", "").split(".")[0] in ("probe", "torch"):
        level, caller = level + 1, caller.f_back
    warnings.warn(message, ProbeWarning, stacklevel=level)
