"""Phase of the weights of each layer along a direction: one peak, droplets beside it, or droplets alone.

The overlaps q of the weight vectors of the units with a direction have a phase of arXiv:2310.03789: GFL, GMFL-I (mixed)
or GMFL-II, see :func:`probe.stats.droplet_phase`, which has the tests. Directions are given, or come from the average
gradient outer product (Radhakrishnan et al. 2024), the targets, or Fourier modes of one-hot inputs.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import Layers
from probe.forward.passes import Tap
from probe.layer_probe import Variables, random_rows, tabulated
from probe.measures.weight_phase.directions import fourier_powers, given_overlaps, gradient_overlaps, target_overlaps
from probe.measures.weight_phase.units import distinct_units, measured_layers, unit_weights
from probe.stats.transition.droplets import NUMBERS, PHASES, droplet_phase
from probe.stats.validation import check_count

_SOURCES = "agop", "targets", "fourier"
_NUMBERS: Variables = {
    name: (units, long_name, False)
    for name, (units, long_name) in NUMBERS.items()
    if name not in ("phase", "p_symmetry", "n_zero")
}
_VARIABLES: Variables = {
    "weight_phase": ("1", "0 GFL, 1 GMFL-I (mixed), 2 GMFL-II", False),
    **{f"weight_phase_{name}": entry for name, entry in _NUMBERS.items()},
    "weight_phase_few_units": ("1", "too few units for a verdict", True),
    "weight_phase_undefined": ("1", "no direction, or weights that are 0 or not finite", True),
}


class WeightPhaseProbe(Probe):
    """Measure whether the units of a layer fall into a core and droplets along a direction.

    Parameters
    ----------
    layers
        Linear, Conv1d, Conv2d (one group) and Embedding layers, see :func:`probe.forward.select_layers`. Default: all.
    directions : str or mapping
        - ``"agop"``: leading eigenvectors of the average gradient outer product at the inputs of the layer, of
          ``max_samples`` inputs. Each half of the units has the eigenvectors of the gradients through the other half.
        - ``"targets"``: leading eigenvectors of H^T Y Y^T H, with centred inputs H of the layer and targets Y.
        - ``"fourier"``: powers of the Fourier modes of one-hot inputs. All units and modes of a layer count as one
          sample of sizes: a droplet is a unit that has learnt a mode.
        - ``{layer: array}``: directions of shape (inputs,) or (k, inputs). Other layers are not measured.
    n_directions : int
        Number of eigenvectors. Given directions have their own number, and Fourier powers one row.
    period : int, optional
        Number of tokens for ``"fourier"``. Inputs of several one-hot vectors are cut into blocks of this length.
        Default: the number of inputs of the layer.
    split : str, optional
        Split whose inputs are used for ``"agop"`` and ``"targets"``. Default: the first.
    max_samples : int
        Number of these inputs; of more, a fixed random subset.
    n_bins : int
        Number of bins of the empirical action.
    random_state : int
        Seed of the subset, the halves, and the random combinations of outputs.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, layer, direction): ``weight_phase`` is 0 (GFL), 1 (GMFL-I, mixed), 2 (GMFL-II), or NaN if undecided.
        The numbers ``weight_phase_*`` are those of :func:`probe.stats.droplet_phase`. Flags: ``weight_phase_few_units``
        (the power is below .8), ``weight_phase_undefined``. By (step, layer, direction, bin): ``weight_action`` in
        nats, NaN in an empty bin, at ``weight_action_q``. Attribute ``n_rows``: number of inputs used. Copies of a
        unit do not count, up to the sign and to noise of about 1 % of the spread of the weights: the tests assume
        independent units.

    Raises
    ------
    ValueError
        If no layer has units with weight vectors, a direction has a wrong size, or a parameter is outside its range.

    See Also
    --------
    probe.stats.droplet_phase : The same for an array of overlaps.

    Examples
    --------
    A fifth of these units has the same large weight, at either sign:

    >>> import torch
    >>> from probe import WeightPhaseProbe
    >>> layer = torch.nn.Linear(4, 300)
    >>> torch.manual_seed(0)  # doctest: +ELLIPSIS
    <torch...>
    >>> weights = torch.randn(300, 4)
    >>> weights[:30, 0], weights[30:60, 0] = weights[:30, 0] + 8, weights[30:60, 0] - 8
    >>> _ = layer.weight.data.copy_(weights)
    >>> probe = WeightPhaseProbe(directions={"": [1.0, 0.0, 0.0, 0.0]})
    >>> series = probe.fit(layer, (torch.randn(8, 4), None)).series_
    >>> series["weight_phase"].item(), round(series["weight_phase_droplet_fraction"].item(), 2)
    (1.0, 0.2)
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        directions: str | Mapping[str, Any] = "agop",
        n_directions: int = 1,
        period: int | None = None,
        split: str | None = None,
        max_samples: int = 128,
        n_bins: int = 31,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.directions = directions
        self.n_directions = n_directions
        self.period = period
        self.split = split
        self.max_samples = max_samples
        self.n_bins = n_bins
        self.random_state = random_state

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return no taps, after a check of the parameters."""
        self._checked_layers(snapshot)
        return ()

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Compute the overlaps of each layer, and their phase."""
        layers = self._checked_layers(snapshot)
        weights = unit_weights(snapshot.model, layers)
        split = self.split or snapshot.splits[0]
        rows = random_rows(len(snapshot.data[split]), min(self.max_samples, snapshot.batch_size), self.random_state)
        count = self._n_directions()
        cells, actions = [], np.full((2, len(layers), count, self.n_bins), np.nan)
        for i, (name, layer) in enumerate(layers.items()):
            found = self._overlaps(snapshot, split, name, layer, weights.get(name), rows)
            if found is not None and self.directions != "fourier":
                found = found[:, distinct_units(weights[name])]
            overlaps = [None] * count if found is None else [*found.cpu().numpy(), *[None] * (count - len(found))]
            cells.append([self._cell(q, actions[:, i, k]) for k, q in enumerate(overlaps)])
        coords: dict[str, Sequence[Any]] = {"layer": list(layers), "direction": list(range(count))}
        dims, binned = ("layer", "direction", "bin"), {**coords, "bin": list(range(self.n_bins))}
        return {
            **tabulated(cells, _VARIABLES, coords, {"n_rows": len(rows)}),
            "weight_action": Measured(actions[0], dims, binned, units="nats", long_name="empirical action"),
            "weight_action_q": Measured(actions[1], dims, binned, long_name="overlap in the middle of the bin"),
        }

    def _overlaps(
        self, snapshot: Snapshot, split: str, name: str, layer: nn.Module, weights: Tensor | None, rows: Tensor
    ) -> Tensor | None:
        """Return the overlaps of the units, (directions, units), or None where there is no direction."""
        if weights is None or not weights.isfinite().all():
            return None
        if isinstance(self.directions, Mapping):
            return given_overlaps(weights, name, self.directions)
        if self.directions == "fourier":
            return fourier_powers(weights, name, self.period)
        if name not in snapshot.trace.order:
            return None
        if self.directions == "targets":
            return target_overlaps(snapshot, split, name, layer, weights, rows, self.n_directions)
        arguments = rows, self.n_directions, self.random_state
        return gradient_overlaps(snapshot, split, name, layer, weights, *arguments)

    def _cell(self, overlaps: np.ndarray | None, action: np.ndarray) -> dict[str, float]:
        """Return the numbers of one direction, and write the action."""
        if overlaps is None or not np.abs(overlaps).max(initial=0) > 0 or len(overlaps) < 4:
            few = overlaps is not None and len(overlaps) < 4
            return {"weight_phase_undefined": int(not few), "weight_phase_few_units": int(few)}
        sides = "sizes" if self.directions == "fourier" else "both"
        found = droplet_phase(overlaps, sides=sides, n_bins=self.n_bins, random_state=self.random_state)
        phase = PHASES.index(found["phase"].item())
        action[:] = np.where(np.isfinite(found["action"]), found["action"], np.nan), found["q"]
        return {
            "weight_phase": phase if phase < 3 else np.nan,
            **{f"weight_phase_{name}": found[name].item() for name in _NUMBERS},
            "weight_phase_few_units": int(not found["power"].item() >= 0.8),
            "weight_phase_undefined": 0,
        }

    def _n_directions(self) -> int:
        """Return the length of the dimension of directions."""
        if isinstance(self.directions, Mapping):
            return max(int(np.ndim(value)) and np.atleast_2d(value).shape[0] for value in self.directions.values())
        return 1 if self.directions == "fourier" else self.n_directions

    def _checked_layers(self, snapshot: Snapshot) -> dict[str, nn.Module]:
        """Check the parameters, and return the measured layers."""
        for name, least in (("n_directions", 1), ("max_samples", 2), ("n_bins", 2)):
            check_count(name, getattr(self, name), least)
        if self.split is not None and self.split not in snapshot.splits:
            raise ValueError(f"Expected split= among {', '.join(snapshot.splits)}, got {self.split!r}; correct it")
        layers = measured_layers(snapshot, self.layers)
        if isinstance(self.directions, Mapping):
            if unknown := [name for name in self.directions if name not in layers]:
                raise ValueError(
                    f"Expected directions of {', '.join(map(repr, layers))}, got one of {unknown[0]!r}; correct it"
                )
            if not self.directions:
                raise ValueError("Expected directions of one layer or more, got none; pass {layer: array}")
            layers = {name: layer for name, layer in layers.items() if name in self.directions}
        elif self.directions not in _SOURCES:
            raise ValueError(
                f"Expected directions as one of {', '.join(_SOURCES)} or {{layer: array}}, got {self.directions!r}; "
                "pass one of them"
            )
        if self.directions == "targets" and snapshot.data[self.split or snapshot.splits[0]].targets is None:
            raise ValueError('Expected targets for directions="targets", got none; pass targets, or directions="agop"')
        for name, weights in unit_weights(snapshot.model, layers).items():
            if isinstance(self.directions, Mapping):
                given_overlaps(weights, name, self.directions)
            elif self.directions == "fourier":
                fourier_powers(weights, name, self.period)
        return layers
