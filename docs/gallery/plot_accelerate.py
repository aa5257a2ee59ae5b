"""
A loop with Accelerate, and its checkpoints afterwards
======================================================

Probes in a training loop with Accelerate, and the same probes on the checkpoints that the loop has saved. The numbers
are equal, bit for bit.
"""

# %%
# A classifier of scikit-learn's digits, and a loop with Accelerate.
import tempfile

import accelerate
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

images, labels = load_digits(return_X_y=True)
rows = TensorDataset(torch.tensor(images / 16, dtype=torch.float32), torch.tensor(labels))
train, test = torch.utils.data.random_split(rows, [300, 1497], torch.Generator().manual_seed(0))


def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


folder = tempfile.TemporaryDirectory()
settings = accelerate.utils.ProjectConfiguration(project_dir=folder.name, automatic_checkpoint_naming=True)
accelerator = accelerate.Accelerator(cpu=True, project_config=settings)
model = build()
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
loader = DataLoader(train, 30, shuffle=True)
model, optimizer, batches = accelerator.prepare(model, optimizer, loader)

# %%
# ``ProbeContext`` observes while the loop runs. It also adds the number of updates to each checkpoint, since Accelerate
# numbers its folders by the saves.
import probe
from probe import ActivationsProbe, MutualInfoProbe, PhaseDetector, WeightsProbe, every, plots

data = {"train": probe.from_loader(loader, 300), "test": probe.from_loader(DataLoader(test, 100), 500)}
probes = probe.ProbeSet([MutualInfoProbe(), ActivationsProbe(), WeightsProbe()])
context = probe.adapters.accelerate.ProbeContext(accelerator, probes, data, model, optimizer, schedule=every(20))
step = 0
accelerator.save_state()
with context:
    for _ in range(30):
        for inputs, targets in batches:
            optimizer.zero_grad()
            accelerator.backward(nn.functional.cross_entropy(model(inputs), targets))
            optimizer.step()
            step += 1
            if step % 20 == 0:
                accelerator.save_state()
recorded = probes.series_

# %%
# Measure the folder afterwards, as if there had been no probes.
measured = probe.over_checkpoints(folder.name, probes, data, build=build)
print(measured.attrs["reading"])

# %%
# Every number is the same at every step. Only the times of the observations differ.
names = [name for name in recorded.data_vars if name != "seconds"]
assert measured[names].equals(recorded[names])
print(f"{len(names)} variables are equal at steps {', '.join(map(str, recorded['step'].values[:3]))}, ..., {step}")

# %%
# The phases of the training, from its checkpoints alone.
detector = PhaseDetector().fit(measured)
print(detector.summary().splitlines()[0])
plots.overview(measured, detector=detector)
folder.cleanup()
