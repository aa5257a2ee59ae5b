"""How often cone_entry calls a movement without a cone a cone, and how often it finds a planted cone.

The truth is planted: vectors move in ``dimension`` directions, two measurements add independent jitter, and the norm
doubles along the record. ``python docs/benchmarks/cone_truth.py`` prints tables in Markdown. ``--write`` puts them into
docs/phases_truth.md. 200 draws take eight CPU minutes.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import binom, binomtest

from probe.stats import Cone, cone_entry

LENGTHS, DIMENSIONS = (20, 30, 60), (10, 100, 1000)
BAR, POWER, LEVEL = 0.05, 0.9, 0.9
ORIGIN = 5.0  # length of the mean vector, in lengths of the movement: cosine distances of about 0.04
LAST = 10_000  # step
PAGE = Path(__file__).parents[1] / "phases_truth.md"
START, END = "<!-- cone:start -->", "<!-- cone:end -->"
Random = np.random.Generator
Null = Callable[[Random, int, int], np.ndarray]  # generator, observations, dimension -> positions


class Planted(NamedTuple):
    steps: np.ndarray
    positions: np.ndarray  # (n, dimension)
    entry: float  # step


def cosine_distances(x: np.ndarray) -> np.ndarray:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(1 - unit @ unit.T)


def noisy(rng: Random, x: np.ndarray, share: float, squared: float) -> np.ndarray:
    """Return vectors that grow, with jitter that is ``share`` of the squared distances, and a common mean vector."""
    sd = np.sqrt(squared * share / (1 - share) / 2 / x.shape[1]) if share < 1 else 1 / np.sqrt(x.shape[1])
    x = x + sd * rng.standard_normal(x.shape)
    mean = np.full((len(x), 1), ORIGIN * np.sqrt(max(squared, 1e-9) / (1 - share) if share < 1 else 2.0))
    return np.asarray(np.hstack([x, mean]) * np.geomspace(1, 2, len(x))[:, None])


def measured(rng: Random, steps: np.ndarray, x: np.ndarray, share: float, squared: float) -> Cone:
    first, second = noisy(rng, x, share, squared), noisy(rng, x, share, squared)
    norms = np.linalg.norm(first, axis=1)
    return cone_entry(steps, cosine_distances(first), cosine_distances(second), norms=norms, level=LEVEL)


def walk(sizes: Callable[[np.ndarray], np.ndarray]) -> Null:
    """Return a random walk whose steps have these sizes at the positions 0 to 1 of the record."""

    def draw(rng: Random, n: int, dimension: int) -> np.ndarray:
        steps = sizes(np.linspace(0, 1, n))[:, None] * rng.standard_normal((n, dimension))
        return np.asarray(np.cumsum(steps, axis=0))

    return draw


def drift(place: Callable[[np.ndarray], np.ndarray]) -> Null:
    def draw(rng: Random, n: int, dimension: int) -> np.ndarray:
        return np.asarray(place(np.linspace(0, 1, n))[:, None] * np.eye(1, dimension))

    return draw


JITTER = (0.0, 0.2, 0.5, 0.8)
NULLS: dict[str, tuple[tuple[Null, ...], tuple[float, ...]]] = {
    "random walk, steady": ((walk(np.ones_like),), JITTER),
    "random walk, slower and slower": (
        (walk(lambda t: np.exp(-3 * t)), walk(lambda t: 1 / np.sqrt(60 * t + 1))),
        JITTER,
    ),
    "random walk, log-spaced steps": ((walk(lambda t: np.exp(4 * t)),), JITTER),
    "standing still plus jitter": ((drift(np.zeros_like),), (1.0,)),
    "steady drift plus jitter": ((drift(lambda t: t), drift(lambda t: np.exp(6 * t))), (0.02, *JITTER[1:])),
    "drift that slows down, plus jitter": ((drift(lambda t: 1 - np.exp(-2 * t)),), (0.02, *JITTER[1:])),
}


def planted(rng: Random, n: int, dimension: int, early: float, time: float, speed: float, spacing: str) -> Planted:
    """Return a cone of squared radius 1, whose movement is an Ornstein-Uhlenbeck process.

    ``early`` is the share of observations before the entry, ``time`` the correlation time (in gaps at the entry), and
    ``speed`` the distance from one observation to the next before the entry.
    """
    steps = np.linspace(0, LAST, n) if spacing == "even" else np.geomspace(1, LAST, n)
    entry = round(early * n) - 1 + rng.random()
    k = int(np.ceil(entry))
    at = np.interp([entry, *range(k, n)], np.arange(n), steps)
    decay = np.exp(-np.diff(at) / (time * (steps[k] - steps[k - 1])))
    within = rng.standard_normal((len(at), dimension)) / np.sqrt(dimension)
    for i, a in enumerate(decay):
        within[i + 1] = a * within[i] + np.sqrt(1 - a**2) * within[i + 1]
    direction = rng.standard_normal(dimension)
    direction /= np.linalg.norm(direction)
    gaps = np.append(entry - (k - 1), np.ones(k - 1))[:, None]  # from the entry backwards
    moves = gaps * speed * (direction + 0.3 * rng.standard_normal((k, dimension)) / np.sqrt(dimension))
    before = within[0] + np.cumsum(moves, axis=0)[::-1]
    return Planted(steps, np.vstack([before, within[1:]]), float(at[0]))


def rate(hits: int, draws: int) -> str:
    low, high = binomtest(hits, draws).proportion_ci(0.95) if draws else (np.nan, np.nan)
    return f"{100 * hits / max(draws, 1):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def null_rows(draws: int, rng: Random) -> Iterator[tuple[str, list[tuple[int, int, int, float]]]]:
    """Yield the cells (length, dimension, number called a cone, jitter) of each null."""
    for name, (kinds, jitters) in NULLS.items():
        cells = []
        for n, dimension, share, draw in product(LENGTHS, DIMENSIONS, jitters, kinds):
            called = 0
            for _ in range(draws):
                x = draw(rng, n, dimension)
                squared = 2 * float(x.var(axis=0).sum()) * n / (n - 1)
                verdict = measured(rng, np.linspace(0, LAST, n), x, share, squared)
                called += verdict.status in ("found", "left_censored")
            cells.append((n, dimension, called, share))
        yield name, cells


def null_table(draws: int, rng: Random) -> tuple[bool, list[str]]:
    lines = ["| movement | cells | all cells, % (95 % interval) | worst cell, % | cells beyond 5 % |", "|---" * 5 + "|"]
    holds = True
    for name, cells in null_rows(draws, rng):
        most = int(binom.isf(0.01 / len(cells), draws, BAR))
        beyond = sum(cell[2] > most for cell in cells)
        holds &= beyond == 0
        worst = max(cells, key=lambda cell: cell[2])
        total = rate(sum(cell[2] for cell in cells), draws * len(cells))
        where = f"{100 * worst[2] / draws:.1f} ({worst[0]} observations, {worst[1]} dimensions, jitter {worst[3]:g})"
        lines.append(f"| {name} | {len(cells)} | {total} | {where} | {beyond} |")
        print(lines[-1], flush=True)
    return holds, lines


def cone_cell(draws: int, rng: Random, n: int, dimension: int, share: float, time: float) -> tuple[list[int], int]:
    """Return the numbers found, by early phase and spacing, and the number of entries within their interval."""
    numbers, covered = [], 0
    for early, spacing in product((0.2, 0.4), ("even", "log")):
        found = 0
        for i in range(draws):
            truth = planted(rng, n, dimension, early, time, (1.5, 3.0)[i % 2], spacing)
            verdict = measured(rng, truth.steps, truth.positions, share, 2.0)
            found += verdict.status == "found"
            covered += verdict.status == "found" and verdict.lower <= truth.entry <= verdict.upper
        numbers.append(found)
    return numbers, covered


def cone_table(draws: int, rng: Random) -> list[str]:
    head = "| observations | dimensions | jitter | correlation time | found, % (95 % interval) | worst cell, % | entry"
    lines = [f"{head} in its interval, % |", "|---" * 7 + "|"]
    for n, dimension, share, time in product(LENGTHS, DIMENSIONS, (0.0, 0.3), (0.3, 1.0, 2.0)):
        numbers, covered = cone_cell(draws, rng, n, dimension, share, time)
        found, low = rate(sum(numbers), draws * len(numbers)), 100 * min(numbers) / draws
        inside = 100 * covered / max(sum(numbers), 1)
        lines.append(f"| {n} | {dimension} | {share:g} | {time:g} | {found} | {low:.0f} | {inside:.1f} |")
        print(lines[-1], flush=True)
    return lines


def page(draws: int, nulls: list[str], cones: list[str]) -> str:
    """Return the section of docs/phases_truth.md."""
    return "\n".join([
        f"Share of {draws} draws that are called a cone (found or left_censored), over {LENGTHS} observations, "
        f"{DIMENSIONS} dimensions and jitter of 0 to 0.8 of the squared distances. The last column counts cells "
        "significantly beyond the bar (one-sided 1 %, corrected for the number of cells).",
        "",
        *nulls,
        "",
        f"Planted cones that are found: {max(draws // 2, 1)} draws for each of 4 cells (an early phase of 0.2 or 0.4 "
        "of the record, even or log-spaced steps). The early steps are 1.5 or 3 radii long. The correlation time is in "
        "gaps between observations at the entry.",
        "",
        *cones,
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200, help="of each null; half as many of each cone")
    parser.add_argument("--seed", type=int, default=1, help="the constants of the rule were chosen on others")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    holds, nulls = null_table(args.draws, rng)
    cones = cone_table(max(args.draws // 2, 1), rng)
    if args.write:
        text = page(args.draws, nulls, cones)
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
