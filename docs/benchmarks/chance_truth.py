"""How often a test accuracy at chance leaves it by the rule of PhaseDetector, and how soon a true rise is found.

The truth is planted: each observation is the share of right answers of n_test independent guesses. Prints tables in
Markdown. ``python docs/benchmarks/chance_truth.py [draws]``; 400 draws take four CPU
minutes.
"""

import sys
from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
from scipy.signal import lfilter
from scipy.stats import binom, norm

from probe.phases import leaves_chance

N_TEST, CLASSES, LENGTHS = (20, 50, 100, 200, 1000), (2, 10, 97), (30, 100, 400)
GIVEN = {"nothing": (), "chance": ("chance",), "n_test": ("n_test",), "both": ("chance", "n_test")}
BAR = 0.05
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


def shares_at_chance(draws: int, draw: Draw) -> Iterator[tuple[int, int, int, str, int]]:
    """Yield the number of runs that leave chance, by cell."""
    rng = np.random.default_rng(0)
    for n_test, classes, length in product(N_TEST, CLASSES, LENGTHS):
        curves = [draw(rng, n_test, np.full(length, 1 / classes)) for _ in range(draws)]
        for name, given in GIVEN.items():
            left = sum(found(v, given, n_test, classes) < np.inf for v in curves)
            yield n_test, classes, length, name, left


def report_chance(draws: int) -> bool:
    """Print the shares; return whether every white cell holds the bar."""
    n_cells = len(N_TEST) * len(CLASSES) * len(LENGTHS) * len(GIVEN)
    most = int(binom.isf(0.01 / n_cells, draws, BAR))  # more are significantly beyond the bar
    print(f"\nRuns at chance that leave it, in percent of {draws}: largest of {len(LENGTHS)} lengths {LENGTHS}.")
    print(f"A cell fails with more than {most} runs (one-sided 1 %, corrected for {n_cells} cells).\n")
    holds = True
    for kind, draw in KINDS.items():
        cells = list(shares_at_chance(draws, draw))
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
    return holds


def report_power(draws: int) -> None:
    """Print how often a true rise to 60 % and to 100 % is found, and how many observations late."""
    rng = np.random.default_rng(1)
    print("\nTrue rises over half of the record, found in percent (median delay in observations after chance + 5 %):\n")
    columns = [f"{length} obs: {name}" for length, name in product(LENGTHS, ("nothing", "both"))]
    print(f"| top | n_test | classes | {' | '.join(columns)} |")
    print("|---" * (3 + 2 * len(LENGTHS)) + "|")
    for top, n_test, classes in product((0.6, 1.0), N_TEST, CLASSES):
        cells = []
        for length, name in product(LENGTHS, ("nothing", "both")):
            x = np.linspace(0, 1, length)
            p = 1 / classes + (top - 1 / classes) * np.clip((x - 0.3) / 0.5, 0, 1)
            true = float(np.argmax(p >= 1 / classes + BAR))
            at = np.array([found(white(rng, n_test, p), GIVEN[name], n_test, classes) for _ in range(draws)])
            delay = np.median(at[np.isfinite(at)] - true) if np.isfinite(at).any() else np.nan
            cells.append(f"{100 * np.isfinite(at).mean():.0f} ({delay:+.0f})")
        print(f"| {top:g} | {n_test} | {classes} | {' | '.join(cells)} |")


if __name__ == "__main__":
    n_draws = int(sys.argv[1]) if len(sys.argv) > 1 else 400
    all_hold = report_chance(n_draws)
    report_power(max(n_draws // 4, 1))
    sys.exit(0 if all_hold else 1)
