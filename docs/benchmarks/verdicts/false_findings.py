"""Section 2: how often a hump is found on curves that have none.

A family is a function of a generator, the number of draws and a record of steps, (n,). It returns curves, (draws, n).
"""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np
from curves.densities import log_spaced

from probe.stats import simulate_ar1
from verdicts import convex
from verdicts.decisions import Bar, Section, Share, Table
from verdicts.records import LAST_STEP, LENGTHS, NOISES, SPACINGS, Rule, generator_of, statuses

Label = tuple[str, ...]
Family = Callable[[np.random.Generator, int, np.ndarray], np.ndarray]
BAR = Bar(0.05)
WALK_ON_TREND = Bar(0.10)
CENSORED_ON_FLAT = Bar(0.10)
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


def table_of(
    rule: Rule, title: str, caption: str, labels: Label, families: Mapping[Label, Family],
    draws: int, seed: int, *, lengths: tuple[int, ...] = LENGTHS, spacings: tuple[str, ...] = tuple(SPACINGS),
    bars: Mapping[Label, Bar] | None = None, censored: Table | None = None,
) -> Table:  # fmt: skip
    """Return the share found by family (rows), and by spacing and number of rows (columns).

    Rows of ``censored`` are filled with the share called right-censored where the curve is constant.
    """
    cells = list(product(lengths, spacings))
    table = Table(title, caption, labels, tuple(f"{n:,} {spacing}" for n, spacing in cells))
    for label, family in families.items():
        found, rising, bar = {}, {}, (bars or {}).get(label, BAR)
        for n, spacing in cells:
            steps = SPACINGS[spacing](n)
            curves = family(generator_of(seed, title, label, n, spacing), draws, steps)
            counts, column = statuses(rule, steps, curves), f"{n:,} {spacing}"
            found[column] = Share(counts["found"], draws, bar)
            rising[column] = Share(counts["right_censored"], draws, CENSORED_ON_FLAT)
        table.add(label, found)
        if censored is not None and label[0] == "constant":
            censored.add(label[1:], rising)
    return table


def convex_table(rule: Rule, draws: int, seed: int) -> Table:
    """Return the share found on stochastic gradient descent on a convex problem."""
    steps = np.arange(convex.STEPS, dtype=float)
    rows = {
        f"every step ({convex.STEPS} rows)": steps.astype(int),
        f"every tenth ({convex.STEPS // 10})": steps.astype(int)[::10],
        "40 log-spaced": log_spaced(steps, steps)[0].astype(int),
    }
    caption = (
        f"Share found (%). Softmax regression, batches of {convex.BATCH} of {convex.N_ROWS} rows; the curve is the "
        "loss of all rows. Full gradients of the same rates make it fall at every step."
    )
    table = Table("Learning rates on a convex problem", caption, ("rate",), tuple(rows))
    for schedule in convex.SCHEDULES:
        curves = convex.losses(schedule, draws, generator_of(seed, "convex", schedule))
        cells = {name: statuses(rule, steps[kept], curves[:, kept])["found"] for name, kept in rows.items()}
        table.add((schedule,), {name: Share(hits, draws, BAR) for name, hits in cells.items()})
    return table


def section(rule: Rule, draws: int, seed: int) -> Section:
    """Return all tables of false findings."""
    what = "Share found (%) by number of rows and their spacing in steps."
    censored = Table(
        "Constant curves called right-censored", "Share (%) of the constant curves of the table above.", ("noise",),
        tuple(f"{n:,} {spacing}" for n, spacing in product(LENGTHS, SPACINGS)),
    )  # fmt: skip
    curves: dict[Label, Family] = {
        (name, noise): noisy(noise, falling)
        for name, falling in (("constant", False), ("falling", True))
        for noise in NOISES
    }
    walks: dict[Label, Family] = {("flat",): walk(0), ("falling trend",): walk(-2), ("rising trend",): walk(2)}
    walk_bars: dict[Label, Bar] = {label: WALK_ON_TREND for label in walks if label != ("flat",)}
    teeth: dict[Label, Family] = {("falls within an epoch",): sawtooth(-1), ("rises within an epoch",): sawtooth(1)}
    spikes: dict[Label, Family] = {(str(flank),): spiked(flank) for flank in (1, 3, 6, 12)}
    shares: dict[Label, Family] = {
        (kind, f"{n_test:,}"): accuracy(kind, n_test)
        for kind in ("at chance", "rising", "error, falling")
        for n_test in (20, 200, 1000)
    }
    controls: dict[Label, Family] = {
        (kind,): memorising(kind) for kind in ("to the end", "to a plateau", "to a wandering level")
    }
    noise_table = table_of(
        rule, "Noise", f"{what} Falling curves descend by {FALL} sd at first.", ("curve", "noise"), curves,
        draws, seed, censored=censored,
    )  # fmt: skip
    tables = [
        noise_table,
        censored,
        table_of(
            rule, "Random walks", f"{what} A trend amounts to twice the sd of the last value.", ("ground",), walks,
            draws, seed, bars=walk_bars,
        ),
        convex_table(rule, draws, seed),
        table_of(
            rule, "Sawtooth of epochs", f"{what} A descent, {N_EPOCHS} epochs, teeth of 6 sd of white noise.",
            ("loss",), teeth, draws, seed,
        ),
        table_of(
            rule, "Spikes", f"{what} A descent with one to three spikes of 10 to 40 sd, up at once.",
            ("rows until it is down",), spikes, draws, seed,
        ),
        table_of(
            rule, "Accuracies as curves", f"{what} Independent binomial counts.", ("accuracy", "test rows"), shares,
            draws, seed, spacings=("log",),
        ),
        table_of(
            rule, "Memorising controls", f"{what} The loss rises from 3 to 50 and stays; the level wanders by 3 % "
            "with AR(.98).", ("rises",), controls, draws, seed,
        ),
        table_of(
            rule, "Further shapes", what, ("curve", "correlation of the noise"), shapes(), draws, seed,
            lengths=(60, 200), spacings=("log",),
        ),
    ]  # fmt: skip
    return Section("false findings", "False findings", tables)
