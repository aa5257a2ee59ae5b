"""The names that the README leaves to its reader, and a training loop for its ``...``."""

import pandas as pd
import torch
from torch.nn.functional import cross_entropy  # noqa: F401

torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 3))
x = torch.randn(60, 6)
y = x[:, :3].argmax(1)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
x_train, y_train, x_test, y_test = x[:40], y[:40], x[40:], y[40:]

pd.DataFrame({"step": range(0, 300, 10), "acc": 1.0, "val_acc": 0.5, "val_loss": 1.0}).to_csv("log.csv")

edits = {
    'path="run.nc",  # optional': 'path="again.nc",  # optional',
    "\n...": """
for _ in range(60):
    optimizer.zero_grad()
    cross_entropy(model(x_train), y_train).backward()
    optimizer.step()
""",
}
