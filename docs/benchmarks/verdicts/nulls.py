"""Curves without a hump, in families.

A family is a function of a generator, the number of draws and a record of steps, (n,). It returns curves, (draws, n).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from probe.stats import simulate_ar1
from verdicts.decisions import Bar
from verdicts.records import LAST_STEP, LENGTHS, NOISES, SPACINGS

Label = tuple[str, ...]
Family = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]
FALL = 30  # initial descent, in standard deviations of the noise
N_EPOCHS = 10


def descent(steps: np.ndarray) -> np.ndarray:
    """Return an exponential descent that ends after a few thousandths of the steps or, if even, some rows."""
    return FALL * np.exp(-steps / (0.001 * LAST_STEP if steps[1] < 0.001 * LAST_STEP else 0.05 * LAST_STEP))


def _sigmoid(x: np.ndarray, middle: float, width: float) -> np.ndarray:
    return 1 / (1 + np.exp(-(x - middle) / width))


def _white(generator: np.random.Generator, draws: int, steps: np.ndarray) -> np.ndarray:
    return generator.standard_normal((draws, len(steps)))


def noisy(noise: str, falling: bool) -> Family:
    """Return a constant or the initial descent with one kind of noise."""
    return lambda g, draws, steps: NOISES[noise](g, draws, len(steps)) + (descent(steps) if falling else 0)


def walk(trend: float) -> Family:
    """Return a random walk on a straight trend, in standard deviations of its last value."""
    return lambda g, draws, steps: (
        simulate_ar1(g, (draws, len(steps)), 1) + trend * np.sqrt(len(steps)) * np.linspace(0, 1, len(steps))
    )


def sawtooth(sign: int) -> Family:
    """Return a descent whose loss drifts within each epoch and jumps back at the next one."""

    def curves(generator: np.random.Generator, draws: int, steps: np.ndarray) -> np.ndarray:
        phase = (steps / LAST_STEP * N_EPOCHS) % 1
        return descent(steps) + sign * 6 * (phase - 0.5) + _white(generator, draws, steps)

    return curves


def spiked(flank: int) -> Family:
    """Return a descent with one to three spikes of 10 to 40 sd, each up at once and down over ``flank`` rows."""

    def curves(generator: np.random.Generator, draws: int, steps: np.ndarray) -> np.ndarray:
        values = descent(steps) + _white(generator, draws, steps)
        n = len(steps)
        for row in values:
            for at in generator.choice(np.arange(n // 5, n - 2), generator.integers(1, 4), replace=False):
                row[at : at + flank] += generator.uniform(10, 40) * np.exp(-3 * np.arange(min(flank, n - at)) / flank)
        return values

    return curves


def accuracy(kind: str, n_test: int) -> Family:
    """Return shares of ``n_test`` answers: at chance, rising to a plateau, or errors that fall to one."""

    def curves(generator: np.random.Generator, draws: int, steps: np.ndarray) -> np.ndarray:
        rising = 0.1 + 0.8 * _sigmoid(np.log10(steps + 1), 2.5, 0.3)
        share = {"at chance": np.full(len(steps), 0.1), "rising": rising, "error, falling": 1 - rising}[kind]
        return generator.binomial(n_test, share, (draws, len(steps))) / n_test

    return curves


def memorising(kind: str) -> Family:
    """Return a loss that falls a little, rises 15-fold and does not fall, with noise in proportion to its level."""

    def curves(generator: np.random.Generator, draws: int, steps: np.ndarray) -> np.ndarray:
        x, shape = np.log10(steps + 1), (draws, len(steps))
        level = 3 + 47 * {"to the end": np.clip((x - 2) / 3, 0, 1)}.get(kind, _sigmoid(x, 3, 0.2))
        noise = 0.01 * generator.standard_normal(shape)
        if kind == "to a wandering level":
            noise += 0.03 * simulate_ar1(generator, shape, 0.98)
        return (level + 0.5 * np.exp(-x)) * np.exp(noise)

    return curves


# Functions of log10(step + 1), in standard deviations of the noise.
SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "saturating rise": lambda x: 30 * (1 - np.exp(-x)),
    "linear fall": lambda x: -5 * x,
    "linear rise": lambda x: 5 * x,
    "sigmoid fall": lambda x: -20 * _sigmoid(x, 3, 0.2),
    "sharp rise, plateau": lambda x: 20.0 * (x > 0.5),
    "descent, rise, plateau": lambda x: 30 * np.exp(-4 * x) + 20 * _sigmoid(x, 2, 0.2),
    "plateau, sharp fall": lambda x: -20.0 * (x > 4.5),
}


def shaped(shape: str, phi: float, scale: tuple[float, float] = (1, 1)) -> Family:
    """Return a curve without a fall after a rise; the noise grows or shrinks between the two ``scale``s."""
    return lambda g, draws, steps: (
        (SHAPES[shape](np.log10(steps + 1)) if shape in SHAPES else 0)
        + np.geomspace(*scale, len(steps)) * simulate_ar1(g, (draws, len(steps)), phi)
    )


def relative_noise(phi: float) -> Family:
    """Return a curve that falls 1,000-fold with noise of 10 % of its value."""
    return lambda g, draws, steps: (
        steps[-1] ** (-0.6 * np.linspace(0, 1, len(steps))) * np.exp(0.1 * simulate_ar1(g, (draws, len(steps)), phi))
    )


def shapes() -> dict[Label, Family]:
    """Return the further shapes by name and correlation of the noise."""
    families: dict[Label, Family] = {}
    for phi in (0.0, 0.8):
        for shape in SHAPES:
            families[shape, f"{phi:g}"] = shaped(shape, phi)
        families["constant, noise grows 5-fold", f"{phi:g}"] = shaped("constant", phi, (1, 5))
        families["constant, noise shrinks 5-fold", f"{phi:g}"] = shaped("constant", phi, (5, 1))
        families["falls 1,000-fold, noise 10 % of it", f"{phi:g}"] = relative_noise(phi)
    return families


@dataclass(frozen=True)
class Null:
    """Families that stand in one table, the numbers of rows, their spacings, and bars other than 5 %."""

    title: str
    caption: str
    labels: Label
    families: Mapping[Label, Family]
    lengths: tuple[int, ...] = LENGTHS
    spacings: tuple[str, ...] = tuple(SPACINGS)
    bars: Mapping[Label, Bar] = field(default_factory=dict)


NOISE = Null(
    "Noise",
    f"Falling curves descend by {FALL} sd at first.",
    ("curve", "noise"),
    {(name, noise): noisy(noise, name == "falling") for name in ("constant", "falling") for noise in NOISES},
)
NULLS = (
    Null(
        "Random walks",
        "A trend amounts to twice the sd of the last value.",
        ("ground",),
        {("flat",): walk(0), ("falling trend",): walk(-2), ("rising trend",): walk(2)},
        bars={("falling trend",): Bar(0.10), ("rising trend",): Bar(0.10)},
    ),
    Null(
        "Sawtooth of epochs",
        f"A descent, {N_EPOCHS} epochs, teeth of 6 sd of white noise.",
        ("loss",),
        {("falls within an epoch",): sawtooth(-1), ("rises within an epoch",): sawtooth(1)},
    ),
    Null(
        "Spikes",
        "A descent with one to three spikes of 10 to 40 sd, up at once.",
        ("rows until it is down",),
        {(str(flank),): spiked(flank) for flank in (1, 3, 6, 12)},
    ),
    Null(
        "Accuracies as curves",
        "Independent binomial counts.",
        ("accuracy", "test rows"),
        {
            (kind, f"{n_test:,}"): accuracy(kind, n_test)
            for kind in ("at chance", "rising", "error, falling")
            for n_test in (20, 200, 1000)
        },
        spacings=("log",),
    ),
    Null(
        "Memorising controls",
        "The loss rises from 3 to 50 and does not fall; the wandering level is AR(.98) with an sd of 3 %.",
        ("rises",),
        {(kind,): memorising(kind) for kind in ("to the end", "to a plateau", "to a wandering level")},
    ),
    Null("Further shapes", "", ("curve", "correlation of the noise"), shapes(), lengths=(60, 200), spacings=("log",)),
)
