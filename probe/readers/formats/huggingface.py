"""Hugging Face Trainer: ``trainer_state.json``, in the output folder and in each checkpoint; the longest counts."""

import json
from collections.abc import Sequence
from pathlib import Path

from probe.readers.log import Log
from probe.readers.table import TableColumns, table_log

NAME = "huggingface"


def claims(path: Path) -> bool:
    """Whether this is the state of a Trainer, by its name."""
    return path.name == "trainer_state.json"


def run_of(path: Path) -> Path:
    """The output folder; checkpoints stand in it."""
    return path.parent.parent if path.parent.name.startswith("checkpoint-") else path.parent


def read(files: Sequence[Path], axis: str | None = None) -> dict[str, Log]:
    """The history of the state that went furthest, which holds all that went before."""
    states = {file: _state(file) for file in files}
    last = max(files, key=lambda file: states[file].get("global_step", 0))
    said = [f"the history in {last.parent.name}/, the longest of {len(files)}"] if len(files) > 1 else []
    columns = TableColumns()
    for entry in states[last]["log_history"]:
        if "train_runtime" in entry:  # written once, at the end: means over the whole training
            said.append("the summary at the end of training is left out")
        else:
            columns.add(entry)
    return {"": table_log(columns.points(), columns.n_rows, axis, said)}


def _state(file: Path) -> dict:
    try:
        state = json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(
            f"{file.name} is damaged or still being written: {error}; take that of a checkpoint"
        ) from error
    if not isinstance(state, dict) or not isinstance(state.get("log_history"), list):
        raise ValueError(f"{file.name} holds no 'log_history'; expected the state that Trainer saves")
    return state
