"""Judge the claims on linear regions, circuits and robustness, on ReLU perceptrons and their controls.

Thresholds were fixed before the runs were recorded. Known then: the accuracies of all runs; all measures but regions of
seed 100, which is no run; and the number of regions of one slice of seed 0 of each task at nine steps.
"""

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from scipy.stats import rankdata, spearmanr

from reference.claims.base import Claim, Finding, nothing_published
from reference.claims.recorded import RecordedRuns, around, change_after_fit, last
from reference.claims.two_phases.configurations import PERCEPTRONS, control_of
from reference.claims.two_phases.evidence import Evidence
from reference.claims.verdicts import Reading, by_prediction, by_separation, of_interval

ALIKE = 0.8  # rank correlation of measures that are "closely related"
MORE_ROBUST = 0.05  # accuracy under perturbations
LESS = -0.01  # of the regions at the end of fitting, by a mechanism
AUC = 0.9  # of a progress measure
_SLICES = ("train", "test", "random")
_ELSEWHERE = ("midpoint", "test", "random")
_LMN, _INTEGRAL, _REGIONS = "linear mapping number", "integral of local complexity", "regions"
_MECHANISMS = {  # a mechanism and its reverse
    "disappearance": ("disappearance", "appearance"),
    "merging": ("merging", "splitting"),
    "alignment": ("alignment", "crossing"),
}
_DRAWS = 2_000  # of the bootstrap over runs


# -- regions and circuits ------------------------------------------------------------------------------------------


def _logs(one: RecordedRuns, variable: str, split: str) -> xr.DataArray:
    return xr.ufuncs.log10(one.measured(variable, split=split))


def regions_fall(evidence: Evidence) -> Iterator[Finding]:
    """Judge the change of the number of regions of slices after fitting."""
    for name in PERCEPTRONS:
        one = evidence.ours(name)
        for split in _SLICES:
            found = change_after_fit(_logs(one, "linear_regions_mean", split), one.fitted)
            what = f"log10 of the change to step {found.at}"
            yield Finding(f"{name}, slices at {split}", by_prediction(found.values, -np.inf, 0, what))


def circuits_fall(evidence: Evidence) -> Iterator[Finding]:
    """Judge the change of the number of circuits on segments between two inputs after fitting."""
    for name in PERCEPTRONS:
        one = evidence.ours(name)
        for split in _SLICES:
            found = change_after_fit(_circuits(one, split), one.fitted)
            what = f"log10 of the change to step {found.at}"
            yield Finding(f"{name}, segments at {split}", by_prediction(found.values, -np.inf, 0, what))


def _circuits(one: RecordedRuns, split: str) -> xr.DataArray:
    """Return log10 of the mean number of circuits on a segment (run, step)."""
    return xr.ufuncs.log10(one.measured("linear_regions_knots", split=split) + 1)


def regions_separate(evidence: Evidence) -> Iterator[Finding]:
    """Compare the change of regions and circuits after fitting with that in the controls."""
    for name in PERCEPTRONS:
        for label, curves in {"slices": _regions, "segments": _circuits}.items():
            for split in _SLICES:
                runs, controls = (_after_fit(evidence.ours(one), curves, split) for one in (name, control_of(name)))
                what = f"log10 change to step {runs.at}, control against runs"
                yield Finding(f"{name}, {label} at {split}", by_separation(controls, runs, what, auc=AUC))


def _regions(one: RecordedRuns, split: str) -> xr.DataArray:
    return _logs(one, "linear_regions_mean", split)


def _after_fit(one: RecordedRuns, curves: Callable[[RecordedRuns, str], xr.DataArray], split: str) -> Reading:
    return change_after_fit(curves(one, split), one.fitted)


# -- three measures of one thing -----------------------------------------------------------------------------------


def _three(one: RecordedRuns) -> dict[str, xr.DataArray]:
    """Return the three measures (run, step). Lines and slices go through training inputs."""
    return {
        _LMN: one.measured("linear_mapping_number", split="train", layer=one.layers()[0]),
        _INTEGRAL: one.measured("local_complexity_integral"),
        _REGIONS: one.measured("linear_regions_mean", split="train"),
    }


_PAIRS = ((_LMN, _REGIONS), (_LMN, _INTEGRAL), (_INTEGRAL, _REGIONS))


def agree_over_time(evidence: Evidence) -> Iterator[Finding]:
    """Judge the rank correlations of the three measures over the steps of each run, and over those after fitting."""
    for name in (one for task in PERCEPTRONS for one in (task, control_of(task))):
        one, three = evidence.ours(name), _three(evidence.ours(name))
        for first, second in _PAIRS:
            for label, start in (("all steps", np.full(len(one.fitted), -1.0)), ("after fitting", one.fitted)):
                found = _over_time(three[first], three[second], start)
                verdict = by_prediction(found, ALIKE, 1, f"rank correlation, {label}")
                yield Finding(f"{name}, {first} and {second}, {label}", verdict)


def _over_time(first: xr.DataArray, second: xr.DataArray, start: np.ndarray) -> np.ndarray:
    """Return the rank correlation of each run from a step on; NaN where the step is NaN."""
    found = []
    for a, b, at in zip(first.values, second.values, start, strict=True):
        kept = (first["step"].values >= at) & np.isfinite(a) & np.isfinite(b)
        found.append(spearmanr(a[kept], b[kept]).statistic if kept.sum() > 3 else np.nan)
    return np.array(found)


def agree_over_runs(evidence: Evidence) -> Iterator[Finding]:
    """Judge the rank correlations of the three measures over runs and controls at the end of the record."""
    for name in PERCEPTRONS:
        groups = [
            np.array([last(curves).values for curves in _three(evidence.ours(one)).values()])
            for one in (name, control_of(name))
        ]
        names = (_LMN, _INTEGRAL, _REGIONS)
        for first, second in _PAIRS:
            chosen = [group[[names.index(first), names.index(second)]] for group in groups]
            value, lower, upper = _bootstrapped(chosen)
            what = f"rank correlation over {sum(group.shape[1] for group in chosen)} runs and controls"
            yield Finding(f"{name}, {first} and {second}", of_interval(value, lower, upper, ALIKE, 1, what))


def _bootstrapped(groups: list[np.ndarray]) -> tuple[float, float, float]:
    """Return the rank correlation over all columns of groups (2, n), and its 90 % interval, drawn within the groups."""
    source = np.random.default_rng(0)
    columns = [source.integers(group.shape[1], size=(_DRAWS, group.shape[1])) for group in groups]
    drawn = np.concatenate([group[:, chosen] for group, chosen in zip(groups, columns, strict=True)], 2)
    ranks = rankdata(drawn, axis=2)
    ranks -= ranks.mean(2, keepdims=True)
    first, second = ranks / np.linalg.norm(ranks, axis=2, keepdims=True)
    lower, upper = np.quantile((first * second).sum(1), [0.05, 0.95])
    return float(spearmanr(*np.concatenate(groups, 1)).statistic), float(lower), float(upper)


# -- robustness and the place of complexity ------------------------------------------------------------------------


def _robustness(one: RecordedRuns) -> Reading:
    curves = one.measured("robustness_accuracy", split="train", perturbation="worst")
    return change_after_fit(curves, one.fitted)


def robustness_grows(evidence: Evidence) -> Iterator[Finding]:
    """Judge the change of the accuracy on perturbed training inputs after fitting."""
    for name in PERCEPTRONS:
        found = _robustness(evidence.ours(name))
        what = f"change of the accuracy to step {found.at}"
        yield Finding(name, by_prediction(found.values, MORE_ROBUST, np.inf, what))


def robustness_separates(evidence: Evidence) -> Iterator[Finding]:
    """Compare the change of the accuracy on perturbed training inputs with that in the controls."""
    for name in PERCEPTRONS:
        runs, controls = (_robustness(evidence.ours(one)) for one in (name, control_of(name)))
        what = f"change of the accuracy to step {runs.at}, runs against control"
        yield Finding(name, by_separation(runs, controls, what, auc=AUC))


def migrates(evidence: Evidence) -> Iterator[Finding]:
    """Judge the change of the ratio of local complexity at training points to that elsewhere, after fitting."""
    for name in PERCEPTRONS:
        one = evidence.ours(name)
        train = _logs(one, "local_complexity_total", "train")
        for split in _ELSEWHERE:
            found = change_after_fit(train - _logs(one, "local_complexity_total", split), one.fitted)
            what = f"log10 of the change to step {found.at}"
            yield Finding(f"{name}, train over {split}", by_prediction(found.values, -np.inf, 0, what))


# -- mechanisms ----------------------------------------------------------------------------------------------------


def net_changes(one: RecordedRuns, split: str) -> dict[str, Reading]:
    """Return the change of the number of regions after fitting by each mechanism less its reverse.

    The unit is the number of regions at the end of fitting. Changes are sums over the observations after the end of
    fitting and over layers, means over slices. ``folding`` has no name in the paper.
    """
    by_layer = one.probes["linear_regions_change"].sel(split=split).dropna("layer", how="all")  # the input has none
    changes = by_layer.sum("layer", skipna=False).mean("slice")
    regions = around(one.measured("linear_regions_mean", split=split), one.fitted)
    end = np.full(len(one.fitted), float(one.probes["step"].values[-1]))
    later = changes["step"] > xr.DataArray(one.fitted, dims="run")
    found = {}
    for name, parts in {**_MECHANISMS, "folding": ("folding",)}.items():
        total = changes.sel(mechanism=list(parts)).sum("mechanism", skipna=False)
        sums = total.where(later, 0).sum("step", skipna=False).transpose("run").values
        found[name] = Reading(np.where(np.isfinite(one.fitted), sums / regions, np.nan), end)
    return found


def mechanisms_reduce(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether each mechanism removes more regions after fitting than its reverse adds."""
    for name in PERCEPTRONS:
        for split in _SLICES:
            found = net_changes(evidence.ours(name), split)
            for mechanism in _MECHANISMS:
                what = f"share of the regions at the end of fitting, to step {found[mechanism].at}"
                verdict = by_prediction(found[mechanism].values, -np.inf, LESS, what)
                yield Finding(f"{name}, {mechanism}, slices at {split}", verdict)


def mechanisms_separate(evidence: Evidence) -> Iterator[Finding]:
    """Compare the change by each mechanism with that in the controls."""
    for name in PERCEPTRONS:
        for split in _SLICES:
            runs, controls = (net_changes(evidence.ours(one), split) for one in (name, control_of(name)))
            for mechanism in _MECHANISMS:
                what = f"share of the regions to step {runs[mechanism].at}, control against runs"
                verdict = by_separation(controls[mechanism], runs[mechanism], what, auc=AUC)
                yield Finding(f"{name}, {mechanism}, slices at {split}", verdict)


def composite_near_decision(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether composite borders are nearer to the decision boundary than others, at the end of the record."""
    for name in PERCEPTRONS:
        one = evidence.ours(name)
        for split in _SLICES:
            composite, ordinary = (
                one.probes[f"linear_regions_{kind}_distance"].sel(split=split) for kind in ("composite", "ordinary")
            )
            both = np.isfinite(composite) & np.isfinite(ordinary)
            ratio = composite.where(both).mean("slice") / ordinary.where(both).mean("slice")
            found = xr.ufuncs.log10(ratio.transpose("run", "step")).values[:, -3:]
            means = np.array([row.mean() for row in found])  # NaN without composite borders or without a decision
            what = "log10 of the distance of composite borders over that of others"
            yield Finding(f"{name}, slices at {split}", by_prediction(means, -np.inf, 0, what))


_SMALL = "the worst of 4 perturbations of .3 of the mean norm of an input"

REGION_CLAIMS = [
    Claim(
        "linear regions fall on",
        "2.1, 4.3, 4.4",
        "by the end of the second phase the partition of input space has significantly fewer linear regions",
        "fewer regions in slices through three points at the end of the record than at the end of fitting, perceptrons",
        nothing_published,
        regions_fall,
    ),
    Claim(
        "circuits fall on",
        "2.1, 4.3",
        "the number of distinct circuits decreases during the second phase",
        "fewer circuits on segments between two points at the end of the record than at the end of fitting",
        nothing_published,
        circuits_fall,
    ),
    Claim(
        "regions are a progress measure",
        "2.1",
        "the number of circuits in input space is a progress measure",
        f"the change after fitting is lower than in the control at the same step (AUC above {AUC})",
        nothing_published,
        regions_separate,
    ),
    Claim(
        "LMN, local complexity and regions agree over time",
        "2.1",
        "the LMN is the number of linear regions in simple examples, and closely related to the integral of LC",
        f"rank correlation over the steps of a further seed of at least {ALIKE}",
        nothing_published,
        agree_over_time,
    ),
    Claim(
        "LMN, local complexity and regions agree over runs",
        "2.1",
        "the LMN is the number of linear regions in simple examples, and closely related to the integral of LC",
        f"rank correlation over runs and controls at the end of the record of at least {ALIKE} (90 % interval)",
        nothing_published,
        agree_over_runs,
    ),
    Claim(
        "robustness grows after fitting",
        "4.2",
        "the second phase brings larger, more stable zones around training points, and increased robustness",
        f"accuracy of perturbed training inputs is {MORE_ROBUST} higher at the end of the record. The perturbation is "
        f"{_SMALL}",
        nothing_published,
        robustness_grows,
    ),
    Claim(
        "robustness grows more than in a control",
        "4.2",
        "(no claim of the paper: we test whether the growth belongs to generalisation)",
        f"the growth of that accuracy after fitting is larger than in the control at the same step (AUC above {AUC})",
        nothing_published,
        robustness_separates,
    ),
    Claim(
        "complexity migrates away from training points",
        "2.1, 4.2",
        "the complexity of the linear regions migrates away from the training samples",
        "local complexity at training points over that elsewhere is lower at the end of the record",
        nothing_published,
        migrates,
    ),
    Claim(
        "alignment, disappearance and merging remove regions",
        "4.4, figure 6",
        "the number of regions decreases by alignment, disappearance and merging",
        f"after fitting, each removes at least {-LESS:.0%} of the regions, less what its reverse adds",
        nothing_published,
        mechanisms_reduce,
    ),
    Claim(
        "mechanisms are progress measures",
        "4.4",
        "(no claim of the paper: we test whether the mechanisms belong to generalisation)",
        f"the change by a mechanism less its reverse is lower than in the control (AUC above {AUC})",
        nothing_published,
        mechanisms_separate,
    ),
    Claim(
        "composite boundaries lie near the decision boundary",
        "4.4",
        "composite boundaries localise around the decision boundary",
        "at the end of the record, they are nearer to it than other boundaries in the same slices",
        nothing_published,
        composite_near_decision,
    ),
]
