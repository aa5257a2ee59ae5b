r"""Information that a noisy reading of a layer has about its inputs and labels: I(T+n; X) and I(T+n; Y), in bits.

A deterministic network loses nothing: I(T; X) = log2 N for N distinct inputs, always [1]_. What moves in an information
plane is noise, or resolution, against geometry; so the noise is part of the quantity and is stated. Here the layer is
read through a Gaussian channel, T + n with n ~ N(0, sigma^2 I) and sigma^2 = noise^2 tr Cov(T) **per dimension**:
scale-free, so that growing or shrinking activations alone change nothing. Inputs are uniform on the N rows. With
E_ij = exp(-|t_i + n_i - t_j|^2 / 2 sigma^2 + |n_i|^2 / 2 sigma^2),

    I(T+n; X) = -1/N sum_i log2 ( 1/N sum_j E_ij )
    I(T+n; Y) =  1/N sum_i log2 ( 1/N_y sum_{j: y_j = y_i} E_ij ) - 1/N sum_i log2 ( 1/N sum_j E_ij )

by one noise draw for each row (Monte Carlo over the exact mixture, "sample propagation" [1]_); unbiased, with a
standard error. Bounds from the same distances [2]_: U with exp(-D_ij / 2 sigma^2) and L with exp(-D_ij / 8 sigma^2) in
place of E_ij; for Y, L(T) - U(T|Y) <= I(T+n; Y) <= U(T) - L(T|Y). (The difference of two upper bounds, often plotted,
bounds nothing.) Nothing exceeds log2 N or H(Y): a value near its ceiling is flagged ``saturated`` and says only that
the noise is too fine to tell.

.. [1] Goldfeld et al. 2019, arXiv:1810.05728, eq. 9 and section 3.  .. [2] Kolchinsky and Tracey 2017, eqs. 10 and 13.
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from probe.base import Measured, Probe, Snapshot
from probe.capture import Tap
from probe.layers import IGNORED, Layers, Reduce
from probe.snapshot import generator

_FLOOR = -80.0  # exp of less is nothing beside the 1 of a row's own component, and underflow costs six times as much
_SILENT = "silent"  # in place of a value: the layer did not fire
_COLLAPSED = 1e-12  # relative variance below which float32 activations differ by rounding only: (2^-24 * 16)^2


class Bits(NamedTuple):
    """An information in bits: Monte Carlo value, its standard error, raw bounds, and the most it can be."""

    value: float
    se: float
    lower: float
    upper: float
    ceiling: float


class ChannelInformation(NamedTuple):
    """I(T+n; X), I(T+n; Y) (None without labels), and what they rest on."""

    x: Bits
    y: Bits | None
    variance: float
    noise_std: float
    collapsed: bool

    @property
    def saturated(self) -> bool:
        """Within 2 % of the ceiling (5 % for the lower bound) the estimate can no longer move."""
        return self.x.value > 0.98 * self.x.ceiling or self.x.lower > 0.95 * self.x.ceiling


def channel_information(
    z: Tensor,
    labels: Tensor | None = None,
    *,
    noise: float = 0.2,
    generator: torch.Generator | None = None,
    block: int = 256,
) -> ChannelInformation:
    """I(T+n; X) and I(T+n; Y) of the rows of ``z``, each row one equally likely input.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    labels : integer Tensor of shape (n,), optional
    noise
        Standard deviation of the noise per dimension, relative to the root of the total variance of ``z``.
    generator
        Source of the noise, on the device of ``z``; the same seed at every step makes curves smooth in time.
    block
        Rows at a time: the work space is ``block * n`` numbers.

    Returns
    -------
    ChannelInformation
        In bits. Rows that are all alike have information 0 and are ``collapsed``.
    """
    z, codes = _checked(z, labels, noise)
    n, d = z.shape
    centred = z - z.mean(0)
    variance = centred.square().sum(1).mean()
    ceilings = math.log2(n), None if codes is None else _entropy(codes)
    if variance <= _COLLAPSED * z.square().sum(1).mean():
        x, y = (None if ceiling is None else Bits(0.0, 0.0, 0.0, 0.0, ceiling) for ceiling in ceilings)
        assert x is not None
        return ChannelInformation(x, y, variance.item(), 0.0, True)
    sigma = noise * variance.sqrt()
    draw = torch.randn(n, d, generator=generator, device=z.device, dtype=z.dtype)
    terms = _pairwise_terms(centred.div_(sigma), draw, codes, block)  # (6, n), bits
    value, lower, upper, *given_y = terms.mean(1).tolist()  # I(T+n; X), then I(T+n; X | Y)
    x = Bits(value, _standard_error(terms[0]), lower, upper, ceilings[0])
    y = None
    if ceilings[1] is not None:
        se = _standard_error(terms[0] - terms[3])
        y = Bits(value - given_y[0], se, lower - given_y[2], upper - given_y[1], ceilings[1])
    return ChannelInformation(x, y, variance.item(), sigma.item(), False)


def _checked(z: Tensor, labels: Tensor | None, noise: float) -> tuple[Tensor, Tensor | None]:
    """Rows in float64 and labels as 0, 1, ..., K-1.

    In float32 the distances cancel where the noise is fine, squares overflow, and a user's
    ``set_float32_matmul_precision("medium")`` pushes the "upper bound" of 64 clusters above log2 64.
    """
    if z.ndim != 2 or len(z) < 2:
        raise ValueError(f"z must have shape (n, d) with n >= 2, got {tuple(z.shape)}")
    if not noise > 0:
        raise ValueError(f"noise must be positive, got {noise}: without noise the information is log2 n, always")
    if not torch.isfinite(z).all():
        raise ValueError("z holds NaN or infinite values; information is not defined for them")
    if labels is None:
        return z.double(), None
    if labels.shape != z.shape[:1] or labels.is_floating_point():
        raise ValueError(f"labels must be {len(z)} integers, got {labels.dtype} of shape {tuple(labels.shape)}")
    return z.double(), labels.unique(return_inverse=True)[1].to(z.device)


def _pairwise_terms(t: Tensor, draw: Tensor, codes: Tensor | None, block: int) -> Tensor:
    """Bits of each row: value, lower, upper for X, then for X given Y. Unit noise, so t is T / sigma.

    Differences cancel, so they are taken in float64; exponentials do not, and are float32, which is faster.
    """
    n, squares, own = len(t), t.square().sum(1), (draw * t).sum(1)
    out = t.new_zeros(6, n)
    for rows in torch.arange(n, device=t.device).split(block):
        distances = torch.sub(squares, t[rows] @ t.T, alpha=2).add_(squares[rows, None]).float().clamp_(min=0)  # (b, n)
        shift = (draw[rows] @ t.T).sub_(own[rows, None]).float()  # (b, n)
        exact = shift.sub_(distances, alpha=0.5).clamp_(min=_FLOOR).exp_()
        wide = distances.div_(-8).clamp_(min=_FLOOR / 4).exp_()  # its fourth power stays above _FLOOR
        same = None if codes is None else codes[rows, None] == codes  # not one-hot: its cost grows with the classes
        for k, e in enumerate((exact, wide, wide.square().square_())):
            out[k, rows] = -e.mean(1).to(out).log2()
            if same is not None:
                out[3 + k, rows] = -((e * same).sum(1) / same.sum(1)).to(out).log2()
    return out


def _entropy(codes: Tensor) -> float:
    p = codes.bincount().double() / len(codes)
    return -(p * p.log2()).sum().item()


def _standard_error(terms: Tensor) -> float:
    return (terms.std() / math.sqrt(len(terms))).item()


class MutualInfoProbe(Probe):
    """I(T+n; X) and I(T+n; Y) of each layer and split, in bits, with bounds, ceilings and flags.

    Parameters
    ----------
    layers, reduce
        Which layers, and how their outputs become rows; see :func:`probe.layers.select_layers` and
        :func:`probe.layers.reduced`.
    noise
        Relative noise, constant over training: runs that are to be compared share it.
    max_samples
        Above this many rows a fixed random subset is used: cost grows with the square. The ceiling log2 N moves
        with it, so values of splits of different size do not compare.
    random_state
        Seed of the subset and of the noise, which is the same at every step.
    device
        Where to compute; default: where the model is.

    Notes
    -----
    Variables over (split, layer): ``information_x`` and ``information_y`` with ``_se``, ``_lower`` and ``_upper``
    (intersected with [0, ceiling]) and ``_ceiling``, ``total_variance``, ``noise_std``, and the flags ``saturated``,
    ``collapsed`` (all rows alike: information 0) and ``information_nonfinite`` (no number). Labels are integer
    targets, one for each row (rows labelled -100 are left out); without them there is no ``information_y``.
    """

    def __init__(
        self,
        *,
        layers: Layers = None,
        reduce: Reduce = None,
        noise: float = 0.2,
        max_samples: int = 1024,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.layers = layers
        self.reduce = reduce
        self.noise = noise
        self.max_samples = max_samples
        self.random_state = random_state
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """The selected layers."""
        return [Tap(layer, self.reduce) for layer in snapshot.select(self.layers)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """One ChannelInformation for each split and layer."""
        layers = [tap.site for tap in self.taps(snapshot)]
        table = []
        for split in snapshot.splits:
            rows = snapshot.outputs(split, layers, reduce=self.reduce)
            table.append([self._one(rows[k], snapshot, split) if k in rows else _SILENT for k in layers])
        return _tabulated(table, {"split": snapshot.splits, "layer": layers}, self.noise)

    def _one(self, z: Tensor, snapshot: Snapshot, split: str) -> ChannelInformation | None:
        """None if the activations are not finite."""
        z = z.to(self.device or ("cpu" if z.device.type == "mps" else z.device))  # MPS has no float64
        labels = _labels(snapshot.data[split].targets, len(z), by_position=self.reduce == "tokens")
        if labels is not None and (labels == IGNORED).any():
            z, labels = z[(labels != IGNORED).to(z.device)], labels[labels != IGNORED]
        if len(z) > self.max_samples:
            chosen = torch.randperm(len(z), generator=generator(self.random_state))[: self.max_samples]
            z = z[chosen.to(z.device)]
            labels = None if labels is None else labels[chosen.to(labels.device)]
        if not torch.isfinite(z).all():
            return None
        source = generator(self.random_state, z.device)
        return channel_information(z, labels, noise=self.noise, generator=source)


def _labels(targets: Tensor | None, n: int, *, by_position: bool) -> Tensor | None:
    if targets is None or targets.is_floating_point():
        return None
    labels = targets.flatten()
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


def _tabulated(table: list[list[Any]], coords: Mapping[str, Any], noise: float) -> dict[str, Measured]:
    def by_layer(pick: Callable[[ChannelInformation], float], **kwargs: Any) -> Measured:
        empty = -1 if kwargs.get("flag") else math.nan
        values = [[pick(c) if isinstance(c, ChannelInformation) else empty for c in row] for row in table]
        return Measured(values, ("split", "layer"), coords, **kwargs)

    attrs = {"noise": noise, "noise_convention": "relative: sigma^2 = noise^2 tr Cov(T) per dimension"}
    cells = [c for row in table for c in row if isinstance(c, ChannelInformation)]
    out: dict[str, Measured] = {}
    for letter in ("x", "y") if any(c.y for c in cells) else ("x",):
        for part in Bits._fields:
            name = f"information_{letter}" + ("" if part == "value" else f"_{part}")
            text = f"I(T+n;{letter.upper()})" + ("" if part == "value" else f", {part}")
            out[name] = by_layer(partial(_bits, letter, part), units="bits", long_name=text, attrs=attrs)
    out["total_variance"] = by_layer(lambda c: c.variance, long_name="tr Cov(T)")
    out["noise_std"] = by_layer(lambda c: c.noise_std, long_name="noise per dimension")
    out["saturated"] = by_layer(lambda c: c.saturated, flag=True, long_name="I(T+n;X) is at its ceiling")
    out["collapsed"] = by_layer(lambda c: c.collapsed, flag=True, long_name="all rows alike")
    nonfinite = [[-1 if c == _SILENT else int(c is None) for c in row] for row in table]
    out["information_nonfinite"] = Measured(
        nonfinite, ("split", "layer"), coords, flag=True, long_name="activations are not finite"
    )
    return out


def _bits(letter: str, part: str, cell: ChannelInformation) -> float:
    """One number of a cell; bounds as what is known in the end, within [0, ceiling]."""
    bits = cell.x if letter == "x" else cell.y
    if bits is None:
        return math.nan
    value: float = getattr(bits, part)
    return min(max(value, 0.0), bits.ceiling) if part in ("lower", "upper") else value
