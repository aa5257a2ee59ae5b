"""Rewrite what docs/results.md shows of the recorded runs: `python docs/benchmarks/results_page.py --write`."""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from reference.claims.acceptance import FIGURES, as_markdown, judge
from reference.claims.evidence import Evidence
from reference.experiments.figures import EXPERIMENTS

DOCS = Path(__file__).parents[1]


def between(text: str, name: str, new: str) -> str:
    pattern = rf"(<!-- {name} -->\n).*?(<!-- end of {name} -->)"
    return re.sub(pattern, lambda found: f"{found[1]}{new}\n{found[2]}", text, flags=re.S)


def experiments() -> str:
    lines = ["| experiment | figure | what | seeds | configurations |", "|---|---|---|---|---|"]
    for name, one in EXPERIMENTS.items():
        configs = ", ".join(f"`{config}`" for config in one.configs)
        lines.append(f"| {name} | {one.figure} | {one.question} | {one.seeds} | {configs} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="into docs/results.md and docs/images")
    evidence = Evidence()
    verdicts = as_markdown(judge(evidence))
    if not parser.parse_args().write:
        print(verdicts)
        return
    script = Path(__file__).with_name("paper_settings.py")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    settings = "\n".join(line for line in done.stdout.splitlines() if line.startswith("|"))
    page = DOCS / "results.md"
    text = page.read_text()
    for name, new in (("verdicts", verdicts), ("settings", settings), ("experiments", experiments())):
        text = between(text, name, new)
    page.write_text(text)
    for name, draw in FIGURES.items():
        draw(evidence).savefig(DOCS / "images" / f"{name}.png", dpi=80)


if __name__ == "__main__":
    main()
