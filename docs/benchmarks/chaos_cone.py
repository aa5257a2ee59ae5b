"""Transitions of the recordings of chaos-cone: `python docs/benchmarks/chaos_cone.py`.

Prints Markdown from the recordings in reference/results: for each configuration and seed the end of the effect of
perturbations in each map, and beside it the end of fitting, the first drop of the learning rate, the fall of the
gradient's signal to noise, and the entry of the tangent kernel into a cone. Then the order of the transitions over
seeds, the effects by t0, and the cost. `python -m reference chaos-cone NAME --seeds 5` makes a recording.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr

from probe import load
from reference.experiments import CHAOS_CONE, chaos_name, compare_steps, median_transition, transitions

RESULTS = Path(__file__).parents[2] / "reference" / "results"
SHORT = {"left_censored": "before the first", "right_censored": "after the last", "absent": "no movement"}


def table_of_steps(name: str, series: xr.Dataset, found: xr.Dataset) -> Iterator[str]:
    """Yield the rows of a configuration: a transition in each seed, and the median."""
    for marker in found["marker"].values:
        one = found.sel(marker=marker)
        cells = [
            f"{lower:,.0f} to {upper:,.0f}" if status == "found" else SHORT.get(str(status), str(status))
            for status, lower, upper in zip(one["status"].values, one["lower"].values, one["upper"].values, strict=True)
        ]
        median = median_transition(found, series, str(marker))
        middle = (
            f"{median.step:,.0f} [{median.lower:,.0f}, {median.upper:,.0f}]"
            if median.status == "found"
            else median.status
        )
        yield f"| {name} | {marker} | {' | '.join(cells)} | {middle} |"


def table_of_orders(name: str, found: xr.Dataset) -> Iterator[str]:
    """Yield the order of pairs of transitions over seeds."""
    for first in ("distance", "disagreement", "barrier"):
        for second in ("fit_end", "rate_drop", "signal_fall", "cone_entry"):
            order = compare_steps(found, first, second)
            counts = f"{order.earlier}, {order.later}, {order.tied}"
            yield f"| {name} | {first} | {second} | {counts} | {order.p_value:.3f} | {order.least_p_value:.3f} |"


def table_of_effects(name: str, series: xr.Dataset) -> Iterator[str]:
    """Yield the effects at the end by t0, medians over seeds with the range."""
    for t0 in series["t0"].values:
        end = series.isel(t1=-1).sel(t0=t0)
        maps = [end["map_distance"], end["map_angle"], end["map_disagreement"], end["map_barrier"].sel(barrier="line")]
        maps += [end["linearised_accuracy"], series["chaos_growth"].sel(step=t0, direction="gaussian").isel(size=0)]
        yield f"| {name} | {t0:.0f} | {' | '.join(_median(array.values) for array in maps)} |"


def _median(values: np.ndarray) -> str:
    if np.isnan(values).all():
        return ""
    return f"{np.nanmedian(values):.2g} ({np.nanmin(values):.2g}, {np.nanmax(values):.2g})"


def main() -> None:
    """Print all tables."""
    recorded = {name: load(RESULTS / f"{chaos_name(name)}.nc") for name in CHAOS_CONE}
    found = {name: transitions(series) for name, series in recorded.items()}
    seeds = [f"seed {seed}" for seed in next(iter(recorded.values()))["seed"].values]
    print(f"| configuration | transition | {' | '.join(seeds)} | median, 90 % interval |")
    print("|---" * (3 + len(seeds)) + "|")
    for name, series in recorded.items():
        print(*table_of_steps(name, series, found[name]), sep="\n")
    print("\n| configuration | end of the effect on | beside | earlier, later, tied | p | least p |")
    print("|---" * 6 + "|")
    for name in recorded:
        print(*table_of_orders(name, found[name]), sep="\n")
    print("\n| configuration | t0 | distance | angle | disagreement | barrier | linearised accuracy | growth |")
    print("|---" * 8 + "|")
    for name, series in recorded.items():
        print(*table_of_effects(name, series), sep="\n")
    print("\n| configuration | test accuracy | control, largest difference | CPU s of a seed |\n|---|---|---|---|")
    for name, series in recorded.items():
        accuracy, control = series["test_accuracy"].isel(step=-1).values, series["control_difference"].max().item()
        cost = sum(json.loads(series.attrs["cost_cpu_seconds"]).values())
        print(f"| {name} | {_median(accuracy)} | {control:g} | {cost:.0f} |")


if __name__ == "__main__":
    main()
