"""Fewer walks; the printed numbers are those of the classes, and each followed mode has one class."""

import matplotlib.pyplot as plt

edits = {"random_walk_band(series, windows)})": "random_walk_band(series, windows, n_walks=5)})"}


def check(names, printed):
    classes = names["classes"]
    assert [line.split()[0] for line in printed.splitlines()][2:] == classes["class"].values.tolist()
    held = (names["exponents"]["n_observations"] > 0).sum(("parameter", "mode"))
    assert classes["count"].sum(("class", "parameter")).values.tolist() == held.values.tolist() == [34, 34]
    assert len(plt.get_fignums()) == 2
