"""How far features move from those at the start, what a new read-out makes of them, and which components are learnt.

Deviation: 1 - CKA of the linear kernels of a layer now and at the first observation, see
:func:`probe.measures.feature_alignment`. A lazy network has 0. Read-out: ridge regression on the frozen features of the
training rows, scored on all splits. The learned fraction of a component c is <f, c> / <c, c> (arXiv:2310.03789).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import IGNORED, OUTPUT, Layers
from probe.forward.outputs import Reduce
from probe.forward.passes import Tap
from probe.layer_probe import Variables, random_rows, row_targets, tabulated
from probe.measures.feature_learning.components import component_values, learned_fraction, logit_scale
from probe.measures.feature_learning.kernels import hollow, unbiased_cka
from probe.measures.feature_learning.read_out import fit_read_out
from probe.stats.validation import check_count

_START = "feature_start"
_VARIABLES: Variables = {
    "feature_deviation": ("1", "1 - CKA with the features at the start", False),
    "feature_deviation_undefined": ("1", "features are constant or not finite", True),
    "read_out_accuracy": ("1", "accuracy of a refitted read-out", False),
    "read_out_r2": ("1", "explained variance of a refitted read-out", False),
    "read_out_penalty": ("1", "penalty over the mean eigenvalue", False),
    "read_out_undefined": ("1", "no targets, or features that are not finite", True),
}
_COMPONENTS: Variables = {
    "learned_fraction": ("1", "share of the component in the outputs", False),
    "learned_fraction_se": ("1", "standard error over inputs", False),
}


class FeatureLearningProbe(Probe):
    """Measure how far the features of each layer move, and what a read-out that is fitted again makes of them.

    Parameters
    ----------
    layers, reduce
        Layers, and conversion of their outputs to rows, see :func:`probe.forward.select_layers`.
    components : mapping, optional
        Components of the target by name: a function of the inputs, or ``{split: array}`` with one row for each input.
        Values have the shape of the outputs.
    train : str, optional
        Split to which the read-out is fitted. Default: the first.
    max_samples : int
        Number of rows of each split for read-outs and fractions, at least 4; of more, a fixed random subset.
    max_kernel : int
        Number of these rows for the deviation. The kernels of the start are kept, in float32: 4 bytes times the square
        of this number, for each split and layer.
    random_state : int
        Seed of the subset.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer):

        - ``feature_deviation``: 1 - CKA with the features at the first observation, also after a resume. 0 if the
          kernel has changed in scale alone. About 1 if the kernels have nothing in common. NaN with the flag
          ``feature_deviation_undefined`` if features are constant or not finite, or those of the start are unknown.
        - ``read_out_accuracy`` (classes) or ``read_out_r2`` (numbers): of ridge regression on the frozen features of
          ``train``. On other splits it is the generalisation of the representation. The attribute ``chance`` is the
          share of the largest class in the split ``train``.
        - ``read_out_penalty``: of least leave-one-out error on ``train``.
        - ``read_out_undefined``: flag.

        By (step, split): ``logit_scale``, the root mean square of the outputs, minus the mean over the outputs of each
        input if there are several. With ``components`` by (step, split, component): ``learned_fraction`` and
        ``learned_fraction_se``. Attribute ``n_rows``: the smallest number of rows of a split.

    Raises
    ------
    ValueError
        If a split has fewer than 4 rows, or a component has another shape than the outputs.

    See Also
    --------
    probe.measures.feature_alignment : CKA of two sets of features.
    probe.TangentKernelProbe : Movement of the tangent kernel.
    probe.NeuralCollapseProbe : Geometry of the features of classes.

    Notes
    -----
    Fractions are sums over the rows of a split. Components that are orthogonal for the distribution of the inputs
    overlap in a sample, so that the fraction of one contains some of the others.

    Examples
    --------
    The output 2 x contains the component x twice:

    >>> import torch
    >>> from probe import FeatureLearningProbe
    >>> model = torch.nn.Linear(1, 1, bias=False)
    >>> _ = model.weight.data.fill_(2.0)
    >>> x = torch.tensor([[-1.0], [0.0], [1.0], [3.0]])
    >>> series = FeatureLearningProbe(components={"linear": lambda x: x}).fit(model, (x, None)).series_
    >>> series["learned_fraction"].item(), round(series["feature_deviation"].item(), 6) + 0.0
    (2.0, 0.0)
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        reduce: Reduce = None,
        components: Mapping[str, Any] | None = None,
        train: str | None = None,
        max_samples: int = 512,
        max_kernel: int = 192,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.reduce = reduce
        self.components = components
        self.train = train
        self.max_samples = max_samples
        self.max_kernel = max_kernel
        self.random_state = random_state

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return the layers and the output, after a check of the parameters."""
        for name in ("max_samples", "max_kernel"):
            check_count(name, getattr(self, name), 4)
        if not isinstance(self.components, Mapping | None):
            kind = type(self.components).__name__
            raise ValueError(f"Expected components= as a mapping from names, got {kind}; pass {{name: function}}")
        if self.train is not None and self.train not in snapshot.splits:
            raise ValueError(f"Expected train= among {', '.join(snapshot.splits)}, got {self.train!r}; correct it")
        return [*(Tap(layer, self.reduce) for layer in snapshot.select(self.layers)), Tap(OUTPUT)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Compare the features with those of the start, and fit the read-outs."""
        layers, train = snapshot.select(self.layers), self.train or snapshot.splits[0]
        data = {split: self._rows(snapshot, split, layers) for split in snapshot.splits}
        start, size = snapshot.kept(_START), self.max_kernel
        known = start is not None
        start = np.full((len(data), len(layers), size, size), np.nan, "f4") if start is None else start
        first = not known and not len(snapshot.history("feature_deviation"))
        cells: list[list[dict[str, Any]]] = []
        for i, (z, _, _) in enumerate(data.values()):
            cells.append([_deviation(z.get(layer), start[i, j], first) for j, layer in enumerate(layers)])
        for j, layer in enumerate(layers):
            for i, cell in enumerate(_read_outs(data, train, layer)):
                cells[i][j] |= cell
        attrs = {"n_rows": min(len(rows) for _, _, rows in data.values()), **_chance(snapshot.data[train].targets)}
        coords: dict[str, Sequence[Any]] = {"split": snapshot.splits, "layer": layers}
        found = tabulated(cells, _VARIABLES, coords, attrs)
        return {**found, **self._of_outputs(snapshot, data), _START: Measured(start, keep=True)}

    def _rows(
        self, snapshot: Snapshot, split: str, layers: Sequence[str]
    ) -> tuple[dict[str, Tensor], Tensor | None, Tensor]:
        """Return the features by layer, the targets, and which inputs they belong to."""
        rows = random_rows(len(snapshot.data[split]), self.max_samples, self.random_state)
        found = snapshot.outputs(split, layers, reduce=self.reduce)
        n = len(snapshot.data[split])
        kept = {layer: z[rows.to(z.device)] for layer, z in found.items() if len(z) == n}
        if len(rows) < 4:
            raise ValueError(f"Expected 4 or more inputs in {split!r}, got {len(rows)}; pass more data")
        targets = snapshot.data[split].targets
        labels = None if targets is None else row_targets(targets, n, by_position=False)
        return kept, None if labels is None else labels[rows.to(labels.device)], rows

    def _of_outputs(self, snapshot: Snapshot, data: Mapping[str, Any]) -> dict[str, Measured]:
        """Return the scale of the outputs, and the learned fractions."""
        components, scales, cells = self.components or {}, [], []
        for split, (_, _, rows) in data.items():
            outputs = snapshot.outputs(split, [OUTPUT])[OUTPUT]
            outputs = outputs[rows.to(outputs.device)]
            scales.append(logit_scale(outputs))
            pairs = [
                learned_fraction(outputs, component_values(snapshot, split, name, component, rows, outputs))
                for name, component in components.items()
            ]
            cells.append([dict(zip(_COMPONENTS, pair, strict=True)) for pair in pairs])
        splits = {"split": list(data)}
        found = {"logit_scale": Measured(scales, ("split",), splits, long_name="root mean square of centred outputs")}
        if components:
            found |= tabulated(cells, _COMPONENTS, {**splits, "component": list(components)})
        return found


def _chance(targets: Tensor | None) -> dict[str, float]:
    """Return the share of the largest class as an attribute, if there are classes."""
    if targets is None or targets.is_floating_point() or not (kept := targets[targets != IGNORED]).numel():
        return {}
    return {"chance": float(kept.unique(return_counts=True)[1].max() / kept.numel())}


def _deviation(z: Tensor | None, start: np.ndarray, first: bool) -> dict[str, Any]:
    """Return the deviation from the kernel of the start, which the first observation writes to ``start``."""
    if z is None:
        return {}
    z = z[: len(start)].double()
    if not z.isfinite().all() or (z == z[0]).all():
        return {"feature_deviation_undefined": 1}
    kernel, n = hollow(z), len(z)
    if first:
        start[:n, :n] = (kernel / kernel.norm().clamp_min(1e-300)).cpu().numpy()
    deviation = 1 - unbiased_cka(kernel, torch.as_tensor(start[:n, :n]).to(kernel))
    return {"feature_deviation": deviation, "feature_deviation_undefined": int(np.isnan(deviation))}


def _read_outs(data: Mapping[str, Any], train: str, layer: str) -> list[dict[str, Any]]:
    """Return the scores of a read-out of one layer on each split."""
    z, targets, _ = data[train]
    if layer not in z:
        return [{}] * len(data)
    found = _prepared(z[layer], targets)
    if found is None or len(found[0]) < 4 or (columns := _columns(found[1])) is None:
        return [{"read_out_undefined": 1}] * len(data)
    read_out = fit_read_out(found[0], columns[1])
    cells = []
    for rows, labels, _ in data.values():
        own = _prepared(rows[layer], labels) if layer in rows else None
        scores = {} if own is None or not len(own[0]) else _scores(read_out(own[0]), own[1], columns[0])
        cells.append({**scores, "read_out_penalty": read_out.penalty, "read_out_undefined": int(not scores)})
    return cells


def _prepared(z: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """Return finite features and the targets of the rows that have one."""
    if targets is None or not z.isfinite().all():
        return None
    targets = targets.to(z.device)
    kept = targets.isfinite() if targets.is_floating_point() else targets != IGNORED
    return z[kept], targets[kept]


def _columns(targets: Tensor) -> tuple[Tensor | None, Tensor] | None:
    """Return the classes, or None for numbers, and targets as columns; None if all targets are equal."""
    if (targets == targets[0]).all():
        return None
    if targets.is_floating_point():
        return None, targets[:, None].double()
    classes = targets.unique()
    return classes, (targets[:, None] == classes).double()


def _scores(predicted: Tensor, targets: Tensor, classes: Tensor | None) -> dict[str, float]:
    """Return the accuracy, or the explained variance of numbers."""
    if classes is not None:
        return {"read_out_accuracy": float((classes[predicted.argmax(1)] == targets).double().mean())}
    y = targets.double()
    total = (y - y.mean()).square().sum()
    return {"read_out_r2": float(1 - (y - predicted[:, 0]).square().sum() / total)} if total > 0 else {}
