"""Markers on simulated curves with known answers: `python docs/benchmarks/markers_truth.py --curves 400`.

Prints Markdown: error and coverage of the mode of a hump, false positives of the test for a second phase on curves that
have none, its power, and what becomes of random walks. About 3 CPU milliseconds a curve. `--write` puts it into
docs/phases_truth.md.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy

from probe.stats import simulate_ar1
from probe.phases import second_descent, unimodal_mode

PAGE = Path(__file__).parents[1] / "phases_truth.md"
LENGTHS = (60, 120, 200)
CORRELATIONS = (0.0, 0.3, 0.5, 0.6, 0.8)
Curve = Callable[[np.ndarray], np.ndarray]


def bell(top: float, before: float, after: float | None = None) -> Curve:
    """A hump of height 1 with its top at ``top``, and a width for each flank."""
    return lambda x: np.exp(-(((x - top) / np.where(x < top, before, after or before)) ** 2))


def sigmoid(middle: float, width: float) -> Curve:
    return lambda x: 1 / (1 + np.exp(-(x - middle) / width))


# Of x - top, where x is log10(step + 1), from 0 to 6.
HUMPS: dict[str, Curve] = {
    "bell, 1 dex": bell(0, 1),
    "bell, 0.5 dex": bell(0, 0.5),
    "bell, 1.5 dex": bell(0, 1.5),
    "fast rise, slow fall": bell(0, 0.5, 1.5),
    "slow rise, fast fall": bell(0, 1.5, 0.5),
    "rise as x^2, long tail": lambda u: (np.maximum(u + 2, 0) / 2) ** 2 * np.exp(-u),
}
# In standard deviations of the noise; n is the length.
NULLS: dict[str, Curve] = {
    "flat": lambda x: 0 * x,
    "saturating": lambda x: 30 * (1 - np.exp(-x)),
    "initial descent, plateau": lambda x: 30 * np.exp(-3 * x),
    "linear fall": lambda x: -5 * x,
    "linear rise": lambda x: 5 * x,
    "sigmoid fall": lambda x: -20 * sigmoid(3, 0.2)(x),
    "sigmoid rise": lambda x: 20 * sigmoid(1, 0.1)(x),
    "sharp rise, plateau": lambda x: 20.0 * (x > 0.5),
    "descent, rise, plateau": lambda x: 30 * np.exp(-4 * x) + 20 * sigmoid(2, 0.2)(x),
    "plateau, sharp fall": lambda x: -20.0 * (x > 4.5),
}


def with_spikes(generator: np.random.Generator, values: np.ndarray, sign: int) -> np.ndarray:
    """Five spikes of 10 to 40 sd and one to three observations, apart, anywhere but at the start."""
    values = values.copy()
    for at in generator.choice(np.arange(8, len(values) - 5, 8), 5, replace=False) + generator.integers(0, 4):
        values[at : at + generator.integers(1, 4)] += sign * generator.uniform(10, 40)
    return values


def percent(hits: list[bool]) -> str:
    """Share in per cent, with its standard error."""
    share = float(np.mean(hits))
    return f"{100 * share:.1f} ± {100 * np.sqrt(share * (1 - share) / len(hits)):.1f}"


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def head(*cells: object) -> list[str]:
    return ["", row(*cells), row(*["---"] * len(cells))]


def mode_table(generator: np.random.Generator, curves: int) -> list[str]:
    lines = head("noise / peak", "phi", "n", *HUMPS, "all")
    for sd in (0.01, 0.03, 0.06):
        for phi in (0.0, 0.3, 0.6, 0.8):
            for n in LENGTHS:
                x = np.linspace(0, 6, n)
                found = [
                    [top_of(generator, x, hump, e) for e in sd * simulate_ar1(generator, (curves, n), phi)]
                    for hump in HUMPS.values()
                ]
                every = [top for part in found for top in part]
                lines.append(row(sd, phi, n, *map(_error_and_coverage, [*found, every])))
    return lines


def top_of(generator: np.random.Generator, x: np.ndarray, hump: Curve, noise: np.ndarray) -> tuple[float, bool]:
    """Error in dex, and whether the interval holds the top."""
    top = generator.uniform(2.5, 3.5)
    marker = unimodal_mode(10**x - 1, hump(x - top) + noise)
    return abs(np.log10(marker.step + 1) - top), marker.lower <= 10**top - 1 <= marker.upper


def _error_and_coverage(found: list[tuple[float, bool]]) -> str:
    error, covered = np.array(found, dtype=float).T
    return f"{np.median(error):.3f}, {100 * covered.mean():.0f}"


def status_of(values: np.ndarray) -> str:
    return second_descent(10 ** np.linspace(0, 6, len(values)) - 1, values).status


def null_cases(n: int) -> dict[str, Callable[[np.random.Generator, np.ndarray], np.ndarray]]:
    """Curves without a second phase, as functions of a generator and noise of shape (n,)."""
    x = np.linspace(0, 6, n)
    cases = {name: lambda g, e, curve=curve: curve(x) + e for name, curve in NULLS.items()}
    for name, size in (("grows", np.geomspace(1, 5, n)), ("shrinks", np.geomspace(5, 1, n))):
        for where in ("flat", "sharp rise, plateau"):
            cases[f"{where}, noise {name} 5-fold"] = lambda g, e, where=where, size=size: NULLS[where](x) + size * e
    for name, sign in (("up", 1), ("down", -1)):
        for where in ("flat", "initial descent, plateau"):
            cases[f"{where}, spikes {name}"] = lambda g, e, where=where, sign=sign: with_spikes(
                g, NULLS[where](x) + e, sign
            )
    cases["falls 1,000-fold, noise 10 % of it"] = lambda g, e: 10 ** (-x / 2) * np.exp(0.1 * e)
    return cases


def null_table(generator: np.random.Generator, curves: int) -> list[str]:
    lines = head("curve", "n", *(f"phi {phi}" for phi in CORRELATIONS))
    for n in LENGTHS:
        for name, case in null_cases(n).items():
            cells = [
                [status_of(case(generator, e)) == "found" for e in simulate_ar1(generator, (curves, n), phi)]
                for phi in CORRELATIONS
            ]
            lines.append(row(name, n, *map(percent, cells)))
    return lines


def power_table(generator: np.random.Generator, curves: int) -> list[str]:
    lines = head("hump", "n", "drop / sd", *(f"phi {phi}" for phi in CORRELATIONS))
    for n in LENGTHS:
        x = np.linspace(0, 6, n)
        for name, curve in (
            ("bell, 1.2 dex", bell(3, 1.2)),
            ("bell, 0.5 dex", bell(3, 0.5)),
            ("descent, then bell, 1 dex", lambda x: 2 * np.exp(-4 * x) + bell(3, 1)(x)),
        ):
            for drop in (4, 10, 30):
                cells = [
                    [status_of(drop * curve(x) + e) == "found" for e in simulate_ar1(generator, (curves, n), phi)]
                    for phi in CORRELATIONS
                ]
                lines.append(row(name, n, drop, *map(percent, cells)))
    return lines


def walk_table(generator: np.random.Generator, curves: int) -> list[str]:
    kinds = ("undecided", "found", "absent", "right_censored")
    lines = head("phi", "n", *kinds)
    for phi in (0.8, 0.9, 0.95, 1.0):
        for n in LENGTHS:
            status = [status_of(v) for v in simulate_ar1(generator, (curves, n), phi)]
            lines.append(row(phi, n, *(percent([s == kind for s in status]) for kind in kinds)))
    return lines


TABLES = {
    "Where the top is": (
        mode_table,
        "Median error of `unimodal_mode` in dex, and how many of its 90 % intervals hold the top (%).\n"
        "x = log10(step + 1) runs from 0 to 6; each top is drawn from 2.5 to 3.5.",
    ),
    "False positives": (
        null_table,
        "Share found (%, with its standard error) at alpha = .05 by `second_descent` where there is no second phase.",
    ),
    "Power": (power_table, "Share found (%) at alpha = .05 of humps that rise and fall by so many sd of the noise."),
    "Random walks": (walk_table, "What `second_descent` says of curves that are noise alone (%)."),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=tuple(TABLES), help="one of the tables")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    lines = [
        *("---", "orphan: true", "---", ""),
        "# Markers on simulated curves",
        "",
        f"`python docs/benchmarks/markers_truth.py --curves {args.curves} --seed {args.seed} --write`:",
        f"{args.curves} curves a cell, numpy {np.__version__}, scipy {scipy.__version__}. phi is the correlation of "
        "neighbouring observations.",
    ]
    for k, (title, (table, what)) in enumerate(TABLES.items()):
        if args.only in (None, title):
            lines += ["", f"## {title}", "", what, *table(np.random.default_rng((args.seed, k)), args.curves)]
    print("\n".join(lines))
    if args.write:
        PAGE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
