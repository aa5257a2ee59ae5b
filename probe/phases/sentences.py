"""Sentences of the verdict: one function for each class, from the facts on a run to plain words."""

import numpy as np

from probe.phases.facts import ARRIVED, FITTED, LEARNED, LEAST_DELAY, LEAST_OBSERVATIONS, Facts, number
from probe.phases.levels import Levels

_WANTED = 50  # observations of a record that is long enough for all rules
_GAP = 0.1  # difference of train and test accuracy that a sentence mentions
_COMPLETE = 0.99  # share of the way from which more training gains nothing


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.0f} %"


def level(value: float, *, accuracy: bool) -> str:
    """Return an accuracy with two digits, or with three just below 1; a loss with two significant digits."""
    if accuracy:
        return f"{value:.3f}" if 0.995 <= value < 0.9995 else f"{value:.2f}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.2g}".rstrip(".")


def value_of(curve: Levels, value: float) -> str:
    """Return a value of a curve in words."""
    return level(value, accuracy=curve.accuracy)


def say_diverged(facts: Facts) -> str:
    """Describe a loss that is not finite, or that grows."""
    loss = facts.curves.get("train_loss") or facts.curves["test_loss"]
    advice = "Lower the learning rate, or clip the gradient."
    if np.isfinite(facts.not_finite):
        return f"Diverged: the {loss.name} is not a number from {facts.at(facts.not_finite)} on. {advice}"
    first, last = value_of(loss, loss.zero), value_of(loss, loss.final)
    return f"Diverged: the {loss.name} grows from {first} at the start to {last} at the end. {advice}"


def say_too_short(facts: Facts) -> str:
    """Describe a record with too few observations, or one that ends too early."""
    if facts.judged is not None:
        train, test = facts.train, facts.test
        assert train is not None
        rest = f", and the {_end(test)}" if test else ""
        return (
            f"Too short to tell: the {train.name} still {_direction(train)} at the end of the record, to "
            f"{value_of(train, train.final)}{rest}. Train for longer."
        )
    curve = max(facts.curves.values(), key=lambda one: one.n_observations)
    return f"Too short to tell: {_counted(curve)}. {_log_more(curve, facts.axis)}"


def _log_more(curve: Levels, axis: str) -> str:
    """Advise how often to log, for 50 observations of a record of this length: 1, 2 or 5 times a power of ten."""
    wanted = max(float(curve.steps[-1] - curve.steps[0]) / _WANTED, 1.0)
    power = 10.0 ** np.floor(np.log10(wanted))
    every = power * max(factor for factor in (1, 2, 5) if factor * power <= wanted)
    return f"Log every {number(every)} {axis}s." if every > 1 else f"Log every {axis}, and train for longer."


def say_collapsed(facts: Facts) -> str:
    """Describe a curve that was good and returns to its start."""
    curve = facts.judged
    assert curve is not None
    left = facts.at(curve.leaves(LEARNED * curve.best_share))
    start = "chance" if curve.accuracy else "the level of its start"
    return (
        f"Collapsed: the {curve.name} had reached {value_of(curve, curve.best)} at {facts.at(curve.best_step)}, but "
        f"returns to {start} from {left} on and ends at {value_of(curve, curve.final)}. Lower the learning rate."
    )


def say_not_fitted(facts: Facts) -> str:
    """Describe a network that does not learn its training data."""
    curve = facts.judged
    assert curve is not None
    verb = "ends" if curve.gained else "stays"
    change = f"does not {_direction(curve)[:-1]} any more" if curve.gained else f"never {_direction(curve)}"
    return (
        f"Not fitted: the {curve.name} {verb} at {value_of(curve, curve.final)} ({_zero(curve)}). It {change}: change "
        "the learning rate or the model."
    )


def say_memorised(facts: Facts) -> str:
    """Describe a network that learns its training data only."""
    test = facts.test
    assert test is not None
    if test.accuracy:
        low = "chance" if test.knows_chance else "its start"
        rest = f"the test accuracy never comes far above {low}: {value_of(test, test.final)} at the end, {_zero(test)}"
    else:
        first, best, final = (value_of(test, value) for value in (test.zero, test.best, test.final))
        rest = f"the test loss never falls far below its first value, {first}: it is {best} at best, {final} at the end"
    return f"Memorised without generalising: {_fits(facts)}, but {rest}.{_late_start(facts)}{_continues(test)}"


def _late_start(facts: Facts) -> str:
    """Return a caution if a test loss may have fallen before the record starts, as in a log of whole epochs."""
    test = facts.test
    assert test is not None
    start, whole = float(test.steps[0]), len(test.steps) == test.n_observations  # a reduced curve starts later
    if test.accuracy or not (test.fell and whole and start > (0 if facts.axis.lower() == "epoch" else 1)):
        return ""
    return f" If the test loss fell before {facts.at(start)}, where the record starts, this may be overfitting."


def say_delayed(facts: Facts) -> str:
    """Describe a test curve that follows long after the train curve."""
    test = facts.test
    assert test is not None
    times = 10**facts.delay
    before, later, end = (
        value_of(test, value) for value in (test.at(facts.fit_step), test.at(facts.arrival_step), test.final)
    )
    late = _factor(times)
    best = f" Its best was {value_of(test, test.best)}, at {facts.at(test.best_step)}." if test.fell else ""
    return (
        f"Delayed generalisation (grokking): {_fits(facts)}, but the {test.name} is still {before} there. "
        f"It {_direction(test)} later, to {later} at {facts.at(facts.arrival_step)}, {late} times as late, and is "
        f"{end} at the end.{best}{_continues(test)}"
    )


def say_overfitting(facts: Facts) -> str:
    """Describe a test curve that has become worse."""
    test, train = facts.test, facts.train
    assert test is not None
    worse = "fallen" if test.accuracy else "risen"
    rest = f", while the {train.name} ends at {value_of(train, train.final)}" if train else ""
    return (
        f"Overfitting: the {test.name} was best at {facts.at(test.best_step)}, {value_of(test, test.best)}, and has "
        f"{worse} to {value_of(test, test.final)} at the end{rest}."
    )


def say_plain(facts: Facts) -> str:
    """Describe a network that learns and generalises at the same time."""
    test, train = facts.test, facts.train
    assert test is not None
    last = value_of(test, test.final)
    if train is None:
        first = value_of(test, float(test.smooth[0]))
        text = f"the {test.name} {_direction(test)} from {first} to {last}; {_missing(facts, 'train')}"
        return f"Plain learning: {text}.{_continues(test)}"
    if train.accuracy == test.accuracy:
        kind = "accuracy" if test.accuracy else "loss"
        improve = any(curve.gained or curve.improves for curve in (train, test))
        together = "improve, the test " + kind + " first, to" if _test_leads(facts) else "improve together, to"
        verb = together if improve else "stay at"
        text = f"train and test {kind} {verb} {value_of(train, train.final)} and {last} at the end"
    else:
        text = f"the {train.name} ends at {value_of(train, train.final)}, and the {test.name} at {last}"
    gap = train.final - test.final if train.accuracy and test.accuracy else 0.0
    remains = f" The test accuracy stays {gap:.2f} below." if gap >= _GAP else ""
    return f"Plain learning: {text}.{remains}{_continues(test)}"


def _test_leads(facts: Facts) -> bool:
    """Return whether the test curve came 95 % of its own way long before the train curve came 90 % of its own.

    An example is a network that learns the rule first, and the wrong labels of its training data later.
    """
    test, train = facts.test, facts.train
    assert test is not None
    assert train is not None
    first, second = test.passes(FITTED * test.final_share), train.passes(ARRIVED * train.final_share)
    one = float(test.steps[test.steps > 0].min(initial=1.0))  # the first steps are not resolved
    return bool(np.log10((second + one) / (first + one)) >= LEAST_DELAY)


def say_undecided(facts: Facts) -> str:
    """Describe why no class fits, and what to do."""
    return f"Undecided: {_why_undecided(facts)}"


def _why_undecided(facts: Facts) -> str:
    train, test = facts.train, facts.test
    if train is None and test is None:
        return "no loss and no accuracy is recorded. Log the train and the test loss, or name them as roles."
    if test is None:
        assert train is not None
        return f"the {_end(train)} at the end, but {_missing(facts, 'test')}. Log the test loss or accuracy."
    if train is None:
        text = "test loss rises and falls" if facts.has_hump else f"{_end(test)} at the end ({_zero(test)})"
        return (
            f"the {text}, but {_missing(facts, 'train')}. The record does not show whether the network memorised its "
            "training data first. Log the train loss or accuracy."
        )
    if train.fell and not test.fell:
        lost = f"the {train.name} becomes worse, from {value_of(train, train.best)} to {value_of(train, train.final)}"
        return f"{lost}, but the {test.name} does not. Check whether both are of the same network."
    if train.fell:
        ends = " and ".join(f"the {c.name} from {value_of(c, c.best)} to {value_of(c, c.final)}" for c in (train, test))
        return f"both curves become worse, {ends}. Lower the learning rate, or log more often."
    return (
        f"the {_end(train)} and the {_end(test)} at the end, between the levels of the other classes. Train for "
        "longer, and use more test examples."
    )


def hump_clause(facts: Facts) -> str:
    """Return a sentence on the hump of the test loss; empty if it has none."""
    hump = facts.hump
    if not facts.has_hump:
        return ""
    several = f"{len(hump.tops)} humps, the last one" if len(hump.tops) > 1 else "a hump"
    size = f" of {level(hump.size, accuracy=False)} ({percent(hump.size_share)} of its range)" if hump.size > 0 else ""
    return f" The test loss has {several}{size} with its top at {facts.at(hump.step)}."


def evidence(facts: Facts) -> list[str]:
    """Return the numbers behind the sentence, in words."""
    lines = []
    for curve in (facts.train, facts.test):
        if curve is not None:
            best = f"{curve.name} best {value_of(curve, curve.best)} at {facts.at(curve.best_step)}"
            lines.append(f"{best}, now {_now(curve)}, {curve.n_observations} observations")
    if facts.train is not None and np.isfinite(facts.fit_step):
        whose = "the" if facts.train.accuracy else "its own"
        lines.append(f"{facts.train.name} passes {percent(FITTED)} of {whose} way at {facts.at(facts.fit_step)}")
    if facts.test is not None and np.isfinite(facts.delay):
        side = f", a factor of {_factor(10 ** abs(facts.delay))} {'later' if facts.delay > 0 else 'earlier'}"
        lines.append(
            f"{facts.test.name} passes {percent(ARRIVED)} of its own way at {facts.at(facts.arrival_step)}"
            + (side if facts.delay else "")
        )
    if facts.hump.n_spikes:
        lines.append(f"spikes of the test loss set aside: {facts.hump.n_spikes}")
    return lines


def _now(curve: Levels) -> str:
    """Return the value of the end, and what it is if the best value is a part of the end and differs."""
    best, final = value_of(curve, curve.best), value_of(curve, curve.final)
    inside = best != final and curve.best_at >= len(curve.values) - curve.n_end
    return f"{final} (median of the last {curve.n_end})" if inside else final


def _missing(facts: Facts, split: str) -> str:
    """Return why no curve of a split is used: none is recorded, or it has too few observations."""
    pair = (facts.curves.get(f"{split}_{measure}") for measure in ("accuracy", "loss"))
    short = max((curve for curve in pair if curve), key=lambda curve: curve.n_observations, default=None)
    return f"no {split} curve is recorded" if short is None else _counted(short)


def _counted(curve: Levels) -> str:
    """Return "the train loss has 6 observations, and at least 8 are needed"."""
    n = curve.n_observations
    return f"the {curve.name} has {n} observation{'s' * (n != 1)}, and at least {LEAST_OBSERVATIONS} are needed"


def _end(curve: Levels) -> str:
    return f"{curve.name} is {value_of(curve, curve.final)}"


def _direction(curve: Levels) -> str:
    return "rises" if curve.accuracy else "falls"


def _zero(curve: Levels) -> str:
    """Return the level without learning, "chance is 0.10" or "0.10 at the start"."""
    first = value_of(curve, curve.zero)
    return f"chance is {first}" if curve.knows_chance else f"{first} at the start"


def _fits(facts: Facts) -> str:
    """Return "the train accuracy passes 0.96 at step 46", or how far it comes.

    The marker `fit_end` has a higher threshold and thus a later step, so that the sentence names this one.
    """
    train = facts.train
    assert train is not None
    if np.isnan(facts.fit_step):
        return f"the {_end(train)} at the end"
    threshold = value_of(train, train.zero + facts.fit_share * (train.one - train.zero))
    verb = "passes" if train.accuracy else "falls below"
    return f"the {train.name} {verb} {threshold} at {facts.at(facts.fit_step)}"


def _factor(times: float) -> str:
    return number(times) if times >= 10 else f"{times:.1f}"


def _continues(test: Levels) -> str:
    """Return the advice to train for longer, if the test curve still improves."""
    if not test.improves or test.final_share >= _COMPLETE:
        return ""
    if not test.accuracy and test.final_share < 0:
        return f" The {test.name} falls again, but is above its first value: train for longer to see how far."
    return f" The {test.name} still {_direction(test)}: train for longer."
