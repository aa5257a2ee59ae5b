"""Other estimators on the same rows, to test whether the shape of a curve depends on the estimator.

None of them changes with the scale of the activations. They estimate other quantities than I(T+n; X), with other
levels: compare when they rise and fall, with :func:`probe.phases.peak_agreement`.
"""

from collections.abc import Callable

from torch import Tensor

from probe.information.binned import binned_information, principal_components
from probe.information.bins import equal_bins
from probe.information.rate_distortion import coding_rate
from probe.information.renyi import renyi_information

_AXES, _BINS = 3, 10  # 1,000 cells: as fine as some thousand rows can fill
ComparisonEstimator = tuple[float, float | None]  # about the inputs, and about the labels if there are any


def _coding_rate(z: Tensor, labels: Tensor | None, inputs: Tensor | None, noise: float) -> ComparisonEstimator:
    found = coding_rate(z, labels, inputs=inputs, noise=noise)
    return found.x.item(), None if found.y is None else found.y.item()


def _renyi(z: Tensor, labels: Tensor | None, inputs: Tensor | None, noise: float) -> ComparisonEstimator:
    found = renyi_information(z, labels, inputs=inputs, order=2)  # other orders need eigenvalues: 20 times the cost
    return found.x.item(), None if found.y is None else found.y.item()


def _binned(z: Tensor, labels: Tensor | None, inputs: Tensor | None, noise: float) -> ComparisonEstimator:
    found = binned_information(equal_bins(principal_components(z, min(_AXES, *z.shape)), _BINS), labels, inputs=inputs)
    return found.x, found.y


ESTIMATORS: dict[str, tuple[str, Callable[[Tensor, Tensor | None, Tensor | None, float], ComparisonEstimator]]] = {
    "coding_rate": ("coding rate at the relative noise of the channel, not cut to its ceiling", _coding_rate),
    "renyi": ("matrix Renyi information of order 2, kernel as wide as the median distance", _renyi),
    "binned": (f"{_BINS} equal bins on each of the first {_AXES} principal axes", _binned),
}
