"""Sections 3 to 5: power, place and interval of planted humps, and the test loss of a fast grokking run."""

from collections.abc import Callable
from functools import cache
from itertools import cycle, product

import numpy as np

from probe.phases import Marker, unimodal_mode
from verdicts.decisions import Bar, Cell, Number, Section, Share, Table
from verdicts.records import LAST_STEP, LENGTHS, NOISES, SPACINGS, Rule, generator_of, typical_wiggle

Shape = Callable[[np.ndarray], np.ndarray]
POWER = Bar(0.90, at_most=False)
COVERAGE = Bar(0.85, at_most=False)
COVERAGE_WANDERING = Bar(0.75, at_most=False)
WIDTH = Bar(0.4)
FAST_GROKKING = Bar(95, at_most=False)
PLACE_HEIGHTS = (6, 10, 20)
POWER_NOISES = ("white", "AR(.8)", "AR(.95) + white", "t3", "lognormal")
PLACE_NOISES = ("white", "AR(.5)", "AR(.8)", "AR(.95) + white", "Laplace")


def bell(before: float, after: float | None = None) -> Shape:
    """Return a hump of height 1 at 0, with a width in decades for each flank."""
    return lambda u: np.exp(-((u / np.where(u < 0, before, after or before)) ** 2))


SHAPES: dict[str, Shape] = {
    "bell, 0.5 decade": bell(0.5),
    "bell, 1 decade": bell(1),
    "fast rise, slow fall": bell(0.3, 1),
}
TOPS = {"log": (2.3, 3.0), "even": (4.0, 4.3)}  # range of log10 of the top's step
EVEN_SHAPES = ("bell, 0.5 decade",)  # wider ones do not end within the record


@cache
def wiggle_of(noise: str, n: int, seed: int) -> float:
    """Return the median largest wiggle of the noise alone."""
    return typical_wiggle(NOISES[noise], n, seed)


def planted(
    generator: np.random.Generator, steps: np.ndarray, shape: Shape, height: float, spacing: str, descent: float = 1.5
) -> tuple[np.ndarray, float]:
    """Return a hump of that prominence on the recorded rows, and log10 of the step of its top.

    An initial descent of ``descent`` times the height comes before it.
    """
    top = generator.uniform(*TOPS[spacing])
    hump = shape(np.log10(np.maximum(steps, 0.5)) - top)
    k = int(hump.argmax())
    prominence = hump[k] - max(hump[: k + 1].min(), hump[k:].min())
    falling = descent * np.exp(-steps / (10 if spacing == "log" else 0.005 * LAST_STEP))
    return height * (falling + hump / prominence), top


def power_table(rule: Rule, draws: int, seed: int) -> Table:
    """Return the share found of humps of 6 and 5 times the median largest wiggle."""
    caption = (
        "Share found (%) by number of rows. The height is the prominence in units of the median largest wiggle of "
        "the noise alone. The hump follows a descent of 1.5 times its height."
    )
    labels = ("height", "hump", "rows", "noise")
    table = Table("Power", caption, labels, tuple(f"{n:,}" for n in LENGTHS))
    kinds = [(shape, "log") for shape in SHAPES] + [(shape, "even") for shape in EVEN_SHAPES]
    for height, (shape, spacing), noise in product((6, 5), kinds, POWER_NOISES):
        row: dict[str, Cell] = {}
        for n in LENGTHS if height == 6 else LENGTHS[2:]:
            generator, steps = generator_of(seed, "power", height, shape, spacing, noise, n), SPACINGS[spacing](n)
            size = height * wiggle_of(noise, n, seed)
            hits = sum(
                rule(steps, planted(generator, steps, SHAPES[shape], size, spacing)[0] + noise_row).status == "found"
                for noise_row in NOISES[noise](generator, draws, n)
            )
            row[f"{n:,}"] = Share(hits, draws, POWER)
        table.add((str(height), shape, spacing, noise), row)
    return table


def two_humps_table(rule: Rule, draws: int, seed: int) -> Table:
    """Return how often both of two equal humps are among the tops, and the last one is the marker."""
    lengths = LENGTHS[1:]
    caption = (
        "Two equal bells of 0.3 decade lie at 30 and 3,000 steps. Share (%) in which `tops` has both within 0.3 "
        "decade, and the marker is the last one. The height is 10 times the median largest wiggle. Rows are log-spaced."
    )
    table = Table("Two equal humps", caption, ("noise",), tuple(f"{n:,}" for n in lengths))
    places = np.log10([30, 3000])
    for noise in POWER_NOISES[:3]:
        row: dict[str, Cell] = {}
        for n in lengths:
            steps = SPACINGS["log"](n)
            curve = sum(bell(0.3)(np.log10(steps) - place) for place in places) * 10 * wiggle_of(noise, n, seed)
            generator = generator_of(seed, "two humps", noise, n)
            markers = [rule(steps, curve + noise_row) for noise_row in NOISES[noise](generator, draws, n)]
            row[f"{n:,}"] = Share(sum(both_found(marker, places) for marker in markers), draws, POWER)
        table.add((noise,), row)
    return table


def both_found(marker: Marker, places: np.ndarray) -> bool:
    """Return whether the tops of a marker are those two places (log10 of steps), up to 0.3 decade."""
    if marker.status != "found" or len(marker.tops) != 2 or marker.step != marker.tops[-1]:
        return False
    return bool((np.abs(np.log10(marker.tops) - places) < 0.3).all())


def place_tables(
    name: str, rule: Rule, draws: int, seed: int, lengths: tuple[int, ...], *, descent: float = 1.5, barred: bool = True
) -> list[Table]:
    """Return coverage and width of the intervals and error of the tops, of the humps that are found."""
    what = "Humps of 6, 10 and 20 times the median largest wiggle and of all shapes of the table of power, in turn."
    captions = {
        "Coverage": f"Share (%) of 90 % intervals that hold the top. {what}",
        "Width": "Median width of the same intervals in decades.",
        "Error": "Median absolute error of the same tops in decades.",
    }
    columns = tuple(f"{n:,}" for n in lengths)
    tables = [Table(f"{k} of {name}", caption, ("noise", "rows"), columns) for k, caption in captions.items()]
    for noise, spacing in product(PLACE_NOISES, SPACINGS):
        coverage = COVERAGE_WANDERING if noise == "AR(.95) + white" else COVERAGE
        rows: tuple[dict[str, Cell], ...] = ({}, {}, {})
        for n, column in zip(lengths, columns, strict=True):
            found = place_errors(rule, draws, seed, noise, spacing, n, descent)
            _, width, error = np.median(found, 0) if len(found) else (np.nan,) * 3
            rows[0][column] = Share(int(found[:, 0].sum()), len(found), coverage if barred else None)
            rows[1][column] = Number(width, WIDTH if barred else None, 2)
            rows[2][column] = Number(error, None, 3)
        for table, row in zip(tables, rows, strict=True):
            table.add((noise, spacing), row)
    return tables


def place_errors(rule: Rule, draws: int, seed: int, noise: str, spacing: str, n: int, descent: float) -> np.ndarray:
    """Return (covered, width, absolute error) of each hump that is found, (found, 3)."""
    generator, steps, found = generator_of(seed, "place", noise, spacing, n), SPACINGS[spacing](n), []
    kinds = cycle(product(SHAPES if spacing == "log" else EVEN_SHAPES, PLACE_HEIGHTS))
    for noise_row in NOISES[noise](generator, draws, n):
        shape, height = next(kinds)
        values, top = planted(generator, steps, SHAPES[shape], height * wiggle_of(noise, n, seed), spacing, descent)
        marker = rule(steps, values + noise_row)
        if marker.status == "found":
            lower, step, upper = np.log10(np.maximum([marker.lower, marker.step, marker.upper], 0.5))
            found.append((lower <= top <= upper, upper - lower, abs(step - top)))
    return np.array(found, float).reshape(-1, 3)


# The test loss of a fast grokking run: steps and losses between which it runs straight.
GROKKING_STEPS = (1, 100, 200, 400, 700, 1200, 2000, 2800, 3400, 3800, 4200, 5000, 50_000)
GROKKING_LOSSES = (5.1, 5.6, 5.9, 6.3, 6.6, 6.1, 5.5, 4.5, 2.6, 0.4, 0.03, 0.01, 0.005)


def fast_grokking(generator: np.random.Generator, n: int, spiked: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return a record every 100 steps with noise of 2 % and, if ``spiked``, spikes on the flat end in 3 % of rows."""
    steps = np.maximum(100.0 * np.arange(n), 1)
    values = np.interp(steps, GROKKING_STEPS, GROKKING_LOSSES) * np.exp(0.02 * generator.standard_normal(n))
    spikes = (steps > 4500) & (generator.random(n) < 0.03)
    return steps, values + spiked * spikes * generator.exponential(1.5, n)


def fast_grokking_table(rule: Rule, seed: int) -> Table:
    """Return how many of 100 fast grokking curves are found with a top between steps 200 and 1,200."""
    caption = (
        "Number of 100 curves found with a top between steps 200 and 1,200. The loss rises from 5.1 to 6.6 at step "
        "700 and falls to 0.01 at step 5,000; rows every 100 steps."
    )
    lengths = (61, 101, 201, 501)
    table = Table("Fast grokking", caption, ("flat end",), tuple(f"{n} rows" for n in lengths))
    for label, spiked in (("without spikes", False), ("with spikes", True)):
        row: dict[str, Cell] = {}
        for n in lengths:
            generator = generator_of(seed, "fast grokking", n, spiked)
            markers = [rule(*fast_grokking(generator, n, spiked)) for _ in range(100)]
            hits = sum(marker.status == "found" and 200 <= marker.step <= 1200 for marker in markers)
            row[f"{n} rows"] = Number(hits, FAST_GROKKING)
        table.add((label,), row)
    return table


def power_section(rule: Rule, draws: int, seed: int) -> Section:
    """Return power on one hump and on two."""
    return Section("power", "Power", [power_table(rule, draws, seed), two_humps_table(rule, draws, seed)])


def place_section(rule: Rule, draws: int, seed: int) -> Section:
    """Return place and interval of the tops, and those of `unimodal_mode`, which does no test."""
    tested = place_tables("`second_descent`", rule, draws, seed, (*LENGTHS, 4000))
    untested = place_tables(
        "`unimodal_mode`", unimodal_mode, draws // 4, seed, LENGTHS[1:3], descent=0, barred=False
    )  # fmt: skip
    return Section("place", "Place of the top and its interval", tested + untested)


def grokking_section(rule: Rule, draws: int, seed: int) -> Section:
    """Return the table of fast grokking; it has 100 curves a cell."""
    return Section("grokking", "Fast grokking", [fast_grokking_table(rule, seed)])
