"""Models whose parameters ``fully_shard`` (FSDP2) divides among ranks.

Each rank holds a part of each parameter. A forward pass gathers the parts of one group of modules after the other, so
all ranks must make the same passes, and each pass must run to its end.
"""

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


def is_sharded(model: nn.Module) -> bool:
    """Return whether ``fully_shard`` was applied to a model. Its module is loaded if it was."""
    fsdp = sys.modules.get("torch.distributed.fsdp")
    return fsdp is not None and isinstance(model, fsdp.FSDPModule)


def is_distributed(tensor: Tensor) -> bool:
    """Return whether a tensor is a ``DTensor``."""
    return getattr(tensor, "_local_tensor", None) is not None


def local_part(tensor: Tensor) -> Tensor:
    """Return the numbers of a tensor on this rank, which are all if it is not distributed."""
    return getattr(tensor, "_local_tensor", tensor)


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor with the numbers of all ranks. For a distributed one, all ranks must call this together."""
    distributed: Any = tensor
    return cast(Tensor, distributed.detach().full_tensor()) if is_distributed(tensor) else tensor


def refuse_sharded(model: nn.Module, purpose: str) -> None:
    """Raise ValueError if a model is sharded."""
    if is_sharded(model):
        raise ValueError(
            f"Expected whole parameters for {purpose}, got a model that fully_shard divides; leave out this probe, or "
            "observe an unsharded copy of the model"
        )


class Shards:
    """The parts of a model that ``fully_shard`` has made, and what a forward pass changes in them.

    A pass without gradients leaves the parameters of the last group gathered. It also adds to the order of modules,
    from which the next backward pass finds what to gather early.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self._modules: list[Any] = [module for module in modules if is_sharded(module)]
        self.order: Any = None

    def reshard(self) -> None:
        """Let each module hold its own part only. Undo what an interrupted pass has left."""
        for module in self._modules:
            module.reshard()

    def recover(self) -> None:
        """Make the model usable after a pass that has not reached its end, and reshard it."""
        if any(_runs(module) for module in self._modules):
            roots = [module for module in self._modules if getattr(module._get_fsdp_state(), "_is_root", None)]
            for root in roots:
                getattr(root, "reset_iter_state", root.reshard)()  # of PyTorch since 2.12
        self.reshard()

    def keep_order(self) -> None:
        """Keep the order of modules in passes so far."""
        self.order = [list(found) for found in self._orders()]

    def restore_order(self) -> None:
        """Restore the order of modules."""
        for found, kept in zip(self._orders(), self.order or (), strict=False):
            if found != kept:
                found[:] = kept

    def _orders(self) -> Iterator[list[Any]]:
        """Yield the lists that passes append to: one of all groups, and one of each group."""
        seen = set[int]()
        for module in self._modules:
            state = module._get_fsdp_state()
            for group in getattr(state, "_fsdp_param_groups", ()):
                lists = [getattr(state._comm_ctx, "post_forward_order", None), group._post_forward_indices]
                for found in lists:
                    if found is not None and id(found) not in seen:
                        seen.add(id(found))
                        yield found


def begin_shards(model: nn.Module) -> None:
    """Do what the first forward pass of a sharded model does to its hooks, and reshard the model."""
    if is_sharded(model):
        state: Any = model._get_fsdp_state()  # type: ignore[operator]
        state._lazy_init()
        Shards(model.modules()).reshard()


def _runs(module: Any) -> bool:
    """Return whether a pass through a module was begun and has not ended."""
    return getattr(module._get_fsdp_state()._training_state, "name", "IDLE") != "IDLE"


def recovering(model: nn.Module) -> AbstractContextManager[None]:
    """Return a context manager for a forward pass, after which a model is sharded and usable, also after an error.

    Parameters that stay gathered have the dtype of the pass, which can have fewer bits.
    """
    return _recovering(model) if is_sharded(model) else nullcontext()


@contextmanager
def _recovering(model: nn.Module) -> Iterator[None]:
    try:
        yield
    finally:
        Shards(model.modules()).recover()


def is_inner(model: Any) -> bool:
    """Return whether another module that ``fully_shard`` divides contains a sharded model.

    A pass through the inner module alone would make it the root of the gathering, so that the other one could not run.
    Before the first pass of the training, only the other module has the reference.
    """
    root = model._get_fsdp_state()._is_root
    if root is not None:
        return not root
    fsdp = sys.modules["torch.distributed.fsdp"].FSDPModule
    others = [one for one in gc.get_objects() if issubclass(type(one), fsdp) and one is not model]
    return any(inner is model for other in others for inner in other.modules())


def is_stage(model: Any) -> bool:
    """Return whether an object is a stage or a schedule of a pipeline."""
    return any(kind.__module__.startswith("torch.distributed.pipelining") for kind in type(model).__mro__)


def n_ranks() -> int:
    """Return the number of ranks of the training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def n_ranks_of(model: nn.Module) -> int:
    """Return the number of ranks that train a model together, as far as the model has it; else that of the training."""
    size = n_ranks()
    groups = [one.process_group.size() for one in model.modules() if isinstance(one, DistributedDataParallel)]
    meshes = [one.device_mesh.size() for one in _parts(model, sys.modules.get("torch.distributed.tensor")).values()]
    return min([*groups, *meshes, size])


def divided_otherwise(model: nn.Module) -> dict[str, str]:
    """Return names of what is divided among ranks, except by ``fully_shard`` over all ranks, and how it is divided."""
    fsdp, tensor = (sys.modules.get(f"torch.distributed.{name}") for name in ("fsdp", "tensor"))
    modules = dict(model.named_modules())
    wrapped = [name for name, one in modules.items() if fsdp and isinstance(one, fsdp.FullyShardedDataParallel)]
    managed = [name for name, one in modules.items() if "_is_fsdp_managed_module" in vars(one)]
    if wrapped or (managed and not any(is_sharded(one) for one in modules.values()) and not _parts(model, tensor)):
        return {name or "the whole model": "FullyShardedDataParallel (FSDP1)" for name in wrapped or managed}
    parts = _parts(model, tensor)
    if parts and not is_sharded(model):
        part = any(is_sharded(one) for one in modules.values())
        return dict.fromkeys(parts, "fully_shard of some submodules only" if part else "tensor parallelism")
    axes = {name: sum(place.is_shard() for place in one.placements) for name, one in parts.items()}
    found = {name: "tensor parallelism" for name, number in axes.items() if number > 1}
    size = n_ranks()
    return found or {
        name: f"a mesh of {one.device_mesh.size()} of {size} ranks (pipeline or expert parallelism)"
        for name, one in parts.items()
        if one.device_mesh.size() != size
    }


def _parts(model: nn.Module, tensor: Any) -> dict[str, Any]:
    """Return the distributed parameters and buffers by name."""
    held = [*model.named_parameters(), *model.named_buffers()]
    return {name: one for name, one in held if tensor is not None and isinstance(one, tensor.DTensor)}
