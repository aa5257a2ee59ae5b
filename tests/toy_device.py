"""A device without hardware: it queues copies to the CPU, refuses to mix devices, and lists what waits for it.

The numbers of its tensors lie on the CPU, behind a class that hides them. A queued copy to the CPU holds wrong numbers
until the program waits for the device, so code that reads too early returns wrong values.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "toy"
# operations whose result, or its shape, the program needs before it goes on
WAITING = {
    *("_local_scalar_dense", "equal", "is_nonzero", "nonzero", "_unique2", "unique_dim", "unique_consecutive"),
    *("masked_select", "bincount", "histc", "repeat_interleave", "allclose"),
    *("_linalg_eigh", "_linalg_svd", "linalg_cholesky_ex", "_linalg_solve_ex", "linalg_qr", "_linalg_eigvals"),
}
COPIES = {"_to_copy", "copy_"}


class Stream:
    """The queue of the device, with copies to the CPU that have not arrived."""

    def __init__(self) -> None:
        self.pending: list[tuple[Tensor, Tensor]] = []
        self.waits: list[str] = []

    def queue(self, target: Tensor, numbers: Tensor) -> Tensor:
        """Fill a tensor on the CPU with wrong numbers until the next wait."""
        self.pending.append((target, numbers.clone()))
        _overwrite(target, torch.full_like(numbers, 77))
        return target

    def synchronize(self) -> None:
        self.waits.append(f"synchronize in {_caller()}")
        self.arrive()

    def arrive(self) -> None:
        for target, numbers in self.pending:
            _overwrite(target, numbers)
        self.pending.clear()


STREAM = Stream()


class Backend:
    """What PyTorch and the code under test ask of the module of a device."""

    @staticmethod
    def current_stream(device: Any = None) -> Stream:
        return STREAM

    @staticmethod
    def is_available() -> bool:
        return True

    is_initialized = is_available

    @staticmethod
    def _is_in_bad_fork() -> bool:
        return False

    @staticmethod
    def manual_seed_all(seed: int) -> None:
        pass

    @staticmethod
    def current_device() -> int:
        return 0

    @staticmethod
    def device_count() -> int:
        return 1


_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
DEVICE = torch.device(NAME, 0)


class OnDevice(Tensor):
    """A tensor of the device. ``hidden`` holds its numbers."""

    hidden: Tensor

    @staticmethod
    def __new__(cls, hidden: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            hidden.shape,
            strides=hidden.stride(),
            storage_offset=hidden.storage_offset(),
            dtype=hidden.dtype,
            device=DEVICE,
        )
        made.hidden = hidden
        return made

    def __init__(self, hidden: Tensor) -> None:
        pass

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})

    def tolist(self) -> Any:
        STREAM.waits.append(f"tolist in {_caller()}")
        return self.hidden.tolist()

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"OnDevice({tuple(self.shape)})"


def _empty_strided(size: Any, stride: Any, dtype: Any = None, **kwargs: Any) -> Tensor:
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _hidden(target).copy_(_hidden(source))
    return target


LIBRARY = torch.library.Library("aten", "IMPL")  # for lists as indices, which C++ converts
LIBRARY.impl("empty_strided", _empty_strided, "PrivateUse1")
LIBRARY.impl("_copy_from", _copy_from, "PrivateUse1")


class _Factories(TorchDispatchMode):
    """Makes tensors of the device where code asks for them by ``device=``."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, kwargs or {})


def _run(func: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
    """Run an operation as a device would."""
    name, device = func._schema.name.split("::")[1], kwargs.get("device")
    given = _tensors([args, dict(kwargs)])
    here = [one for one in given if isinstance(one, OnDevice)]
    to_device = device is not None and torch.device(device).type == NAME
    if not here and not to_device:
        return func(*args, **{**kwargs, "pin_memory": False} if kwargs.get("pin_memory") else kwargs)
    if name in COPIES:
        return _copy(name, func, args, kwargs, to_device)
    if device is not None and not to_device:
        return func(*tree_map(_hidden, args), **{**tree_map(_hidden, dict(kwargs)), "pin_memory": False})  # new_empty
    _refuse_mixed(name, here, given)
    if name in WAITING or _has_mask(name, args):
        STREAM.waits.append(f"{name} in {_caller()}")
    plain = {key: "cpu" if key == "device" else value for key, value in tree_map(_hidden, dict(kwargs)).items()}
    found = func(*tree_map(_hidden, args), **plain)
    known = {id(one.hidden): one for one in here}  # of operations in place
    return tree_map(lambda one: known[id(one)] if id(one) in known else _shown(one), found)


def _copy(name: str, func: Any, args: Any, kwargs: Mapping[str, Any], to_device: bool) -> Any:
    """Copy between the CPU and the device, or within the device. A copy that is not queued waits."""
    queued = kwargs.get("non_blocking") or (name == "copy_" and len(args) > 2 and args[2])
    source, target = (args[1], args[0]) if name == "copy_" else (args[0], None)
    leaves = isinstance(source, OnDevice) and (
        not isinstance(target, OnDevice) if target is not None else "device" in kwargs and not to_device
    )
    crosses = leaves or not isinstance(source, OnDevice)
    if crosses and not queued and source.ndim + leaves > 0:
        STREAM.waits.append(f"copy in {_caller()}")
        STREAM.arrive()
    if crosses and not leaves:
        _arrived(source)
    kept = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
    numbers = _hidden(source)
    if target is None:
        made = func(numbers, **kept)
        made = made.clone() if made is numbers or made.data_ptr() == numbers.data_ptr() else made
        return (STREAM.queue(made, made) if queued else made) if leaves else OnDevice(made)
    if leaves and queued:
        return STREAM.queue(target, numbers.to(target.dtype).expand_as(target))
    _hidden(target).copy_(numbers)
    return target


def _arrived(source: Tensor) -> None:
    """Deliver queued copies before the device reads them back: it works in the order of its queue."""
    if any(target.untyped_storage().data_ptr() == source.untyped_storage().data_ptr() for target, _ in STREAM.pending):
        STREAM.arrive()


def _refuse_mixed(name: str, here: list[Tensor], given: list[Tensor]) -> None:
    """Raise the error of a device for operands on the CPU, which single numbers and indices may be."""
    others = [one for one in given if not isinstance(one, OnDevice) and one.ndim]
    if others and not (name.startswith("index") and isinstance(given[0], OnDevice)):
        raise RuntimeError(f"Expected all tensors of {name} on {DEVICE}, got one on the CPU in {_caller()}")
    if others:
        STREAM.waits.append(f"copy of an index in {_caller()}")


def _has_mask(name: str, args: Any) -> bool:
    indices = args[1] if name.startswith("index") and len(args) > 1 and isinstance(args[1], (list, tuple)) else ()
    return any(isinstance(one, Tensor) and one.dtype in (torch.bool, torch.uint8) for one in indices)


def _tensors(tree: Any) -> list[Tensor]:
    found: list[Tensor] = []
    tree_map(lambda one: found.append(one) if isinstance(one, Tensor) else None, tree)
    return found


def _shown(one: Any) -> Any:
    return OnDevice(one) if isinstance(one, Tensor) else one


def _hidden(one: Any) -> Any:
    return one.hidden if isinstance(one, OnDevice) else one


def _overwrite(target: Tensor, numbers: Tensor) -> None:
    """Write numbers without a new version of the tensor, as a device does."""
    if target.numel():
        target.detach().numpy(force=True)[...] = numbers.to(target.dtype).numpy()


def _caller() -> str:
    """Return the line of the package that runs."""
    frame: Any = sys._getframe(1)
    while frame is not None and "/probe/" not in frame.f_code.co_filename.replace("\\", "/"):
        frame = frame.f_back
    return "no code of probe" if frame is None else f"{frame.f_code.co_filename.split('/probe/')[-1]}:{frame.f_lineno}"


def on_device(value: Any) -> Any:
    """Return a tensor, a module, or a container of tensors on the device."""
    if isinstance(value, nn.Module):
        for module in value.modules():
            for name, parameter in list(module._parameters.items()):
                if parameter is not None:
                    module._parameters[name] = nn.Parameter(OnDevice(parameter.data.clone()))
            for name, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[name] = OnDevice(buffer.clone())
        return value
    return tree_map(lambda one: OnDevice(one.clone()) if isinstance(one, Tensor) else one, value)


@contextmanager
def device_at_work() -> Iterator[list[str]]:
    """Context manager with the device. It returns the list of what waits for it."""
    STREAM.pending.clear()
    STREAM.waits.clear()
    with _Factories():
        yield STREAM.waits


def waits(call: Callable[[], object]) -> list[str]:
    """Return what waits for the device in a call."""
    before = len(STREAM.waits)
    call()
    return STREAM.waits[before:]
