"""Which files of a folder are logs, of which form, and which of them belong to one run."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from probe.readers.formats import csv, huggingface, jsonl, lightning, mlflow, native, tensorboard, wandb

# The first whose ``claims`` holds reads a file; in a folder, the first that has any files reads those.
# A reader has NAME, claims(path), run_of(path) and read(files of one run, axis) -> {label: Log}.
READERS: dict[str, ModuleType] = {
    reader.NAME: reader for reader in (native, tensorboard, huggingface, wandb, lightning, mlflow, csv, jsonl)
}
_ALSO = {".json": jsonl, ".txt": csv, ".dat": csv}  # read if they are named, not looked for


class Found(NamedTuple):
    """Logs of one form: files by run, as ``run_of`` names it, and what was passed over."""

    reader: ModuleType
    runs: dict[Path, list[Path]]
    said: list[str]


def find(path: Path, form: str | None = None) -> Found:
    """The logs at a path.

    Raises
    ------
    FileNotFoundError
        There is nothing at the path, or no log in it.
    ValueError
        An unknown form.
    """
    if form is not None and form not in READERS:
        raise ValueError(f"expected one of the forms {', '.join(READERS)}, got {form!r}")
    if path.is_dir():
        return _in_folder(path, form)
    if not path.exists() and not native.journal_of(path).exists():
        raise FileNotFoundError(f"no series at {path}, and no log")
    reader = READERS[form] if form else _reader(path) or _ALSO.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path.name} is no log that is known; name its form (--form): one of {', '.join(READERS)}")
    return Found(reader, {reader.run_of(path): [path]}, [])


def _in_folder(folder: Path, form: str | None) -> Found:
    files: dict[str, list[Path]] = {}
    for file in _walk(folder):
        if reader := _reader(file):
            files.setdefault(reader.NAME, []).append(file)
    known = [name for name in READERS if name in files and form in (None, name)]
    if not known:
        raise FileNotFoundError(
            f"no log{f' of the form {form}' if form else ''} in the folder {folder}; looked for event files, "
            "metrics.csv, trainer_state.json, *.csv, *.jsonl, *.wandb, MLflow runs and *.nc"
        )
    reader, said = READERS[known[0]], []
    if others := {name: len(files[name]) for name in files if name != known[0]}:
        told = ", ".join(f"{count} of {name}" for name, count in others.items())
        said.append(f"read: {len(files[known[0]])} files of {known[0]}; also there, and not read: {told} (form=)")
    runs: dict[Path, list[Path]] = {}
    for file in files[known[0]]:
        runs.setdefault(reader.run_of(file), []).append(file)
    return Found(reader, runs, said)


def _walk(folder: Path) -> Iterator[Path]:
    """All files, sorted; links to folders are not followed (W&B links the latest run)."""
    for here, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(here, name) for name in sorted(files))


def _reader(path: Path) -> ModuleType | None:
    return next((reader for reader in READERS.values() if reader.claims(path)), None)


def labels(runs: Sequence[Path]) -> list[str]:
    """Short names of runs: their paths without what all share at either end, and without suffixes."""
    parts = [run.with_suffix("").parts if run.is_file() else run.parts for run in runs]
    if len(parts) < 2:
        return ["" for _ in parts]
    shared = next((i for i, level in enumerate(zip(*parts, strict=False)) if len({*level}) > 1), min(map(len, parts)))
    parts = [part[shared:] or (".",) for part in parts]  # "." is the folder that the others stand in
    while len({part[-1] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[:-1] for part in parts]
    return ["/".join(part) for part in parts]
