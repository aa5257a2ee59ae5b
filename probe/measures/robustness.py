"""Robustness: loss, accuracy and movement of the output under small perturbations of the input, without gradients.

Around an input x at the stem, all perturbations e have one length: ``epsilon`` times the mean norm of the inputs.

    random      e along Gaussian directions: mean over inputs and directions
    worst       e with entries of one size and random signs: the worst of k for each input. This is a random search for
                the perturbation that a gradient would find, and no bound on adversarial robustness.
    Lipschitz   |f(x + e) - f(x)| / |e| over both kinds, mean and maximum. The maximum is a lower bound of the constant.

f is the output of the model, all its numbers. In D dimensions, the movement along a random direction is about the root
mean square of the singular values of the Jacobian J, |J|_F / sqrt(D), not the largest of them.
"""

import math
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.errors import warn_user
from probe.forward.layers import OUTPUT
from probe.forward.outputs import reduce_output, tensor_of
from probe.forward.passes import Scored
from probe.forward.scores import score_rows
from probe.forward.snapshot import generator
from probe.layer_probe import random_rows

_FEW_POINTS = 4
_ROUNDINGS = 50  # a movement of fewer relative roundings has errors of more than a few per cent


def directions(n_directions: int, dimension: int, *, generator: torch.Generator | None = None) -> Tensor:
    """Return random directions of length 1: Gaussian ones first, then ones of random signs.

    Parameters
    ----------
    n_directions : int
        Number of directions of each kind, k.
    dimension : int
        Number of components D.
    generator : torch.Generator, optional
        Source of the random numbers, on the CPU.

    Returns
    -------
    float64 Tensor of shape (2 k, D), on the CPU

    Raises
    ------
    ValueError
        If one of both numbers is no integer of at least 1.

    See Also
    --------
    probe.RobustnessProbe : The measure that perturbs inputs along them.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import directions
    >>> found = directions(3, 4, generator=torch.Generator().manual_seed(0))
    >>> found.shape, found[3].abs().tolist()
    (torch.Size([6, 4]), [0.5, 0.5, 0.5, 0.5])
    """
    for name, number in (("n_directions", n_directions), ("dimension", dimension)):
        if not isinstance(number, Integral) or number < 1:
            raise ValueError(f"Expected {name} as an integer >= 1, got {number!r}; pass a count")
    normal = torch.randn(2 * n_directions, dimension, generator=generator, dtype=torch.float64)
    return F.normalize(torch.cat([normal[:n_directions], normal[n_directions:].sign()]), dim=1)


class RobustnessProbe(Probe):
    """Measure loss, accuracy and movement of the output under perturbed inputs.

    Parameters
    ----------
    epsilon : float
        Length of a perturbation over the mean norm at the stem of the measured points of all splits.
    n_directions : int
        Number k of Gaussian directions, and of directions of random signs; the same for all inputs and steps.
    stem : str, optional
        Name of the layer whose output is perturbed. Default: the input if it is floating-point, else the first layer
        with floating-point output (the embedding of a token model, all positions together).
    score : callable, optional
        ``score(outputs, targets) -> (n, 3)`` as :func:`probe.forward.score_rows`, the default: for each row the sum of
        losses, the number of right answers (NaN for a regression), and the number of answers.
    max_rows : int or None
        Budget of forward rows per observation: ``max_rows // ((2 k + 1) splits)`` points of each split are measured.
        Default: 4,096, or fewer for a large model, see :meth:`probe.Snapshot.row_budget`; then a point is measured at
        least, and a warning is issued if there are fewer than 4.
    random_state : int
        Seed of the directions and of the choice of points.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, perturbation), the latter ``none``, ``random`` and ``worst``: ``robustness_loss`` (nats) and
        ``robustness_accuracy`` (a fraction). By (step, split): ``lipschitz_mean``, ``lipschitz_max`` (output over
        input). By step: ``robustness_size``, the length of a perturbation. Flags by (step, split):
        ``robustness_nonfinite`` (an output is not finite, and all numbers are NaN), ``robustness_unscored`` (no
        targets), and ``robustness_still`` (the perturbation, or the mean movement of the output, is below 50
        relative roundings of the dtype, 6e-6 for float32, so that rounding makes the movement too large). The
        attribute ``n_points`` is the number of points of the smallest split.

    See Also
    --------
    probe.measures.directions : The directions.

    Examples
    --------
    The map x -> 3 x moves its output by three times the movement of the input:

    >>> import torch
    >>> from probe import RobustnessProbe
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> _ = model.weight.data.copy_(3 * torch.eye(2))
    >>> series = RobustnessProbe().fit(model, (torch.eye(2), torch.tensor([0, 1]))).series_
    >>> round(series["lipschitz_max"].item(), 3)
    3.0
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.1,
        n_directions: int = 4,
        stem: str | None = None,
        score: Callable[[Tensor, Any], Tensor] | None = None,
        max_rows: int | None = None,
        random_state: int = 0,
    ) -> None:
        self.epsilon = epsilon
        self.n_directions = n_directions
        self.stem = stem
        self.score = score
        self.max_rows = max_rows
        self.random_state = random_state

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Send each point and its perturbed copies through the model."""
        if not (self.epsilon > 0 and self.n_directions >= 1):
            raise ValueError(
                f"Expected epsilon > 0 and n_directions >= 1, got {self.epsilon} and {self.n_directions}; raise them"
            )
        stem = snapshot.stem(self.stem)
        rows = {split: self._rows(snapshot, split) for split in snapshot.splits}
        norm = torch.cat([_norms(snapshot, split, stem, rows[split]) for split in rows]).mean().item()
        if not 0 < norm < math.inf:
            raise ValueError(
                f"Expected points at {stem!r} with a finite, positive mean norm, got {norm}; pass another stem"
            )
        tables = [self._table(snapshot, split, stem, chosen, self.epsilon * norm) for split, chosen in rows.items()]
        numbers = torch.stack([_summary(table) for table in tables])
        return _variables(numbers, list(rows), self.epsilon * norm, min(map(len, tables)))

    def _rows(self, snapshot: Snapshot, split: str) -> Tensor:
        n, budget = len(snapshot.data[split]), snapshot.row_budget(self.max_rows)
        points = min(n, budget // ((2 * self.n_directions + 1) * len(snapshot.splits)))
        if self.max_rows is None:
            if points < min(n, _FEW_POINTS) and not len(snapshot.history("robustness_size")):
                warn_user(
                    f"Expected forward rows for {_FEW_POINTS} or more points of split {split!r}, got {budget} rows, "
                    f"enough for {points}; measure more rows of data, or pass RobustnessProbe(max_rows=...)"
                )
            points = max(1, points)
        if points < 1:
            raise ValueError(
                f"Expected max_rows for at least one point of split {split!r}, got {budget}; raise it to "
                f"{(2 * self.n_directions + 1) * len(snapshot.splits)} or more"
            )
        return random_rows(n, points, self.random_state)

    def _table(self, snapshot: Snapshot, split: str, stem: str, rows: Tensor, size: float) -> Tensor:
        """Return loss, right, count, movement and roundings of each point and its copies, (points, 2 k + 1, 5).

        Roundings: the perturbation, or the movement of the output, over the rounding of what moves; the smaller one.
        """
        copies = 2 * self.n_directions + 1
        at_stem = math.inf

        def move(output: Tensor, positions: Tensor) -> Tensor:
            nonlocal at_stem
            at_stem = self.epsilon / torch.finfo(output.dtype).eps
            offsets = directions(self.n_directions, output[0].numel(), generator=generator(self.random_state))
            offsets = torch.cat([torch.zeros_like(offsets[:1]), size * offsets]).to(output)
            return output + offsets[positions % copies].view_as(output)

        def compare(outputs: Tensor, targets: Any, mask: Tensor | None) -> Tensor:
            flat = reduce_output(outputs, "flatten")
            groups = flat.view(-1, copies, flat.shape[1])  # a point and its copies
            lengths = (groups - groups[:, :1]).norm(dim=2)
            rounding = torch.finfo(tensor_of(outputs, OUTPUT).dtype).eps * groups[:, :1].norm(dim=2)
            roundings = (lengths / rounding).clamp(max=at_stem).view(-1, 1)
            moved = lengths.view(-1, 1) / size
            scored = score_rows(outputs, targets, mask) if self.score is None else self.score(outputs, targets)
            scores = scored.to(moved)
            scores = scores if scores.shape[1] else moved.new_full((len(moved), 3), math.nan)
            return torch.cat([scores, moved, roundings], 1)

        taken = rows.repeat_interleave(copies)
        reduce = Scored(compare, mask=True)
        found = snapshot.outputs(split, [OUTPUT], reduce=reduce, rows=taken, edit={stem: move}, group=copies)
        return found[OUTPUT].view(len(rows), copies, 5).cpu().double()  # MPS has no float64


def _norms(snapshot: Snapshot, split: str, stem: str, rows: Tensor) -> Tensor:
    def norms(z: Tensor) -> Tensor:
        return reduce_output(z, "flatten").norm(dim=1)[:, None]

    found = snapshot.outputs(split, [stem], reduce=norms, rows=rows)
    if len(found[stem]) != len(rows):
        raise ValueError(
            f"Expected one row of {stem!r} for each of {len(rows)} inputs, got {len(found[stem])}; pass another stem"
        )
    return found[stem]


def _summary(table: Tensor) -> Tensor:
    """Return loss (none, random, worst), accuracy (the same), mean and largest movement, and whether it is still, (9,).

    All are NaN if an output is not finite.
    """
    loss, right, count, moved, roundings = table.unbind(2)  # each (points, 2 k + 1)
    if not torch.isfinite(moved).all():
        return table.new_full((9,), math.nan)
    k = (table.shape[1] - 1) // 2
    answers = count[:, 0].sum()
    scores = [
        torch.stack([part[:, 0], part[:, 1 : k + 1].mean(1), worst(part[:, k + 1 :], 1)]).sum(1) / answers
        for part, worst in ((loss, torch.amax), (right, torch.amin))
    ]
    still = (roundings[:, 1:].nanmean() < _ROUNDINGS).to(moved)
    return torch.stack([*scores[0], *scores[1], moved[:, 1:].mean(), moved[:, 1:].max(), still])


def _variables(numbers: Tensor, splits: list[str], size: float, n: int) -> dict[str, Measured]:
    """Return the variables of a table (splits, 9) of summaries."""
    attrs = {"n_points": n}
    coords = {"split": splits, "perturbation": ["none", "random", "worst"]}

    def by(values: Any, text: str, *dims: str, **kwargs: Any) -> Measured:
        return Measured(values, dims, {dim: coords[dim] for dim in dims}, long_name=text, attrs=attrs, **kwargs)

    nonfinite, unscored = numbers[:, 7].isnan(), numbers[:, 0].isnan() & ~numbers[:, 7].isnan()
    both = ("split", "perturbation")
    return {
        "robustness_loss": by(numbers[:, :3], "loss of perturbed inputs", *both, units="nats"),
        "robustness_accuracy": by(numbers[:, 3:6], "accuracy of perturbed inputs", *both),
        "lipschitz_mean": by(numbers[:, 6], "mean movement of the output over that of the input", "split"),
        "lipschitz_max": by(numbers[:, 7], "largest movement of the output over that of the input", "split"),
        "robustness_size": Measured(size, long_name="length of a perturbation at the stem"),
        "robustness_nonfinite": by(nonfinite.int(), "outputs are not finite", "split", flag=True),
        "robustness_still": by(numbers[:, 8].nan_to_num(nan=-1), "movement near rounding", "split", flag=True),
        "robustness_unscored": by(unscored.int(), "no targets that can be scored", "split", flag=True),
    }
