"""Do the weights become mixed where `probe.PhaseDetector` puts its markers? The analysis of the recorded runs.

All rules and thresholds were fixed before the recordings of the seeds 0 to 5. Seen before were one run of the small
network with the seed 100 at widths of 128 and 256 units, one with the seed 101, and a run modulo 23 (page on measures).
In the run with 256 units and the seed 100, the Fourier powers became mixed at step 1,778, after the test accuracy had
reached 1 at step 750. No run of the demo with these probes, no control and no sweep had been seen.

- ``mixed``: the first step at which the label is GMFL-I at three observations in a row. An undecided label counts as
  not mixed.
- ``kurtosis_top``: the top of the hump of the excess kurtosis of the same overlaps, by the rule for humps of losses.
- ``network_half``, ``read_out_half``: the test accuracy of the network, and that of the refitted read-out, reach 0.5.
- Two markers come together if the 90 % interval of the mean of their distance over seeds lies within 0.25 dex of 0.
  They are apart if it lies beyond. This takes three seeds with both markers.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr

from probe import PhaseDetector
from probe.phases import Marker, align, second_descent, sustained_crossing
from probe.phases.markers.marker import Status
from probe.stats.inference import LEAST_RUNS, Estimate, mean_interval

DELTA = 0.25  # dex
LEVEL = 0.9
N_SUSTAINED = 3
HALF = 0.5  # test accuracy
MIXED = 1  # the number of GMFL-I in the series
PAIRS = (
    *((name, "mixed") for name in ("fit_end", "generalisation_onset", "compression_onset", "end")),
    *((name, "kurtosis_top") for name in ("fit_end", "generalisation_onset", "compression_onset", "end")),
    ("network_half", "read_out_half"),
)


class Distance(NamedTuple):
    """Distance of two markers over seeds.

    Attributes
    ----------
    first, second : str
        The markers.
    n_found, n_runs : int
        Number of seeds with both markers, and of all.
    distance : Estimate
        Mean over the seeds with both (dex), positive if the second comes later, and its interval.
    verdict : str
        "together", "apart", "undecided", or "too few seeds".
    """

    first: str
    second: str
    n_found: int
    n_runs: int
    distance: Estimate
    verdict: str


def weight_markers(series: xr.Dataset, label: str, layer: str, feature_layer: str, direction: int = 0) -> xr.Dataset:
    """Return the markers of `probe.PhaseDetector` and those of the weights and features, over (run, marker).

    Parameters
    ----------
    series
        Recorded runs with a dimension ``run``.
    label : str
        Name of the variable with the phase of the weights.
    layer, feature_layer : str
        Layer of the weights, and of the features of the read-out.
    direction : int
        Which direction.
    """
    detector = PhaseDetector(n_sustained=N_SUSTAINED).fit(series)
    weights = series[[label, f"{label}_kurtosis"]].sel(layer=layer, direction=direction)
    read_out = series.read_out_accuracy.sel(split="test", layer=feature_layer)
    curves = (series.test_accuracy, read_out, weights[label], weights[f"{label}_kurtosis"])
    values = [curve.transpose("run", "step").values for curve in curves]
    found = [_markers_of_run(series.step.values, *one) for one in zip(*values, strict=True)]
    own_names = [name for name in detector.markers_.coords if name != "marker"]
    usual = detector.markers_[["step", "lower", "upper", "status"]].drop_vars(own_names)
    both = xr.concat([usual, _dataset(found)], "marker")
    ends = {name: detector.markers_[name].values for name in ("first_step", "last_step")}
    return both.assign_coords({name: ("run", end) for name, end in ends.items()})


def _markers_of_run(
    steps: np.ndarray, accuracy: np.ndarray, read_out: np.ndarray, label: np.ndarray, kurtosis: np.ndarray
) -> dict[str, Marker]:
    """Return the markers of weights and features of one run."""
    return {
        "mixed": _crossing(steps, (label == MIXED).astype(float), 1.0, "mixed"),
        "kurtosis_top": second_descent(steps, kurtosis, spike_width=0),
        "network_half": _crossing(steps, accuracy, HALF, "test_accuracy"),
        "read_out_half": _crossing(steps, read_out, HALF, "read_out_accuracy"),
    }


def _crossing(steps: np.ndarray, values: np.ndarray, threshold: float, name: str) -> Marker:
    return sustained_crossing(steps, values, threshold, n_sustained=N_SUSTAINED, name=name)


def _dataset(found: list[dict[str, Marker]]) -> xr.Dataset:
    """Return markers over (run, marker)."""
    variables = {
        name: (("run", "marker"), [[getattr(marker, name) for marker in markers.values()] for markers in found])
        for name in ("step", "lower", "upper")
    }
    variables["status"] = (("run", "marker"), [[str(marker.status) for marker in m.values()] for m in found])
    return xr.Dataset(variables, {"marker": list(found[0])})


def distances(markers: xr.Dataset) -> list[Distance]:
    """Return the distances of all pairs of `PAIRS` over the runs of `weight_markers`."""
    aligned = align(markers, first_step=markers.first_step.values, last_step=markers.last_step.values, delta=DELTA)
    return [_distance(aligned, first, second) for first, second in PAIRS]


def _distance(aligned: xr.Dataset, first: str, second: str) -> Distance:
    one = aligned.distance.sel(pair=f"{first} - {second}").values
    values = one[np.isfinite(one)]
    if len(values) < LEAST_RUNS:
        unknown = Estimate(float(values.mean()) if len(values) else np.nan, np.nan, np.nan, len(values))
        return Distance(first, second, len(values), len(one), unknown, "too few seeds")
    estimate = mean_interval(values, LEVEL)
    if estimate.lower > -DELTA and estimate.upper < DELTA:
        verdict = "together"
    else:
        verdict = "apart" if estimate.lower > DELTA or estimate.upper < -DELTA else "undecided"
    return Distance(first, second, len(values), len(one), estimate, verdict)


def share_mixed(series: xr.Dataset, label: str) -> xr.DataArray:
    """Return the share of runs that become mixed for three observations in a row, by layer and direction."""
    steps, phase = series.step.values, (series[label] == MIXED).astype(float)

    def becomes(values: np.ndarray) -> float:
        return float(_crossing(steps, values, 1.0, "mixed").status in (Status.FOUND, Status.LEFT_CENSORED))

    return xr.apply_ufunc(becomes, phase, input_core_dims=[["step"]], vectorize=True).mean("run")
