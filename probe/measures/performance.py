"""Loss and accuracy on each split, from the forward pass that all probes share; what is scored: :mod:`probe.forward.scores`."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import IGNORED, OUTPUT
from probe.forward.passes import Scored, Tap
from probe.forward.scores import score_rows


class PerformanceProbe(Probe):
    """Losses and accuracies: ``<split>_loss`` and ``<split>_accuracy``.

    Parameters
    ----------
    score : callable, optional
        ``score(outputs, targets) -> (n, 3)`` as :func:`probe.forward.score_rows`, which is the default: of each row the
        sum of losses, right answers (NaN where there is no right and wrong) and number of answers.

    Notes
    -----
    A loss that is not finite is NaN, and so is the accuracy beside it; the flag ``nonfinite_outputs`` says so. The
    attribute ``chance`` of an accuracy is the share of the largest class among the targets, ``n`` the number of
    answers.
    """

    def __init__(self, *, score: Any = None) -> None:
        self.score = score

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """The output of the model, scored chunk by chunk."""
        return (Tap(OUTPUT, Scored(self.score or score_rows)),)

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Score every split that has targets."""
        found: dict[str, Measured] = {}
        nonfinite = []
        for split, batch in snapshot.data.items():
            rows = snapshot.outputs(split, [OUTPUT], reduce=Scored(self.score or score_rows))[OUTPUT]
            if rows.shape[1] == 0:
                nonfinite.append(-1)
                continue
            numbers = rows.cpu().double().numpy()
            loss, right, count = numbers.sum(0).tolist()
            if count == 0:
                raise ValueError(f"split {split!r} has no target to score, all are {IGNORED}")
            finite = math.isfinite(loss)
            nonfinite.append(int(not finite))
            classes = not (math.isnan(right) and np.isnan(numbers[:, 1]).all())
            if not finite:
                loss = right = math.nan
                warnings.warn(f"the {split} loss is not finite: it is NaN in the series", RuntimeWarning, stacklevel=2)
            units = "nats" if classes else "1"
            found[f"{split}_loss"] = Measured(loss / count, units=units, long_name=f"{split} loss")
            if classes and batch.targets is not None:
                attrs = {"chance": batch.chance, "n": int(count)}
                found[f"{split}_accuracy"] = Measured(right / count, long_name=f"{split} accuracy", attrs=attrs)
        found["nonfinite_outputs"] = Measured(
            nonfinite, ("split",), {"split": snapshot.splits}, flag=True, long_name="the loss is not finite"
        )
        return found
