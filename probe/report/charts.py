"""The charts of a report as Bokeh figures without data; the script of the page fills and links them.

No text of the user is part of a figure: names of runs, layers and curves stand in HTML, where they cannot become markup
or formulas.
"""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_HEIGHT = 280
_PLANE_HEIGHT = 360
_ZOOMED = "window.probeReport?.zoomed()"
_RESIZED = "window.probeReport?.resized()"
_TICK = "return window.probeReport ? window.probeReport.tick(tick) : ''"
_MOVED = "if (window.probeReport) window.probeReport.moved({name!r}, cb_obj.x, cb_obj.y)"
# By name of a source, its columns.
_SOURCES = {
    "phases": ("x0", "x1", "colour"),
    "intervals": ("x0", "x1", "colour"),
    "markers": ("x", "colour"),
    "labels": ("x", "y", "text"),
    "bands": ("xs", "ys", "colour"),
    "lines": ("xs", "ys", "colour", "width", "alpha", "dash"),
    "dots": ("x", "y", "colour"),
    "rings": ("x", "y", "colour"),
}


def need_bokeh() -> None:
    """Raise ImportError if Bokeh is not installed."""
    if find_spec("bokeh") is None:
        raise ImportError("Expected the package bokeh for a report, got none; pip install 'bokeh>=3.4'")


@cache
def bokeh_script() -> str:
    """Return the code of BokehJS, without its widgets and without MathJax."""
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh"], minified=True).js_raw)


@cache  # a watched page is written again and again
def charts(panels: tuple[bool, ...], *, plane: bool) -> tuple[str, list[str]]:
    """Return the script that draws the figures, and the HTML of their places.

    Parameters
    ----------
    panels : tuple of bool
        For each panel, whether its y axis is logarithmic.
    plane : bool
        Whether there is an information plane; it is the last figure.
    """
    from bokeh.embed import components
    from bokeh.models import CustomJS, Range1d

    steps = Range1d(0, 1, name="steps")
    for end in ("start", "end"):
        steps.js_on_change(end, CustomJS(code=_ZOOMED))
    figures = {f"p{i}": _panel(f"p{i}", steps, log_y=one) for i, one in enumerate(panels)}
    if plane:
        figures["plane"] = _plane()
    script, places = components(figures, wrap_script=False)
    return script, [places[name] for name in figures]


def _figure(plotting: ModuleType, name: str, **options: Any) -> Any:
    from bokeh.models import CustomJS, Range1d

    tools = "xpan,xwheel_zoom,box_zoom,reset,save" if "x_range" in options else "pan,wheel_zoom,box_zoom,reset,save"
    options = {"x_range": Range1d(0, 1), "height": _HEIGHT} | options
    one = plotting.figure(
        name=name,
        y_range=Range1d(0, 1),
        sizing_mode="stretch_width",
        tools=tools,
        active_drag="box_zoom",
        toolbar_location="above",
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        min_border_right=12,
        **options,
    )
    one.toolbar.logo = None
    one.toolbar.autohide = True
    one.js_on_event("doubletap", CustomJS(args={"figure": one}, code="figure.reset.emit()"))
    one.js_on_event("mousemove", CustomJS(code=_MOVED.format(name=name)))
    for size in ("inner_width", "inner_height"):
        one.js_on_change(size, CustomJS(code=_RESIZED))
    for end in ("start", "end"):
        one.y_range.js_on_change(end, CustomJS(code=_RESIZED))
    return one


def _sources(name: str) -> dict[str, Any]:
    from bokeh.models import ColumnDataSource

    return {
        part: ColumnDataSource({column: [] for column in columns}, name=f"{name}-{part}")
        for part, columns in _SOURCES.items()
    }


def _panel(name: str, steps: Any, *, log_y: bool) -> Any:
    """Return a figure over positions of steps. The script of the page sets its ticks, which are steps."""
    from bokeh import plotting
    from bokeh.models import BoxAnnotation, CustomJSTickFormatter, FixedTicker

    one = _figure(plotting, name, x_range=steps, y_axis_type="log" if log_y else "linear")
    one.xaxis.ticker = one.xgrid.ticker = FixedTicker(ticks=[], name=f"{name}-ticks")
    one.xaxis.formatter = CustomJSTickFormatter(code=_TICK)
    source = _sources(name)
    one.vstrip(x0="x0", x1="x1", source=source["phases"], fill_color="colour", line_color=None, level="underlay")
    one.vstrip(x0="x0", x1="x1", source=source["intervals"], fill_color="colour", fill_alpha=0.15, line_color=None)
    one.vspan(x="x", source=source["markers"], line_color="colour", line_dash="dotted", line_width=1.5)
    one.patches("xs", "ys", source=source["bands"], fill_color="colour", fill_alpha=0.2, line_color=None)
    _lines(one, source)
    one.text(
        "x", "y", "text", source=source["labels"], name="label", angle=1.5708, text_font_size="11px",
        text_align="right", x_offset=-2,
    )  # fmt: skip
    slit = BoxAnnotation(left=0, right=0, fill_alpha=1, line_color=None, visible=False, name=f"{name}-break")
    one.add_layout(slit)
    return one


def _plane() -> Any:
    from bokeh import plotting
    from bokeh.models import CustomJS, Slope, Span

    one = _figure(plotting, "plane", height=_PLANE_HEIGHT)
    for end in ("start", "end"):
        one.x_range.js_on_change(end, CustomJS(code=_RESIZED))
    source = _sources("plane")
    one.add_layout(Slope(gradient=1, y_intercept=0, line_color="#999999", line_dash="dashed"))
    one.add_layout(Span(dimension="width", name="plane-ceiling", line_color="#999999", line_dash="dashed"))
    _lines(one, source)
    one.scatter("x", "y", source=source["dots"], size=4, fill_color="colour", line_color=None)
    one.scatter("x", "y", source=source["rings"], size=11, fill_color=None, line_color="colour", line_width=2)
    return one


def _lines(one: Any, source: dict[str, Any]) -> None:
    one.multi_line(
        "xs",
        "ys",
        source=source["lines"],
        line_color="colour",
        line_width="width",
        line_alpha="alpha",
        line_dash="dash",
    )
