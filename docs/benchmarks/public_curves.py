"""Verdicts on published training curves beside readings by eye: `python docs/benchmarks/public_curves.py`.

public_curves.json lists 97 runs of nine public repositories: the file and commit of each log, and a reading of its
picture that was committed before a detector ran. public_curves.npz holds at most 200 rows of each run whose licence
allows copies: half of them even in number, half even in log time. The script prints a Markdown table. `--write` writes
it to docs/phases_truth.md, and the verdicts to public_curves.json.

The verdicts of the other runs are read from public_curves.json. `--curves FILE` computes them again from an archive of
the same form: arrays `RUN/step`, `RUN/test_loss`, `RUN/train_loss`, `RUN/train_accuracy`, `RUN/test_accuracy`.
"""

import argparse
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probe import PhaseDetector

HERE = Path(__file__).parent
RUNS, CURVES, PAGE = HERE / "public_curves.json", HERE / "public_curves.npz", HERE.parent / "phases_truth.md"
START, END = "<!-- public:start -->", "<!-- public:end -->"
INTRODUCTION = """## Published training curves

`python docs/benchmarks/public_curves.py --write` writes this section. It compares `PhaseDetector()` with the judgement
of a reader on 97 training runs from nine public repositories. They are on modular arithmetic, products in finite
groups, sparse parity, linear teachers, and CIFAR-10 with label noise. The reader judged the pictures of the full
records, without names and settings, before a detector ran on them. We drew the runs at random within each kind of
experiment. The detector reads at most 200 rows of a run. `docs/benchmarks/public_curves.json` lists each file with its
commit, reading and verdict.

| column | meaning |
| --- | --- |
| hump | of the runs read as "hump" or "no hump", those on which the detector agrees (`descent_onset`) |
| before | the same for the rule of the first version, on the same rows |
| tops | median and largest distance between the top of the reader and that of the detector |
| class | runs whose class in `verdict_` is that of the reader; in brackets, the reader's second choices count too |"""


def fit(curves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Return the verdict of the detector on one run."""
    values = {name: ("step", np.asarray(a, float)) for name, a in curves.items() if name != "step"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = PhaseDetector().fit(xr.Dataset(values, coords={"step": np.asarray(curves["step"], float)}))
    marker = detector.markers_.isel(run=0).sel(marker="descent_onset")
    step = float(marker["step"])
    return {
        "test_loss": str(marker["status"].item()),
        "top": round(step) if np.isfinite(step) else None,
        "reason": str(marker["reason"].item()),
        "class": str(detector.verdict_["class"].isel(run=0).item()),
    }


def read_curves(files: Iterable[Path]) -> dict[int, dict[str, np.ndarray]]:
    """Return the curves of each run by name, from archives with arrays ``RUN/NAME``."""
    curves: dict[int, dict[str, np.ndarray]] = {}
    for file in files:
        with np.load(file, allow_pickle=False) as archive:
            for key in archive.files:
                run, name = key.split("/")
                curves.setdefault(int(run), {})[name] = archive[key]
    return curves


def hump(run: Mapping[str, Any], key: str = "detector") -> bool | None:
    """Return whether a rule agrees with the reading of the test loss; None if the reader could not tell."""
    if run["reading"]["test_loss"] == "cannot tell":
        return None
    return bool((run["reading"]["test_loss"] == "found") == (run[key]["test_loss"] == "found"))


def distance(run: Mapping[str, Any]) -> float | None:
    """Return the distance of the top that was found from the nearest top that was read (dex)."""
    reading, top = run["reading"], run["detector"]["top"]
    if reading["test_loss"] != "found" or top is None:
        return None
    tops = np.array([*reading["earlier_tops"], reading["top"]], float)
    return float(np.abs(np.log10(tops + 1) - np.log10(top + 1)).min())


def same_class(run: Mapping[str, Any], *, second: bool) -> bool | None:
    """Return whether the class agrees with the reading, or with a second choice; None without a reading."""
    reading = run["reading"]
    if reading["class"] is None:
        return None
    return run["detector"]["class"] in [reading["class"], *(reading["also_accepted"] if second else [])]


def of(answers: Iterable[bool | None]) -> str:
    """Return "agreements of answers"."""
    known = [answer for answer in answers if answer is not None]
    return f"{sum(known)} of {len(known)}" if known else "-"


def row(name: str, runs: list[dict[str, Any]], licence: str) -> str:
    """Return the row of a collection."""
    read = Counter(run["reading"]["test_loss"] for run in runs)
    far = [d for run in runs if (d := distance(run)) is not None]
    tops = f"{np.median(far):.2f}, {max(far):.2f}" if far else "-"
    classes = [of(same_class(run, second=second) for run in runs) for second in (False, True)]
    cells = [
        name,
        licence,
        str(len(runs)),
        f"{read['found']}, {read['not']}, {read['cannot tell']}",
        of(hump(run) for run in runs),
        of(hump(run) for run in runs if run["reading"]["test_loss"] == "found"),
        str(sum(run["detector"]["test_loss"] == "found" for run in runs if run["reading"]["test_loss"] == "not")),
        of(hump(run, "before") for run in runs),
        tops,
        f"{classes[0]} ({classes[1].split()[0]})" if classes[0] != "-" else "-",
    ]
    return f"| {' | '.join(cells)} |"


def disagreement(run: Mapping[str, Any]) -> str:
    """Return one line on a run whose verdict differs from the reading, or an empty string."""
    reading, detector = run["reading"], run["detector"]
    read, made = [], []
    if hump(run) is False:
        read.append(f"a hump at {reading['top']:,}" if reading["test_loss"] == "found" else "no hump")
        made.append(f"found at {detector['top']:,}" if detector["top"] else f"`{detector['test_loss']}`")
    if same_class(run, second=True) is False:
        read.append(reading["class"])
        made.append(detector["class"])
    if not read:
        return ""
    remark = f" ({reading['remark']})" if reading["remark"] else ""
    name = f"run {run['run']}, {run['repository'].split('/')[0]}, {run['observations']:,} observations"
    return f"- {name}: read as {' and '.join(read)}{remark}; the detector: {' and '.join(made)}."


def section(data: Mapping[str, Any]) -> str:
    """Return the section of the page."""
    runs = data["runs"]
    head = "collection | licence | runs | read: hump, none, cannot tell | hump | humps found | wrongly found | before"
    lines = [f"| {head} | tops (dex) | class |", f"|{' --- |' * 10}"]
    for name, collection in data["collections"].items():
        lines.append(row(name, [r for r in runs if r["repository"] == name], collection["licence"] or "none stated"))
    lines.append(row("all", runs, ""))
    found = [text for run in runs if (text := disagreement(run))]
    blurred = Counter(run["detector"]["test_loss"] for run in runs if run["reading"]["test_loss"] == "cannot tell")
    doubt = ", ".join(f"{count} `{status}`" for status, count in blurred.most_common())
    after = f"The runs that the reader could not judge: {doubt}.\n\nDisagreements ({len(found)} runs):"
    return "\n\n".join([INTRODUCTION, "\n".join(lines), after, "\n".join(found)])


def dumped(data: Mapping[str, Any]) -> str:
    """Return the JSON with lists of plain values on one line."""
    text = json.dumps(data, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda m: "[" + re.sub(r"\s*\n\s*", " ", m[1]) + "]", text) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, action="append", default=[], help="archive of further curves")
    parser.add_argument("--write", action="store_true", help="write docs/phases_truth.md and public_curves.json")
    args = parser.parse_args()
    data = json.loads(RUNS.read_text(encoding="utf-8"))
    curves = read_curves([CURVES, *args.curves])
    for run in data["runs"]:
        if run["run"] in curves:
            run["detector"] = fit(curves[run["run"]])
    text = section(data)
    print(text)
    if args.write:
        RUNS.write_text(dumped(data), encoding="utf-8")
        page = PAGE.read_text(encoding="utf-8")
        if START not in page:
            page = f"{page.rstrip()}\n\n{START}\n{END}\n"
        before, _, rest = page.partition(START)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
