"""What happened in a run: one class, one sentence and its evidence, from the levels of its curves.

The rules stand in one table, :data:`CLASSES`. The first rule that holds gives the class, and the last one always
holds, so that each run has exactly one class. A test compares the table in docs/phases.md with that of the code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from probe.phases import sentences
from probe.phases.facts import (
    ARRIVED,
    AT_CHANCE,
    FITTED,
    GENERALISED,
    LEARNED,
    LEAST_DELAY,
    LEAST_OBSERVATIONS,
    Facts,
)
from probe.phases.levels import LEAST_OF_RANGE, LEAST_OF_WAY
from probe.phases.sentences import percent

_BLOWN_UP = -1.0  # share of the way of a loss of twice its first value


@dataclass(frozen=True)
class VerdictClass:
    """One entry of the table of classes; every field is required.

    Attributes
    ----------
    name : str
        Name of the class.
    rule : str
        The rule in words, for accuracies.
    losses : str
        The rule in words, for losses without accuracies.
    holds : callable
        The rule: :class:`Facts` -> bool.
    sentence : callable
        :class:`Facts` -> the sentence of the run.
    """

    name: str
    rule: str
    losses: str
    holds: Callable[[Facts], bool]
    sentence: Callable[[Facts], str]


def _diverged(facts: Facts) -> bool:
    loss = facts.curves.get("train_loss")
    grown = loss is not None and loss in facts.train_curves and loss.final_share < _BLOWN_UP
    return bool(np.isfinite(facts.not_finite)) or (grown and not facts.learned)


def _too_short(facts: Facts) -> bool:
    if facts.judged is None:
        return bool(facts.curves)
    named = facts.test is None or _delayed(facts) or _overfitting(facts) or _plain(facts)
    return facts.moves and (_not_fitted(facts) or not named)


def _collapsed(facts: Facts) -> bool:
    curve = facts.judged
    if curve is None or curve.best_share < LEARNED or curve.final_share >= AT_CHANCE:
        return False
    return curve.accuracy or facts.train is not None


def _not_fitted(facts: Facts) -> bool:
    test = facts.test
    if facts.train is not None:
        generalises = test is not None and test.final_share >= LEARNED
        return not generalises and all(curve.best_share < LEARNED for curve in facts.train_curves)
    if test is None or test.accuracy or test.gained:
        return False
    return max(test.best_share, abs(test.final_share)) < AT_CHANCE


def _memorised(facts: Facts) -> bool:
    return facts.learned and facts.test is not None and facts.test.best_share < GENERALISED


def _delayed(facts: Facts) -> bool:
    return facts.delay >= LEAST_DELAY and facts.waits and facts.gained_late


def _overfitting(facts: Facts) -> bool:
    test = facts.test
    return test is not None and test.fell and test.best_share >= GENERALISED and not facts.both_fell


def _plain(facts: Facts) -> bool:
    test = facts.test
    if test is None or test.fell or test.final_share < GENERALISED:
        return False
    if facts.train is None:
        return not facts.has_hump
    if facts.train.fell and facts.train.best_share - facts.train.final_share >= GENERALISED:
        return False
    return facts.learned or test.final_share >= LEARNED


CLASSES: tuple[VerdictClass, ...] = (
    VerdictClass(
        name="diverged",
        rule="the loss is not a number at the end of the record, or the train loss ends above twice its first value",
        losses="the same",
        holds=_diverged,
        sentence=sentences.say_diverged,
    ),
    VerdictClass(
        name="too short to tell",
        rule=f"no curve has {LEAST_OBSERVATIONS} observations. Or the train curve is below {percent(FITTED)} of the "
        "way and still improves, while delayed generalisation, overfitting and plain learning do not hold yet",
        losses="the same",
        holds=_too_short,
        sentence=sentences.say_too_short,
    ),
    VerdictClass(
        name="collapsed",
        rule=f"the train accuracy came {percent(LEARNED)} of the way, and ends below {percent(AT_CHANCE)}. Without a "
        "train curve, the rule uses the test accuracy",
        losses="the train loss fell by half, and ends at the level of its start",
        holds=_collapsed,
        sentence=sentences.say_collapsed,
    ),
    VerdictClass(
        name="not fitted",
        rule=f"neither the accuracy nor the loss of the training data ever comes {percent(LEARNED)} of the way",
        losses="the train loss never falls by half. Without a train curve, the test loss does not fall at all",
        holds=_not_fitted,
        sentence=sentences.say_not_fitted,
    ),
    VerdictClass(
        name="memorised without generalising",
        rule=f"the training data are learned ({percent(LEARNED)} of the way), but the test accuracy never comes "
        f"{percent(GENERALISED)} of the way",
        losses=f"the train loss falls by half, but the test loss never by {percent(GENERALISED)}",
        holds=_memorised,
        sentence=sentences.say_memorised,
    ),
    VerdictClass(
        name="delayed generalisation",
        rule=f"the test accuracy ends above {percent(GENERALISED)} of the way. It completes {percent(ARRIVED)} of its "
        f"rise at least {LEAST_DELAY:g} dex (a factor of {10**LEAST_DELAY:.1f}) after the train accuracy came "
        f"{percent(FITTED)} of the way",
        losses=f"the test loss completes {percent(ARRIVED)} of its fall at least {LEAST_DELAY:g} dex after the train "
        f"loss completed {percent(FITTED)} of its fall",
        holds=_delayed,
        sentence=sentences.say_delayed,
    ),
    VerdictClass(
        name="overfitting",
        rule=f"the test accuracy comes {percent(GENERALISED)} of the way, and ends below its best, while the train "
        f"accuracy does not fall. The fall exceeds {percent(LEAST_OF_WAY)} of the way, the noise, and twice the moves "
        "that are undone near the best",
        losses=f"the test loss falls by {percent(GENERALISED)}, and ends above its lowest value. The rise exceeds "
        f"{percent(LEAST_OF_RANGE)} of its range, the noise, and twice the moves that are undone near the lowest value",
        holds=_overfitting,
        sentence=sentences.say_overfitting,
    ),
    VerdictClass(
        name="plain learning",
        rule="the training data are learned. Train and test accuracy end near their best, and the test accuracy above "
        f"{percent(GENERALISED)} of the way",
        losses=f"the test loss ends near its lowest value, at least {percent(GENERALISED)} below its start. Without a "
        "train curve, the test loss must have no hump",
        holds=_plain,
        sentence=sentences.say_plain,
    ),
    VerdictClass(
        name="undecided",
        rule="no other class; the sentence states why, and what to record",
        losses="the same",
        holds=lambda facts: True,
        sentence=sentences.say_undecided,
    ),
)


@dataclass(frozen=True)
class Verdict:
    """Class, sentence, evidence and numbers of one run; see ``PhaseDetector.verdict_``."""

    name: str
    sentence: str
    evidence: str
    numbers: Mapping[str, float]


def judge(facts: Facts) -> Verdict:
    """Return the verdict on one run: the first class of :data:`CLASSES` whose rule holds."""
    kind = next(kind for kind in CLASSES if kind.holds(facts))
    sentence = kind.sentence(facts) + sentences.hump_clause(facts)
    return Verdict(kind.name, sentence, "; ".join(sentences.evidence(facts)), _numbers(facts))


def _numbers(facts: Facts) -> dict[str, float]:
    """Return the numbers that the rules used, NaN where there is none."""
    train, test, hump, nan = facts.train, facts.test, facts.hump, float("nan")
    return {
        "train_final": train.final if train else nan,
        "test_final": test.final if test else nan,
        "test_best": test.best if test else nan,
        "test_best_step": test.best_step if test else nan,
        "fit_step": facts.fit_step,
        "arrival_step": facts.arrival_step,
        "delay": facts.delay,
        "hump_size": hump.size if facts.has_hump else nan,
        "hump_share": hump.size_share if facts.has_hump else nan,
        "n_observations": float(max((curve.n_observations for curve in facts.curves.values()), default=0)),
    }


def verdict_dataset(verdicts: Sequence[Verdict], runs: np.ndarray) -> xr.Dataset:
    """Return the verdicts over (run)."""
    texts = {"class": "name", "sentence": "sentence", "evidence": "evidence"}
    variables = {name: np.array([getattr(verdict, field) for verdict in verdicts]) for name, field in texts.items()}
    numbers = {name: np.array([verdict.numbers[name] for verdict in verdicts]) for name in verdicts[0].numbers}
    dataset = xr.Dataset({name: ("run", values) for name, values in (variables | numbers).items()}, {"run": runs})
    dataset["delay"].attrs = {"units": "dex"}
    return dataset
