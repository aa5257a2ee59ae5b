"""Size, sparsity, dormant units and ranks of what layers return.

For activations h (n inputs, d units):

    norm               root of the mean of h^2
    sparsity           share of h that is exactly 0: of ReLU and its like; GELU, SiLU and residual streams have none
    sparseness         1 - mean_x (mean_i |h|)^2 / mean_x mean_i h^2: 0 where all units are equally large, 1 - 1/d where
                       one unit does it all (Treves and Rolls 1991; inputs weigh by their power)
    dormant fraction   units with E|h_i| <= tau mean_k E|h_k| (Sokar et al. 2023, arXiv:2302.12902)
    constant sign      units that are above 0 for all inputs or for none. With ReLU, GELU, SiLU and tanh that is the
                       sign of the pre-activation: the unit is dead or always on, its kink out of reach of the data
    sign patterns      different columns of signs, a column and its complement being one, over units whose sign changes:
                       1 where each unit cuts the inputs in its own way, less where units have merged
    effective rank     exp(entropy of the eigenvalues of Cov(h)); stable rank: their sum over the largest

A unit that has the rarer sign for a share q of all inputs looks constant on n of them with probability (1-q)^n:
"constant" means q < 3/n at 95 %, no more.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import Layers
from probe.forward.outputs import Reduce
from probe.forward.passes import Tap
from probe.forward.snapshot import generator
from probe.geometry.spectra import effective_rank, squared_singular_values, stable_rank, to_float64_device
from probe.information.discrete import rows, rows_equal

_TEXTS = {
    "activation_norm": "root mean square of activations",
    "activation_sparsity": "share of exact zeros",
    "activation_sparseness": "sparseness over units",
    "dormant_fraction": "share of dormant units",
    "constant_sign_fraction": "share of units with constant sign",
    "sign_pattern_fraction": "sign patterns per unit that changes sign",
}
_RANKS = {
    "activation_effective_rank": ("effective rank of the covariance", effective_rank),
    "activation_stable_rank": ("stable rank of the covariance", stable_rank),
}


def activation_summary(z: Tensor, *, tau: float = 0.025, ranks: bool = True) -> dict[str, float]:
    """All numbers of one layer, by the names of the series.

    Parameters
    ----------
    z : Tensor of shape (n, d), n >= 2, finite
    tau
        A unit whose mean size is below this share of the layer's is dormant.
    ranks
        Whether to compute the spectrum, which takes n d min(n, d) + min(n, d)^3 operations; all else takes n d.

    Returns
    -------
    {name: number}
        NaN: ranks where all rows are alike, sign patterns where no sign changes, sparseness where all is 0.
    """
    z = rows(z.detach())
    found = _summary(z.cpu().numpy(), tau)
    return found | _ranks(z) if ranks else found


def _summary(h: np.ndarray, tau: float) -> dict[str, float]:
    """All but the ranks, of finite rows (n, d); in numpy, which is quicker where rows are few."""
    size, power = np.abs(h), np.vdot(h, h) / h.size
    n, d = h.shape
    by_unit, by_input = size.sum(0) / n, size.sum(1) / d
    numbers = (
        math.sqrt(power),
        1 - np.count_nonzero(h) / h.size,
        1 - np.vdot(by_input, by_input) / n / power if power > 0 else math.nan,
        np.count_nonzero(by_unit <= tau * by_unit.sum() / d) / d,
        *_signs(h),
    )
    return dict(zip(_TEXTS, map(float, numbers), strict=True))


def _signs(h: np.ndarray) -> tuple[float, float]:
    """Share of the columns (n, units) with one sign, and how many of the others differ from each other, as a share."""
    on = np.ascontiguousarray((h > 0).T)
    packed = np.packbits(on ^ on[:, :1], axis=1)  # a column and its complement are one
    moving, length = np.count_nonzero(packed.any(1)), packed.shape[1]
    data = packed.tobytes()
    kinds = len({data[start : start + length] for start in range(0, len(data), length)}) - (moving < len(on))
    return 1 - moving / len(on), kinds / moving if moving else math.nan


def _ranks(z: Tensor) -> dict[str, float]:
    """Effective and stable rank of finite rows (n, d); NaN where all are alike."""
    h = z.double()
    variances = None if rows_equal(h) else squared_singular_values(h - h.mean(0))
    return {name: math.nan if variances is None else rank(variances).item() for name, (_, rank) in _RANKS.items()}


class ActivationsProbe(Probe):
    """Size, sparsity, dormant units, constant signs and ranks by (split, layer), from the pass that all probes share.

    Parameters
    ----------
    layers
        See :func:`probe.forward.select_layers`. In a model with blocks the default layers are residual streams, which
        have neither zeros nor kinks: choose activation modules, ``layers=torch.nn.GELU``.
    reduce
        See :func:`probe.forward.reduced`. Default: the last position of a sequence; the mean over an image, by which a
        ReLU channel is 0, or dormant, if it is so everywhere.
    tau
        Of the dormant fraction; 0.025 in arXiv:2302.12902.
    ranks
        Whether to compute the ranks. They take most of the time: leave them out to look at every step.
    max_samples
        Of more rows than this a fixed random subset is read.
    random_state
        Seed of the subset.
    device
        Where ranks are computed. Default: where the model is. All else is computed by the CPU.

    Notes
    -----
    Variables by (split, layer): ``activation_norm``, ``activation_sparsity``, ``activation_sparseness``,
    ``dormant_fraction``, ``constant_sign_fraction``, ``sign_pattern_fraction``, ``activation_effective_rank``,
    ``activation_stable_rank``; the flags ``activations_nonfinite`` and, beside ranks, ``activations_alike`` (all rows
    are one: they have none). The attribute ``n_samples`` is the number of rows, of the smallest split.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        reduce: Reduce = None,
        tau: float = 0.025,
        ranks: bool = True,
        max_samples: int = 1024,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.layers = layers
        self.reduce = reduce
        self.tau = tau
        self.ranks = ranks
        self.max_samples = max_samples
        self.random_state = random_state
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """The selected layers."""
        return [Tap(layer, self.reduce) for layer in snapshot.select(self.layers)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Summarise each layer on each split."""
        if not (0 <= self.tau < 1 and self.max_samples >= 2):
            raise ValueError(f"expected 0 <= tau < 1 and max_samples >= 2, got {self.tau} and {self.max_samples}")
        layers = [tap.site for tap in self.taps(snapshot)]
        outputs = [snapshot.outputs(split, layers, reduce=self.reduce) for split in snapshot.splits]
        cells = [[self._cell(found.get(layer)) for layer in layers] for found in outputs]
        coords = {"split": snapshot.splits, "layer": layers}
        attrs = {"n_samples": min((int(cell["n"]) for row in cells for cell in row if cell), default=0)}

        def by(name: str, missing: float, text: str, **kwargs: Any) -> Measured:
            values = [[cell.get(name, missing) for cell in row] for row in cells]
            return Measured(values, ("split", "layer"), coords, long_name=text, **kwargs)

        texts, flags = dict(_TEXTS), {"activations_nonfinite": "activations are not finite"}
        if self.ranks:
            texts.update((name, text) for name, (text, _) in _RANKS.items())
            flags["activations_alike"] = "all rows are alike"
        return {
            **{name: by(name, math.nan, text, attrs=attrs) for name, text in texts.items()},
            **{name: by(name, -1, text, flag=True) for name, text in flags.items()},
        }

    def _cell(self, z: Tensor | None) -> dict[str, float]:
        """Numbers, flags and number of rows of one layer on one split, as far as there are any."""
        if z is None:
            return {}
        if len(z) > self.max_samples:
            chosen = torch.randperm(len(z), generator=generator(self.random_state))[: self.max_samples]
            z = z[chosen.to(z.device)]
        h = z.detach().cpu().double().numpy()
        if not (np.isfinite(np.vdot(h, h)) or np.isfinite(h).all()):  # the first is quicker, and mostly enough
            return {"n": len(z), "activations_nonfinite": 1}
        found = {"n": len(z), "activations_nonfinite": 0, **_summary(h, self.tau)}
        if self.ranks:
            found |= _ranks(to_float64_device(z, self.device))
            found["activations_alike"] = math.isnan(found["activation_stable_rank"])
        return found
