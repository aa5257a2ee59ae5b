"""Write a report: one HTML file about one or several runs."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import xarray as xr

from probe.errors import warn_user
from probe.phases.detector import PhaseDetector
from probe.plots.names import run_name
from probe.readers.reading import read
from probe.recording.files import atomic_write
from probe.recording.paths import check_place, user_path
from probe.report import text
from probe.report.charts import bokeh_script, charts, need_bokeh
from probe.report.content import content_of, encoded, ranked_curves
from probe.report.curves import variables_of
from probe.report.layout import chart_html
from probe.report.origin import origin, provenance
from probe.report.sources import joined, names_of
from probe.report.view import View
from probe.series import validate

DEFAULT_MB, LARGEST_MB = 2.0, 5.0
_SCRIPTS = ("numbers", "charts", "pointer", "start")
_MARGIN = 1000  # bytes by which a page that is too large is made smaller at least


def write_report(
    source: xr.Dataset | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    detector: PhaseDetector | None = None,
    title: str | None = None,
    max_mb: float = DEFAULT_MB,
    overwrite: bool = False,
) -> Path:
    """Write one HTML page with verdict, linked charts, tables and provenance. It needs no network.

    Parameters
    ----------
    source : xarray.Dataset, path, or sequence of paths
        A series, a log or a folder of logs (:func:`probe.read`), a recording, or several of them.
    output : path
        The file to write.
    detector : PhaseDetector, optional
        Fitted to the source. None fits one with its default parameters.
    title : str, optional
        The heading; by default the name of the source.
    max_mb : float
        Largest size of the page (MB), at most 5. The page states which curves it leaves out.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    pathlib.Path
        The output.

    Raises
    ------
    FileExistsError
        If the output exists.
    OSError
        If the output is a folder, or its folder does not exist.
    ImportError
        If Bokeh is not installed.
    TypeError, ValueError
        If the source cannot be read or is no series, or ``max_mb`` is outside (0, 5].

    Warns
    -----
    probe.errors.ProbeWarning
        If there is no verdict, for example for fewer than four observations. The page states the reason.

    See Also
    --------
    probe.plots.overview : A figure on one page.

    Examples
    --------
    >>> import numpy as np
    >>> import xarray as xr
    >>> from probe.report import write_report
    >>> steps = np.arange(1, 60)
    >>> series = xr.Dataset({"train_accuracy": ("step", np.minimum(1, steps / 20))}, {"step": steps})
    >>> write_report(series, "report.html", title="one run").stat().st_size < 2e6
    True
    """
    output = user_path(output)
    check_output(output)
    if output.exists() and not overwrite:
        raise FileExistsError(f"Expected a new file, got {output}, which exists already; pass overwrite=True")
    check_size(max_mb)
    need_bokeh()
    series, name = _series_of(source)
    detector, reason = (detector, "") if detector is not None else fitted_or_reason(series)
    save_page(page(series, detector, reason, title=title or name, source=name, max_mb=max_mb), output)
    return output


def _series_of(source: Any) -> tuple[xr.Dataset, str]:
    """Return a series that follows the schema, and its name."""
    if isinstance(source, xr.Dataset):
        return validate(source), "series"
    paths = [source] if isinstance(source, (str, os.PathLike)) else source
    if not isinstance(paths, Sequence) or not all(isinstance(path, (str, os.PathLike)) for path in paths):
        raise TypeError(
            f"Expected a series (xarray.Dataset), a path or a list of paths, got {type(source).__name__}; pass one"
        )
    return joined(paths, read), names_of(paths)


def check_output(output: Path) -> None:
    """Raise OSError if no page can be written there; reading the source can take minutes."""
    if os.path.isdir(output):  # False for a name that is too long
        raise IsADirectoryError(f"Expected a file as output, got the folder {output}; name a file in it: report.html")
    check_place(output)


def check_size(max_mb: float) -> None:
    """Raise ValueError for a size outside (0, 5]."""
    if not 0 < max_mb <= LARGEST_MB:
        raise ValueError(f"Expected a size of a page above 0 and at most {LARGEST_MB:g} MB, got {max_mb}; pass 2")


def fitted_or_reason(series: xr.Dataset) -> tuple[PhaseDetector | None, str]:
    """Return a fitted detector, or why there is none, with a warning."""
    try:
        return series.probe.phases(), ""
    except (TypeError, ValueError) as error:
        warn_user(f"Expected curves for a verdict, got none: {error}; the report is written without a verdict")
        return None, str(error)


def save_page(page: str, output: Path) -> None:
    """Write the page so that a browser never reads a part of it."""
    with atomic_write(output) as temporary:
        temporary.write_text(page, encoding="utf-8")


def page(
    series: xr.Dataset,
    detector: PhaseDetector | None,
    reason: str = "",
    *,
    title: str,
    source: str,
    max_mb: float = DEFAULT_MB,
    reload: int = 0,
) -> str:
    """Return the page. ``reload`` is the number of seconds after which a browser loads it again, 0 for never."""
    names, left_out = variables_of(series)
    view = View(series, detector, names)
    layers = text.layer_labels(series)
    runs = _unique([run_name(run) for run in series["run"].values.tolist()] if "run" in series.dims else ["0"])
    parts = _fixed(view, title, source, reload) | {
        "verdict": text.verdict(detector, reason),
        "results": text.results(detector, runs),
        "numbers": text.numbers(series, names, layers),
        "provenance": provenance(series),
    }
    n_curves = max(0, parts["numbers"].count("<tr>") - 1)
    parts["n_curves"] = f"{n_curves:,} curve{'s' if n_curves != 1 else ''}"
    ranked = ranked_curves(series, names, view.first, view.layer, view.scale)
    budget = most = int(max_mb * 1e6)
    while budget > 0:
        content = content_of(ranked, names, len(runs), budget)
        data = view.data(content, layers=layers, runs=runs, reload=reload) | encoded(content) if view.panels else {}
        parts["flagged"] = text.flagged(series, detector, [*left_out, *content.left_out])
        written = Template(_part("page/page.html")).substitute(parts, data=_json(data))
        excess = len(written.encode()) - most
        if excess <= 0:
            return written
        budget -= excess + _MARGIN
    raise ValueError(
        f"Expected a page above {(most + excess) / 1e6:.1f} MB, got {max_mb:g} as its largest size; pass more"
    )


def _unique(labels: list[str]) -> list[str]:
    """Return the labels, with a number after those that an earlier run has."""
    seen = Counter[str]()
    found = []
    for label in labels:
        seen[label] += 1
        found.append(label if seen[label] == 1 else f"{label} ({seen[label]})")
    return found


def _fixed(view: View, title: str, source: str, reload: int) -> dict[str, str]:
    """Return the parts of the page that do not depend on what is left out."""
    logs = tuple(one.log for one in view.panels)
    figures, places = charts(logs, plane=view.plane) if logs else ("", [])
    return {
        "title": text.safe(title),
        "origin": origin(view.series, source),
        "css": _part("page/page.css"),
        "bokeh": bokeh_script() if logs else "",
        "figures": figures,
        "script": _script() if logs else "",
        "charts": chart_html(view, places, reload=reload),
    }


def _script() -> str:
    """Return the script of the page. Its files share one scope."""
    parts = "\n".join(_part(f"page/{name}.js") for name in _SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();'


def _part(name: str) -> str:
    return files("probe.report").joinpath(name).read_text(encoding="utf-8")


def _json(data: Any) -> str:
    """Return JSON that cannot end the script element in which it stands."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
