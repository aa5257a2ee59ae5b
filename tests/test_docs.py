"""Examples of the gallery that need no training, run."""

import runpy
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt

mpl.use("Agg")
ROOT = Path(__file__).parent.parent


def test_gallery_example_on_logged_curves() -> None:
    runpy.run_path(str(ROOT / "docs/gallery/plot_logged_curves.py"))
    plt.close("all")
