"""Transitions of the recordings of chaos-cone: `python docs/benchmarks/chaos_cone.py`.

Prints Markdown from the recordings in reference/results: the transitions of each seed as the claims define them
(`reference/claims/chaos_cone/transitions.py`), their medians over seeds, the effects by t0, and the cost.
`python -m reference chaos-cone NAME --seeds 5` makes a recording. `python -m reference accept --paper 2505.13900` tests
over seeds which transitions coincide.
"""

import json
from collections.abc import Iterator

import numpy as np

from reference.claims.chaos_cone import PAPER, Evidence, Recording

PARTS = ("status", "step", "lower", "upper")


def table_of_steps(one: Recording) -> Iterator[str]:
    """Yield the rows of a configuration: each transition in each seed."""
    for name in one.markers["marker"].values:
        marker = one.markers.sel(marker=name)
        cells = [
            f"{step:,.0f} ({lower:,.0f} to {upper:,.0f})" if status == "found" else str(status).replace("_", " ")
            for status, step, lower, upper in zip(*(marker[part].values for part in PARTS), strict=True)
        ]
        yield f"| {one.name} | {name} | {' | '.join(cells)} |"


def table_of_effects(one: Recording) -> Iterator[str]:
    """Yield the effects at the end by t0, medians over seeds with the range."""
    for t0 in one.series["t0"].values:
        names = ("map_distance", "map_angle", "map_disagreement", "map_barrier")
        maps = [one.final(name).sel(t0=t0) for name in names]
        growth = one.series["chaos_growth"].sel(step=t0, direction="gaussian").isel(size=0)
        maps += [one.series["linearised_accuracy"].sel(t0=t0), growth]
        yield f"| {one.name} | {t0:.0f} | {' | '.join(_median(array.values) for array in maps)} |"


def _median(values: np.ndarray) -> str:
    if np.isnan(values).all():
        return ""
    return f"{np.nanmedian(values):.2g} ({np.nanmin(values):.2g}, {np.nanmax(values):.2g})"


def main() -> None:
    """Print all tables."""
    evidence = Evidence()
    recorded = evidence.all()
    seeds = [f"seed {seed}" for seed in recorded[0].series["seed"].values]
    print(f"| configuration | transition | {' | '.join(seeds)} |")
    print("|---" * (2 + len(seeds)) + "|")
    for one in recorded:
        print(*table_of_steps(one), sep="\n")
    print(f"\n{PAPER.tables['transitions'](evidence)}")
    print("\n| configuration | t0 | distance | angle | disagreement | barrier | linearised accuracy | growth |")
    print("|---" * 8 + "|")
    for one in recorded:
        print(*table_of_effects(one), sep="\n")
    print("\n| configuration | test accuracy | control, largest difference | CPU s of a seed |\n|---|---|---|---|")
    for one in recorded:
        accuracy, control = (one.series[name].values for name in ("test_accuracy", "control_difference"))
        cost = sum(json.loads(one.series.attrs["cost_cpu_seconds"]).values())
        print(f"| {one.name} | {_median(accuracy[:, -1])} | {control.max():g} | {cost:.0f} |")


if __name__ == "__main__":
    main()
