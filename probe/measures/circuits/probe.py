"""Circuits of many inputs: how many there are, how far apart, and which units take no part in telling inputs apart.

The circuit of an input is the set of its active units: those with a positive pre-activation. In a piecewise-linear
network two inputs with one circuit lie in one linear region. The number of distinct circuits among n inputs is
therefore a lower bound of the number of regions, and at most n.

    distance        share of units that differ between two circuits (Hamming distance over the number of units), for an
                    input and its nearest other input, and for random pairs
    always on, off  share of units whose pre-activation is positive at all inputs, or at none. Such a unit may change at
                    another input: with 95 % confidence, the share of the rarer sign is below 3 / n
    copies          share of units, among those that change, whose signs are those of an earlier unit or the opposite at
                    all inputs. Their boundaries coincide as far as the inputs show
    alignment       cosine of x with the sum over outputs of their gradients, c(x) = J(x)^T 1: the centroid alignment of
                    arXiv:2506.12284. It is 1 if the rows of the Jacobian add up to a multiple of x
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import Layers
from probe.forward.passes import Tap
from probe.layer_probe import Variables, random_rows, tabulated
from probe.measures.circuits.patterns import PackedSigns, Signs, nearest_pairs, random_pairs

_NUMBERS: Variables = {
    "circuits_distinct": ("1", "number of distinct circuits", False),
    "circuits_near": ("1", "distance of the circuits of nearest inputs", False),
    "circuits_near_se": ("1", "standard error over pairs", False),
    "circuits_random": ("1", "distance of the circuits of random pairs", False),
    "circuits_random_se": ("1", "standard error over pairs", False),
    "circuits_always_on": ("1", "share of units that are always on", False),
    "circuits_always_off": ("1", "share of units that are always off", False),
    "circuits_copies": ("1", "share of copies among units that change", False),
    "circuits_units": ("1", "number of units", False),
    "circuits_saturated": ("1", "each input has a circuit of its own", True),
}
_OF_LAYERS: Variables = {**_NUMBERS, "circuits_nonfinite": ("1", "pre-activations are not finite", True)}
_OF_SPLITS: Variables = {
    **{f"{name}_total": (units, f"{text}, all layers", flag) for name, (units, text, flag) in _NUMBERS.items()},
    "circuits_incomplete": ("1", "a layer is missing in the totals", True),
    "circuits_inputs": ("1", "number of distinct inputs", False),
    "circuits_constant_bound": ("1", "bound of the rarer sign of a constant unit", False),
    "circuits_alignment": ("1", "centroid alignment", False),
    "circuits_alignment_se": ("1", "standard error over inputs", False),
    "circuits_alignment_undefined": ("1", "no centroid alignment", True),
}


class CircuitsProbe(Probe):
    """Measure distinct circuits, their distances, constant and copied units, and the centroid alignment.

    Parameters
    ----------
    layers
        Layers whose activation functions are measured, see :func:`probe.forward.select_layers`. A layer without any is
        measured by the signs of its own output. Default: all activation functions that
        :mod:`probe.forward.activations` lists, if they receive all inputs. A function with two bends has two units.
        Units of all positions and pixels count.
    max_samples : int or None
        Number of inputs of each split, at least 2; of more inputs, a fixed random subset. None: all inputs. The number
        of circuits and the share of constant units depend on it.
    max_units : int or None
        Number of units of each layer; of more units, a fixed random subset. None: all units. Circuits are then those of
        the subset: fewer can be distinct, and fewer units have a copy. The other numbers are shares, whose expectation
        stays the same.
    max_gradients : int
        Number of inputs of each split for the centroid alignment, which takes a forward and a backward pass. 0: none.
    stem : str, optional
        Site of x in the centroid alignment. Default: the input if it is floating-point, else the first layer with
        floating-point output.
    random_state : int
        Seed of the subsets.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer), and over all layers together by (step, split) with ``_total``, all in units of 1. The
        ``layer`` is ``"<module>:<activation>"``; the attribute ``n_rows`` is the number of inputs of the smallest
        split.

        - ``circuits_distinct``: number of distinct circuits, at most ``circuits_inputs``, the number of distinct
          inputs. If it is equal, the flag ``circuits_saturated`` is 1, and more inputs would show more circuits.
        - ``circuits_near``, ``circuits_random``: mean share of units that differ between an input and its nearest other
          input (of up to 256 inputs), and between random pairs, with standard errors over pairs ``_se``. The distance
          of inputs is Euclidean, or, without floating-point inputs, the number of different integers.
        - ``circuits_always_on``, ``circuits_always_off``: shares of units with one sign.
          ``circuits_constant_bound`` is 3 / n: with 95 % confidence, the other sign has a smaller share.
        - ``circuits_copies``: share of copies among the units that change; NaN if no unit changes.
        - ``circuits_units``: number of units measured.
        - ``circuits_alignment``: mean centroid alignment at the stem, with its standard error ``_se``.

        Flags: ``circuits_nonfinite``; ``circuits_incomplete`` (totals lack a layer, since it is not finite or did not
        fire); ``circuits_alignment_undefined`` (the model has no derivatives, or they are 0).

    See Also
    --------
    probe.measures.circuit : The circuits of some inputs, with their affine maps.
    probe.LocalComplexityProbe : Units that change near an input.

    Examples
    --------
    Two of three inputs lie on one side of the only boundary:

    >>> import torch
    >>> from probe import CircuitsProbe
    >>> model = torch.nn.Sequential(torch.nn.Linear(1, 1), torch.nn.ReLU())
    >>> _ = model[0].weight.data.fill_(1.0), model[0].bias.data.zero_()
    >>> series = CircuitsProbe().fit(model, (torch.tensor([[-1.0], [1.0], [2.0]]), None)).series_
    >>> series["circuits_distinct"].item(), round(series["circuits_near"].item(), 3)
    (2.0, 0.333)
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        max_samples: int | None = 1024,
        max_units: int | None = 4096,
        max_gradients: int = 256,
        stem: str | None = None,
        random_state: int = 0,
    ) -> None:
        self.layers = layers
        self.max_samples = max_samples
        self.max_units = max_units
        self.max_gradients = max_gradients
        self.stem = stem
        self.random_state = random_state

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return the signs at the activation functions."""
        reduce = PackedSigns(self.max_units, self.random_state)
        return [Tap(site, reduce) for site in self._sites(snapshot)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Compare the signs of the inputs of each split."""
        self._check()
        taps = self.taps(snapshot)
        layers = [tap.site for tap in taps]
        found = {split: self._split(snapshot, split, layers, taps[0].reduce) for split in snapshot.splits}
        attrs = {"n_rows": min(len(self._rows(snapshot, split)) for split in snapshot.splits)}
        splits = {"split": snapshot.splits}
        return {
            **tabulated([cells for cells, _ in found.values()], _OF_LAYERS, {**splits, "layer": layers}, attrs),
            **tabulated([total for _, total in found.values()], _OF_SPLITS, splits, attrs),
        }

    def _check(self) -> None:
        for name, least in (("max_samples", 2), ("max_units", 1), ("max_gradients", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"Expected {name} >= {least}, got {value}; raise it")

    def _sites(self, snapshot: Snapshot) -> list[str]:
        """Return the activation functions of the selected layers, or all that receive every input."""
        trace = snapshot.trace
        if self.layers is not None:
            named = snapshot.select(self.layers)
            return list(
                dict.fromkeys(
                    site for layer in named for site in trace.activations_in(layer, snapshot.modules) or [layer]
                )
            )
        real = [site for site in trace.activations if trace.has_rows(site) and trace.is_floating(site)]
        sites = snapshot.receiving_all(real)
        if not sites:
            raise ValueError(
                "Expected an activation function with one row of real numbers for each input, got none; name layers "
                "whose outputs are pre-activations, CircuitsProbe(layers=...), or leave this probe out"
            )
        return sites

    def _rows(self, snapshot: Snapshot, split: str) -> Tensor:
        """Return the measured inputs, in random order."""
        n = len(snapshot.data[split])
        return random_rows(n, n if self.max_samples is None else self.max_samples, self.random_state)

    def _split(
        self, snapshot: Snapshot, split: str, layers: Sequence[str], reduce: Any
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return the cells of the layers of a split, and that of all layers together."""
        data, rows = snapshot.data[split], self._rows(snapshot, split)
        packed = snapshot.outputs(split, layers, reduce=reduce)
        signs = {layer: Signs.of(packed[layer], rows) for layer in layers if layer in packed}
        pairs = nearest_pairs(data, rows), random_pairs(len(rows))
        ceiling = len(data.keys.whole[rows].unique())
        cells = []
        for layer in layers:
            own = signs.get(layer)
            cell = {} if own is None else _numbers(own, pairs, ceiling)
            cells.append(cell | ({"circuits_nonfinite": own is None} if layer in signs else {}))
        known = [own for own in signs.values() if own is not None]
        total = _numbers(Signs.joined(known), pairs, ceiling) if known else {}
        return cells, {
            **{f"{name}_total": value for name, value in total.items()},
            "circuits_incomplete": len(known) < len(layers),
            "circuits_inputs": ceiling,
            "circuits_constant_bound": 3 / len(rows),
            **self._alignment(snapshot, split, rows),
        }

    def _stem(self, snapshot: Snapshot) -> str | None:
        """Return the site of x, or None if the model has no floating-point layer."""
        try:
            return snapshot.stem(self.stem)
        except ValueError:
            if self.stem is not None:
                raise
            return None

    def _alignment(self, snapshot: Snapshot, split: str, rows: Tensor) -> dict[str, Any]:
        """Return the mean cosine of x and the sum of the rows of the Jacobian."""
        if not self.max_gradients:
            return {}
        site = self._stem(snapshot)
        if site is None:
            return {"circuits_alignment_undefined": 1}
        try:
            found = torch.cat([cosines(*pair) for pair in snapshot.gradients(split, site, rows[: self.max_gradients])])
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # no derivatives
            return {"circuits_alignment_undefined": 1}
        known = found[found.isfinite()]
        if not len(known):
            return {"circuits_alignment_undefined": 1}
        error = known.std() / len(known) ** 0.5 if len(known) > 1 else np.nan
        return {
            "circuits_alignment": known.mean(),
            "circuits_alignment_se": error,
            "circuits_alignment_undefined": 0,
        }


def cosines(x: Tensor, gradients: Tensor) -> Tensor:
    """Return the cosine of each row (n, ...) with its gradient. NaN if one of both is 0."""
    x, gradients = (part.reshape(len(part), -1).double().cpu() for part in (x, gradients))
    return (x * gradients).sum(1) / (x.norm(dim=1) * gradients.norm(dim=1))


def _numbers(signs: Signs, pairs: tuple[np.ndarray, np.ndarray], ceiling: int) -> dict[str, Any]:
    (near, near_se), (random, random_se) = map(signs.distance, pairs)
    values = (
        signs.n_distinct,
        *(near, near_se, random, random_se),
        *(signs.always_on, signs.always_off, signs.copies, signs.n_units),
        signs.n_distinct >= ceiling,
    )
    return dict(zip(_NUMBERS, values, strict=True))
