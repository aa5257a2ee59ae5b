"""Draw the images of README and pages: `python docs/benchmarks/figures.py --list`, `... NAME [NAME ...]`, `... --all`.

Each image of docs/images has one entry in `FIGURES`. Its sources are the recordings in reference/results, trainings of
a few seconds, and the examples of the pages. Names may have wildcards: `'measures/*'`. The images of `DARK` are also
drawn for dark pages, as NAME-dark.png. Images have a palette of 256 colours if this changes no visible colour.
"""

import argparse
import contextlib
import fnmatch
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2] / "tests")]
import chaos_pictures
import demo_seeds
import first_order_pictures
import front_pictures
import information_speed
import measure_pictures
import published_curve
import real_curves_figure
import region_pictures

from probe.cli import main as probe_command
from reference.claims import find_papers

DOCS = Path(__file__).parents[1]
ROOT = DOCS.parent
IMAGES = DOCS / "images"
RESULTS = ROOT / "reference" / "results"
LOG = ROOT / "tests" / "logs" / "tensorboard" / "plain"
DPI = 100
DARK = tuple(f"front{name}" for name in front_pictures.PICTURES)  # of README and the front page
DARK_PAGE = {"figure.facecolor": "#131416", "axes.facecolor": "#131416", "savefig.facecolor": "#131416"}
_VISIBLE = 20  # of 255, from which a difference of a colour can be visible
_REPORT = 1185, 2410  # pixels of the picture, without the scroll bar
_MARK_STEP = """(() => { const slider = document.getElementById('step'); slider.value = slider.max / 2;
slider.dispatchEvent(new Event('input')); slider.dispatchEvent(new Event('change')); })()"""

Drawing = Figure | Image.Image


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """Work in a new folder."""
    with tempfile.TemporaryDirectory() as name, contextlib.chdir(name):
        yield Path(name)


def opened(path: Path) -> Image.Image:
    """Return an image from a file."""
    with Image.open(path) as image:
        return image.convert("RGB")


def draw_log() -> Image.Image:
    """Draw what `probe plot` draws of the log of docs/logs.md."""
    with new_folder() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        shutil.copytree(LOG, folder / "runs")
        assert probe_command(["plot", "runs", "--chance", "0.01", "-o", "runs.png"]) == 0
        return opened(Path("runs.png"))


@cache
def tutorial() -> Any:
    """Run the tutorial, and return its detector."""
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "tutorial.md").read_text(encoding="utf-8"), re.S)
    with new_folder(), open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        exec("\n".join(blocks), names)
    return names["detector"]


def draw_tutorial() -> Figure:
    """Draw the figure of the tutorial."""
    figure: Figure = tutorial().plot()
    return figure


def draw_report() -> Image.Image:
    """Return the top of the report on the demo, as Chromium shows it with a marked step."""
    from browser import CHROMIUM, browser

    if CHROMIUM is None:
        raise RuntimeError("Expected Chromium, got none; install it, or name the other figures")
    with new_folder() as folder, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        assert probe_command(["report", str(RESULTS / "demo.nc"), "-o", "report.html"]) == 0
        with browser() as page:
            page.open(folder / "report.html", width=1200)
            page.js(_MARK_STEP)
            page.frame()
            page.screenshot(folder / "report.png")
        return opened(Path("report.png")).crop((0, 0, *_REPORT))


@cache
def evidence(identifier: str) -> Any:
    """Return the recordings of a paper."""
    return find_papers(identifier)[0].evidence()


def draw_of_paper(identifier: str, name: str) -> Figure:
    """Draw a figure of the page of a paper."""
    return find_papers(identifier)[0].figures[name](evidence(identifier))


FIGURES: dict[str, Callable[[], Drawing]] = {
    **{f"front{name}": draw for name, draw in front_pictures.PICTURES.items()},
    "demo": demo_seeds.draw,
    "digits": draw_tutorial,
    "logs": draw_log,
    "report": draw_report,
    "real_curves": real_curves_figure.draw_all,
    "information_cost": information_speed.draw,
    **{name: partial(published_curve.draw, *how) for name, how in published_curve.FIGURES.items()},
    **{f"chaos_{name}": partial(chaos_pictures.draw, name) for name in chaos_pictures.NAMES},
    **{f"first_order_{name}": draw for name, draw in first_order_pictures.PICTURES.items()},
    **{f"regions_{name}": draw for name, draw in region_pictures.PICTURES.items()},
    **{f"measures/{name}": draw for name, draw in measure_pictures.PICTURES.items()},
    **{name: partial(draw_of_paper, paper.id, name) for paper in find_papers() for name in paper.figures},
}


def write(name: str, folder: Path = IMAGES) -> list[Path]:
    """Draw an image, and its dark variant if it has one; return the files."""
    written = [_saved(FIGURES[name](), folder / f"{name}.png")]
    if name in DARK:
        with plt.style.context(["dark_background", DARK_PAGE]):
            written.append(_saved(FIGURES[name](), folder / f"{name}-dark.png"))
    plt.close("all")
    return written


def _saved(drawing: Drawing, path: Path) -> Path:
    """Save an image, with a palette if no difference is visible."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(drawing, Figure):
        drawing.savefig(path, dpi=DPI, bbox_inches="tight", pad_inches=0.06)
        drawing = opened(path)
    few = drawing.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    change = np.abs(np.asarray(few.convert("RGB"), int) - np.asarray(drawing, int)).max(-1)
    (few if (change > _VISIBLE).mean() < 1e-3 else drawing).save(path, optimize=True)
    return path


def chosen(patterns: Sequence[str]) -> list[str]:
    """Return the names that match any of the patterns; raise ValueError for a pattern without a match."""
    for pattern in patterns:
        if not fnmatch.filter(FIGURES, pattern):
            raise ValueError(f"Expected names of figures, got {pattern!r}; --list prints all names")
    return [name for name in FIGURES if any(fnmatch.fnmatch(name, pattern) for pattern in patterns)]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="figures to draw; wildcards are allowed")
    parser.add_argument("--all", action="store_true", help="draw all figures, in about five CPU minutes")
    parser.add_argument("--list", action="store_true", help="print the names, and draw nothing")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder (default: docs/images)")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.list:
        print(*FIGURES, sep="\n")
        return
    names = list(FIGURES) if args.all else chosen(args.names)
    if not names:
        parser.error("Expected names of figures, --all or --list, got none; pass one of them")
    for name in names:
        for path in write(name, args.out):
            print(f"{path} ({path.stat().st_size / 1000:.0f} kB)", flush=True)


if __name__ == "__main__":
    main()
