"""Our configurations in the claims of arXiv:2504.12700, and the constants of the claims."""

COINCIDE = 0.25  # dex, a factor of 1.8: the paper gives times as powers of ten or halves between
PAPER_RUNS = {"division": "paper-division", "s5": "paper-s5"}  # published task -> our configuration
DIVISION_RUNS = ("division-97", "subtraction-96")  # tables that are division, and that the model learns
CONTROLS = ("control-shuffled", "control-few")  # the model fits them and should not generalise
ALL_ESTIMATORS = ("division-59", "paper-division-kept")  # every estimator, all inputs, weight histograms
ALL_ESTIMATORS_CONTROL = "control-59"  # control of the first of them
NOT_LEARNT = (*CONTROLS, "division-96", ALL_ESTIMATORS_CONTROL)  # fitted; test accuracy stays below .6
HISTOGRAM, EMBEDDING = "weight_histogram_entropy", "tokens.weight"  # the x coordinate of the published plane
