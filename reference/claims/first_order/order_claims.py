"""Claims on the order of the transition of sampled networks."""

from reference.claims.base import Claim, nothing_published
from reference.claims.first_order import order
from reference.claims.first_order.configurations import BINDER, SLOPE

_OURS = "no claim of the paper"

_SLOPE = f"slope of the barriers within {SLOPE:.0%} of the predicted one (90 % interval)"

ORDER = [
    Claim(
        "the barrier grows with the size",
        "abstract, section 3",
        "the transition is of first order: neurons have two states with a barrier between them",
        "probe.stats.barrier_scaling: log(peak / antimode) of the overlaps grows with d at fixed u",
        nothing_published,
        order.barrier_grows,
    ),
    Claim(
        "there is no barrier before the transition",
        "-",
        f"({_OURS}, a control of the test: a smaller u)",
        "barriers do not grow with d",
        nothing_published,
        order.no_barrier_before,
    ),
    Claim(
        "the barrier is that of the paper's action",
        "section 3",
        "each neuron has the density exp(-S), with the length of its weights replaced by the mean of the prior",
        _SLOPE,
        nothing_published,
        order.barrier_slope("paper_barrier"),
    ),
    Claim(
        "the barrier is that of a free length",
        "-",
        f"({_OURS}: with a free length of the weights, each neuron has its exact density in the mean field)",
        _SLOPE,
        nothing_published,
        order.barrier_slope("barrier"),
    ),
    Claim(
        "hops between both states become rarer with the size",
        "-",
        f"({_OURS}, which describes equilibrium: states of a first-order transition become stable)",
        "slope of the log hopping rate of neurons against d below 0 (90 % interval)",
        nothing_published,
        order.rates_fall,
    ),
    Claim(
        "sweeps of the noise have hysteresis",
        "-",
        f"({_OURS}; at finite d neurons hop, so that a loop closes at rates below those of the hops)",
        "probe.stats.hysteresis: an area remains at zero rate",
        nothing_published,
        order.loops_remain,
    ),
    Claim(
        "loops grow with the size",
        "-",
        f"({_OURS}: at a first-order transition the area at a given rate grows with d)",
        "area at the largest d above that at the smallest d (90 % interval), at each rate",
        nothing_published,
        order.loops_grow,
    ),
    Claim(
        "Binder's cumulant over networks has no dip",
        "-",
        f"({_OURS}: neurons are independent, so that the order parameter of a network averages itself)",
        f"between {BINDER[0]} and {BINDER[1]} at each d (90 % interval)",
        nothing_published,
        order.no_dip,
    ),
    Claim(
        "networks forget their start",
        "-",
        f"({_OURS}, a check of our sampling: starts without and with droplets)",
        "shares of specialised neurons differ by less than 3 standard errors",
        nothing_published,
        order.both_starts,
    ),
]
