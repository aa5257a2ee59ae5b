"""Labels for the rows that are measured, from the targets of a split."""

from collections.abc import Mapping

import torch
from torch import Tensor

from probe.forward.snapshot import Snapshot
from probe.information.bins import quantile_bins


def warn_of_labels(snapshot: Snapshot, n_rows: Mapping[str, int]) -> None:
    """Warn once in an attachment of splits with integer targets that do not fit these numbers of rows."""
    splits: dict[tuple[int, int], list[str]] = {}
    for split, n in n_rows.items():
        targets = snapshot.data[split].targets
        if targets is not None and not targets.is_floating_point():
            splits.setdefault((n, targets.numel()), []).append(split)
    if splits:
        found = [f"of {n} rows, got {labels} in {', '.join(names)}" for (n, labels), names in splits.items()]
        snapshot.warn_once(
            "labels",
            f"Expected one label for each {', and for each '.join(found)}; the information about the labels is not "
            'measured. If each position has a label, measure positions: MutualInfoProbe(reduce="tokens")',
        )


def class_labels(targets: Tensor | None, bins: int | None) -> Tensor | None:
    """Return integer targets unchanged, and real ones in ``bins`` classes of equal size; None if ``bins`` is None."""
    if targets is None or not targets.is_floating_point():
        return targets
    if bins is None:
        return None
    if not torch.isfinite(targets).all():
        raise ValueError(
            "Expected finite targets for target_bins, got NaN or infinite values; remove these rows, or pass "
            "target_bins=None"
        )
    return quantile_bins(targets[:, None], bins)[:, 0]
