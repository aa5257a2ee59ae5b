"""The claims of arXiv:2505.13900: text, place, expected observation, and the functions that judge them.

Nothing can be judged on published curves, because there are none. `published.py` holds the reported numbers. The
thresholds and their reasons are in `configurations.py`. Unless a claim says otherwise, tangent kernels are judged up to
the first drop of the learning rate: the figures of the paper end before it.
"""

from reference.claims.base import Claim, nothing_published
from reference.claims.chaos_cone import chaos, cone
from reference.claims.chaos_cone.coincidence import CHAOS, coincide
from reference.claims.chaos_cone.configurations import (
    BARRIER,
    CLOSE,
    COINCIDE,
    EXPLAINED,
    FALLS,
    FLAT,
    GROWTH,
    LARGER_AT_ONCE,
    NARROW,
    OUTSIDE,
    RISES,
    SHARP,
    SIZE,
    TWICE,
    VELOCITY_FALLS,
)
from reference.claims.chaos_cone.published import REPORTED

_OURS = "no claim of the paper"
_CHAOS, _CONE = "chaos effect", "cone effect"
_TOGETHER = f"the mean distance over seeds is within {COINCIDE} dex (90 % interval), a factor of 2"
_ALTERNATIVES = {
    "fit_end": ("the end of fitting", "training accuracy .99"),
    "learning_rate": ("the drop of the learning rate", "its first drop by a half or more"),
    "signal_to_noise": ("the fall of the gradient's signal to noise", "to half of its first value"),
}


def _alternative(second: str, firsts: tuple[str, ...], what: str) -> Claim:
    name, rule = _ALTERNATIVES[second]
    return Claim(
        f"{what} at {name}",
        "-",
        f"({_OURS}, which does not compare them: we test whether {what} coincides with {name}, {rule})",
        _TOGETHER,
        nothing_published,
        coincide(firsts, second),
    )


CLAIMS = [
    Claim(
        "early perturbations lead to another solution",
        f"{_CHAOS}, equation 5",
        "after a tiny perturbation at an early step, a loss barrier separates the end from the unperturbed one",
        f"barrier of the test loss of at least {BARRIER} nats, first t0, last t1",
        nothing_published,
        chaos.early_barrier,
        REPORTED["barrier early"],
    ),
    Claim(
        "late perturbations lead to the same solution",
        f"{_CHAOS}, equation 5",
        "after a perturbation at a late step there is no barrier",
        f"barrier of the test loss of at most {BARRIER} nats, last t0, last t1",
        nothing_published,
        chaos.late_barrier,
        REPORTED["barrier late"],
    ),
    Claim(
        "early perturbations change more answers",
        f"{_CHAOS}, equation 6",
        "the disagreement on test inputs is larger after an early perturbation than after a late one",
        f"twice as large ({TWICE} dex) after the first t0 as after the last t0, last t1",
        nothing_published,
        chaos.disagreement,
        REPORTED["disagreement"],
    ),
    Claim(
        "the same with equal windows",
        _CHAOS,
        f"({_OURS}, which gives late perturbations less time to grow: we give the early one as little time)",
        f"barrier of at least {BARRIER} nats, first t0, after a window as long as that of the last t0",
        nothing_published,
        chaos.equal_windows,
    ),
    Claim(
        "a perturbation grows at first",
        "abstract",
        "the response to a tiny perturbation is chaotic early in training",
        f"log growth over a window of updates above {GROWTH} nats at the first three observations",
        nothing_published,
        chaos.grows_early,
    ),
    Claim(
        "a perturbation does not grow later",
        "abstract",
        "the response to a tiny perturbation becomes stable",
        f"log growth of at most {GROWTH} nats at the last three observations before a drop of the learning rate",
        nothing_published,
        chaos.stable_late,
    ),
    Claim(
        "the transition is early",
        _CHAOS,
        "the response turns from chaotic to stable early in training",
        "the response at the last t1 has fallen to half of its first value within a tenth of the training",
        nothing_published,
        chaos.early_transition,
        REPORTED["transition"],
    ),
    Claim(
        "the transition is sharp",
        _CHAOS,
        "the response changes within a small range of t0",
        f"it falls from 80 % to 20 % of its first value within {SHARP} dex of t0, a factor of 5",
        nothing_published,
        chaos.sharp_transition,
        REPORTED["transition"],
    ),
    Claim(
        "the angle between the parameters has a peak over t1",
        f"{_CHAOS}, equation 1",
        "one minus the cosine of both parameter vectors rises and falls over t1",
        f"it ends below {FALLS:.0%} of its maximum, first t0",
        nothing_published,
        chaos.peak_exists,
        REPORTED["peak"],
    ),
    Claim(
        "the peak lies at one t1 for all t0",
        f"{_CHAOS}, equation 1",
        "the t1 of the peak does not depend on t0, for t0 before the transition",
        f"first and last peak within {COINCIDE} dex of t1; without two peaks before the last t1 undecided",
        nothing_published,
        chaos.peak_fixed,
        REPORTED["peak"],
    ),
    Claim(
        "disagreement is larger at early t1",
        f"{_CHAOS}, equation 6",
        "the disagreement is largest soon after the perturbation and smaller later",
        f"largest disagreement over t1 at least 1.5 times ({LARGER_AT_ONCE} dex) that at the last t1, first t0",
        nothing_published,
        chaos.larger_at_once,
        REPORTED["disagreement at once"],
    ),
    Claim(
        "the growth does not depend on the size",
        "-",
        f"({_OURS}, which has one size: we test whether the response to a small perturbation is the derivative)",
        f"twins of all usable sizes grow as the derivative within {GROWTH} nats, at nine of ten observations",
        nothing_published,
        chaos.linear_response,
    ),
    Claim(
        "learning rate and curvature explain the growth",
        "-",
        f"({_OURS}: we test whether the growth is that on the quadratic model of the loss at the start of the window)",
        f"the largest growth times {EXPLAINED[0]} to {EXPLAINED[1]} is that of the quadratic model",
        nothing_published,
        chaos.explained,
    ),
    Claim(
        "the kernel slows down",
        _CONE,
        "the distance of the tangent kernel over a fixed number of steps falls during training",
        f"the first distance is at least 3 times ({VELOCITY_FALLS} dex) the late one",
        nothing_published,
        cone.velocity_falls,
        REPORTED["velocity"],
    ),
    Claim(
        "the floor does not depend on the number of steps",
        _CONE,
        "late distances over different numbers of steps dt are equal",
        f"exponent of dt within {FLAT}: 0 is a floor, 1 a random walk, 2 a steady drift",
        nothing_published,
        cone.floor_of_velocity,
        REPORTED["floor"],
    ),
    Claim(
        "the kernel enters a cone",
        f"{_CONE}, equations 3, 4",
        "from some step on, the tangent kernel stays within a cone",
        "probe.stats.cone_entry finds a cone, which no random walk, drift or jitter explains",
        nothing_published,
        cone.cone,
        REPORTED["cone"],
    ),
    Claim(
        "the cone is narrow",
        f"{_CONE}, equations 3, 4",
        "the distance to later references is small",
        f"mean distance from the references at .2, .4 and .6 of the record at most {NARROW}",
        nothing_published,
        cone.narrow,
        REPORTED["flat"],
    ),
    Claim(
        "distance to later references is flat",
        f"{_CONE}, equations 3, 4",
        "the distance to a later reference does not grow with time",
        f"exponent of the number of steps within {FLAT}: 1 is a random walk, 2 a steady drift",
        nothing_published,
        cone.flat,
        REPORTED["flat"],
    ),
    Claim(
        "the start lies outside the cone",
        f"{_CONE}, equations 3, 4",
        "the distance to the start is larger than that to later references",
        f"at least 1.5 times ({OUTSIDE} dex) as large over equal numbers of steps; a random walk has a factor of 1",
        nothing_published,
        cone.start_outside,
        REPORTED["outside"],
    ),
    Claim(
        "a cone over drops of the learning rate",
        "-",
        f"({_OURS}, which has figures that end earlier: the cone of the whole record)",
        "probe.stats.cone_entry finds a cone in the whole record",
        nothing_published,
        cone.whole_cone,
    ),
    Claim(
        "the kernel's size stays",
        "-",
        f"({_OURS}, which uses a distance without size: we test whether a kernel in a cone keeps its norm)",
        f"the norm changes by at most {SIZE} dex, a quarter, from the first reference to the end",
        nothing_published,
        cone.size_fixed,
    ),
    Claim(
        "the cone is not universal",
        "arXiv:2503.16316",
        "the workshop paper states that not every network has the cone effect: we test transformers",
        "no entry into a cone in a transformer",
        nothing_published,
        cone.not_universal,
    ),
    Claim(
        "end of chaos and cone coincide",
        "abstract",
        "after the transition from chaotic to stable, the kernel is confined to a cone",
        _TOGETHER,
        nothing_published,
        coincide(CHAOS, "cone"),
        REPORTED["coincide"],
    ),
    Claim(
        "linearised training improves with t0",
        _CONE,
        "training of the model linearised at t0 reaches a higher test accuracy for later t0",
        f"at least {RISES} higher from the last t0 than from the first one",
        nothing_published,
        cone.linearised_rises,
        REPORTED["linearised"],
    ),
    Claim(
        "linearised training is as good as the full one",
        "-",
        f"({_OURS}, which does not show the full training)",
        f"final test accuracy at most {CLOSE} above that of linearised training from the last t0",
        nothing_published,
        cone.linearised_close,
    ),
    Claim(
        "linearised training improves where chaos ends",
        "-",
        f"({_OURS}: we compare the middle of the rise with the end of chaos)",
        _TOGETHER,
        nothing_published,
        coincide(CHAOS, "linearised"),
    ),
    *(_alternative(second, CHAOS, "end of chaos") for second in _ALTERNATIVES),
    *(_alternative(second, ("cone",), "entry into the cone") for second in _ALTERNATIVES),
]
