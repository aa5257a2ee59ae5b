"""Labels at the ends of lines and above axes, which are placed so that none overlap, at each drawing."""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox
from sklearn.isotonic import isotonic_regression

from probe.plots.style import FONT, text_colour

_MOST = 5  # lines with labels at their ends; more lines have a legend
_WIDEST = 0.3  # of the axes, of a label at the end of a line
_WRAPPED = 22  # characters of a line of a legend beside the axes
_ROW = 1.25 * FONT  # points, from one row of text to the next
_REACH = 14  # points, from the axes to the labels at their right
_BEYOND = 14  # points, which labels above the axes extend beyond their sides
_GAP = 6  # points, between two labels in a row
_CEILING = "dotted: largest possible"
_ABOVE = 7  # points, from the axes to the first row


class _Label(Annotation):
    """A label that is placed together with the others of its group."""

    group: Sequence["_Label"]
    panel: Axes
    value: float = np.nan  # of a line, at its end
    arrange: Callable[[Sequence["_Label"], Any], None]

    def draw(self, renderer: Any) -> None:
        """Place all labels of the group, and draw this one."""
        self.arrange(self.group, renderer)
        super().draw(renderer)

    def get_tightbbox(self, renderer: Any = None) -> Bbox | None:
        """Return the box for the layout of the figure."""
        self.arrange(self.group, renderer)
        self.update_positions(renderer)  # sets the transform, without which matplotlib takes that of the data
        return super().get_tightbbox(renderer)


def label_lines(ax: Axes, title: str | None = None) -> None:
    """Write the labels of lines at their right ends, in their colours; a legend if they are many or long.

    The labels are those of a legend. A stroke in the style of its line leads to each label.

    Parameters
    ----------
    ax : matplotlib.axes.Axes
        Axes with all their lines.
    title : str, optional
        Title of the legend; without a legend, the last line of the label of the x axis.
    """
    handles, labels = ax.get_legend_handles_labels()
    labels = _short(labels, ax.get_ylabel().partition(" (")[0])
    size = FONT * 0.6 / 72 * ax.figure.dpi * max(map(len, labels), default=0)
    lines = [one for one in handles if isinstance(one, Line2D)]
    if labels == [ax.get_ylabel()] or not handles:  # a label would repeat that of the axis
        pass
    elif len(lines) < len(handles) or len(lines) > _MOST or size > _WIDEST * ax.get_window_extent().width:
        _draw_legend(ax, handles, labels, title)
        return
    else:
        group = [_end_label(ax, *pair) for pair in zip(lines, labels, strict=True)]
        _add(ax, group, _spread)
    if title:
        ax.set_xlabel(f"{ax.get_xlabel()}\n{title}")


def explain_ceiling(ax: Axes) -> None:
    """Write below the axes what the line of a ceiling is, once, where it covers no curve."""
    lines = ax.get_xlabel().split("\n")
    if _CEILING not in lines and any(line.get_gid() == "ceiling" for line in ax.lines):
        ax.set_xlabel("\n".join([*lines, _CEILING]))


def _draw_legend(ax: Axes, handles: Sequence[Any], labels: Sequence[str], title: str | None) -> None:
    """Draw a legend, of many lines at the right of the axes, so that it covers no data."""
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "borderaxespad": 0, "frameon": False}
    many = len(handles) > _MOST
    names = ["\n".join(textwrap.wrap(label, _WRAPPED)) for label in labels] if many else labels
    title = "\n".join(textwrap.wrap(title, _WRAPPED)) if title and many else title
    ax.legend(handles, names, fontsize=FONT, title=title, title_fontsize=FONT, **(beside if many else {}))


def _short(labels: Sequence[str], kind: str) -> list[str]:
    """Return labels without the word at their end that the label of the axis repeats."""
    ends = [label.rstrip().removesuffix(kind).rstrip(" _/-.") for label in labels]
    shared = kind and all(end and end != label for end, label in zip(ends, labels, strict=True))
    return ends if shared and len({*ends}) == len(ends) else list(labels)


def _end_label(ax: Axes, line: Line2D, text: str) -> _Label:
    """Return the label of one line."""
    values = np.asarray(line.get_ydata(), dtype=float)
    seen, colour = np.flatnonzero(np.isfinite(values)), to_hex(line.get_color())
    stroke = {"arrowstyle": "-", "lw": 1.4, "ls": line.get_linestyle(), "color": colour}
    label = _Label(
        text, (1, 0), (_REACH, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points", ha="left",
        va="center", fontsize=FONT, color=text_colour(colour, ax), annotation_clip=False, gid="line",
        arrowprops={**stroke, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)},
    )  # fmt: skip
    label.value = values[seen[-1]] if len(seen) else np.nan
    return label


def label_above(ax: Axes, texts: Sequence[str], places: Sequence[float], colours: Sequence[str]) -> None:
    """Write texts above the axes at these places of the x axis, in as many rows as needed, so that none overlap."""
    style: dict[str, Any] = {"xycoords": ax.get_xaxis_transform(), "textcoords": "offset points", "ha": "center"}
    style |= {"va": "bottom", "fontsize": FONT, "annotation_clip": False}
    group = [
        _Label(text, (x, 1), (0, _ABOVE), color=text_colour(colour, ax), **style)
        for text, x, colour in zip(texts, places, colours, strict=True)
    ]
    _add(ax, group, _stack)


def _add(ax: Axes, group: Sequence[_Label], arrange: Callable[[Sequence[_Label], Any], None]) -> None:
    for one in group:
        one.group, one.arrange, one.panel = group, arrange, ax
        ax.add_artist(one)
        one.set_clip_on(False)


def _spread(group: Sequence[_Label], renderer: Any) -> None:
    """Move labels up and down as little as possible, so that they have one row each within the height of the axes."""
    box, point = group[0].panel.get_window_extent(renderer), group[0].panel.figure.dpi / 72
    row, low, high = _ROW * point, box.y0 + _ROW * point / 2, box.y1 - _ROW * point / 2
    ends = [_end(one, box) for one in group]
    order = np.argsort(ends, kind="stable")
    rows = row * np.arange(len(group))
    least = isotonic_regression(np.array(ends)[order] - rows)
    places = np.clip(least, low, max(high - rows[-1], low)) + rows
    for i, place in zip(order, places, strict=True):
        group[i].xyann = _REACH, (place - ends[i]) / point


def _end(label: _Label, box: Any) -> float:
    """Return the height (pixels) of the end of a line within the axes, and let the label point to it."""
    ax, (low, high) = label.panel, sorted(label.panel.get_ylim())
    inside = min(max(label.value, low), high) if np.isfinite(label.value) else low
    label.xy = 1, float(inside)
    return float(np.clip(ax.transData.transform((ax.get_xlim()[1], inside))[1], box.y0, box.y1))


def _stack(group: Sequence[_Label], renderer: Any) -> None:
    """Place each label in the lowest row where it overlaps no label before it, centred, or else right of its marker."""
    box, point = group[0].panel.get_window_extent(renderer), group[0].panel.figure.dpi / 72
    rows = list[float]()
    for one in group:
        at = float(one.panel.get_xaxis_transform().transform(one.xy)[0])
        width = Text.get_window_extent(one, renderer).width
        low, high = box.x0 - _BEYOND * point, box.x1 + _BEYOND * point - width
        left = min(max(at - width / 2, low), max(high, low))
        row = next((k for k, end in enumerate(rows) if end <= max(left, min(at, high))), len(rows))
        left = max(left, rows[row]) if row < len(rows) else left
        rows[row : row + 1] = [left + width + _GAP * point]
        one.xyann = (left + width / 2 - at) / point, _ABOVE + _ROW * row
