"""How often cone_entry calls a movement without a cone a cone, and how often it finds a planted cone.

The truth is planted: vectors move in ``dimension`` directions, two measurements add independent jitter, and the norm
doubles along the record. In every second draw the second measurement has a tenth of the jitter.
``python docs/benchmarks/cone_truth.py`` prints tables in Markdown. ``--write`` puts them into docs/phases_truth.md.
40 draws take seven CPU minutes.
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

LENGTHS, DIMENSIONS = (12, 20, 40, 80), (3, 5, 10, 100)
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


def noisy(rng: Random, x: np.ndarray, share: float, squared: float, less: float = 1.0) -> np.ndarray:
    """Return vectors that grow, with jitter that is ``share`` of the squared distances, and a common mean vector.

    ``less`` is a factor of the variance of the jitter.
    """
    variance = squared * share / (1 - share) / 2 if share < 1 else 1.0
    x = x + np.sqrt(variance * less / x.shape[1]) * rng.standard_normal(x.shape)
    mean = np.full((len(x), 1), ORIGIN * np.sqrt(max(squared, 1e-9) / (1 - share) if share < 1 else 2.0))
    return np.asarray(np.hstack([x, mean]) * np.geomspace(1, 2, len(x))[:, None])


def measured(
    rng: Random, steps: np.ndarray, x: np.ndarray, share: float, squared: float, less: float
) -> tuple[Cone, list[np.ndarray]]:
    """Return the verdict, and the vectors of both measurements."""
    both = [noisy(rng, x, share, squared, factor) for factor in (1.0, less)]
    norms = np.linalg.norm(both[0], axis=1)
    return cone_entry(steps, *map(cosine_distances, both), norms=norms, level=LEVEL), both


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
    "random walk, learning rate falls by ten": (
        (walk(lambda t: np.where(t < 0.5, 1, 0.1)), walk(lambda t: 0.1 ** np.floor(t * 3))),
        JITTER[:3],
    ),
    "standing still plus jitter": ((drift(np.zeros_like),), (1.0,)),
    "steady drift plus jitter": ((drift(lambda t: t), drift(lambda t: np.exp(6 * t))), (0.02, *JITTER[1:])),
    "drift that slows down, plus jitter": ((drift(lambda t: 1 - np.exp(-2 * t)),), (0.02, *JITTER[1:])),
}


def planted(rng: Random, n: int, dimension: int, early: float, time: float, approach: str) -> Planted:
    """Return a cone of squared radius 1, whose movement is an Ornstein-Uhlenbeck process.

    ``early`` is the share of observations before the entry, and ``time`` the correlation time in gaps at the entry.
    ``approach`` is "even" or "log", for the steps, or "gradual": the distance to the centre is then 1 at the entry, and
    1.4 or 2 times as long at each observation before.
    """
    steps = np.geomspace(1, LAST, n) if approach == "log" else np.linspace(0, LAST, n)
    entry, speed = round(early * n) - 1 + rng.random(), rng.choice((1.5, 3.0))
    k = int(np.ceil(entry))
    at = np.interp([entry, *range(k, n)], np.arange(n), steps)
    direction = rng.standard_normal(dimension)
    direction /= np.linalg.norm(direction)
    if approach == "gradual":
        factors = np.minimum(rng.choice((1.4, 2.0)) ** (entry - np.arange(n)), 30)
        within = stationary(rng, np.full(n - 1, 1 / time), dimension)
        return Planted(steps, within + factors[:, None] * direction, float(at[0]))
    within = stationary(rng, np.diff(at) / (time * (steps[k] - steps[k - 1])), dimension)
    gaps = np.append(entry - (k - 1), np.ones(k - 1))[:, None]  # from the entry backwards
    moves = gaps * speed * (direction + 0.3 * rng.standard_normal((k, dimension)) / np.sqrt(dimension))
    before = within[0] + np.cumsum(moves, axis=0)[::-1]
    return Planted(steps, np.vstack([before, within[1:]]), float(at[0]))


def stationary(rng: Random, gaps: np.ndarray, dimension: int) -> np.ndarray:
    """Return an Ornstein-Uhlenbeck process of mean squared length 1, with gaps in correlation times."""
    found = rng.standard_normal((len(gaps) + 1, dimension)) / np.sqrt(dimension)
    for i, a in enumerate(np.exp(-gaps)):
        found[i + 1] = a * found[i] + np.sqrt(1 - a**2) * found[i + 1]
    return found


def true_radius(rng: Random, reference: list[np.ndarray], dimension: int, share: float, less: float) -> float:
    """Return the root mean squared distance (rad) of new positions in the cone from the measured reference."""
    squares = []
    for vector, factor in zip(reference, (1.0, less), strict=True):
        x = rng.standard_normal((2000, dimension)) / np.sqrt(dimension)
        new = noisy(rng, x, share, 2.0, factor)
        cosines = new @ vector / np.linalg.norm(new, axis=1) / np.linalg.norm(vector)
        squares.append(2 * (1 - cosines.mean()))
    return float(np.arccos(1 - np.mean(squares) / 2))


def rate(hits: int, draws: int) -> str:
    low, high = binomtest(hits, draws).proportion_ci(0.95) if draws else (np.nan, np.nan)
    return f"{100 * hits / max(draws, 1):.1f} ({100 * low:.1f} to {100 * high:.1f})"


def null_rows(draws: int, rng: Random) -> Iterator[tuple[str, list[tuple[int, int, int, float]]]]:
    """Yield the cells (length, dimension, number called a cone, jitter) of each null."""
    for name, (kinds, jitters) in NULLS.items():
        cells = []
        for n, dimension, share, draw in product(LENGTHS, DIMENSIONS, jitters, kinds):
            called = 0
            for i in range(draws):
                x = draw(rng, n, dimension)
                squared = 2 * float(x.var(axis=0).sum()) * n / (n - 1)
                verdict, _ = measured(rng, np.linspace(0, LAST, n), x, share, squared, (1.0, 0.1)[i % 2])
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


class Found(NamedTuple):
    """Numbers of draws: all, found, and those of the found ones whose interval holds the entry, or the radius."""

    draws: int
    found: int
    entries: int
    radii: int


def cone_cell(draws: int, rng: Random, n: int, dimension: int, share: float, time: float, approach: str) -> Found:
    counts = np.zeros(4, dtype=int)
    for i in range(draws):
        early, less = ((0.2, 0.4)[i % 2] if n > LENGTHS[0] else 0.2), (1.0, 0.1)[i // 2 % 2]
        truth = planted(rng, n, dimension, early, time, approach)
        verdict, both = measured(rng, truth.steps, truth.positions, share, 2.0, less)
        counts[0] += 1
        if verdict.status == "found":
            radius = true_radius(rng, [vectors[verdict.reference] for vectors in both], dimension, share, less)
            inside = verdict.radius_lower <= radius <= verdict.radius_upper
            counts[1:] += 1, verdict.lower <= truth.entry <= verdict.upper, inside
    return Found(*counts.tolist())


def cone_table(draws: int, rng: Random) -> list[str]:
    times = (0.3, 1.0, 2.0)
    head = [f"{kind}, time {time:g}" for kind in ("found, %: steps", "gradual") for time in times]
    lines = [f"| observations | dimensions | jitter | {' | '.join(head)} | entry | radius |", "|---" * 11 + "|"]
    for n, dimension, share in product(LENGTHS, DIMENSIONS, (0.0, 0.3)):
        sharp = [[cone_cell(draws, rng, n, dimension, share, time, kind) for kind in ("even", "log")] for time in times]
        cells = [*sharp, *([cone_cell(draws, rng, n, dimension, share, time, "gradual")] for time in times)]
        sums = [np.sum(cell, axis=0) for cell in cells]
        powers = [f"{100 * found / total:.0f}" for total, found, *_ in sums]
        total = np.sum(sums, axis=0)
        inside = [f"{100 * total[k] / max(total[1], 1):.0f}" for k in (2, 3)]
        lines.append(f"| {n} | {dimension} | {share:g} | {' | '.join([*powers, *inside])} |")
        print(lines[-1], flush=True)
    return lines


def page(draws: int, nulls: list[str], cones: list[str]) -> str:
    """Return the section of docs/phases_truth.md."""
    return "\n".join([
        f"Share of {draws} draws that are called a cone (found or left_censored). They have {LENGTHS} observations, "
        f"{DIMENSIONS} dimensions and jitter of 0 to 0.8 of the squared distances. The last column counts cells "
        "significantly beyond the bar (one-sided 1 %, corrected for the number of cells).",
        "",
        *nulls,
        "",
        "Planted cones that are found. Early steps of 1.5 or 3 radii lead into the cone, at even or log-spaced "
        f"observations ({2 * draws} draws). Or the approach is gradual: each step to the centre is 1.4 or 2 times as "
        f"long as the next one ({draws} draws). The early phase is 0.2 or 0.4 of the record (0.2 of {LENGTHS[0]}). The "
        "correlation time is in gaps between observations at the entry. The last two columns are the shares (%) of "
        "found cones whose 90 % interval holds the entry, and the radius.",
        "",
        *cones,
    ])  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=40, help="of each cell")
    parser.add_argument("--seed", type=int, default=1, help="the constants of the rule were chosen on others")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    holds, nulls = null_table(args.draws, rng)
    cones = cone_table(args.draws, rng)
    if args.write:
        text = page(args.draws, nulls, cones)
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(START)
        PAGE.write_text(f"{before}{START}\n{text}\n{END}{rest.partition(END)[2]}", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
