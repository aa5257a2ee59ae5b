"""Titles of figures, in lines as long as the figure is wide."""

from bisect import bisect_right

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from probe.plots.style import ink

_SIZE = 11  # points
_LEFT = 0.01  # of the width of the figure
_SPARE = 0.07  # of the width, since text of few pixels is wider


def write_title(figure: Figure, text: str) -> None:
    """Write a text at the top of a figure, left aligned, in as many lines as needed."""
    width = figure.get_size_inches()[0] * 72 * (1 - _LEFT - _SPARE)
    lines = wrapped(text, width, _SIZE)
    if lines:
        figure.suptitle("\n".join(lines), x=_LEFT, ha="left", fontsize=_SIZE, color=ink(figure.axes[0]))


def wrapped(text: str, width: float, size: float) -> list[str]:
    """Return the lines of a text that are at most ``width`` points wide in this size of the font.

    A word that is wider has several lines.
    """
    font, lines = FontProperties(size=size), list[str]()
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and _width(longer, font) <= width:
            lines[-1] = longer
            continue
        lines.append(word)
        while _width(lines[-1], font) > width:
            long = lines.pop()
            fits = bisect_right(range(1, len(long)), width, key=lambda n: _width(long[:n], font))
            lines += [long[: max(fits, 1)], long[max(fits, 1) :]]
    return lines


def _width(text: str, font: FontProperties) -> float:
    """Return the width of a text in points."""
    return float(text_to_path.get_text_width_height_descent(text, font, ismath=False)[0])
