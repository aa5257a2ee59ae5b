"""Files below a folder: in natural order, each once, without hidden files and files that are never logs."""

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

_SKIPPED_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
# Code, settings, weights, data, media: never read, however many there are.
_SKIPPED = re.compile(
    r"\.(py|pyc|pyi|ipynb|md|rst|tex|bib|html|css|js|ts|c|h|cc|cpp|cu|rs|go|sh|bat|so|o|a|ya?ml|toml|cfg|ini|lock|xml|pdf"
    r"|svg|png|jpe?g|gif|bmp|webp|tiff?|ico|mp4|avi|mov|wav|mp3|flac|pth?|ckpt|safetensors|bin|onnx|gguf|h5|hdf5|npy"
    r"|pkl|pickle|parquet|arrow|feather|tfrecords?|zip|tar|tgz|whl|7z|model|spm|tmp|lck)",
    re.IGNORECASE,
)
_BYSTANDERS = re.compile(
    r"(requirements|constraints|readme|licen[cs]e|notice|changelog|vocab|merges|cmakelists)\b[^.]*(\.txt|\.json)?"
    r"|(package|package-lock|config|adapter_config|generation_config|preprocessor_config|special_tokens_map|added_tokens"
    r"|tokenizer|tokenizer_config|tsconfig|wandb-metadata|hparams|hyperparameters|args|params|dataset_infos?)\.json"
    r"|makefile|dockerfile",
    re.IGNORECASE,
)
_MOST = 2_000_000  # files and folders


def files_below(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder.

    A file or folder to which several links lead is yielded once, at its own place if that is below the folder.

    Links to a folder above are ignored.

    Raises
    ------
    ValueError
        If there are more than two million files and folders, as below the root.
    """
    above = [parent.stat() for parent in folder.resolve().parents]
    seen, n_entries = {(one.st_dev, one.st_ino) for one in above}, 0
    waiting, links = [folder], list[Path]()
    while waiting or links:
        here = waiting.pop() if waiting else links.pop(0)
        mode = _new_mode(here, seen)
        if stat.S_ISREG(mode):
            yield here
        elif stat.S_ISDIR(mode):
            entries, linked = _entries(here)
            waiting += reversed(entries)
            links += linked  # after all that is no link
            n_entries += len(entries) + len(linked)
        if n_entries > _MOST:
            raise ValueError(f"Expected at most {_MOST:,} files below {folder}, got more; name the folder of the logs")


def _new_mode(path: Path, seen: set[tuple[int, int]]) -> int:
    """Return the mode of a file or folder; 0 if it is not there or was seen before."""
    try:
        found = path.stat()
    except OSError:
        return 0
    key = (found.st_dev, found.st_ino)
    if key in seen:
        return 0
    seen.add(key)
    return found.st_mode


def _entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return files before folders, and links, in natural order. A folder that cannot be read has none."""
    files, folders, links = list[Path](), list[Path](), list[Path]()
    try:
        with os.scandir(folder) as found:
            for entry in found:
                is_folder = entry.is_dir(follow_symlinks=False)
                if not _is_skipped(entry.name, is_folder):
                    kind = links if entry.is_symlink() else folders if is_folder else files
                    kind.append(Path(entry.path))
    except OSError:
        return [], []
    if (folder / "pyvenv.cfg").exists():
        return [], []
    return sorted(files, key=natural) + sorted(folders, key=natural), sorted(links, key=natural)


def natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a key of the name by which seed2 comes before seed10."""
    parts = re.split(r"(\d{1,18})", path.name)
    return [(0, int(part), "") if i % 2 else (1, 0, part) for i, part in enumerate(parts)]


def _is_skipped(name: str, is_folder: bool) -> bool:
    """Return whether no log has this name."""
    if name.startswith("."):
        return True
    if is_folder:
        return name in _SKIPPED_FOLDERS
    return bool(_SKIPPED.fullmatch(os.path.splitext(name)[1]) or _BYSTANDERS.fullmatch(name))
