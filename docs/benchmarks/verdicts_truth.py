"""How right the verdicts on a hump are: ``python docs/benchmarks/verdicts_truth.py --draws 400 --write``.

Measures `probe.phases.second_descent` on recorded curves whose right verdict is known and on simulated ones, and prints
Markdown: each number beside its bar. A simulated rate misses its bar only if its one-sided 99 % Clopper-Pearson limit,
corrected for the number of rates in its section (Bonferroni), lies beyond the bar. `--write` puts the tables between
two comments of docs/phases_truth.md. The whole takes about ten CPU minutes.

The section `readers` runs only with `--write` or `--only readers`: do not look at it while you change a rule.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy

from probe.errors import ProbeWarning
from probe.phases import second_descent
from verdicts import blind, cost, false_findings, humps, invariances, real, recorded
from verdicts.decisions import SUMMARY_HEAD, Section
from verdicts.records import Rule

HERE = Path(__file__).parent
PAGE = HERE.parent / "phases_truth.md"
BEFORE = HERE / "verdicts" / "before.json"
START, END = "<!-- verdicts:start -->", "<!-- verdicts:end -->"
SECTIONS: dict[str, Callable[[Rule, int, int], Section]] = {
    "given": real.given_section,
    "false findings": false_findings.section,
    "power": humps.power_section,
    "place": humps.place_section,
    "grokking": humps.grokking_section,
    "invariances": invariances.section,
    "recorded": recorded.section,
    "readers": blind.section,
    "cost": cost.cost_section,
}


def written(page: str, tables: str) -> str:
    """Return the page with the tables between the two comments, or at its end if it has none."""
    if START not in page:
        page = f"{page.rstrip()}\n\n{START}\n{END}\n"
    before, _, rest = page.partition(START)
    return f"{before}{START}\n{tables}\n{END}{rest.partition(END)[2]}"


def markdown(sections: list[Section], draws: int, seed: int) -> str:
    """Return all tables, first the summary; figures of the detector before stand in parentheses."""
    before = json.loads(BEFORE.read_text()) if BEFORE.exists() else {}
    lines = [
        f"`python docs/benchmarks/verdicts_truth.py --draws {draws} --seed {seed} --write` writes these tables, with "
        f"numpy {np.__version__}, scipy {scipy.__version__} and {draws} curves for each simulated rate. Rates that "
        "miss their bar are bold. Parentheses have the results of the detector before, a scan test for a rise and "
        "fall in AR(1) noise.",
        "",
        "## All bars",
        "",
        *SUMMARY_HEAD,
        *(line for section in sections for line in section.summary()),
        *(line for section in sections for line in section.markdown(before)),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=tuple(SECTIONS), action="append", help="a section; may be repeated")
    parser.add_argument("--json", type=Path, help="write the values of all cells to a file")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("expected --write or --only, got both; the page holds all sections")
    warnings.simplefilter("ignore", ProbeWarning)
    sections = []
    for name in args.only or [name for name in SECTIONS if args.write or name != "readers"]:
        start = time.process_time()
        sections.append(SECTIONS[name](second_descent, args.draws, args.seed))
        print(f"<!-- {name}: {time.process_time() - start:.0f} CPU s -->", flush=True)
    tables = markdown(sections, args.draws, args.seed)
    print(tables, "", "## Weak cells", "", *(line for section in sections for line in section.weak_cells()), sep="\n")
    if args.json:
        args.json.write_text(json.dumps({t.title: t.values() for s in sections for t in s.tables}, indent=1) + "\n")
    if args.write:
        PAGE.write_text(written(PAGE.read_text(), tables))


if __name__ == "__main__":
    main()
