"""The null law behind the p-values of `second_descent`: `python docs/benchmarks/second_phase_table.py`.

Simulates constants with AR(1) noise of every correlation from 0 (white) to 1 (a random walk), estimates standard
deviation and correlation on each as `second_descent` does, and takes how far each curve falls, and rises (the two have
one law). Curves of all correlations that were estimated alike (within .05) give the quantiles of a cell. These hold on
average over the correlations; each level is then lowered until it holds at every single correlation up to .9. Beyond it
no test of one run can tell, and `second_descent` says so.

Writes probe/stats/second_phase.csv: n, estimated correlation, correlation that 90 % of random walks reach, quantiles.
"""

import argparse
from pathlib import Path

import numpy as np

from probe.stats import PHI_GRID
from probe.stats import simulate_ar1, noise_model
from probe.stats import ScanStatistic

OUT = Path(__file__).parents[2] / "probe" / "stats" / "second_phase.csv"
LENGTHS = (8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024, 2000)
LEVELS = np.array([0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001])
HELD = 0.9


def simulate(generator: np.random.Generator, n: int, curves: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """True and estimated correlation (index into PHI) and statistic; each of shape (samples,)."""
    parts = []
    for true, phi in enumerate(PHI_GRID):
        for _ in range(0, curves, 250):
            values = simulate_ar1(generator, (250, n), phi)
            noise = noise_model(values)
            statistic = ScanStatistic(values, noise)
            estimated = np.searchsorted(PHI_GRID, noise.phi - 1e-9)
            parts += [(np.full(250, true), estimated, statistic.largest(side)) for side in ("rise", "fall")]
    true, estimated, c = (np.concatenate(part) for part in zip(*parts, strict=True))
    return true, estimated, c


def quantiles(true: np.ndarray, estimated: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Quantiles (phi, levels), valid at every true correlation up to HELD."""
    cells = [np.sort(c[np.abs(estimated - k) <= 1]) for k in range(len(PHI_GRID))]
    p = np.empty(len(c))
    for k, cell in enumerate(cells):
        here = estimated == k
        p[here] = 1 - (np.searchsorted(cell, c[here], side="left") - 0.5) / len(cell)
    levels = np.min([np.quantile(p[true == k], LEVELS) for k in np.flatnonzero(PHI_GRID <= HELD)], axis=0)
    return np.array([np.quantile(cell, 1 - np.minimum(levels, LEVELS)) if len(cell) else c.max() for cell in cells])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=int, default=600, help="of each correlation; a quarter of it above n = 256")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    lines = ["n,correlation,suspect," + ",".join(f"{p:g}" for p in LEVELS)]
    for n in LENGTHS:
        generator = np.random.default_rng((args.seed, n))
        true, estimated, c = simulate(generator, n, args.curves if n <= 256 else args.curves // 4)
        suspect = PHI_GRID[int(np.quantile(estimated[true == len(PHI_GRID) - 1], 0.1))]
        for phi, row in zip(PHI_GRID, quantiles(true, estimated, c), strict=True):
            lines.append(f"{n},{phi:g},{suspect:g}," + ",".join(f"{q:.2f}" for q in row))
        print(n, suspect, lines[-len(PHI_GRID)])
    OUT.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
