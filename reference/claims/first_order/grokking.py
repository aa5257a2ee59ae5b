"""Judge the claims on networks that grok on modular addition, their controls, and sweeps of weight decay."""

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from probe.stats import Hysteresis
from reference.claims.base import Finding
from reference.claims.first_order.configurations import BOUNDARY, DISTINCT, USEFUL
from reference.claims.first_order.evidence import Evidence, Trained
from reference.claims.first_order.rules import not_recorded
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict, by_prediction, by_share, of_interval
from reference.experiments import Distance, distances, sweep_loops

Judge = Callable[[Evidence], Iterator[Finding]]
RUNS, CONTROLS = ("grokking", "demo"), ("no-decay", "shuffled", "demo-control")
_GRADIENT = "gradient direction"
LABELS = {"Fourier powers": "fourier_weight_phase", _GRADIENT: "weight_phase"}
LOOPS = {"sweep": "sweeps", "collapse": "collapse"}  # start of the names of the runs: part of the command
STEPS_PER_VALUE = (50, 200, 800)
_FOUND = "found", "left_censored"
_COINCIDE = {"together": CONFIRMED, "apart": NOT_CONFIRMED}
_LOOP = {"remains": CONFIRMED, "closes": NOT_CONFIRMED, "no loop": NOT_CONFIRMED}


def _of_runs(names: tuple[str, ...], judge: Callable[[Trained], Iterator[tuple[str, Verdict]]]) -> Judge:
    """Return a judge of the runs of these names, which is undecided where they are not recorded."""

    def judged(evidence: Evidence) -> Iterator[Finding]:
        for name in names:
            trained = evidence.trained(name)
            if trained is None:
                part = "demo" if name.startswith("demo") else "grokking"
                verdict = not_recorded(f"first-order-{name}.nc", f"python -m reference first-order {part}")
                yield Finding(f"trained, {name}", verdict)
            else:
                yield from (Finding(f"trained, {name}{what}", verdict) for what, verdict in judge(trained))

    return judged


def _grokked(trained: Trained) -> np.ndarray:
    """Return which runs end with a test accuracy of .9 or more."""
    return trained.at_end(trained.series["test_accuracy"]) >= USEFUL


# -- phase of the weights ------------------------------------------------------------------------------------------


def _becomes_mixed(trained: Trained) -> Iterator[tuple[str, Verdict]]:
    for what, label in trained.labels(LABELS).items():
        mixed = np.isin(trained.markers(label).sel(marker="mixed")["status"].values, _FOUND)
        holds = [bool(one) if grokked else None for one, grokked in zip(mixed, _grokked(trained), strict=True)]
        yield f", {what}", by_share(holds, "mixed at three observations in a row")


def _stays_mixed(trained: Trained) -> Iterator[tuple[str, Verdict]]:
    for what, label in trained.labels(LABELS).items():
        end = trained.at_end(trained.series[label].sel(layer=trained.weights, direction=0))
        holds = [bool(v == 1) if np.isfinite(v) and ok else None for v, ok in zip(end, _grokked(trained), strict=True)]
        yield f", {what}", by_share(holds, "mixed at the last observation")


def _is_not_mixed(trained: Trained) -> Iterator[tuple[str, Verdict]]:
    for what, label in trained.labels(LABELS).items():
        mixed = np.isin(trained.markers(label).sel(marker="mixed")["status"].values, _FOUND)
        yield f", {what}", by_share([not one for one in mixed], "never mixed at three observations in a row")


def mixed_at(marker: str) -> Judge:
    """Return a function that judges whether weights become mixed at a marker of the detector."""

    def judge(trained: Trained) -> Iterator[tuple[str, Verdict]]:
        for what, label in trained.labels(LABELS).items():
            yield f", {what}", _coincide(distances(trained.markers(label)), marker, "mixed")

    return _of_runs(RUNS, judge)


def _coincide(found: list[Distance], first: str, second: str) -> Verdict:
    """Return the verdict on the distance of two markers."""
    one = next(d for d in found if (d.first, d.second) == (first, second))
    return Verdict(_COINCIDE.get(one.verdict, UNDECIDED), _distance(one))


def _distance(one: Distance) -> str:
    value, lower, upper = one.distance[:3]
    text = f"dex: {value:+.2f} ({lower:+.2f} to {upper:+.2f})" if np.isfinite(lower) else "dex: not available"
    return f"{text}, both found in {one.n_found} of {one.n_runs} seeds"


# -- representation ------------------------------------------------------------------------------------------------


def _read_out(trained: Trained) -> xr.DataArray:
    """Return the test accuracy of the refitted read-out, (run, step)."""
    one = trained.series["read_out_accuracy"].sel(split="test", layer=trained.features)
    return one.transpose("run", "step").astype(float)


def _useful(trained: Trained) -> Iterator[tuple[str, Verdict]]:
    what = "test accuracy of a refitted read-out at the end"
    yield "", by_prediction(trained.at_end(_read_out(trained)), USEFUL, np.inf, what)


def _useless(trained: Trained) -> Iterator[tuple[str, Verdict]]:
    what = "test accuracy of a refitted read-out at the end"
    yield "", by_prediction(trained.at_end(_read_out(trained)), -np.inf, DISTINCT, what)


def _distinct(trained: Trained) -> Iterator[tuple[str, Verdict]]:
    fitted = trained.markers(LABELS[_GRADIENT]).sel(marker="fit_end")
    values = []
    for row, step, status in zip(
        _read_out(trained).values, fitted["step"].values, fitted["status"].values, strict=True
    ):
        at = int(np.abs(trained.series["step"].values - step).argmin()) if status == "found" else -1
        values.append(row[at] if status == "found" else np.nan)
    what = "test accuracy of a refitted read-out at the end of fitting"
    yield "", by_prediction(values, -np.inf, DISTINCT, what)


def _features_first(trained: Trained) -> Iterator[tuple[str, Verdict]]:
    found = distances(trained.markers(LABELS[_GRADIENT]))
    one = next(d for d in found if d.second == "read_out_half")
    judged = of_interval(*one.distance[:3], -np.inf, 0, "")
    yield "", Verdict(judged.word, _distance(one))


# -- weight decay --------------------------------------------------------------------------------------------------


def loop_remains(kind: str) -> Judge:
    """Return a function that judges whether loops over weight decay keep an area at zero rate, of a kind of sweep."""
    names = [f"{kind}-{n}" for n in STEPS_PER_VALUE]

    def judge(evidence: Evidence) -> Iterator[Finding]:
        recorded = {name: evidence.recording(name) for name in names}
        known = {name: series for name, series in recorded.items() if series is not None}
        if len(known) < len(recorded):
            missing = ", ".join(f"first-order-{one}.nc" for one in recorded if one not in known)
            verdict = not_recorded(missing, f"python -m reference first-order {LOOPS[kind]}")
            yield Finding(f"trained, {kind}", verdict)
            return
        for variable in ("test_accuracy", "parameter_norm"):
            found = sweep_loops(known, variable, kind)
            verdict = Verdict(_LOOP.get(found.status, UNDECIDED), loop_numbers(found, "steps per value"))
            yield Finding(f"trained, {kind}, {variable.replace('_', ' ')}", verdict)

    return judge


def loop_numbers(found: Hysteresis, unit: str) -> str:
    """Return the areas of loops as text."""
    areas = ", ".join(f"{a:.3g} ({e:.1g}) at {1 / r:,.0f}" for r, a, e in zip(*found[2:5], strict=True))
    zero = found.zero_rate
    text = f"{found.status}; area (error) by {unit}: {areas}"
    return f"{text}; at zero rate {zero.value:.3g} ({zero.lower:.3g} to {zero.upper:.3g})"


def boundary_fixed(evidence: Evidence) -> Iterator[Finding]:
    """Judge how far the boundary of grokking moves from the smallest to the largest budget of steps."""
    series = evidence.recording("boundary")
    if series is None:
        verdict = not_recorded("first-order-boundary.nc", "python -m reference first-order boundary")
        yield Finding("trained, boundary", verdict)
        return
    first, last = boundaries(series, 500), boundaries(series, 8000)
    what = f"dex from 500 to 8,000 steps (medians {np.median(first):.2g} and {np.median(last):.2g})"
    yield Finding("trained, boundary", by_prediction(np.log10(first / last), -BOUNDARY, BOUNDARY, what))


def boundaries(series: xr.Dataset, budget: int) -> np.ndarray:
    """Return the boundary of each seed: between the smallest decay that groks within a budget and the next one."""
    accuracy = series["test_accuracy"].sel(step=budget).transpose("run", "weight_decay").sortby("weight_decay")
    decays, found = accuracy["weight_decay"].values, []
    for row in accuracy.values >= USEFUL:
        k = int(row.argmax())
        found.append(np.sqrt(decays[k] * decays[k - 1]) if row.any() and k else np.nan)
    return np.array(found)


becomes_mixed: Judge = _of_runs(RUNS, _becomes_mixed)
stays_mixed: Judge = _of_runs(RUNS, _stays_mixed)
controls_not_mixed: Judge = _of_runs(CONTROLS, _is_not_mixed)
useful_after: Judge = _of_runs(RUNS, _useful)
useless_before: Judge = _of_runs(RUNS, _distinct)
useless_in_controls: Judge = _of_runs(CONTROLS, _useless)
features_first: Judge = _of_runs(RUNS, _features_first)
