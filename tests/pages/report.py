"""Two small runs, as the page assumes."""

from pathlib import Path

import numpy as np
import pandas as pd

import probe

step = np.arange(0, 400, 10)
table = pd.DataFrame({"step": step, "train_loss": np.exp(-step / 50), "train_accuracy": 1 - 0.9 * np.exp(-step / 50)})
for seed in range(2):
    (Path("runs") / f"seed-{seed}").mkdir(parents=True)
    table.to_csv(f"runs/seed-{seed}/log.csv", index=False)
series = probe.read("runs")
detector = probe.PhaseDetector().fit(series)


def check(names, printed):
    assert "Three seeds" in Path("report.html").read_text(encoding="utf-8")
