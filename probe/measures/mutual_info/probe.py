"""What a layer, read through noise, tells about inputs and labels: :mod:`probe.information.channel` as a probe."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import IGNORED, Layers
from probe.forward.outputs import Reduce
from probe.forward.passes import Tap
from probe.forward.snapshot import generator
from probe.information.channel import ChannelInformation, channel_information
from probe.information.noise import calibrated_noise
from probe.information.spread import representation_geometry
from probe.information.validation import normalise_rows
from probe.measures.mutual_info.estimators import ESTIMATORS
from probe.measures.mutual_info.labels import class_labels, row_targets
from probe.measures.mutual_info.variables import SILENT, Cell, Table, VariableNames, tabulated

_POOLED = "all"  # the split of all inputs
_CONVENTIONS = {
    "relative": "sigma^2 = noise^2 tr Cov(T) per dimension, at each step",
    "absolute": "sigma = noise per dimension, at each step",
    "reference": "sigma^2 = noise^2 tr Cov(T) per dimension, of the first observation and split that is not collapsed",
}


class MutualInfoProbe(Probe):
    """I(T+n; X) and I(T+n; Y) of each layer and split, in bits, with bounds, ceilings and flags.

    Parameters
    ----------
    layers, reduce
        Which layers, and how their outputs become rows; see :func:`probe.forward.select_layers` and
        :func:`probe.forward.reduce_output`.
    noise
        Its level, constant over training; runs that are to be compared share it. ``"auto"``: 0.2 if that serves, else
        what :func:`probe.information.calibrated_noise` says of the layer's first observation that is not
        collapsed, in the first split; then it stays, also when a recording is resumed. It is ``noise_relative``.
    convention
        ``"relative"``: the noise follows the spread of the layer. ``"reference"``: it stays as it was at the first
        observation. ``"absolute"``: in units of the activations. With the last two a change of scale alone changes
        the information; what is left of the change where the noise does follow is measured beside it.
    noise_factors
        Multiples of the noise at which the informations are measured too, in the same pass: ``(0.5, 2)`` shows
        whether the shape of a curve hangs on the level.
    compare
        Other estimators to be read on the same rows: names from :mod:`probe.measures.mutual_info.estimators`
        (``"coding_rate"``, ``"renyi"``, ``"binned"``).
    pooled
        Measure the inputs of all splits together too, as the split ``all``: training inputs alone can come together
        without any generalisation.
    subsamples
        Random halves of the rows whose spread gives ``_subsample_se``; 0 for none.
    target_bins
        Cuts targets that are real numbers into this many equally full classes; the information about these is at
        most that about the targets. Default: no ``information_y`` for such targets.
    max_samples
        Above this many rows a fixed random subset is used: cost grows with the square. The ceiling log2 N moves
        with it, so values of splits of different size do not compare.
    random_state
        Seed of the subset and of the noise, which is the same at every step.
    device
        Where to compute; default: where the model is.

    Notes
    -----
    Variables over (split, layer): ``information_x``, ``information_y`` and ``information_x_given_y`` with ``_se`` (of
    the noise), ``_subsample_se`` (of the rows), ``_lower`` and ``_upper`` (intersected with [0, ceiling]; raw ones:
    ``channel_information``) and ``_ceiling``; ``information_x_by_noise`` and ``information_y_by_noise`` for
    ``noise_factors``; ``information_x_<name>`` and ``information_y_<name>`` for ``compare``; ``noise_std``,
    ``noise_relative``; ``total_variance``, ``effective_rank``, ``within_share``, ``class_mean_accuracy`` (see
    :mod:`probe.information.spread`); and the flags ``saturated``, ``collapsed`` (all rows alike: information 0),
    ``information_nonfinite`` (no number) and ``fano_alarm`` (less than half of what the classes' means decode: the
    noise hides the labels). With a noise that does not follow the layer also ``information_x_scale_free`` and
    ``information_y_scale_free``, at the relative noise of the first observation, and the flag ``scale_artefact``: more
    than half of the change of ``information_x`` since then is one of scale. Labels are integer targets, one for each
    row (rows labelled -100 are left out); without them there is nothing about Y.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        reduce: Reduce = None,
        noise: float | Literal["auto"] = 0.2,
        convention: Literal["relative", "absolute", "reference"] = "relative",
        noise_factors: Sequence[float] = (),
        compare: Sequence[str] = (),
        pooled: bool = True,
        subsamples: int = 20,
        target_bins: int | None = None,
        max_samples: int = 1024,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.layers = layers
        self.reduce = reduce
        self.noise = noise
        self.convention = convention
        self.noise_factors = noise_factors
        self.compare = compare
        self.pooled = pooled
        self.subsamples = subsamples
        self.target_bins = target_bins
        self.max_samples = max_samples
        self.random_state = random_state
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """The selected layers."""
        return [Tap(layer, self.reduce) for layer in snapshot.select(self.layers)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """One cell for each split and layer."""
        self._check()
        layers = [tap.site for tap in self.taps(snapshot)]
        frozen = self._frozen(snapshot, layers)
        table: dict[str, list[Any]] = {}
        for split, rows in self._rows(snapshot, layers):
            firsts = self._firsts(snapshot, len(table), layers)
            table[split] = [self._one(*rows[k], k, frozen, firsts[k]) if k in rows else SILENT for k in layers]
        attrs = {
            "noise": self.noise,
            "noise_convention": f"{self.convention}: {_CONVENTIONS[self.convention]}",
            "max_samples": self.max_samples,
        }
        if self.target_bins is not None:
            attrs["target_bins"] = f"real targets in {self.target_bins} quantile classes"
        columns = VariableNames(self.noise_factors, self.compare, self.subsamples, self.convention != "relative")
        return tabulated(Table([*table.values()], {"split": list(table), "layer": layers}), attrs, columns)

    def _check(self) -> None:
        if self.convention not in _CONVENTIONS:
            raise ValueError(f"convention must be one of {', '.join(_CONVENTIONS)}, got {self.convention!r}")
        if unknown := [name for name in self.compare if name not in ESTIMATORS]:
            raise ValueError(f"compare takes names among {', '.join(ESTIMATORS)}, got {', '.join(map(repr, unknown))}")
        if self.noise == "auto" and self.convention == "absolute":
            raise ValueError('noise="auto" is relative to a layer; fix its size with convention="reference"')
        if isinstance(self.noise, str) and self.noise != "auto":
            raise ValueError(f'noise must be a positive number or "auto", got {self.noise!r}')

    def _frozen(self, snapshot: Snapshot, layers: Sequence[str]) -> dict[str, float]:
        """Noise of each layer that an earlier observation has fixed; none where the layer had no variance."""
        name = "noise_std" if self.convention == "reference" else "noise_relative"
        past = snapshot.history(name).reshape(-1, len(layers))
        return {
            layer: column[column > 0][0] for layer, column in zip(layers, past.T, strict=True) if (column > 0).any()
        }

    def _firsts(self, snapshot: Snapshot, split: int, layers: Sequence[str]) -> dict[str, tuple[float, float] | None]:
        """Relative noise and information of each layer when it was first measured; None if it was not yet."""
        noise, bits = snapshot.history("noise_relative"), snapshot.history("information_x")
        if self.convention == "relative" or not noise.size:
            return dict.fromkeys(layers)
        found: dict[str, tuple[float, float] | None] = {}
        for i, layer in enumerate(layers):
            at = np.flatnonzero(noise[:, split, i] > 0)[:1]
            found[layer] = (noise[at[0], split, i], bits[at[0], split, i]) if len(at) else None
        return found

    def _rows(
        self, snapshot: Snapshot, layers: Sequence[str]
    ) -> Iterator[tuple[str, dict[str, tuple[Tensor, Tensor | None]]]]:
        """Each split with the rows of its layers and their targets; after them all splits together."""
        found = []
        for split in snapshot.splits:
            outputs, targets = snapshot.outputs(split, layers, reduce=self.reduce), snapshot.data[split].targets
            by_position = self.reduce == "tokens"
            found.append({k: (z, row_targets(targets, len(z), by_position=by_position)) for k, z in outputs.items()})
            yield split, found[-1]
        if self.pooled and len(found) > 1 and _POOLED not in snapshot.splits:
            yield _POOLED, {k: _together([rows[k] for rows in found]) for k in layers if _fit_together(found, k)}

    def _one(
        self, z: Tensor, targets: Tensor | None, layer: str, frozen: dict[str, float], first: tuple[float, float] | None
    ) -> Cell | None:
        """None if the activations are not finite."""
        z, labels = self._sample(z, targets)
        if not torch.isfinite(z).all():
            return None
        level = self._level(z, layer, frozen)
        levels = channel_information(
            z,
            labels,
            noise=[level, *(factor * level for factor in self.noise_factors)],
            convention="relative" if self.convention == "relative" else "absolute",
            subsamples=self.subsamples,
            generator=generator(self.random_state, z.device),
        )
        if levels[0].collapsed:
            return Cell(levels, None, dict.fromkeys(self.compare, (0.0, None if labels is None else 0.0)))
        compared = {name: ESTIMATORS[name][1](z, labels, levels[0].noise_relative) for name in self.compare}
        free = levels[0]
        if first is not None:
            free = channel_information(z, labels, noise=first[0], generator=generator(self.random_state, z.device))
        artefact = int(first is not None and _of_scale(levels[0], free, first[1]))
        return Cell(levels, representation_geometry(z, labels), compared, free, artefact)

    def _sample(self, z: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The rows that are measured, and their labels."""
        z = z.to(self.device or ("cpu" if z.device.type == "mps" else z.device))  # MPS has no float64
        labels = class_labels(targets, self.target_bins)
        if labels is not None and (labels == IGNORED).any():
            z, labels = z[(labels != IGNORED).to(z.device)], labels[labels != IGNORED]
        if len(z) > self.max_samples:
            chosen = torch.randperm(len(z), generator=generator(self.random_state))[: self.max_samples]
            z = z[chosen.to(z.device)]
            labels = None if labels is None else labels[chosen.to(labels.device)]
        return z, labels

    def _level(self, z: Tensor, layer: str, frozen: dict[str, float]) -> float:
        """Of the noise: relative, or for the other conventions in units of the activations."""
        if self.noise != "auto" and self.convention != "reference":
            return self.noise
        if layer not in frozen:
            _, variance, collapsed = normalise_rows(z)
            if collapsed:
                return 1.0  # any: there is nothing to tell apart
            noise = self.noise
            if noise == "auto":
                noise = calibrated_noise(z, generator=generator(self.random_state, z.device))
            frozen[layer] = noise * (math.sqrt(variance) if self.convention == "reference" else 1.0)
        return frozen[layer]


def _fit_together(found: Sequence[Mapping[str, tuple[Tensor, Tensor | None]]], layer: str) -> bool:
    """Whether the layer fired in all splits, with rows of one length."""
    return all(layer in rows for rows in found) and len({rows[layer][0].shape[1] for rows in found}) == 1


def _together(parts: Sequence[tuple[Tensor, Tensor | None]]) -> tuple[Tensor, Tensor | None]:
    """Without targets if some part has none, or if classes and real numbers would meet."""
    targets = [target for _, target in parts if target is not None]
    one_kind = len(targets) == len(parts) and len({target.is_floating_point() for target in targets}) == 1
    return torch.cat([z for z, _ in parts]), torch.cat(targets) if one_kind else None


def _of_scale(found: ChannelInformation, free: ChannelInformation, start: float) -> bool:
    """Whether the information has changed since the start, and by less than half of that if noise follows the scale."""
    change, of_geometry = found.x.value - start, free.x.value - start
    certain = max(3 * math.hypot(found.x.se, free.x.se), 0.02 * found.x.ceiling)
    return abs(change) > certain and of_geometry / change < 0.5
