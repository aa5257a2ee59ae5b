"""Notes of docs/measures/which_measure.md: each has a test of a trial that decides whether it holds there."""

import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Note(NamedTuple):
    """``holds(measure, trial)``, and what it means for the reader."""

    holds: Callable[[str, Any], bool]
    text: str


def raised(flag: str) -> Callable[[str, Any], bool]:
    return lambda measure, trial: flag in trial.flags()


def failed(text: str, *measures: str) -> Callable[[str, Any], bool]:
    return lambda measure, trial: text in trial.error and (not measures or measure in measures)


def attribute(name: str, pattern: str = "") -> Callable[[str, Any], bool]:
    """Return whether an attribute of a variable matches a pattern."""
    return lambda measure, trial: any(
        re.search(pattern, str(v.attrs[name])) for v in trial.series.values() if name in v.attrs
    )


def layer(*ends: str) -> Callable[[str, Any], bool]:
    """Return whether activation functions of these names are counted, as in ``1:gelu``."""
    return lambda measure, trial: any(
        str(label).endswith(tuple(f":{end}" for end in ends)) for label in trial.labels("layer")
    )


def parameter(text: str) -> Callable[[str, Any], bool]:
    return lambda measure, trial: any(text in str(label) for label in trial.labels("parameter"))


NOTES = [
    Note(
        lambda measure, trial: trial.by_tokens and not trial.error,
        'Rows are positions: pass `reduce="tokens"` and `targets_shift=1`. By default a row is the last position, '
        "which has no target of its own.",
    ),
    Note(attribute("target_bins"), "Real targets are cut into classes: pass `target_bins=4`."),
    Note(
        lambda measure, trial: measure == "PerformanceProbe" and not any("accuracy" in str(v) for v in trial.series),
        "Squared error, and no accuracy.",
    ),
    Note(
        layer("gelu", "silu", "tanh"),
        "The sign changes of the pre-activations of smooth functions. They bound no linear regions. GPT-2 computes "
        "GELU by a tanh, whose argument has the sign of the pre-activation.",
    ),
    Note(layer("silu"), "The units are the gates of SwiGLU. The product of gate and value is not counted."),
    Note(
        attribute("not_counted"), "The attribute `not_counted` names functions that are not counted, such as attention."
    ),
    Note(
        lambda measure, trial: (
            trial.discrete and measure in ("LocalComplexityProbe", "RobustnessProbe") and not trial.error
        ),
        "Inputs are tokens. The probe moves their embeddings.",
    ),
    Note(attribute("lines", r"\(\d+, \d+"), "All positions or pixels of a sample move together along a line."),
    Note(raised("circuits_saturated"), "Each input has a circuit of its own. Use the distances, not the number."),
    Note(raised("circuits_alignment_undefined"), "No centroid alignment, since the model has no derivatives."),
    Note(raised("linear_regions_incomplete"), "The slices stop at a limit: pass `n_slices=0`, or a small `half_side`."),
    Note(raised("linear_regions_undivided"), "One output has no decision boundary. The regions are counted."),
    Note(raised("chaos_kink_limited"), "Twins and tangent differ, by kinks or early updates of Adam: use the twins."),
    Note(raised("chaos_rounded"), "Rounding dominates some sizes, which are NaN: use the other sizes, or float64."),
    Note(raised("mode_degenerate"), "Random matrices have close singular values. Such modes are matched as subspaces."),
    Note(
        lambda measure, trial: trial.adapted and measure in ("WeightsProbe", "WeightModesProbe"),
        "The matrix is that of the whole layer, with its adapter.",
    ),
    Note(
        lambda measure, trial: trial.quantised and measure in ("WeightsProbe", "WeightModesProbe") and not trial.error,
        "The matrix is the dequantised weight.",
    ),
    Note(parameter("lstm.weight_hh"), "The gates of an LSTM are one matrix."),
    Note(
        raised("fisher_saturated"),
        "The number of examples limits the rank: raise `max_samples`, or use the participation ratio.",
    ),
    Note(
        raised("fisher_undefined"),
        "NaN for one factor of each adapter at the start, whose gradients are 0 while the other factor is 0.",
    ),
    Note(raised("weight_phase_few_units"), "GFL is undecided below 200 units. Droplets can be found."),
    Note(raised("weight_phase_undefined"), "NaN where a layer has one unit, no gradient, or weights that are 0."),
    Note(raised("read_out_undefined"), "No read-out, since the targets do not fit the rows."),
    Note(
        lambda measure, trial: any("not to depend on the other inputs" in text for text in trial.warned),
        "A warning: dynamic quantisation chooses its scale from the whole batch, so outputs depend on other inputs.",
    ),
    Note(
        failed("piecewise-linear"),
        "The function is not piecewise linear. Use `LocalComplexityProbe` or `LMNProbe`.",
    ),
    Note(
        failed("activation function"),
        "Fused recurrent layers have no visible activation function. Write the gates as functions, or use `LMNProbe`.",
    ),
    Note(failed("a row for each token"), "There is no token embedding. Name a matrix if the inputs lie on a cycle."),
    Note(failed("integer targets"), "There are no classes."),
    Note(failed("requires_grad"), "The model has no trained parameters."),
    Note(failed("training="), "The model is not trained. Measure it before quantisation."),
    Note(failed("layers= to select"), "Quantised layers are not measured. Measure the model before quantisation."),
]
