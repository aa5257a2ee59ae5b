r"""Linear mapping number: into how many linear pieces, about, a network cuts what it maps.

For two samples with hidden representations h_i and h_j the network behind that layer is followed along the line
h(lam) = h_i + lam (h_j - h_i). L_ij is the squared Pearson correlation of each output with lam, averaged over outputs
(1 where the network is affine between the two), L_ii = 1, and with p the normalised absolute eigenvalues of L

    LMN = 2 ** ( - sum_i p_i log2 p_i )          (arXiv:2310.05918, section 2)

An affine map has LMN 1; c equal groups of samples, affine within and unrelated between, have LMN c. It is no count of
linear regions. It grows almost in proportion to the number of samples N: only curves with the same N compare, and N is
stored. An output that is constant along the line counts as affine (0/0 := 1). Rounding is a bend where an output hardly
moves: an affine layer in bfloat16 has about 1.4 instead of 1 (44 samples). :mod:`probe.geometry.lines` has the
formulas, and that of the variant weighted by variance.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import OUTPUT, Layers
from probe.forward.outputs import Reduce
from probe.forward.snapshot import generator
from probe.geometry.lines import linear_mapping_number, pairwise_linearity
from probe.measures.linear_mapping.suffix_map import ROUNDING, Behind, affine_after, line_layers

_STILL = 1e-4  # of the largest output: where it moves less along the lines, rounding shows in the correlations
_BLOCK = 2**20  # numbers in a block of points, unless one forward pass has more: sums over it stay near the cache
_TEXTS = {
    "": "linear mapping number",
    "_weighted": "linear mapping number, outputs weighted by variance",
    "_nonfinite": "outputs are not finite",
    "_still": "outputs hardly move along the lines",
    "_around": "the output hangs on more than the layer",
    "_unrepeatable": "two equal passes differ",
}


class LMNProbe(Probe):
    """Linear mapping number between a layer and a later one, on fixed samples of each split.

    Parameters
    ----------
    layers
        Where the straight lines are drawn; sites such as ``":silu->"`` too. Default: the output of the first block of
        a model with blocks, else the first hidden representation after an activation function. All that the layer
        returns for a sample moves together, all positions of a sequence too, since later attention reads them all.
        What reaches the output on other ways (skip connections around the layer) stays that of the first sample of a
        pair. A layer that changes nothing in the output is an error.
    output
        Where the lines are followed to: a later layer or site. Default: what comes out of the model.
    reduce
        Rows of numbers from that output, see :func:`probe.forward.reduce_output`. Default: a sequence is read at its
        last position, an image as its mean over space; ``"flatten"`` reads everything.
    n_samples
        N at most; what ``max_rows`` allows if that is less. Curves compare at the same N only.
    n_points
        Points on each line with both ends; 21 in the paper, 5 is within 4 % of it at a fifth of the cost.
    max_rows
        Forward rows per observation over all splits and layers, with 3 N + N (N-1) / 2 (n_points - 1) for each, besides
        those that try the model. Where there are no ways around the layer the far ends of the lines are known, and
        fewer rows run.
    random_state
        Seed of the choice of samples, the same at every step.
    device
        Not used for the forward passes, which run where the model is; accepted as by every probe.

    Notes
    -----
    Variables by (split, layer): ``linear_mapping_number`` and ``linear_mapping_number_weighted`` (outputs weighted by
    variance: the same in every rotation of the output), with the attributes ``n_samples``, ``n_points``, ``output`` and
    ``lines``. Flags ``linear_mapping_number_...``: ``nonfinite``; ``still``, outputs move by less than 1e-4 of their
    size along the lines, so that rounding passes for curvature and the number is too high; ``around``, the output
    hangs on more than the layer; ``unrepeatable``, two passes over the same inputs differ in evaluation mode, and the
    noise passes for curvature.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        output: str = OUTPUT,
        reduce: Reduce = None,
        n_samples: int = 96,
        n_points: int = 5,
        max_rows: int = 4096,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.layers = layers
        self.output = output
        self.reduce = reduce
        self.n_samples = n_samples
        self.n_points = n_points
        self.max_rows = max_rows
        self.random_state = random_state
        self.device = device

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Follow the lines between all pairs of samples."""
        if self.n_points < 3:
            raise ValueError(f"n_points must be at least 3, got {self.n_points}: two points are always on a line")
        layers = line_layers(snapshot, self.layers, self.output)
        n = self._n(snapshot, len(layers) * len(snapshot.splits))
        found = [[self._one(snapshot, split, layer, n) for layer in layers] for split in snapshot.splits]
        shapes = ", ".join(f"{layer} {snapshot.trace.shapes[layer][1:]}" for layer in layers)
        attrs = {"n_samples": n, "n_points": self.n_points, "output": self.output}
        attrs["lines"] = f"all that a layer returns for a sample, all positions, move together: {shapes}"
        coords = {"split": snapshot.splits, "layer": layers}
        measured = {}
        for i, (name, text) in enumerate(_TEXTS.items()):
            values = [[one[i] for one in row] for row in found]
            facts: dict[str, Any] = {"flag": True} if i > 1 else {"attrs": attrs}
            measured[f"linear_mapping_number{name}"] = Measured(values, tuple(coords), coords, long_name=text, **facts)
        return measured

    def _n(self, snapshot: Snapshot, shares: int) -> int:
        """The largest N within the budget."""
        m, rows = self.n_points - 1, self.max_rows // shares
        b = m / 2 - 3  # m/2 N^2 - b N <= rows
        n = math.floor((b + math.sqrt(b * b + 2 * m * max(rows, 0))) / m)
        n = min([n, self.n_samples, *(len(batch) for batch in snapshot.data.values())])
        if n < 2:
            raise ValueError(
                f"n_samples={self.n_samples} and max_rows={self.max_rows} leave {n} samples for each of {shares} "
                "splits and layers; at least 2 are needed"
            )
        return n

    def _one(self, snapshot: Snapshot, split: str, layer: str, n: int) -> tuple[float, ...]:
        """Numbers and flags in the order of their names above."""
        rows = torch.randperm(len(snapshot.data[split]), generator=generator(self.random_state))[:n]
        tail = Behind(snapshot, split, affine_after(snapshot, layer, self.output), self.output, rows, self.reduce)
        ends = tail.ends()
        if ends.around and tail.layer != layer:  # the value may go other ways, too, before the affine layer
            tail = Behind(snapshot, split, layer, self.output, rows, self.reduce)
            ends = tail.ends()
        lam = torch.linspace(0, 1, self.n_points, device=ends.values.device, dtype=torch.float64)
        width = max(ends.values[0].numel(), ends.outputs.shape[1])
        block = max(snapshot.batch_size, _BLOCK // width)  # its forward passes have batch_size rows all the same
        found = pairwise_linearity(tail, ends.values, ends.outputs, lam, depends_on_first=ends.around, batch_size=block)
        size, apart = ends.outputs.abs().max().item(), (ends.outputs - ends.outputs[0]).abs().max().item()
        if found.max_change <= ROUNDING * size < apart:
            raise ValueError(f"layer {layer!r} changes nothing in the output of the model; choose one on the way to it")
        unrepeatable = not snapshot.is_deterministic(split, [layer, self.output])
        if not found.mean.isfinite().all():
            return math.nan, math.nan, 1, -1, ends.around, unrepeatable
        numbers = [linear_mapping_number(matrix).item() for matrix in (found.mean, found.weighted)]
        return *numbers, 0, 0 < found.max_change < _STILL * size, ends.around, unrepeatable
