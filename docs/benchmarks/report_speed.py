"""Measure how soon the charts of a report follow the pointer: ``python docs/benchmarks/report_speed.py [PAGE ...]``.

Without pages, the script writes three: one run of the demo, 32 runs of 200 steps with 10 layers, and 4 curves of
100,000 steps. With pages, it measures those, for example the pages of two versions. All pages are open at the same time
and take turns, so that other work on the machine meets all of them.

The pointer moves over the first chart, in headless Chromium without a GPU. Two numbers are the medians over moves:

- the time from the event to the end of the second frame after it (ms), since Bokeh draws in the second frame. An idle
  page needs 17 to 33 ms for it. The bar is 50 ms on a machine without other work;
- the CPU time of the page's main thread for each move (ms), which depends less on other work.

Exit code 1: the bar is missed.
"""

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import xarray as xr

from probe import concat
from probe.report import write_report

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from browser import Page, browser

BAR = 50  # ms
LISTEN = """
window.times = [];
const later = (e) => requestAnimationFrame(() => requestAnimationFrame(() => {
  const channel = new MessageChannel();
  channel.port1.onmessage = () => window.times.push(performance.now() - e.timeStamp);
  channel.port2.postMessage(0);
}));
window.addEventListener("pointermove", later, true);
"""
FRAME = """(() => {
  const all = document.getElementById("legend-p0").closest("figure");
  all.scrollIntoView();
  const box = all.querySelector("[data-root-id]").firstElementChild.getBoundingClientRect();
  return [box.left, box.top, box.width, box.height];
})()"""


def many_runs(n_runs: int = 32, n_steps: int = 200, n_layers: int = 10) -> xr.Dataset:
    """Return runs that generalise late, with a measure over layers and splits."""
    steps = np.unique(np.geomspace(1, 1e5, 3 * n_steps).astype(int))[:n_steps] - 1
    x = np.log10(steps + 1.0)
    share = {"train": 1 / (1 + np.exp(-8 * (x - 1))), "test": 1 / (1 + np.exp(-14 * (x - 2)))}
    several = []
    for seed in range(n_runs):
        rng = np.random.default_rng(seed)
        values = {f"{split}_accuracy": ("step", curve) for split, curve in share.items()}
        values |= {f"{split}_loss": ("step", 4 - 4 * y + 0.01 * rng.random(len(x))) for split, y in share.items()}
        depth = rng.random((len(x), 2, n_layers)) + x[:, None, None]
        values |= {f"information_{axis}": (("step", "split", "layer"), depth + 1) for axis in "xy"}
        coords = {"step": steps, "split": ["train", "test"], "layer": [f"blocks.{i}" for i in range(n_layers)]}
        several.append(xr.Dataset(values, coords))
    return concat(several, [f"seed {seed}" for seed in range(n_runs)])


def long_curves(n_steps: int = 100_000) -> xr.Dataset:
    """Return noisy curves of one run."""
    steps = np.arange(n_steps)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(4, n_steps))
    names = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
    curves = {name: ("step", np.clip(steps / 3e4 + one, 0, 1)) for name, one in zip(names, noise, strict=True)}
    return xr.Dataset(curves, {"step": steps})


def written(folder: Path) -> list[Path]:
    """Write the three pages."""
    sources = {"demo": ROOT / "reference/results/demo.nc", "32-runs": many_runs(), "100000-steps": long_curves()}
    return [write_report(source, folder / f"{name}.html", overwrite=True) for name, source in sources.items()]


class Follower:
    """A page over which the pointer moves, and what it has measured."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.name = page, str(path)
        page.open(path)
        page.js(LISTEN)
        page.call("Performance.enable", timeDomain="threadTicks")
        self.left, self.top, self.width, self.height = page.js(FRAME)
        self.cpu: list[float] = []

    def busy(self) -> float:
        """Return the CPU time of the main thread until now (ms)."""
        found = self.page.call("Performance.getMetrics")["metrics"]
        return 1e3 * next(one["value"] for one in found if one["name"] == "TaskDuration")

    def move(self, share: float) -> None:
        """Move the pointer to a share of the width, and wait until the charts are drawn."""
        before, count = self.busy(), self.page.js("window.times.length")
        x, y = self.left + (0.15 + 0.8 * share) * self.width, self.top + 0.5 * self.height
        self.page.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        self.page.wait(f"window.times.length > {count}")
        self.cpu.append(self.busy() - before)

    def result(self) -> tuple[float, float]:
        """Return the medians of both times (ms), without the first moves."""
        return statistics.median(self.page.js("window.times")[3:]), statistics.median(self.cpu[3:])


def main() -> int:
    """Measure all pages, print a table, and return 1 if one is slower than the bar."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", type=Path)
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--write", type=Path, help="only write the three pages to this folder")
    args = parser.parse_args()
    if args.write:
        args.write.mkdir(parents=True, exist_ok=True)
        print(*written(args.write), sep="\n")
        return 0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as open_pages:
        pages = args.pages or written(Path(folder))
        followers = [Follower(open_pages.enter_context(browser()), path) for path in pages]
        for i in range(args.moves):
            for one in followers:
                one.move((i * 0.381966) % 1)  # no two moves are near each other
                time.sleep(0.05)
        print("| page | pointer to charts (ms) | CPU time for each move (ms) |\n|---|---|---|")
        results = [one.result() for one in followers]
        for one, (latency, cpu) in zip(followers, results, strict=True):
            print(f"| {one.name} | {latency:.0f} | {cpu:.1f} |")
    return int(any(latency > BAR for latency, _ in results))


if __name__ == "__main__":
    sys.exit(main())
