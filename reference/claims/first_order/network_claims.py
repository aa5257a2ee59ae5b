"""Claims on networks that were sampled at equilibrium."""

from reference.claims.base import Claim, nothing_published
from reference.claims.first_order import networks
from reference.claims.first_order.configurations import DRIFT, DROPLETS, KURTOSIS, LEARNED, VIRIAL
from reference.claims.first_order.published import REPORTED

_OURS = "no claim of the paper"
_NEAR = f"ratio of networks to theory within {LEARNED:.0%} of 1 (90 % interval over networks)"

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
        "sampled networks learn what a free length predicts",
        "-",
        f"({_OURS}: the theory with a free length of the weights, not replaced by the mean of the prior)",
        _NEAR,
        nothing_published,
        networks.learned_free,
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
