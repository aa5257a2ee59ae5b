"""Discovery of logs: which files of a folder are logs, of which format, and which of them belong to one run."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from probe.readers.formats import csv, huggingface, jsonl, lightning, long, mlflow, native, tensorboard, wandb
from probe.readers.reader import Candidate, Reader
from probe.readers.text import check_file
from probe.recording.lines import journal_of

# The first reader that matches a file reads it, so special formats come before tables. In a folder, the first reader
# that matches any file is used.
READERS: dict[str, Reader] = {
    module.READER.name: module.READER
    for module in (
        native,
        tensorboard,
        huggingface,
        wandb,
        lightning,
        mlflow,
        long,
        csv,
        jsonl,
    )
}


class RunFiles(NamedTuple):
    """The files of one run, or of the runs that one file holds, and their reader."""

    reader: Reader
    path: Path
    files: list[Path]


class FoundLogs(NamedTuple):
    """Logs at a path.

    Attributes
    ----------
    runs : list of RunFiles
    notes : list of str
        Which files were ignored.
    """

    runs: list[RunFiles]
    notes: list[str]


def find_logs(path: Path, format: str | None = None) -> FoundLogs:
    """Return the logs at a path.

    Raises
    ------
    FileNotFoundError
        If there is no file at the path, or no log in the folder.
    OSError
        If there is a pipe or a device at the path.
    ValueError
        If the format is unknown.
    """
    if format is not None and format not in READERS:
        raise ValueError(f"Expected one of the formats {', '.join(READERS)}, got {format!r}; choose one of them")
    if path.is_dir():
        return _find_in_folder(path, format)
    if not path.exists() and not journal_of(path).exists():
        raise FileNotFoundError(f"Expected a log or a recording at {path}, got none; check the path")
    if path.exists():
        check_file(path)
    reader = READERS[format] if format else _matching(path) or _by_suffix(path)
    if reader is None:
        raise ValueError(
            f"Expected a log of a known format, got {path.name}; name its format with format= (--format), one of "
            f"{', '.join(READERS)}"
        )
    return FoundLogs([RunFiles(reader, reader.run_path(path), [path])], [])


def _find_in_folder(folder: Path, format: str | None) -> FoundLogs:
    files: dict[str, list[Path]] = {}
    for file in _walk(folder):
        if reader := _matching(file):
            files.setdefault(reader.name, []).append(file)
    present = [name for name in READERS if name in files and format in (None, name)]
    if not present:
        patterns = ", ".join(reader.files for name, reader in READERS.items() if format in (None, name))
        kind = f" of the format {format}" if format else ""
        raise FileNotFoundError(f"Expected a log{kind} in the folder {folder}, got none of {patterns}; check the path")
    reader = READERS[present[0]]
    runs: dict[Path, list[Path]] = {}
    for file in files[reader.name]:
        runs.setdefault(reader.run_path(file), []).append(file)
    ignored = ", ".join(f"{len(others)} of {name}" for name, others in files.items() if name != reader.name)
    read = f"read {len(files[reader.name])} files of {reader.name}"
    notes = [f"{read}; ignored {ignored}, which format= reads"] if ignored else []
    return FoundLogs([RunFiles(reader, path, own) for path, own in runs.items()], notes)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield all files in sorted order, without pipes, sockets and devices.

    Links to folders are ignored, because W&B links the latest run.
    """
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        paths = (Path(here, name) for name in sorted(files))
        yield from (path for path in paths if path.is_file() or not path.exists())


def _matching(path: Path) -> Reader | None:
    candidate = Candidate(path)
    return next((reader for reader in READERS.values() if reader.matches(candidate)), None)


def _by_suffix(path: Path) -> Reader | None:
    return next((reader for reader in READERS.values() if path.suffix.lower() in reader.suffixes), None)


def run_labels(runs: Sequence[Path]) -> list[str]:
    """Return short labels of runs: their paths without common parts at both ends and without suffixes."""
    parts = [run.with_suffix("").parts if run.is_file() else run.parts for run in runs]
    if len(parts) < 2:
        return ["" for _ in parts]
    shared = next((i for i, level in enumerate(zip(*parts, strict=False)) if len({*level}) > 1), min(map(len, parts)))
    parts = [part[shared:] or (".",) for part in parts]  # "." is the folder that holds the others
    while len({part[-1] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[:-1] for part in parts]
    return ["/".join(part) for part in parts]
