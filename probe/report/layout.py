"""The part of the page with controls and charts, as HTML."""

from collections.abc import Sequence

from probe.report.text import safe
from probe.report.view import View, panel_title

_HELP = (
    "A step under the pointer is marked in all charts; the slider does the same. A drag zooms all charts over {axis}, "
    "and a double click resets one chart. Vertical lines are markers, with their intervals."
)
_BREAK = "The axis has a break (//) between step 0 and the first later step, since a logarithm has no 0."
_LIMITS = "Dashed lines in the information plane are its limits: I(T+n;Y) is at most I(T+n;X) and at most H(Y)."
_PLANE = "information plane: I(T+n;Y) against I(T+n;X) (bits), one line for each layer"


def chart_html(view: View, places: Sequence[str], *, reload: int) -> str:
    """Return the controls and the places of the figures."""
    if not view.panels:
        return "<p>There is no curve to draw.</p>"
    axis = safe(view.series["step"].attrs.get("axis", "step"))
    scale = f"{axis}, logarithmic" if view.scale.log else axis
    titles = [panel_title(view.series, one) for one in view.panels]
    charts = "".join(_chart(title, f"p{i}", places[i], scale) for i, title in enumerate(titles))
    if view.plane:
        charts += _chart(_PLANE, "plane", places[-1], "I(T+n;X) (bits)")
    notes = [_HELP.format(axis=axis), _BREAK if view.scale.zero else "", _LIMITS if view.plane else ""]
    return (
        "<noscript><p>The charts need JavaScript. All results are in the tables below.</p></noscript>"
        f"{_controls(axis, reload)}"
        f'<p class="soft help">{" ".join(filter(None, notes))}</p>'
        '<ul class="legend" id="phases" aria-label="Shades of the charts" hidden></ul>'
        f'<p id="status" role="status" class="unseen"></p><div class="charts">{charts}</div>'
        f'<details id="at-step"><summary>Values at the marked {axis}</summary><table id="values"><caption>Nearest '
        f'observation to the marked {axis}</caption><thead><tr><th scope="col">curve</th><th scope="col" class="n">'
        f'{axis}</th><th scope="col" class="n">value</th></tr></thead><tbody></tbody></table></details>'
    )


def _controls(axis: str, reload: int) -> str:
    """Return the selectors, the slider over steps, and the check box of a page that is watched."""
    choices = "".join(
        f'<label>{word} <select id="{word}"></select></label>' for word in ("run", "layer", "split", "measure")
    )
    slider = (
        f'<label>{axis} <input type="range" id="step" min="0" max="0" value="0"></label>'
        '<output id="at" for="step" aria-live="off">none</output>'
    )
    whole = f'<button type="button" id="whole" hidden>show every {axis}</button>'
    again = f'<label><input type="checkbox" id="reload"> load again every {reload} s</label>' if reload else ""
    return f'<div class="controls" role="group" aria-label="What the charts show">{choices}{slider}{whole}{again}</div>'


def _chart(title: str, name: str, place: str, axis: str) -> str:
    return (
        f'<figure class="chart" aria-labelledby="title-{name}"><div class="head">'
        f'<h3 id="title-{name}">{safe(title)}</h3>'
        f'<ul class="legend" id="legend-{name}"></ul></div>'
        f'<div class="plot" id="plot-{name}" aria-hidden="true">{place}</div>'
        f'<p class="axis">{axis}</p><p class="note" id="note-{name}"></p></figure>'
    )
