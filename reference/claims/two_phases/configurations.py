"""Our configurations in the claims of arXiv:2504.12700, and the constants of the claims."""

COINCIDE = 0.25  # dex, a factor of 1.8: the paper gives times as powers of ten or halves between
PAPER_RUNS = {"division": "paper-division", "s5": "paper-s5"}  # published task -> our configuration
DIVISION_RUNS = ("division-97", "subtraction-96")  # tables that are division, and that the model learns
CONTROLS = ("control-shuffled", "control-few")  # the model fits them and cannot generalise
UNITS = "division-96"  # the model fits it and does not generalise: test accuracy stays below .6
ALL_ESTIMATORS = ("division-59", "paper-division-kept")  # every estimator, all inputs, weight histograms
ALL_ESTIMATORS_CONTROL = "control-59"  # control of the first of them
# Runs that learn, and a control with the same model and optimiser. Both are read at their last common step.
COMPARED = (
    ("paper-division", "control-shuffled"),
    *((name, control) for name in DIVISION_RUNS for control in (*CONTROLS, UNITS)),
    (ALL_ESTIMATORS[0], ALL_ESTIMATORS_CONTROL),
)
# The same with tasks as units: tasks that are learnt, and tasks that are not.
TASKS = ((("paper-division",), ("control-shuffled",)), (DIVISION_RUNS, (*CONTROLS, UNITS)))
DEMO = "demo"  # one seed, the only recording with random points of the input space
HISTOGRAM, EMBEDDING = "weight_histogram_entropy", "tokens.weight"  # the x coordinate of the published plane
PERCEPTRONS = ("perceptrons-division", "perceptrons-digits")  # ReLU networks, with exact regions


def control_of(name: str) -> str:
    """Return the name of the control of perceptrons: the same recipe with randomly permuted answers."""
    return f"{name}-control"
