"""The parts of ``python -m reference first-order``."""

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from tqdm import tqdm

from probe.recording import provenance_json
from reference.theory.figures import draw_actions, draw_learned, draw_modular, draw_phases
from reference.theory.first_order.closed_forms import modular_transitions, teacher_transition
from reference.theory.first_order.modular import ModularAddition
from reference.theory.first_order.sweep import phase_diagram
from reference.theory.first_order.teacher import CubicTeacher
from reference.theory.simulation.configs import SAMPLINGS
from reference.theory.simulation.sampling import sample
from reference.theory.simulation.summary import summarise

FIGURE_2 = CubicTeacher(noise=0.15)


def solve_all(folder: Path) -> tuple[xr.Dataset, list[Path]]:
    """Solve the phase diagram of figure 2, and draw actions and phases; return it with the paths of the figures."""
    noises, widths = np.linspace(0.05, 0.3, 51), np.geomspace(200, 3000, 31)
    found = phase_diagram(FIGURE_2, noises, widths).assign_attrs(
        provenance=provenance_json([{"estimator": "solve_teacher", "parameters": vars(FIGURE_2)}])
    )
    figures = {
        "actions": draw_actions(FIGURE_2, (0.1, 0.15, 0.1787, 0.2, 0.3)),
        "phases": draw_phases(FIGURE_2, noises, widths),
    }
    return found, _saved(figures, folder)


def transitions_text() -> str:
    """Return the transitions of figures 2 and 3, from the closed forms."""
    noise, u, b, _, q = teacher_transition(FIGURE_2)
    lines = [f"cubic teacher, figure 2: s^2 {noise:.6f}, u {u:.4f}, b {b:.6f}, overlap {q:.6f}"]
    for name, factor in (("F = 1, as printed", 1.0), ("F = 4 P^2, from the model", None)):
        found = modular_transitions(ModularAddition(noise=0.2, kernel_factor=factor))
        second = f"{found.noise_second:.6f}" if found.noise_second > 0 else "never"
        lines.append(f"modular addition, figure 3, {name}: s^2_I {found.noise_first:.6f}, s^2_II {second}")
    return "\n".join(lines)


def sample_all(part: str, folder: Path, n_jobs: int, *, progress: bool) -> tuple[xr.Dataset, xr.Dataset, list[Path]]:
    """Sample the networks of a part, and draw them beside the theory; return numbers, summary and figures."""
    sampling = SAMPLINGS[part]
    with tqdm(total=len(sampling.blocks()), unit="block", desc=part, mininterval=0.1 if progress else 60) as bar:
        found = sample(sampling, folder / f"first-order-{part}", n_jobs=n_jobs, on_block=lambda: bar.update(1))
    summary = summarise(found)
    task = sampling.task
    figure = draw_learned(summary, task) if isinstance(task, CubicTeacher) else draw_modular(summary, task)
    return found, summary, _saved({part: figure}, folder)


def summary_text(summary: xr.Dataset) -> str:
    """Return the summary as a table with a row for each noise."""
    names = [str(name) for name in summary if f"{name}_se" in summary]
    lines = ["noise".ljust(8) + "".join(name.rjust(26) for name in names)]
    for noise in summary["noise"].values:
        row = summary.sel(noise=noise)
        cells = (f"{float(row[name]):.4f} ({float(row[f'{name}_se']):.4f})".rjust(26) for name in names)
        lines.append(f"{noise:<8g}" + "".join(cells))
    return "\n".join(lines)


def _saved(figures: dict[str, Figure], folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, figure in figures.items():
        paths.append(folder / f"first-order-{name}.png")
        figure.savefig(paths[-1], dpi=110)
    return paths
