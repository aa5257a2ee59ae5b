"""CatBoost: ``catboost_info/learn_error.tsv`` and ``test_error.tsv``, with the split in the name of the file."""

import re
from collections.abc import Sequence
from pathlib import Path

from probe.readers.delimited import read_delimited
from probe.readers.log import Log
from probe.readers.reader import Candidate, Reader, ReadOptions
from probe.readers.table import Table, table_log

_NAME = re.compile(r"(learn|test\d*)_error\.tsv")


def matches(candidate: Candidate) -> bool:
    """Return whether the file has the name and the first column that CatBoost writes."""
    return _NAME.fullmatch(candidate.path.name) is not None and candidate.head.startswith("iter\t")


def run_path(path: Path) -> Path:
    """Return the folder ``catboost_info``, which holds one run."""
    return path.parent


def read(files: Sequence[Path], options: ReadOptions) -> dict[str, Log]:
    """Read one run. Names are those of the split and the metric: ``learn/Logloss``."""
    options.check_no_columns("a run of CatBoost")
    log = Log({}, axis="iter")
    for file in sorted(files):
        found = _NAME.fullmatch(file.name)
        table = read_delimited(file)
        log.damage += table.damage
        if found and "iter" in table.columns:
            points = table_log(Table(table.columns, table.n_rows), "iter").points
            log.points |= {f"{found[1]}/{name}": one for name, one in points.items()}
    return {"": log}


READER = Reader("catboost", "catboost_info/*_error.tsv", matches, read, run_path)
