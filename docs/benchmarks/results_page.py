"""Verdicts, settings and experiments on the page of a paper: `python docs/benchmarks/results_page.py --write`.

Without --write, the verdicts are printed. `pages.py` makes this page and all others, `figures.py` their figures.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from reference.claims import Judgement, Paper, as_markdown, find_papers, judge
from reference.experiments import EXPERIMENTS

DOCS = Path(__file__).parents[1]


def replace_between(text: str, name: str, new: str) -> str:
    """Replace the text between the comments `<!-- name -->` and `<!-- end of name -->`, if the page has them."""
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    return re.sub(pattern, lambda match: f"{match[1]}{new}\n{match[2]}", text, flags=re.S)


def experiments() -> str:
    """Return the table of experiments."""
    lines = ["| experiment | figure | question | seeds | configurations |", "|---|---|---|---|---|"]
    for name, one in EXPERIMENTS.items():
        configs = ", ".join(f"`{config}`" for config in one.configs)
        lines.append(f"| {name} | {one.figure} | {one.question} | {one.seeds} | {configs} |")
    return "\n".join(lines)


def settings() -> str:
    """Return the table of `paper_settings.py`."""
    script = Path(__file__).with_name("paper_settings.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))


def separation(judgements: list[Judgement]) -> str:
    """Return the areas under the ROC curve of each measure, by pair of a task and a control."""
    rows: dict[str, dict[str, str]] = {}
    for finding in (f for one in judgements for f in one.ours if one.claim.name.endswith("is a progress measure")):
        pair, measure = finding.runs.split(", ", 1)
        number = re.search(r"change to step ([\d,]+), .*AUC (\d\.\d\d)", finding.verdict.numbers)
        if number and " against " in pair:
            rows.setdefault(f"{pair}, {number[1]}", {})[measure] = number[2]
    measures = list(dict.fromkeys(name for row in rows.values() for name in row))
    head = ["| runs against control, step | " + " | ".join(measures) + " |", "|---" * (1 + len(measures)) + "|"]
    lines = [f"| {pair} | " + " | ".join(row.get(name, "-") for name in measures) + " |" for pair, row in rows.items()]
    return "\n".join([*head, *lines])


def made(paper: Paper) -> str:
    """Return the page of a paper with verdicts, settings and experiments from the recordings."""
    text = (DOCS / paper.page).read_text(encoding="utf-8")
    evidence = paper.evidence()
    judgements = judge(paper, evidence)
    makers: dict[str, Callable[[], str]] = {
        "verdicts": lambda: as_markdown(judgements),
        "separation": lambda: separation(judgements),
        "settings": settings,
        "experiments": experiments,
        **{name: partial(make, evidence) for name, make in paper.tables.items()},
    }
    for name, make in makers.items():
        if f"<!-- {name} -->" in text:
            text = replace_between(text, name, make())
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write into docs/")
    parser.add_argument("--paper", metavar="ID", help="arXiv identifier (default: all papers)")
    args = parser.parse_args()
    for paper in find_papers(args.paper):
        if args.write:
            (DOCS / paper.page).write_text(made(paper), encoding="utf-8")
        else:
            print(as_markdown(judge(paper)))


if __name__ == "__main__":
    main()
