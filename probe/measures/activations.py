"""Size, sparsity, dormant units and ranks of the outputs of layers.

For activations h (n inputs, d units):

    norm               root of the mean of h^2
    sparsity           share of h that is exactly 0. ReLU and similar functions return zeros. GELU, SiLU and residual
                       streams do not.
    sparseness         1 - mean_x (mean_i |h|)^2 / mean_x mean_i h^2. This is 0 if all units are equally large, and
                       1 - 1/d if a single unit is active (Treves and Rolls 1991; inputs weigh by their power).
    dormant fraction   share of units with E|h_i| <= tau mean_k E|h_k| (Sokar et al. 2023, arXiv:2302.12902)
    constant sign      share of units that are positive for all inputs or for none. With ReLU, GELU, SiLU and tanh the
                       sign of the output is the sign of the pre-activation. Such a unit is always off or always on:
                       its kink is outside the range of the data.
    sign patterns      number of different columns of signs over the number of units whose sign changes. A column and
                       its complement are the same pattern. The value is 1 if each unit separates the inputs in its own
                       way, and less if units have merged.
    effective rank     exp(entropy of the eigenvalues of Cov(h)), with the eigenvalues divided by their sum
    stable rank        sum of the eigenvalues of Cov(h) over the largest one

A unit that has the rarer sign for a share q of all inputs appears constant on n of them with probability (1-q)^n.
At 95 % confidence, "constant" therefore implies q < 3/n and no more.
"""

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from probe.forward.layers import Layers
from probe.forward.outputs import Reduce
from probe.geometry.spectra import effective_rank, squared_singular_values, stable_rank
from probe.information.validation import as_rows, rows_equal
from probe.layer_probe import LayerProbe, Variables

_NUMBERS = {
    "activation_norm": "root mean square of activations",
    "activation_sparsity": "share of exact zeros",
    "activation_sparseness": "sparseness over units",
    "dormant_fraction": "share of dormant units",
    "constant_sign_fraction": "share of units with constant sign",
    "sign_pattern_fraction": "sign patterns per unit that changes sign",
}
_RANKS = {
    "activation_effective_rank": "effective rank of the covariance",
    "activation_stable_rank": "stable rank of the covariance",
}


def activation_summary(z: Tensor, *, tau: float = 0.025, ranks: bool = True) -> dict[str, float]:
    """Return all numbers of one layer, by the names of the series.

    Parameters
    ----------
    z : Tensor of shape (n, d), n >= 2, finite
        Activations.
    tau : float
        Threshold of the dormant fraction: a unit is dormant if its mean size is at most this share of the layer's.
    ranks : bool
        Whether to compute the spectrum. This takes n d min(n, d) + min(n, d)^3 operations; all other numbers take n d.

    Returns
    -------
    dict of str to float
        Dimensionless, except ``activation_norm`` in units of ``z``. NaN: the ranks if all rows are equal, the sign
        patterns if no sign changes, the sparseness if all activations are 0.

    Raises
    ------
    ValueError
        If ``z`` has another shape or values that are not finite.

    See Also
    --------
    probe.ActivationsProbe : The same numbers over training.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import activation_summary
    >>> found = activation_summary(torch.eye(4))
    >>> found["activation_norm"], found["activation_sparsity"], found["activation_sparseness"]
    (0.5, 0.75, 0.75)
    """
    rows = as_rows(z.detach(), name="z")
    found = _summary(rows.cpu().numpy(), tau)
    return found | _ranks(z.detach()) if ranks else found


def _summary(h: np.ndarray, tau: float) -> dict[str, float]:
    """Return all numbers but the ranks, of finite rows (n, d); numpy is faster than torch for few rows."""
    size, power = np.abs(h), np.vdot(h, h) / h.size
    n, d = h.shape
    by_unit, by_input = size.sum(0) / n, size.sum(1) / d
    numbers = (
        math.sqrt(power),
        1 - np.count_nonzero(h != 0) / h.size,  # of booleans, since numpy counts these faster
        1 - np.vdot(by_input, by_input) / n / power if power > 0 else math.nan,
        np.count_nonzero(by_unit <= tau * by_unit.sum() / d) / d,
        *_signs(h),
    )
    return dict(zip(_NUMBERS, map(float, numbers), strict=True))


def _signs(h: np.ndarray) -> tuple[float, float]:
    """Return the share of columns (n, units) with one sign, and the share of different patterns among the others."""
    on = np.ascontiguousarray((h > 0).T)
    packed = np.packbits(on ^ on[:, :1], axis=1)  # a column and its complement become equal
    changing, length = np.count_nonzero(packed.any(1)), packed.shape[1]
    patterns = len(set(packed.view(f"V{length}").ravel().tolist())) - (changing < len(on))
    return 1 - changing / len(on), patterns / changing if changing else math.nan


def _ranks(z: Tensor) -> dict[str, float]:
    """Return effective and stable rank of finite rows (n, d); NaN if all rows are equal."""
    h = z.double()
    if rows_equal(z):
        return dict.fromkeys(_RANKS, math.nan)
    variances = squared_singular_values(h - h.mean(0))
    values = effective_rank(variances).item(), stable_rank(variances).item()
    return dict(zip(_RANKS, values, strict=True))


class ActivationsProbe(LayerProbe):
    """Measure size, sparsity, dormant units, constant signs and ranks of activations.

    Parameters
    ----------
    layers
        Layers to measure, see :func:`probe.forward.select_layers`. In a model with blocks the default layers are
        residual streams, which have neither zeros nor kinks: select activation modules, ``layers=torch.nn.GELU``.
    reduce
        Conversion of an output to rows, see :func:`probe.forward.reduce_output`. Default: the last position of a
        sequence, the mean over an image. With this mean, a ReLU channel is 0, or dormant, if it is so at every pixel.
    tau : float
        Threshold of the dormant fraction; 0.025 in arXiv:2302.12902.
    ranks : bool
        Whether to compute the ranks. They take most of the time: pass False to observe every step.
    max_samples : int or None
        Number of rows measured, at least 2; of more rows, a fixed random subset is measured. None: all rows.
    random_state : int
        Seed of the subset.
    device
        Device of the ranks. Default: the device of the model. The CPU computes all other numbers.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer), all in units of 1: ``activation_norm``, ``activation_sparsity``,
        ``activation_sparseness``, ``dormant_fraction``, ``constant_sign_fraction``, ``sign_pattern_fraction``,
        ``activation_effective_rank``, ``activation_stable_rank``. Flags: ``activations_nonfinite`` and, with ranks,
        ``activations_alike`` (all rows are equal, so the ranks are NaN). The attribute ``n_rows`` is the number of rows
        measured, the smallest over splits and layers.

    See Also
    --------
    probe.measures.activation_summary : The same numbers of one tensor.

    Examples
    --------
    >>> import torch
    >>> from probe import ActivationsProbe
    >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
    >>> x = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    >>> series = ActivationsProbe(layers=torch.nn.ReLU).fit(model, (x, None)).series_
    >>> series["activation_sparsity"].item(), series["constant_sign_fraction"].item()
    (0.5, 1.0)
    """

    variables: ClassVar[Variables] = {
        **{name: ("1", text, False) for name, text in {**_NUMBERS, **_RANKS}.items()},
        "activations_nonfinite": ("1", "activations are not finite", True),
        "activations_alike": ("1", "all rows are alike", True),
    }
    nonfinite_flag = "activations_nonfinite"

    def __init__(
        self,
        *,
        layers: Layers = None,
        reduce: Reduce = None,
        tau: float = 0.025,
        ranks: bool = True,
        max_samples: int | None = 1024,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        super().__init__(layers=layers, reduce=reduce, max_samples=max_samples, random_state=random_state)
        self.tau = tau
        self.ranks = ranks
        self.device = device

    def declared(self) -> Variables:
        """Return the variables, without those of the ranks if ``ranks`` is False."""
        if self.ranks:
            return self.variables
        return {name: entry for name, entry in self.variables.items() if name not in {*_RANKS, "activations_alike"}}

    def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, float]:
        """Return the numbers of :func:`activation_summary`, and the flag of equal rows."""
        if not 0 <= self.tau < 1:
            raise ValueError(f"Expected 0 <= tau < 1, got {self.tau}; 0.025 is usual")
        found = _summary(z.cpu().double().numpy(), self.tau)
        if self.ranks:
            found |= _ranks(z)
            found["activations_alike"] = math.isnan(found["activation_stable_rank"])
        return found
