"""Robustness: loss, accuracy and movement of the output under small perturbations of the input, without gradients.

Around an input x at the stem, all perturbations e have one length: ``epsilon`` times the mean norm of the inputs.

    random      e along Gaussian directions: mean over inputs and directions
    worst       e with entries of one size and random signs: for each input the worst of k (a random search for what a
                gradient finds: no bound on adversarial robustness)
    Lipschitz   |f(x + e) - f(x)| / |e| over both kinds, mean and maximum; the maximum bounds the constant from below

f is the output of the model, all its numbers. In D dimensions a random direction sees about the root mean square of
the singular values of the Jacobian J, |J|_F / sqrt(D), not the largest one.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import OUTPUT
from probe.forward.outputs import reduce_output
from probe.forward.passes import Scored
from probe.forward.scores import score_rows
from probe.forward.snapshot import generator


def directions(k: int, dimension: int, *, generator: torch.Generator | None = None) -> Tensor:
    """First k Gaussian directions, then k of random signs; each of length 1: (2 k, dimension), float64, on the CPU."""
    normal = torch.randn(2 * k, dimension, generator=generator, dtype=torch.float64)
    return F.normalize(torch.cat([normal[:k], normal[k:].sign()]), dim=1)


class RobustnessProbe(Probe):
    """Loss and accuracy under perturbed inputs, and how far the output moves, for each split.

    Parameters
    ----------
    epsilon
        Length of a perturbation over the mean norm at the stem of the measured points of all splits.
    n_directions
        k: so many Gaussian directions and so many of random signs, the same for all inputs and steps.
    stem
        What is perturbed: the input if it is floating-point, else the first layer with floating-point output (the
        embedding of a token model, all positions together); or the name of a layer.
    score : callable, optional
        ``score(outputs, targets) -> (n, 3)`` as :func:`probe.forward.score_rows`, which is the default; of each row the
        sum of losses, right answers (NaN if there is no right and wrong) and number of answers.
    max_rows
        Forward rows per observation: ``max_rows // ((2 k + 1) splits)`` points of each split are measured.
    random_state
        Seed of the directions and of the choice of points.
    device
        Not used for the forward passes, which run where the model is; accepted as by every probe.

    Notes
    -----
    ``robustness_loss``, ``robustness_accuracy`` by (split, perturbation): ``none``, ``random``, ``worst``;
    ``lipschitz_mean``, ``lipschitz_max`` by split; ``robustness_size``, the length of a perturbation; flags by split:
    ``robustness_nonfinite`` (an output is not finite, and nothing is said) and ``robustness_unscored`` (no
    targets). The attribute ``n_points``: of the smallest split.
    """

    def __init__(
        self,
        *,
        epsilon: float = 0.1,
        n_directions: int = 4,
        stem: str | None = None,
        score: Callable[[Tensor, Any], Tensor] | None = None,
        max_rows: int = 4096,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.epsilon = epsilon
        self.n_directions = n_directions
        self.stem = stem
        self.score = score
        self.max_rows = max_rows
        self.random_state = random_state
        self.device = device

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Send each point and its perturbed copies through the model."""
        if not (self.epsilon > 0 and self.n_directions >= 1):
            raise ValueError(f"epsilon and n_directions must be positive, got {self.epsilon} and {self.n_directions}")
        stem = snapshot.stem(self.stem)
        rows = {split: self._rows(snapshot, split) for split in snapshot.splits}
        norm = torch.cat([_norms(snapshot, split, stem, rows[split]) for split in rows]).mean().item()
        if not 0 < norm < math.inf:
            raise ValueError(f"the points at {stem!r} have mean norm {norm}; expected a finite, positive one")
        tables = [self._table(snapshot, split, stem, chosen, self.epsilon * norm) for split, chosen in rows.items()]
        return _tabulated([_summary(table) for table in tables], list(rows), self.epsilon * norm, min(map(len, tables)))

    def _rows(self, snapshot: Snapshot, split: str) -> Tensor:
        n = len(snapshot.data[split])
        points = min(n, self.max_rows // ((2 * self.n_directions + 1) * len(snapshot.splits)))
        if points < 1:
            raise ValueError(f"max_rows={self.max_rows} leaves no point for split {split!r}; raise it")
        return torch.randperm(n, generator=generator(self.random_state))[:points]

    def _table(self, snapshot: Snapshot, split: str, stem: str, rows: Tensor, size: float) -> Tensor:
        """Loss, right, count and movement of each point and its copies, (points, 2 k + 1, 4)."""
        copies = 2 * self.n_directions + 1

        def move(output: Tensor, positions: Tensor) -> Tensor:
            offsets = directions(self.n_directions, output[0].numel(), generator=generator(self.random_state))
            offsets = torch.cat([torch.zeros_like(offsets[:1]), size * offsets]).to(output)
            return output + offsets[positions % copies].view_as(output)

        def compare(outputs: Tensor, targets: Any) -> Tensor:
            flat = reduce_output(outputs, "flatten")
            groups = flat.view(-1, copies, flat.shape[1])  # a point and its copies
            moved = (groups - groups[:, :1]).norm(dim=2).view(-1, 1) / size
            scores = (self.score or score_rows)(outputs, targets).to(moved)
            scores = scores if scores.shape[1] else moved.new_full((len(moved), 3), math.nan)
            return torch.cat([scores, moved], 1)

        taken = rows.repeat_interleave(copies)
        found = snapshot.outputs(split, [OUTPUT], reduce=Scored(compare), rows=taken, edit={stem: move}, group=copies)
        return found[OUTPUT].view(len(rows), copies, 4).cpu().double()  # MPS has no float64


def _norms(snapshot: Snapshot, split: str, stem: str, rows: Tensor) -> Tensor:
    def norms(z: Tensor) -> Tensor:
        return reduce_output(z, "flatten").norm(dim=1)[:, None]

    found = snapshot.outputs(split, [stem], reduce=norms, rows=rows)
    if len(found[stem]) != len(rows):
        raise ValueError(f"{stem!r} returns {len(found[stem])} rows for {len(rows)} inputs; name another: stem=...")
    return found[stem]


def _summary(table: Tensor) -> Tensor:
    """Loss (none, random, worst), accuracy (the same), mean and largest movement: (8,), NaN if it is not finite."""
    loss, right, count, moved = table.unbind(2)  # each (points, 2 k + 1)
    if not torch.isfinite(moved).all():
        return table.new_full((8,), math.nan)
    k = (table.shape[1] - 1) // 2
    answers = count[:, 0].sum()
    scores = [
        torch.stack([part[:, 0], part[:, 1 : k + 1].mean(1), worst(part[:, k + 1 :], 1)]).sum(1) / answers
        for part, worst in ((loss, torch.amax), (right, torch.amin))
    ]
    return torch.stack([*scores[0], *scores[1], moved[:, 1:].mean(), moved[:, 1:].max()])


def _tabulated(cells: list[Tensor], splits: list[str], size: float, n: int) -> dict[str, Measured]:
    table, attrs = torch.stack(cells), {"n_points": n}
    coords = {"split": splits, "perturbation": ["none", "random", "worst"]}

    def by(values: Any, text: str, *dims: str, **kwargs: Any) -> Measured:
        return Measured(values, dims, {dim: coords[dim] for dim in dims}, long_name=text, attrs=attrs, **kwargs)

    lost, silent = table[:, 7].isnan(), table[:, 0].isnan()
    both = ("split", "perturbation")
    return {
        "robustness_loss": by(table[:, :3], "loss of perturbed inputs", *both, units="nats"),
        "robustness_accuracy": by(table[:, 3:6], "accuracy of perturbed inputs", *both),
        "lipschitz_mean": by(table[:, 6], "mean movement of the output over that of the input", "split"),
        "lipschitz_max": by(table[:, 7], "largest movement of the output over that of the input", "split"),
        "robustness_size": Measured(size, long_name="length of a perturbation at the stem"),
        "robustness_nonfinite": by(lost.int(), "outputs are not finite", "split", flag=True),
        "robustness_unscored": by((silent & ~lost).int(), "no targets that can be scored", "split", flag=True),
    }
