"""The recorded runs of this project: humps of the test loss in the runs that generalise late, none in the controls."""

from pathlib import Path

import probe
from verdicts.decisions import Bar, Number, Section, Table
from verdicts.records import Rule

RESULTS = Path(__file__).parents[3] / "reference" / "results"
CONTROLS = ("control-59", "control-few", "control-shuffled")
EXPECTED: dict[str, tuple[tuple[str, ...], Bar]] = {  # files and the number of humps
    "the paper's table": (("paper-division",), Bar(8, at_most=False)),
    "S5": (("paper-s5",), Bar(6, at_most=False)),
    "division modulo 97 and its renamed twin": (("division-97", "subtraction-96"), Bar(16, at_most=False)),
    "division modulo 59": (("division-59",), Bar(5, at_most=False)),
    "controls": (tuple(f"variants/{name}" for name in CONTROLS), Bar(0)),
}


def section(rule: Rule, draws: int, seed: int) -> Section:
    """Return the number of runs in which a hump of the test loss is found."""
    caption = "Number of runs of reference/results in which a hump of the test loss is found."
    table = Table("Recorded runs", caption, ("runs",), ("number", "found"))
    for name, (files, bar) in EXPECTED.items():
        losses = [probe.load(RESULTS / f"{file}.nc")["test_loss"] for file in files]
        runs = [(loss["step"].to_numpy(), values) for loss in losses for values in loss.transpose("run", "step").values]
        found = sum(rule(*run).status == "found" for run in runs)
        table.add((name,), {"number": Number(len(runs)), "found": Number(found, bar)})
    return Section("recorded", "Recorded runs", [table])
