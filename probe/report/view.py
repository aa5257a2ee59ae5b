"""What a report shows at first: its panels, choices, markers and phases."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from probe.errors import printable
from probe.plots.lines import colour_of
from probe.plots.names import marker_colours, marker_labels
from probe.plots.panels import PLANE, Panel, standard_panels
from probe.plots.steps import is_logarithmic
from probe.plots.style import COLOURS, CYCLE, LINES, PHASES
from probe.report.content import Content
from probe.report.curves import COLUMNS, MAX_THIN, MEDIAN, groups
from probe.report.scale import Scale

_MOST_PANELS = 6  # beside the plane and the panel of a measure that the reader chooses
_DASHES = ([2, 3], [10, 3, 2, 3], [6, 6])  # px; of curves that would look like another one of their panel
_NEAR = 0.045  # of the axis, below which labels of markers are drawn at different heights
_OTHERS = tuple(colour for colour in CYCLE if colour not in COLOURS.values())  # of curves without a split


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
    plane : bool
        Whether there is an information plane.
    scale : Scale
        The axis of steps.
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
        log = is_logarithmic(series, getattr(detector, "markers_", None))
        self.scale = Scale(series["step"].values.astype(float), log=log)
        self.layer = _first_layer(series, [*(name for one in self.panels for name in one.names), *names], detector)

    def data(self, content: Content, *, layers: Sequence[str], runs: Sequence[str], reload: int) -> dict[str, Any]:
        """Return all that the script of the page needs, without the curves."""
        splits = [printable(str(label)) for label in self.series["split"].values] if "split" in self.series.dims else []
        several = len(runs) > 1
        return {
            "scale": self.scale.data(), "columns": COLUMNS, "n_runs": len(runs), "runs": list(runs),
            "layers": list(layers), "splits": splits,
            "axis": printable(str(self.series["step"].attrs.get("axis", "step"))),
            "chosen": content.runs, "thin": several and len(runs) <= MAX_THIN, "reload": reload,
            "layer_colours": _spread(len(layers)), "dashes": {split: dash_of(split) for split in splits},
            "phase_names": PHASES,
            "variables": self._variables(),
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

    def _variables(self) -> list[dict[str, Any]]:
        """Return title, unit, colours and dashes of each variable; no two of a panel look the same."""
        found = {name: self._variable(name) for name in self.names}
        for panel in self.panels:
            seen: list[tuple[dict[str, str], list[float]]] = []
            for one in (found[name] for name in panel.names):
                colours, dash = one["colours"], one["dash"]
                if (colours, dash) in seen:
                    one["dash"] = next((spare for spare in _DASHES if (colours, spare) not in seen), dash)
                seen.append((colours, one["dash"]))
        return list(found.values())

    def _variable(self, name: str) -> dict[str, Any]:
        array = self.series[name]
        labels = list(dict.fromkeys(label for _, label, _ in groups(array)))
        own = {label: colour_of(label) or colour_of(name) for label in labels}
        spare = iter(_OTHERS * len(labels))
        colours = {printable(label): colour or next(spare) for label, colour in own.items()}
        title = printable(str(array.attrs.get("long_name") or name))
        title = title if title == name or len(title) < 50 else name
        unit = printable(str(array.attrs.get("units", "1")))
        return {"title": title, "unit": unit, "colours": colours, "dash": dash_of(name.partition("_")[0])}

    def _plane(self, splits: Sequence[str]) -> dict[str, Any]:
        ceiling = self.series.get("information_y_ceiling")
        finite = np.array([]) if ceiling is None else ceiling.values[np.isfinite(ceiling.values)]
        top = float(finite.max()) if len(finite) else None
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
        low, high = self.scale.position(self.series["step"].values[[0, -1]])
        last = dict[int, float]()
        for row in rows:
            at = float((self.scale.position(row["step"]) - low) / (high - low)) if high > low else 0.0
            row["row"] = next((i for i in range(3) if at - last.get(i, -1.0) > _NEAR), 0)
            last[row["row"]] = at
        return rows

    def _phases(self, run: int) -> list[tuple[float, float, int]]:
        """Return (first step, last step, phase) of each phase of a run."""
        if self.detector is None:
            return []
        phases = self.detector.phases_.isel(run=run)
        edges = self.scale.edges(phases["step"].values.astype(float))
        found = [(phase, np.flatnonzero(phases.values == phase)) for phase in PHASES]
        return [(edges[at[0]], edges[at[-1] + 1], phase) for phase, at in found if len(at)]


def dash_of(split: str) -> list[float]:
    """Return the dashes of a line (px, of and between them), which differ between splits as in figures."""
    style = LINES.get(split, "-")
    return [] if style == "-" else [2 * part for part in style[1]]


def panel_title(series: xr.Dataset, panel: Panel) -> str:
    """Return the heading of a panel: its label, or the long name and unit of its variable."""
    if panel.ylabel or not panel.names:
        return panel.ylabel or "measure"
    attrs = series[panel.names[0]].attrs
    text, units = printable(str(attrs.get("long_name", panel.names[0]))), printable(str(attrs.get("units", "1")))
    return text if units == "1" else f"{text} ({units})"


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
