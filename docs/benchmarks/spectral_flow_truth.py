"""How often :func:`probe.stats.spectral_flow` is right for one law and two (docs/measures/mode_classes.md).

    python docs/benchmarks/spectral_flow_truth.py [--draws 200]

A run begins at a Gaussian matrix (width, 2 width) and ends at it plus three modes, whose sizes vary over runs by 10 %.
Groups have the same law, or the second mode of the other group is smaller, or the other group has twice the width.
"""

import argparse

import numpy as np
import xarray as xr

from probe.stats import spectral_flow

SIZES = np.array([4.0, 3.0, 2.5])
RUNS = (3, 4, 6, 8)
JITTER = 0.1


def spectra(draws: int, runs: int, width: int, sizes: np.ndarray, generator: np.random.Generator) -> xr.DataArray:
    """Return the first and the last spectrum of each run, each draw as one parameter."""
    shape = (runs, draws, width, 2 * width)
    noise = generator.normal(size=shape) / np.sqrt(2 * width)
    u = np.linalg.qr(generator.normal(size=(*shape[:3], len(sizes))))[0]
    v = np.linalg.qr(generator.normal(size=(*shape[:2], 2 * width, len(sizes))))[0]
    drawn = sizes * np.exp(JITTER * generator.normal(size=(*shape[:2], 1, len(sizes))))
    last = noise + (u * drawn) @ np.swapaxes(v, -1, -2)
    values = np.stack([np.linalg.svd(x, compute_uv=False) for x in (noise, last)], 1)
    return xr.DataArray(values, {"step": [0, 1], "parameter": range(draws)}, ("run", "step", "parameter", "rank"))


def line(name: str, draws: int, runs: int, width: int, second: float, scale: str) -> str:
    """Return a line of the table."""
    generator = np.random.default_rng(runs)
    other = SIZES * np.array([1, second, 1])
    groups = {"a": spectra(draws, runs, 20, SIZES, generator), "b": spectra(draws, runs, width, other, generator)}
    found = spectral_flow(groups, (1, 1), scale=scale).isel(pair=0, parameter=slice(draws))
    verdicts = found["verdict"].values.tolist()
    shares = [100 * verdicts.count(name) / draws for name in ("confirmed", "not confirmed", "undecided")]
    rejected = 100 * float((found["p_value"] <= 0.05).mean())
    cells = [name, scale, runs, f"{found['least_p_value'].max().item():.3f}", f"{rejected:.0f}"]
    return f"| {' | '.join(map(str, cells))} | {' | '.join(f'{share:.0f}' for share in shares)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    print("| groups | scale | runs of each | least p | p at most .05 | confirmed | not confirmed | undecided |")
    print("|---|---|---|---|---|---|---|---|")
    for runs in RUNS:
        print(line("one law", draws, runs, 20, 1.0, "quantile"), flush=True)
    for second, name in ((0.56, "a difference of the margin"), (0.35, "1.6 times the margin")):
        for runs in RUNS:
            print(line(name, draws, runs, 20, second, "quantile"), flush=True)
    for scale in ("quantile", "modes"):
        print(line("twice the width", draws, 6, 40, 1.0, scale), flush=True)


if __name__ == "__main__":
    main()
