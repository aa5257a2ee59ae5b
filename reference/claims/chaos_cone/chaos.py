"""Judge the claims on the response of a training to a perturbation."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import xarray as xr

from reference.claims.base import Finding
from reference.claims.chaos_cone.configurations import (
    BARRIER,
    COINCIDE,
    EARLY,
    EXPLAINED,
    FALLS,
    FLOOR,
    GROWTH,
    LARGER_AT_ONCE,
    SHARP,
    TWICE,
)
from reference.claims.chaos_cone.evidence import Evidence, Recording
from reference.claims.chaos_cone.transitions import Transition
from reference.claims.verdicts import UNDECIDED, Verdict, by_prediction, by_share

Judge = Callable[[Evidence], Iterator[Finding]]
_MAPS = {"barrier": "map_barrier", "disagreement": "map_disagreement"}
_ENDS = 3  # observations in a mean at an end of a record


def _log(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.log10(np.maximum(values, FLOOR)))


# -- early and late perturbations ----------------------------------------------------------------------------------


def barrier(evidence: Evidence, *, late: bool) -> Iterator[Finding]:
    """Judge the barrier at the last t1 after a perturbation at the first or the last t0."""
    for one in evidence.all():
        found = one.final("map_barrier")[:, -1 if late else 0]
        what = f"nats, t0 = {found['t0'].item():,.0f}, t1 = {found['t1'].item():,.0f}"
        low, high = (-np.inf, BARRIER) if late else (BARRIER, np.inf)
        yield Finding(one.name, by_prediction(found.values, low, high, what))


def disagreement(evidence: Evidence) -> Iterator[Finding]:
    """Judge the ratio of the disagreements at the last t1 after perturbations at the first and the last t0."""
    for one in evidence.all():
        found = one.final("map_disagreement")
        ends = " and ".join(f"{found.values[:, k].mean():.3f}" for k in (0, -1))
        what = f"log10 of t0 = 0 over t0 = {found['t0'].values[-1]:,.0f} (means {ends})"
        ratio = _log(found.values[:, 0]) - _log(found.values[:, -1])
        yield Finding(one.name, by_prediction(ratio, TWICE, np.inf, what))


def equal_windows(evidence: Evidence) -> Iterator[Finding]:
    """Judge the barrier after a perturbation at the first t0, and a window as long as that of the last t0."""
    for one in evidence.all():
        found = one.map("map_barrier")
        window = float(found["t1"].values[-1] - found["t0"].values[-1])
        early = [_at(row, float(found["t0"].values[0]) + window) for row in found[:, 0]]
        what = f"nats, window of {window:,.0f}, t0 = {found['t0'].values[0]:,.0f}"
        yield Finding(one.name, by_prediction(early, BARRIER, np.inf, what))


def _at(row: xr.DataArray, t1: float) -> float:
    """Return a response (t1,) at a step between the observed ones, linear in log10(step + 1)."""
    known = row.dropna("t1")
    x = np.log10(known["t1"].values + 1)
    return float(np.interp(np.log10(t1 + 1), x, known.values)) if len(x) else np.nan


# -- transition of the response ------------------------------------------------------------------------------------


def early_transition(evidence: Evidence) -> Iterator[Finding]:
    """Judge the share of the training at which the response has fallen to a half."""
    for one in evidence.all():
        for name in _MAPS:
            steps = np.array([transition.step for transition in one.transitions[name]])
            what = f"log10 of the share of the training{_without(one.transitions[name])}"
            share = np.log10((steps + 1) / (one.last_step + 1))
            yield Finding(f"{one.name}, {name}", by_prediction(share, -np.inf, EARLY, what))


def sharp_transition(evidence: Evidence) -> Iterator[Finding]:
    """Judge the width of the transition in t0."""
    for one in evidence.all():
        for name in _MAPS:
            widths = [transition.width for transition in one.transitions[name]]
            what = f"dex from 80 % to 20 %{_without(one.transitions[name])}"
            yield Finding(f"{one.name}, {name}", by_prediction(widths, -np.inf, SHARP, what))


def _without(transitions: list[Transition]) -> str:
    """Return how many transitions were not found, and their statuses, as a part of a text."""
    statuses = [transition.status for transition in transitions if transition.status != "found"]
    counts = ", ".join(f"{statuses.count(one)} {one.replace('_', ' ')}" for one in sorted(set(statuses)))
    return f" ({counts})" if counts else ""


# -- over t1 -------------------------------------------------------------------------------------------------------


def _early_rows(one: Recording, run: int) -> list[xr.DataArray]:
    """Return the rows (t1,) of the map of angles of a run whose t0 lies before the transition of the barrier."""
    transition, rows = one.transitions["barrier"][run], one.map("map_angle")[run]
    last = {"found": transition.lower, "right_censored": np.inf}.get(transition.status, -np.inf)
    return [row.dropna("t1") for row in rows if float(row["t0"]) <= last]


def peak_exists(evidence: Evidence) -> Iterator[Finding]:
    """Judge in how many seeds the angle after a perturbation at the first t0 has a maximum before the last t1."""
    for one in evidence.all():
        rows = [row.dropna("t1").values for row in one.map("map_angle")[:, 0]]
        size = np.mean([row.max(initial=0.0) for row in rows])
        what = f"the angle ends below {FALLS:.0%} of its maximum (mean {size:.1e})"
        holds = [bool(row[-1] < FALLS * row.max()) if len(row) > 2 else None for row in rows]
        yield Finding(one.name, by_share(holds, what))


def peak_fixed(evidence: Evidence) -> Iterator[Finding]:
    """Judge the distance between the first and the last t1 of the maximum over early t0."""
    for one in evidence.all():
        spreads = [_spread(_early_rows(one, run)) for run in range(one.n_runs)]
        yield Finding(one.name, by_prediction(spreads, 0, COINCIDE, "dex of t1 over early t0"))


def _spread(rows: list[xr.DataArray]) -> float:
    """Return the distance (dex) between maxima over t1; NaN if there are fewer than two, or one lies at the end."""
    tops = [int(row.values.argmax()) for row in rows if row.sizes["t1"] > 2]
    if len(tops) < 2 or any(top == row.sizes["t1"] - 1 for top, row in zip(tops, rows, strict=False)):
        return np.nan
    steps = [float(row["t1"].values[top]) for top, row in zip(tops, rows, strict=False)]
    return float(np.ptp(np.log10(np.array(steps) + 1)))


def larger_at_once(evidence: Evidence) -> Iterator[Finding]:
    """Judge the largest disagreement over t1 over that at the last t1, first t0."""
    for one in evidence.all():
        rows = one.map("map_disagreement")[:, 0].values
        top, end = np.nanmax(rows, 1), rows[:, -1]
        what = f"log10 of the largest over the last (means {top.mean():.3f} and {end.mean():.3f})"
        yield Finding(one.name, by_prediction(_log(top) - _log(end), LARGER_AT_ONCE, np.inf, what))


# -- growth over a window ------------------------------------------------------------------------------------------


def _growth(one: Recording, name: str) -> np.ndarray:
    """Return a log growth (run, step) in a Gaussian direction; that of twins is of the smallest usable size."""
    found = one.series[name].sel(direction="gaussian")
    if "size" in found.dims:
        found = _first(found.sortby("size"))
    return np.asarray(found.transpose("run", "step").values)


def _first(found: xr.DataArray) -> xr.DataArray:
    """Return the value of the smallest size that has one."""
    result = found.isel(size=0)
    for k in range(1, found.sizes["size"]):
        result = result.fillna(found.isel(size=k))
    return result


def growth_at(evidence: Evidence, *, late: bool) -> Iterator[Finding]:
    """Judge the log growth at the first observations, or at the last ones before a drop of the learning rate."""
    for one in evidence.all():
        for label, name in {"twins": "chaos_growth", "derivative": "chaos_tangent_growth"}.items():
            means = []
            for row, drop in zip(_growth(one, name), one.drops, strict=True):
                end = drop.step if drop.status == "found" else np.inf
                known = row[np.isfinite(row) & (one.series["step"].values < end)]
                part = known[-_ENDS:] if late else known[:_ENDS]
                means.append(part.mean() if len(part) == _ENDS else np.nan)
            low, high = (-np.inf, GROWTH) if late else (GROWTH, np.inf)
            what = f"log growth over {one.series.attrs['window']} updates"
            yield Finding(f"{one.name}, {label}", by_prediction(means, low, high, what))


def explained(evidence: Evidence) -> Iterator[Finding]:
    """Judge the growth on the quadratic model of the start over the growth, where this is largest."""
    for one in evidence.all():
        if "chaos_quadratic_growth" not in one.series:
            yield Finding(one.name, Verdict(UNDECIDED, "the quadratic model was not recorded"))
            continue
        quadratic = _growth(one, "chaos_quadratic_growth")
        for label, name in {"twins": "chaos_growth", "derivative": "chaos_tangent_growth"}.items():
            shares = [_share(*rows) for rows in zip(quadratic, _growth(one, name), strict=True)]
            verdict = by_prediction(shares, *EXPLAINED, "share of the largest growth")
            yield Finding(f"{one.name}, {label}", verdict)


def _share(quadratic: np.ndarray, growth: np.ndarray) -> float:
    known = np.isfinite(quadratic) & np.isfinite(growth)
    top = growth[known].argmax() if known.any() else 0
    return float(quadratic[known][top] / growth[known][top]) if known.any() and growth[known][top] > GROWTH else np.nan


def linear_response(evidence: Evidence) -> Iterator[Finding]:
    """Judge in how many seeds twins of all usable sizes grow as the derivative, at nine of ten observations."""
    for one in evidence.all():
        flags = one.series["chaos_kink_limited"].sel(direction="gaussian").transpose("run", "step").values
        known = [row[(row == 0) | (row == 1)] for row in flags]
        shares = [row.mean() if len(row) else np.nan for row in known]
        mean = np.nanmean(shares) if np.isfinite(shares).any() else np.nan
        holds = [bool(share <= 0.1) if np.isfinite(share) else None for share in shares]
        what = f"growth depends on the size at most at a tenth of the observations (mean {mean:.0%})"
        yield Finding(one.name, by_share(holds, what))


early_barrier: Judge = partial(barrier, late=False)
late_barrier: Judge = partial(barrier, late=True)
grows_early: Judge = partial(growth_at, late=False)
stable_late: Judge = partial(growth_at, late=True)
