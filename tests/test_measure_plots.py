"""Each measure has a standard figure. People judge how the figures look."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import probe
from probe import plots
from probe.plots.measures import _PANELS, _WHOLE
from probe.plots.names import short_names

STEPS = np.array([0, 1, 10, 100])
DIMS = {"split": ["train", "test"], "layer": ["m.0:relu", "m.1:relu"], "parameter": ["m.0.weight", "m.1.weight"]}
DIMS |= {"perturbation": ["none", "random", "worst"], "batch": [0, 1], "direction": ["d"]}


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    yield
    plt.close("all")


def series(**dims: str) -> xr.Dataset:
    """Return variables over steps and other dimensions, which grow with the steps and the labels."""
    found = {}
    for name, text in dims.items():
        others = text.split()
        shape = (len(STEPS), *(len(DIMS[dim]) for dim in others))
        values = np.arange(np.prod(shape), dtype=float).reshape(shape)
        found[name] = xr.DataArray(values, {"step": STEPS, **{dim: DIMS[dim] for dim in others}}, name=name)
    return xr.Dataset(found)


def test_each_probe_has_a_figure() -> None:
    probes = {name for name in probe.__all__ if name.endswith("Probe")} - {"Probe", "LayerProbe"}
    assert {*_PANELS, *_WHOLE} == probes


def test_a_line_for_each_layer_of_one_split() -> None:
    data = series(activation_norm="split layer", dormant_fraction="split layer", activation_sparsity="split")
    figure = plots.measure(data, "ActivationsProbe", split="test")
    assert len(figure.axes) == 3
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert {name: list(values) for name, values in lines.items()} == {"m.0": [2, 6, 10, 14], "m.1": [3, 7, 11, 15]}
    assert figure.axes[0].get_xscale() == "symlog"


def test_batches_are_averaged_and_labels_are_chosen() -> None:
    figure = plots.measure(
        series(robustness_accuracy="split perturbation", lipschitz_mean="split batch"), "RobustnessProbe"
    )
    assert [line.get_label() for line in figure.axes[0].lines] == DIMS["perturbation"]
    assert [list(line.get_ydata()) for line in figure.axes[1].lines] == [[0.5, 4.5, 8.5, 12.5], [2.5, 6.5, 10.5, 14.5]]
    two = series(circuits_near_total="split", circuits_random_total="split")
    (ax,) = plots.measure(two, "CircuitsProbe").axes
    assert [line.get_label() for line in ax.lines] == ["nearest", "random"]
    assert ax.get_ylabel() == "share of units that differ in pairs,\nsplit train"


def test_variables_without_values_are_left_out() -> None:
    data = series(feature_deviation="split layer", read_out_accuracy="split layer", read_out_r2="split layer")
    regression = data.assign(read_out_accuracy=data["read_out_accuracy"] * np.nan)
    figure = plots.measure(regression, "FeatureLearningProbe")
    assert [ax.get_ylabel().partition(",")[0] for ax in figure.axes] == ["feature_deviation", "read_out_r2"]
    classes = data.assign(read_out_r2=data["read_out_r2"] * np.nan)
    figure = plots.measure(classes, "FeatureLearningProbe")
    assert [ax.get_ylabel().partition(",")[0] for ax in figure.axes] == ["feature_deviation", "read_out_accuracy"]
    with pytest.raises(ValueError, match="Expected a series with values of any of nc1, nc2_angles, got none"):
        plots.measure(series(nc1="layer") * np.nan, "NeuralCollapseProbe")


def test_frequencies_are_cells() -> None:
    norms = xr.DataArray(np.ones((4, 3)), {"step": STEPS, "frequency": [1, 2, 3]}, name="fourier_norm")
    figure = plots.measure(xr.Dataset({"fourier_norm": norms}), "FourierProbe")
    (mesh,) = [one for one in figure.axes[0].collections if one.get_array() is not None]
    assert np.size(mesh.get_array()) == 12
    assert figure.axes[0].get_ylim() == (0.5, 3.5)


def test_other_names_and_other_series_are_errors() -> None:
    with pytest.raises(ValueError, match=r"Expected the name of a measure among ActivationsProbe, .*, got 'weights'"):
        plots.measure(series(weight_norm="parameter"), "weights")
    with pytest.raises(ValueError, match="Expected a series with values of any of linear_mapping_number, got none"):
        plots.measure(series(weight_norm="parameter"), "LMNProbe")
    with pytest.raises(ValueError, match="Expected a split among train, test, got 'val'"):
        plots.measure(series(activation_norm="split layer"), "ActivationsProbe", split="val")


def test_shared_words_are_left_out_of_names() -> None:
    assert short_names(["m.0:relu", "m.1:relu"]) == ["m.0", "m.1"]
    assert short_names(["b.1.attention.q.weight", "b.1.up.weight"]) == ["attention.q", "up"]
    assert short_names(["0.weight", "2.weight"]) == ["0", "2"]
    assert short_names(["one.weight"]) == ["one.weight"]
    assert short_names(["a", "a.b"]) == ["a", "a.b"]
