"""Draw the pictures of docs/chaos.md: `python docs/benchmarks/chaos_pictures.py`.

Runs docs/gallery/plot_chaos.py, and writes its figures to docs/images/chaos_*.png, in less than a minute.
"""

import argparse
import runpy
from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch

DOCS = Path(__file__).parents[1]
NAMES = ("growth_tanh", "growth_relu", "kernels", "radius", "map")  # in the order of the example


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=DOCS / "images", help="folder")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    plt.close("all")
    runpy.run_path(str(DOCS / "gallery" / "plot_chaos.py"))
    for name, number in zip(NAMES, plt.get_fignums(), strict=True):
        plt.figure(number).savefig(args.out / f"chaos_{name}.png", dpi=100, bbox_inches="tight")
    plt.close("all")


if __name__ == "__main__":
    main()
