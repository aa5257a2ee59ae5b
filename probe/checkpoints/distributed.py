"""Weights saved by ``torch.distributed.checkpoint``. Its metadata is a pickle, of which only known types are read."""

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from probe.checkpoints.weights import DamagedCheckpointError, Weights

_METADATA = "torch.distributed.checkpoint.metadata"
_TYPES = {
    *((_METADATA, name) for name in ("Metadata", "TensorStorageMetadata", "BytesStorageMetadata", "TensorProperties")),
    *((_METADATA, name) for name in ("ChunkStorageMetadata", "MetadataIndex", "StorageMeta", "_MEM_FORMAT_ENCODING")),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("collections", "OrderedDict"),
    *((module, name) for module in ("pathlib", "pathlib._local") for name in ("PosixPath", "PurePosixPath")),
    *(("pathlib", name) for name in ("WindowsPath", "PureWindowsPath")),
}


class _Unpickler(pickle.Unpickler):
    """Reader of metadata that creates the types of such metadata and no other object."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _TYPES or (module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"{module}.{name} is no type of such metadata")


class _Reader(FileSystemReader):
    """Reader of a folder that unpickles its metadata with :class:`_Unpickler`."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        with open(Path(self.path) / ".metadata", "rb") as file:
            found: Metadata = _Unpickler(file).load()
        found.storage_meta = getattr(found, "storage_meta", None) or StorageMeta()
        found.storage_meta.load_id = self.load_id
        return found


def read_distributed(folder: Path) -> Weights:
    """Return the weights in a folder. Shards of all processes are joined."""

    def read(names: Sequence[str]) -> dict[str, Tensor]:
        found = {name: torch.empty(entries[name].size, dtype=entries[name].properties.dtype) for name in names}
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="torch.distributed is disabled", category=UserWarning)
                load(found, storage_reader=_Reader(folder), no_dist=True)
        except (Exception, CheckpointException) as error:  # the second is no subclass of the first
            raise _damaged(folder, error) from error
        return found

    try:
        metadata = _Reader(folder).read_metadata()
        entries = {
            name: entry
            for name, entry in metadata.state_dict_metadata.items()
            if isinstance(entry, TensorStorageMetadata)
        }
        return Weights({name: tuple(entry.size) for name, entry in entries.items()}, read)
    except Exception as error:  # a damaged pickle raises errors of many classes
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: BaseException) -> DamagedCheckpointError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
    return DamagedCheckpointError(
        f"Expected a checkpoint of torch.distributed in {folder}, got a damaged or incomplete one ({reason}); copy the "
        "whole folder"
    )
