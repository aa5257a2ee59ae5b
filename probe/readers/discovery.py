"""Discovery of logs: which files of a folder are logs, of which format, and which of them belong to one run."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from probe.readers.folders import files_below
from probe.readers.formats import (
    catboost,
    csv,
    dvclive,
    huggingface,
    jsonl,
    lightning,
    lines,
    long,
    mlflow,
    native,
    npz,
    openmmlab,
    results,
    tensorboard,
    tensorboard_export,
    trackio,
    wandb,
)
from probe.readers.reader import Candidate, Reader
from probe.readers.text import check_file
from probe.readers.waiting import counted
from probe.recording.lines import journal_of

# The first reader that matches a file reads it, so special formats come before tables.
READERS: dict[str, Reader] = {
    module.READER.name: module.READER
    for module in (
        native,
        tensorboard,
        huggingface,
        wandb,
        lightning,
        mlflow,
        trackio,
        dvclive,
        catboost,
        tensorboard_export,
        npz,
        openmmlab,
        results,
        long,
        jsonl,
        lines,
        csv,
    )
}


_UNPACK = "unpack it, and name the folder"
_AS_CSV = "write it as CSV, or pass the DataFrame to probe.read"
_ADVICE = {  # by the end of the name
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar"), _UNPACK),
    ".zst": "decompress it with unzstd",
    **dict.fromkeys((".xlsx", ".xls", ".ods", ".parquet", ".feather", ".arrow", ".pkl", ".pickle", ".h5"), _AS_CSV),
    **dict.fromkeys((".npy", ".mat"), "save the curves by their names with numpy.savez, or write them as CSV"),
    **dict.fromkeys((".pt", ".pth", ".ckpt", ".safetensors"), "name the log; probe measure reads weights"),
    **dict.fromkeys((".yaml", ".yml", ".toml", ".cfg", ".ini"), "name the log of the training, not its settings"),
    **dict.fromkeys((".png", ".jpg", ".jpeg", ".pdf", ".svg"), "name the log of the training, not its picture"),
}
_MISSES, _MANY = 300, 10**9  # files of one folder and suffix, none of which is a log


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
        given = f"name its format with format= (--format), one of {', '.join(READERS)}"
        advice = next((text for end, text in _ADVICE.items() if path.name.lower().endswith(end)), given)
        raise ValueError(f"Expected a log of a known format, got {path.name}; {advice}")
    return FoundLogs([RunFiles(reader, reader.run_path(path), [path])], [])


def _find_in_folder(folder: Path, format: str | None) -> FoundLogs:
    runs: dict[tuple[str, Path], RunFiles] = {}
    others: Counter[str] = Counter()
    misses: Counter[tuple[Path, str]] = Counter()
    for file in counted(files_below(folder), "looking for logs, files"):
        place = (file.parent, file.suffix)
        if misses[place] >= _MISSES:  # a data set
            misses[place] += 1
            continue
        reader = _matching(file)
        misses[place] += 1 if reader is None else -_MANY
        if reader is None and format and file.suffix.lower() in READERS[format].suffixes:
            reader = READERS[format]
        if reader is None:
            continue
        if format not in (None, reader.name):
            others[reader.name] += 1
            continue
        path = reader.run_path(file)
        runs.setdefault((reader.name, path), RunFiles(reader, path, [])).files.append(file)
    if not runs:
        there = ", ".join(f"{n} of {name}" for name, n in others.items())
        if format:
            raise FileNotFoundError(
                f"Expected a log of the format {format} in the folder {folder}, got none of {READERS[format].files}"
                + (f", but {there}; leave format out (--format)" if there else "; check the path")
            )
        raise FileNotFoundError(
            f"Expected a log in the folder {folder}, got none; check the path (probe formats lists the formats)"
        )
    ignored = ", ".join(f"{n} of {name}" for name, n in others.items())
    notes = [f"files of other formats were ignored: {ignored}"] if ignored else []
    notes += [
        f"{n - _MISSES:,} files *{suffix} in {place.relative_to(folder)}/ were not looked at, because {_MISSES} before "
        "them were no logs"
        for (place, suffix), n in misses.items()
        if n > _MISSES
    ]
    return FoundLogs(list(runs.values()), notes)


def _matching(path: Path) -> Reader | None:
    candidate = Candidate(path)
    return next((reader for reader in READERS.values() if reader.matches(candidate)), None)


def _by_suffix(path: Path) -> Reader | None:
    return next((reader for reader in READERS.values() if path.suffix.lower() in reader.suffixes), None)


def run_labels(runs: Sequence[Path]) -> list[str]:
    """Return short labels of runs: their paths without common parts at both ends and without suffixes.

    Paths that differ in their suffixes only keep them.
    """
    parts = [(*run.parts[:-1], _stem(run)) if run.is_file() else run.parts for run in runs]
    if len(parts) < 2:
        return ["" for _ in parts]
    alike = Counter(parts)
    parts = [run.parts if alike[part] > 1 else part for run, part in zip(runs, parts, strict=True)]
    shared = next((i for i, level in enumerate(zip(*parts, strict=False)) if len({*level}) > 1), min(map(len, parts)))
    parts = [part[shared:] or (".",) for part in parts]  # "." is the folder that holds the others
    while len({part[-1] for part in parts}) == 1 and all(len(part) > 1 for part in parts):
        parts = [part[:-1] for part in parts]
    return ["/".join(part) for part in parts]


def _stem(file: Path) -> str:
    """Return the name of a file without its suffix, and without that of a compression."""
    uncompressed = file.with_suffix("") if Candidate(file).compression else file
    return uncompressed.stem
