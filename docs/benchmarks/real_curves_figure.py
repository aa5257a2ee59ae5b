"""Figure of docs/phases.md: six real training curves with their verdicts; `figures.py` writes it.

The curves are those of curves/given.npz.
"""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from probe import PhaseDetector, plots

DOCS = Path(__file__).parents[1]
CURVES = {  # what the curves are
    "grok_p23_s0_wd1": "modular addition",
    "parity_s1": "sparse parity",
    "linreg_dd": "linear regression",
    "overfit_noise40": "classification with noisy labels",
    "steplr": "learning rate divided by 10 at steps 300 and 600",
    "poly_mlp": "regression on a polynomial",
}
WIDTH = 56  # characters of a line of a verdict
SIZE, ABOVE, SPACING = 9, 38, 1.35  # points of the font, points above the axes, height of a line over the font


def fitted(name: str) -> PhaseDetector:
    """Fit the detector to one run."""
    with np.load(DOCS / "benchmarks" / "curves" / "given.npz") as file:
        curves = {key.split("/")[1]: file[key] for key in file if key.startswith(f"{name}/")}
    return PhaseDetector().fit(curves)


def draw(ax: plt.Axes, name: str) -> None:
    """Draw the test loss of one run below its verdict."""
    detector = fitted(name)
    plots.panel(detector.curves_, ["test_loss"], detector, ax=ax, log=False)
    ax.set_ylabel("test loss")
    verdict = textwrap.wrap(detector.verdict_["sentence"].item(), WIDTH)
    place = {"xycoords": "axes fraction", "textcoords": "offset points", "va": "bottom", "color": "#333333"}
    ax.annotate("\n".join(verdict), (0, 1), (0, ABOVE), fontsize=SIZE, linespacing=SPACING, **place)
    top = ABOVE + len(verdict) * SIZE * SPACING + 5
    ax.annotate(CURVES[name], (0, 1), (0, top), fontsize=10, fontweight="bold", **place)


def draw_all() -> Figure:
    """Draw all six runs."""
    figure, grid = plt.subplots(3, 2, figsize=(9.2, 12), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    for ax, name in zip(grid.ravel(), CURVES, strict=True):
        draw(ax, name)
    handles, labels = plots.phases(fitted("parity_s1")).get_legend_handles_labels()  # this run has all phases
    handles.append(Line2D([], [], color="#888888", lw=4))
    labels.append("interval of a marker")
    figure.legend(handles, labels, loc="outside lower center", ncols=len(handles), fontsize=9, frameon=False)
    return figure
