"""Judge the claims on local complexity and the linear mapping number, on ReLU, and on measures of progress."""

from collections.abc import Callable, Iterator

import numpy as np

from probe.stats import separation
from reference.claims.base import Finding
from reference.claims.recorded import RecordedRuns, around, last, log_times
from reference.claims.two_phases.configurations import (
    COINCIDE,
    CONTROLS,
    DIVISION_RUNS,
    EMBEDDING,
    HISTOGRAM,
    PAPER_RUNS,
)
from reference.claims.two_phases.evidence import Evidence
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict, by_prediction, of_interval

_MEASURES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("I(T+n;X), train", "information_x", {"split": "train"}),
    ("I(T+n;X), test", "information_x", {"split": "test"}),
    ("local complexity, train", "local_complexity_total", {"split": "train"}),
    ("linear mapping number, train", "linear_mapping_number", {"split": "train"}),
    ("weight histogram entropy", HISTOGRAM, {"parameter": EMBEDDING}),
    ("rms of the embedding", "embedding_rms", {}),
)
_COMMON_END = 20_000.0  # last step of the controls


def concentrated(evidence: Evidence) -> Iterator[Finding]:
    """Judge the ratio of local complexity at training points to that at test points, at the end of fitting."""
    for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, *CONTROLS):
        ratio = _train_over_test(evidence.ours(name))
        verdict = by_prediction(ratio, np.log10(1.1), np.inf, "log10 of train over test")
        yield Finding(name, verdict, name in CONTROLS)


def _train_over_test(one: RecordedRuns) -> np.ndarray:
    train, test = (
        around(one.measured("local_complexity_total", split=split), one.fitted) for split in ("train", "test")
    )
    return np.log10(train / test)


def falls_on(variable: str) -> Callable[[Evidence], Iterator[Finding]]:
    """Return a function that judges whether a measure falls between the end of fitting and the end of the record."""

    def judge(evidence: Evidence) -> Iterator[Finding]:
        for name in (*PAPER_RUNS.values(), *DIVISION_RUNS, "s5-fast", *CONTROLS):
            one = evidence.ours(name)
            where = {"split": "train"}
            if "layer" in one.probes[variable].dims:
                where["layer"] = one.layers()[0]
            curves = one.measured(variable, **where)
            change = np.log10(last(curves) / around(curves, one.fitted))
            verdict = by_prediction(change, -np.inf, 0, "log10 of end over fit")
            yield Finding(name, verdict, name in CONTROLS)

    return judge


def alike(evidence: Evidence) -> Iterator[Finding]:
    """Compare the markers of runs with ReLU and with GELU, by Welch's standard error."""
    gelu, relu = (evidence.ours(name).markers for name in ("paper-division", "paper-relu"))
    for marker in ("fit_end", "descent_onset"):
        a, b = (log_times(markers, marker) for markers in (gelu, relu))
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        gap, error = b.mean() - a.mean(), np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        verdict = of_interval(gap, gap - 2 * error, gap + 2 * error, -COINCIDE, COINCIDE, "dex, ReLU - GELU")
        yield Finding(f"paper-relu, {marker}", verdict)


def separates(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether the change of a measure after fitting separates runs that generalise from controls."""
    for label, variable, where in _MEASURES:
        runs, controls = (_changes(evidence, names, variable, where) for names in (DIVISION_RUNS, CONTROLS))
        yield Finding(label, _lower_in_runs(runs, controls))


def _changes(evidence: Evidence, names: tuple[str, ...], variable: str, where: dict[str, str]) -> np.ndarray:
    """Return log10 of the value at the last step of the controls over that at the end of fitting, for all runs."""
    changes = []
    for name in names:
        one = evidence.ours(name)
        chosen = dict(where)
        if "layer" in one.probes[variable].dims:
            chosen["layer"] = one.layers()[0 if variable == "linear_mapping_number" else -1]
        curves = one.measured(variable, **chosen)
        late = around(curves, np.full(len(curves), _COMMON_END))
        changes.append(np.log10(late / around(curves, one.fitted[: len(curves)])))
    return np.concatenate(changes)


def _lower_in_runs(runs: np.ndarray, controls: np.ndarray) -> Verdict:
    """Judge whether the change is lower in runs than in controls, by the area under the curve."""
    found = separation(controls, runs)  # above .5 where the controls have the larger values
    word = NOT_CONFIRMED if found.auc < 0.7 else UNDECIDED
    if found.p_value < 0.05 and found.auc > 0.9:
        word = CONFIRMED
    medians = f"{np.nanmedian(runs):+.2f} against {np.nanmedian(controls):+.2f}"
    counts = f"{found.n_controls} runs, {found.n_runs} controls"
    numbers = (
        f"AUC {found.auc:.2f}, p {found.p_value:.3f}; log10 change to step {_COMMON_END:,.0f}: {medians} ({counts})"
    )
    return Verdict(word, numbers)
