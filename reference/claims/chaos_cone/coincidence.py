"""Judge whether two transitions come at one step, over seeds."""

from collections.abc import Callable, Iterator

import numpy as np

from probe.phases import CoMovement, chance_level, co_movement
from reference.claims.base import Finding
from reference.claims.chaos_cone.configurations import COINCIDE
from reference.claims.chaos_cone.evidence import Evidence, Recording
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict

CHAOS = ("barrier", "disagreement", "chaos_end")  # ends of chaos: of two maps over t0, and of the growth
NAMES = {
    "barrier": "end of chaos by barriers",
    "disagreement": "end of chaos by disagreements",
    "chaos_end": "end of chaos by growth",
    "cone": "entry into the cone",
    "fit_end": "end of fitting",
    "learning_rate": "drop of the learning rate",
    "signal_to_noise": "fall of the signal to noise",
    "linearised": "rise of linearised training",
}
_WORDS = {"aligned": CONFIRMED, "misaligned": NOT_CONFIRMED}


def coincide(firsts: tuple[str, ...], second: str) -> Callable[[Evidence], Iterator[Finding]]:
    """Return a function that judges the distance from each of the first transitions to the second one, in dex."""

    def judge(evidence: Evidence) -> Iterator[Finding]:
        for one in evidence.all():
            for first in firsts:
                yield Finding(f"{one.name}, {NAMES[first]}", _verdict(one, first, second))

    return judge


def _verdict(one: Recording, first: str, second: str) -> Verdict:
    """Return the verdict of `probe.phases.co_movement`; a transition after a record is a bound."""
    markers = one.markers
    pair = markers.sel(marker=[first, second])
    end = min(one.end_of(first), one.end_of(second))  # as a bound, the earlier of both ends is valid for both
    found = co_movement(pair, first, second, first_step=0, last_step=end, delta=COINCIDE)
    chance = float(chance_level(2, np.log10(end + 1), COINCIDE))
    return Verdict(_WORDS.get(found.verdict, UNDECIDED), f"{_numbers(found)}; by chance in one run {chance:.2f}")


def _numbers(found: CoMovement) -> str:
    value, lower, upper = found.distance[:3]
    if np.isfinite(value) and np.isfinite([lower, upper]).any():
        text = f"dex: {value:+.2f} ({lower:+.2f} to {upper:+.2f})"
    elif np.isfinite(upper):
        text = f"dex: at most {upper:+.2f}" if np.isinf(lower) else f"dex: between {lower:+.2f} and {upper:+.2f}"
    else:
        text = f"dex: at least {lower:+.2f}" if np.isfinite(lower) else "distance unknown"
    text += f", both found in {found.n_both} of {found.n_runs} seeds"
    text += f", a bound in {found.n_bounded}" if found.n_bounded else ""
    return text + (f"; Kendall's tau {found.tau.value:+.2f}, p {found.tau.p_value:.2f}" if found.tau.n_pairs else "")
