"""The demo on several seeds, and its control: `OMP_NUM_THREADS=1 python docs/benchmarks/demo_seeds.py --write`.

Trains seeds of `demo` and of `control-demo` (the same pairs with randomly permuted answers), each about three CPU
minutes, and prints Markdown: markers, curves and jumps of the loss. Seeds 0 and 1 chose the recipe, the others did not.
A repeated command trains only the seeds that are missing in the folder. `--write` puts the table into the page
docs/reference.md.
`--bundle` records seed 0 with all measures into reference/results/demo.nc, about ten CPU minutes. Draw its figure with
`figures.py demo`.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
import xarray as xr
from matplotlib.figure import Figure

from probe import (
    LMNProbe,
    LocalComplexityProbe,
    MutualInfoProbe,
    PhaseDetector,
    ProbeSet,
    WeightsProbe,
    load,
    plots,
    save,
)
from reference.experiments import Demo, run_demo
from reference.runs import parse_seeds
from reference.training import CONFIGS

DOCS = Path(__file__).parents[1]
RESULTS = DOCS.parent / "reference" / "results"
BEGIN, END = "<!-- table of demo_seeds.py -->", "<!-- end of the table -->"
CHOSE = (0, 1)  # seeds on which the recipe was chosen
MARKERS = ("fit_end", "generalisation_onset", "descent_onset", "compression_onset", "end")
HEAD = ("run", *MARKERS, "test accuracy", "test loss: top, end", "I(T+n;X): top, end", "jumps at")
LOW, HIGH = 0.1, 0.5  # nats


def recorded(name: str, seed: int, folder: Path) -> tuple[xr.Dataset, np.ndarray]:
    """Return the series of a run and the steps of its jumps; trains the run if it is not in the folder."""
    path, losses = folder / f"{name}-{seed}.nc", folder / f"{name}-{seed}.npy"
    if not losses.exists():  # written last
        probes, found = ProbeSet([MutualInfoProbe(max_samples=1024)]), []
        demo = Demo(seed=seed, training=CONFIGS[name])
        run_demo(demo, path, mode="overwrite", progress=False, probes=probes, on_step=lambda t: found.append(t.loss))
        np.save(losses, np.array(found, np.float32))
    return load(path), jumps(np.load(losses))


def jumps(losses: np.ndarray) -> np.ndarray:
    """Return the steps at which the loss of the training batch rises above `HIGH` after it was below `LOW`."""
    (steps,) = np.nonzero((losses < LOW) | (losses > HIGH))
    high = losses[steps] > HIGH
    return steps[1:][high[1:] & ~high[:-1]] + 1  # the first loss is that of step 1


def row(label: str, series: xr.Dataset, jumped: np.ndarray) -> list[str]:
    """Return the cells of a run."""
    markers = PhaseDetector().fit(series).markers_.isel(run=0)
    cells = [label]
    for marker in MARKERS:
        one = markers.sel(marker=marker)
        at = "" if np.isnan(one["step"]) else f" {one['step'].item():,.0f}"
        cells.append(f"{one['status'].item()}{at}")
    loss = series["test_loss"]
    bits = series["information_x"].sel(split="train").isel(layer=-1)
    bits_after = bits.sel(step=slice(float(markers["step"].sel(marker="fit_end").fillna(0)), None))
    return [
        *cells,
        f"{series['test_accuracy'][-1].item():.3f}",
        f"{loss.max().item():.1f}, {loss[-1].item():.3g}",
        f"{bits_after.max().item():.1f}, {bits[-1].item():.1f}",
        ", ".join(f"{step:,}" for step in jumped) or "none",
    ]


def table(rows: list[list[str]]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def all_measures() -> ProbeSet:
    """Return the probes of the bundled recording."""
    estimators = ("coding_rate", "renyi", "binned")
    information = MutualInfoProbe(noise_factors=(0.5, 2), compare=estimators, pooled=True, max_samples=1024)
    return ProbeSet([information, LocalComplexityProbe(n_random=40), LMNProbe(), WeightsProbe()])


def bundle(folder: Path) -> None:
    """Record seed 0 with all measures; seven digits are enough, and halve the file."""
    series, _ = run_demo(Demo(), folder / "bundle.nc", mode="overwrite", progress=False, probes=all_measures())
    small = {name: v.astype(np.float32) for name, v in series.data_vars.items() if v.dtype == np.float64}
    save(series.assign(small), RESULTS / "demo.nc")


def draw() -> Figure:
    """Draw the bundled recording with its phases."""
    series = load(RESULTS / "demo.nc").sel(split=["train", "test", "all"])
    return plots.overview(series, PhaseDetector().fit(series), title=f"{Demo().name}, seed 0")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=parse_seeds, default="0-7", help="seeds of the demo (default: 0-7)")
    parser.add_argument("--controls", type=parse_seeds, default="0", help="seeds of the control (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("runs/demo-seeds"), help="folder of the recordings")
    parser.add_argument("--write", action="store_true", help="put the table into docs/reference.md")
    parser.add_argument("--bundle", action="store_true", help="record seed 0 with all measures instead")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    if args.bundle:
        bundle(args.out)
        return
    rows = [
        row(f"{word} {seed}{' (chose)' if word == 'seed' and seed in CHOSE else ''}", *recorded(name, seed, args.out))
        for name, word, seeds in (("demo", "seed", args.seeds), ("control-demo", "control", args.controls))
        for seed in seeds
    ]
    made = table(rows)
    print(made)
    if args.write:
        page = DOCS / "reference.md"
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{rest.split(END)[1]}", encoding="utf-8")


if __name__ == "__main__":
    main()
