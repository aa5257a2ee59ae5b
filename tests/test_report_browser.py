"""The report page in headless Chromium: it renders, its charts are linked, it is quick, and it requests nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from browser import CHROMIUM, Page, browser
from test_report import SCRIPT, STEPS, series

from probe import concat
from probe.report import write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:tornado"),
]


@pytest.fixture  # a browser for each test: some versions do not leave a page under the pointer
def page() -> Iterator[Page]:
    with browser() as tab:
        yield tab


def opened(page: Page, source: xr.Dataset, folder: Path, **options: Any) -> None:
    page.errors.clear()
    page.open(write_report(source, folder / "report.html"), **options)


def is_quiet(page: Page) -> None:
    """No error, and no request beside the file itself (again at a reload) and the pictures within it."""
    assert page.errors == []
    assert len({url.split("#")[0] for url in page.requests if not url.startswith("data:")}) == 1
    assert page.requests[0].startswith("file:")


def source(page: Page, name: str) -> dict[str, Any]:
    return json.loads(page.js(f"JSON.stringify(probeReport.model('{name}').data)"))


def choose(page: Page, what: str, value: object) -> None:
    one = f"document.getElementById('{what}')"
    page.js(f"{one}.value = '{value}'; {one}.dispatchEvent(new Event('change'))")
    page.frame()


def place(page: Page, chart: str, across: float, down: float) -> tuple[float, float]:
    code = (
        f"(() => {{ const all = document.getElementById('legend-{chart}').closest('figure'); all.scrollIntoView(); "
        "const one = all.querySelector('[data-root-id]').firstElementChild.getBoundingClientRect(); "
        f"return [one.left + {across} * one.width, one.top + {down} * one.height]; }})()"
    )
    x, y = page.js(code)
    return x, y


# Places (px) of the line and the dots of a chart, as drawn, and as Bokeh computes them.
MARKED = """(() => {{
  const plot = document.getElementById("plot-p{i}"), view = Bokeh.index.get(probeReport.model("p{i}"));
  const number = (one, name) => Number(one.getAttribute(name));
  const dots = [...plot.querySelectorAll("circle")].filter((one) => !one.style.display);
  const line = Number(plot.querySelector("line").getAttribute("transform").match(/[\\d.]+/)[0]);
  const marked = probeReport.data.panels[{i}].marked, {{ x_scale, y_scale }} = view.frame;
  const across = (step) => x_scale.compute(probeReport.position(step));
  const expected = marked.flatMap((one) => [across(one.step), y_scale.compute(one.value)]);
  return [
    [line, ...dots.flatMap((one) => [number(one, "cx"), number(one, "cy")])],
    [across(probeReport.state.step), ...expected],
  ];
}})()"""


def test_charts_are_linked(page: Page, tmp_path: Path) -> None:
    runs = concat([series(seed) for seed in range(3)], ["a", "b", "c"])
    opened(page, runs, tmp_path)
    is_quiet(page)
    inside = "[...document.querySelectorAll('[data-root-id]')].map((one) => one.firstElementChild)"
    heights = page.js(f"{inside}.map((one) => one.clientHeight)")
    assert len(heights) == page.js("probeReport.data.panels.length") + 1
    assert min(heights) > 200
    n_panels = page.js("probeReport.data.panels.length")
    assert len(source(page, "p0-lines")["xs"]) == 8  # three runs and their median, two accuracies

    page.point(*place(page, "p0", 0.6, 0.5))
    step = page.js("probeReport.state.step")
    assert step in STEPS
    assert 0 < step < STEPS[-1]
    for i in range(n_panels):
        drawn, expected = page.js(MARKED.format(i=i))
        assert len(drawn) == len(expected) > 2
        assert np.array(drawn) == pytest.approx(np.array(expected), abs=0.1)
    median = runs.sel(step=int(step)).median("run")
    values_x = page.js("probeReport.marked_in_plane().map((one) => one[0])")
    assert values_x == pytest.approx(median["information_x"].sel(split="train").values, rel=1e-6)
    page.js("document.getElementById('at-step').open = true")
    page.frame()
    cells = page.js("[...document.querySelectorAll('#values tbody td')].map((one) => one.textContent)")
    assert float(cells[1]) == pytest.approx(median["train_accuracy"].item(), rel=1e-4)  # the first row

    before = page.js("probeReport.state.step")
    page.point(*place(page, "plane", 0.8, 0.3))
    assert page.js("probeReport.state.step") != before  # the nearest point of the plane

    page.js("document.getElementById('step').focus()")
    page.call("Input.dispatchKeyEvent", type="keyDown", key="Home", code="Home", windowsVirtualKeyCode=36)
    page.frame()
    assert page.js("document.getElementById('at').textContent") == "0"

    shared = page.js("probeReport.model('p0').x_range === probeReport.model('p1').x_range")
    assert shared


def test_selectors(page: Page, tmp_path: Path) -> None:
    """Run, layer, split and measure; a reload keeps them."""
    runs = concat([series(seed) for seed in range(3)], ["a", "b", "c"])
    opened(page, runs, tmp_path)
    choose(page, "run", 1)
    choose(page, "layer", 0)
    choose(page, "split", "test")
    (ys,) = source(page, "p2-lines")["ys"]
    assert ys == pytest.approx(runs["information_x"].sel(run="b", layer="blocks.0", split="test").values, rel=1e-6)
    assert page.js("document.getElementById('legend-p2').innerText") == "test, blocks.0"
    assert source(page, "p0-phases")["x0"]  # of one run
    assert source(page, "p0-markers")["x"]
    choose(page, "layer", -1)
    assert len(source(page, "p2-lines")["ys"]) == 2
    names = page.js("[...document.getElementById('measure').options].map((one) => one.textContent)")
    choose(page, "measure", names.index("zeta"))
    last = page.js("probeReport.data.panels.length") - 1
    assert page.js(f"document.getElementById('title-p{last}').textContent") == "zeta"
    page.js("document.documentElement.dataset.ready = 'no'; location.reload()")
    page.wait("document.documentElement?.dataset.ready === 'yes'")
    assert page.js("document.getElementById('run').value") == "1"
    assert page.js("document.getElementById('split').value") == "test"
    is_quiet(page)


@pytest.mark.parametrize("width", [1200, 600])
@pytest.mark.parametrize("dark", [False, True])
def test_widths_and_colours(page: Page, tmp_path: Path, width: int, dark: bool) -> None:
    """Nothing is wider than the page, and the ground is light or dark."""
    opened(page, series(), tmp_path, width=width, dark=dark)
    is_quiet(page)
    assert page.js("document.documentElement.scrollWidth <= window.innerWidth")
    ground = page.js("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") != dark
    columns = page.js("getComputedStyle(document.querySelector('.charts')).gridTemplateColumns.split(' ').length")
    assert columns == (2 if width == 1200 else 1)
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 50_000


def test_markup_is_text(page: Page, tmp_path: Path) -> None:
    runs = concat([series(seed, (SCRIPT, "$$x$$"), "<img src=x>") for seed in range(2)], [SCRIPT, "<b>"])
    opened(page, runs, tmp_path)
    is_quiet(page)
    choose(page, "layer", -1)
    assert SCRIPT in page.js("document.getElementById('legend-plane').innerText")
    assert page.js("document.querySelectorAll('img, b').length") == 0


@pytest.mark.filterwarnings("ignore::probe.ProbeWarning")
@pytest.mark.parametrize("values", [[1.0], [np.nan] * 5, [2.0] * 5], ids=["one", "NaN", "constant"])
def test_hardly_any_data(page: Page, tmp_path: Path, values: list[float]) -> None:
    opened(page, xr.Dataset({"train_loss": ("step", values)}, {"step": np.arange(len(values))}), tmp_path)
    is_quiet(page)


def seconds_of_moves(page: Page) -> float:
    """Mean time between a move of the pointer and the next frame, over 10 moves."""
    code = """(async () => {
      const start = performance.now();
      for (let i = 0; i < 10; i++) {
        probeReport.moved("p0", i / 3, 0);
        await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      }
      return (performance.now() - start) / 10000;
    })()"""
    return float(page.js(code))


def test_many_runs_stay_smooth(page: Page, tmp_path: Path) -> None:
    """32 runs of 200 steps and 10 layers. Others may use the machine at the same time, so the bound is wide."""
    layers = tuple(f"blocks.{i}" for i in range(10))
    steps = np.unique(np.geomspace(1, 1e5, 420).astype(int))[:200]
    opened(page, concat([series(seed, layers).interp(step=steps) for seed in range(32)]), tmp_path)
    is_quiet(page)
    assert seconds_of_moves(page) < 0.2


def test_long_curves_stay_smooth(page: Page, tmp_path: Path) -> None:
    steps = np.arange(100_000)
    noise = np.random.default_rng(0).normal(size=(4, len(steps)))
    names = ("train_accuracy", "test_accuracy", "train_loss", "test_loss")
    curves = {name: ("step", np.clip(steps / 3e4 + 0.01 * one, 0, 1)) for name, one in zip(names, noise, strict=True)}
    opened(page, xr.Dataset(curves, {"step": steps}), tmp_path)
    is_quiet(page)
    assert seconds_of_moves(page) < 0.2
