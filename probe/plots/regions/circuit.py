"""The circuit of one input: which units are active, and the weights between them."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from probe.plots.axes import closes_on_error
from probe.plots.names import layer_name
from probe.plots.style import FONT, ink

_POSITIVE, _NEGATIVE = "#d55e00", "#0072b2"
_ACTIVE, _SWITCHED = "#e6a817", "#009e73"
_FAINT = "#a0a0a0"
_SOLID, _DASHED = "-", (0, (3, 1))  # of positive and negative weights
_MOST_UNITS = 16  # of a layer that is drawn as a column of circles
_CELLS = 32  # in one row of a strip
_WIDEST, _THINNEST = 3.5, 0.3  # points, of the weights
_LOOK: dict[str, Any] = {"frameon": False, "columnspacing": 1.2, "handletextpad": 0.4}


@closes_on_error
def circuit(
    circuits: Any,
    row: int = 0,
    *,
    neighbour: int | None = None,
    weights: Sequence[Any] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the circuit of one input: the active units, and the weights between them.

    Filled circles are active units, crossed-out ones inactive units. A line is a weight between two active units, its
    width the size of the weight and its colour the sign. A network with a layer, input or output of more than 16
    numbers, or whose layers are no chain, is drawn as rows of cells, one cell for each unit, without weights. Maxima,
    such as max-pooling, have no active units and are not drawn.

    Parameters
    ----------
    circuits : Circuit or mapping of str to array of shape (n, units)
        Circuits of n inputs, see :func:`probe.measures.circuit`; or which units are active, by site in the order of
        execution.
    row : int
        Number of the input.
    neighbour : int, optional
        Number of another input. A ring is drawn around each unit that is active for one of both inputs only.
    weights : sequence of arrays of shape (out, in), optional
        Matrices between the input, the sites and the output. By default those of the circuits.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; by default a new figure.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ValueError
        If the shapes of the weights do not fit, or there is no such input.

    See Also
    --------
    partition : The regions of a slice, one for each circuit.

    Examples
    --------
    >>> from probe import plots
    >>> ax = plots.circuit({"0": [[True, False, True]]}, weights=[[[1, 2], [3, 4], [5, 6]], [[1, -1, 1]]])
    >>> ax.get_title()
    'input 0: 2 of 3 units active'
    """
    active = _active(circuits)
    _check_rows(active, row, row if neighbour is None else neighbour)
    patterns = {site: units[row] for site, units in active.items()}
    switched = {site: units[row] != units[row if neighbour is None else neighbour] for site, units in active.items()}
    matrices = _weights(circuits, weights, [len(units) for units in patterns.values()])
    if matrices is None:
        ax = ax or plt.subplots(figsize=(6, 3), layout="constrained")[1]
        _draw_strip(ax, patterns, switched)
    else:
        ax = ax or plt.subplots(figsize=(6, 3.6), layout="constrained")[1]
        _draw_network(ax, patterns, switched, matrices)
    on, change = (np.concatenate([*parts.values(), np.zeros(0, bool)]) for parts in (patterns, switched))
    text = f"input {row}: {on.sum():,} of {len(on):,} units active"
    if neighbour is not None:
        text += f", {change.sum():,} differ{'s' if change.sum() == 1 else ''} from input {neighbour}"
    ax.set_title(text, fontsize=FONT)
    handles = _legend(ax, matrices is not None, neighbour is not None)
    ax.legend(handles=handles, fontsize=FONT, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.13), **_LOOK)
    return ax


def _active(circuits: Any) -> dict[str, np.ndarray]:
    """Return the active units, bool (n, units) by site."""
    found = circuits if isinstance(circuits, Mapping) else getattr(circuits, "active", None)
    if found is None:
        raise TypeError(
            f"Expected a Circuit or a mapping, got {type(circuits).__name__}; make it with circuit(model, inputs) of "
            "probe.measures"
        )
    return {str(site): _array(units) > 0 for site, units in found.items()}


def _check_rows(active: Mapping[str, np.ndarray], *rows: int) -> None:
    n = min((len(units) for units in active.values()), default=0)
    if active and not all(-n <= row < n for row in rows):
        raise ValueError(f"Expected the number of an input from 0 to {n - 1}, got {max(rows)}; pass one of these")


def _array(values: Any) -> np.ndarray:
    """Return numbers as an array, also those of parameters with a gradient."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def _weights(circuits: Any, given: Sequence[Any] | None, sizes: list[int]) -> list[np.ndarray] | None:
    """Return the weights if they are to be drawn."""
    if max(sizes, default=0) > _MOST_UNITS:
        return None
    if given is None:
        if isinstance(circuits, Mapping) or circuits.network is None or math.prod(circuits.network.shape) > _MOST_UNITS:
            return None
        try:
            given = circuits.weights()
        except ValueError:  # no chain of layers
            return None
    weights = [_array(weight) for weight in given]
    shapes = [weight.shape for weight in weights]
    inner = list(pairwise([shapes[0][1], *sizes, shapes[-1][0]]))
    if shapes != [(after, before) for before, after in inner]:
        raise ValueError(
            f"Expected {len(sizes) + 1} matrices of shape (out, in) around sites of {sizes} units, got the shapes "
            f"{shapes}; pass the weights from the input to the output"
        )
    return weights if max(inner[0][0], inner[-1][1]) <= _MOST_UNITS else None


def _draw_network(
    ax: Axes, patterns: Mapping[str, np.ndarray], switched: Mapping[str, np.ndarray], weights: list[np.ndarray]
) -> None:
    """Draw layers as columns of circles, and weights as lines."""
    first, last = np.ones(weights[0].shape[1], bool), np.ones(len(weights[-1]), bool)
    states, changes = [first, *patterns.values(), last], [~first, *switched.values(), ~last]
    heights = [(len(state) - 1) / 2 - np.arange(len(state)) for state in states]
    places = [np.stack([np.full(len(height), k), height], 1) for k, height in enumerate(heights)]
    for k, weight in enumerate(weights):
        _draw_weights(ax, weight, places[k], places[k + 1], states[k], states[k + 1])
    size = float(np.clip(100 / max(map(len, states)), 6, 13))
    for k, (on, place, change) in enumerate(zip(states, places, changes, strict=True)):
        inner = 0 < k < len(states) - 1
        style: dict[str, Any] = {"ls": "", "marker": "o" if inner else "s", "ms": size, "mew": 1.1, "zorder": 3}
        face, gid = (_ACTIVE, "active") if inner else ("#e4e4e4", "end")
        ax.plot(*place[on].T, mfc=face, mec=ink(ax), gid=gid, **style)
        ax.plot(*place[~on].T, mfc="none", mec=_FAINT, gid="inactive", **style)
        ax.plot(*place[~on].T, "x", color=_FAINT, ms=size / 2, mew=1.1, zorder=3.1)
        ring = {"ms": 1.6 * size, "zorder": 2.9, "mew": 1.6}
        ax.plot(*place[change].T, **(style | ring), mfc="none", mec=_SWITCHED, gid="switched")
    tallest = max(map(len, states)) / 2
    names = ["input", *(layer_name(site).replace(", ", "\n") for site in patterns), "output"]
    ax.set(xlim=(-0.5, len(states) - 0.5), ylim=(-tallest - 0.25, tallest + 0.25), yticks=[])
    ax.set_xticks(range(len(names)), names, fontsize=FONT)
    _remove_frame(ax)


def _remove_frame(ax: Axes) -> None:
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _draw_weights(
    ax: Axes, weight: np.ndarray, start: np.ndarray, end: np.ndarray, source: np.ndarray, target: np.ndarray
) -> None:
    """Draw the weights (out, in) between active units. The largest weight of the matrix has the widest line."""
    rows, columns = np.nonzero((weight != 0) & target[:, None] & source)
    values = weight[rows, columns]
    order = np.abs(values).argsort()
    lines = np.stack([start[columns], end[rows]], 1)[order]
    widths = np.maximum(_WIDEST * np.abs(values[order]) / np.abs(weight).max(initial=1e-300), _THINNEST)
    positive = values[order] > 0
    style: dict[str, Any] = {"colors": np.where(positive, _POSITIVE, _NEGATIVE).tolist(), "zorder": 1, "gid": "weights"}
    style["linestyles"] = [_SOLID if sign else _DASHED for sign in positive]
    ax.add_collection(LineCollection(list(lines), linewidths=widths, **style))


def _legend(ax: Axes, drawn: bool, compared: bool) -> list[Line2D]:
    """Return the entries of the legend: with weights if they are drawn, and with switches if circuits are compared."""
    dot: dict[str, Any] = {"ls": "", "marker": "o" if drawn else "s", "ms": 8}
    found = [
        Line2D([], [], mfc=_ACTIVE, mec=ink(ax) if drawn else _FAINT, label="active unit", **dot),
        Line2D([], [], mfc="none", mec=_FAINT, label="inactive unit", **dot),
    ]
    if drawn:
        found.append(Line2D([], [], color=_POSITIVE, lw=2, label="positive weight"))
        found.append(Line2D([], [], color=_NEGATIVE, lw=2, ls=_DASHED, label="negative weight"))
    switch = Line2D([], [], mfc="none", mec=_SWITCHED, mew=1.8, label="unit that differs", **dot)
    return found + [switch] * compared


def _draw_strip(ax: Axes, patterns: Mapping[str, np.ndarray], switched: Mapping[str, np.ndarray]) -> None:
    """Draw each layer as rows of cells."""
    top, ticks = 0.0, list[float]()
    for on, change in zip(patterns.values(), switched.values(), strict=True):
        row, column = np.divmod(np.arange(len(on)), _CELLS)
        cells = [Rectangle((x, -top - y - 1), 0.86, 0.86) for x, y in zip(column, row, strict=True)]
        style: dict[str, Any] = {"facecolors": np.where(on, _ACTIVE, "none").tolist(), "gid": "cells"}
        style |= {"edgecolors": np.where(change, _SWITCHED, _FAINT).tolist(), "linewidths": np.where(change, 1.8, 0.4)}
        ax.add_collection(PatchCollection(cells, **style))
        rows = row.max(initial=0) + 1
        ticks.append(-top - rows / 2)
        top += rows + 0.7
    names = [f"{layer_name(site)}: {on.sum():,} of {len(on):,}" for site, on in patterns.items()]
    ax.set_yticks(ticks, names, fontsize=FONT)
    widest = min(_CELLS, max(map(len, patterns.values()), default=1))
    ax.set(xlim=(-0.3, widest + 0.2), ylim=(min(-top + 0.4, 0), 0.3), xticks=[], aspect="equal")
    _remove_frame(ax)
