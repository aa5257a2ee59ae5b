"""The claims of arXiv:2504.12700: text, place, expected observation, and the functions that judge them.

Each claim is judged on the published curves alone, then on our runs. Times are compared on log10(step + 1). Two times
coincide if they lie within .25 dex, a factor of 1.8: the paper gives times as powers of ten or halves between.
"""

import numpy as np

from reference.claims.base import Claim, nothing_published
from reference.claims.two_phases import complexity, phases, plane
from reference.claims.two_phases.configurations import COINCIDE, DIVISION_RUNS, PAPER_RUNS

_LEARNT = (*PAPER_RUNS.values(), *DIVISION_RUNS, "s5-fast")

CLAIMS = [
    Claim(
        "fitting comes first",
        "3.2, figures 3a, 4a",
        "training error vanishes long before generalisation is complete",
        "test accuracy .99 at least .5 dex after training accuracy .99 (a factor of 3; the paper gives 20)",
        phases.published_distance("fit_end", "end", 0.5, np.inf),
        phases.our_distance("fit_end", "end", 0.5, np.inf, _LEARNT),
    ),
    Claim(
        "fitting takes a small share",
        "4.1, 5",
        "the first phase is often completed in a small fraction of the total training time",
        "fitting takes at most a fifth of the time to test accuracy .99",
        phases.published_share,
        phases.our_share,
    ),
    Claim(
        "generalisation starts when fitting ends",
        "3.2",
        "the end of fitting agrees with when the model starts to generalise",
        f"test accuracy leaves chance within {COINCIDE} dex of training accuracy .99",
        phases.published_distance("fit_end", "generalisation_onset", -COINCIDE, COINCIDE),
        phases.our_distance("fit_end", "generalisation_onset", -COINCIDE, COINCIDE, _LEARNT),
    ),
    Claim(
        "hump",
        "figures 3c, 4c",
        "the test loss rises and falls again: double descent in time",
        "a rise and a fall after the initial descent, which noise does not explain (5 %)",
        phases.published_hump,
        phases.our_hump,
    ),
    Claim(
        "hump where fitting ends",
        "3.2",
        "the onset of the second descent coincides with the end of fitting",
        f"top of the test loss within {COINCIDE} dex of training accuracy .99",
        phases.published_distance("fit_end", "descent_onset", -COINCIDE, COINCIDE),
        phases.our_distance("fit_end", "descent_onset", -COINCIDE, COINCIDE, _LEARNT),
    ),
    Claim(
        "hump of S5 at 1e5",
        "3.2",
        "for S5 the second descent starts at about 1e5 steps",
        f"within {COINCIDE} dex of 1e5",
        phases.published_hump_at_1e5,
        phases.our_hump_at_1e5,
    ),
    Claim(
        "longer second phase for S5",
        "figure 4",
        "in S5 the two phases are well separated: the second one is longer",
        "longer than for division, in steps and in log steps",
        phases.published_longer,
        phases.our_longer,
    ),
    Claim(
        "information rises while fitting",
        "2.3, 4.1",
        "I(T;X) and I(T;Y) both increase in the fitting phase",
        f"larger at the end of fitting than at step {plane.EARLY:.0f}, training inputs, last block",
        plane.published_rise,
        plane.rise_while_fitting,
    ),
    Claim(
        "I(T;Y) stays after fitting",
        "2.3",
        "I(T;Y) remains roughly constant in the compression phase",
        "changes by less than a tenth of H(Y), training inputs, last block",
        nothing_published,
        plane.flat_after,
    ),
    Claim(
        "I(T;X) falls after fitting",
        "2.3, 4.1, figures 3b, 4b",
        "I(T;X) gradually decreases once the training error has vanished",
        "smaller at the end of the record than at the end of fitting; not in controls, which do not generalise",
        plane.published_fall,
        plane.fall,
    ),
    Claim(
        "I(T;X) falls by every estimator",
        "2.3",
        "(no claim of the paper, which uses one estimator: we test whether the fall depends on the estimator)",
        "smaller at the end of the record than at the end of fitting, by each estimator, on each set of inputs",
        nothing_published,
        plane.fall_by_estimator,
    ),
    Claim(
        "rightmost point and hump",
        "3.2",
        "the rightmost point of the information plane agrees with the onset of the second descent",
        f"maxima within {COINCIDE} dex",
        plane.published_rightmost,
        plane.our_rightmost,
    ),
    Claim(
        "onset independent of depth",
        "3.2, figure 5",
        "the onset of compression does not depend on the layer",
        f"maxima of the first and the last block within {COINCIDE} dex",
        plane.published_depth,
        plane.our_depth,
    ),
    Claim(
        "fixed point where test error vanishes",
        "3.2",
        "the trajectory reaches a fixed point when the test error vanishes",
        f"I(T+n;X) of test inputs becomes constant within {COINCIDE} dex of test accuracy .99",
        nothing_published,
        plane.our_fixed_point,
    ),
    Claim(
        "complexity concentrated at training points",
        "2.1, 4.2",
        "when the training error vanishes, local complexity is concentrated near the training samples",
        "a tenth higher at training inputs than at test inputs",
        nothing_published,
        complexity.concentrated,
    ),
    Claim(
        "local complexity falls on",
        "2.1",
        "local complexity decreases after the training loss has saturated",
        "lower at the end of the record than at the end of fitting, all layers, training inputs",
        nothing_published,
        complexity.falls_on("local_complexity_total"),
    ),
    Claim(
        "linear mapping number falls on",
        "2.1",
        "the linear mapping number decreases after the training loss has saturated",
        "lower at the end of the record than at the end of fitting, first block, training inputs",
        nothing_published,
        complexity.falls_on("linear_mapping_number"),
    ),
    Claim(
        "ReLU and GELU alike",
        "3.1",
        "the results do not depend on the activation function",
        f"ends of fitting and tops of the test loss within {COINCIDE} dex",
        nothing_published,
        complexity.alike,
    ),
    Claim(
        "a progress measure",
        "4.2, 5",
        "decreasing I(T;X) signals that the model is progressing toward generalisation",
        "its change after fitting separates runs that generalise from controls that do not (AUC above .9)",
        nothing_published,
        complexity.separates,
    ),
    Claim(
        "the published run is one of ours",
        "figures 3, 4",
        "(no claim of the paper: we test whether our settings are those of the paper)",
        "the published time lies in the prediction interval of a further seed, whose half width is below .3 dex",
        nothing_published,
        phases.reproduced,
    ),
]
