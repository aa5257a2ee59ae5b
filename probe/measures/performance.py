"""Loss and accuracy on each split, from the shared forward pass; :mod:`probe.forward.scores` has the definitions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probe.attach.contract import Staged
from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import IGNORED, OUTPUT
from probe.forward.passes import Scored, Tap
from probe.forward.scores import score_rows
from probe.reads import CPU, Stages


class PerformanceProbe(Staged, Probe):
    """Measure losses and accuracies: ``<split>_loss`` and ``<split>_accuracy``.

    Parameters
    ----------
    score : callable, optional
        ``score(outputs, targets) -> (n, 3)`` as :func:`probe.forward.score_rows`, the default: for each row the sum of
        losses, the number of right answers (NaN for a regression), and the number of answers.

    Attributes
    ----------
    series_ : xarray.Dataset
        By step: ``<split>_loss`` (nats for classes, else the unit of the score) and ``<split>_accuracy`` (a fraction).
        The attribute ``chance`` of an accuracy is the share of the largest class among the targets. In sequences it is
        the accuracy of the most frequent class at each position, if this is larger. ``n`` is the number of answers.
        Flag by (step, split): ``nonfinite_outputs``; the loss and the accuracy of this split are then NaN.

    Warns
    -----
    ProbeWarning
        If a loss is not finite.

    See Also
    --------
    probe.forward.score_rows : The default score.

    Examples
    --------
    >>> import torch
    >>> from probe import PerformanceProbe
    >>> x, y = 5 * torch.eye(3), torch.tensor([0, 1, 1])
    >>> series = PerformanceProbe().fit(torch.nn.Identity(), {"test": (x, y)}).series_
    >>> round(series["test_loss"].item(), 3), round(series["test_accuracy"].item(), 3)
    (1.68, 0.667)
    """

    def __init__(self, *, score: Any = None) -> None:
        self.score = score

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return the output of the model, scored block by block, if some split has targets."""
        scored = any(batch.targets is not None for batch in snapshot.data.values())
        return (Tap(OUTPUT, self._scored()),) if scored else ()

    def _scored(self) -> Scored:
        return Scored(score_rows, mask=True) if self.score is None else Scored(self.score)

    def stages(self, snapshot: Snapshot) -> Stages[Mapping[str, Measured]]:
        """Score every split that has targets."""
        snapshot.run_shared_pass()
        yield ()  # the scores, which the pass copies to the CPU
        found: dict[str, Measured] = {}
        flags = []
        for split, batch in snapshot.data.items():
            if batch.targets is None:
                flags.append(-1)
                continue
            scores = snapshot.outputs(split, [OUTPUT], reduce=self._scored(), device=CPU)[OUTPUT]
            measured = _of_split(snapshot, split, scores.double().numpy())
            found |= measured
            flags.append(int(math.isnan(measured[f"{split}_loss"].values)))
        found["nonfinite_outputs"] = Measured(
            flags, ("split",), {"split": snapshot.splits}, flag=True, long_name="the loss is not finite"
        )
        return found


def _of_split(snapshot: Snapshot, split: str, scores: np.ndarray) -> dict[str, Measured]:
    """Return loss and accuracy from the scores of all rows (n, 3)."""
    batch, (loss, right, count) = snapshot.data[split], scores.sum(0).tolist()
    if count == 0:
        raise ValueError(f"Expected a target to score in split {split!r}, got {IGNORED} for all; pass other targets")
    classes = not (math.isnan(right) and np.isnan(scores[:, 1]).all())
    if not math.isfinite(loss):
        loss = right = math.nan
        snapshot.warn_once(
            f"{split}_loss",
            f"Expected a finite {split} loss, got NaN or infinity. It is NaN in the series; check whether training "
            "has diverged",
        )
    found = {
        f"{split}_loss": Measured(loss / count, units="nats" if classes else "1", long_name=f"{split} loss"),
    }
    if classes and batch.targets is not None:
        attrs = {"chance": batch.chance, "n": int(count)}
        found[f"{split}_accuracy"] = Measured(right / count, long_name=f"{split} accuracy", attrs=attrs)
    return found
