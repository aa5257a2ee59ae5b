r"""Linear mapping number: the approximate number of linear pieces into which a network divides its input.

For two samples with hidden representations h_i and h_j, the line h(lam) = h_i + lam (h_j - h_i) is sent through the
part of the network after the layer. L_ij is the squared Pearson correlation of each output with lam, averaged over
outputs (1 if the network is affine between the two), L_ii = 1, and with p the normalised absolute eigenvalues of L

    LMN = 2 ** ( - sum_i p_i log2 p_i )          (arXiv:2310.05918, section 2)

An affine map has LMN 1. For c equal groups of samples, affine within and unrelated between groups, LMN is c. LMN is not
the number of linear regions. It grows almost in proportion to the number of samples N: compare only curves with the
same N, which is stored. An output that is constant along the line counts as affine (0/0 := 1). If an output hardly
moves, its rounding appears as curvature: an affine layer in bfloat16 has LMN 1.4 instead of 1 (44 samples).
:mod:`probe.geometry.lines` has the formulas, also those of the variant weighted by variance.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor

from probe.attach.contract import Staged
from probe.base import Measured, Probe, Snapshot
from probe.errors import warn_user
from probe.forward.layers import OUTPUT, Layers
from probe.forward.outputs import Reduce
from probe.geometry.lines import line_shares, linear_mapping_number, linearity_matrices
from probe.layer_probe import Cell, Variables, random_rows, tabulated
from probe.measures.linear_mapping.suffix_map import ROUNDING, NotMeasured, SuffixMap, affine_after, line_layers
from probe.reads import Stages

_LEAST_MOVEMENT = 1e-4  # of the largest output: below it, the correlations along the lines show rounding
_BLOCK = 2**20  # numbers in a block of points, unless one forward pass has more: sums over it stay near the cache
_FEW = 8  # samples
_NAME = "linear_mapping_number"
_VARIABLES: Variables = {
    _NAME: ("1", "linear mapping number", False),
    f"{_NAME}_weighted": ("1", "linear mapping number, outputs weighted by variance", False),
    f"{_NAME}_nonfinite": ("1", "outputs are not finite", True),
    f"{_NAME}_still": ("1", "outputs hardly move along the lines", True),
    f"{_NAME}_around": ("1", "the output depends on more than the layer", True),
    f"{_NAME}_unrepeatable": ("1", "two equal passes differ", True),
}


class _Lines(NamedTuple):
    """Tensors of one layer and split: L and W, the largest change, size and spread of the outputs; and facts."""

    tensors: list[Tensor]
    n: int
    around: bool
    unrepeatable: bool


class LMNProbe(Staged, Probe):
    """Measure the linear mapping number between a layer and a later one, on fixed samples of each split.

    Parameters
    ----------
    layers
        Layers in whose outputs the lines lie, see :func:`probe.forward.select_layers`; sites such as ``":silu->"`` too.
        Default: the output of the first block of a model with blocks, else the first hidden representation after an
        activation function. All that the layer returns for a sample moves together, all positions of a sequence too,
        since later attention reads them all. Each call of a layer that is called several times is a layer: the lines
        lie in this call alone. Values that reach the output past the layer (skip connections, other calls) stay those
        of the first sample of a pair. A layer without influence on the output is an error.
    output : str
        Name of the later layer or site that the lines are followed to. Default: the output of the model.
    reduce
        Conversion of that output to rows, see :func:`probe.forward.reduce_output`. Default: the last position of a
        sequence, the mean over an image; ``"flatten"`` keeps all numbers.
    max_samples : int
        Largest number of samples N; ``max_rows`` may allow fewer, but 2 at least if it is None. Compare only curves
        with the same N.
    n_points : int
        Number of points on each line, both ends included. arXiv:2310.05918 uses 21; the result for 5 differs by at
        most 4 % (6.9 % for the weighted number), at a fifth of the cost.
    max_rows : int or None
        Budget of forward rows per observation over all splits and layers: 3 N + N (N-1) / 2 (n_points - 1) for each,
        besides those that test the model. If no value passes around the layer, the far ends of the lines are known and
        fewer rows run. Default: 4,096, or fewer for a large model, see :meth:`probe.Snapshot.row_budget`. N then
        follows from model and data; a warning is issued if it is below 8.
    random_state : int
        Seed of the choice of samples, the same at every step.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer), in units of 1: ``linear_mapping_number`` and ``linear_mapping_number_weighted``
        (outputs weighted by variance, which makes the number independent of rotations of the output). Attributes:
        ``n_rows`` (N), ``n_points``, ``max_rows``, ``output`` and ``lines``. Flags, with the prefix
        ``linear_mapping_number_``:

        - ``nonfinite``: an output is not finite.
        - ``still``: the outputs move by less than 1e-4 of their size along the lines, so that rounding appears as
          curvature. The number is then mostly too high, and can be too low.
        - ``around``: the output depends on more than the layer.
        - ``unrepeatable``: two passes over the same inputs differ in evaluation mode, and the noise appears as
          curvature.

    See Also
    --------
    probe.geometry.pairwise_linearity : L of a function and points.
    probe.geometry.linear_mapping_number : The number of a matrix L.

    Examples
    --------
    Without an activation function the network is affine:

    >>> import torch
    >>> from probe import LMNProbe
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    >>> series = LMNProbe(layers="0").fit(model, (torch.randn(10, 3), None)).series_
    >>> round(series["linear_mapping_number"].item(), 2)
    1.0
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        output: str = OUTPUT,
        reduce: Reduce = None,
        max_samples: int = 96,
        n_points: int = 5,
        max_rows: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.output = output
        self.reduce = reduce
        self.max_samples = max_samples
        self.n_points = n_points
        self.max_rows = max_rows
        self.random_state = random_state

    def stages(self, snapshot: Snapshot) -> Stages[Mapping[str, Measured]]:
        """Follow the lines between all pairs of samples."""
        if self.n_points < 3:
            raise ValueError(f"Expected n_points >= 3, got {self.n_points}; two points always lie on a line")
        layers = line_layers(snapshot, self.layers, self.output)
        n = self._n(snapshot, len(layers) * len(snapshot.splits))
        places = [(split, layer) for split in snapshot.splits for layer in layers]
        lines = {place: self._lines(snapshot, *place, n) for place in places}
        read = iter((yield [tensor for one in lines.values() if one for tensor in one.tensors]))
        found = {place: _cell(place[1], one, [*islice(read, 4)]) if one else {} for place, one in lines.items()}
        cells = [[found[split, layer] for layer in layers] for split in snapshot.splits]
        shapes = ", ".join(f"{layer} {snapshot.trace.shapes[layer][1:]}" for layer in layers)
        budget = snapshot.row_budget(self.max_rows)
        attrs = {"n_rows": n, "n_points": self.n_points, "max_rows": budget, "output": self.output}
        attrs["lines"] = f"all that a layer returns for a sample, all positions, move together: {shapes}"
        return tabulated(cells, _VARIABLES, {"split": snapshot.splits, "layer": layers}, attrs)

    def _n(self, snapshot: Snapshot, shares: int) -> int:
        """Return the largest N within the budget, and at least 2 within a default budget."""
        budget = snapshot.row_budget(self.max_rows)
        m, rows = self.n_points - 1, budget // shares
        b = m / 2 - 3  # m/2 N^2 - b N <= rows
        affordable = math.floor((b + math.sqrt(b * b + 2 * m * max(rows, 0))) / m)
        most = min([self.max_samples, *(len(batch) for batch in snapshot.data.values())])
        n = min(most, affordable if self.max_rows is not None else max(2, affordable))
        if self.max_rows is None and n < min(most, _FEW) and not len(snapshot.history(_NAME)):
            warn_user(
                f"Expected forward rows for lines between {_FEW} or more samples, got {budget} rows for {shares} "
                f"splits and layers, enough for {affordable}; measure more rows of data, or pass LMNProbe(max_rows=...)"
            )
        if n < 2:
            raise ValueError(
                f"Expected 2 or more samples for each of {shares} splits and layers, got {n} with "
                f"max_samples={self.max_samples} and max_rows={self.max_rows}; raise them"
            )
        return n

    def _lines(self, snapshot: Snapshot, split: str, layer: str, n: int) -> _Lines | None:
        """Return the lines of one layer and split, or None if it was not measured."""
        try:
            return self._follow(snapshot, split, layer, n)
        except NotMeasured:
            return None

    def _follow(self, snapshot: Snapshot, split: str, layer: str, n: int) -> _Lines:
        rows = random_rows(len(snapshot.data[split]), n, self.random_state)
        start = affine_after(snapshot, layer, self.output)
        suffix = SuffixMap(snapshot, split, start, self.output, rows, self.reduce)
        ends = suffix.end_points()
        if ends.around and start != layer:  # the value may have other ways, too, before the affine layer
            suffix = SuffixMap(snapshot, split, layer, self.output, rows, self.reduce)
            ends = suffix.end_points()
        lam = torch.linspace(0, 1, self.n_points, device=ends.values.device, dtype=torch.float64)
        width = max(ends.values[0].numel(), ends.outputs.shape[1])
        block = max(suffix.batch_size, _BLOCK // width)  # its forward passes have batch_size rows all the same
        shares, change = line_shares(
            suffix, ends.values, ends.outputs, lam, depends_on_first=ends.around, batch_size=block
        )
        size, spread = ends.outputs.abs().max(), (ends.outputs - ends.outputs[0]).abs().max()
        unrepeatable = not snapshot.is_deterministic(split, [layer, self.output])
        return _Lines([shares, change, size, spread], len(rows), ends.around, unrepeatable)


def _cell(layer: str, lines: _Lines, read: Sequence[Tensor]) -> Cell:
    """Return the numbers and flags of one layer and split, from its tensors on the CPU."""
    shares, change, *rest = read
    found, (size, spread) = linearity_matrices(shares, change, lines.n), (number.item() for number in rest)
    if found.max_change <= ROUNDING * size < spread:
        raise ValueError(
            f"Expected a layer with influence on the output of the model, got {layer!r}, which changes nothing in "
            "the output; choose a layer on the way to it"
        )
    finite = bool(found.mean.isfinite().all())
    matrices = (found.mean, found.weighted) if finite else ()
    numbers = [linear_mapping_number(matrix).item() for matrix in matrices] or [math.nan, math.nan]
    still = 0 < found.max_change < _LEAST_MOVEMENT * size if finite else -1
    return dict(zip(_VARIABLES, (*numbers, not finite, still, lines.around, lines.unrepeatable), strict=True))
