"""The log that the README leaves to its reader."""

import pandas as pd

pd.DataFrame({"step": range(0, 300, 10), "acc": 1.0, "val_acc": 0.5, "val_loss": 1.0}).to_csv("log.csv")


def check(names, printed):
    assert "The test accuracy" in printed
