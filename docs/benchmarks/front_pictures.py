"""The pictures of README and of the front page; `figures.py 'front*'` draws them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from probe import PhaseDetector, load, plots, read

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "reference" / "results"
LOG = ROOT / "tests" / "logs" / "tensorboard" / "plain"
CARD = 3.6, 2.5  # inches
FOUR = ("train_accuracy", "test_accuracy"), ("train_loss", "test_loss"), "information_x", "local_complexity_total"


def draw_demo() -> Figure:
    """Draw four panels of the demo."""
    series = load(RESULTS / "demo.nc").sel(split=["train", "test"])
    return plots.overview(series, PhaseDetector().fit(series), panels=FOUR)


def draw_model(ax: Axes) -> None:
    """Draw the information of a layer in the demo, with the phases."""
    series = load(RESULTS / "demo.nc").sel(split=["train", "test"])
    plots.panel(series, ["information_x"], PhaseDetector().fit(series), ax=ax)


def draw_logs(ax: Axes) -> None:
    """Draw the losses of a log of TensorBoard, with the phases."""
    series = read(LOG)
    plots.panel(series, ["train_loss", "test_loss"], PhaseDetector(chance=0.01).fit(series), ax=ax)


def draw_papers(ax: Axes) -> None:
    """Draw the information of eight seeds of division modulo 97."""
    series = load(RESULTS / "division-97-probes.nc").sel(split=["train", "test"])
    plots.curves(series, "information_x", ax=ax)


def draw_card(draw: Callable[[Axes], None]) -> Figure:
    """Draw one panel in the size of a card."""
    figure, ax = plt.subplots(figsize=CARD, layout="constrained")
    draw(ax)
    return figure


PICTURES: dict[str, Callable[[], Figure]] = {
    "": draw_demo,
    **{f"_{name}": partial(draw_card, draw) for name, draw in
       {"model": draw_model, "logs": draw_logs, "papers": draw_papers}.items()},
}  # fmt: skip
