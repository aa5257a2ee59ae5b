"""Variables of :class:`~probe.MutualInfoProbe`, from the results of each layer and split."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from probe.base import Measured
from probe.information.channel import ChannelEstimate, ChannelInformation
from probe.information.spread import RepresentationGeometry
from probe.layer_probe import Variables, tabulated
from probe.measures.mutual_info.estimators import ESTIMATORS, ComparisonEstimator
from probe.series import COMPARES

_ALARM = 0.5  # of what the class means decode: a smaller I(T+n; Y) shows that the noise hides the labels
_INFORMATIONS = {"x": "I(T+n;X)", "y": "I(T+n;Y)", "x_given_y": "I(T+n;X|Y)"}
_COMPANIONS: dict[str, tuple[str, str, bool]] = {
    "total_variance": ("1", "tr Cov(T)", False),
    "noise_std": ("1", "noise per dimension", False),
    "noise_relative": ("1", "noise per dimension over the root of tr Cov(T)", False),
    "effective_rank": ("1", "participation ratio of Cov(T)", False),
    "within_share": ("1", "within-class share of tr Cov(T)", False),
    "class_mean_accuracy": ("1", "accuracy of the nearest class mean", False),
    "saturated": ("1", "I(T+n;X) is at its ceiling", True),
    "collapsed": ("1", "all rows alike", True),
    "fano_alarm": ("1", "the noise hides labels that class means decode", True),
    "information_nonfinite": ("1", "activations are not finite", True),
}
_ARTEFACT: dict[str, tuple[str, str, bool]] = {
    "scale_artefact": ("1", "more than half of the change since the first observation is one of scale", True)
}

_AUTO: dict[str, tuple[str, str, bool]] = {
    "noise_uncalibrated": ("1", "no noise level suits the layer, and the default is used", True)
}


class VariableOptions(NamedTuple):
    """Parameters of the probe that add variables."""

    noise_factors: Sequence[float]
    compare: Sequence[str]
    subsample_se: bool
    scale_free: bool
    calibrated: bool


class LayerResult(NamedTuple):
    """Results of one layer and split.

    Attributes
    ----------
    levels : information at each noise level, the stated one first; empty if the activations are not finite
    geometry : None if all rows are equal
    compared : results of the other estimators by name
    scale_free : information at a noise that follows the scale; None if this is the stated noise
    scale_artefact : whether the change of the information is mostly one of scale
    uncalibrated : whether no noise level suits the layer
    """

    levels: tuple[ChannelInformation, ...] = ()
    geometry: RepresentationGeometry | None = None
    compared: Mapping[str, ComparisonEstimator] = {}
    scale_free: ChannelInformation | None = None
    scale_artefact: bool = False
    uncalibrated: bool = False

    def numbers(self) -> dict[str, float]:
        """Return all numbers and flags by name of the variable. What is undefined is missing."""
        if not self.levels:
            return {"information_nonfinite": 1}
        main = self.levels[0]
        found: dict[str, float | None] = dict(_information_numbers(main))
        found |= {f"{name}_scale_free": bits for name, bits in _values(self.scale_free or main)}
        for name, (x, y) in self.compared.items():
            found |= {f"information_x_{name}": x, f"information_y_{name}": y}
        found |= {"total_variance": main.variance, "noise_std": main.noise_std, "noise_relative": main.noise_relative}
        if self.geometry is not None:
            found["effective_rank"] = self.geometry.participation_ratio
            found["within_share"] = self.geometry.within_share
            found["class_mean_accuracy"] = self.geometry.class_mean_accuracy
        found |= {"saturated": main.saturated, "collapsed": main.collapsed, "fano_alarm": self._fano_alarm()}
        found |= {"scale_artefact": self.scale_artefact, "information_nonfinite": 0}
        found |= {"noise_uncalibrated": self.uncalibrated}
        return {name: value for name, value in found.items() if value is not None}

    def _fano_alarm(self) -> bool | None:
        """Return whether I(T+n; Y) is below half of what the class means decode; None without labels."""
        y = self.levels[0].y
        if y is None or self.geometry is None or self.geometry.fano_bound is None:
            return None
        likely = y.bracket[1] if math.isnan(y.se) else y.value + 3 * y.se
        return likely < _ALARM * self.geometry.fano_bound


def information_variables(
    results: Sequence[Sequence[LayerResult | None]],
    coords: Mapping[str, Sequence[Any]],
    attrs: Mapping[str, Any],
    options: VariableOptions,
) -> dict[str, Measured]:
    """Return all variables; a result is None if the layer did not fire. ``attrs`` describes the informations."""
    cells = [[{} if result is None else result.numbers() for result in row] for row in results]
    labelled = any("information_y" in cell for row in cells for cell in row)
    names = list(_INFORMATIONS) if labelled else ["x"]
    found = tabulated(cells, _estimates(names, options), coords, attrs)
    if options.noise_factors:
        levels = [[_by_noise(result, len(options.noise_factors)) for result in row] for row in results]
        by_noise: Variables = {
            f"information_{which}_by_noise": ("bits", f"{_INFORMATIONS[which]} by noise", False) for which in names
        }
        factors = [float(factor) for factor in options.noise_factors]
        found |= tabulated(levels, by_noise, {**coords, "noise_factor": factors}, attrs)
    for which in names[:2]:
        found |= tabulated(cells, _comparisons(which, options), coords, {COMPARES: f"information_{which}"})
    companions = _COMPANIONS | (_ARTEFACT if options.scale_free else {}) | (_AUTO if options.calibrated else {})
    return found | tabulated(cells, companions, coords)


def _estimates(names: Sequence[str], options: VariableOptions) -> Variables:
    """Return the variables of the informations, with their errors and bounds."""
    parts = ChannelEstimate._fields if options.subsample_se else ChannelEstimate._fields[:-1]
    return {
        f"information_{which}{_suffix(part)}": (
            "bits",
            _INFORMATIONS[which] + ("" if part == "value" else f", {part.replace('_', ' ')}"),
            False,
        )
        for which in names
        for part in parts
    }


def _comparisons(which: str, options: VariableOptions) -> Variables:
    """Return the variables of the other estimators, and of the noise that follows the scale."""
    variables = {
        f"information_{which}_{other}": ("bits", f"I(T;{which.upper()}): {ESTIMATORS[other][0]}", False)
        for other in options.compare
    }
    if options.scale_free:
        text = f"{_INFORMATIONS[which]}, noise that follows the scale"
        variables[f"information_{which}_scale_free"] = ("bits", text, False)
    return variables


def _by_noise(result: LayerResult | None, n: int) -> list[dict[str, float]]:
    """Return the informations at each multiple of the noise."""
    if result is None or not result.levels:
        return [{}] * n
    return [{f"{name}_by_noise": bits for name, bits in _values(level)} for level in result.levels[1:]]


def _values(information: ChannelInformation) -> Iterator[tuple[str, float]]:
    """Yield the name and the value of each information that is defined."""
    for which in _INFORMATIONS:
        estimate: ChannelEstimate | None = getattr(information, which)
        if estimate is not None:
            yield f"information_{which}", estimate.value


def _information_numbers(information: ChannelInformation) -> Iterator[tuple[str, float | None]]:
    """Yield all numbers of the informations by name, with the bounds clipped to [0, ceiling]."""
    for which in _INFORMATIONS:
        estimate: ChannelEstimate | None = getattr(information, which)
        if estimate is not None:
            lower, upper = estimate.bracket
            for part, value in estimate._replace(lower=lower, upper=upper)._asdict().items():
                yield f"information_{which}{_suffix(part)}", value


def _suffix(part: str) -> str:
    return "" if part == "value" else f"_{part}"
