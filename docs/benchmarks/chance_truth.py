"""How often a test accuracy at chance leaves it by the rule of PhaseDetector, and how soon a true rise is found.

The truth is planted: each observation is the share of right answers of n_test independent guesses.
``python docs/benchmarks/chance_truth.py`` prints tables in Markdown. ``--write`` puts the worst cells into
docs/phases_truth.md. 400 draws take four CPU minutes.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import numpy as np
from scipy.signal import lfilter
from scipy.stats import binom, norm

from probe.phases import leaves_chance

N_TEST, CLASSES, LENGTHS = (20, 50, 100, 200, 1000), (2, 10, 97), (30, 100, 400)
GIVEN = {"nothing": (), "chance": ("chance",), "n_test": ("n_test",), "both": ("chance", "n_test")}
BAR = 0.05
PAGE = Path(__file__).parents[1] / "phases_truth.md"
START, END = "<!-- chance:start -->", "<!-- chance:end -->"
Cell = tuple[int, int, int, str, int]  # n_test, classes, length, what is given, runs that leave chance
Rise = tuple[float, int, str, float, float]  # top, length, what is given, share found, median delay
LEAST_RISE = 0.3  # of a rise in the table of the page: a smaller one stays below 3 sd of small test sets
Draw = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]  # generator, n_test, probabilities (n,)


def white(rng: np.random.Generator, n_test: int, p: np.ndarray) -> np.ndarray:
    return rng.binomial(n_test, p) / n_test


def correlated(rng: np.random.Generator, n_test: int, p: np.ndarray, phi: float = 0.9) -> np.ndarray:
    """Binomial shares with the ranks of an AR(1) series, as a network that changes slowly has."""
    start = rng.standard_normal() * phi
    z, _ = lfilter([np.sqrt(1 - phi**2)], [1, -phi], rng.standard_normal(len(p)), zi=[start])
    return np.asarray(binom.ppf(norm.cdf(z), n_test, p) / n_test)


KINDS: dict[str, Draw] = {
    "exact": white,
    "4 decimals": lambda rng, n, p: np.round(white(rng, n, p), 4),
    "2 decimals": lambda rng, n, p: np.round(white(rng, n, p), 2),
    "mean of unequal batches": lambda rng, n, p: white(rng, n, p) + rng.normal(0, 1e-4, len(p)),
    "correlated, AR(.9)": correlated,
}


def found(v: np.ndarray, given: tuple[str, ...], n_test: int, classes: int) -> float:
    """Return the position at which the accuracy leaves chance; infinite if it never does."""
    known = {"chance": 1 / classes, "n_test": n_test}
    marker = leaves_chance(np.arange(len(v)), v, **{name: known[name] for name in given})
    return {"found": marker.step, "left_censored": 0.0}.get(marker.status, np.inf)


def shares_at_chance(draws: int, draw: Draw) -> Iterator[Cell]:
    """Yield the number of runs that leave chance, by cell."""
    rng = np.random.default_rng(0)
    for n_test, classes, length in product(N_TEST, CLASSES, LENGTHS):
        curves = [draw(rng, n_test, np.full(length, 1 / classes)) for _ in range(draws)]
        for name, given in GIVEN.items():
            left = sum(found(v, given, n_test, classes) < np.inf for v in curves)
            yield n_test, classes, length, name, left


def report_chance(draws: int) -> tuple[bool, dict[str, list[Cell]]]:
    """Print the shares; return whether every cell of independent values holds the bar, and all cells by kind."""
    n_cells = len(N_TEST) * len(CLASSES) * len(LENGTHS) * len(GIVEN)
    most = int(binom.isf(0.01 / n_cells, draws, BAR))  # more are significantly beyond the bar
    print(f"\nRuns at chance that leave it, in percent of {draws}: largest of {len(LENGTHS)} lengths {LENGTHS}.")
    print(f"A cell fails with more than {most} runs (one-sided 1 %, corrected for {n_cells} cells).\n")
    holds, found_cells = True, {}
    for kind, draw in KINDS.items():
        cells = found_cells[kind] = list(shares_at_chance(draws, draw))
        failed = [cell for cell in cells if cell[4] > most]
        holds &= not failed or kind.startswith("correlated")
        print(f"**{kind}**: {len(failed)} of {len(cells)} cells fail\n")
        print(f"| n_test | {' | '.join(f'{k} classes: {name}' for k in CLASSES for name in GIVEN)} |")
        print("|---" * (1 + len(CLASSES) * len(GIVEN)) + "|")
        for n_test in N_TEST:
            row = [
                max(left for n, k, _, g, left in cells if (n, k, g) == (n_test, classes, name)) / draws
                for classes in CLASSES
                for name in GIVEN
            ]
            print(f"| {n_test} | {' | '.join(f'{100 * share:.1f}' for share in row)} |")
        print()
    return holds, found_cells


def report_power(draws: int) -> list[Rise]:
    """Print and return how often a true rise to 60 % and to 100 % is found, and how many observations late."""
    rng = np.random.default_rng(1)
    print("\nTrue rises over half of the record, found in percent (median delay in observations after chance + 5 %):\n")
    columns = [f"{length} obs: {name}" for length, name in product(LENGTHS, ("nothing", "both"))]
    print(f"| top | n_test | classes | {' | '.join(columns)} |")
    print("|---" * (3 + 2 * len(LENGTHS)) + "|")
    rises: list[Rise] = []
    for top, n_test, classes in product((0.6, 1.0), N_TEST, CLASSES):
        cells = []
        for length, name in product(LENGTHS, ("nothing", "both")):
            x = np.linspace(0, 1, length)
            p = 1 / classes + (top - 1 / classes) * np.clip((x - 0.3) / 0.5, 0, 1)
            true = float(np.argmax(p >= 1 / classes + BAR))
            at = np.array([found(white(rng, n_test, p), GIVEN[name], n_test, classes) for _ in range(draws)])
            delay = np.median(at[np.isfinite(at)] - true) if np.isfinite(at).any() else np.nan
            if top - 1 / classes >= LEAST_RISE:
                rises.append((top, length, name, float(np.isfinite(at).mean()), float(delay)))
            cells.append(f"{100 * np.isfinite(at).mean():.0f} ({delay:+.0f})")
        print(f"| {top:g} | {n_test} | {classes} | {' | '.join(cells)} |")
    return rises


def worst_chance(cells: dict[str, list[Cell]], draws: int) -> Iterator[str]:
    """Yield a table of the largest shares at chance, by values, by what is given, and by length."""
    groups = {
        "independent": [cell for kind, of in cells.items() if not kind.startswith("correlated") for cell in of],
        "correlated, AR(.9)": cells["correlated, AR(.9)"],
    }
    yield f"| values | given | {' | '.join(f'{length} observations' for length in LENGTHS)} |"
    yield "| --- " * (2 + len(LENGTHS)) + "|"
    for (values, of), name in product(groups.items(), GIVEN):
        row = []
        for length in LENGTHS:
            n, k, _, _, left = max((c for c in of if c[2:4] == (length, name)), key=lambda c: c[4])
            row.append(f"{100 * left / draws:.1f} (n_test {n}, {k} classes)")
        yield f"| {values} | {name} | {' | '.join(row)} |"


def worst_rises(rises: list[Rise]) -> Iterator[str]:
    """Yield a table of the least share found and the longest delay of true rises."""
    yield f"| rise to | given | {' | '.join(f'{length} observations' for length in LENGTHS)} |"
    yield "| --- " * (2 + len(LENGTHS)) + "|"
    for top, name in product((0.6, 1.0), ("nothing", "both")):
        row = []
        for length in LENGTHS:
            of = [rise for rise in rises if rise[:3] == (top, length, name)]
            row.append(f"{100 * min(rise[3] for rise in of):.0f} ({np.nanmax([rise[4] for rise in of]):.0f})")
        yield f"| {100 * top:.0f} % | {name} | {' | '.join(row)} |"


def page(draws: int, cells: dict[str, list[Cell]], rises: list[Rise]) -> str:
    """Return the section of docs/phases_truth.md."""
    return "\n".join([
        f"Largest share (%) of {draws} runs at chance that leave chance, over test sets of {N_TEST[0]} to "
        f"{N_TEST[-1]:,} examples and 2, 10 and 97 classes. Independent values: exact, rounded to 4 or 2 decimals, "
        "means of unequal batches.",
        "",
        *worst_chance(cells, draws),
        "",
        f"True rises of {LEAST_RISE:g} or more over half of the record. The table has the least share found (%). In "
        "brackets is the longest median delay, in observations after chance + 5 %.",
        "",
        *worst_rises(rises),
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    holds, cells = report_chance(args.draws)
    rises = report_power(max(args.draws // 4, 1))
    if args.write:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        text = page(args.draws, cells, rises)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
