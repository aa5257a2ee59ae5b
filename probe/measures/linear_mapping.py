r"""Linear mapping number: into how many linear pieces, about, a network cuts what it maps.

For two samples with hidden representations h_i and h_j the network behind that layer is followed along the line
h(lam) = h_i + lam (h_j - h_i). L_ij is the squared Pearson correlation of each output with lam, averaged over outputs
(1 where the network is affine between the two), L_ii = 1, and with p the normalised absolute eigenvalues of L

    LMN = 2 ** ( - sum_i p_i log2 p_i )          (arXiv:2310.05918, section 2)

An affine map has LMN 1; c equal groups of samples, affine within and unrelated between, have LMN c. LMN grows almost
in proportion to the number of samples N: only curves with the same N compare, and N is stored. An output that is
constant along the line counts as affine (0/0 := 1). Rounding is a bend where an output hardly moves: an affine layer
in bfloat16 has about 1.4 instead of 1 (44 samples), in float32 1.0003 under an offset of 100 times its variation.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.layers import OUTPUT, Layers, named_layers, reduced
from probe.snapshot import generator

_ROUNDING = 1e-5  # of the largest output: float32 rounding of passes over other batches stays below
_STILL = 1e-4  # of the largest output: where it moves less along the lines, rounding shows in the correlations


def linearity(y: Tensor, lam: Tensor) -> Tensor:
    """Mean squared correlation of outputs with the interpolation coordinate.

    Parameters
    ----------
    y : Tensor of shape (pairs, M, K)
    lam : Tensor of shape (M,)

    Returns
    -------
    Tensor of shape (pairs,), float64, from 0 to 1.
    """
    y, lam = y.double(), lam.double()
    centred = y - y.mean(1, keepdim=True)  # (pairs, M, K)
    line = lam - lam.mean()
    power = centred.square().sum(1)  # (pairs, K)
    covariance = torch.einsum("pmk,m->pk", centred, line)
    r2 = covariance.square() / (power * line.square().sum())
    # constant up to float32 rounding of outputs of this size: nothing to explain
    constant = power <= y.abs().amax(1).square() * y.shape[1] * 2.0**-46
    return torch.where(constant, 1.0, r2).mean(1)


def linear_mapping_number(matrix: Tensor) -> Tensor:
    """2 to the entropy (bits) of the normalised absolute spectrum of a symmetric matrix (n, n)."""
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"expected a square matrix, got shape {tuple(matrix.shape)}")
    p = torch.linalg.eigvalsh(matrix).abs()
    p = p / p.sum()
    return torch.exp2(-torch.special.xlogy(p, p).sum() / math.log(2))


class LMNProbe(Probe):
    """Linear mapping number between a layer and the output of the model, on fixed samples of each split.

    Parameters
    ----------
    layers
        Where the straight lines are drawn. Default: the output of the first block of a model with blocks, else the
        first hidden representation after an activation function. All positions of a sequence are interpolated
        together, since later attention reads them all. What reaches the output on other ways (skip connections
        around the layer) stays that of the first sample of a pair. A layer that changes nothing in the output is an
        error.
    n_samples
        N at most; what ``max_rows`` allows if that is less. Curves compare at the same N only.
    n_points
        Points on each line with both ends; 21 in the paper, 5 is within 4 % of it at a quarter of the cost.
    max_rows
        Forward rows per observation over all splits and layers.
    random_state
        Seed of the choice of samples, the same at every step.
    device
        Not used for the forward passes, which run where the model is; accepted as by every probe.

    Notes
    -----
    Variables: ``linear_mapping_number`` by (split, layer), with the attributes ``n_samples`` and ``n_points``; the
    flags ``linear_mapping_number_nonfinite`` and ``linear_mapping_number_still``: outputs move by less than 1e-4 of
    their size along the lines, so that rounding passes for curvature and the number is too high.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        n_samples: int = 96,
        n_points: int = 5,
        max_rows: int = 4096,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.layers = layers
        self.n_samples = n_samples
        self.n_points = n_points
        self.max_rows = max_rows
        self.random_state = random_state
        self.device = device

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Follow the lines between all pairs of samples."""
        if self.n_points < 3:
            raise ValueError(f"n_points must be at least 3, got {self.n_points}: two points are always on a line")
        layers = self._layers(snapshot)
        n = self._n(snapshot, len(layers) * len(snapshot.splits))
        found = [[self._one(snapshot, split, layer, n) for layer in layers] for split in snapshot.splits]
        values = [[value for value, _ in row] for row in found]
        dims, coords = ("split", "layer"), {"split": snapshot.splits, "layer": layers}
        name, attrs = "linear_mapping_number", {"n_samples": n, "n_points": self.n_points}
        bad = [[int(math.isnan(value)) for value in row] for row in values]
        return {
            name: Measured(values, dims, coords, long_name="linear mapping number", attrs=attrs),
            f"{name}_nonfinite": Measured(bad, dims, coords, flag=True, long_name="outputs are not finite"),
            f"{name}_still": Measured(
                [[int(still) for _, still in row] for row in found],
                dims,
                coords,
                flag=True,
                long_name="outputs hardly move along the lines",
            ),
        }

    def _layers(self, snapshot: Snapshot) -> list[str]:
        if self.layers is not None:
            return snapshot.select(self.layers)
        first = snapshot.select(None)[0]
        block = any(name.startswith(f"{first}.") for name in named_layers(snapshot.model))
        after = next((site for site in snapshot.trace.order if site.endswith("->")), None)
        return [first if block or after is None or after.startswith(f"{first}:") else after]

    def _n(self, snapshot: Snapshot, shares: int) -> int:
        """The largest N with N + N (N-1)/2 (M-1) rows for each split and layer within the budget."""
        moved = self.n_points - 1
        rows = self.max_rows // shares
        b = moved / 2 - 1
        n = math.floor((b + math.sqrt(b * b + 2 * moved * rows)) / moved)
        n = min([n, self.n_samples, *(len(batch) for batch in snapshot.data.values())])
        if n < 2:
            raise ValueError(
                f"n_samples={self.n_samples} and max_rows={self.max_rows} leave {n} samples for each of {shares} "
                "splits and layers; at least 2 are needed"
            )
        return n

    def _one(self, snapshot: Snapshot, split: str, layer: str, n: int) -> tuple[float, bool]:
        """The number, and whether outputs hardly moved."""
        rows = torch.randperm(len(snapshot.data[split]), generator=generator(self.random_state))[:n]
        h, ends = _ends(snapshot, split, layer, rows)
        lam = torch.linspace(0, 1, self.n_points, device=h.device, dtype=torch.float64)
        i, j = torch.triu_indices(n, n, 1)  # (pairs,)
        matrix, moved = torch.eye(n, dtype=torch.float64), 0.0
        for some in torch.arange(len(i)).split(max(1, snapshot.batch_size // (self.n_points - 1))):
            a, b = i[some], j[some]
            # the second end too: it differs from the output of sample b where there are ways around the layer
            later = snapshot.outputs(
                split, [OUTPUT], rows=rows[a].repeat_interleave(len(lam) - 1), edit={layer: _line(h, a, b, lam[1:])}
            )[OUTPUT]
            y = torch.cat([ends[a, None], later.view(len(a), len(lam) - 1, -1)], 1)  # (pairs, M, K)
            if not torch.isfinite(y).all():
                return math.nan, False
            moved = max(moved, (y - y[:, :1]).abs().max().item())
            matrix[a, b] = matrix[b, a] = linearity(y, lam).cpu()
        size, apart = ends.abs().max().item(), (ends - ends[0]).abs().max().item()
        if moved <= _ROUNDING * size < apart:
            raise ValueError(f"layer {layer!r} changes nothing in the output of the model; choose one on the way to it")
        return linear_mapping_number(matrix).item(), 0 < moved < _STILL * size


def _ends(snapshot: Snapshot, split: str, layer: str, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The layer (n, ...) and the output (n, K) of these inputs."""
    if not snapshot.trace.floating.get(layer):
        raise ValueError(f"layer {layer!r} does not fire, or returns integers; no line can be drawn there")
    found = snapshot.outputs(split, [layer, OUTPUT], reduce="none", rows=rows)
    h = found[layer]
    if len(h) != len(rows):
        raise ValueError(
            f"layer {layer!r} has shape {tuple(h.shape)} for {len(rows)} inputs, expected one row for each; "
            "choose another"
        )
    return h, reduced(found[OUTPUT], None, "the model")


def _line(h: Tensor, i: Tensor, j: Tensor, lam: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    def put(output: Tensor, positions: Tensor) -> Tensor:
        pair, point = positions.cpu() // len(lam), positions % len(lam)
        weight = lam[point].to(h.dtype).view(-1, *[1] * (h.ndim - 1))
        return torch.lerp(h[i[pair].to(h.device)], h[j[pair].to(h.device)], weight).to(output.dtype)

    return put
