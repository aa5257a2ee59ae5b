"""Simulated records: steps, noise, and how a rule is counted on many draws. Arrays of draws have shape (draws, n)."""

import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
from scipy.signal import find_peaks, peak_prominences

from probe.phases import Marker
from probe.stats import simulate_ar1

Record = tuple[np.ndarray, np.ndarray]  # steps and values, each (n,)
Rule = Callable[[np.ndarray, np.ndarray], Marker]
Noise = Callable[[np.random.Generator, int, int], np.ndarray]

LENGTHS = (30, 60, 200, 1000)
LAST_STEP = 1e5
SPACINGS: dict[str, Callable[[int], np.ndarray]] = {
    "even": lambda n: np.linspace(0, LAST_STEP, n),
    "log": lambda n: np.geomspace(1, LAST_STEP, n),
}


def _ar1(phi: float) -> Noise:
    return lambda generator, draws, n: simulate_ar1(generator, (draws, n), phi)


def _ar1_and_white(generator: np.random.Generator, draws: int, n: int) -> np.ndarray:
    noise = simulate_ar1(generator, (draws, n), 0.95) + generator.standard_normal((draws, n))
    return noise / np.sqrt(2)


def _lognormal(generator: np.random.Generator, draws: int, n: int) -> np.ndarray:
    noise = generator.lognormal(size=(draws, n))
    return (noise - np.exp(0.5)) / np.sqrt(np.expm1(1) * np.exp(1))


NOISES: dict[str, Noise] = {  # mean 0, standard deviation 1
    "white": lambda generator, draws, n: generator.standard_normal((draws, n)),
    "AR(.5)": _ar1(0.5),
    "AR(.8)": _ar1(0.8),
    "AR(.95)": _ar1(0.95),
    "AR(.95) + white": _ar1_and_white,
    "Laplace": lambda generator, draws, n: generator.laplace(size=(draws, n)) / np.sqrt(2),
    "t3": lambda generator, draws, n: generator.standard_t(3, (draws, n)) / np.sqrt(3),
    "lognormal": _lognormal,
}


def generator_of(seed: int, *names: object) -> np.random.Generator:
    """Return a generator that depends on the seed and the name of the cell alone, not on the cells before."""
    return np.random.default_rng((seed, zlib.crc32(repr(names).encode())))


def statuses(rule: Rule, steps: np.ndarray, curves: np.ndarray) -> Counter[str]:
    """Return how often the rule returns each status on the rows of ``curves``."""
    return Counter(str(rule(steps, values).status) for values in curves)


def largest_wiggle(values: np.ndarray) -> float:
    """Return the largest prominence of an interior maximum of one record, 0 without a maximum."""
    prominences = peak_prominences(values, find_peaks(values)[0])[0]
    return float(prominences.max(initial=0.0))


def typical_wiggle(noise: Noise, n: int, seed: int) -> float:
    """Return the median over 200 draws of the largest wiggle of the noise alone."""
    draws = noise(generator_of(seed, "wiggle", n), 200, n)
    return float(np.median([largest_wiggle(values) for values in draws]))
