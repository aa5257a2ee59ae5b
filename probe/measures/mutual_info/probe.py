"""Mutual information of a noisy layer with inputs and labels: :mod:`probe.information.channel` as a probe."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from probe.attach.contract import Staged
from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import IGNORED, Layers
from probe.forward.outputs import Reduce
from probe.forward.passes import Tap
from probe.forward.snapshot import generator
from probe.information.arguments import check_count
from probe.information.channel import ChannelInformation, channel_estimates
from probe.information.noise import calibrated_noise, check_noise, standard_normal_like
from probe.information.spread import geometry_of
from probe.information.validation import class_codes, is_finite, normalise_rows, to_float64_device
from probe.layer_probe import random_rows, row_targets
from probe.measures.mutual_info.estimators import ESTIMATORS
from probe.measures.mutual_info.inputs import input_codes, input_keys
from probe.measures.mutual_info.labels import class_labels, warn_of_labels
from probe.measures.mutual_info.variables import LayerResult, VariableOptions, information_variables
from probe.reads import CPU, Stages


class Rows(NamedTuple):
    """Rows (n, d) of a layer, their targets (n,), and keys (n,) of their inputs, see :func:`input_keys`."""

    z: Tensor
    targets: Tensor | None
    keys: tuple[Tensor, ...]


class Level(NamedTuple):
    """The noise of a layer, and whether ``noise="auto"`` found none that suits it."""

    noise: float
    uncalibrated: bool = False


_POOLED = "all"  # the split of all inputs
_MAX_ON_CPU = 2**28  # max_samples^2 times width: at most 50 ms of one core for a layer and split
_DEFAULT_NOISE = 0.2
_CONVENTIONS = {
    "relative": "sigma^2 = noise^2 tr Cov(T) per dimension, at each step",
    "absolute": "sigma = noise per dimension, at each step",
    "reference": "sigma^2 = noise^2 tr Cov(T) per dimension, of the first observation and split that is not collapsed",
}


class MutualInfoProbe(Staged, Probe):
    """Measure I(T+n; X) and I(T+n; Y) of each layer and split, in bits, with bounds, ceilings and flags.

    Parameters
    ----------
    layers
        Layers to measure, see :func:`probe.forward.select_layers`.
    reduce
        Conversion of an output to rows, see :func:`probe.forward.reduce_output`.
    noise : float or "auto"
        Noise level, constant over training. Use the same level for runs that you compare. ``"auto"``: 0.2 if this level
        does not saturate, else the level of :func:`probe.information.calibrated_noise` at the layer's first observation
        that is not collapsed, in the first split. The probe keeps this level, also if a recording is resumed, and
        records it as ``noise_relative``. If no level suits the layer, the noise is 0.2 and ``noise_uncalibrated`` is 1.
    convention : str
        ``"relative"``: the noise follows the spread of the layer. ``"reference"``: it stays as at the first
        observation. ``"absolute"``: it is in units of the activations. With the last two, a change of scale alone
        changes the information; the information at a noise that follows the scale is then measured too.
    noise_factors : sequence of float
        Multiples of the noise at which the informations are measured too, in the same pass. ``(0.5, 2)`` shows whether
        the shape of a curve depends on the level.
    compare : sequence of str
        Names of other estimators for the same rows, from :data:`probe.measures.ESTIMATORS`: ``"coding_rate"``,
        ``"renyi"``, ``"binned"``.
    pooled : bool
        Whether to measure the inputs of all splits together too, as the split ``all``. Training inputs alone can move
        together without any generalisation.
    subsample_se : bool
        Whether to estimate ``_subsample_se``, the error over rows.
    target_bins : int, optional
        Number of classes of equal size into which real targets are cut. The information about the classes is a lower
        bound of that about the targets. Default: no ``information_y`` for real targets.
    max_samples : int
        Number of rows measured; of more rows, a fixed random subset is measured, since the cost grows with the square.
        The ceiling depends on this number, log2 N for N distinct inputs: do not compare splits of different size. Four
        times as many rows halve the errors, raise the ceiling by 2 bits, and take about 12 times as long.
    random_state : int
        Seed of the subset and of the noise. Both are the same at every step.
    device
        Device of the computation. Default: the CPU for layers with max_samples^2 times width of at most 2^28 (1,820
        units for 384 rows), else the device of the model. The CPU does not wait for the device, layer by layer.

    Attributes
    ----------
    series_ : xarray.Dataset
        By (step, split, layer):

        - ``information_x``, ``information_y`` and ``information_x_given_y`` in bits, with ``_se`` (standard error over
          noise draws), ``_subsample_se`` (over rows), ``_lower`` and ``_upper`` (bounds clipped to [0, ceiling];
          :func:`probe.information.channel_information` returns the raw ones) and ``_ceiling``. The values lie within
          these bounds. An error that the rows cannot show is NaN, see :class:`probe.information.ChannelEstimate`.
        - ``information_x_by_noise`` and ``information_y_by_noise`` for ``noise_factors``; ``information_x_<name>`` and
          ``information_y_<name>`` for ``compare``.
        - ``noise_std``, ``noise_relative``; ``total_variance``, ``effective_rank``, ``within_share`` and
          ``class_mean_accuracy`` (see :func:`probe.information.representation_geometry`).
        - With a noise that does not follow the layer: ``information_x_scale_free`` and ``information_y_scale_free``, at
          the relative noise of the first observation.

        The ceiling of ``information_x`` is the entropy of the inputs, H(X). Inputs with equal values are one input. A
        position of a sequence (``reduce="tokens"``, or an index) is identified by its prefix if the rows of equal
        prefixes are equal, as in a causal model, else by the whole sequence and its place.

        Flags: ``saturated``; ``collapsed`` (all rows are equal, and the information is 0); ``information_nonfinite``
        (activations are not finite); ``fano_alarm`` (less than half of what the class means decode: the noise hides the
        labels); ``noise_uncalibrated`` (with ``noise="auto"``: no level suits the layer); ``scale_artefact`` (more than
        half of the change of ``information_x`` since the first observation is one of scale).

        Labels are integer targets, one for each row; rows labelled -100 are left out. Without labels there are no
        variables about Y.

    Warns
    -----
    ProbeWarning
        If there are integer targets, but not one for each row.

    See Also
    --------
    probe.information.channel_information : The same estimate of one tensor.

    Examples
    --------
    Four inputs that the layer keeps far apart, and two labels:

    >>> import torch
    >>> from probe import MutualInfoProbe
    >>> model = torch.nn.Sequential(torch.nn.Identity())
    >>> x, y = torch.eye(4), torch.tensor([0, 0, 1, 1])
    >>> series = MutualInfoProbe(layers="0", noise=0.01, subsample_se=False).fit(model, (x, y)).series_
    >>> round(series["information_x"].item(), 3), round(series["information_y"].item(), 3)
    (2.0, 1.0)
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
        subsample_se: bool = True,
        target_bins: int | None = None,
        max_samples: int = 384,
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
        self.subsample_se = subsample_se
        self.target_bins = target_bins
        self.max_samples = max_samples
        self.random_state = random_state
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return the selected layers."""
        return [Tap(layer, self.reduce) for layer in snapshot.select(self.layers)]

    def stages(self, snapshot: Snapshot) -> Stages[Mapping[str, Measured]]:
        """Estimate the informations of each layer and split."""
        self._check()
        layers = [tap.site for tap in self.taps(snapshot)]
        snapshot.run_shared_pass()
        yield ()  # the rows of all layers, which the pass copies to the CPU
        fixed = self._fixed_noise(snapshot, layers)
        draws: dict[tuple[torch.Size, torch.device], Tensor] = {}
        results: dict[str, list[LayerResult | None]] = {}
        for split, rows in self._rows(snapshot, layers):
            firsts = self._firsts(snapshot, len(results), layers)
            places = {k: self._device(rows[k].z.shape[1], snapshot.device) for k in rows}
            results[split] = [
                self._one(self._sample(rows[k], places[k]), k, fixed, firsts[k], draws) if k in rows else None
                for k in layers
            ]
        attrs = {
            "noise": self.noise,
            "noise_convention": f"{self.convention}: {_CONVENTIONS[self.convention]}",
            "max_samples": self.max_samples,
            "precision": f"at most {self.max_samples} rows: 4 times as many halve errors and add 2 bits of ceiling",
        }
        if self.target_bins is not None:
            attrs["target_bins"] = f"real targets in {self.target_bins} quantile classes"
        options = VariableOptions(
            self.noise_factors, self.compare, self.subsample_se, self.convention != "relative", self.noise == "auto"
        )
        coords = {"split": list(results), "layer": layers}
        return information_variables(list(results.values()), coords, attrs, options)

    def _check(self) -> None:
        if self.convention not in _CONVENTIONS:
            raise ValueError(
                f"Expected a convention among {', '.join(_CONVENTIONS)}, got {self.convention!r}; pass one"
            )
        if unknown := [name for name in self.compare if name not in ESTIMATORS]:
            raise ValueError(
                f"Expected names among {', '.join(ESTIMATORS)} in compare, got {', '.join(map(repr, unknown))}; "
                "correct them"
            )
        if self.noise == "auto" and self.convention == "absolute":
            raise ValueError(
                'Expected a number as noise with convention="absolute", got "auto", which is relative to a layer; pass '
                'convention="reference"'
            )
        if isinstance(self.noise, str) and self.noise != "auto":
            raise ValueError(f'Expected a positive number or "auto" as noise, got {self.noise!r}; pass one of them')
        if self.noise != "auto":
            check_noise((self.noise,), "relative")
        if isinstance(self.noise_factors, (str, bytes)) or not isinstance(self.noise_factors, Iterable):
            raise ValueError(f"Expected a sequence of noise_factors, got {self.noise_factors!r}; pass (0.5, 1, 2)")
        check_count(self.max_samples, "max_samples", 2, 2**31)
        if self.target_bins is not None:
            check_count(self.target_bins, "target_bins", 1, 2**31)

    def _fixed_noise(self, snapshot: Snapshot, layers: Sequence[str]) -> dict[str, Level]:
        """Return the noise of each layer that an earlier observation has fixed; none if the layer had no variance."""
        name = "noise_std" if self.convention == "reference" else "noise_relative"
        past = snapshot.history(name).reshape(-1, len(layers))
        failed = (snapshot.history("noise_uncalibrated").reshape(-1, len(layers)) == 1).any(0)
        return {
            layer: Level(past[past[:, i] > 0, i][0], len(failed) > i and bool(failed[i]))
            for i, layer in enumerate(layers)
            if (past[:, i] > 0).any()
        }

    def _firsts(self, snapshot: Snapshot, split: int, layers: Sequence[str]) -> dict[str, tuple[float, float] | None]:
        """Return relative noise and information of each layer at its first observation; None before it."""
        noise, bits = snapshot.history("noise_relative"), snapshot.history("information_x")
        if self.convention == "relative" or not noise.size:
            return dict.fromkeys(layers)
        found: dict[str, tuple[float, float] | None] = {}
        for i, layer in enumerate(layers):
            at = np.flatnonzero(noise[:, split, i] > 0)[:1]
            found[layer] = (noise[at[0], split, i], bits[at[0], split, i]) if len(at) else None
        return found

    def _rows(self, snapshot: Snapshot, layers: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Rows]]]:
        """Yield each split with the rows of its layers and their targets, and then all splits together."""
        found: list[dict[str, Rows]] = []
        tokens, unlabelled = self.reduce == "tokens", dict[str, int]()
        for split in snapshot.splits:
            outputs, batch = snapshot.outputs(split, layers, reduce=self.reduce, device=CPU), snapshot.data[split]
            targets = {k: row_targets(batch.cpu_targets, len(z), by_position=tokens) for k, z in outputs.items()}
            if misfits := [len(outputs[k]) for k, labels in targets.items() if labels is None]:
                unlabelled[split] = misfits[0]
            keys = {k: input_keys(batch, len(z), self.reduce) for k, z in outputs.items()}
            found.append({k: Rows(z, targets[k], keys[k]) for k, z in outputs.items()})
            yield split, found[-1]
        warn_of_labels(snapshot, unlabelled)
        if self.pooled and len(found) > 1 and _POOLED not in snapshot.splits:
            yield _POOLED, {k: _together([rows[k] for rows in found]) for k in layers if _fit_together(found, k)}

    def _one(
        self,
        rows: Rows,
        layer: str,
        fixed: dict[str, Level],
        first: tuple[float, float] | None,
        draws: dict[tuple[torch.Size, torch.device], Tensor],
    ) -> LayerResult:
        """Return the results of one layer on one split; empty ones if the activations are not finite."""
        z, labels, keys = rows
        if not is_finite(z):
            return LayerResult()
        normalised = normalise_rows(z)
        x, y = input_codes(z, keys), None if labels is None else class_codes(labels, z)
        level = self._level(z, normalised, layer, fixed)
        levels = [level.noise, *(factor * level.noise for factor in self.noise_factors)]
        check_noise(levels, "relative")
        draw = None if normalised[2] else self._draw(normalised[0], draws)
        found = channel_estimates(
            normalised,
            x,
            y,
            levels,
            draw=draw,
            convention="relative" if self.convention == "relative" else "absolute",
            subsample_se=self.subsample_se,
        )
        if draw is None:
            return LayerResult(found, None, dict.fromkeys(self.compare, (0.0, None if labels is None else 0.0)))
        compared = {name: ESTIMATORS[name][1](z, labels, x, found[0].noise_relative) for name in self.compare}
        free = found[0]
        if first is not None:
            (free,) = channel_estimates(normalised, x, y, [first[0]], draw=draw)
        artefact = first is not None and _is_scale_artefact(found[0], free, first[1])
        return LayerResult(found, geometry_of(normalised, y), compared, free, artefact, level.uncalibrated)

    def _device(self, width: int, of_model: torch.device) -> Any:
        """Return the device that measures a layer of this width."""
        small = self.max_samples**2 * width <= _MAX_ON_CPU
        return self.device or (CPU if small else of_model)

    def _sample(self, rows: Rows, device: Any) -> Rows:
        """Return the rows that are measured, with their labels and the keys of their inputs."""
        z, labels = rows.z, class_labels(rows.targets, self.target_bins)
        places = torch.arange(len(z))
        if labels is not None:
            places = places[labels != IGNORED]
            if len(places) < 2:
                raise ValueError(
                    f"Expected at least 2 rows with a label other than {IGNORED}, got {len(places)} of {len(z)}; pass "
                    "other labels, or None as targets"
                )
        if len(places) > self.max_samples:
            places = places[random_rows(len(places), self.max_samples, self.random_state)]
        if len(places) == len(z):
            return Rows(to_float64_device(z, device), labels, rows.keys)
        chosen = None if labels is None else labels[places]
        return Rows(to_float64_device(z[places], device), chosen, tuple(keys[places] for keys in rows.keys))

    def _draw(self, rows: Tensor, draws: dict[tuple[torch.Size, torch.device], Tensor]) -> Tensor:
        """Return the noise, which is the same for all rows of one shape."""
        key = rows.shape, rows.device
        if key not in draws:
            draws[key] = standard_normal_like(rows, generator(self.random_state, rows.device))
        return draws[key]

    def _level(self, z: Tensor, normalised: tuple[Tensor, float, bool], layer: str, fixed: dict[str, Level]) -> Level:
        """Return the noise: relative, or for the other conventions in units of the activations."""
        if self.noise != "auto" and self.convention != "reference":
            return Level(self.noise)
        if layer not in fixed:
            _, variance, collapsed = normalised
            if collapsed:
                return Level(1.0)  # any level gives an information of 0
            level = Level(self.noise) if self.noise != "auto" else self._calibrated(z)
            scale = math.sqrt(variance) if self.convention == "reference" else 1.0
            fixed[layer] = level._replace(noise=scale * level.noise)
        return fixed[layer]

    def _calibrated(self, z: Tensor) -> Level:
        try:
            return Level(calibrated_noise(z, generator=generator(self.random_state, z.device)))
        except ValueError:
            return Level(_DEFAULT_NOISE, uncalibrated=True)


def _fit_together(found: Sequence[Mapping[str, Rows]], layer: str) -> bool:
    """Return whether the layer fired in all splits, with rows of one length."""
    return all(layer in rows for rows in found) and len({rows[layer].z.shape[1] for rows in found}) == 1


def _together(parts: Sequence[Rows]) -> Rows:
    """Return the rows of all parts; without targets if a part has none, or if classes and real numbers would mix."""
    targets = [part.targets for part in parts if part.targets is not None]
    one_kind = len(targets) == len(parts) and len({target.is_floating_point() for target in targets}) == 1
    n_keys = {len(part.keys) for part in parts}
    keys = zip(*(part.keys for part in parts), strict=True) if len(n_keys) == 1 else ()
    return Rows(
        torch.cat([part.z for part in parts]), torch.cat(targets) if one_kind else None, tuple(map(torch.cat, keys))
    )


def _is_scale_artefact(found: ChannelInformation, free: ChannelInformation, start: float) -> bool:
    """Return whether the information has changed, and less than half as much at a noise that follows the scale."""
    change, of_geometry = found.x.value - start, free.x.value - start
    certain = max(0.02 * found.x.ceiling, 3 * math.hypot(found.x.se, free.x.se))  # 0.02 of the ceiling if se is NaN
    return bool(abs(change) > certain and of_geometry / change < 0.5)
