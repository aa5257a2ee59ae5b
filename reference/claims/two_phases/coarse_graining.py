"""Judge section 4.3 of arXiv:2504.12700: the second phase of training as a flow of the renormalisation group.

The paper proposes an analogy and measures nothing. A parameter is here a singular mode of a weight matrix, and its
growth is measured relative to the norm of its matrix. Rules and thresholds were fixed before any spectrum was seen;
`reference.experiments.coarse_graining_rules` has the windows and what was known then.

A mode that is undecided counts for neither side. A run is undecided if its undecided modes could change its answer.
"""

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr

from reference.claims.base import Claim, Finding, nothing_published
from reference.claims.two_phases.configurations import COINCIDE
from reference.claims.two_phases.evidence import Evidence
from reference.claims.verdicts import Verdict, by_pairs, by_prediction, by_share
from reference.experiments.coarse_graining_analysis import (
    CLASSES,
    IRRELEVANT,
    KINDS,
    MARGINAL,
    NUMBERS,
    RELEVANT,
    UNDECIDED,
    counts,
    shares,
)
from reference.experiments.coarse_graining_rules import change_in, thinning_markers

NAMES = ("demo", "division-97", "perceptron", "perceptron-narrow", "digits")
SUBSET = 0.25  # "a much smaller subset": of the number of irrelevant modes
FEWER = -0.0458  # log10 of .9: an effective number that is a tenth lower
AUC = 0.9  # of a progress measure
Judge = Callable[[Evidence], Iterator[Finding]]


def recorded(evidence: Evidence, name: str) -> xr.Dataset:
    """Return what was recorded of the runs of this name, see `reference.experiments.summarise_coarse`."""
    return evidence.ours(f"coarse-graining-{name}").curves


def _each(judge: Callable[[xr.Dataset], Iterator[tuple[str, Verdict]]]) -> Judge:
    """Return a judge of all recordings."""

    def judged(evidence: Evidence) -> Iterator[Finding]:
        for name in NAMES:
            for what, verdict in judge(recorded(evidence, name)):
                yield Finding(f"coarse-graining-{name}{what}", verdict)

    return judged


# -- classes of modes ----------------------------------------------------------------------------------------------


def _most(number: int, undecided: int, total: int) -> bool | None:
    """Return whether a number is more than half of all modes."""
    if 2 * number > total:
        return True
    return False if 2 * (number + undecided) <= total and total else None


def _few(number: int, undecided: int, irrelevant: int) -> bool | None:
    """Return whether there are modes of a class, and at most a quarter as many as irrelevant ones."""
    if number >= 1 and number + undecided <= SUBSET * irrelevant:
        return True
    too_many, none = number > SUBSET * (irrelevant + undecided), number + undecided == 0
    return False if too_many or none else None


def _numbers(found: dict[int, np.ndarray]) -> str:
    return ", ".join(f"{np.median(found[label]):.0f} {name}" for label, name in CLASSES.items())


def _most_shrink(series: xr.Dataset) -> Iterator[tuple[str, Verdict]]:
    found = counts(series, "second")
    total = np.sum(list(found.values()), axis=0)
    triples = zip(found[IRRELEVANT], found[UNDECIDED], total, strict=True)
    verdict = by_share([_most(*map(int, one)) for one in triples], "most modes shrink")
    yield "", Verdict(verdict.word, f"{verdict.numbers}; median numbers of modes: {_numbers(found)}")


def _few_of(label: int, name: str) -> Callable[[xr.Dataset], Iterator[tuple[str, Verdict]]]:
    def judge(series: xr.Dataset) -> Iterator[tuple[str, Verdict]]:
        found = counts(series, "second")
        triples = zip(found[label], found[UNDECIDED], found[IRRELEVANT], strict=True)
        yield "", by_share([_few(*map(int, one)) for one in triples], f"few modes {name}")

    return judge


# -- effective numbers of parameters -------------------------------------------------------------------------------


def _fewer(series: xr.Dataset) -> Iterator[tuple[str, Verdict]]:
    window = series["window_steps"].sel(window="second")
    for name, text in NUMBERS.items():
        change = change_in(window, series[name].sel(kind="run"))
        yield f", {text}", by_prediction(change, -np.inf, FEWER, "log10 of the change in the second phase")


def _faster(series: xr.Dataset) -> Iterator[tuple[str, Verdict]]:
    for name, text in NUMBERS.items():
        rates = []
        for window in ("second", "fitting"):
            steps = series["window_steps"].sel(window=window)
            decades = np.log10(steps.values[:, 1] / steps.values[:, 0])
            rates.append(change_in(steps, series[name].sel(kind="run")) / decades)
        holds = [None if np.isnan(a + b) else bool(a < b) for a, b in zip(*rates, strict=True)]
        known = [rate[np.isfinite(rate)] for rate in rates]
        medians = " against ".join(f"{np.median(rate):+.2f}" if len(rate) else "unknown" for rate in known)
        verdict = by_share(holds, "falls faster per decade of steps than while fitting")
        yield f", {text}", Verdict(verdict.word, f"{verdict.numbers}; median dex per decade: {medians}")


def _separates(series: xr.Dataset) -> Iterator[tuple[str, Verdict]]:
    for label, text in ((IRRELEVANT, "share that shrinks"), (RELEVANT, "share that grows")):
        run, control = (shares(series, "second", kind)[label] for kind in KINDS)
        yield f", {text}", by_pairs(run, control, "share of modes, runs against controls", auc=AUC)
    window = series["window_steps"].sel(window="second")
    for name, text in NUMBERS.items():
        run, control = (change_in(window, series[name].sel(kind=kind)) for kind in KINDS)
        what = "log10 of the change, controls against runs"
        yield f", {text}", by_pairs(control, run, what, auc=AUC)


def _thinning_at(marker: str, own: str) -> Callable[[xr.Dataset], Iterator[tuple[str, Verdict]]]:
    """Return a judge of the distance of a marker of the effective numbers from a marker of the curves."""

    def judge(series: xr.Dataset) -> Iterator[tuple[str, Verdict]]:
        at = series["marker_step"].sel(marker=marker).values
        for name, text in NUMBERS.items():
            curves = series[name].sel(kind="run").transpose("run", "step")
            found = [thinning_markers(curves["step"].values, row)[own] for row in curves.values]
            distance = np.log10(np.array(found) / at)
            yield f", {text}", by_prediction(distance, -COINCIDE, COINCIDE, f"dex after {marker}")

    return judge


_ANALOGY = "4.3"
_OURS = "(no claim of the paper, which measures nothing here"

COARSE_GRAINING_CLAIMS = [
    Claim(
        "most modes shrink after fitting",
        _ANALOGY,
        "most parameters shrink towards zero (irrelevant), if the second phase acts as a renormalisation group",
        "more than half of the singular modes of all weight matrices shrink relative to their matrix, beyond all nulls",
        nothing_published,
        _each(_most_shrink),
    ),
    Claim(
        "few modes grow after fitting",
        _ANALOGY,
        "an equally small subset of parameters grows (relevant)",
        f"at least one mode grows, and at most {SUBSET:g} times as many as shrink",
        nothing_published,
        _each(_few_of(RELEVANT, "grow")),
    ),
    Claim(
        "few modes stay after fitting",
        _ANALOGY,
        "a much smaller subset of parameters remains largely unchanged (marginal)",
        f"at least one mode stays, and at most {SUBSET:g} times as many as shrink",
        nothing_published,
        _each(_few_of(MARGINAL, "stay")),
    ),
    Claim(
        "fewer effective parameters after fitting",
        _ANALOGY,
        "the second phase leaves a reduced number of effective parameters",
        "at least a tenth fewer at the end of the second phase than at its start, by each definition",
        nothing_published,
        _each(_fewer),
    ),
    Claim(
        "effective parameters fall in the second phase, not before",
        _ANALOGY,
        f"{_OURS}: coarse graining belongs to the second phase)",
        "their number falls faster per decade of steps after fitting than while fitting",
        nothing_published,
        _each(_faster),
    ),
    Claim(
        "coarse graining belongs to generalisation",
        _ANALOGY,
        f"{_OURS}: a control with permuted answers only memorises)",
        f"other than in the control of the same seed at the same steps (AUC above {AUC}, permutation test of pairs)",
        nothing_published,
        _each(_separates),
    ),
    Claim(
        "coarse graining starts when fitting ends",
        _ANALOGY,
        "coarse graining follows the fitting phase",
        f"a tenth of the fall of the effective number is made within {COINCIDE} dex of training accuracy .99",
        nothing_published,
        _each(_thinning_at("fit_end", "thinning_onset")),
    ),
    Claim(
        "coarse graining comes with generalisation",
        _ANALOGY,
        "coarse graining leads to generalisation",
        f"half of the fall of the effective number is made within {COINCIDE} dex of test accuracy .5",
        nothing_published,
        _each(_thinning_at("test_half", "thinning_half")),
    ),
]
