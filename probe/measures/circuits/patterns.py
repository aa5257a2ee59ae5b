"""Signs of pre-activations as bits: distinct circuits, distances between them, constant units and copies."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from probe.forward.data import Batch

_BITS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(1)  # set bits of each byte
_ANCHORS = 256  # inputs whose nearest neighbour is searched for
_COLUMNS = 4096  # numbers of an input that are compared at a time
_TAIL = 5  # bytes after the signs: whether the row is finite, and the number of units


@dataclass(frozen=True)
class PackedSigns:
    """Reduction of pre-activations to packed signs, one row of bytes for each input.

    Parameters
    ----------
    max_units : int or None
        Number of units kept: of more units, a fixed random subset.
    random_state : int
        Seed of the subset.
    """

    max_units: int | None
    random_state: int

    def __call__(self, z: Tensor) -> Tensor:
        """Return the bytes of the rows of z (n, ...)."""
        flat = z.reshape(len(z), -1)
        units = flat.shape[1]
        if self.max_units is not None and units > self.max_units:
            random = torch.randperm(units, generator=torch.Generator().manual_seed(int(self.random_state)))
            flat = flat[:, random[: self.max_units].sort().values.to(flat.device)]
        dtype = torch.promote_types(flat.dtype, torch.float32)
        finite = flat.sum(1, dtype=dtype).isfinite()  # faster than a test of each number
        signs = np.packbits((flat > 0).cpu().numpy(), axis=1)
        tail = np.empty((len(z), _TAIL), np.uint8)
        tail[:, 0] = finite.cpu().numpy()
        tail[:, 1:] = np.array([flat.shape[1]], "<u4").view(np.uint8)
        return torch.from_numpy(np.concatenate([signs, tail], 1))


@dataclass(frozen=True)
class Signs:
    """Signs of n inputs.

    Attributes
    ----------
    rows : uint8 array of shape (n, bytes)
        Signs of each input.
    columns : uint8 array of shape (units, bytes)
        Signs of each unit over inputs, so that the first is 0: a unit and its negative are equal.
    n_on : int array of shape (units,)
        Number of inputs at which each unit is positive.
    """

    rows: np.ndarray
    columns: np.ndarray
    n_on: np.ndarray

    @classmethod
    def of(cls, packed: Tensor, chosen: Tensor) -> "Signs | None":
        """Return the signs of the chosen rows that a reduction has packed. None if some numbers are not finite."""
        given = packed.cpu()[chosen].numpy().astype(np.uint8)  # the shared pass holds bytes as floating-point numbers
        rows, tail = np.ascontiguousarray(given[:, :-_TAIL]), given[:, -_TAIL:]
        if not tail[:, 0].all():
            return None
        units = int(np.ascontiguousarray(tail[0, 1:]).view("<u4")[0])
        on = np.ascontiguousarray(np.unpackbits(rows, axis=1, count=units).T)  # (units, n)
        return cls(rows, np.packbits(on ^ on[:, :1], axis=1), on.sum(1, dtype=int))

    @classmethod
    def joined(cls, parts: Sequence["Signs"]) -> "Signs":
        """Return the signs of several sites as those of one."""
        rows, columns = np.concatenate([part.rows for part in parts], 1), np.concatenate([p.columns for p in parts])
        return cls(rows, columns, np.concatenate([part.n_on for part in parts]))

    @property
    def n_units(self) -> int:
        """Number of units."""
        return len(self.n_on)

    @property
    def n_distinct(self) -> int:
        """Number of different circuits."""
        return _n_distinct(self.rows)

    @property
    def always_on(self) -> float:
        """Share of units that are positive at all inputs."""
        return float((self.n_on == len(self.rows)).mean())

    @property
    def always_off(self) -> float:
        """Share of units that are positive at no input."""
        return float((self.n_on == 0).mean())

    @property
    def copies(self) -> float:
        """Share of copies among the units that change: equal or opposite to an earlier unit at all inputs."""
        changing = self.columns[(self.n_on > 0) & (self.n_on < len(self.rows))]
        return 1 - _n_distinct(changing) / len(changing) if len(changing) else np.nan

    def distance(self, pairs: np.ndarray) -> tuple[float, float]:
        """Return the mean share of units that differ between two inputs, over pairs (m, 2), and its standard error."""
        if not len(pairs):
            return np.nan, np.nan
        share = _BITS[self.rows[pairs[:, 0]] ^ self.rows[pairs[:, 1]]].sum(1) / self.n_units
        return float(share.mean()), float(share.std(ddof=1) / len(share) ** 0.5) if len(share) > 1 else np.nan


def _n_distinct(rows: np.ndarray) -> int:
    return (
        len(set(np.ascontiguousarray(rows).view(f"V{rows.shape[1]}").ravel().tolist())) if rows.size else len(rows[:1])
    )


def random_pairs(n: int) -> np.ndarray:
    """Return pairs (n, 2) of neighbours in a list of n inputs in random order."""
    return np.stack([np.arange(n), np.roll(np.arange(n), -1)], 1)


def nearest_pairs(data: Batch, chosen: Tensor) -> np.ndarray:
    """Return pairs (m, 2) of an input and its nearest other input, as places in ``chosen``, which is in random order.

    The distance is Euclidean over the floating-point numbers of an input. If there are none, it is the number of
    different integers. Among the nearest, the first is taken, which is a random one. Equal inputs are no neighbours.
    """
    inputs = [leaf.detach().reshape(len(data), -1) for _, leaf in data.arguments()]
    floating = [leaf for leaf in inputs if leaf.is_floating_point()]
    parts = (part[chosen.to(part.device)].cpu() for leaf in floating or inputs for part in leaf.split(_COLUMNS, 1))
    distance = torch.zeros(min(_ANCHORS, len(chosen)), len(chosen), dtype=torch.float64)
    for part in parts:
        distance += _squares(part.double()) if floating else _differing(part)
    keys = data.keys.whole[chosen]
    distance = distance.where(keys[:_ANCHORS, None] != keys, torch.inf)
    nearest = distance.argmin(1)
    exists = distance.isfinite().any(1)
    return torch.stack([torch.arange(len(nearest)), nearest], 1)[exists].numpy()


def _squares(x: Tensor) -> Tensor:
    """Return the squared distances of the first rows from all rows, (anchors, n), less a number of each first row."""
    x = x - x.mean(0)
    return x.square().sum(1) - 2 * x[:_ANCHORS] @ x.T


def _differing(numbers: Tensor) -> Tensor:
    """Return in how many places the first rows differ from all rows, (anchors, n)."""
    found = torch.zeros(min(_ANCHORS, len(numbers)), len(numbers))
    for column in numbers.T:
        found += column[:_ANCHORS, None] != column
    return found
