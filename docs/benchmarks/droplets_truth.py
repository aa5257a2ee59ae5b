"""How often :func:`probe.stats.droplet_phase` is right on overlaps of known phase (docs/measures/weight_phase.md).

    python docs/benchmarks/droplets_truth.py [--draws 100]

Overlaps of the theory are drawn from exp(-S(q)) of arXiv:2310.03789 with the coefficients of its first transition
(sigma_w^2 = .5, eps = -.3: b = .29196, c = -.3). For each number of inputs d, u is chosen so that a given share of the
probability lies beyond the antimode. The barrier is log(density of the lower peak / density at the antimode).
"""

import argparse
from collections import Counter
from collections.abc import Callable

import numpy as np

from probe.stats import droplet_phase

Draw = Callable[[np.random.Generator, int], np.ndarray]
WEIGHT_VARIANCE, LINEAR, CUBIC = 0.5, 0.29196, -0.3
GRID = np.linspace(-3, 3, 24001)
DIMENSIONS, FRACTIONS = (53, 150, 250, 400), (0.15, 0.3, 0.6, 0.85)
UNITS = (100, 200, 400)


def action(q: np.ndarray, d: float, u: float) -> np.ndarray:
    """Return S(q) of the theory."""
    size = 1 + 2 * (WEIGHT_VARIANCE + q**2)
    gain = 2 * u / np.pi * q**2 / size * (LINEAR - 2 * CUBIC * q**2 / size) ** 2
    return d * (q**2 / (2 * WEIGHT_VARIANCE) - gain)


def density(d: float, u: float) -> tuple[np.ndarray, float, float]:
    """Return the probabilities on the grid, the share beyond the antimode, and the barrier."""
    s = action(GRID, d, u)
    p = np.exp(s.min() - s)
    p /= p.sum()
    half = p[len(GRID) // 2 :]
    inner = np.flatnonzero((half[1:-1] < half[:-2]) & (half[1:-1] <= half[2:]) & (GRID[len(GRID) // 2 + 1 : -1] < 1.5))
    if not len(inner):
        return p, float(half.argmax() > 0), 0.0
    cut = inner[0] + 1
    return p, float(2 * half[cut:].sum()), float(np.log(min(half[0], half[cut:].max()) / half[cut]))


def at_fraction(d: float, fraction: float) -> float:
    """Return the smallest u at which this share lies beyond the antimode, by bisection."""
    low, high = 20.0, 60.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (low, middle) if density(d, middle)[1] >= fraction else (middle, high)
    return high


def theory(d: float, u: float) -> Draw:
    """Return a sampler of overlaps."""
    probabilities, step = density(d, u)[0].cumsum(), GRID[1] - GRID[0]

    def draw(generator: np.random.Generator, n: int) -> np.ndarray:
        places = np.searchsorted(probabilities, generator.random(n)).clip(max=len(GRID) - 1)
        return GRID[places] + step * (generator.random(n) - 0.5)

    return draw


def student(freedom: int) -> Draw:
    """Return a sampler of t distributions."""
    return lambda generator, n: generator.standard_t(freedom, n)


def outliers(count: int) -> Draw:
    """Return Gaussian overlaps of which some are 5 to 15 standard deviations away, at either side."""

    def draw(generator: np.random.Generator, n: int) -> np.ndarray:
        q = generator.standard_normal(n)
        q[:count] = generator.uniform(5, 15, count) * generator.choice([-1, 1], count)
        return q

    return draw


def gaussian_weights(kind: str, d: int = 64) -> Draw:
    """Return the overlaps of Gaussian weights of a covariance with a random direction."""

    def draw(generator: np.random.Generator, n: int) -> np.ndarray:
        w, v = generator.standard_normal((n, d)), generator.standard_normal(d)
        if kind == "rank 2":
            w = w[:, :2] @ generator.standard_normal((2, d))
        elif kind == "eigenvalues 1 / k^2":
            w = w / np.arange(1, d + 1)
        elif kind == "units correlated by .3":
            w = np.sqrt(0.7) * w + np.sqrt(0.3) * generator.standard_normal(d)
        elif kind == "neighbours correlated by .8":
            for i in range(1, n):
                w[i] = 0.8 * w[i - 1] + 0.6 * w[i]
        elif kind == "norms of units log-normal":
            w = w * np.exp(generator.standard_normal((n, 1)))
        return w @ v

    return draw


NULLS: dict[str, Draw] = {
    **{f"Gaussian weights, {kind}": gaussian_weights(kind) for kind in (
        "isotropic", "rank 2", "eigenvalues 1 / k^2", "units correlated by .3", "neighbours correlated by .8",
        "norms of units log-normal",
    )},
    **{f"Student t, {k} degrees": student(k) for k in (3, 5, 10)},
    "Laplace": lambda g, n: g.laplace(size=n),
    "logistic": lambda g, n: g.logistic(size=n),
    "uniform": lambda g, n: g.uniform(-1, 1, n),
    "half of them 0": lambda g, n: g.standard_normal(n) * (g.random(n) < 0.5),
    "exponential, mean 0": lambda g, n: g.exponential(size=n) - 1,
    "log-normal, mean 0": lambda g, n: g.lognormal(size=n) - np.exp(0.5),
    "one outlier": outliers(1),
    "five outliers": outliers(5),
    "Gaussian in bfloat16": lambda g, n: (g.standard_normal(n).astype("f4").view("u4") & 0xFFFF0000).view("f4"),
}  # fmt: skip


def shares(draw: Draw, n: int, draws: int) -> Counter[str]:
    """Return how often each phase is found, in percent."""
    generator, found = np.random.default_rng(7), Counter[str]()
    for _ in range(draws):
        found[droplet_phase(draw(generator, n))["phase"].item()] += 1
    return Counter({phase: round(100 * count / draws) for phase, count in found.items()})


def phase_rows(draws: int) -> None:
    """Print how often each phase of the theory is found."""
    print("| d | truth | share of droplets | barrier, nats |" + "".join(f" {n} |" for n in UNITS))
    for d in DIMENSIONS:
        cases = [("GFL", 20.0)]
        cases += [("GMFL-I", at_fraction(d, fraction)) for fraction in FRACTIONS] + [
            ("GMFL-II", 1.3 * at_fraction(d, 0.99))
        ]
        for truth, u in cases:
            _, fraction, barrier = density(d, u)
            right = [shares(theory(d, u), n, draws)[truth] for n in UNITS]
            print(f"| {d} | {truth} | {fraction:.2f} | {barrier:.1f} |" + "".join(f" {r} |" for r in right), flush=True)


def null_rows(draws: int) -> None:
    """Print how often the null samples are called mixed, and how often GMFL-II."""
    print("| overlaps |" + "".join(f" {n} |" for n in UNITS))
    for name, draw in NULLS.items():
        cells = []
        for n in UNITS:
            found = shares(draw, n, draws)
            cells.append(f"{found['GMFL-I']}, {found['GMFL-II']}, {found['GFL']}")
        print(f"| {name} |" + "".join(f" {cell} |" for cell in cells), flush=True)


def copies_rows(draws: int) -> None:
    """Print the phases of copies of Gaussian units at either sign, and the effective number of units."""
    print("| copies of each unit | noise | units | GMFL-I | GMFL-II | GFL | undecided | effective (10 to 90 %) |")
    for k, noise, n in ((k, noise, n) for k in (2, 4, 10, 20) for noise in (1e-7, 0.01) for n in (200, 400, 1000)):
        generator, phases, effective = np.random.default_rng(7), Counter[str](), []
        for _ in range(draws):
            q = generator.standard_normal(n // k).repeat(k) * generator.choice([-1, 1], n)
            found = droplet_phase(q + noise * generator.standard_normal(n))
            phases[found["phase"].item()] += 1
            effective.append(found["n_effective"].item())
        cells = [round(100 * phases[name] / draws) for name in ("GMFL-I", "GMFL-II", "GFL", "undecided")]
        low, middle, high = np.quantile(effective, (0.1, 0.5, 0.9)).round().astype(int)
        print(
            f"| {k} | {noise:g} | {n} |" + "".join(f" {c} |" for c in cells) + f" {middle} ({low} to {high}) |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--part", choices=("phases", "nulls", "copies"), help="one of the tables")
    arguments = parser.parse_args()
    for name, rows in (("phases", phase_rows), ("nulls", null_rows), ("copies", copies_rows)):
        if arguments.part in (None, name):
            rows(arguments.draws)
