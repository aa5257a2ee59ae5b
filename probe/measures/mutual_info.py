"""What a layer, read through noise, tells about inputs and labels: :mod:`probe.information.channel` as a probe."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.capture import Tap, Trace
from probe.information.bins import quantile_bins
from probe.information.channel import Bits, ChannelInformation, calibrated_noise, channel_information, normalised
from probe.information.geometry import Geometry, geometry
from probe.layers import IGNORED, Layers, Reduce
from probe.snapshot import generator

_SILENT = "silent"  # in place of a value: the layer did not fire
_CONVENTIONS = {
    "relative": "sigma^2 = noise^2 tr Cov(T) per dimension, at each step",
    "absolute": "sigma = noise per dimension, at each step",
    "reference": "sigma^2 = noise^2 tr Cov(T) per dimension, of the first observation and split that is not collapsed",
}
_ALARM = 0.5  # of what the classes' means decode; less of it in a reading means that the noise hides the labels


class _Cell(NamedTuple):
    """What is known of one layer and split: at each noise, the stated one first; None: all rows alike."""

    levels: tuple[ChannelInformation, ...]
    geometry: Geometry | None

    @property
    def main(self) -> ChannelInformation:
        """At the stated noise."""
        return self.levels[0]

    @property
    def fano_alarm(self) -> int:
        """1 if the reading tells less than half of what the classes' means do; -1 without labels."""
        y = self.main.y
        if y is None or self.geometry is None or self.geometry.fano_bound is None:
            return -1
        return int(y.value + 3 * y.se < _ALARM * self.geometry.fano_bound)


class MutualInfoProbe(Probe):
    """I(T+n; X) and I(T+n; Y) of each layer and split, in bits, with bounds, ceilings and flags.

    Parameters
    ----------
    layers, reduce
        Which layers, and how their outputs become rows; see :func:`probe.layers.select_layers` and
        :func:`probe.layers.reduced`.
    noise
        Its level, constant over training; runs that are to be compared share it. ``"auto"``: 0.2 if that serves, else
        what :func:`probe.information.channel.calibrated_noise` says of the layer's first observation that is not
        collapsed, in the first split, and from then on; recorded as ``noise_relative``. Attaching anew, also to
        resume, calibrates anew.
    convention
        ``"relative"``: the noise follows the spread of the layer. ``"reference"``: it stays as it was at the first
        observation. ``"absolute"``: in units of the activations. With the last two a change of scale alone changes
        the information.
    noise_factors
        Multiples of the noise at which the informations are measured too, in the same pass: ``(0.5, 2)`` shows
        whether the shape of a curve hangs on the level.
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
    Variables over (split, layer): ``information_x``, ``information_y`` and ``information_x_given_y`` with ``_se``,
    ``_lower`` and ``_upper`` (intersected with [0, ceiling]; raw ones: ``channel_information``) and ``_ceiling``;
    ``information_x_by_noise`` and ``information_y_by_noise`` for ``noise_factors``; ``noise_std``, ``noise_relative``;
    ``total_variance``, ``effective_rank``, ``within_share``, ``class_mean_accuracy`` (see
    :mod:`probe.information.geometry`); and the flags ``saturated``, ``collapsed`` (all rows alike: information 0),
    ``information_nonfinite`` (no number) and ``fano_alarm`` (less than half of what the classes' means decode: the
    noise hides the labels). Labels are integer targets, one for each row (rows labelled -100 are left out); without
    them there is nothing about Y.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        reduce: Reduce = None,
        noise: float | Literal["auto"] = 0.2,
        convention: Literal["relative", "absolute", "reference"] = "relative",
        noise_factors: Sequence[float] = (),
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
        frozen = self._frozen(snapshot.trace)
        table = []
        for split in snapshot.splits:
            rows = snapshot.outputs(split, layers, reduce=self.reduce)
            table.append([self._one(rows[k], k, snapshot, split, frozen) if k in rows else _SILENT for k in layers])
        attrs = {"noise": self.noise, "noise_convention": f"{self.convention}: {_CONVENTIONS[self.convention]}"}
        if self.target_bins is not None:
            attrs["target_bins"] = f"real targets in {self.target_bins} quantile classes"
        coords = {"split": snapshot.splits, "layer": layers}
        return _tabulated(table, coords, attrs, self.noise_factors)

    def _check(self) -> None:
        if self.convention not in _CONVENTIONS:
            raise ValueError(f"convention must be one of {', '.join(_CONVENTIONS)}, got {self.convention!r}")
        if self.noise == "auto" and self.convention == "absolute":
            raise ValueError('noise="auto" is relative to a layer; fix its size with convention="reference"')
        if isinstance(self.noise, str) and self.noise != "auto":
            raise ValueError(f'noise must be a positive number or "auto", got {self.noise!r}')

    def _frozen(self, trace: Trace) -> dict[str, float]:
        """Noise of each layer that was fixed by its first observation; a new attachment has a new trace."""
        if self.__dict__.get("_calibrated", (None,))[0] is not trace:
            self._calibrated: tuple[Trace, dict[str, float]] = (trace, {})
        return self._calibrated[1]

    def _one(self, z: Tensor, layer: str, snapshot: Snapshot, split: str, frozen: dict[str, float]) -> _Cell | None:
        """None if the activations are not finite."""
        z, labels = self._sample(z, snapshot, split)
        if not torch.isfinite(z).all():
            return None
        level = self._level(z, layer, frozen)
        levels = channel_information(
            z,
            labels,
            noise=[level, *(factor * level for factor in self.noise_factors)],
            convention="relative" if self.convention == "relative" else "absolute",
            generator=generator(self.random_state, z.device),
        )
        return _Cell(levels, None if levels[0].collapsed else geometry(z, labels))

    def _sample(self, z: Tensor, snapshot: Snapshot, split: str) -> tuple[Tensor, Tensor | None]:
        """The rows that are measured, and their labels."""
        z = z.to(self.device or ("cpu" if z.device.type == "mps" else z.device))  # MPS has no float64
        targets = snapshot.data[split].targets
        labels = _labels(targets, len(z), by_position=self.reduce == "tokens", bins=self.target_bins)
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
            _, variance, collapsed = normalised(z)
            if collapsed:
                return 1.0  # any: there is nothing to tell apart
            noise = self.noise
            if noise == "auto":
                noise = calibrated_noise(z, generator=generator(self.random_state, z.device))
            frozen[layer] = noise * (math.sqrt(variance) if self.convention == "reference" else 1.0)
        return frozen[layer]


def _labels(targets: Tensor | None, n: int, *, by_position: bool, bins: int | None) -> Tensor | None:
    if targets is None or (targets.is_floating_point() and bins is None):
        return None
    labels = targets.flatten()
    if targets.is_floating_point() and bins is not None:
        if not torch.isfinite(labels).all():
            raise ValueError("targets hold NaN or infinite values; they cannot be cut into target_bins classes")
        labels = quantile_bins(labels[:, None], bins)[:, 0]
    if by_position and n % len(labels) == 0:  # one label for the whole input: each of its positions has it
        return labels.repeat_interleave(n // len(labels))
    if len(labels) == n:
        return labels
    warnings.warn(
        f"no information about the labels: there are {len(labels)} of them for {n} rows; with a label for each "
        'position, measure positions: MutualInfoProbe(reduce="tokens")',
        RuntimeWarning,
        stacklevel=2,
    )
    return None


def _tabulated(
    table: list[list[Any]], coords: Mapping[str, Any], attrs: Mapping[str, Any], factors: Sequence[float]
) -> dict[str, Measured]:
    def by_layer(pick: Callable[[_Cell], float | None], **kwargs: Any) -> Measured:
        empty = -1 if kwargs.get("flag") else math.nan
        picked = [[pick(c) if isinstance(c, _Cell) else None for c in row] for row in table]
        values = [[empty if value is None else value for value in row] for row in picked]
        return Measured(values, ("split", "layer"), coords, **kwargs)

    def by_noise(pick: Callable[[ChannelInformation], float], text: str) -> Measured:
        lost = [math.nan] * len(factors)
        values = [[[*map(pick, c.levels[1:])] if isinstance(c, _Cell) else lost for c in row] for row in table]
        more = {**coords, "noise_factor": [float(factor) for factor in factors]}
        return Measured(values, ("split", "layer", "noise_factor"), more, units="bits", long_name=text, attrs=attrs)

    cells = [c for row in table for c in row if isinstance(c, _Cell)]
    out: dict[str, Measured] = {}
    for which, text in _INFORMATIONS.items() if any(c.main.y for c in cells) else [("x", _INFORMATIONS["x"])]:
        for part in Bits._fields:
            name = f"information_{which}" + ("" if part == "value" else f"_{part}")
            long_name = text + ("" if part == "value" else f", {part}")
            out[name] = by_layer(partial(_main_bits, which, part), units="bits", long_name=long_name, attrs=attrs)
        if factors:
            out[f"information_{which}_by_noise"] = by_noise(partial(_bits, which, "value"), f"{text} by noise")
    for name, (text, of_cell) in _COMPANIONS.items():
        out[name] = by_layer(of_cell, long_name=text)
    for name, (text, of_cell) in _FLAGS.items():
        out[name] = by_layer(of_cell, flag=True, long_name=text)
    nonfinite = [[-1 if c == _SILENT else int(c is None) for c in row] for row in table]
    out["information_nonfinite"] = Measured(
        nonfinite, ("split", "layer"), coords, flag=True, long_name="activations are not finite"
    )
    return out


def _bits(which: str, part: str, found: ChannelInformation) -> float:
    """One number of a cell; bounds as what is known in the end, within [0, ceiling]."""
    bits: Bits | None = getattr(found, which)
    if bits is None:
        return math.nan
    value: float = dict(zip(("lower", "upper"), bits.bracket, strict=True)).get(part, getattr(bits, part))
    return value


def _main_bits(which: str, part: str, cell: _Cell) -> float:
    return _bits(which, part, cell.main)


def _of_geometry(name: str, cell: _Cell) -> float | None:
    value: float | None = None if cell.geometry is None else getattr(cell.geometry, name)
    return value


_INFORMATIONS = {"x": "I(T+n;X)", "y": "I(T+n;Y)", "x_given_y": "I(T+n;X|Y)"}
_Told = dict[str, tuple[str, Callable[[_Cell], float | None]]]
_COMPANIONS: _Told = {
    "total_variance": ("tr Cov(T)", lambda c: c.main.variance),
    "noise_std": ("noise per dimension", lambda c: c.main.noise_std),
    "noise_relative": ("noise per dimension over the root of tr Cov(T)", lambda c: c.main.noise_relative),
    "effective_rank": ("participation ratio of Cov(T)", partial(_of_geometry, "effective_rank")),
    "within_share": ("within-class share of tr Cov(T)", partial(_of_geometry, "within_share")),
    "class_mean_accuracy": ("accuracy of the nearest class mean", partial(_of_geometry, "class_mean_accuracy")),
}
_FLAGS: _Told = {
    "saturated": ("I(T+n;X) is at its ceiling", lambda c: c.main.saturated),
    "collapsed": ("all rows alike", lambda c: c.main.collapsed),
    "fano_alarm": ("the noise hides labels that class means decode", lambda c: c.fano_alarm),
}
