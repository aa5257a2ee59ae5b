"""How often intervals of growth exponents hold the planted exponent: table of docs/measures/weight_modes.md.

    python docs/benchmarks/renormalisation_truth.py [--draws 100]

Each draw plants six modes in a matrix, in random directions, at 31 steps from 1 to 1000. Their powers are uniform from
-0.5 to 0.5 and their sizes at step 30 log-uniform from 8 to 40, so that they cross at random. Noise is added to the
matrix: none, white (new at each observation), or a random walk whose variance grows with the observations or with the
steps. Its size is the ratio of its largest singular value at the end to the smallest planted value of any time. The
modes are followed, and their exponents estimated in two windows. A trajectory is compared with the planted mode that is
closest to it in the window; it counts as swapped if it differs from this mode by more than a tenth on average.
"""

import argparse
from collections.abc import Iterator

import numpy as np
import xarray as xr

from probe.geometry import follow_modes
from probe.stats import growth_exponents

STEPS = np.unique(np.geomspace(1, 1000, 31).round().astype(int))
WINDOWS = {"early": (1, 40), "late": (25, 1000)}
MODES = 6
SHAPES = (20, 30), (64, 128)
NOISES = {
    "none": 0.0,
    "white": 0.1,
    "walk in observations": 0.1,
    "walk in steps": 0.1,
    "large walk in steps": 0.3,
}


def noise(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> np.ndarray:
    """Return noise matrices (steps, m, n) whose last one has a largest singular value of about 1."""
    draws = rng.normal(size=(len(STEPS), *shape))
    if "walk" in kind:
        times = STEPS if "steps" in kind else np.arange(1, len(STEPS) + 1)
        draws = (draws * np.sqrt(np.diff(times, prepend=0))[:, None, None]).cumsum(0) / np.sqrt(times[-1])
    return draws / (np.sqrt(shape[0]) + np.sqrt(shape[1]))


def draw(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return matrices (steps, m, n), planted values (steps, modes), and their powers."""
    powers, sizes = rng.uniform(-0.5, 0.5, MODES), np.exp(rng.uniform(np.log(8), np.log(40), MODES))
    values = sizes * (STEPS[:, None] / 30) ** powers
    left, right = (np.linalg.qr(rng.normal(size=(n, MODES)))[0] for n in shape)
    planted = np.einsum("mk,tk,nk->tmn", left, values, right)
    return planted + NOISES[kind] * values.min() * noise(rng, kind, shape), values, powers


def series_of(matrices: np.ndarray) -> xr.Dataset:
    """Return the modes in the schema of the probe."""
    found, dims = follow_modes(matrices, max_modes=MODES), ("step", "parameter", "mode")
    columns = {
        "mode_singular_value": (dims, found.values[:, None]),
        "mode_matched": (dims, found.matched[:, None]),
        "mode_degenerate": (dims, found.degenerate[:, None]),
        "mode_norm": (dims[:2], found.norms[:, None]),
        "mode_undefined": (dims[:2], np.zeros((len(matrices), 1), int)),
    }
    return xr.Dataset(columns, {"step": STEPS, "parameter": ["w"], "mode": range(MODES)})


def results(rng: np.random.Generator, kind: str, shape: tuple[int, int]) -> Iterator[tuple[float, float, bool, float]]:
    """Yield error, width of the interval, whether it holds the truth, and distance from the planted mode in log s."""
    matrices, values, powers = draw(rng, kind, shape)
    series = series_of(matrices)
    exponents = growth_exponents(series, WINDOWS, relative=False)
    for name, (first, last) in WINDOWS.items():
        inside = (first <= STEPS) & (last >= STEPS)
        followed, found = series["mode_singular_value"].values[inside, 0], exponents.sel(window=name, parameter="w")
        apart = np.nanmean(np.abs(np.log(followed[:, :, None] / values[inside][:, None])), 0)
        for mode in (found["status"] == "estimated").values.nonzero()[0]:
            one, truth = found.isel(mode=mode), powers[apart[mode].argmin()]
            held = bool(one["low"] <= truth <= one["high"])
            yield one["exponent"].item() - truth, (one["high"] - one["low"]).item(), held, apart[mode].min()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    draws = parser.parse_args().draws
    columns = "matrix", "noise", "size", "estimated", "in the interval", "swapped", "median error", "median width"
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for shape in SHAPES:
        for kind, size in NOISES.items():
            rng = np.random.default_rng(0)
            found = np.array([one for _ in range(draws) for one in results(rng, kind, shape)])
            error, width, held, apart = found.T
            total = draws * MODES * len(WINDOWS)
            cells = [f"{100 * x:.1f} %" for x in (len(found) / total, held.mean(), (apart > 0.1).mean())]
            numbers = np.median(np.abs(error)), np.median(width)
            row = "×".join(map(str, shape)), kind, f"{size:g}", *cells, *(f"{x:.4f}" for x in numbers)
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
