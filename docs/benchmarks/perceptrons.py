"""Regions, circuits and robustness of the perceptrons: `python docs/benchmarks/perceptrons.py`.

Prints Markdown from the recordings in reference/results: the fits, the change of each measure after fitting in runs and
controls, the parts of the mechanisms by layer, and the rank correlations of three measures of complexity.

`--store FOLDER` first makes these recordings from runs/perceptrons-*.nc in FOLDER, which these commands write in about
25 CPU minutes together:

    python -m reference perceptrons --task division --seeds 6             (and with --control)
    python -m reference perceptrons --task digits --seeds 6               (and with --control)
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import xarray as xr
from scipy import stats

from probe import load, save
from probe.stats import separation
from reference.claims import Reading
from reference.claims.recorded import RecordedRuns, around, change_after_fit, last
from reference.claims.two_phases import Evidence
from reference.claims.two_phases.configurations import PERCEPTRONS, control_of
from reference.claims.two_phases.regions import net_changes

RESULTS = Path(__file__).parents[2] / "reference" / "results"
# Errors and intervals within one run, numbers that follow from others, and those by layer whose totals are kept.
_LEFT_OUT = (
    *("_se", "_se_total", "_lower", "_upper", "_units", "_units_total", "_weighted", "_fraction", "_saturated"),
    *("regions_segments", "regions_points", "knots_added", "circuits_near", "circuits_random", "circuits_copies"),
    *("circuits_distinct", "regions_area"),
)
_SPLITS = ("train", "test", "random")


def stored(series: xr.Dataset) -> xr.Dataset:
    """Return the recording in float32, without flags that are never set."""
    small = {}
    for name, values in series.data_vars.items():
        flag = values.dtype == np.int8
        if not str(name).endswith(_LEFT_OUT) and (not flag or (values == 1).any()):
            small[name] = values if flag else values.astype(np.float32)
    return series[list(small)].assign(small)


def store(folder: Path) -> None:
    """Write the recordings of the perceptrons to reference/results."""
    for name in (one for task in PERCEPTRONS for one in (task, control_of(task))):
        path = save(stored(load(folder / f"{name}.nc")), RESULTS / f"{name}.nc")
        print(f"written: {path}, {path.stat().st_size / 1e3:.0f} kB", file=sys.stderr)


# -- measures ------------------------------------------------------------------------------------------------------


def measures(one: RecordedRuns) -> Iterator[tuple[str, str, xr.DataArray]]:
    """Yield a label, "x" (a factor) or "+" (a difference), and the curves (run, step)."""
    for split in _SPLITS:
        yield f"regions, slice at {split}", "x", one.measured("linear_regions_mean", split=split)
    for split in _SPLITS:
        for layer in ("1:relu", "3:relu"):
            lines = one.measured("linear_regions_lines", split=split, layer=layer, slice=0)
            yield f"units that bend in the slice at {split}, {layer}", "+", lines
    for split in _SPLITS:
        yield f"circuits on a segment, {split}", "x", one.measured("linear_regions_knots", split=split) + 1
    for split in ("train", "test", "midpoint", "random"):
        yield f"local complexity, {split}", "x", one.measured("local_complexity_total", split=split)
    for split in ("train", "test", "midpoint"):
        lmn = one.measured("linear_mapping_number", split=split, layer=one.layers()[0])
        yield f"linear mapping number, {split}", "x", lmn
    for split in ("train", "test"):
        for kind in ("random", "worst"):
            accuracy = one.measured("robustness_accuracy", split=split, perturbation=kind)
            yield f"accuracy, {kind} perturbation, {split}", "+", accuracy
        yield f"Lipschitz mean, {split}", "x", one.measured("lipschitz_mean", split=split)
    for split in ("train", "test"):
        yield f"units that differ to the nearest input, {split}", "+", one.measured("circuits_near_total", split=split)
        yield f"units always off, {split}", "+", one.measured("circuits_always_off_total", split=split)
        yield f"units that are copies, {split}", "+", one.measured("circuits_copies_total", split=split)
        yield f"centroid alignment, {split}", "+", one.measured("circuits_alignment", split=split)
    for split in _SPLITS:
        alike = one.probes["linear_regions_alike"].sel({"split": split, "slice": 0, "within": 0.05})
        both = alike.dropna("layer", how="all").sum("layer", skipna=False).transpose("run", "step")
        yield f"boundaries within 5 % of another one, slice at {split}", "+", both


def _interval(values: np.ndarray, kind: str) -> str:
    """Return the mean and its 90 % interval over seeds; of a factor, both of its logarithm."""
    known = values[np.isfinite(values)]
    if len(known) < 3:
        return "-"
    half = stats.t.ppf(0.95, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
    numbers = np.array([known.mean(), known.mean() - half, known.mean() + half])
    numbers = 10**numbers if kind == "x" else numbers
    text = "× {:.3g} ({:.3g} to {:.3g})" if kind == "x" else "{:+.3g} ({:+.3g} to {:+.3g})"
    return text.format(*numbers) + (f", {len(known)} seeds" if len(known) < len(values) else "")


def _separation(runs: Reading, controls: Reading) -> str:
    known = [one.values[np.isfinite(one.values)] for one in (runs, controls)]
    if min(map(len, known)) < 2:
        return "-"
    found = separation(*known, level=0.9)
    return f"{found.auc:.2f} ({found.lower:.2f} to {found.upper:.2f}), p {found.p_value:.3f}"


def changes(evidence: Evidence, name: str) -> list[str]:
    """Return the table of all measures at the end of fitting and at the end."""
    runs, controls = (evidence.ours(one) for one in (name, control_of(name)))
    lines = [
        "| measure | runs: fitted, end | controls: fitted, end | change, runs | change, controls | AUC, runs higher |",
        "|---|---|---|---|---|---|",
    ]
    for (label, kind, curves), (_, _, others) in zip(measures(runs), measures(controls), strict=True):
        cells, found = [label], []
        for one, each in ((runs, curves), (controls, others)):
            cells.append(f"{np.nanmean(around(each, one.fitted)):.4g}, {np.nanmean(last(each).values):.4g}")
            found.append(change_after_fit(xr.ufuncs.log10(each) if kind == "x" else each, one.fitted))
        cells += [_interval(one.values, kind) for one in found]
        lines.append(f"| {' | '.join([*cells, _separation(*found)])} |")
    return lines


def mechanisms(evidence: Evidence, name: str) -> list[str]:
    """Return the table of the changes by each mechanism after fitting, as shares of the regions when fitted."""
    runs, controls = (evidence.ours(one) for one in (name, control_of(name)))
    lines = ["| slice, mechanism less its reverse | runs | controls | AUC, runs higher |", "|---|---|---|---|"]
    for split in _SPLITS:
        found = [net_changes(one, split) for one in (runs, controls)]
        for mechanism in found[0]:
            both = [one[mechanism] for one in found]
            cells = [f"{split}, {mechanism}", *(_interval(one.values, "+") for one in both), _separation(*both)]
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| slice, mechanism, layer | sum after fitting, runs | controls |", "|---|---|---|"]
    for split in _SPLITS:
        for mechanism in runs.probes["mechanism"].values:
            for layer in ("1:relu", "3:relu"):
                gross = [_gross(one, split, str(mechanism), layer) for one in (runs, controls)]
                lines.append(f"| {split}, {mechanism}, {layer} | {' | '.join(_interval(g, '+') for g in gross)} |")
    return lines


def _gross(one: RecordedRuns, split: str, mechanism: str, layer: str) -> np.ndarray:
    """Return the sum of the changes after fitting, as a share of the regions when fitted."""
    part = one.probes["linear_regions_change"].sel(split=split, mechanism=mechanism, layer=layer).mean("slice")
    later = part["step"] > xr.DataArray(one.fitted, dims="run")
    regions = around(one.measured("linear_regions_mean", split=split), one.fitted)
    return part.where(later, 0).sum("step").transpose("run").values / regions


def fits(evidence: Evidence) -> list[str]:
    """Return the table of steps and accuracies."""
    lines = ["| runs | seed | fitted at | test accuracy then | test accuracy .9 at | train, test at the end |"]
    lines.append("|---|---|---|---|---|---|")
    for name in (one for task in PERCEPTRONS for one in (task, control_of(task))):
        one = evidence.ours(name)
        test, train = (one.curves[f"{split}_accuracy"].transpose("run", "step") for split in ("test", "train"))
        then = around(test, one.fitted)
        for run in range(one.curves.sizes["run"]):
            row = test.isel(run=run)
            good = row["step"].values[row.values >= 0.9]
            first = f"{good[0]:,}" if len(good) else "never"
            ends = f"{train.values[run, -1]:.3f}, {row.values[-1]:.3f}"
            lines.append(f"| {name} | {run} | {one.fitted[run]:,.0f} | {then[run]:.3f} | {first} | {ends} |")
    return lines


_SUMMARY = (  # lines of the table of docs/regions.md
    *(f"regions, slice at {split}" for split in _SPLITS),
    *(f"circuits on a segment, {split}" for split in _SPLITS),
    *(f"local complexity, {split}" for split in ("train", "test", "midpoint", "random")),
    "linear mapping number, train",
    "boundaries within 5 % of another one, slice at train",
    "accuracy, worst perturbation, train",
    "accuracy, worst perturbation, test",
)


def summary(evidence: Evidence) -> str:
    """Return the table of docs/regions.md: changes after fitting in all runs and controls."""
    lines = [_head("measure")]
    rows: dict[str, list[str]] = {name: [] for name in _SUMMARY}
    for name in PERCEPTRONS:
        runs, controls = (evidence.ours(one) for one in (name, control_of(name)))
        for (label, kind, curves), (_, _, others) in zip(measures(runs), measures(controls), strict=True):
            if label in rows:
                pairs = ((runs, curves), (controls, others))
                found = [change_after_fit(xr.ufuncs.log10(c) if kind == "x" else c, one.fitted) for one, c in pairs]
                rows[label] += _cells(found, kind)
    lines += [f"| {' | '.join([name, *cells])} |" for name, cells in rows.items()]
    return "\n".join(lines)


def mechanism_summary(evidence: Evidence) -> str:
    """Return the table of docs/regions.md: changes by each mechanism less its reverse."""
    lines = [_head("slices at, mechanism less its reverse")]
    for split in _SPLITS:
        found = [[net_changes(evidence.ours(one), split) for one in (n, control_of(n))] for n in PERCEPTRONS]
        for mechanism in ("disappearance", "alignment"):  # the others are 0 or nearly so
            cells = [cell for pair in found for cell in _cells([one[mechanism] for one in pair], "+")]
            lines.append(f"| {' | '.join([f'{split}, {mechanism}', *cells])} |")
    return "\n".join(lines)


def _head(first: str) -> str:
    columns = [f"{task}, {group}" for task in ("division", "digits") for group in ("runs", "controls", "AUC")]
    return f"| {' | '.join([first, *columns])} |\n" + "|---" * (1 + len(columns)) + "|"


def _cells(found: list[Reading], kind: str) -> list[str]:
    """Return the mean of runs, that of controls, and the area under the ROC curve."""
    known = [one.values[np.isfinite(one.values)] for one in found]
    auc = separation(*known, level=0.9).auc if min(map(len, known)) > 1 else np.nan
    return [*(_interval(one.values, kind) for one in found), f"{auc:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, metavar="FOLDER", help="make the recordings in reference/results first")
    args = parser.parse_args()
    if args.store:
        store(args.store)
    evidence = Evidence()
    print("\n".join(fits(evidence)))
    tables: tuple[Callable[[Evidence, str], list[str]], ...] = (changes, mechanisms)
    for name in PERCEPTRONS:
        for table in tables:
            print("\n".join(["", f"## {name}, {table.__name__}", "", *table(evidence, name)]))


if __name__ == "__main__":
    main()
