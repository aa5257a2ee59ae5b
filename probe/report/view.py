"""What a report shows at first: its panels, choices, markers and phases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.errors import printable
from probe.plots.axes import PHASES, drawn_steps, is_logarithmic, marker_colours, marker_labels, step_edges
from probe.plots.lines import colour_of
from probe.plots.panels import PLANE, Panel, standard_panels
from probe.report.content import MAX_THIN, MEDIAN, Content, groups
from probe.report.text import safe

_MOST_PANELS = 6  # beside the plane and the panel of a measure that the reader chooses
_NEAR = 0.045  # of the axis, below which labels of markers are drawn at different heights
_OTHERS = ("#7d8f2e", "#8a5a9e", "#3d8f8f", "#a8772b", "#c05a86", "#5a6f9e")  # of curves without a colour of their own


_LIMITS = "Dashed lines in the information plane are its limits: I(T+n;Y) is at most I(T+n;X) and at most H(Y)."


class View:
    """The panels of a report, and the values of its controls.

    Parameters
    ----------
    series : xarray.Dataset
    detector : PhaseDetector, optional
    names : list of str
        The variables that are curves.

    Attributes
    ----------
    panels : list of Panel
        Without the plane. The last one, without names, shows the measure that the reader chooses.
    plane, log : bool
        Whether there is an information plane, and whether the axis of steps is logarithmic.
    first : list of str
        The variables that are drawn at first.
    layer : int or None
        Position of the layer that is drawn at first.
    """

    def __init__(self, series: xr.Dataset, detector: Any, names: list[str]) -> None:
        self.series, self.detector, self.names = series, detector, names
        found = [one for one in _standard(series, detector) if one.names == PLANE or {*one.names} & {*names}]
        self.plane = any(one.names == PLANE for one in found) and {"information_x", "information_y"} <= {*names}
        panels = [one._replace(names=[n for n in one.names if n in names]) for one in found if one.names != PLANE]
        self.panels = panels[:_MOST_PANELS]
        shown = {name for one in self.panels for name in one.names}
        self.rest = [name for name in names if name not in shown]
        if self.rest:
            self.panels.append(Panel(()))
        self.first = [*shown, *(["information_x", "information_y"] if self.plane else []), *self.rest[:1]]
        self.log = is_logarithmic(series, getattr(detector, "markers_", None))
        self.layer = _first_layer(series, [*(name for one in self.panels for name in one.names), *names], detector)

    def data(self, content: Content, *, layers: Sequence[str], runs: Sequence[str], reload: int) -> dict[str, Any]:
        """Return all that the script of the page needs, without the curves."""
        splits = [printable(str(label)) for label in self.series["split"].values] if "split" in self.series.dims else []
        several = len(runs) > 1
        timeline = max(content.curves, key=lambda one: len(one.steps), default=None)
        positions = list(dict.fromkeys(one.steps.astype("<f8").tobytes() for one in content.curves))
        return {
            "log": self.log, "n_runs": len(runs), "runs": list(runs), "layers": list(layers), "splits": splits,
            "chosen": content.runs, "thin": several and len(runs) <= MAX_THIN, "reload": reload,
            "timeline": -1 if timeline is None else positions.index(timeline.steps.astype("<f8").tobytes()),
            "layer_colours": _spread(len(layers)),
            "variables": [self._variable(name) for name in self.names],
            "panels": [
                {"title": panel_title(self.series, one), "log": one.log, "least": one.least, "measure": not one.names,
                 "vars": [self.names.index(name) for name in one.names]} for one in self.panels
            ],
            "plane": self._plane(splits) if self.plane else None,
            "markers": {run: self._markers(run) for run in [*([MEDIAN] if several else []), *content.runs]},
            "phases": {run: self._phases(run) for run in content.runs},
            "start": {
                "run": MEDIAN if several else 0, "layer": self.layer if self.layer is not None else -1, "split": "",
                "measure": self.names.index((self.rest or self.names)[0]), "step": None,
            },
        }  # fmt: skip

    def _variable(self, name: str) -> dict[str, Any]:
        array = self.series[name]
        labels = list(dict.fromkeys(label for _, label, _ in groups(array)))
        own = {label: colour_of(label) or colour_of(name) for label in labels}
        spare = iter(_OTHERS * len(labels))
        colours = {printable(label): colour or next(spare) for label, colour in own.items()}
        title = printable(str(array.attrs.get("long_name") or name))
        title = title if title == name or len(title) < 50 else name
        return {"title": title, "unit": printable(str(array.attrs.get("units", "1"))), "colours": colours}

    def _plane(self, splits: Sequence[str]) -> dict[str, Any]:
        ceiling = self.series.get("information_y_ceiling")
        top = None if ceiling is None or not np.isfinite(ceiling.values).any() else float(np.nanmax(ceiling.values))
        split = "train" if "train" in splits else splits[0] if splits else ""
        x, y = (self.names.index(f"information_{axis}") for axis in "xy")
        return {"x": x, "y": y, "ceiling": top, "split": split}

    def _markers(self, run: int) -> list[dict[str, Any]]:
        """Return the found markers of a run, or their medians, each with a height for its label."""
        if self.detector is None:
            return []
        found = self.detector.markers_
        labels, colours = marker_labels(found), marker_colours(found)
        one = self.detector.across_ if run == MEDIAN else found.isel(run=run)
        rows = []
        for name in found["marker"].values.tolist():
            marker = one.sel(marker=name)
            if marker["status"].item() == "found":
                step, lower, upper = (
                    float(marker[key]) for key in ("median" if run == MEDIAN else "step", "lower", "upper")
                )
                ends = (lower, upper) if np.isfinite(lower) and np.isfinite(upper) else (None, None)
                rows.append(
                    {"label": labels[name], "colour": colours[name], "step": step, "lower": ends[0], "upper": ends[1]}
                )
        return self._with_heights(sorted(rows, key=lambda row: row["step"]))

    def _with_heights(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        steps = self.series["step"].values[[0, -1]].astype(float)
        scale = (lambda step: np.log(drawn_steps(np.asarray(step, float)))) if self.log else np.asarray
        low, high = scale(steps)
        last = dict[int, float]()
        for row in rows:
            at = float((scale(row["step"]) - low) / (high - low)) if high > low else 0.0
            row["row"] = next((i for i in range(3) if at - last.get(i, -1.0) > _NEAR), 0)
            last[row["row"]] = at
        return rows

    def _phases(self, run: int) -> list[tuple[float, float, str]]:
        """Return (first, last, colour) of each phase of a run."""
        if self.detector is None:
            return []
        phases = self.detector.phases_.isel(run=run)
        edges = step_edges(drawn_steps(phases["step"].values.astype(float)))
        found = [(phase, np.flatnonzero(phases.values == phase)) for phase in PHASES]
        return [(edges[at[0]], edges[at[-1] + 1], PHASES[phase][1]) for phase, at in found if len(at)]


def panel_title(series: xr.Dataset, panel: Panel) -> str:
    """Return the heading of a panel: its label, or the long name and unit of its variable."""
    if panel.ylabel or not panel.names:
        return panel.ylabel or "measure"
    attrs = series[panel.names[0]].attrs
    text, units = printable(str(attrs.get("long_name", panel.names[0]))), printable(str(attrs.get("units", "1")))
    return text if units == "1" else f"{text} ({units})"


def chart_html(view: View, places: Sequence[str], *, reload: int) -> str:
    """Return the controls and the places of the figures."""
    if not view.panels:
        return "<p>There is no curve to draw.</p>"
    axis = safe(view.series["step"].attrs.get("axis", "step"))
    choices = "".join(
        f'<label>{word} <select id="{word}"></select></label>' for word in ("run", "layer", "split", "measure")
    )
    again = f'<label><input type="checkbox" id="reload"> load again every {reload} s</label>' if reload else ""
    slider = (
        f'<label>{axis} <input type="range" id="step" min="0" max="0" value="0"></label><output id="at">none</output>'
    )
    scale = f"{axis}, logarithmic" if view.log else axis
    titles = [panel_title(view.series, one) for one in view.panels]
    charts = "".join(_chart(title, f"p{i}", places[i], scale) for i, title in enumerate(titles))
    if view.plane:
        charts += _chart(
            "information plane: I(T+n;Y) against I(T+n;X) (bits), one line for each layer",
            "plane",
            places[-1],
            "I(T+n;X) (bits)",
        )
    return (
        "<noscript><p>The charts need JavaScript. All results are in the tables below.</p></noscript>"
        f'<div class="controls" role="group" aria-label="What the charts show">{choices}{slider}{again}</div>'
        f'<p class="soft">A step under the pointer is marked in all charts; the slider does the same. A drag zooms all '
        f"charts over {axis}, and a double click resets one chart. Vertical lines are markers, with their intervals. "
        f"{'Step 0 is drawn at one half. ' if view.log else ''}{_LIMITS if view.plane else ''}</p>"
        f'<div class="charts">{charts}</div>'
        f'<details><summary>Values at the marked {axis}</summary><table id="values"><caption>Nearest observation to '
        f'the marked {axis}</caption><thead><tr><th scope="col">curve</th><th scope="col" class="n">{axis}</th>'
        '<th scope="col" class="n">value</th></tr></thead><tbody></tbody></table></details>'
    )


def _chart(title: str, name: str, place: str, axis: str) -> str:
    return (
        f'<figure class="chart" aria-labelledby="title-{name}"><div class="head">'
        f'<h3 id="title-{name}">{safe(title)}</h3>'
        f'<ul class="legend" id="legend-{name}"></ul></div><div aria-hidden="true">{place}</div>'
        f'<p class="axis">{axis}</p></figure>'
    )


def _standard(series: xr.Dataset, detector: Any) -> list[Panel]:
    try:
        return standard_panels(series, detector)
    except ValueError:  # no usual measure
        return []


def _first_layer(series: xr.Dataset, names: Sequence[str], detector: Any) -> int | None:
    """Return the layer of the detector, or the deepest measured layer of the first variable with layers."""
    if "layer" not in series.dims:
        return None
    layers = series["layer"].values.tolist()
    if (wanted := getattr(detector, "layer", None)) in layers:
        return layers.index(wanted)
    name = next((name for name in names if "layer" in series[name].dims), None)
    if name is None:
        return None
    return max(layer for layer, _, _ in groups(series[name]) if layer is not None)


def _spread(n: int) -> list[str]:
    """Return colours from dark violet to green, which remain different for colour-blind readers and on dark pages."""
    import matplotlib

    scale = matplotlib.colormaps["plasma"]
    return [matplotlib.colors.to_hex(scale(x)) for x in np.linspace(0.1, 0.82, max(n, 1))][:n]
