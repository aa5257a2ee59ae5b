"""The claims of arXiv:2310.03789: text, place, expected observation, and the functions that judge them.

Nothing can be judged on published curves, because there are none. `published.py` holds the reported numbers. The
thresholds, and what was known when they were fixed, are in `configurations.py`.
"""

from reference.claims.base import Claim, nothing_published
from reference.claims.first_order import grokking, networks, theory
from reference.claims.first_order.configurations import (
    BOUNDARY,
    DISTINCT,
    DRIFT,
    DROPLETS,
    FIGURE_2,
    KURTOSIS,
    LEARNED,
    PRINTED,
    PRINTED_SHARE,
    USEFUL,
    VIRIAL,
)
from reference.claims.first_order.published import REPORTED
from reference.experiments.first_order_analysis import DELTA

_OURS = "no claim of the paper"
_ABOUT = f"the printed number, within half a unit of its last digit or {PRINTED_SHARE:.0%}"
_NEAR = f"ratio of networks to theory within {LEARNED:.0%} of 1 (90 % interval over networks)"
_SINGLE_READOUT = FIGURE_2.readout_variance * FIGURE_2.width  # 8: s_a^2 of figure 2 before the division by N

EQUATIONS = [
    Claim(
        "the cubic teacher has its transition at u = 30.2",
        "figure 2",
        "the network leaves GFL at u of about 30.2, which is a noise of about .18",
        _ABOUT,
        nothing_published,
        theory.teacher_numbers(printed=False),
        REPORTED["transition"],
    ),
    Claim(
        "Q_11 is as printed",
        "equation for Q",
        "the first entry of Q is s_a^2 <2 q^2 / (pi D)>; its integral has 4 in place of 2",
        f"{_ABOUT}, with 2",
        nothing_published,
        theory.teacher_numbers(printed=True),
        REPORTED["transition"],
    ),
    Claim(
        "modular addition has its transitions at .227 and .175",
        "figure 3",
        "the network leaves GFL at s^2 of about .227, and enters GMFL-II at about .175, where a is about -.7",
        _ABOUT,
        nothing_published,
        theory.modular_numbers,
        REPORTED["modular"],
    ),
    Claim(
        "figure 3 has a second transition",
        "figure 3",
        "at low noise all neurons are specialised (GMFL-II)",
        "a positive noise s^2_II",
        nothing_published,
        theory.second_transition(PRINTED),
        REPORTED["modular"],
    ),
    Claim(
        "figure 3 has a second transition with F = 4 P^2",
        "-",
        f"({_OURS}: the factor of lambda that follows from the model)",
        "a positive noise s^2_II",
        nothing_published,
        theory.second_transition(None),
    ),
    Claim(
        "the phases come in one order",
        "section 3",
        "the network passes GFL, GMFL-I and GMFL-II as the noise falls",
        "two or three phases in this order, at 21 noises from .4 to .02",
        nothing_published,
        theory.order_of_phases,
        REPORTED["phases"],
    ),
    Claim(
        "the action has two equal minima",
        "abstract, section 3",
        "the transition is of first order",
        "at the transition, two minima of equal action with a barrier in proportion to the size between them",
        nothing_published,
        theory.two_minima,
    ),
    Claim(
        "three widths lie before, just after and beyond the transition",
        "appendix D",
        "N = 2,800 is GFL, N = 1,400 is just after the transition, and N = 700 is mixed",
        "the critical width lies between 2,800 and 1,400; the solver has the same phases",
        nothing_published,
        theory.widths,
        REPORTED["widths"],
    ),
    Claim(
        "a fixed kernel needs 5e5 data for the cubic part",
        "figure 2",
        "the kernel of infinitely wide networks learns the cubic part from about 5e5 data only",
        "half of the cubic part at this number within a factor of 3, with s_a^2 = 8",
        nothing_published,
        theory.needed_data(_SINGLE_READOUT),
        REPORTED["fixed kernel"],
    ),
    Claim(
        "the same with the kernel of the sampled networks",
        "-",
        f"({_OURS}, which does not name s_a^2 in our reading: networks of figure 2 have s_a^2 = 8 / N)",
        "half of the cubic part at 5e5 data within a factor of 3",
        nothing_published,
        theory.needed_data(FIGURE_2.readout_variance),
    ),
]

NETWORKS = [
    Claim(
        "sampled networks learn what the theory predicts",
        "figure 2",
        "learned fractions of the linear and the cubic part lie on the theory",
        _NEAR,
        nothing_published,
        networks.learned,
        REPORTED["learned"],
    ),
    Claim(
        "the differences are sampling errors",
        "-",
        f"({_OURS}: we test whether the networks differ from the theory at all)",
        "no difference beyond the limit of a test of size .05 on all noises",
        nothing_published,
        networks.differences,
    ),
    Claim(
        "the networks are at equilibrium",
        "-",
        f"({_OURS}, a check of our sampling)",
        f"mean of x . grad L within {VIRIAL:.0%} of 1, and no drift above {DRIFT:g} standard errors",
        nothing_published,
        networks.equilibrium,
    ),
    Claim(
        "neurons are Gaussian before the transition",
        "section 3",
        "in GFL the overlaps of the neurons with the teacher are Gaussian",
        f"excess kurtosis within {KURTOSIS} of 0 at noises above the transition",
        nothing_published,
        networks.gaussian_before,
    ),
    Claim(
        "neurons are not Gaussian after it",
        "section 3",
        "in the mixed phase the overlaps have a second group, the droplets",
        f"excess kurtosis above {KURTOSIS} at noises below the transition",
        nothing_published,
        networks.droplets_after,
    ),
    Claim(
        "droplets are separate from the core",
        "section 3",
        "the distribution of overlaps has two groups with a gap between them",
        "probe.stats.droplet_phase finds the phase of the theory; undecided where it has a power below .8 for it",
        nothing_published,
        networks.labels,
    ),
    Claim(
        "the share of droplets is that of the theory",
        "section 3",
        "neurons are independent, and each has the density exp(-S)",
        f"share beyond the barrier of S within {DROPLETS:.0%} of the theory (90 % interval)",
        nothing_published,
        networks.shares,
    ),
    Claim(
        "the printed lambda has F = 1",
        "equation for lambda",
        "modular addition learns the fraction 1 + a with lambda = s_a^2 <Phi Psi>",
        _NEAR,
        nothing_published,
        networks.factor_printed,
        REPORTED["kernel factor"],
    ),
    Claim(
        "the factor of lambda is 4 P^2",
        "-",
        f"({_OURS}: the factor that follows from the model and u)",
        _NEAR,
        nothing_published,
        networks.factor_derived,
    ),
]

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
        "sweeps of weight decay have hysteresis",
        "-",
        f"({_OURS}, which does not sweep: a first-order transition in the decay would have a loop)",
        "probe.stats.hysteresis: an area remains at zero rate",
        nothing_published,
        grokking.loop_remains,
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

CLAIMS = [*EQUATIONS, *NETWORKS, *TRAINED]
