"""Figures of the pages on first-order transitions, from reference/results; `figures.py` writes them.

`python -m reference first-order PART` records the same runs anew, and draws the same figures.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

import probe
from reference.experiments import draw_recorded
from reference.theory import (
    SAMPLINGS,
    CubicTeacher,
    OrderTests,
    draw_actions,
    draw_learned,
    draw_modular,
    draw_order,
    draw_phases,
    order_tests,
    summarise,
)

RESULTS = Path(__file__).parents[2] / "reference" / "results"
TEACHER = CubicTeacher(noise=0.15)  # figure 2 of arXiv:2310.03789
RATES = (50, 200, 800)  # steps for each value of the weight decay
PARTS = {  # part of the command: its recordings
    "grokking": ("grokking", "no-decay", "shuffled"),
    "demo": ("demo", "demo-control"),
    "sweeps": tuple(f"sweep-{n}" for n in RATES),
    "collapse": tuple(f"collapse-{n}" for n in RATES),
    "boundary": ("boundary",),
}
NAMES = {"sweeps": "loops"}  # parts whose figure has another name


def recorded(name: str) -> xr.Dataset:
    """Return a recording of reference/results."""
    return probe.load(RESULTS / f"first-order-{name}.nc")


def draw_part(part: str) -> Figure:
    """Draw the trained networks of a part."""
    (figure,) = draw_recorded(part, {name: recorded(name) for name in PARTS[part]}).values()
    return figure


def draw_theory_of_phases() -> Figure:
    """Draw the phase diagram of figure 2."""
    return draw_phases(TEACHER, np.linspace(0.05, 0.3, 51), np.geomspace(200, 3000, 31))


def draw_sampled(part: str) -> Figure:
    """Draw the sampled networks of a part beside the theory."""
    draw = draw_modular if part == "modular" else draw_learned
    return draw(summarise(recorded(part)), SAMPLINGS[part].task)


@cache
def order() -> tuple[xr.Dataset, OrderTests]:
    """Return the recorded chains and loops, and the tests of their order."""
    found = recorded("order")
    return found, order_tests(found)


def draw_order_of(name: str) -> Figure:
    """Draw one of the figures of the tests of order."""
    return draw_order(*order())[name]


PICTURES: dict[str, Callable[[], Figure]] = {
    "actions": partial(draw_actions, TEACHER, (0.1, 0.15, 0.1787, 0.2, 0.3)),
    "phases": draw_theory_of_phases,
    "learned": partial(draw_sampled, "sweep"),
    "modular": partial(draw_sampled, "modular"),
    **{NAMES.get(part, part): partial(draw_part, part) for part in PARTS},
    **{f"order_{name}": partial(draw_order_of, name) for name in ("overlaps", "barriers", "loops")},
}
