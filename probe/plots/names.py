"""Names of markers, runs, layers and splits as text of a figure."""

import re
from collections.abc import Hashable, Sequence
from itertools import cycle

import numpy as np
import xarray as xr

from probe.errors import printable

# For markers without a colour: the colour cycle of matplotlib.
_DEFAULT_COLOURS = tuple(f"C{i}" for i in range(10))
_NUMBERED = re.compile(r"(\d+)(?::(\w+))?")  # a layer of a Sequential, and an activation function in it


def marker_labels(markers: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """Return the label of each marker: the coordinate ``label``, or the name of the marker."""
    names = [str(name) for name in np.atleast_1d(markers["marker"].values)]
    labels = np.atleast_1d(markers["label"].values).tolist() if "label" in markers.coords else names
    return dict(zip(names, map(label_text, labels), strict=True))


def marker_colours(markers: xr.Dataset | xr.DataArray) -> dict[str, str]:
    """Return the colour of each marker: the coordinate ``colour``, or one of the default colours in turn."""
    names = [str(name) for name in np.atleast_1d(markers["marker"].values)]
    if "colour" in markers.coords:
        return dict(zip(names, np.atleast_1d(markers["colour"].values).tolist(), strict=True))
    return dict(zip(names, cycle(_DEFAULT_COLOURS), strict=False))


def label_text(name: object, most: int = 40) -> str:
    """Return a name of the data as text that matplotlib draws as it is.

    Dollar signs begin no formula, control characters and line ends are shown, a long name is cut in the middle, and a
    name that begins with "_", which a legend would omit, gets a space.
    """
    text = printable(str(name)).replace("\n", "\\n").replace("\t", "\\t")
    if len(text) > most:
        text = f"{text[: most // 2]}...{text[-most // 2 :]}"
    text = f" {text}" if text.startswith("_") else text
    return text.replace("$", r"\$")


def layer_name(layer: Hashable) -> str:
    """Return the name of a layer as text: "layer 1" or "layer 1, relu" for a number, else its name in the model.

    The colon in front of a function of the model itself is omitted.
    """
    numbered = _NUMBERED.fullmatch(str(layer))
    if numbered:
        number, function = numbered.groups()
        return f"layer {number}" + (f", {function}" if function else "")
    name = str(layer).strip("<>") if str(layer) in ("<input>", "<output>") else str(layer)
    return label_text(name.removeprefix(":") or name)


def short_names(names: Sequence[str]) -> list[str]:
    """Return names without the words at their start and end that all of them share.

    A number keeps the word before it: "m.a.0.w" and "m.a.1.w" become "a.0" and "a.1".
    """
    parts = [re.split(r"(?<=[.:])|(?=[.:])", name) for name in names]
    if len(names) < 2:
        return list(names)
    start, end = (_shared([one[::turn] for one in parts]) for turn in (1, -1))
    if any(one[start].isdigit() for one in parts):  # a number alone has no meaning
        start = max(start - 2, 0)
    found = ["".join(one[start : len(one) - end]).strip(".:") for one in parts]
    return found if all(found) and len({*found}) == len(names) else list(names)


def _shared(parts: Sequence[Sequence[str]]) -> int:
    """Return how many words at the start of all sequences are equal, at most all but one word of the shortest."""
    most = min(map(len, parts)) - 1
    return next((k for k in range(most) if len({one[k] for one in parts}) > 1), most)


def run_name(run: object) -> str:
    """Return the name of a run as text. Recordings store numbers as floats."""
    return label_text(f"{run:g}" if isinstance(run, float) else run, 24)


def chosen_split(splits: Sequence[str], split: str | None) -> str:
    """Return a split, by default "train" or else the only one."""
    if split is None:
        split = "train" if "train" in splits or len(splits) != 1 else splits[0]
        got = "none"
    else:
        got = repr(split)
    if split not in splits:
        raise ValueError(f"Expected a split among {', '.join(splits)}, got {got}; pass split= with one of them")
    return split
