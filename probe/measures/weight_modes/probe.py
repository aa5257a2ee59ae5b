"""Singular modes of each weight matrix, followed over training by the overlap of subspaces.

A weight matrix is a sum of modes s u v' with singular values s. Coarse graining, in the analogy of arXiv:2504.12700
with the renormalisation group, means that most modes shrink against the norm of their layer, and few grow. To see this,
a mode must keep its identity while others overtake it: see :mod:`probe.geometry.modes`. Growth in windows of time, with
intervals, is :func:`probe.stats.growth_exponents`.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.effective_weights import effective_weights
from probe.forward.passes import Tap
from probe.geometry.modes.following import Frame, follow
from probe.geometry.modes.sequence import check_share
from probe.geometry.spectra import BLOCK
from probe.information.validation import to_float64_device
from probe.measures.weight_modes.sketch import sketch
from probe.measures.weight_modes.state import Kept, read_state, shape_of, slots_of, write_state
from probe.measures.weight_modes.variables import Row, tabulated_modes
from probe.stats.validation import check_count


class WeightModesProbe(Probe):
    """Follow the leading singular modes of each weight matrix.

    Parameters
    ----------
    share : float
        The leading modes with this share of the squared norm of a matrix are followed.
    max_modes : int, optional
        Largest number of modes of one matrix. Default: 64, or fewer so that the kept vectors fit into 60 MiB.
    max_side : int
        Largest smaller side of a matrix that is decomposed. A larger one has its norms, and ``mode_undefined`` is -1.
    device
        Device of the decompositions. Default: the device of the weights.

    Attributes
    ----------
    series_ : xarray.Dataset
        The matrices (parameter) are those of :func:`probe.measures.weight_matrices` at the first observation, with
        frozen ones. By (step, parameter, mode), where a mode is a slot that holds one trajectory after another:

        - ``mode_singular_value``: NaN in an empty slot.
        - ``mode_overlap``: overlap (u.a) (v.b) with the mode of this slot at the observation before.
        - ``mode_matched``: 1 if it is the same mode as before, 0 if a new one starts, -1 in an empty slot.
        - ``mode_degenerate``: 1 if the mode was matched as a part of a subspace, since values there are closer than
          their change. Its value is u' W v with the vectors of this subspace that are closest to the earlier ones.

        By (step, parameter, rank): ``mode_spectrum``, all singular values, the largest first. By (step, parameter):
        ``mode_norm`` (Frobenius), ``mode_update_norm`` (norm of the difference from the last finite observation before;
        estimated with a standard error of 0.6 % if the matrix has more than 16384 entries), ``mode_count`` (leading
        modes that hold the share, at most the number of slots), ``mode_share`` (share of the squared norm in the
        followed modes), and the flag ``mode_undefined`` (1: zero, not finite, or no longer of the first shape; -1:
        missing, complex, or above ``max_side``). A matrix of another shape is a warning, as is one that appears later.
        Attribute ``shapes`` of ``mode_norm``: JSON.

    Raises
    ------
    ValueError
        If the model has no matrix, a parameter is outside its range, or ``max_modes`` modes need more than 60 MiB.

    See Also
    --------
    probe.geometry.follow_modes : The same for a sequence of matrices.
    probe.stats.growth_exponents : Growth of the modes in windows of time.
    probe.WeightsProbe : Norms and ranks of the same matrices.

    Examples
    --------
    >>> import torch
    >>> from probe import WeightModesProbe
    >>> model = torch.nn.Linear(2, 2, bias=False)
    >>> probe = WeightModesProbe(share=1.0).attach(model, (torch.zeros(2, 2), None))
    >>> for step, values in enumerate([[3.0, 1.0], [2.5, 2.0], [2.0, 3.0]]):
    ...     _ = model.weight.data.copy_(torch.diag(torch.tensor(values)))
    ...     _ = probe.observe(step)
    >>> probe.series_["mode_singular_value"].squeeze().values.round(4).tolist()
    [[3.0, 1.0], [2.5, 2.0], [2.0, 3.0]]
    """

    def __init__(
        self, *, share: float = 0.9999, max_modes: int | None = None, max_side: int = 2048, device: Any = None
    ) -> None:
        self.share = share
        self.max_modes = max_modes
        self.max_side = max_side
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return no taps, after a check of the parameters and of the matrices."""
        check_share(self.share)
        check_count("max_side", self.max_side, 1)
        if self.max_modes is not None:
            check_count("max_modes", self.max_modes, 1)
        found = effective_weights(snapshot.model)
        if not found.matrices:
            raise ValueError(
                "Expected a floating-point parameter with two or more dimensions, got a model without any; leave "
                "WeightModesProbe out"
            )
        if found.left_out:
            names = "; ".join(f"{name} ({reason})" for name, reason in found.left_out.items())
            snapshot.warn_once(
                "weight modes left out",
                f"Expected weights that can be read as numbers, got others, which WeightModesProbe leaves out: {names}"
                "; measure the layers' outputs with ActivationsProbe",
            )
        if large := [name for name, weight in found.matrices.items() if min(weight.shape[-2:]) > self.max_side]:
            snapshot.warn_once(
                "weight modes large",
                f"Expected matrices with a smaller side of at most {self.max_side}, got {', '.join(large)}; "
                "WeightModesProbe records their norms only. Pass a larger max_side to follow their modes",
            )
        return ()

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Decompose each matrix, and match its modes with those of the observation before."""
        found = effective_weights(snapshot.model)
        names = snapshot.labels("mode_norm", "parameter") or list(found.matrices)
        if new := [name for name in found.matrices if name not in names]:
            snapshot.warn_once(
                "weight modes new",
                f"Expected the matrices of the first observation, got also {', '.join(new)}, which WeightModesProbe "
                "leaves out; attach again to follow them",
            )
        present = [name for name in names if name in found.matrices]
        weights = {name: to_float64_device(found.matrices[name], self.device) for name in present}
        kept = self._kept(snapshot, names, weights)
        rows = [self._row(snapshot, name, weights.get(name), kept[name]) for name in names]
        lengths = [len(snapshot.labels(*at)) for at in (("mode_overlap", "mode"), ("mode_spectrum", "rank"))]
        notes = {
            "tied": "; ".join(f"{name} is {first}" for name, first in found.tied.items()),
            "left_out": "; ".join(f"{name}: {reason}" for name, reason in found.left_out.items()),
        }
        attrs = {key: text for key, text in notes.items() if text}
        return {**tabulated_modes(names, rows, lengths, attrs), **write_state([row.kept for row in rows])}

    def _kept(self, snapshot: Snapshot, names: Sequence[str], weights: Mapping[str, Tensor]) -> dict[str, Kept]:
        """Return what the observation before kept of each matrix, or empty slots."""
        found = read_state(snapshot)
        if found is not None and len(found) == len(names):
            return dict(zip(names, found, strict=True))
        decomposed = [name for name, weight in weights.items() if self._decomposes(weight)]
        slots = slots_of(weights, decomposed, self.max_modes)
        lost = torch.empty(0, 0)
        return {name: Kept.first(weights.get(name, lost), slots.get(name, 0)) for name in names}

    def _decomposes(self, weight: Tensor) -> bool:
        return not weight.is_complex() and min(weight.shape[-2:]) <= self.max_side

    def _row(self, snapshot: Snapshot, name: str, weight: Tensor | None, kept: Kept) -> Row:
        """Return the numbers of one matrix."""
        if weight is None:
            return Row(kept, {})
        if shape_of(weight) != kept.shape:
            snapshot.warn_once(
                f"weight modes {name}",
                f"Expected {name} of shape {kept.shape} (blocks, out, in) as at the first observation, got "
                f"{shape_of(weight)}; WeightModesProbe leaves it out from now on. Attach again to follow its modes",
            )
            return Row(kept, {"mode_undefined": 1})
        parts, sums = weight.flatten().split(BLOCK), sketch(weight).cpu()
        wide = torch.promote_types(weight.dtype, torch.float64)
        norm = math.hypot(*(torch.linalg.vector_norm(part, dtype=wide).item() for part in parts))
        moved = (sums - kept.sketch).double().norm().item() if len(kept.sketch) else math.nan
        cells = {"mode_norm": norm, "mode_update_norm": moved}
        if not norm < math.inf:
            return Row(kept, {**cells, "mode_undefined": 1})
        if norm == 0:
            return Row(kept._replace(sketch=sums), {**cells, "mode_undefined": 1})
        if not self._decomposes(weight):
            return Row(kept._replace(sketch=sums), cells)
        frame = Frame(*(part.to(weight.device) for part in kept.frame))
        found = follow(frame, weight, self.share)
        cells |= {"mode_undefined": 0, "mode_count": found.leading, "mode_share": found.share}
        return Row(Kept(kept.shape, found.frame, sums), cells, found)
