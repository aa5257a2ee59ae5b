"""Levels of a curve: where it starts and ends, its best value, its noise, and how far it came. For the verdict.

A curve is read as the share of the way that it has come: 0 at chance (accuracy) or at the first loss, 1 at the best
possible value. The share of a loss is its fall over the first loss; a loss with negative values has its minimum at 1.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.ndimage import median_filter

from probe.phases.markers.cells import log_time

_WIDTH = 5  # observations in a running median
_LEAST_END = 3  # observations of the end; a tenth of the record if that is more
LEAST_OF_WAY = 0.05  # smallest change of an accuracy that counts, share of the way
LEAST_OF_RANGE = 0.03  # smallest change of a loss that counts, share of its range
_LEAST_GAIN = 0.01  # share of the way in a quarter of a decade, by which a curve still improves
_N_SD = 3.0  # standard deviations of an observation: about 5 of a running median
_MOST = 5_000  # observations; of a longer record, every second, third, ... is read
_NEAR = 0.9  # share of the best share from which a curve is near its best value
_BLOCKS = 20  # of the record near the best value
_CONTRAST = 2.0  # of a fall to the wiggles that are undone
_LATE = 0.5  # decades at the end of the record
_MUCH = 0.5  # share of the way; a gain of a brief record, whose second half still rises
_MOST_CHANCE = 0.5  # a first accuracy above this is that of a trained network


class _Blocks(NamedTuple):
    """Medians of a curve near its best value; larger is better."""

    values: np.ndarray  # (n,)
    sizes: np.ndarray  # (n,), observations

    @property
    def best(self) -> int:
        """Index of the best block."""
        return int(self.values.argmax())

    @property
    def wiggle(self) -> float:
        """Largest move that is undone: a fall before the best block, a recovery after it."""
        before, after = self.values[: self.best + 1], self.values[self.best :]
        falls, recoveries = np.maximum.accumulate(before) - before, after - np.minimum.accumulate(after)
        return float(max(falls.max(), recoveries.max()))


@dataclass(frozen=True, eq=False)
class Levels:
    """One curve of one run without missing values, and what the verdict needs to know of it.

    Attributes
    ----------
    name : str
        Name in sentences, such as "train accuracy".
    steps, values : array of shape (n,)
        The curve.
    zero, one : float
        Values at which the share of the way is 0 and 1.
    n_observations : int
        Observations of the record, before a long one is reduced.
    n_examples : float
        Examples that an accuracy is a mean over; infinite if unknown.
    knows_chance : bool
        Whether ``zero`` is the accuracy of guessing, and not the first observation.
    """

    name: str
    steps: np.ndarray
    values: np.ndarray
    zero: float
    one: float
    n_observations: int
    n_examples: float = np.inf
    knows_chance: bool = False

    @property
    def accuracy(self) -> bool:
        """Whether the curve is an accuracy."""
        return self.name.endswith("accuracy")

    @cached_property
    def smooth(self) -> np.ndarray:
        """Running median of five observations, which removes spikes."""
        width = _WIDTH if len(self.values) >= 3 * _WIDTH else 3
        return np.asarray(median_filter(self.values, width, mode="nearest"))

    @cached_property
    def shares(self) -> np.ndarray:
        """Share of the way at each observation, of the running median."""
        way = self.one - self.zero
        return (self.smooth - self.zero) / way if way else np.zeros(len(self.smooth))

    @cached_property
    def n_end(self) -> int:
        """Number of observations of the end: the last tenth, and at least three."""
        return max(_LEAST_END, len(self.values) // 10)

    @cached_property
    def final(self) -> float:
        """Median of the end."""
        return float(np.median(self.values[-self.n_end :]))

    @cached_property
    def final_share(self) -> float:
        """Share of the way at the end."""
        return self._share(self.final)

    @cached_property
    def best_at(self) -> int:
        """Index of the best running median; the first one if there are several."""
        return int(self.shares.argmax())

    @property
    def best(self) -> float:
        """Best value."""
        return float(self.smooth[self.best_at])

    @property
    def best_share(self) -> float:
        """Share of the way at the best value."""
        return float(self.shares[self.best_at])

    @property
    def best_step(self) -> float:
        """Step of the best value."""
        return float(self.steps[self.best_at])

    @cached_property
    def _late(self) -> int:
        """Index of the first value near the best one."""
        return int((self.shares >= _NEAR * self.best_share).argmax())

    @cached_property
    def noise(self) -> float:
        """Standard deviation of one observation about the running median, or that of counting, if that is larger.

        Only observations from the first one near the best value count, if they are enough: a curve often swings before.
        """
        first = self._late if len(self.values) - self._late >= 2 * _WIDTH else 0
        values, smooth = self.values[first:], self.smooth[first:]
        residuals = np.abs(values - smooth)[values != smooth]
        spread = 1.4826 * float(np.median(residuals)) if len(residuals) > len(values) // 4 else 0.0
        share = min(max(self.final, 0.0), 1.0) if self.accuracy else 0.0
        return max(spread, float(np.sqrt(share * (1 - share) / self.n_examples)))

    @cached_property
    def least_size(self) -> float:
        """Smallest change that matters, in units of the curve."""
        if self.accuracy:
            return LEAST_OF_WAY * abs(self.one - self.zero)
        return LEAST_OF_RANGE * float(np.ptp(self.smooth))

    @property
    def least_move(self) -> float:
        """Smallest change that is neither noise nor too small to matter, in units of the curve."""
        return max(self.least_size, _N_SD * self.noise)

    @property
    def fall(self) -> float:
        """By how much the end is worse than a best value before it, in units of the curve; at least 0."""
        at_end = self.best_at >= len(self.values) - self.n_end
        return 0.0 if at_end else max((self.best - self.final) * self._sign, 0.0)

    @cached_property
    def _in_rows(self) -> _Blocks:
        """Up to 20 blocks of equal numbers of observations near the best value."""
        late = self.values[self._late :]
        size = max(len(late) // _BLOCKS, 1)
        n = len(late) // size
        medians = np.median(late[len(late) - n * size :].reshape(n, size), axis=1)
        return _Blocks(self._sign * medians, np.full(n, size))

    @cached_property
    def _in_time(self) -> _Blocks:
        """Up to 20 blocks of equal length in log time near the best value, which may be short beside the record."""
        x, late = log_time(self.steps)[self._late :], self.smooth[self._late :]
        block = np.minimum((x - x[0]) / max(x[-1] - x[0], 1e-9) * _BLOCKS, _BLOCKS - 1).astype(int)
        first = np.flatnonzero(np.diff(block, prepend=-1))
        medians = np.array([np.median(part) for part in np.split(late, first[1:])])
        return _Blocks(self._sign * medians, np.diff(first, append=len(late)))

    def stands_out(self, move: float, contrast: float, blocks: _Blocks | None = None) -> bool:
        """Return whether a move exceeds its least size, the error of two block medians, and the wiggle by a factor."""
        blocks = blocks or self._in_rows
        error = self.noise * min(1.0, float(np.sqrt(np.pi / blocks.sizes[blocks.best])))
        return move > max(self.least_size, _N_SD * error, contrast * blocks.wiggle)

    @cached_property
    def fell(self) -> bool:
        """Whether the end is worse than the best block before it by a move that stands out."""
        if self.fall == 0:
            return False
        both = (self._in_rows, self._in_time)
        falls = [float(blocks.values.max()) - self._sign * self.final for blocks in both]
        return any(self.stands_out(fall, _CONTRAST, blocks) for fall, blocks in zip(falls, both, strict=True))

    @cached_property
    def gained(self) -> bool:
        """Whether the end is better than the start, by half of the way, or by more than noise and late swings.

        The spread of the second half measures the swings. It also contains a rise, so half of the way is enough.
        """
        swings = _N_SD * float(np.std(self.values[len(self.values) // 2 :]))
        gain = (self.final - float(self.smooth[0])) * self._sign
        return gain > max(self.least_move, min(swings, _MUCH * abs(self.one - self.zero)))

    @cached_property
    def improves(self) -> bool:
        """Whether the curve still improves in the last half decade: its second half is better than its first."""
        x, n = log_time(self.steps), len(self.values)
        late, half = (
            min(int(np.searchsorted(x, x[-1] - part)), n - least) for part, least in ((_LATE, 6), (_LATE / 2, 3))
        )
        if late < 0:
            return False
        if half - late < _LEAST_END:  # the record is shorter, as after a late restart
            half = (late + n) // 2
        gain = float(np.median(self.values[half:]) - np.median(self.values[late:half])) * self._sign
        error = self.noise * np.sqrt(np.pi / 2 * (1 / (n - half) + 1 / (half - late)))  # of two medians
        return gain > max(_LEAST_GAIN * abs(self.one - self.zero), _N_SD * error)

    def passes(self, share: float) -> float:
        """Return the first step at which the running median has come that share of the way; NaN if at none."""
        reached = self.shares >= share
        return float(self.steps[reached.argmax()]) if reached.any() else np.nan

    def leaves(self, share: float) -> float:
        """Return the first step from which the running median stays below that share, at most the last step."""
        above = np.flatnonzero(self.shares >= share)
        last = int(above[-1]) + 1 if len(above) else 0
        return float(self.steps[min(last, len(self.steps) - 1)])

    def at(self, step: float) -> float:
        """Return the running median at a step, or at the last observation before it."""
        return float(self.smooth[max(int(np.searchsorted(self.steps, step, side="right")) - 1, 0)])

    @property
    def _sign(self) -> int:
        return 1 if self.accuracy else -1

    def _share(self, value: float) -> float:
        way = self.one - self.zero
        return (value - self.zero) / way if way else 0.0


def accuracy_levels(
    name: str, steps: np.ndarray, values: np.ndarray, chance: float | None, n_examples: float
) -> Levels | None:
    """Return the levels of an accuracy; None without values. Chance is the first observation, up to .5, if unknown."""
    known = np.isfinite(values)
    if not known.any():
        return None
    zero = min(float(values[known][0]), _MOST_CHANCE) if chance is None else chance
    curve = _reduced(steps[known], values[known])
    return Levels(name, *curve, zero, 1.0, int(known.sum()), n_examples, chance is not None)


def loss_levels(name: str, steps: np.ndarray, values: np.ndarray) -> Levels | None:
    """Return the levels of a loss; None without values."""
    known = np.isfinite(values)
    if not known.any():
        return None
    v = values[known]
    return Levels(name, *_reduced(steps[known], v), float(v[0]), min(0.0, float(v.min())), len(v))


def _reduced(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return every k-th observation of a long record, the last one among them."""
    every = max(len(values) // _MOST, 1)
    kept = slice((len(values) - 1) % every, None, every)
    return steps[kept], values[kept]
