"""Local complexity, linear mapping number, other settings, and what separates runs from controls."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import mannwhitneyu

from reference.claims.base import CONTROLS, PAPER, TOGETHER, TRUE, Finding
from reference.claims.evidence import EMBEDDING, HISTOGRAM, Evidence, Recorded, around, last, log_times
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict, by_prediction, of_interval


def _ratio(one: Recorded) -> np.ndarray:
    """log10 of local complexity at training points over that at test points, when the training set is fitted."""
    train, test = (
        around(one.measured("local_complexity_total", split=split), one.fitted) for split in ("train", "test")
    )
    return np.log10(train / test)


def concentrated(evidence: Evidence) -> Iterator[Finding]:
    """Local complexity at training points over that at test points, when the training set is fitted."""
    for name in (*PAPER.values(), *TRUE, *CONTROLS):
        one = evidence.ours(name)
        found = by_prediction(_ratio(one), np.log10(1.1), np.inf, "log10 of train over test")
        yield Finding(name, found, name in CONTROLS)


def falls_on(variable: str) -> Callable[[Evidence], Iterator[Finding]]:
    """Whether a measure is lower at the end of the record than at the end of fitting."""

    def judge(evidence: Evidence) -> Iterator[Finding]:
        for name in (*PAPER.values(), *TRUE, "s5-fast", *CONTROLS):
            one = evidence.ours(name)
            where = {"split": "train"}
            if "layer" in one.probes[variable].dims:
                where["layer"] = one.layers()[0]
            curves = one.measured(variable, **where)
            found = by_prediction(
                np.log10(last(curves) / around(curves, one.fitted)), -np.inf, 0, "log10 of end over fit"
            )
            yield Finding(name, found, name in CONTROLS)

    return judge


def alike(evidence: Evidence) -> Iterator[Finding]:
    """Times with ReLU against those with GELU, Welch."""
    gelu, relu = (evidence.ours(name).markers for name in ("paper-division", "paper-relu"))
    for marker in ("fit_end", "descent_onset"):
        a, b = (log_times(m, marker) for m in (gelu, relu))
        a, b = a[np.isfinite(a)], b[np.isfinite(b)]
        gap, error = b.mean() - a.mean(), np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))
        found = of_interval(gap, gap - 2 * error, gap + 2 * error, -TOGETHER, TOGETHER, "dex, ReLU - GELU")
        yield Finding(f"paper-relu, {marker}", found)


_MEASURES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("I(T+n;X), train", "information_x", {"split": "train"}),
    ("I(T+n;X), test", "information_x", {"split": "test"}),
    ("local complexity, train", "local_complexity_total", {"split": "train"}),
    ("linear mapping number, train", "linear_mapping_number", {"split": "train"}),
    ("weight histogram entropy", HISTOGRAM, {"parameter": EMBEDDING}),
    ("rms of the embedding", "embedding_rms", {}),
)


def separates(evidence: Evidence) -> Iterator[Finding]:
    """Whether the change of a measure after fitting tells runs that generalise from controls."""
    for label, variable, where in _MEASURES:
        groups = [_relative(evidence, names, variable, where) for names in (TRUE, CONTROLS)]
        yield Finding(label, _separated(*groups))


def _relative(evidence: Evidence, names: tuple[str, ...], variable: str, where: dict[str, str]) -> np.ndarray:
    """log10 of the value at the end over that at the end of fitting, up to the record of the controls."""
    found = []
    for name in names:
        one = evidence.ours(name)
        chosen = dict(where)
        if "layer" in one.probes[variable].dims:
            chosen["layer"] = one.layers()[0 if variable == "linear_mapping_number" else -1]
        curves = one.measured(variable, **chosen)
        late = around(curves, np.full(len(curves), 20_000.0))
        found.append(np.log10(late / around(curves, one.fitted[: len(curves)])))
    return np.concatenate(found)


def _separated(runs: np.ndarray, controls: np.ndarray) -> Verdict:
    """Area under the curve of "lower in runs that generalise", and whether chance gives as much."""
    a, b = runs[np.isfinite(runs)], controls[np.isfinite(controls)]
    test = mannwhitneyu(b, a, alternative="greater")
    area = test.statistic / (len(a) * len(b))
    word = CONFIRMED if test.pvalue < 0.05 and area > 0.9 else NOT_CONFIRMED if area < 0.7 else UNDECIDED
    told = f"log10 change to step 20,000: {np.median(a):+.2f} against {np.median(b):+.2f}"
    return Verdict(word, f"AUC {area:.2f}, p {test.pvalue:.3f}; {told} ({len(a)} runs, {len(b)} controls)")
