"""Tables of a binary operation as token sequences `a o b =`, one answer each, split in train and test."""

from dataclasses import dataclass
from math import isqrt

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Task:
    """A whole table of examples and its split.

    Attributes
    ----------
    name : str
        What the table is, in words.
    inputs : Tensor
        `(n, 4)` int64 tokens `a o b =`.
    targets : Tensor
        `(n,)` int64 answers, in `0 .. n_classes - 1`.
    train, test : Tensor
        Rows of either split: disjoint, together the whole table, shuffled, so that a prefix is a sample.
    n_tokens, n_classes : int
        Size of the vocabulary and number of answers.
    """

    name: str
    inputs: Tensor
    targets: Tensor
    train: Tensor
    test: Tensor
    n_tokens: int
    n_classes: int

    @property
    def train_data(self) -> tuple[Tensor, Tensor]:
        """Inputs `(n_train, 4)` and targets `(n_train,)` of the training split."""
        return self.inputs[self.train], self.targets[self.train]

    @property
    def test_data(self) -> tuple[Tensor, Tensor]:
        """Inputs `(n_test, 4)` and targets `(n_test,)` of the test split."""
        return self.inputs[self.test], self.targets[self.test]


def division(p: int, *, fraction: float = 0.5, seed: int = 0) -> Task:
    """Division modulo a prime: all pairs `(a, b)` with `b != 0`, and the one `c` with `c * b = a (mod p)`.

    Parameters
    ----------
    p : int
        A prime, at least 3. There are `p * (p - 1)` pairs; 59 gives 3,422.
    fraction : float
        Share of the pairs used for training, between 0 and 1.
    seed : int
        Decides the split. The global random state is neither read nor changed.

    Returns
    -------
    Task
        `p + 2` tokens (the numbers, then `o`, then `=`) and `p` answers; rows ordered by `a`, then `b`.

    Raises
    ------
    TypeError
        If `p` is not an integer.
    ValueError
        If `p` is not a prime of at least 3, or a split would be empty.
    """
    _check_prime(p)
    a = torch.arange(p).repeat_interleave(p - 1)  # (n,)
    b = torch.arange(1, p).repeat(p)  # (n,)
    inverses = torch.tensor([0] + [pow(k, -1, p) for k in range(1, p)])  # (p,); 0 has none and never divides
    operation, equals = torch.full_like(a, p), torch.full_like(a, p + 1)
    train, test = _split(len(a), fraction, seed)
    return Task(
        name=f"division modulo {p}",
        inputs=torch.stack([a, operation, b, equals], dim=1),  # (n, 4)
        targets=a * inverses[b] % p,  # (n,)
        train=train,
        test=test,
        n_tokens=p + 2,
        n_classes=p,
    )


def _check_prime(p: int) -> None:
    if not isinstance(p, int) or isinstance(p, bool):
        raise TypeError(f"Expected an int as p, came {p!r} ({type(p).__name__}). Give a prime such as 59 or 97.")
    if p < 3 or any(p % k == 0 for k in range(2, isqrt(p) + 1)):
        # Modulo a composite number some b have no inverse, so that a / b is no operation on all pairs.
        raise ValueError(
            f"Expected a prime p of at least 3 (each b from 1 to p - 1 must have an inverse), came {p}. "
            "Give a prime such as 59 or 97."
        )


def _split(n: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Rows of the train and the test split, in random order."""
    if not 0 < fraction < 1:  # also refuses nan
        raise ValueError(
            f"Expected a fraction between 0 and 1, both excluded, came {fraction}. "
            "Give the share of pairs to train on, such as 0.5."
        )
    n_train = round(fraction * n)
    if not 0 < n_train < n:
        raise ValueError(
            f"Expected a fraction that leaves pairs in both splits, came {fraction}, which trains on "
            f"{n_train} of {n} pairs. Give a fraction nearer to 0.5 or a larger p."
        )
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
    return order[:n_train], order[n_train:]
