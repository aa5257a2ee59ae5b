"""How often the verdicts over runs and between markers are right: `python docs/benchmarks/across_truth.py`.

Simulated runs with known answers; prints Markdown tables of false positives, power and coverage. One thread is enough:
`--simulations 1000` takes about ten minutes of CPU.
"""

import argparse
from itertools import product

import numpy as np
import xarray as xr
from scipy import stats
from scipy.signal import lfilter

from probe.phases import second_phase_across
from probe.phases import align
from probe.stats import median_step
from probe.phases import co_movement

X = np.linspace(0, 1, 120)
STEPS = np.round(10 ** (1 + 4 * X))
RISE = 20 / (1 + np.exp(-(X - 0.15) * 40))
FALL = 1 / (1 + np.exp(-(X - 0.6) * 20))
TRENDS = {  # in standard deviations of the noise
    "flat": 0 * X,
    "rise, plateau": RISE,
    "rise, fall of 1": RISE - FALL,
    "rise, fall of 2": RISE - 2 * FALL,
    "saturating": 20 * (1 - np.exp(-6 * X)),
    "drift down": -20 * X,
    "fall, plateau": 20 * np.exp(-20 * X),
    "fall, rise, plateau": 20 * np.exp(-30 * X) + RISE / 2,
}
EASY = (
    "saturating",
    "drift down",
    "fall, plateau",
    "fall, rise, plateau",
)  # no second phase, far from one; 5 runs only
LEVEL, ALPHA = 0.9, 0.025


def noise(generator: np.random.Generator, n_runs: int, phi: float) -> np.ndarray:
    """AR(1) of unit variance (run, n); phi = 1 is a random walk from 0 with steps of a tenth."""
    values = generator.standard_normal((n_runs, len(X)))
    if phi == 1:
        return np.cumsum(values, axis=1) / 10
    values[:, 1:] *= np.sqrt(1 - phi**2)
    for t in range(1, len(X)):
        values[:, t] += phi * values[:, t - 1]
    return values


def second_phase(n: int, generator: np.random.Generator) -> None:
    print(f"\nShare of {n} sets of runs with a verdict `found`, alpha = {ALPHA}; held-out t: a t-test on the drops\n")
    print("| trend | correlation | runs | found | sign flips | held-out t | interval covers |")
    print("|---|---|---|---|---|---|---|")
    for name, phi, n_runs in product(TRENDS, (0.0, 0.5, 0.8, 1.0), (3, 5, 8)):
        if name in EASY and n_runs != 5:
            continue
        found, flips, naive, covered = np.zeros((4, n))
        for i in range(n):
            values = TRENDS[name] + noise(generator, n_runs, phi)
            verdict = second_phase_across(STEPS, values, n_null=999)
            drop = verdict.drop
            found[i], flips[i] = verdict.status == "found", verdict.p_sign_flip <= ALPHA
            naive[i] = stats.t.sf(drop.mean() / drop.std(ddof=1) * np.sqrt(n_runs), n_runs - 1) <= ALPHA
            first, last = np.searchsorted(STEPS, verdict.window)
            truth = TRENDS[name][first : last + 1].mean() - TRENDS[name][-12:].mean()
            covered[i] = verdict.interval[0] <= truth <= verdict.interval[1]
        shares = [found.mean(), flips.mean() if n_runs >= 6 else np.nan, naive.mean(), covered.mean()]
        cells = ["-" if np.isnan(share) else f"{share:.3f}" for share in shares]  # 5 runs: at least 1/32
        print(f"| {name} | {'walk' if phi == 1 else phi} | {n_runs} | {' | '.join(cells)} |", flush=True)


def own_steps(generator: np.random.Generator, run: int) -> np.ndarray:
    """Steps of one run: every 50th, 60 log-spaced, or 80 at random on the logarithmic axis, in turn."""
    kinds = (
        np.arange(0, 10001, 50.0),
        np.geomspace(1, 1e4, 60).round(),
        10 ** generator.uniform(0, 4, 80).round(4),
    )
    return np.unique(kinds[run % 3])


def different_steps(n: int, generator: np.random.Generator) -> None:
    print(f"\nRuns on different steps, {n} sets; share with a verdict `found`, alpha = {ALPHA}\n")
    print("| trend | correlation | runs | found |")
    print("|---|---|---|---|")
    trends = {
        "flat": lambda x: 0 * x,
        "rise, plateau": lambda x: 20 / (1 + np.exp(-(x - 1) * 10)),
        "hump of 2": lambda x: 2 * np.exp(-(((x - 2.5) / 0.3) ** 2)),
    }
    for (name, trend), (n_runs, phi) in product(trends.items(), ((3, 0.5), (5, 0.0), (5, 0.8), (8, 0.5))):
        found = 0
        for _ in range(n):
            runs = [own_steps(generator, run) for run in range(n_runs)]
            grid = np.unique(np.concatenate(runs))
            values = np.full((n_runs, len(grid)), np.nan)
            for row, steps in zip(values, runs, strict=True):
                error = lfilter([np.sqrt(1 - phi**2)], [1, -phi], generator.standard_normal(len(steps) + 50))[50:]
                row[np.searchsorted(grid, steps)] = trend(np.log10(steps + 1)) + error
            found += second_phase_across(grid, values, n_null=999).status == "found"
        print(f"| {name} | {phi} | {n_runs} | {found / n:.3f} |", flush=True)


def markers(x: np.ndarray, arms: np.ndarray, last: float = np.inf) -> xr.Dataset:
    """Markers (run, marker) at x dex with intervals of (below, above) dex; right-censored after ``last`` dex."""
    dims = ("run", "marker")
    status = np.where(x > last, "right_censored", "found")
    x = np.where(x > last, np.nan, x)
    steps = {"step": x, "lower": x - arms[..., 0], "upper": x + arms[..., 1]}
    data = {name: (dims, 10**value - 1) for name, value in steps.items()}
    return xr.Dataset({**data, "status": (dims, status)}, {"marker": ["fit_end", "descent_onset"]})


def alignment(n: int, generator: np.random.Generator) -> None:
    q = stats.norm.ppf((1 + LEVEL) / 2)
    print(f"\nPairs in one run, {n} each, delta = .25 dex, 90 % intervals; skew errors are lognormal in dex\n")
    print("| error (dex) | skew | true distance | interval covers | aligned | misaligned | undecided |")
    print("|---|---|---|---|---|---|---|")
    for sd, skew, truth in product((0.03, 0.08, 0.15), (False, True), (0.0, 0.25, 0.5)):
        z = generator.standard_normal((n, 2))
        x = np.array([3, 3 + truth]) + sd * (2 * (np.exp(0.5 * z) - 1) if skew else z)
        below, above = (2 * (1 - np.exp(-0.5 * q)), 2 * (np.exp(0.5 * q) - 1)) if skew else (q, q)
        # the exact 90 % interval of each marker, from the quantiles of its error
        arms = sd * np.stack([np.full_like(z, above if skew else below), np.full_like(z, below if skew else above)], -1)
        result = align(markers(x, arms), first_step=0, last_step=1e6)
        inside = ((result["lower"] <= truth) & (truth <= result["upper"])).mean()
        shares = [float((result["verdict"] == word).mean()) for word in ("aligned", "misaligned", "undecided")]
        cells = " | ".join(f"{share:.3f}" for share in [float(inside), *shares])
        print(f"| {sd} | {'yes' if skew else 'no'} | {truth} | {cells} |", flush=True)


def over_runs(n: int, generator: np.random.Generator) -> None:
    print(f"\nCo-movement, {n} sets of runs, x uniform over 2 dex, errors .1 dex on both axes; 90 % intervals\n")
    print(
        "| runs | censored | true distance | distance covers | slope 1 covered | tau p <= .05 | aligned | misaligned |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for n_runs, last, truth in product((3, 5, 8, 20), (np.inf, 3.75), (0.0, 0.25, 0.5)):
        rows = []
        for _ in range(n):
            x = generator.uniform(2, 4, n_runs)[:, None] + [0, truth] + 0.1 * generator.standard_normal((n_runs, 2))
            data = markers(x, np.zeros((n_runs, 2, 2)), last)
            end = 1e6 if np.isinf(last) else 10**last - 1
            r = co_movement(data, "fit_end", "descent_onset", first_step=0, last_step=end, n_null=99)
            covers = r.distance.lower <= truth <= r.distance.upper
            slope = r.line.lower <= 1 <= r.line.upper if r.n_both >= 3 else np.nan
            rows.append([covers, slope, r.tau.p_value <= 0.05, r.verdict == "aligned", r.verdict == "misaligned"])
        table = np.array(rows, dtype=float)
        cells = " | ".join(f"{share:.3f}" for share in np.nanmean(table, axis=0))
        print(f"| {n_runs} | {'no' if np.isinf(last) else 'at 3.75 dex'} | {truth} | {cells} |", flush=True)


def medians(n: int, generator: np.random.Generator) -> None:
    print(f"\nMedian over runs, {n} sets, lognormal steps, median 1,000; 90 % interval\n")
    print("| runs | record ends at | interval covers | of at least | median found |")
    print("|---|---|---|---|---|")
    for n_runs, last in product((5, 8, 20), (1e6, 1500.0, 700.0)):
        inside, found = np.zeros((2, n))
        for i in range(n):
            steps = 10 ** generator.normal(3, 0.5, n_runs)
            status = np.where(steps > last, "right_censored", "found")
            seen = np.where(steps > last, np.nan, steps)
            result = median_step(seen, seen, seen, status, first_step=0, last_step=last, level=LEVEL)
            inside[i], found[i] = result.lower <= 1000 <= result.upper, result.status == "found"
        print(
            f"| {n_runs} | {last:,.0f} | {inside.mean():.3f} | {result.coverage:.3f} | {found.mean():.3f} |", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    generator = np.random.default_rng(args.seed)
    for part in (second_phase, different_steps, alignment, over_runs, medians):
        part(args.simulations, generator)


if __name__ == "__main__":
    main()
