"""Draw the sheets from which readers judge the blind set: `python docs/benchmarks/curves/draw_sheets.py FOLDER`.

FOLDER gets sheets of 12 panels for each density (`dense_1.png`, ...), sheets of 6 runs for the classes
(`classes_1.png`, ...), and key.json, which maps the codes of each series to the names of the runs. Readers do not see
key.json.
"""

import json
import sys
from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from densities import DENSITIES

BLIND = Path(__file__).parent / "blind.npz"
SEED = 2026
TICKS = np.array([0, 1, 3, 10, 30, 100, 300, 1000, 3000, 10_000, 30_000])
LABELS = ["0", "1", "3", "10", "30", "100", "300", "1k", "3k", "10k", "30k"]
Curves = dict[str, dict[str, np.ndarray]]


def load(path: Path) -> Curves:
    """Return the curves by run and name."""
    curves: Curves = {}
    with np.load(path) as file:
        for key in file.files:
            run, name = key.split("/")
            curves.setdefault(run, {})[name] = file[key]
    return curves


def draw(axes: Axes, steps: np.ndarray, values: np.ndarray, *, label: str | None = None, color: str = "C0") -> None:
    """Plot the finite values; dots show the observations if there are at most 60."""
    finite = np.isfinite(values)
    marker = "." if finite.sum() <= 60 else None
    axes.plot(np.log10(steps[finite] + 1), values[finite], marker=marker, lw=1, ms=5, label=label, color=color)


def set_step_axis(axes: Axes, last: float) -> None:
    shown = last >= TICKS
    axes.set_xticks(np.log10(TICKS[shown] + 1), np.array(LABELS)[shown], fontsize=8)
    minor = np.outer(10 ** np.arange(5), np.arange(1, 10)).ravel()
    axes.set_xticks(np.log10(minor[minor <= last] + 1), minor=True)
    axes.set_xlim(-0.03 * np.log10(last + 1), 1.03 * np.log10(last + 1))
    axes.tick_params(axis="y", labelsize=8)
    axes.grid(alpha=0.25)


def codes(names: list[str], series: int) -> dict[str, str]:
    """Return the runs by code, in another order for each series."""
    order = np.random.default_rng([SEED, series]).permutation(len(names))
    return {f"{code:02d}": names[i] for code, i in enumerate(order, 1)}


def save(figure: Figure, path: Path) -> None:
    figure.tight_layout(h_pad=1.2)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_density(curves: Curves, density: str, key: dict[str, str], folder: Path) -> None:
    items = list(key.items())
    for sheet, start in enumerate(range(0, len(items), 12), 1):
        figure, panels = plt.subplots(3, 4, figsize=(18, 15))
        for axes, (code, run) in zip(panels.ravel(), items[start : start + 12], strict=False):
            steps, values = DENSITIES[density](curves[run]["step"], curves[run]["test_loss"])
            draw(axes, steps, values)
            set_step_axis(axes, steps[-1])
            axes.set_title(code, fontweight="bold")
        save(figure, folder / f"{density}_{sheet}.png")


def draw_losses(axes: Axes, curves: dict[str, np.ndarray], kind: str) -> None:
    for color, role in (("C0", "train"), ("C1", "test")):
        draw(axes, curves["step"], curves[f"{role}_{kind}"], label=role, color=color)
    set_step_axis(axes, curves["step"][-1])
    axes.set_ylabel(kind, fontsize=9)
    axes.legend(fontsize=8)


def draw_classes(curves: Curves, key: dict[str, str], folder: Path) -> None:
    """Draw a pair of panels for each run: losses, then accuracies, or the losses on a logarithmic axis."""
    items = list(key.items())
    for sheet, start in enumerate(range(0, len(items), 6), 1):
        figure, panels = plt.subplots(3, 4, figsize=(20, 15))
        for pair, (code, run) in zip(panels.reshape(6, 2), items[start : start + 6], strict=False):
            draw_losses(pair[0], curves[run], "loss")
            pair[0].set_title(code, fontweight="bold")
            has_accuracies = "test_accuracy" in curves[run]
            draw_losses(pair[1], curves[run], "accuracy" if has_accuracies else "loss")
            if not has_accuracies:
                pair[1].set_yscale("log")
                pair[1].set_ylabel("loss (log axis)", fontsize=9)
            pair[1].set_title(f"{code}, {'accuracies' if has_accuracies else 'the same losses'}", fontsize=9)
        save(figure, folder / f"classes_{sheet}.png")


def main() -> None:
    folder, curves = Path(sys.argv[1]), load(BLIND)
    folder.mkdir(parents=True, exist_ok=True)
    key = {series: codes(list(curves), i) for i, series in enumerate([*DENSITIES, "classes"])}
    (folder / "key.json").write_text(json.dumps(key, indent=1))
    for density in DENSITIES:
        draw_density(curves, density, key[density], folder)
    draw_classes(curves, key["classes"], folder)


if __name__ == "__main__":
    main()
