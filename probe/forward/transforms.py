"""Values inside ``torch.vmap`` and other transforms of ``torch.func``, whose tensors must not leave the transform."""

from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

Look = Callable[[Tensor], Tensor]
_functorch: Any = torch._C._functorch
_places = WeakKeyDictionary[nn.Module, dict[str, dict[int, int]]]()


def places_of_maps(model: nn.Module, site: str) -> dict[int, int]:
    """Return the known places of the mapped axes at a site, see :func:`look_through`."""
    return _places.setdefault(model, {}).setdefault(site, {})


def is_transformed(tensor: Tensor) -> bool:
    """Return whether a tensor has no memory of its own, as inside ``torch.vmap``."""
    try:
        tensor.data_ptr()
    except RuntimeError:
        return True
    return False


def is_differentiated(tensor: Tensor) -> bool:
    """Return whether a transform of ``torch.func`` computes derivatives with respect to a tensor (grad, vjp, jvp)."""
    return any(map(_functorch.is_gradtrackingtensor, _levels(tensor)))


def _levels(tensor: Tensor) -> Iterator[Tensor]:
    """Yield a tensor of a transform, and those inside it that belong to the transforms around this one."""
    while _functorch.is_functorch_wrapped_tensor(tensor):
        yield tensor
        tensor = _functorch.get_unwrapped(tensor)


def _is_mapped(tensor: Tensor, n: int) -> bool:
    """Return whether some map around a value has ``n`` inputs."""
    maps = filter(_functorch.is_batchedtensor, _levels(tensor))
    return any(_functorch.get_unwrapped(one).shape[_functorch.maybe_get_bdim(one)] == n for one in maps)


def look_through(tensor: Tensor, n: int, look: Look, known: dict[int, int]) -> Tensor:
    """Call a function on the whole tensor behind one of a transform, and return the value that replaces it.

    The mapped axis comes first. If ``tensor`` itself has ``n`` rows (an ensemble on the same inputs), it comes second,
    unless a map further out has ``n`` inputs, so that the axis of ``tensor`` has this length by chance. An ensemble of
    ``n`` members allows both: then the place of the axis is that of earlier passes, as ``known`` has it by level.
    """
    unchanged: list[bool] = []

    def place(x: Tensor) -> int:
        level, first = len(list(_levels(x))), x.shape[0] == n
        second = x.shape[1:2] == (n,) and not _is_mapped(x, n)
        if first != second:
            known[level] = int(second)
        return known.get(level, 0)

    def watched(value: Tensor) -> Tensor:
        new = look(value)
        unchanged.append(new is value)
        return new

    new = _Look.apply(tensor, place, watched)
    return tensor if all(unchanged) else new


class _Look(torch.autograd.Function):
    """Function of the whole tensor, with the rules of an identity."""

    @staticmethod
    def forward(x: Tensor, place: Callable[[Tensor], int], look: Look) -> Tensor:
        return look(x).clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0], None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        return tangents[0].clone()

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, place: Callable[[Tensor], int], look: Look) -> tuple[Tensor, int]:
        x = x.movedim(in_dims[0], 0)
        axis = place(x)
        return _Look.apply(x.movedim(0, axis), place, look), axis
