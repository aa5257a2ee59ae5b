"""Figures of docs/chaos.md: those of docs/gallery/plot_chaos.py, in less than a minute; `figures.py` writes them."""

import runpy
from functools import cache
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure

EXAMPLE = Path(__file__).parents[1] / "gallery" / "plot_chaos.py"
NAMES = ("growth_tanh", "growth_relu", "kernels", "radius", "map")  # in the order of the example


@cache
def run() -> dict[str, Figure]:
    """Run the example, and return its figures."""
    torch.set_num_threads(1)
    before = plt.get_fignums()
    runpy.run_path(str(EXAMPLE))
    return dict(zip(NAMES, (plt.figure(n) for n in plt.get_fignums() if n not in before), strict=True))


def draw(name: str) -> Figure:
    """Return one of the figures."""
    return run()[name]
