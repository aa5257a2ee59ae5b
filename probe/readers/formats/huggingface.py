"""Hugging Face Trainer: ``trainer_state.json`` in the output folder and in each checkpoint. The longest one is read."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probe.readers.log import Log
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import Table, TableColumns, table_log
from probe.readers.text import parse_json, read_text


def matches(candidate: Candidate) -> bool:
    """Return whether the file is the state of a Trainer, by its name or its entries."""
    if candidate.path.name == "trainer_state.json":
        return True
    return '"log_history"' in candidate.head and '"global_step"' in candidate.head and candidate.head.lstrip()[0] == "{"


def run_path(path: Path) -> Path:
    """Return the output folder, which holds the checkpoints."""
    return path.parent.parent if path.parent.name.startswith("checkpoint-") else path.parent


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read the state with the most steps. Its history contains the histories of the others."""
    states = {file: _state(file) for file in files}
    last = max(files, key=lambda file: (states[file].get("global_step", 0), len(states[file]["log_history"])))
    notes = [f"the history in {last.parent.name}/ was read, the longest of {len(files)}"] if len(files) > 1 else []
    columns = TableColumns()
    for entry in states[last]["log_history"]:
        if "train_runtime" in entry:  # written once, at the end: means over the whole training
            notes.append("the summary at the end of training was ignored")
        else:
            columns.add(entry)
    return {"": table_log(Table(columns.points(), columns.n_rows, notes), options.axis)}


def _state(file: Path) -> dict[str, Any]:
    try:
        state = parse_json(read_text(file))
    except ValueError as error:
        raise ValueError(
            f"Expected a complete {file.name}, got a file that is damaged or still being written ({error}); use "
            "that of a checkpoint"
        ) from error
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise ValueError(f"Expected an entry 'log_history' in {file.name}, got none; use the file that Trainer saves")
    return state


READER = Reader("huggingface", "trainer_state.json", matches, read, run_path)
