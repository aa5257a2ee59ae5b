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
    splits = page.js("[...document.getElementById('split').options].map((one) => one.textContent)")
    assert splits[0] == "every split"  # a split can be called "all"
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
    assert page.js("getComputedStyle(document.body).getPropertyValue('--ground')") in ("#fff", "#17181a")  # as ground()
    assert columns == (2 if width == 1200 else 1)
    page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 50_000


def test_axis_with_step_zero(page: Page, tmp_path: Path) -> None:
    """Step 0 has a tick of its own, and a break stands between it and the logarithm of the other steps."""
    opened(page, series(), tmp_path)
    ticks = page.js("probeReport.model('p0-ticks').ticks.map(probeReport.tick)")
    assert ticks == ["0", "//", "1", "10", "100", "1k"]
    left, right = page.js("(({left, right}) => [left, right])(probeReport.model('p0-break'))")
    zero, one, ten = page.js("[0, 1, 10].map(probeReport.position)")
    assert zero < left < right < one
    assert ten - one == pytest.approx(1)
    page.point(*place(page, "p0", 0.07, 0.5))
    assert page.js("probeReport.state.step") == 0
    page.js("probeReport.model('steps').setv({ start: probeReport.position(100), end: probeReport.position(158) })")
    page.frame()
    assert page.js("probeReport.model('p0-ticks').ticks.map(probeReport.tick)") == [
        "100",
        "110",
        "120",
        "130",
        "140",
        "150",
    ]


def test_zoom_shows_all_observations(page: Page, tmp_path: Path) -> None:
    """Where the page holds all observations, a zoomed chart shows them; otherwise it states the reduction."""
    steps = np.arange(20_000)
    long = xr.Dataset({"train_loss": ("step", np.sin(steps / 9.0))}, {"step": steps})
    opened(page, long, tmp_path)
    note, (xs,) = "document.getElementById('note-p0').textContent", source(page, "p0-lines")["xs"]
    assert 1000 < len(xs) <= 2002
    assert page.js(note) == "reduced: least and largest value per pixel column; zoom in to see all observations"
    zoom = "probeReport.model('steps').setv({ start: probeReport.position(9000), end: probeReport.position(9999) })"
    page.js(zoom)
    page.frame()
    (xs,), (ys,) = source(page, "p0-lines")["xs"], source(page, "p0-lines")["ys"]
    assert 1000 <= len(xs) <= 1003  # with a neighbour on each side
    assert {*np.float32(np.sin(np.arange(9000, 10_000) / 9.0))} <= {*np.float32(ys)}
    assert page.js(note) == ""
    assert not page.js("document.getElementById('whole').hidden")
    page.js("document.getElementById('whole').click()")
    page.frame()
    assert page.js("document.getElementById('whole').hidden")
    is_quiet(page)


def test_zoom_of_reduced_curves(page: Page, tmp_path: Path) -> None:
    steps = np.arange(20_000)
    long = xr.Dataset({"train_loss": ("step", np.sin(steps / 9.0))}, {"step": steps})
    most = write_report(long, tmp_path / "whole.html").stat().st_size / 1e6 - 0.05
    page.open(write_report(long, tmp_path / "report.html", max_mb=most))
    note = "document.getElementById('note-p0').textContent"
    reduced = "reduced: least and largest value per pixel column (1,000 columns for 20,000 observations)"
    assert page.js(note) == reduced
    page.js("probeReport.model('steps').setv({ start: probeReport.position(9000), end: probeReport.position(9999) })")
    page.frame()
    assert page.js(note) == f"{reduced} of the whole record; this page does not hold the observations between them"


def test_keyboard_and_screen_reader(page: Page, tmp_path: Path) -> None:
    """The keyboard visits controls and tables in their order, and no chart. The values of a step are announced."""
    opened(page, concat([series(seed) for seed in range(3)], ["a", "b", "c"]), tmp_path)
    visited = []
    for _ in range(14):
        page.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
        found = "(({id, tagName, className}) => id || className || tagName)(document.activeElement)"
        visited.append(page.js(found))
        assert not page.js("!!document.activeElement.closest('.plot')")
    assert visited[:7] == ["skip", "run", "layer", "split", "measure", "step", "SUMMARY"]
    assert visited[7:9] == ["wide", "wide"]  # tables, which may be wider than the page
    named = "[...document.querySelectorAll('select, input')].every((one) => one.labels.length === 1)"
    assert page.js(named)
    page.js("probeReport.moved('p0', probeReport.position(100), 0)")
    page.wait("document.getElementById('status').textContent !== ''", 10)
    assert page.js("document.getElementById('status').textContent").startswith("step 100; train_accuracy 0.99")
    assert page.js("document.getElementById('status').textContent").count(";") == 4
    assert page.js("document.getElementById('step').getAttribute('aria-valuetext')") == "100"


@pytest.mark.parametrize("dark", [False, True])
def test_contrast(page: Page, tmp_path: Path, dark: bool) -> None:
    """All text has a contrast of 4.5 or more (WCAG 2.2, criterion 1.4.3), also that of the charts; lines have 3."""
    opened(page, series(), tmp_path, dark=dark)
    page.js("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    pairs = page.js(TEXTS)
    assert len(pairs) >= 2
    ground = "getComputedStyle(document.body).backgroundColor"
    axis = page.js("probeReport.model('p0').below[0].major_label_text_color")
    assert min(contrast(*map(rgb, pair)) for pair in pairs) >= 4.5
    assert contrast(rgb(axis), rgb(page.js(ground))) >= 4.5
    colours = source(page, "p0-lines")["colour"] + source(page, "plane-lines")["colour"]
    faint = [colour for colour in colours if contrast(rgb(colour), rgb(page.js(ground))) < 3]
    assert not faint


# The colours of each text of the page and of what is behind it.
TEXTS = """[...new Set([...document.querySelectorAll("main *")].filter(
  (one) => !one.closest(".plot, [hidden]") && [...one.childNodes].some((part) => part.data?.trim())
).map((one) => {
  let behind = one;
  while (behind && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
  return JSON.stringify([getComputedStyle(one).color, getComputedStyle(behind ?? document.body).backgroundColor]);
}))].map(JSON.parse)"""


def rgb(colour: str) -> list[float]:
    """The parts of "#rrggbb" or "rgb(r, g, b)", from 0 to 1."""
    if colour.startswith("#"):
        colour = colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])
        return [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    return [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]


def contrast(one: list[float], other: list[float]) -> float:
    """The ratio of luminances of WCAG 2.2."""
    linear = np.array([one, other])
    linear = np.where(linear <= 0.04045, linear / 12.92, ((linear + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return float((high + 0.05) / (low + 0.05))


@pytest.mark.parametrize("dark", [False, True])
def test_print(page: Page, tmp_path: Path, dark: bool) -> None:
    """On paper the page is light, the charts are pictures within its width, and all tables are open."""
    opened(page, series(), tmp_path, width=720, dark=dark)
    page.js("dispatchEvent(new Event('beforeprint'))")
    page.call("Emulation.setEmulatedMedia", media="print")
    page.wait("[...document.querySelectorAll('img.printed')].every((one) => one.complete && one.naturalWidth > 0)")
    widths = page.js("[...document.querySelectorAll('img.printed')].map((one) => one.getBoundingClientRect().width)")
    assert len(widths) == page.js("probeReport.data.panels.length") + 1
    assert 200 < min(widths) <= max(widths) < 360
    assert page.js("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.js("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert page.js("document.querySelector('.plot [data-root-id]').getClientRects().length") == 0
    assert not page.js("document.querySelectorAll('details:not([open])').length")
    darkest = page.js(DARKEST)
    assert darkest < 120  # the axes are dark on white paper
    page.screenshot(tmp_path / "print.png")
    page.call("Emulation.setEmulatedMedia", media="")
    page.js("dispatchEvent(new Event('afterprint'))")
    assert not page.js("document.querySelectorAll('img.printed, [data-closed]').length")
    is_quiet(page)


# The darkest pixel of the left edge of a printed chart, where the axis is.
DARKEST = """(() => {
  const image = document.querySelector("img.printed"), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [60, image.naturalHeight];
  const context = canvas.getContext("2d");
  context.fillStyle = "white";
  context.fillRect(0, 0, 60, canvas.height);
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, 60, canvas.height);
  let least = 255;
  for (let i = 0; i < data.length; i += 4) least = Math.min(least, (data[i] + data[i + 1] + data[i + 2]) / 3);
  return least;
})()"""


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
