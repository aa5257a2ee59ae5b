"""
A model of one's own
====================

Probes on an image classifier, without a line added to its training loop.
"""

# %%
# A classifier of scikit-learn's digits, and 200 images to train on.
import torch
from sklearn.datasets import load_digits
from torch import nn

from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PhaseDetector, ProbeSet

images, labels = load_digits(return_X_y=True)
x, y = torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels)
data = {"train": (x[:200], y[:200]), "test": (x[200:], y[200:])}
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

# %%
# Attach, train as always, detach.
probes = ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])
probes.attach(model, data, optimizer=optimizer)
for _ in range(500):
    rows = torch.randint(200, (32,))
    loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
probes.detach()
probes.series_

# %%
# The phases. Fitting ends, but there is no second phase here, and the summary states this.
detector = PhaseDetector().fit(probes.series_)
print(detector.summary())
detector.plot()
