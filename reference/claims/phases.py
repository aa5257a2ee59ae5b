"""Fitting, generalisation and the hump of the test loss."""

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from scipy.stats import mannwhitneyu, t

from reference.claims.base import PAPER, TOGETHER, TRUE, Finding
from reference.claims.evidence import Evidence, distances, log_times, times
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict, by_prediction, by_share, of_interval


def published_distance(first: str, second: str, low: float, high: float) -> Callable[[Evidence], Iterator[Finding]]:
    """Whether two markers of the published curves lie between so many dex apart."""

    def judge(evidence: Evidence) -> Iterator[Finding]:
        for task, markers in evidence.published_markers.items():
            value, lower, upper = _distance(markers, first, second)
            yield Finding(task, of_interval(value, lower, upper, low, high, "dex"))

    return judge


def _distance(markers: xr.Dataset, first: str, second: str) -> tuple[float, float, float]:
    """log10 second over first with bounds; open where one of them is censored."""
    (a, a_low, a_high), (b, b_low, b_high) = (_log_bounds(markers.sel(marker=name)) for name in (first, second))
    return b - a, b_low - a_high, b_high - a_low


def _log_bounds(marker: xr.Dataset) -> tuple[float, float, float]:
    status, first, last = (marker[name].item() for name in ("status", "first_step", "last_step"))
    if status == "found":
        return tuple(float(np.log10(marker[name] + 1)) for name in ("step", "lower", "upper"))  # type: ignore[return-value]
    if status == "right_censored":
        return np.nan, float(np.log10(last + 1)), np.inf
    if status == "left_censored":
        return np.nan, -np.inf, float(np.log10(first + 1))
    return np.nan, np.nan, np.nan


def our_distance(
    first: str, second: str, low: float, high: float, names: tuple[str, ...]
) -> Callable[[Evidence], Iterator[Finding]]:
    """The same of our runs; the end of fitting also without dropout, which the paper does not show."""

    def judge(evidence: Evidence) -> Iterator[Finding]:
        for name in names:
            one = evidence.ours(name)
            values = distances(one.markers, first, second)
            yield Finding(name, by_prediction(values, low, high, "dex"))
            if first == "fit_end":
                values = np.log10((times(one.markers, second) + 1) / (one.fitted + 1))
                yield Finding(f"{name}, fitted without dropout", by_prediction(values, low, high, "dex"))

    return judge


def published_hump(evidence: Evidence) -> Iterator[Finding]:
    """Whether the published test loss rises and falls again."""
    for task, markers in evidence.published_markers.items():
        one = markers.sel(marker="descent_onset")
        word = {"found": CONFIRMED, "absent": NOT_CONFIRMED}.get(one["status"].item(), UNDECIDED)
        yield Finding(task, Verdict(word, f"top at {one['step'].item():,.0f}, p {one['p_value'].item():.3f}"))


def our_hump(evidence: Evidence) -> Iterator[Finding]:
    """In how many seeds it does."""
    for name in ("paper-division", "paper-s5", "division-97", "division-96", "subtraction-96", "s5-fast"):
        status = evidence.ours(name).markers.sel(marker="descent_onset")["status"].values
        yield Finding(name, by_share([_holds(word) for word in status], "rise and fall"))


def _holds(status: str) -> bool | None:
    """Of a marker: found, or not there; None where the data cannot tell."""
    return {"found": True, "undecided": None, "undefined": None}.get(status, False)


def _share_of_time(markers: xr.Dataset) -> np.ndarray:
    return np.log10(10.0 ** -distances(markers, "fit_end", "end"))


def published_share(evidence: Evidence) -> Iterator[Finding]:
    """Fitting over the time to the end, published."""
    for task, markers in evidence.published_markers.items():
        value, lower, upper = _distance(markers, "fit_end", "end")
        yield Finding(task, of_interval(-value, -upper, -lower, -np.inf, np.log10(0.2), "log10 of the share"))


def our_share(evidence: Evidence) -> Iterator[Finding]:
    """Fitting over the time to the end, ours."""
    for name in (*PAPER.values(), *TRUE, "s5-fast"):
        values = _share_of_time(evidence.ours(name).markers)
        yield Finding(name, by_prediction(values, -np.inf, np.log10(0.2), "log10 of the share"))


def published_longer(evidence: Evidence) -> Iterator[Finding]:
    """The second phase of S5 against that of division, published."""
    spans = {task: _distance(markers, "fit_end", "end") for task, markers in evidence.published_markers.items()}
    (value, lower, upper), (other, other_low, other_high) = spans["s5"], spans["division"]
    yield Finding(
        "s5 - division",
        of_interval(value - other, lower - other_high, upper - other_low, 0, np.inf, "dex, in log steps"),
    )
    steps = {task: _lengths(markers) for task, markers in evidence.published_markers.items()}
    yield Finding("s5 - division", Verdict(*_longer_steps(steps["s5"], steps["division"])))


def _lengths(markers: xr.Dataset) -> float:
    """Steps from fitting to the end, at least."""
    one = markers.sel(marker="end")
    end = one["step"].item() if one["status"] == "found" else one["last_step"].item()
    return float(end - markers.sel(marker="fit_end")["step"].item())


def _longer_steps(s5: float, division: float) -> tuple[str, str]:
    return (CONFIRMED if s5 > division else NOT_CONFIRMED), f"in steps: {s5:,.0f} or more against {division:,.0f}"


def our_longer(evidence: Evidence) -> Iterator[Finding]:
    """The same of our seeds, Mann and Whitney."""
    s5, division = (evidence.ours(name) for name in ("paper-s5", "paper-division"))
    spans = [distances(one.markers, "fit_end", "end") for one in (s5, division)]
    yield Finding("paper-s5 - paper-division", _compared("dex, in log steps", *spans))
    lengths = [times(one.markers, "end") - times(one.markers, "fit_end") for one in (s5, division)]
    yield Finding("paper-s5 - paper-division", _compared("in steps", *lengths))


def _compared(what: str, more: np.ndarray, less: np.ndarray) -> Verdict:
    """Whether the first are larger: share of pairs, Mann and Whitney."""
    a, b = more[np.isfinite(more)], less[np.isfinite(less)]
    if len(a) < 3 or len(b) < 3:
        return Verdict(UNDECIDED, f"{what}: {len(a)} and {len(b)} seeds with both ends")
    larger, smaller = (mannwhitneyu(a, b, alternative=way).pvalue for way in ("greater", "less"))
    word = CONFIRMED if larger < 0.05 else NOT_CONFIRMED if smaller < 0.05 else UNDECIDED
    return Verdict(word, f"{what}: median {np.median(a):,.3g} against {np.median(b):,.3g}, p {larger:.3f}")


def reproduced(evidence: Evidence) -> Iterator[Finding]:
    """Whether the times of the published runs are among ours."""
    for task, name in PAPER.items():
        theirs, ours = evidence.published_markers[task], evidence.ours(name).markers
        for marker in ("fit_end", "descent_onset", "end"):
            value = theirs.sel(marker=marker)["step"].item()
            steps = ours.sel(marker=marker)
            if not np.isfinite(value):
                yield Finding(f"{name}, {marker}", Verdict(UNDECIDED, "not within the published record"))
                continue
            logs = log_times(steps) - np.log10(value + 1)
            yield Finding(f"{name}, {marker}", _same_run(logs))


def _same_run(logs: np.ndarray) -> Verdict:
    """Whether the published time lies in the prediction interval of ours, and the interval says anything."""
    known = logs[np.isfinite(logs)]
    if len(known) < 3:
        return Verdict(UNDECIDED, f"{len(known)} seeds have it")
    half = t.ppf(0.95, len(known) - 1) * known.std(ddof=1) * np.sqrt(1 + 1 / len(known))
    numbers = f"ours over published: {known.mean():+.2f} dex, a further seed within {half:.2f} ({len(known)} seeds)"
    if abs(known.mean()) > half:
        return Verdict(NOT_CONFIRMED, numbers)
    return Verdict(CONFIRMED if half <= 0.3 else UNDECIDED, numbers)


def at(markers: xr.Dataset, log_step: float, runs: str) -> Finding:
    """Whether the top of the test loss lies at a power of ten."""
    one = markers.sel(marker="descent_onset")
    logs = log_times(one) - log_step
    if len(logs) > 1:
        return Finding(runs, by_prediction(logs, -TOGETHER, TOGETHER, f"dex from 1e{log_step:.0f}"))
    low, high = (float(np.log10(one[name].item() + 1)) - log_step for name in ("lower", "upper"))
    return Finding(runs, of_interval(logs[0], low, high, -TOGETHER, TOGETHER, f"dex from 1e{log_step:.0f}"))
