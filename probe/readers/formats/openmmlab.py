"""Logs of OpenMMLab: ``*.log.json`` of MMCV, ``scalars.json`` and ``vis_data/*.json`` of MMEngine, in JSON lines.

MMCV writes ``{"mode": "train", "epoch": 1, "iter": 50, "loss": 2.3}``. Its ``iter`` starts again in each epoch. That of
``"mode": "val"`` is no step of the training. MMEngine writes ``{"loss": 2.3, "epoch": 1, "iter": 50, "step": 50}``,
and ``{"accuracy/top1": 71.2, "step": 1}`` after an epoch, with the epoch as its step. So results of evaluations are put
at the last iteration of training before them.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from probe.readers.formats.jsonl import json_lines
from probe.readers.log import Log
from probe.readers.phrases import split_of
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.spelling import words_of
from probe.readers.table import Table, TableColumns, as_number, table_log
from probe.readers.text import parse_json
from probe.series import MAX_STEP

_LINES = 200  # by which the format is recognised
_OTHERS = {"mode", "epoch", "step", "memory", "time", "data_time", "seed"}


def matches(candidate: Candidate) -> bool:
    """Return whether lines have the keys that OpenMMLab alone writes together."""
    if not candidate.head.lstrip().startswith("{"):
        return False
    rows = [row for line in candidate.head.split("\n")[:_LINES] if (row := _row(line))]
    of_mmcv = any(row.get("mode") in ("train", "val") and {"epoch", "iter", "lr"} <= row.keys() for row in rows)
    training = [row for row in rows if _is_training(row)]
    of_mmengine = any({"iter", "step", "data_time"} <= row.keys() for row in training)
    return of_mmcv or of_mmengine


def _row(line: str) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _is_training(row: Mapping[str, Any]) -> bool:
    return row.get("mode", "train") == "train" and isinstance(row.get("iter"), int | float)


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one file as one run, over the iterations of all epochs."""
    table, columns = Table({}, 0), TableColumns()
    for row in counted(json_lines(files[0], table)):
        columns.add(row)
    table = columns.fill(table)
    if "iter" not in table.columns:
        raise ValueError(f"Expected training with 'iter' in {files[0].name}, got none; read it with format='json'")
    table.notes.append("iterations are counted over all epochs; evaluations belong to the last iteration before them")
    return {"": table_log(table, options.axis)}


def counted(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield rows with iterations counted over all epochs. Names of evaluations get the prefix "val/"."""
    before, last, epoch = 0.0, 0.0, 0.0  # iterations of the epochs before, in this epoch, and this epoch
    per_epoch = 0.0
    for row in rows:
        if _is_training(row):
            own, new = _count(row["iter"], last), _count(row.get("epoch"), epoch)
            if own <= last and new > epoch:
                per_epoch = max(per_epoch, last)
                before += per_epoch * max(1.0, new - epoch)
            last, epoch = own, new
            yield {**{k: v for k, v in row.items() if k not in ("step", "mode")}, "iter": before + own}
        elif {*row} - _OTHERS - {"iter", "lr"} and (row.get("mode") == "val" or "step" in row):
            values = {_evaluated(key): value for key, value in row.items() if key not in (*_OTHERS, "iter", "lr")}
            yield {**values, "iter": before + last, "epoch": epoch}


def _count(value: Any, before: float) -> float:
    """Return a count of iterations or epochs; that of the line before if the value is none."""
    number = as_number(value)
    return number if number is not None and 0 <= number < MAX_STEP else before


def _evaluated(key: str) -> str:
    return key if any(split_of([word]) for word in words_of(key)) else f"val/{key}"


READER = Reader("openmmlab", "*.log.json, scalars.json, vis_data/*.json in JSON lines", matches, read)
