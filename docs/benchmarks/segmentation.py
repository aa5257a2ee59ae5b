"""Change points: ``probe`` and ruptures on the same signals. ``python docs/benchmarks/segmentation.py`` prints a table.

ruptures (Truong, Oudre and Vayatis 2020) is not a dependency; without it, only the rows of ``probe`` are printed. All
methods use the same penalty per break, ``q log(n) sd^2 (1 + phi) / (1 - phi)`` with the noise of ``difference_noise``
and q = 3 for lines (2 for lines that meet and for constant pieces), at least 3 observations per piece, and steps of one
observation (``jump=1``). The cost of all methods is a sum of squares:

- Pelt l2 (exact), Binseg l2 (approximate) and KernelCPD linear (exact, in C): constant pieces.
- Pelt "linear": regression of y on (1, x), with the true x.
- Pelt and Binseg "clinear": pieces that meet at evenly spaced observations; they do not accept x.

``probe`` fits at most three lines that meet. The signals have three, which is an advantage; "probe, free" is its fit of
lines that need not meet, on the same signals.

Methods are skipped where one run would take longer than a minute. A found break is right if a true break lies within
10 observations (each true break is matched once). The Hausdorff distance is in observations, over the records where
both have a break. CPU time is that of one thread, median over records; the ratio is taken within each record.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from probe.stats import difference_noise, piecewise_linear, simulate_ar1, variance_inflation

try:
    import ruptures
except ImportError:
    ruptures = None

SD = 0.1
MARGIN = 10
# CPU time grows at least as n^2: 8 s for Pelt linear at n = 1,000. The whole table takes about 12 minutes.
LARGEST = {"Pelt l2": 1000, "Pelt linear": 1000, "Pelt clinear": 1000}
LARGEST_OTHER = 10_000
Find = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


class Signal(NamedTuple):
    name: str
    x: Callable[[int], np.ndarray]
    at: tuple[float, ...]  # breaks, as shares of the observations
    trend: Callable[[np.ndarray, np.ndarray], np.ndarray]  # of x and of the x of all breaks and ends
    options: dict[str, object]  # of piecewise_linear
    others: tuple[str, ...]  # methods of ruptures


def even(n: int) -> np.ndarray:
    return np.linspace(0, 1, n)


def steps(n: int) -> np.ndarray:
    return np.logspace(0, 4, n)


def bends(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    return np.interp(x, knots, [0.0, 1.0, 0.8, -0.5])


def jumps(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    """Return straight pieces that do not meet."""
    piece = np.searchsorted(knots[1:-1], x, side="right")
    share = (x - knots[piece]) / (knots[piece + 1] - knots[piece])
    return np.array([0.0, 1.0, -0.5])[piece] + np.array([0.8, -0.8, 1.0])[piece] * share


def levels(x: np.ndarray, knots: np.ndarray) -> np.ndarray:
    return np.array([0.0, 0.5, 0.2, 0.9, 0.4])[np.searchsorted(knots[1:-1], x, side="right")]


LINES = ("Pelt linear", "Pelt clinear", "Binseg clinear")
SIGNALS = (
    Signal("lines, even", even, (0.3, 0.65), jumps, {}, ("Pelt linear",)),
    Signal("lines, log-spaced", steps, (0.3, 0.65), jumps, {}, ("Pelt linear",)),
    Signal("lines that meet, even", even, (0.3, 0.65), bends, {"continuous": True}, LINES),
    Signal("lines that meet, log-spaced", steps, (0.3, 0.65), bends, {"continuous": True}, LINES),
    Signal("constant", even, (0.2, 0.35, 0.6, 0.8), levels, {"kind": "constant"},
           ("Pelt l2", "Binseg l2", "KernelCPD linear")),
)  # fmt: skip


def ruptures_method(name: str) -> Find:
    """Return the function of ruptures that finds breaks for x, y and a penalty."""

    def find(x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
        method, model = name.split()
        options = {"min_size": 3} if method == "KernelCPD" else {"min_size": 3, "jump": 1}
        signal = np.column_stack([y, np.ones_like(x), x]) if model == "linear" and method == "Pelt" else y
        kind = {"kernel": model} if method == "KernelCPD" else {"model": model}
        found = getattr(ruptures, method)(**kind, **options).fit(signal).predict(pen=penalty)
        return np.array(found[:-1], dtype=int)

    return find


def probe_breaks(options: dict[str, object], x: np.ndarray, y: np.ndarray, penalty: float) -> np.ndarray:
    return piecewise_linear(x, y, penalty=penalty, **options).breaks


class Score(NamedTuple):
    seconds: float
    extra: int  # breaks found less true ones
    precision: float
    recall: float
    hausdorff: float


def score(found: np.ndarray, true: np.ndarray, seconds: float) -> Score:
    distance = np.abs(np.subtract.outer(found, true))
    right = int((distance.min(axis=0) < MARGIN).sum()) if found.size else 0
    precision = min(right, len(found)) / len(found) if found.size else 1.0
    hausdorff = float(max(distance.min(axis=0).max(), distance.min(axis=1).max())) if found.size else np.nan
    return Score(seconds, len(found) - len(true), precision, right / len(true), hausdorff)


def compare(signal: Signal, n: int, phi: float, records: int) -> dict[str, list[Score]]:
    """Return the scores of all methods on the same records."""
    methods: dict[str, Find] = {"probe": partial(probe_breaks, signal.options)}
    if "continuous" in signal.options:
        methods["probe, free"] = partial(probe_breaks, {})
    if ruptures is not None:
        methods |= {name: ruptures_method(name) for name in signal.others if n <= LARGEST.get(name, LARGEST_OTHER)}
    x, true = signal.x(n), np.round(np.array(signal.at) * n).astype(int)
    trend = signal.trend(x, x[[0, *true, n - 1]])
    free = {"probe, free", "Pelt linear"} if signal.options else set(methods)  # lines that need not meet: 3 parameters
    scores: dict[str, list[Score]] = {name: [] for name in methods}
    for noise in simulate_ar1(np.random.default_rng(0), (records, n), phi):
        y = trend + SD * noise
        sd, correlation = difference_noise(x, y)
        parameter = float(np.log(n)) * sd**2 * variance_inflation(correlation)
        for name, find in methods.items():
            start = time.process_time()
            found = find(x, y, (3 if name in free else 2) * parameter)
            scores[name].append(score(found, true, time.process_time() - start))
    return scores


def row(label: str, name: str, scores: Sequence[Score], reference: Sequence[Score]) -> str:
    ratio = statistics.median(a.seconds / max(b.seconds, 1e-6) for a, b in zip(scores, reference, strict=True))
    exact = sum(s.extra == 0 for s in scores) / len(scores)
    distances = [s.hausdorff for s in scores if not np.isnan(s.hausdorff)]
    hausdorff = f"{statistics.median(distances):.0f}" if distances else "-"
    means = (statistics.mean(getattr(s, field) for s in scores) for field in ("extra", "precision", "recall"))
    extra, precision, recall = means
    seconds = statistics.median(s.seconds for s in scores)
    return (
        f"| {label} | {name} | {exact:.2f} | {extra:+.1f} | {precision:.2f} | {recall:.2f} | {hausdorff} | "
        f"{seconds * 1e3:,.1f} | {ratio:,.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200, 1000, 10_000])
    parser.add_argument("--only", default="", help="part of the names of the signals wanted")
    args = parser.parse_args()
    if ruptures is None:
        print("ruptures is not installed; its rows are skipped: pip install ruptures")
    else:
        print(f"ruptures {ruptures.__version__}, numpy {np.__version__}; noise {SD}")
    print(
        "| signal, n, phi (records) | method | right number | extra breaks | precision | recall | Hausdorff | CPU ms | "
        "times probe |\n|---|---|---|---|---|---|---|---|---|"
    )
    for n in args.sizes:
        records = max(2, args.records * 200 // max(n, 200))
        for signal in (s for s in SIGNALS if args.only in s.name):
            for phi in (0.0, 0.6):
                scores = compare(signal, n, phi, records)
                for name, found in scores.items():
                    label = f"{signal.name}, {n:,}, {phi} ({records})"
                    print(row(label, name, found, scores["probe"]), flush=True)


if __name__ == "__main__":
    main()
