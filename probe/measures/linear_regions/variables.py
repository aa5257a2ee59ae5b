"""The variables of slices and of segments."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probe.attach.contract import Measured
from probe.geometry.segments.segments import SegmentRegions

NAME = "linear_regions"

# name: (dimensions besides split and slice, unit, long name, whether it is a flag)
VARIABLES: dict[str, tuple[tuple[str, ...], str, str, bool]] = {
    "": (("layer",), "1", "linear regions after this layer", False),
    "_total": ((), "1", "linear regions", False),
    "_by_snap": (("snap",), "1", "linear regions with this snapping width", False),
    "_area": ((), "1", "area of the window, in squared units of the stem", False),
    "_lines": (("layer",), "1", "units that bend within the window", False),
    "_segments": (("layer",), "1", "pieces of boundaries within regions of the layers before", False),
    "_points": (("layer",), "1", "crossings of boundaries, with multiplicity less 1", False),
    "_merged": (("layer",), "1", "boundaries that lie on other boundaries", False),
    "_alike": (("layer", "within"), "1", "boundaries within a tolerance of another one of the layer", False),
    "_effective": (("layer", "within"), "1", "linear regions with one boundary of each group that is alike", False),
    "_effective_change": (("layer", "within", "mechanism"), "1", "change of the effective number of regions", False),
    "_alike_share": (
        ("within",),
        "1",
        "share of the length of borders on boundaries that are alike to others",
        False,
    ),
    "_alike_distance": (("within",), "1", "mean distance of such borders to the decision boundary", False),
    "_unlike_distance": (("within",), "1", "mean distance of the other borders to the decision boundary", False),
    "_on": (("layer",), "1", "units on one piece other than the lowest in the whole window", False),
    "_off": (("layer",), "1", "units on the lowest piece in the whole window", False),
    "_change": (("layer", "mechanism"), "1", "change of the number of regions since the last observation", False),
    "_hamming": ((), "1", "mean number of boundaries on a border between two regions", False),
    "_composite": ((), "1", "share of the length of borders with two or more boundaries", False),
    "_composite_distance": ((), "1", "mean distance of composite borders to the decision boundary", False),
    "_ordinary_distance": ((), "1", "mean distance of borders with one boundary to the decision boundary", False),
    "_incomplete": ((), "1", "stopped at max_regions, so that all counts are lower bounds", True),
    "_unattributed": ((), "1", "the change could not be attributed", True),
    "_undivided": ((), "1", "no decision boundary in the window", True),
}


def slice_variables(
    numbers: Sequence[Mapping[str, Any]], coords: Mapping[str, Sequence[Any]], attrs: Mapping[str, Any]
) -> dict[str, Measured]:
    """Return the variables of all slices, in the order of splits and slices."""
    shape = len(coords["split"]), len(coords["slice"])
    found = {}
    for name, (dims, unit, text, flag) in VARIABLES.items():
        if not all(len(coords[dim]) for dim in dims):  # no layer that bends, no further snapping widths
            continue
        values = np.array([each[name] for each in numbers], float)
        values = values.reshape(*shape, *(len(coords[dim]) for dim in dims))
        dims = ("split", "slice", *dims)
        here = {dim: coords[dim] for dim in dims}
        found[f"{NAME}{name}"] = Measured(values, dims, here, unit, text, flag, attrs)
    totals = np.array([each["_total"] for each in numbers], float).reshape(shape)
    split = ("split",), {"split": coords["split"]}
    error = totals.std(1, ddof=1) / shape[1] ** 0.5 if shape[1] > 1 else np.full(shape[0], np.nan)
    found[f"{NAME}_mean"] = Measured(totals.mean(1), *split, "1", "linear regions, mean over slices", attrs=attrs)
    found[f"{NAME}_mean_se"] = Measured(error, *split, "1", "its standard error over slices", attrs=attrs)
    return found


def segment_variables(
    segments: Mapping[str, SegmentRegions], sites: Sequence[str], attrs: Mapping[str, Any]
) -> dict[str, Measured]:
    """Return the variables of segments, by split."""
    attrs = {**attrs, "n_segments": min(len(each.counts) for each in segments.values())}
    split = {"split": list(segments)}

    def by(values: Sequence[Any], text: str, **kwargs: Any) -> Measured:
        return Measured(values, ("split",), split, long_name=text, attrs=attrs, **kwargs)

    each = list(segments.values())
    added = [[one.by_site[site].value for site in sites] for one in each]
    text = "mean number of knots on a segment"
    found = {
        f"{NAME}_knots": by([one.knots.value for one in each], text),
        f"{NAME}_knots_lower": by([one.knots.lower for one in each], f"{text}, lower end of the 90 % interval"),
        f"{NAME}_knots_upper": by([one.knots.upper for one in each], f"{text}, upper end of the 90 % interval"),
        f"{NAME}_density": by([one.density.value for one in each], "knots per unit of length at the stem"),
        f"{NAME}_knots_incomplete": by([not one.complete for one in each], "a segment was stopped", flag=True),
    }
    if sites:
        dims, coords = ("split", "layer"), {**split, "layer": sites}
        found[f"{NAME}_knots_added"] = Measured(added, dims, coords, "1", f"{text} that this layer adds", attrs=attrs)
    return found
