"""
Which measure is a progress measure?
====================================

arXiv:2504.12700 names information, local complexity and the linear mapping number as measures of progress. Here they
are compared on recorded runs by :class:`probe.ProgressScorecard`, together with test loss and train loss.
"""

# %%
# Runs that learn division modulo 97 (8 seeds), and two kinds of controls (4 seeds each) that fit and do not generalise:
# too few examples, and shuffled answers.
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np

import probe
from probe import EarlyWarning, ProgressScorecard

results = files("reference") / "results"
groups = {
    "division-97": probe.load(results / "division-97-probes.nc"),
    "too few": probe.load(results / "variants" / "control-few-probes.nc"),
    "shuffled": probe.load(results / "variants" / "control-shuffled-probes.nc"),
}
measures = ["information_x", "local_complexity_total", "linear_mapping_number", "test_loss", "train_loss"]

# %%
# The scorecard: trend after fitting, relation to the test loss, area under the curve for runs against controls before
# any run generalises, lead before generalisation, and the error of predicting when it starts.
card = ProgressScorecard(measures).fit(groups)
print(card.table())

# %%
# Areas under the ROC curve with their 95 % intervals: of the value, and of its change since the end of fitting. At .5 a
# measure does not separate runs and controls; to the right it is larger in runs that will generalise.
scores = card.scores_
place = np.arange(scores.sizes["measure"])
fig, axes = plt.subplots(1, 2, figsize=(9.2, 4), sharey=True, layout="constrained")
for ax, name, what in zip(axes, ("auc_value", "auc_change"), ("value", "change since the end of fitting"), strict=True):
    low, high = (abs(scores[name] - scores[f"{name}_{end}"]) for end in ("lower", "upper"))
    ax.errorbar(scores[name], place, xerr=[low, high], fmt="o", color="#0072b2", capsize=2)
    ax.axvline(0.5, color="#888888", lw=0.8)
    ax.set(xlabel=f"AUC of the {what}", xlim=(-0.03, 1.03))
axes[0].set_yticks(place, scores["measure"].values, fontsize=9)
axes[0].invert_yaxis()
fig.suptitle(f"compared at step {card.cut_:,.0f}, before the first run leaves chance")

# %%
# The level of the linear mapping number separates the runs during fitting, in the direction opposite to the claim: it
# is higher in runs that will generalise.
fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
looks = (("#0072b2", "-"), ("#d55e00", "--"), ("#e69f00", ":"))
for (name, series), (color, style) in zip(groups.items(), looks, strict=True):
    curves = series["linear_mapping_number"].sel(split="train", layer="blocks.0")
    for i, run in enumerate(curves.transpose("run", "step")):
        ax.semilogx(run["step"] + 1, run, color=color, ls=style, lw=1, label=name if i == 0 else None)
ax.axvspan(1, card.cut_, color="#888888", alpha=0.15)
ax.set(xlabel="step + 1", ylabel="linear mapping number, block 1")
ax.legend(fontsize=9)

# %%
# The same level as an alarm: each threshold is learnt on the other runs, and baselines that need no probe are shown
# too. A hit comes before the test accuracy leaves chance.
warning = EarlyWarning("linear_mapping_number[train, blocks.0]", "above").fit(groups)
print(warning.table())

# %%
# No measure here meets all criteria of a progress measure. Information falls long after test accuracy begins to rise.
# Local complexity falls steadily, but mostly after test accuracy begins to rise too, and also in controls. The level of
# the linear mapping number predicts in these runs whether a run will generalise, and not when; on new runs with their
# own controls it did not separate them. The page on progress measures has more runs and controls.
