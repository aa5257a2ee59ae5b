r"""Neural collapse: how far the rows of a class have become one, and the class means a simplex.

With class means mu_c, c = 1, ..., K, their mean mu (each class counting once), m_c = mu_c - mu, and

    S_W = 1/n sum_i (t_i - mu_c(i)) (t_i - mu_c(i))^T        S_B = 1/K sum_c m_c m_c^T

    NC1          = tr(S_W S_B^+) / K                                 0 when each class is one point
    NC2, norms   = standard deviation over mean of |m_c|             0 for equal norms
    NC2, angles  = mean over pairs |cos(m_c, m_c') + 1 / (K - 1)|    0 for the angles of a simplex

(Papyan, Han and Donoho 2020, PNAS 117(40), arXiv:2008.08186). S_B has rank K - 1 at most: the pseudo-inverse is taken
in the span of the class means, so that wide layers cost no more than n K d. Two classes have NC2 = 0 always. Deviations
from a mean of the same n_c rows are small by (n_c - 1) / n_c: compare runs at equal numbers of rows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import IGNORED, Layers
from probe.forward.outputs import Reduce
from probe.forward.passes import Tap
from probe.geometry.spectra import to_float64_device
from probe.information.discrete import COLLAPSED, class_codes, rows


class NeuralCollapse(NamedTuple):
    """NC1 and NC2; NaN where the class means are one or a mean is that of all. ``singletons``: a class has one row."""

    nc1: float
    nc2_norms: float
    nc2_angles: float
    singletons: bool


def collapse_summary(z: Tensor, labels: Tensor) -> NeuralCollapse:
    """NC1 and NC2 of the rows of ``z``.

    Parameters
    ----------
    z : Tensor of shape (n, d), finite
    labels : integer Tensor of shape (n,), with at least two classes

    Returns
    -------
    NeuralCollapse
        Directions in which class means vary by less than 1e-12 of the largest variance are rounding, not inverted.
    """
    t, y = rows(z.detach()), class_codes(labels, z)
    rounding = COLLAPSED * t.square().sum(1).max()
    t = t - t.mean(0)
    sizes = y.bincount()
    k = len(sizes)
    if k < 2:
        raise ValueError("neural collapse compares classes, and all labels are one; give data with at least two")
    means = t.new_zeros(k, t.shape[1]).index_add_(0, y, t) / sizes[:, None]  # (K, d)
    m = means - means.mean(0)
    norms = m.norm(dim=1)
    singletons = bool((sizes < 2).any())
    if norms.square().sum() <= rounding:
        return NeuralCollapse(math.nan, math.nan, math.nan, singletons)
    squares, u = torch.linalg.eigh(m @ m.T)  # of the singular values s_j of m, whose right vectors are m^T u_j / s_j
    kept = squares > COLLAPSED * squares[-1]
    along = (t - means[y]) @ m.T @ u[:, kept]  # (n, j): deviations along the right vectors, times s_j
    nc1 = (along.square().mean(0) / squares[kept].square()).sum()  # K / s_j^2 is the inverse of S_B, over K
    angles = math.nan
    if (norms > 0).all():
        cosines = (m @ m.T / (norms[:, None] * norms))[*torch.triu_indices(k, k, 1)]
        angles = (cosines + 1 / (k - 1)).abs().mean().item()
    spread = norms.std(correction=0) / norms.mean()
    return NeuralCollapse(nc1.item(), spread.item(), angles, singletons)


class NeuralCollapseProbe(Probe):
    """NC1 and NC2 by (split, layer), from the pass that all probes share; needs integer targets.

    Parameters
    ----------
    layers
        See :func:`probe.forward.select_layers`; the literature looks at what enters the last linear layer.
    reduce
        See :func:`probe.forward.reduced`; with ``"tokens"`` targets are needed for each position.
    random_state
        Not used, since nothing is drawn; accepted as by every probe.
    device
        Where the numbers are computed. Default: where the activations are.

    Notes
    -----
    Variables by (split, layer): ``nc1``, ``nc2_norms``, ``nc2_angles``; the flags ``nc_undefined`` (activations are not
    finite, or the class means are one) and ``nc_singletons`` (a class has a single row, which does not vary: NC1 is
    too low). Splits without targets are NaN, their flags -1. Rows with the target -100 do not count.
    """

    def __init__(
        self, *, layers: Layers = None, reduce: Reduce = None, random_state: int = 0, device: Any = None
    ) -> None:
        self.layers = layers
        self.reduce = reduce
        self.random_state = random_state
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """The selected layers. Data without classes is an error when attaching."""
        if not any(_labels(snapshot, split) is not None for split in snapshot.splits):
            raise ValueError(f"neural collapse needs integer targets, none of {', '.join(snapshot.splits)} has any")
        return [Tap(layer, self.reduce) for layer in snapshot.select(self.layers)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Compare the classes in each layer."""
        layers = [tap.site for tap in self.taps(snapshot)]
        cells = [self._split(snapshot, split, layers) for split in snapshot.splits]
        dims, coords = ("split", "layer"), {"split": snapshot.splits, "layer": layers}
        found = {}
        for name, text in _TEXTS.items():
            values = [[math.nan if cell is None else getattr(cell, name) for cell in row] for row in cells]
            found[name] = Measured(values, dims, coords, long_name=text)
        lost = [[-1 if cell is None else int(any(map(math.isnan, cell))) for cell in row] for row in cells]
        single = [[-1 if cell is None else int(cell.singletons) for cell in row] for row in cells]
        found["nc_undefined"] = Measured(lost, dims, coords, flag=True, long_name="not finite, or class means are one")
        found["nc_singletons"] = Measured(single, dims, coords, flag=True, long_name="a class has a single row")
        return found

    def _split(self, snapshot: Snapshot, split: str, layers: list[str]) -> list[NeuralCollapse | None]:
        labels = _labels(snapshot, split)
        if labels is None:
            return [None] * len(layers)
        outputs = snapshot.outputs(split, layers, reduce=self.reduce)
        return [self._one(outputs[layer], labels, split) if layer in outputs else None for layer in layers]

    def _one(self, z: Tensor, labels: Tensor, split: str) -> NeuralCollapse:
        if len(labels) != len(z):
            raise ValueError(
                f"split {split!r} has {len(labels)} targets for {len(z)} rows of a layer; with a target for each "
                'position, measure positions: NeuralCollapseProbe(reduce="tokens")'
            )
        kept = labels != IGNORED
        z, labels = to_float64_device(z, self.device)[kept.to(z.device)], labels[kept]
        if not torch.isfinite(z).all():
            return NeuralCollapse(math.nan, math.nan, math.nan, bool((labels.unique(return_counts=True)[1] < 2).any()))
        return collapse_summary(z, labels)


def _labels(snapshot: Snapshot, split: str) -> Tensor | None:
    targets = snapshot.data[split].targets
    return None if targets is None or targets.is_floating_point() else targets.flatten()


_TEXTS = {
    "nc1": "NC1: within-class over between-class variance",
    "nc2_norms": "NC2: relative spread of the norms of class means",
    "nc2_angles": "NC2: distance from the angles of a simplex",
}
