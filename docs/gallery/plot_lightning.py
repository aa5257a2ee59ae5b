"""
An image classifier with Lightning
==================================

Probes in a loop of Lightning, by one callback. The loss and the accuracy that they record equal those of Lightning's
own validation.
"""

# %%
# A classifier of scikit-learn's digits, as one writes it for Lightning.
import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

images, labels = load_digits(return_X_y=True)
images = torch.tensor(images / 16, dtype=torch.float32).view(-1, 1, 8, 8)
data = TensorDataset(images, torch.tensor(labels))
train, test = torch.utils.data.random_split(data, [1000, 797], torch.Generator().manual_seed(0))


class Classifier(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        convolution = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
        self.network = nn.Sequential(convolution, nn.Linear(144, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, x):
        return self.network(x)

    def training_step(self, batch, index):
        x, y = batch
        return nn.functional.cross_entropy(self(x), y)

    def validation_step(self, batch, index):
        x, y = batch
        logits = self(x)
        self.log("loss", nn.functional.cross_entropy(logits, y))
        self.log("accuracy", (logits.argmax(1) == y).float().mean())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


# %%
# ``from_loader`` takes fixed rows of the loaders, whatever their order is, and the callback is one line.
import probe
from probe import MutualInfoProbe, ProbeSet

lightning.seed_everything(0, verbose=False)
loaders = {"train": DataLoader(train, 50, shuffle=True), "test": DataLoader(test, 100)}
fixed = {"train": probe.from_loader(loaders["train"], 500), "test": probe.from_loader(loaders["test"], 797)}
probes = ProbeSet([MutualInfoProbe()])
callback = probe.adapters.lightning.ProbeCallback(probes, fixed)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = lightning.Trainer(max_epochs=15, accelerator="cpu", callbacks=[callback], **quiet)
model = Classifier()
trainer.fit(model, loaders["train"], loaders["test"])
probes.series_

# %%
# Lightning's own validation of the trained model gives the numbers of the last observation.
(own,) = trainer.validate(model, loaders["test"], verbose=False)
last = probes.series_.isel(step=-1)
for name in ("loss", "accuracy"):
    print(f"{name}: Lightning {own[name]:.6f}, probe {last[f'test_{name}'].item():.6f}")
    assert abs(own[name] - last[f"test_{name}"].item()) < 1e-5

# %%
# What the layers keep of the images and of the digits, and the phases of the training.
from probe import PhaseDetector, plots

detector = PhaseDetector().fit(probes.series_)
print(detector.summary().splitlines()[0])
plots.overview(probes.series_, detector=detector)
