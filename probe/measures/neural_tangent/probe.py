"""The empirical tangent kernel over training: its size, rank and alignment, and how far it moves.

With the outputs f_c(x_i) of the model and its trained parameters, K at ((i, c), (j, d)) is the inner product of the
gradients of f_c(x_i) and f_d(x_j). A small step of gradient descent changes the outputs by - K times the gradient of
the loss with respect to them (Jacot, Gabriel and Hongler 2018, arXiv:1806.07572). In a linear model K never changes;
where K hardly changes, training is that of a linear model. The distance of two kernels, 1 - <H, K> / (|H| |K|), is that
of arXiv:2505.13900 (equations 3 and 4), and the velocity that of Fort et al. 2020 (arXiv:2010.15110).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import Layers
from probe.forward.tangents.layerwise import NotLayerwiseError, layers_of
from probe.forward.tangents.outputs import trained_parameters
from probe.layer_probe import tabulated
from probe.measures.neural_tangent.cells import cell_of
from probe.measures.neural_tangent.parts import Division, Part
from probe.measures.neural_tangent.variables import PREVIOUS, VARIABLES, movement
from probe.stats.cones.sketches import SKETCH

EXACT_ROWS = 192  # of a kernel; with more, 16 products take less work
JACOBIAN = 1 << 27  # numbers that "auto" allows for a Jacobian
_MOST_ROWS = 20_000  # of a whole kernel: 1.6 GB in float32
_METHODS = "auto", "exact", "probes", "layerwise"
_REDUCTIONS = None, "trace", "sum_logits"


class TangentKernelProbe(Probe):
    """Measure the empirical tangent kernel: trace, norm, effective rank, alignment with targets, and movement.

    Parameters
    ----------
    layers
        Layers whose parameters count, those of their submodules included, see :func:`probe.forward.select_layers`.
        Default: all. Parameters without ``requires_grad`` do not count.
    method : str
        - ``"exact"``: the whole kernel, by contraction of the Jacobian of each input.
        - ``"layerwise"``: the whole kernel of a model whose parameters are in Linear, Conv1d and Conv2d layers that are
          called once, without a Jacobian (arXiv:2206.08720).
        - ``"probes"``: products with ``n_probes`` random vectors of signs, with standard errors.
        - ``"auto"``: the whole kernel, layer by layer if possible, where inputs times outputs are at most 192; else
          probes. There the whole kernel takes more work than 16 products.
    n_probes : int
        Number of random vectors, the same at all steps. Standard errors need 2 or more.
    n_batches : int
        Number of disjoint batches of equal size into which the inputs of a split are divided. Each has a kernel and
        random vectors of its own. Two batches show which movement is not jitter, see :func:`probe.stats.cone_entry`.
    max_samples : int or None
        Number of inputs of each split in all batches, at least 2; of more inputs, a fixed random subset. None: all.
    max_outputs : int or None
        Number of outputs of each input; of more outputs, a fixed random subset. The kernel is that of the subset. None:
        all outputs.
    splits : list of str, optional
        Names of the splits. Default: all.
    reduction : str, optional
        Another, cheaper kernel between inputs alone, (n, n): ``"trace"``, the mean over outputs c of K_(i,c),(j,c), or
        ``"sum_logits"``, that of the sum of the outputs over the root of their number. Both are other quantities than
        the full kernel and have no alignment. They move much less: between checkpoints during memorisation, .001 to
        .005 (trace) and .001 to .008 (sum) where the full kernel moves by .07 to .18, with a correlation of .75.
    sketch_size : int
        Numbers of each kernel that are recorded, from which all distances are computed. A whole kernel of N rows is
        kept entirely if N (N + 1) / 2 is at most this size; else its distances have a relative standard error of
        sqrt(2 / sketch_size).
    random_state : int
        Seed of subsets, vectors and sketches.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, batch), each number with its standard error ``_se``, which is 0 for whole kernels (of
        distances: if the sketch is the whole kernel):

        - ``tangent_kernel_trace``, ``tangent_kernel_norm``: trace and Frobenius norm, in units of the outputs squared
          over those of the parameters squared.
        - ``tangent_kernel_effective_rank``: squared trace over squared norm, see :mod:`probe.geometry.tangent_kernel`.
        - ``tangent_kernel_alignment``: cosine of K and y y^T, with targets y as unit vectors or numbers, minus their
          mean over the inputs: 0 to 1. The flag ``tangent_kernel_alignment_undefined`` is 1 without such targets.
        - ``tangent_kernel_moved``, ``tangent_kernel_velocity``: distance to the previous observation, and this over the
          number of steps between.
        - ``tangent_kernel_from_first``: distance to the first observation.
        - ``tangent_kernel_sketch``, by (step, split, batch, sketch): the input of
          :func:`probe.stats.kernel_distances`, which returns the distances between all steps.

        The flag ``tangent_kernel_undefined`` marks a kernel that is 0 or not finite. Attributes: ``n_rows`` (inputs of
        the smallest batch), ``n_outputs``, ``n_parameters``, ``n_probes`` (0 for whole kernels),
        ``n_numbers`` (of a sketch), ``hashed`` (whether a sketch holds sums of entries).

    Raises
    ------
    ValueError
        If no parameter is trained, outputs are no real floating-point numbers with one row for each input, or they do
        not depend on the parameters by operations with derivatives.

    See Also
    --------
    probe.stats.kernel_distances : Distances between all observed steps.
    probe.measures.tangent_kernel : The whole kernel of a model.

    Notes
    -----
    The model runs in evaluation mode: batch normalisation uses its running statistics, so that the kernel couples no
    inputs. Products take as much memory as the graph of one batch and a few vectors of the size of the parameters (at
    most 64 MiB together, or one each). Padded positions count as outputs that are 0.

    Examples
    --------
    Of a linear model f = w . x, K is the matrix of inner products of the inputs:

    >>> import torch
    >>> from probe import TangentKernelProbe
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> x = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    >>> series = TangentKernelProbe(n_batches=1).fit(model, (x, None)).series_
    >>> series["tangent_kernel_trace"].item(), round(series["tangent_kernel_norm"].item(), 3)
    (25.0, 18.358)
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        method: str = "auto",
        n_probes: int = 16,
        n_batches: int = 2,
        max_samples: int | None = 64,
        max_outputs: int | None = 128,
        splits: Sequence[str] | None = None,
        reduction: str | None = None,
        sketch_size: int = 4096,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.method = method
        self.n_probes = n_probes
        self.n_batches = n_batches
        self.max_samples = max_samples
        self.max_outputs = max_outputs
        self.splits = splits
        self.reduction = reduction
        self.sketch_size = sketch_size
        self.random_state = random_state

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Measure the kernel of each batch, and compare it with those of earlier observations."""
        names = self._checked_splits(snapshot)
        parameters = trained_parameters(snapshot.model, self.layers)
        division = Division(self.n_batches, self.max_samples, self.max_outputs, self.reduction, self.random_state)
        parts = [part for name in names for part in division.parts(snapshot, name, parameters)]
        method = self._method(parts[0], max(part.n * part.columns for part in parts))
        n_probes, rows = self.n_probes if method == "probes" else 0, max(part.rows for part in parts)
        facts = {"n_probes": n_probes, "hashed": int(not n_probes and rows * (rows + 1) // 2 > self.sketch_size)}
        found = [cell_of(part, method, self.n_probes, self.sketch_size) for part in parts]
        sketches = np.stack([sketch for _, sketch in found])
        moves, newest = movement(snapshot, sketches, facts)
        attrs = {
            "n_rows": min(part.n for part in parts),
            "n_outputs": parts[0].columns,
            "n_parameters": parts[0].tangents.size,
            "n_numbers": sketches.shape[1],
            **facts,
        }
        cells = [cell | move for (cell, _), move in zip(found, moves, strict=True)]
        coords: dict[str, Sequence[Any]] = {"split": names, "batch": list(range(self.n_batches))}
        dims, coords_of_sketch = ("split", "batch", "sketch"), {**coords, "sketch": list(range(sketches.shape[1]))}
        values = sketches.reshape(len(names), self.n_batches, -1)
        return {
            **tabulated(
                [cells[k : k + self.n_batches] for k in range(0, len(cells), self.n_batches)], VARIABLES, coords, attrs
            ),
            SKETCH: Measured(values, dims, coords_of_sketch, long_name="sketch of the kernel", attrs=attrs),
            PREVIOUS: Measured(newest, keep=True),
        }

    def _checked_splits(self, snapshot: Snapshot) -> list[str]:
        """Check the parameters, and return the names of the splits."""
        for name, least in (
            ("n_probes", 1),
            ("n_batches", 1),
            ("max_samples", 2),
            ("max_outputs", 1),
            ("sketch_size", 1),
        ):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"Expected {name} >= {least}, got {value}; raise it")
        if self.method not in _METHODS:
            raise ValueError(f"Expected method as one of {', '.join(_METHODS)}, got {self.method!r}; pass one of them")
        if self.reduction not in _REDUCTIONS:
            raise ValueError(f"Expected reduction as None, 'trace' or 'sum_logits', got {self.reduction!r}; pass one")
        if self.sketch_size < self.n_probes:
            raise ValueError(
                f"Expected sketch_size >= n_probes, got {self.sketch_size} numbers for {self.n_probes} probes; raise it"
            )
        names = snapshot.splits if self.splits is None else list(self.splits)
        if not names or (unknown := set(names) - set(snapshot.splits)):
            raise ValueError(
                f"Expected splits among {', '.join(snapshot.splits)}, got "
                f"{', '.join(sorted(unknown)) if names else 'none'}; correct splits="
            )
        return names

    def _method(self, part: Part, rows: int) -> str:
        """Return how kernels are measured, the same for all batches. Here ``"auto"`` is a whole kernel by any route."""
        if self.method == "auto":
            if rows > EXACT_ROWS:
                return "probes"
            try:
                layers_of(part.tangents)
                return "auto"
            except NotLayerwiseError:
                return "exact" if rows * part.tangents.size <= JACOBIAN else "probes"
        if self.method != "probes" and rows > _MOST_ROWS:
            raise ValueError(
                f"Expected at most {_MOST_ROWS:,} rows of a whole kernel, got {rows:,} (inputs times outputs); lower "
                'max_samples or max_outputs, or pass method="probes"'
            )
        return self.method
