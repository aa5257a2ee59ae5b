"""
Curves logged elsewhere
=======================

PhaseDetector accepts any table with a column of steps, without probes. These curves simulate delayed generalisation,
with noise, so that the found steps can be compared with the true ones.
"""

# %%
# Fitting ends at 300 steps, the loss turns at 3,000, and generalisation is complete at 30,000.
import numpy as np
import pandas as pd

from probe import PhaseDetector, plots

rng = np.random.default_rng(0)
steps = np.unique(np.geomspace(1, 1e5, 120).astype(int))
x = np.log10(steps)


def ramp(start, stop):
    return np.clip((x - np.log10(start)) / (np.log10(stop) - np.log10(start)), 0, 1)


log = pd.DataFrame(
    {
        "step": steps,
        "acc": 100 * (0.01 + 0.99 * ramp(10, 300)),
        "val_acc": 100 * (0.01 + 0.99 * ramp(3_000, 30_000)),
        "val_loss": 4 + 2 * ramp(10, 3_000) - 5.9 * ramp(3_000, 30_000) + 0.05 * rng.standard_normal(len(steps)),
    }
)

# %%
# The roles are given by name. Accuracies in percent are converted to fractions with a warning, and the notes record it.
import warnings

from probe.errors import ProbeWarning

with warnings.catch_warnings():
    warnings.simplefilter("ignore", ProbeWarning)
    detector = PhaseDetector(train_accuracy="acc", test_accuracy="val_acc", test_loss="val_loss", chance=0.01).fit(log)
print(detector.summary())

# %%
# One page with the phases shaded.
detector.plot()

# %%
# The step of each marker, with its interval. This log contains no information, hence no onset of compression.
plots.alignment(detector)
