"""
An information plane of eight seeds
===================================

What the second block of a small transformer, read through noise, tells of its inputs and of its labels, over training:
division modulo 97, where test accuracy rises long after the training set is fitted.
"""

# %%
# Eight recorded runs of the reference trainer, and their phases.
from importlib.resources import files

import probe
from probe import PhaseDetector, plots

series = probe.load(files("reference") / "results" / "division-97-probes.nc")
detector = PhaseDetector().fit(series)
print(detector.summary().splitlines()[0])

# %%
# The planes of training and test inputs, on the same scales. Thin lines are runs; rings are the ends of their phases,
# where these were found. The bars are proven lower and upper bounds at the last step. They hold without the estimate.
plots.information_planes(series, layers=["blocks.1"], detector=detector)

# %%
# The start tells how to read such a plane. The network is untrained and guesses, yet I(T+n;Y) is 5.6 of 6.6 bits: a
# layer that tells most inputs apart tells their labels too, whether or not anything can decode them. Training first
# loses both, then gains them, and it is the last part, to the left along the top, that is called compression.
median = series.sel(layer="blocks.1").median("run")
for step in (0, 100, 5623, 82540):
    there = median.sel(step=step, method="nearest")
    told = [
        f"{split}: {there['information_x'].sel(split=split):.2f}, {there['information_y'].sel(split=split):.2f}"
        for split in ("train", "test")
    ]
    print(
        f"step {there['step'].item():,}, test accuracy {there['test_accuracy']:.2f}; bits of X, Y for {'; '.join(told)}"
    )

# %%
# That last part, closer: test inputs from step 1,000 on.
ax = plots.information_plane(
    series.sel(step=slice(1000, None)), split="test", layers=["blocks.1"], detector=detector, bars="none"
)
ax.set(xlim=(8.4, 9.8), ylim=(5.5, 6.7))

# %%
# The distance to (H(Y), H(Y)), a layer with only the labels: each run thin, and their median thick.
# The dotted lines are the medians of the markers over runs, the bars at the upper edge their intervals.
ax = plots.curves(plots.plane_distance(series), ["plane_distance"])
plots.phases(detector, ax=ax, names=False)

# %%
# One may conclude that, after fitting, this layer told about half a bit less of its inputs and no less of the labels,
# on test inputs as on training inputs, while test accuracy rose. One may not conclude that this made it generalise: it
# is one task, one noise level and one layer, the fall is well within the proven bounds, and the detector finds its
# onset in five runs of eight.
falls = median["information_x"].max("step") - median["information_x"].isel(step=-1)
print(
    f"fall from the maximum: {falls.sel(split='train'):.2f} bits on train, {falls.sel(split='test'):.2f} on test inputs"
)
