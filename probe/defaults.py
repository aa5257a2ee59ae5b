"""The default type and device of new tensors: PyTorch's own for what probes compute, the user's inside the model.

Whoever calls ``torch.set_default_device("cuda")`` or ``torch.set_default_dtype(torch.float64)`` means his own code.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, TypeVar, cast

import torch

Defaults = tuple[torch.dtype, torch.device]
_Function = TypeVar("_Function", bound=Callable[..., Any])

_PLAIN: Defaults = torch.float32, torch.device("cpu")
_users: ContextVar[Defaults | None] = ContextVar("users", default=None)  # known within plain()
_nothing = nullcontext()


def plain() -> AbstractContextManager[None]:
    """PyTorch's own defaults inside."""
    return _nothing if _users.get() == _PLAIN else _plain()


def of_the_user() -> AbstractContextManager[None]:
    """Within :func:`plain`, the defaults that were outside of it."""
    users = _users.get() or _PLAIN
    return _nothing if users == _PLAIN else _set(users)


def as_the_user(function: _Function) -> _Function:
    """A function, to be called within :func:`plain`, with the defaults inside that were outside of it."""
    if (_users.get() or _PLAIN) == _PLAIN:
        return function

    def called(*args: Any) -> Any:
        with of_the_user():
            return function(*args)

    return cast(_Function, called)


@contextmanager
def _plain() -> Iterator[None]:
    users = _users.get() or _now()
    token = _users.set(users)
    try:
        with _nothing if users == _PLAIN else _set(_PLAIN):
            yield
    finally:
        _users.reset(token)


def _now() -> Defaults:
    made = torch.empty(0)  # quicker than asking
    return made.dtype, made.device


@contextmanager
def _set(wanted: Defaults) -> Iterator[None]:
    (dtype, device), before = wanted, _now()
    torch.set_default_dtype(dtype)
    try:
        with nullcontext() if device == before[1] else device:
            yield
    finally:
        torch.set_default_dtype(before[0])
