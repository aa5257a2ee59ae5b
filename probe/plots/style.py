"""Colours, line styles and sizes of all figures, also on a dark background.

The colours are those of Okabe and Ito (https://jfly.uni-koeln.de/color/), which remain different for colour-blind
readers. Line styles distinguish the curves of splits in grey print.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb, to_rgba
from numpy.typing import ArrayLike

from probe.words import PHASE_NAMES

WIDTH = 9.2  # inches, of a figure with two columns
FONT = 9.0  # points, of the smallest texts: 7 points remain if a figure of this width is shown 700 pixels wide
COLOURS = {"train": "#d55e00", "test": "#0072b2", "all": "#4d4d4d", "random": "#cc79a7"}
CYCLE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#4d4d4d")  # of curves without a split
_DASHED, _MIXED, _DOTTED = (0, (5, 1.4)), (0, (7, 1.4, 1.4, 1.4)), (0, (1.2, 1.2))
LINES: dict[str, Any] = {"train": "-", "test": _DASHED, "all": _MIXED, "random": _DOTTED}
STYLES = ("-", _DASHED, _MIXED, _DOTTED, (0, (4, 1.2, 1.2, 1.2, 1.2, 1.2)))  # of curves without a split
# Tints of orange, sky blue and bluish green; grey is unknown.
_LIGHT = {0: "#f9d9ae", 1: "#cfe4f5", 2: "#b5e0cf", -1: "#e6e6e6"}
_DARK = {0: "#5a3c00", 1: "#173a58", 2: "#00452f", -1: "#454545"}
PHASES = {phase: (PHASE_NAMES[phase], _LIGHT[phase]) for phase in (0, 1, 2)}
UNKNOWN = (PHASE_NAMES[-1], _LIGHT[-1])
DARK, _PALE = "#333333", "#dddddd"
_TEXT, _LINE = 4.5, 3.0  # least contrast of text and of lines (WCAG 2.2, success criteria 1.4.3 and 1.4.11)


def background(ax: Axes) -> str:
    """Return the colour behind the curves of axes."""
    red, green, blue, alpha = to_rgba(ax.get_facecolor())
    behind = np.array(_behind(ax))
    return _hex(alpha * np.array([red, green, blue]) + (1 - alpha) * behind)


def _behind(ax: Axes) -> tuple[float, ...]:
    """Return the colour of the figure; of a transparent one, that on which the text of the theme is read."""
    *colour, alpha = to_rgba(ax.figure.get_facecolor())
    page = (1.0, 1.0, 1.0) if _luminance(plt.rcParams["text.color"]) < 0.5 else (0.0, 0.0, 0.0)
    return tuple(alpha * part + (1 - alpha) * other for part, other in zip(colour, page, strict=True))


def is_dark(ax: Axes) -> bool:
    """Return whether the background of axes is dark."""
    return _luminance(background(ax)) < 0.18  # the same contrast to black and to white


def ink(ax: Axes) -> str:
    """Return the colour of lines and texts that have no other meaning: dark on a light background, else pale."""
    return _PALE if is_dark(ax) else DARK


def faint(ax: Axes) -> str:
    """Return the grey of notes, bars and limits."""
    return "#a0a0a0" if is_dark(ax) else "#6b6b6b"


def shade(phase: int, ax: Axes) -> str:
    """Return the colour behind the curves in a phase."""
    return (_DARK if is_dark(ax) else _LIGHT)[phase]


def text_colour(colour: str, ax: Axes) -> str:
    """Return a colour for text beside the axes or on a shade, with a contrast of at least 4.5 to all of these."""
    return _readable(colour, _backgrounds(ax), _TEXT)


def line_colour(colour: str, ax: Axes) -> str:
    """Return a colour for lines, with a contrast of at least 3 to the background and to all shades."""
    return _readable(colour, _backgrounds(ax), _LINE)


def _backgrounds(ax: Axes) -> tuple[str, ...]:
    return (background(ax), _hex(_behind(ax)), *(_DARK if is_dark(ax) else _LIGHT).values())


@lru_cache(maxsize=256)
def _readable(colour: str, backgrounds: Sequence[str], least: float) -> str:
    """Return the colour, mixed with as little black or white as needed for the contrast."""
    end = 1.0 if _luminance(backgrounds[0]) < 0.18 else 0.0
    for part in np.linspace(0, 1, 41):
        mixed = _hex((1 - part) * np.array(to_rgb(colour)) + part * end)
        if min(contrast(mixed, other) for other in backgrounds) >= least:
            break
    return mixed


def _hex(parts: ArrayLike) -> str:
    red, green, blue = np.asarray(parts, dtype=float)
    return to_hex((red, green, blue))


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio (WCAG 2.2) of two colours, from 1 to 21."""
    low, high = sorted((_luminance(first), _luminance(second)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Any) -> float:
    """Return the relative luminance of a colour, from 0 to 1."""
    parts = np.array(to_rgb(colour))
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])
