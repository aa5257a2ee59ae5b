"""How right the tests of the order of a transition are, on systems whose answer is known.

``python docs/benchmarks/transition_order.py`` prints tables in Markdown. ``--write`` puts them into
docs/transition_order.md. 100 draws take about three CPU minutes.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from scipy.special import gammaln
from scipy.stats import binomtest

from probe.stats import barrier_scaling, binder_cumulant, hopping_rates, hysteresis

LEVEL = 0.9
PAGE = Path(__file__).parents[1] / "transition_order.md"
START, END = "<!-- order:start -->", "<!-- order:end -->"
Random = np.random.Generator
Row = Sequence[str]


def rate(hits: int, draws: int) -> str:
    low, high = binomtest(hits, draws).proportion_ci(0.95)
    return f"{hits / draws:.2f} ({low:.2f} to {high:.2f})"


def shares(found: Sequence[str], names: Sequence[str]) -> list[str]:
    counts = Counter(found)
    return [f"{counts[name] / len(found):.2f}" for name in names]


# -- barriers ------------------------------------------------------------------------------------------------------


def well(rng: Random, d: float, a: float, n: int) -> np.ndarray:
    """Return independent samples of exp(-d V), V = x^4 / 4 - a x^2 / 2: a barrier of d a^2 / 4 if a > 0, else none."""
    x = np.linspace(-4, 4, 8001)
    mass = np.cumsum(np.exp(-d * (x**4 / 4 - a * x**2 / 2 + max(a, 0) ** 2 / 4)))
    return np.interp(rng.random(n) * mass[-1], mass, x)


def metropolis(rng: Random, d: float, a: float, n: int, runs: int = 20) -> np.ndarray:
    """Return Metropolis chains (runs, n) of the same distribution, every tenth step."""
    x, found = rng.choice([-1.0, 1.0], runs), np.empty((runs, n))
    for i in range(10 * (n + 50)):
        new = x + 0.5 * rng.standard_normal(runs)
        change = -d * ((new**4 - x**4) / 4 - a * (new**2 - x**2) / 2)
        x = np.where(np.log(rng.random(runs)) < change, new, x)
        if i >= 500 and i % 10 == 0:
            found[:, i // 10 - 50] = x
    return found


def blume_capel(size: int, temperature: float, field: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the shares of nonzero spins and their exact log probabilities, all magnetisations summed.

    Mean field: H = -M^2 / (2 size) + field Q, with Q nonzero spins. First order below the temperature 1/3.
    """
    q = np.arange(size + 1)
    logs = np.empty(size + 1)
    for k in q:
        up = np.arange(k + 1)
        terms = -gammaln(up + 1) - gammaln(k - up + 1) + (2 * up - k) ** 2 / (2 * size * temperature)
        logs[k] = terms.max() + np.log(np.exp(terms - terms.max()).sum())
    logs += gammaln(size + 1) - gammaln(size - q + 1) - field * q / temperature
    logs -= logs.max() + np.log(np.exp(logs - logs.max()).sum())
    return q / size, logs


def equal_height_barrier(q: np.ndarray, logs: np.ndarray) -> float:
    """Return log(peak / antimode) of a distribution after a tilt that makes both peaks equally high."""
    low, high = -3.0 * len(q), 3.0 * len(q)
    for _ in range(200):
        tilt = (low + high) / 2
        tilted = logs + tilt * q
        depth = np.minimum(np.maximum.accumulate(tilted), np.maximum.accumulate(tilted[::-1])[::-1]) - tilted
        at = int(depth.argmax())
        one_peak = depth[at] == 0  # go towards the other one
        left = q[int(tilted.argmax())] < 0.5 if one_peak else tilted[:at].max() > tilted[at:].max()
        low, high = (tilt, high) if left else (low, tilt)
    return float(depth[at])


def curie_weiss(rng: Random, size: int, n: int) -> np.ndarray:
    """Return magnetisations of the mean-field Ising model at its critical temperature, by enumeration."""
    up = np.arange(size + 1)
    m = (2 * up - size) / size
    logs = -gammaln(up + 1) - gammaln(size - up + 1) + size * m**2 / 2
    return rng.choice(m, n, p=np.exp(logs - logs.max()) / np.exp(logs - logs.max()).sum())


def barrier_systems() -> Iterator[tuple[str, list[int], float, Callable[[Random], dict]]]:
    """Yield name, sizes, true slope and a function that draws arguments."""
    d = [8, 12, 16, 20]
    for n in (1_000, 5_000, 20_000):
        yield f"double well, n = {n:,}", d, 0.25, lambda rng, n=n: {"samples": [well(rng, k, 1, n) for k in d]}
    for n in (1_000, 5_000, 20_000):
        yield f"quartic well, n = {n:,}", d, 0.0, lambda rng, n=n: {"samples": [well(rng, k, 0, n) for k in d]}
        yield f"single well, n = {n:,}", d, 0.0, lambda rng, n=n: {"samples": [well(rng, k, -1, n) for k in d]}
    for a, kind in ((1, "double"), (0, "quartic")):
        name = f"{kind} well, 20 Metropolis runs of 500"
        yield name, d, 0.25 * a, lambda rng, a=a: {"samples": [metropolis(rng, k, a, 500) for k in d]}
    sizes = [40, 60, 80, 100]
    exact = {k: blume_capel(k, 0.25, 0.485) for k in sizes}
    true = np.polyfit(sizes, [equal_height_barrier(*exact[k]) for k in sizes], 1)[0]

    def draw(rng: Random) -> dict:
        samples = [rng.choice(q, 10_000, p=np.exp(logs)) for q, logs in exact.values()]
        return {"samples": samples, "conjugate": [k * x for k, x in zip(sizes, samples, strict=True)]}

    yield "Blume-Capel, T = 0.25, first order", sizes, float(true), draw
    yield (
        "Ising at the critical point, continuous",
        sizes,
        0.0,
        lambda rng: {"samples": [curie_weiss(rng, k, 10_000) for k in sizes]},
    )
    yield from one_peak_systems(sizes)


def one_peak_systems(sizes: list[int]) -> Iterator[tuple[str, list[int], float, Callable[[Random], dict]]]:
    """Yield distributions with one peak and heavy tails, the same at every size."""
    one_peak: dict[str, Callable[[Random, int], np.ndarray]] = {
        "Student's t, 5 degrees": lambda rng, n: rng.standard_t(5, n),
        "Cauchy": lambda rng, n: rng.standard_cauchy(n),
        "lognormal": lambda rng, n: rng.lognormal(0, 1, n),
    }
    for (kind, peak), n in product(one_peak.items(), (1_000, 5_000)):
        yield (
            f"{kind}, n = {n:,}",
            sizes,
            0.0,
            lambda rng, peak=peak, n=n: {"samples": [peak(rng, n) for _ in sizes]},
        )


def barrier_rows(draws: int, rng: Random) -> Iterator[Row]:
    for name, sizes, true, draw in barrier_systems():
        found = [barrier_scaling(sizes, **draw(rng), level=LEVEL, random_state=i) for i in range(draws)]
        inside = sum(f.slope.lower <= true <= f.slope.upper for f in found)
        slope = np.mean([f.slope.value for f in found])
        names = ("grows", "does not grow", "undecided")
        yield name, *shares([f.status for f in found], names), f"{true:.3f}", f"{slope:.3f}", rate(inside, draws)


# -- hopping -------------------------------------------------------------------------------------------------------


def chain(rng: Random, up: float, down: float, units: int, n: int) -> np.ndarray:
    """Return a two-state chain in continuous time with these rates, observed at unit intervals."""
    leave = -np.expm1(-(up + down)) / (up + down)
    states = np.zeros((units, n))
    states[:, 0] = rng.random(units) < up / (up + down)
    u = rng.random((units, n))
    for t in range(1, n):
        states[:, t] = np.where(states[:, t - 1] == 0, u[:, t] < up * leave, u[:, t] >= down * leave)
    return states


def passage_rate(d: float) -> float:
    """Return one over the exact mean time from -1 to 1 of dx = (x - x^3) dt + sqrt(2 / d) dW."""
    x = np.linspace(-3, 1, 20001)
    v, h = d * (x**4 / 4 - x**2 / 2), x[1] - x[0]
    inner = np.cumsum(np.exp(-v)) * h
    return float(1 / (d * (np.exp(v) * inner)[x >= -1].sum() * h))


def langevin(rng: Random, d: float, units: int, n: int, step: float = 0.01, each: int = 10) -> np.ndarray:
    x, found = rng.choice([-1.0, 1.0], units), np.empty((units, n))
    for i in range(n * each):
        x = x + step * (x - x**3) + np.sqrt(2 * step / d) * rng.standard_normal(units)
        found[:, i // each] = x
    return found


def hopping_rows(draws: int, rng: Random) -> Iterator[Row]:
    cases = [((0.01, 0.03), 20, 500), ((0.02, 0.02), 3, 200), ((0.002, 0.002), 10, 300), ((0.2, 0.3), 5, 200)]
    for (up, down), units, n in cases:
        found = [hopping_rates(chain(rng, up, down, units, n), 0, 1, level=LEVEL) for _ in range(draws)]
        inside = sum(f.down.lower <= down <= f.down.upper for f in found)
        mean = np.nanmean([f.down.value for f in found])
        yield f"chain, {units} units, {n} observations", f"{down}", f"{mean:.4f}", rate(inside, draws)
    for d in (8, 16):
        true, n = passage_rate(d), max(draws // 4, 10)
        found = [hopping_rates(langevin(rng, d, 40, 2000), -1, 1, interval=0.1, level=LEVEL) for _ in range(n)]
        inside = sum(f.up.lower <= true <= f.up.upper for f in found)
        mean = np.nanmean([f.up.value for f in found])
        yield f"Langevin, barrier {d / 4:g}, 40 units", f"{true:.4f}", f"{mean:.4f}", rate(inside, n)


# -- hysteresis ----------------------------------------------------------------------------------------------------


def driven(rng: Random, rates: Sequence[float], temperature: float, repeats: int) -> tuple:
    """Return control and sweeps of dx = (x - x^3 + F) dt + noise, F from -1 to 1 and back.

    Without noise the loop jumps at F = +-2 / sqrt(27), and its area at zero rate is 1.5 exactly.
    """
    control, step, both = np.linspace(-1, 1, 81), 0.02, {1: [], -1: []}
    for speed in rates:
        within = round((control[1] - control[0]) / speed / step)
        for sign, sweeps in both.items():
            x, found = np.full(repeats, -1.3 * sign), []
            for start, end in zip(control[::sign][:-1], control[::sign][1:], strict=True):
                found.append(x)
                for force in np.linspace(start, end, within):
                    noise = np.sqrt(2 * temperature * step) * rng.standard_normal(repeats)
                    x = x + step * (x - x**3 + force) + noise
            sweeps.append(np.stack([*found, x], 1)[:, ::sign])
    return control, both[1], both[-1]


def planted(rng: Random, rates: Sequence[float], area: float, factor: float, exponent: float) -> tuple:
    """Return five noisy sweeps through a step that lags: area + 4 factor rate^exponent."""
    control = np.linspace(-1, 1, 41)
    both: list[list[np.ndarray]] = [
        [
            np.tanh(10 * (control - sign * (area / 4 + factor * r**exponent))) + rng.normal(0, 0.05, (5, 41))
            for r in rates
        ]
        for sign in (1, -1)
    ]
    return control, *both


def hysteresis_rows(draws: int, rng: Random) -> Iterator[Row]:
    names = ("remains", "closes", "no loop", "undecided")
    four, three = [0.003, 0.01, 0.03, 0.1], [0.003, 0.01, 0.03]
    cases: list[tuple[str, list[float], tuple[float, float, float]]] = [
        ("area 0.8, exponent 2/3, 4 rates", four, (0.8, 1, 2 / 3)),
        ("area 0.8, exponent 2/3, 3 rates", three, (0.8, 1, 2 / 3)),
        ("area 0.8, exponent 1, 4 rates", four, (0.8, 1, 1)),
        ("closes with exponent 1, 4 rates", four, (0, 1, 1)),
        ("closes with exponent 2/3, 4 rates", four, (0, 1, 2 / 3)),
        ("closes with exponent 1/3, 4 rates", four, (0, 0.7, 1 / 3)),
        ("no lag", four, (0, 0, 1)),
    ]
    for name, rates, plant in cases:
        found = [hysteresis(rates, *planted(rng, rates, *plant), level=LEVEL) for _ in range(draws)]
        inside = sum(f.zero_rate.lower <= plant[0] <= f.zero_rate.upper for f in found)
        value = np.mean([f.zero_rate.value for f in found])
        yield name, *shares([f.status for f in found], names), f"{plant[0]:g}", f"{value:.3f}", rate(inside, draws)
    for temperature, true, repeats in ((1e-6, 1.5, 5), (0.15, 0.0, 100)):
        n = 5
        found = [hysteresis(four, *driven(rng, four, temperature, repeats), level=LEVEL) for _ in range(n)]
        inside = sum(f.zero_rate.lower <= true <= f.zero_rate.upper for f in found)
        value, name = np.mean([f.zero_rate.value for f in found]), f"driven well, temperature {temperature:g}"
        yield name, *shares([f.status for f in found], names), f"{true:g}", f"{value:.3f}", rate(inside, n)


# -- Binder --------------------------------------------------------------------------------------------------------


def binder_rows(draws: int, rng: Random) -> Iterator[Row]:
    def two(n: int) -> np.ndarray:
        return rng.choice([-1, 1], n) + 0.5 * rng.standard_normal(n)

    def droplets(shape: tuple[int, ...]) -> np.ndarray:
        """Return neurons: one in five is at -2 or 2, the others at 0."""
        return rng.choice([-2, 0, 0, 0, 0, 0, 0, 0, 0, 2], shape) + 0.5 * rng.standard_normal(shape)

    second, fourth = 1 + 0.25, 1 + 6 * 0.25 + 3 * 0.0625
    s2, s4 = 0.8 + 0.25, 3.2 + 6 * 0.8 * 0.25 + 3 * 0.0625
    cases: list[tuple[str, Callable[[], np.ndarray], float]] = [
        ("Gaussian, n = 1,000", lambda: rng.standard_normal(1000), 0.0),
        ("two peaks, n = 1,000", lambda: two(1000), 1 - fourth / (3 * second**2)),
        ("neurons, one in five a droplet, n = 1,000", lambda: droplets((1000,)), 1 - s4 / (3 * s2**2)),
        ("means of 500 such neurons, 1,000 networks", lambda: droplets((1000, 500)).mean(1), 0.0),
        ("Student's t, 5 degrees, n = 1,000", lambda: rng.standard_t(5, 1000), -2.0),
        ("Student's t, 5 degrees, n = 10,000", lambda: rng.standard_t(5, 10_000), -2.0),
        ("asymmetric: exponential minus its mean", lambda: rng.exponential(1, 1000) - 1, np.nan),
    ]
    for name, draw, true in cases:
        values, inside = [], 0
        for _ in range(draws):
            try:
                found = binder_cumulant(draw(), level=LEVEL)
            except ValueError:
                continue
            values.append(found.value)
            inside += found.lower <= true <= found.upper
        measured = [f"{np.mean(values):.3f}", rate(inside, len(values))] if values else ["-", "-"]
        yield name, f"{true:.3f}", *measured, f"{1 - len(values) / draws:.2f}"


TABLES: dict[str, tuple[Callable[[int, Random], Iterator[Row]], str]] = {
    "Barriers": (
        barrier_rows,
        "system | grows | does not grow | undecided | true slope | mean slope | coverage of its interval",
    ),
    "Hopping rates": (hopping_rows, "system | true rate | mean rate | coverage of its interval"),
    "Hysteresis": (
        hysteresis_rows,
        "system | remains | closes | no loop | undecided | true area at zero rate | mean | coverage of its interval",
    ),
    "Binder's cumulant": (binder_rows, "samples | true value | mean value | coverage of its interval | refused"),
}


def markdown(draws: int, seed: int, only: Sequence[str]) -> str:
    lines = [f"`python docs/benchmarks/transition_order.py --draws {draws} --seed {seed} --write`. Intervals of 90 %;"]
    lines[0] += " a rate is followed by its 95 % interval."
    for name in only:
        rows, head = TABLES[name]
        lines += ["", f"### {name}", "", f"| {head} |", "|" + "---|" * (head.count("|") + 1)]
        for row in rows(draws, np.random.default_rng(seed)):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=tuple(TABLES), action="append", help="a table; may be repeated")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    args = parser.parse_args()
    if args.write and args.only:
        parser.error("expected --write or --only, got both; the page holds all tables")
    tables = markdown(args.draws, args.seed, args.only or list(TABLES))
    print(tables)
    if args.write:
        before, _, rest = PAGE.read_text().partition(START)
        PAGE.write_text(f"{before}{START}\n{tables}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
