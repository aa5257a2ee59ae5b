"""What PhaseDetector costs: ``python docs/benchmarks/detector.py`` prints CPU time for many runs.

Simulated runs of 200 log-spaced observations with four noisy curves each (train and test accuracy, test loss with a
hump, information with a peak), noise correlated by .5. All markers with intervals; alignment and the test across
runs are included in the last row.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np

from probe import PhaseDetector
from probe.phases import sustained_crossing
from probe.stats import simulate_ar1
from probe.phases import piecewise_linear_onset, plateau_end
from probe.phases import fitting_end, fixed_point
from probe.phases import second_descent, unimodal_mode

N = 200


def simulated(runs: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    x = np.linspace(0, 5, N)

    def rise(at: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(x - at[:, None]) * 4))

    def noisy(curves: np.ndarray, sd: float) -> np.ndarray:
        return curves + sd * simulate_ar1(generator, curves.shape, 0.5)

    fit, peak, end = (generator.normal(mean, 0.2, runs) for mean in (2, 3, 4))
    hump = np.exp(-((x - peak[:, None]) ** 2) * 2)
    return {
        "step": 10**x - 1,
        "train_accuracy": np.clip(noisy(rise(fit), 0.003), 0, 1),
        "test_accuracy": np.clip(noisy(0.1 + 0.9 * rise(end), 0.003), 0, 1),
        "test_loss": noisy(2 * np.exp(-2 * x) + hump, 0.03),
        "information_x": noisy(4 * rise(fit) + 2 * hump, 0.06),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    args = parser.parse_args()
    curves = simulated(args.runs)
    steps, loss, accuracy = curves["step"], curves["test_loss"], curves["train_accuracy"]
    rules: dict[str, tuple[Callable[..., object], np.ndarray]] = {
        "sustained_crossing": (lambda s, v: sustained_crossing(s, v, 0.99), accuracy),
        "unimodal_mode": (unimodal_mode, loss),
        "second_descent": (second_descent, loss),
        "second_descent of a curve without one": (second_descent, 1 - accuracy),
        "piecewise_linear_onset": (piecewise_linear_onset, accuracy),
        "plateau_end": (plateau_end, loss),
        "fixed_point": (fixed_point, accuracy),
        "fitting_end": (fitting_end, np.exp(-5 * accuracy)),
    }
    print(f"| {N} observations | CPU ms a curve |\n|---|---|")
    for name, (rule, of) in rules.items():
        rule(steps, of[0])  # tables are read once
        start = time.process_time()
        for values in of[:200]:
            rule(steps, values)
        print(f"| {name} | {1e3 * (time.process_time() - start) / len(of[:200]):.2f} |")
    start = time.process_time()
    PhaseDetector().fit(curves)
    spent = time.process_time() - start
    print(f"\nPhaseDetector, {args.runs:,} runs of four curves, five markers each: {spent:.1f} CPU s")


if __name__ == "__main__":
    main()
