"""How many parameters the data determine, for each layer, from the empirical Fisher matrix.

The Fisher matrix is that of the losses of single examples at their own targets, F = (1/n) sum_i g_i g_i^T; see
:mod:`probe.geometry.fisher` for the numbers, and :mod:`probe.forward.example_gradients` for the memory. It is called
empirical because the targets are those of the data, and not drawn from the model (Kunstner et al. 2019,
arXiv:1905.12558). The gradients of fitted examples are small. So all eigenvalues shrink when a network fits its data,
whether it learns or memorises, and the rank above a level shrinks with them.

The loss of an example is minus its log-likelihood in nats: the cross-entropy, summed over the targets of the example.
Numbers as targets are Gaussian around the outputs, with the mean squared error as the variance.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probe.base import Measured, Probe, Snapshot
from probe.forward.example_gradients import Losses, example_gradient_grams
from probe.forward.layers import Layers
from probe.forward.scores import score_rows
from probe.forward.tangents.outputs import trained_parameters
from probe.geometry.fisher import fisher_numbers
from probe.layer_probe import Variables, random_rows, tabulated
from probe.stats.validation import check_count

WHOLE = "<all>"  # label of all parameters together
_SATURATED = 0.9  # share of the number of examples
_VARIABLES: Variables = {
    "fisher_rank": ("1", "rank of the empirical Fisher matrix above the level", False),
    "fisher_determined": ("1", "number of well-determined parameters", False),
    "fisher_participation_ratio": ("1", "participation ratio of the empirical Fisher matrix", False),
    "fisher_trace": ("nats^2", "trace of the empirical Fisher matrix", False),
    "fisher_level": ("1", "level of the eigenvalues of n F", False),
    "fisher_parameter_norm": ("1", "norm of the parameters", False),
    "fisher_saturated": ("1", "rank is limited by the number of examples", True),
    "fisher_undefined": ("1", "gradients or parameters are 0 or not finite", True),
}


class FisherProbe(Probe):
    """Measure how many parameters of each layer the data determine: rank of the empirical Fisher matrix above a level.

    Parameters
    ----------
    layers
        Layers whose parameters count, those of their submodules included, see :func:`probe.forward.select_layers`.
        Default: all. Parameters without ``requires_grad`` do not count.
    level : float, optional
        Least eigenvalue of n F that counts, for n examples, in 1 over the squared unit of the parameters. Default: the
        number of well-determined parameters over their squared norm, for each layer and observation, see
        :func:`probe.geometry.fisher_numbers`. The level is at least the rounding of the gradients, and recorded as
        ``fisher_level``.
    max_samples : int or None
        Number of examples of each split; of more examples, a fixed random subset. All numbers grow with it, and ranks
        are at most this. None: all examples.
    splits : list of str, optional
        Names of the splits. Default: all.
    score : callable, optional
        ``score(outputs, targets, mask)`` as :func:`probe.forward.score_rows`, the default. The first column is the
        loss of each row, in nats.
    random_state : int
        Seed of the subset.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer). A layer is a module that owns trained parameters, under its name. The last label,
        ``"<all>"``, is all parameters together.

        - ``fisher_rank``: number of eigenvalues of n F above the level.
        - ``fisher_determined``: number of well-determined parameters, which has no threshold.
        - ``fisher_participation_ratio``: squared sum of the eigenvalues over their sum of squares. It has no level.
        - ``fisher_trace``: mean squared norm of the gradients. ``fisher_level``, ``fisher_parameter_norm``.

        Flags: ``fisher_saturated`` (the rank is above 90 % of the number of examples, and there are more parameters:
        more examples would show a higher rank), ``fisher_undefined``. Attributes: ``n_rows``, the smallest number of
        examples over splits.

    Raises
    ------
    ValueError
        If no parameter is trained, or the losses do not depend on the parameters by operations with derivatives.

    See Also
    --------
    probe.WeightsProbe : Ranks of the weights themselves, without data.
    probe.geometry.fisher_numbers : The same numbers from gradients.

    Notes
    -----
    The gradients take one forward and backward pass for each example, and again for each 256 MiB of them. The model
    runs in evaluation mode.

    Examples
    --------
    Two of three inputs have the same direction, so the data determine two of four weights:

    >>> import torch
    >>> from probe import FisherProbe
    >>> model = torch.nn.Linear(4, 1, bias=False)
    >>> _ = torch.nn.init.ones_(model.weight)
    >>> x, y = 9 * torch.eye(4)[[0, 0, 1]], torch.tensor([[8.0], [10.0], [10.0]])
    >>> series = FisherProbe().fit(model, (x, y)).series_
    >>> series["fisher_rank"].sel(layer="<all>").item()
    2.0
    """

    requires = ("targets",)

    def __init__(
        self,
        *,
        layers: Layers = None,
        level: float | None = None,
        max_samples: int | None = 128,
        splits: Sequence[str] | None = None,
        score: Any = None,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.level = level
        self.max_samples = max_samples
        self.splits = splits
        self.score = score
        self.random_state = random_state

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Measure the Fisher matrix of each part of the parameters on each split."""
        names = self._checked_splits(snapshot)
        parameters = trained_parameters(snapshot.model, self.layers)
        parts = _parts(snapshot.model, parameters)
        counts: list[int] = []
        cells = [self._split(snapshot, split, parameters, parts, counts) for split in names]
        coords = {"split": names, "layer": [*parts, WHOLE]}
        return tabulated(cells, _VARIABLES, coords, {"n_rows": min(counts)})

    def _checked_splits(self, snapshot: Snapshot) -> list[str]:
        if self.max_samples is not None:
            check_count("max_samples", self.max_samples, 2)
        names = snapshot.splits if self.splits is None else list(self.splits)
        if not names or (unknown := set(names) - set(snapshot.splits)):
            raise ValueError(
                f"Expected splits among {', '.join(snapshot.splits)}, got "
                f"{', '.join(sorted(unknown)) if names else 'none'}; correct splits="
            )
        return names

    def _split(
        self,
        snapshot: Snapshot,
        split: str,
        parameters: Mapping[str, nn.Parameter],
        parts: Mapping[str, list[str]],
        counts: list[int],
    ) -> list[dict[str, float]]:
        """Return a cell for each part and for all parameters, and append the number of examples to ``counts``."""
        losses = self._losses(snapshot, split)
        counts.append(losses.n)
        grams, values = example_gradient_grams(losses, parameters, parts)
        scale = _likelihood_scale(losses.targets, values)
        grams[WHOLE] = torch.stack(list(grams.values())).sum(0)
        leaves = {label: [parameters[name] for name in held] for label, held in parts.items()}
        leaves[WHOLE] = list(parameters.values())
        return [self._cell(grams[label] * scale**2, leaves[label]) for label in grams]

    def _losses(self, snapshot: Snapshot, split: str) -> Losses:
        batch, n = snapshot.data[split], len(snapshot.data[split])
        rows = random_rows(n, n if self.max_samples is None else self.max_samples, self.random_state).sort().values
        targets = batch.targets_of(rows, snapshot.device)
        return Losses(
            snapshot.model,
            lambda at: snapshot.inputs(split, rows[at]),
            len(rows),
            snapshot.trace.output,
            mask=None if batch.mask is None else lambda at: batch.mask_of(rows[at], snapshot.device),
            targets=targets,
            score=score_rows if self.score is None else self.score,
        )

    def _cell(self, gram: Tensor, leaves: Sequence[Tensor]) -> dict[str, float]:
        count = sum(leaf.numel() for leaf in leaves)
        norm = math.hypot(*(torch.linalg.vector_norm(leaf.detach(), dtype=torch.float64).item() for leaf in leaves))
        rounding = max(torch.finfo(leaf.dtype).eps for leaf in leaves)
        found = fisher_numbers(gram, norm, level=self.level, rounding=rounding)
        undefined = math.isnan(found.rank)
        return {
            **{f"fisher_{name}": value for name, value in found._asdict().items()},
            "fisher_parameter_norm": norm,
            "fisher_saturated": -1 if undefined else len(gram) < count and found.rank > _SATURATED * len(gram),
            "fisher_undefined": undefined,
        }


def _parts(model: nn.Module, parameters: Mapping[str, nn.Parameter]) -> dict[str, list[str]]:
    """Return the names of the parameters by the module that owns them, in the order of the model."""
    found: dict[str, list[str]] = {}
    for name in parameters:
        owner = name.rpartition(".")[0].partition(".parametrizations")[0].removeprefix("parametrizations")
        found.setdefault(owner or type(model).__name__, []).append(name)
    return found


def _likelihood_scale(targets: Tensor | None, losses: Tensor) -> float:
    """Return the factor by which losses are minus log-likelihoods in nats, up to a constant.

    The loss of numbers as targets is their mean squared error. Its mean over examples is the variance of the targets.
    """
    if targets is None or not targets.is_floating_point():
        return 1.0
    variance = losses.mean().item()
    return targets[0].numel() / (2 * variance) if variance > 0 else 0.0
