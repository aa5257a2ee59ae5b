"""Load the weights of a checkpoint into a model, and name the first one that does not fit."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from probe.checkpoints.weights import Weights
from probe.errors import warn_user

_STATES = ("model_state_dict", "state_dict", "model", "model_state", "module", "_orig_mod")


def load_weights(model: nn.Module, weights: Weights, where: str, key: str | None) -> None:
    """Copy all weights into the model.

    Names may have a prefix, such as that of an entry or of a wrapper. ``key`` is the entry or prefix to take.

    Raises
    ------
    ValueError
        If a weight is missing, has another shape or is unknown to the model, or several entries fit.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    tied = _tied(own)
    prefix = _prefix(own, tied, weights.shapes, where, key)
    _check_shapes(own, tied, weights.shapes, prefix, where)
    there = [name for name in own if prefix + name in weights.shapes]
    values = weights.read([prefix + name for name in there])
    state = {name: values[prefix + name] for name in there}
    _check_numbers(own, tied, state, where)
    if rounded := [name for name in there if _is_narrower(own[name], state[name])]:
        warn_user(
            f"Expected a model of the type of the weights, got {own[rounded[0]].dtype} for {rounded[0]} of type "
            f"{state[rounded[0]].dtype} in {where}; they are rounded. Build the model in the type of the checkpoint"
        )
    model.load_state_dict(state, strict=False)


def fits(model: nn.Module, weights: Weights) -> bool:
    """Return whether the names in a checkpoint are those of the model, apart from tied weights."""
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    tied = _tied(own)
    return set(weights.shapes) <= set(own) and all(_is_there(n, tied, weights.shapes, "") for n in own)


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the weights of a model by name."""
    return {name: tuple(value.shape) for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def layout_of(model: nn.Module) -> Any:
    """Return the classes of the modules, and shapes and types of all tensors, by name."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return (
        [(name, type(module)) for name, module in model.named_modules()],
        [(name, value.shape, value.dtype, value.device) for name, value in tensors],
    )


def check_same(first: Mapping[str, tuple[int, ...]], shapes: Mapping[str, tuple[int, ...]], where: str) -> None:
    """Raise ValueError if a model has other weights than the first one."""
    for name in [*first, *shapes]:
        if first.get(name) != shapes.get(name):
            raise mismatch(name, first.get(name), shapes.get(name), where)


def mismatch(name: str, own: Any, there: Any, where: str) -> ValueError:
    """Return the error about a weight of another shape in the model and in the checkpoint; None: there is none."""
    shape = None if own is None else tuple(own)
    if own is None:
        text = f"Expected no other weights than those of the model in {where}, got {name} of shape {tuple(there)}"
    elif there is None:
        text = f"Expected {name} of shape {shape} in {where}, as the model has, got no weight of this name"
    else:
        text = f"Expected {name} of shape {shape} in {where}, as the model has, got shape {tuple(there)}"
    return ValueError(f"{text}; the checkpoint belongs to another architecture, so correct build= (--model)")


def _tied(own: Mapping[str, Tensor]) -> dict[str, list[str]]:
    """Return for each name all names of the same numbers."""
    groups: dict[Any, list[str]] = {}
    for name, value in own.items():
        is_empty = value.numel() == 0 or value.is_meta
        groups.setdefault(name if is_empty else (value.data_ptr(), value.shape, value.stride()), []).append(name)
    return {name: names for names in groups.values() for name in names}


def _is_there(name: str, tied: Mapping[str, list[str]], names: Any, prefix: str) -> bool:
    return any(prefix + other in names for other in tied[name])


def _prefix(
    own: Mapping[str, Tensor], tied: Mapping[str, list[str]], names: Iterable[str], where: str, key: str | None
) -> str:
    """Return what stands before the names of the model in the checkpoint."""
    there = set(names)
    if key is not None:
        there = {name for name in there if name.startswith((f"{key}/", f"{key}."))}
        if not there:
            listed = ", ".join(sorted({name.split("/")[0] for name in names})[:8])
            raise ValueError(f"Expected an entry {key!r} in {where}, got none; there are: {listed}")
    counts: dict[str, int] = {}
    for name in there:
        for start in _starts(name, own):
            counts[start] = counts.get(start, 0) + 1
    whole = [start for start in counts if all(_is_there(name, tied, there, start) for name in own)]
    usual = [start for start in whole if not start or start.rstrip("./").replace("/", ".").split(".")[0] in _STATES]
    found = whole if len(whole) < 2 else usual or whole
    if len(found) > 1 and "" not in found:
        raise ValueError(
            f"Expected one set of weights in {where}, got {', '.join(sorted(found))}; name one with state_key= "
            "(--state-key)"
        )
    if found:
        return "" if "" in found else found[0]
    if not counts:
        listed = ", ".join(sorted(there)[:4]) or "no tensors"
        raise ValueError(
            f"Expected the weights of the model in {where}, got {listed}, and no name of the "
            "model; correct build= (--model)"
        )
    return max(sorted(counts), key=counts.__getitem__)


def _starts(name: str, own: Mapping[str, Tensor]) -> list[str]:
    """Return what may stand before a name of the model."""
    places = [0, *(i + 1 for i, letter in enumerate(name) if letter in "./")]
    return [name[:place] for place in places if name[place:] in own]


def _check_shapes(
    own: Mapping[str, Tensor], tied: Mapping[str, list[str]], shapes: Mapping[str, Any], prefix: str, where: str
) -> None:
    for name, value in own.items():
        there = shapes.get(prefix + name)
        if there != tuple(value.shape) and not (there is None and _is_there(name, tied, shapes, prefix)):
            raise mismatch(name, value.shape, there, where)
    for name, shape in shapes.items():
        rest = name.removeprefix(prefix)
        if name.startswith(prefix) and "/" not in rest and rest not in own:
            raise mismatch(rest, None, shape, where)


def check_values(model: nn.Module) -> None:
    """Raise ValueError if a tensor of a model has no values, which a checkpoint could not replace."""
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(value) or value.is_meta:
            kind = "without a shape (lazy)" if is_lazy(value) else "on the meta device"
            raise ValueError(
                f"Expected a model whose tensors have values, got {name} {kind}; call a lazy model once, or build the "
                "model on the CPU"
            )


def _check_numbers(
    own: Mapping[str, Tensor], tied: Mapping[str, list[str]], state: Mapping[str, Tensor], where: str
) -> None:
    """Raise ValueError for values that the model cannot hold: integers, complex numbers, two values of one weight."""
    for name, value in state.items():
        is_integer = not (value.is_floating_point() or value.is_complex())
        if (own[name].is_floating_point() and is_integer) or (value.is_complex() and not own[name].is_complex()):
            raise ValueError(
                f"Expected {name} of type {own[name].dtype} in {where}, as the model has, got {value.dtype}; convert "
                "the checkpoint, such as weights that are stored as integers with a scale"
            )
        first = next(other for other in tied[name] if other in state)
        if first != name and not _are_equal(state[first], value):
            raise ValueError(
                f"Expected the same values of {first} and {name} in {where}, which are one weight of the model, got "
                "others; correct build= (--model), so that these weights are not tied"
            )


def _are_equal(one: Tensor, other: Tensor) -> bool:
    if one.data_ptr() == other.data_ptr():
        return True
    return one.dtype == other.dtype and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _is_narrower(own: Tensor, value: Tensor) -> bool:
    return own.is_floating_point() and value.is_floating_point() and own.itemsize < value.itemsize
