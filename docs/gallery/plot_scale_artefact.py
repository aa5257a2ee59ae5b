"""
An artefact of scale
====================

With noise of a fixed size, an information plane shows the size of the activations. Here weight decay shrinks a layer
whose scale has no effect at all, and the plane of absolute noise takes it for compression.
"""

# %%
# A classifier of scikit-learn's digits. The LayerNorm divides its input by its spread, so that the scale of the layer
# before it does not reach the outputs.
import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch import nn

from probe import MutualInfoProbe, ProbeSet, plots

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
data = {"train": (x[:500], y[:500]), "test": (x[500:1500], y[500:1500])}
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.LayerNorm(128, eps=1e-10), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1.0)

# %%
# The same layer at the same steps, by two conventions of noise: 0.5 in units of the activations, and 0.2 of the spread
# that the layer has at each step.
conventions = {
    "absolute": MutualInfoProbe(noise=0.5, convention="absolute"),
    "relative": MutualInfoProbe(noise=0.2),
}
sets = {name: ProbeSet([probe]).attach(model, data, optimizer=optimizer) for name, probe in conventions.items()}
for _ in range(1000):
    rows = torch.randint(500, (64,))
    loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
for probes in sets.values():
    probes.detach()
series = {name: probes.series_ for name, probes in sets.items()}

# %%
# Two planes of one training run, and the total variance of the layer.
fig, axes = plt.subplots(2, 2, figsize=(9.2, 8), layout="constrained")
for ax, one in zip(axes.flat, series.values(), strict=False):
    plots.information_plane(one, split="test", ax=ax)
plots.curves(series["relative"], ["total_variance"], ax=axes[1, 0], log=True)
axes[1, 1].remove()

# %%
# In the absolute plane inputs and labels are lost alike, while nine out of ten test images are classified: what falls
# is the variance. In the relative plane most of the labels stay, and what goes of the inputs is the spread within
# classes, ``within_share``.
for name, one in series.items():
    last = one.sel(split="test").isel(step=[0, -1], layer=0)
    told = [f"{last[v][0]:.2f} to {last[v][1]:.2f}" for v in ("information_x", "information_y")]
    print(f"{name}: I(T+n;X) {told[0]}, I(T+n;Y) {told[1]} of {last['information_y_ceiling'][1]:.2f} bits")
first, last = (series["relative"].sel(split="test").isel(step=i, layer=0) for i in (0, -1))
for name in ("total_variance", "within_share", "test_accuracy"):
    print(f"{name}: {first[name]:.3f} to {last[name]:.3f}")

# %%
# The series tells so. Its axis states the convention; ``noise_relative``, the noise over the spread, is constant by one
# and grows by the other; ``fano_alarm`` is raised where the noise hides labels that the means of the classes decode;
# and ``scale_artefact`` where more than half of the change since the start is gone if the noise follows the layer,
# which ``information_x_scale_free`` measures.
for name, one in series.items():
    there = one.sel(split="test").isel(layer=0)
    alarms, steps = int((there["fano_alarm"] == 1).sum()), there.sizes["step"]
    level = there["noise_relative"]
    print(f"{name}: noise {level[0]:.2f} to {level[-1]:.2f} of the spread, alarm at {alarms} of {steps} steps")
there = series["absolute"].sel(split="test").isel(layer=0)
bits, free = there["information_x"], there["information_x_scale_free"]
print(f"flagged as scale: {int((there['scale_artefact'] == 1).sum())} of {there.sizes['step']} steps")
print(f"I(T+n;X) fell by {bits[0] - bits[-1]:.2f} bits, by {free[0] - free[-1]:.2f} if the noise follows the layer")

# %%
# The clearest check changes nothing but the scale: a tenth of the first layer's weights, the same predictions.
before = model(x)
with torch.no_grad():
    model[0].weight *= 0.1
    model[0].bias *= 0.1
print(f"predictions that changed: {(model(x).argmax(1) != before.argmax(1)).sum()} of {len(x)}")
for name, probe in conventions.items():
    after = probe.fit(model, data).series_.sel(split="test").isel(step=-1, layer=0)
    was = series[name].sel(split="test").isel(step=-1, layer=0)
    print(f"{name}: I(T+n;X) {was['information_x']:.2f} before, {after['information_x']:.2f} after")
