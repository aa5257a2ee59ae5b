"""Make all pages and figures that show numbers of the recordings: `python docs/benchmarks/pages.py`.

Give the command after each change of a rule, a claim or a recording. It reads reference/results and reference/paper. It
writes into docs/: the verdicts, settings and experiments of the results page, the tables of the progress page, the
markers of the published curves, the perceptrons of the page of regions, the speed of partitions and of checkpoints
(measured by partition_speed.py and checkpoints_speed.py), and the figures of these pages. It takes about 1.5 minutes on
one CPU core.

`--check` writes nothing. It prints the lines that differ from the committed pages, and ends with exit code 1 if words
differ, or numbers by more than rounding.
"""

import argparse
import json
import re
import sys
from pathlib import Path

import numpy as np

from reference.claims.two_phases import Evidence

sys.path.insert(0, str(Path(__file__).parent))
import checkpoints_speed
import figures
import perceptrons
import published_curve
import published_markers
import results_page
import scorecard

DOCS = Path(__file__).parents[1]
_NUMBER = re.compile(r"\d[\d,]*\.?\d*")


def pages() -> dict[Path, str]:
    """Return the text of each page, made from the recordings."""
    progress, performance = DOCS / "progress.md", DOCS / "performance.md"
    return {
        DOCS / "published_markers.md": published_markers.page() + "\n",
        **{DOCS / paper.page: results_page.made(paper) for paper in results_page.find_papers()},
        progress: scorecard.made(progress.read_text(encoding="utf-8")),
        performance: performance_page(performance.read_text(encoding="utf-8")),
        DOCS / "regions.md": regions_page((DOCS / "regions.md").read_text(encoding="utf-8")),
    }


def regions_page(text: str) -> str:
    """Return the page of regions with its tables of the perceptrons."""
    evidence = Evidence()
    text = results_page.replace_between(text, "perceptrons", perceptrons.summary(evidence))
    return results_page.replace_between(text, "mechanisms", perceptrons.mechanism_summary(evidence))


def performance_page(text: str) -> str:
    """Return the page of performance with its tables of partitions and of checkpoints."""
    found = json.loads(checkpoints_speed.RESULTS.read_text(encoding="utf-8"))["results"]
    text = results_page.replace_between(text, "partition", partition_table())
    return results_page.replace_between(text, "checkpoints", checkpoints_speed.table(found))


def partition_table() -> str:
    """Return the table of partition_speed.json."""
    found = json.loads((DOCS / "benchmarks" / "partition_speed.json").read_text(encoding="utf-8"))["results"]
    columns = ["network, half side", "regions", "CPU s", "regions per CPU s", "regioncam", "ratio", "peak MiB"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, one in found.items():
        speeds = (f"{one['rate']:,.0f}", f"{one['rate_regioncam']:,.0f}", f"{one['ratio']:.2f}")
        cells = (name, f"{one['regions']:,}", f"{one['seconds']:.3f}", *speeds, f"{one['peak_mib']:.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw_figures() -> None:
    """Draw the figures of these pages into docs/images."""
    of_papers = [name for paper in results_page.find_papers() for name in paper.figures]
    for name in ("regions_training", *published_curve.FIGURES, *of_papers):
        figures.write(name)


def differences(committed: str, made: str) -> list[str]:
    """Return the lines whose words differ, or whose numbers differ by more than rounding."""
    old, new = committed.splitlines(), made.splitlines()
    if len(old) != len(new):
        return [f"{len(old)} lines instead of {len(new)}"]
    return [f"- {a}\n+ {b}" for a, b in zip(old, new, strict=True) if not same(a, b)]


def same(one: str, other: str) -> bool:
    """Return whether the words are equal, and the numbers up to rounding, which depends on the version of scipy."""
    if _NUMBER.sub("#", one) != _NUMBER.sub("#", other):
        return False
    a, b = ([float(n.replace(",", "")) for n in _NUMBER.findall(text)] for text in (one, other))
    return bool(np.allclose(a, b, rtol=0.01, atol=0.011))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed pages and write nothing")
    args = parser.parse_args()
    changed = False
    for page, text in pages().items():
        found = differences(page.read_text(encoding="utf-8"), text)
        changed |= bool(found)
        print(f"{page.name}: {len(found)} lines differ", *found, sep="\n")
        if not args.check:
            page.write_text(text, encoding="utf-8")
    if not args.check:
        draw_figures()
    return int(args.check and changed)


if __name__ == "__main__":
    sys.exit(main())
