"""Judge the order of the transition of sampled networks: barriers, hopping rates, loops and Binder's cumulant."""

from collections.abc import Callable, Iterator

import numpy as np

from reference.claims.base import Finding
from reference.claims.first_order.configurations import BINDER, SLOPE
from reference.claims.first_order.evidence import Evidence
from reference.claims.first_order.rules import not_recorded
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict, of_interval
from reference.theory.order.analysis import OrderTests, order_tests

Judge = Callable[[Evidence], Iterator[Finding]]
_GROWS = {"grows": CONFIRMED, "does not grow": NOT_CONFIRMED}
_LOOP = {"remains": CONFIRMED, "closes": NOT_CONFIRMED, "no loop": NOT_CONFIRMED}
_NORMAL = 1.645  # of an interval of 90 %


def _tests(evidence: Evidence) -> OrderTests | None:
    """Return the results of the tests, or None without their recording."""
    series = evidence.recording("order")
    if "order" not in evidence.kept:
        evidence.kept["order"] = None if series is None else order_tests(series)
    found: OrderTests | None = evidence.kept["order"]
    return found


def _of_tests(judge: Callable[[OrderTests], Iterator[tuple[str, Verdict]]]) -> Judge:
    """Return a judge of the tests of order, which is undecided without their recording."""

    def judged(evidence: Evidence) -> Iterator[Finding]:
        tests = _tests(evidence)
        if tests is None:
            yield Finding(
                "sampled, order", not_recorded("first-order-order.nc", "python -m reference first-order order")
            )
        else:
            yield from (Finding(f"sampled, {what}", verdict) for what, verdict in judge(tests))

    return judged


def _barrier_grows(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
    found = tests.barriers
    slope = f"slope {found.slope.value:.3f} nats per d ({found.slope.lower:.3f} to {found.slope.upper:.3f})"
    heights = ", ".join(f"{b:.2f}" for b in found.barriers)
    text = f"{found.status}; {slope}; {heights} nats at d = {', '.join(f'{d:g}' for d in found.sizes)}"
    yield "beyond the transition", Verdict(_GROWS.get(found.status, UNDECIDED), text)


def _no_barrier_before(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
    found = tests.control
    words = {"grows": NOT_CONFIRMED, "does not grow": CONFIRMED}
    heights = ", ".join(f"{b:.2f}" for b in found.barriers)
    text = f"{found.status}; {heights} nats at d = {', '.join(f'{d:g}' for d in found.sizes)}"
    yield "before the transition", Verdict(words.get(found.status, UNDECIDED), text)


def barrier_slope(name: str) -> Judge:
    """Return a function that judges the slope of the barriers over that of a prediction, a variable of the table."""

    def judge(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
        theory = float(np.polyfit(tests.table["dimension"].values, tests.table[name].values, 1)[0])
        value, lower, upper = (one / theory for one in tests.barriers.slope[:3])
        what = f"slope over that of the theory, {theory:.3f} nats per d"
        yield "barriers", of_interval(value, lower, upper, 1 - SLOPE, 1 + SLOPE, what)

    return _of_tests(judge)


def _rates_fall(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
    for name, what in {"up": "hops to the droplets", "down": "hops back"}.items():
        slope, error, p_value = tests.slopes[name]
        ends = slope - _NORMAL * error, slope + _NORMAL * error
        word = of_interval(slope, *ends, -np.inf, 0, "").word
        text = f"slope of the log rate {slope:.3f} per d ({ends[0]:.3f} to {ends[1]:.3f}), p of a line {p_value:.2f}"
        yield what, Verdict(word, text)


def _loops_remain(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
    for d, found in tests.loops.items():
        zero = found.zero_rate
        areas = ", ".join(f"{a:.4f}" for a in found.areas)
        text = f"{found.status}; areas {areas} from the slowest sweep on; at zero rate {zero.value:.4f}"
        text += f" ({zero.lower:.4f} to {zero.upper:.4f})"
        yield f"noise swept, d = {d}", Verdict(_LOOP.get(found.status, UNDECIDED), text)


def _loops_grow(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
    small, large = (tests.loops[d] for d in (min(tests.loops), max(tests.loops)))
    for k, rate in enumerate(small.rates):
        difference = large.areas[k] - small.areas[k]
        half = _NORMAL * np.hypot(small.errors[k], large.errors[k])
        word = of_interval(difference, difference - half, difference + half, 0, np.inf, "").word
        text = f"area {small.areas[k]:.4f} at d = {min(tests.loops)}, {large.areas[k]:.4f} at d = {max(tests.loops)}"
        yield f"noise swept, rate {rate:.2g}", Verdict(word, f"{text}; difference {difference:+.4f} ({half:.4f})")


def _no_dip(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
    for d in tests.table["dimension"].values:
        one = tests.table.sel(dimension=d)
        value, lower, upper = (float(one[f"networks_{name}"]) for name in ("value", "lower", "upper"))
        text = f"Binder's cumulant over networks, predicted {float(one['networks_predicted']):+.3f}"
        yield f"d = {d:g}", of_interval(value, lower, upper, *BINDER, text)


def _both_starts(tests: OrderTests) -> Iterator[tuple[str, Verdict]]:
    for d in tests.table["dimension"].values:
        one = tests.table.sel(dimension=d)
        z = float(one["share_difference"] / one["share_difference_se"])
        text = f"share of specialised neurons {float(one['share']):.3f}, difference {z:+.1f} standard errors"
        yield f"d = {d:g}", Verdict(CONFIRMED if abs(z) < 3 else NOT_CONFIRMED, text)


barrier_grows: Judge = _of_tests(_barrier_grows)
no_barrier_before: Judge = _of_tests(_no_barrier_before)
rates_fall: Judge = _of_tests(_rates_fall)
loops_remain: Judge = _of_tests(_loops_remain)
loops_grow: Judge = _of_tests(_loops_grow)
no_dip: Judge = _of_tests(_no_dip)
both_starts: Judge = _of_tests(_both_starts)
