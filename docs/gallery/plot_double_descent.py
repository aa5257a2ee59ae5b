"""
Double descent over width
=========================

The curves of PhaseDetector may run over any axis. Here it is the width of a model: the test loss falls, rises to a
peak where the model can just fit its training labels, and falls again (Belkin et al. 2019, arXiv:1812.11118).
"""

# %%
# 300 of scikit-learn's digits to train on, 15 % of them with a wrong label. The model has random ReLU features, new
# ones at each width, and the weights of least norm among those of least squares. Eight runs: other images, other wrong
# labels, other features. Widths are dense, for the peak is narrow.
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from sklearn.base import clone
from sklearn.datasets import load_digits

from probe import PhaseDetector, plots

images, labels = load_digits(return_X_y=True)
images = images - images.mean(axis=0)
images /= np.linalg.norm(images, axis=1, keepdims=True)
one_hot = np.eye(10)
widths = np.unique(np.geomspace(5, 3000, 80).astype(int))


def sweep(seed, n=300, wrong=0.15):
    """Accuracy and squared error on training and test images, (width, 4)."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    train, test = order[:n], order[n:]
    given = np.where(rng.random(n) < wrong, labels[train] + rng.integers(1, 10, n), labels[train]) % 10
    rows = []
    for width in widths:
        features = np.maximum(images @ rng.standard_normal((64, width)), 0)
        weights = np.linalg.lstsq(features[train], one_hot[given])[0]
        row = []
        for rows_of, wanted in ((train, given), (test, labels[test])):
            output = features[rows_of] @ weights
            row.append((output.argmax(axis=1) == wanted).mean())
            row.append(((output - one_hot[wanted]) ** 2).sum(axis=1).mean())
        rows.append(row)
    return rows


measured = np.array([sweep(seed) for seed in range(8)])
names = ["train_accuracy", "train_loss", "test_accuracy", "test_loss"]
curves = xr.Dataset({name: (("run", "width"), measured[:, :, i]) for i, name in enumerate(names)}, {"width": widths})

# %%
# ``fit_end`` is now the interpolation threshold: the first of three widths in a row with all training labels right.
# ``descent_onset`` is the peak of the test loss, looked for in the logarithm of the loss, which spans two decades. A
# role may be a function of the curves, so that the curves themselves need not be changed.
detector = PhaseDetector(
    axis="width", fit_threshold=1.0, chance=0.1, test_loss=lambda curves: np.log10(curves["test_loss"])
).fit(curves)
print(detector.summary())

# %%
# The test loss of all runs with the medians of the markers over runs, and all markers of all runs.
fig, (left, right) = plt.subplots(1, 2, figsize=(9.2, 4), layout="constrained")
plots.curves(detector.curves_, ["test_loss"], ax=left, log=True, ylabel="squared error on test images")
plots.phases(detector, ax=left)
plots.alignment(detector, ax=right)

# %%
# Every run has the peak, and each of the eight intervals holds width 300: one feature for each training image, where
# theory puts it. All labels are right before that, from width 233 on (median). The two are aligned by the default of
# 0.25 dex, but not the same: in every run the peak comes later, by 0.13 dex in the median, and with ``delta=0.1`` no
# run is aligned any more. The threshold that theory means is that of the squared error, which vanishes at width 300.
# Without a train accuracy the train loss decides, here by 90 % of its fall in log units; what follows is rounding.
by_loss = clone(detector).set_params(fit_threshold=0.9).fit(curves.drop_vars("train_accuracy"))
pair = by_loss.alignment_.sel(pair="fit_end - descent_onset")
print(f"squared error vanishes at width {float(by_loss.across_['median'].sel(marker='fit_end')):.0f}")
print(f"from there to the peak: {pair['distance'].values.round(2)} dex, {set(pair['verdict'].values.tolist())}")

# %%
# Nothing here says that wider is better: is the second descent the deeper one?
loss = curves["test_loss"].mean("run")
first = loss.where(loss["width"] < 200, drop=True)
print(f"before the peak: {first.min():.2f} at width {first['width'][first.argmin('width')].item()}")
print(f"after it: {loss[-1]:.2f} at width {widths[-1]}")
