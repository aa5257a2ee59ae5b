"""Claims on networks that grok on modular addition, and on sweeps of their weight decay."""

from reference.claims.base import Claim, nothing_published
from reference.claims.first_order import grokking
from reference.claims.first_order.configurations import BOUNDARY, DISTINCT, USEFUL
from reference.experiments.first_order_analysis import DELTA

_OURS = "no claim of the paper"

_TOGETHER = f"the mean distance over seeds within {DELTA} dex (90 % interval)"
_SEEN = "GMFL-I at three observations in a row"


def _mixed_at(marker: str, name: str, text: str) -> Claim:
    return Claim(
        f"weights become mixed {name}", "abstract", text, _TOGETHER, nothing_published, grokking.mixed_at(marker)
    )


TRAINED = [
    Claim(
        "weights become mixed in runs that grok",
        "abstract",
        "after grokking, the network is in a state as the mixed phase",
        f"{_SEEN} in most seeds that grok",
        nothing_published,
        grokking.becomes_mixed,
    ),
    Claim(
        "weights are mixed after grokking",
        "abstract",
        "after grokking, the network is in a state as the mixed phase",
        "GMFL-I at the last observation in most seeds that grok",
        nothing_published,
        grokking.stays_mixed,
    ),
    Claim(
        "weights of controls do not become mixed",
        "-",
        f"({_OURS}: networks of the same length without weight decay, or with permuted answers)",
        f"in most seeds never {_SEEN}",
        nothing_published,
        grokking.controls_not_mixed,
    ),
    _mixed_at("generalisation_onset", "where the test accuracy leaves chance", "grokking is the transition"),
    _mixed_at("end", "where the test accuracy reaches its threshold", "grokking is the transition"),
    Claim(
        "weights become mixed where fitting ends",
        "-",
        f"({_OURS}: a transition at the end of fitting would not be grokking)",
        _TOGETHER,
        nothing_published,
        grokking.mixed_at("fit_end"),
    ),
    Claim(
        "weights become mixed where compression starts",
        "-",
        f"({_OURS}: the maximum of I(T+n; X))",
        _TOGETHER,
        nothing_published,
        grokking.mixed_at("compression_onset"),
    ),
    Claim(
        "representations are useful after grokking",
        "abstract",
        "in the mixed phase the network has useful internal representations of the teacher",
        f"test accuracy of a refitted read-out of at least {USEFUL} at the end",
        nothing_published,
        grokking.useful_after,
    ),
    Claim(
        "they are distinct from those before",
        "abstract",
        "these representations are sharply distinct from those before the transition",
        f"test accuracy of a refitted read-out of at most {DISTINCT} where fitting ends",
        nothing_published,
        grokking.useless_before,
    ),
    Claim(
        "controls have no useful representations",
        "-",
        f"({_OURS}: networks of the same length without weight decay, or with permuted answers)",
        f"test accuracy of a refitted read-out of at most {DISTINCT} at the end",
        nothing_published,
        grokking.useless_in_controls,
    ),
    Claim(
        "representations generalise before the network",
        "arXiv:2605.27078",
        "(a claim of another paper: the representation is learned first, and the read-out follows)",
        "a refitted read-out has a test accuracy of .5 before the network (90 % interval of the mean distance below 0)",
        nothing_published,
        grokking.features_first,
    ),
    Claim(
        "sweeps of weight decay across grokking have hysteresis",
        "-",
        f"({_OURS}, which does not sweep: a first-order transition in the decay would have a loop)",
        "probe.stats.hysteresis: an area remains at zero rate",
        nothing_published,
        grokking.loop_remains("sweep"),
    ),
    Claim(
        "the loss of all weights has hysteresis",
        "-",
        f"({_OURS}: at large decays the weights vanish, and zero weights are stable at every decay)",
        "probe.stats.hysteresis: an area remains at zero rate",
        nothing_published,
        grokking.loop_remains("collapse"),
    ),
    Claim(
        "the boundary of grokking is a decay",
        "-",
        f"({_OURS}: a transition has one boundary; a time to grok of 1 / decay moves it with the budget of steps)",
        f"boundaries at 500 and 8,000 steps within {BOUNDARY} dex",
        nothing_published,
        grokking.boundary_fixed,
    ),
]
