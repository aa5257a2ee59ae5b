"""The warnings and errors of the package, so that a program can filter and catch them."""

import re
import sys
import warnings
from types import FrameType

__all__ = [
    "DuplicateNameError",
    "ModelChangedError",
    "ProbeWarning",
    "RankError",
    "RanksApartError",
    "printable",
    "warn_user",
]

# Control characters except tab and line end, characters that reverse the text after them, halves of characters.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


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


class ModelChangedError(RuntimeError):
    """An observation has changed numbers of the model, and cannot restore them. Observing stops.

    Examples
    --------
    >>> from probe.errors import ModelChangedError
    >>> issubclass(ModelChangedError, RuntimeError)
    True
    """


class RankError(RuntimeError):
    """A rank of the training has failed in a measurement that all ranks make together.

    Attributes
    ----------
    place : str
        Where it has reported this.

    Examples
    --------
    >>> from probe.errors import RankError
    >>> issubclass(RankError, RuntimeError)
    True
    """

    place: str = ""


class RanksApartError(RuntimeError):
    """The ranks of a training are not at the same point of an observation, or a rank is missing. Observing stops.

    Examples
    --------
    >>> from probe.errors import RanksApartError
    >>> issubclass(RanksApartError, RuntimeError)
    True
    """


def printable(text: str) -> str:
    r"""Return a text without characters that a terminal would execute, such as those of an escape sequence.

    Parameters
    ----------
    text
        Any text, such as a name in a log.

    Returns
    -------
    str
        The text with such characters in the notation of Python. Tab and line end stay.

    Examples
    --------
    >>> from probe.errors import printable
    >>> print(printable("loss" + chr(27) + "[2J"))
    loss\x1b[2J
    """
    return _UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def warn_user(message: str) -> None:
    """Issue a :class:`ProbeWarning` that points at the innermost line outside of this package and of PyTorch.

    Parameters
    ----------
    message
        The text of the warning. See :func:`printable` for names with control characters.

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
    warnings.warn(printable(message), ProbeWarning, stacklevel=level)
