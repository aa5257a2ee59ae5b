"""Tables of a binary operation as token sequences `a o b =`, one answer each, split in train and test.

`division`, `subtraction` and `composition` (of permutations) make a `Task`; `TaskConfig` names one, for a recorded run.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial, gcd

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


def division(p: int, *, table: str | None = None, fraction: float = 0.5, seed: int = 0) -> Task:
    """Division modulo `p`: all pairs `(a, b)` whose `b` has an inverse, and the one `c` with `c * b = a (mod p)`.

    For a prime, every `b` but 0 has one: `p * (p - 1)` pairs. For any other `p`, only the divisors prime to `p` do,
    and the task's name says how many: modulo 96 they are 32, which makes 3,072 pairs.

    Parameters
    ----------
    p : int
        The modulus, at least 3.
    table : {None, "paper"}
        ``"paper"`` makes the table that arXiv:2504.12700 learnt instead: `c = a * b^(p - 2) mod p` for every `b` but
        0. That is division by Fermat's little theorem if `p` is prime, and **is not division otherwise**: modulo 96
        the power takes 10 values over the 95 `b` (64 for 32 of them, 0 for 15), so that `c * b = a` fails for most
        pairs and 27.9 % of all answers are 0.
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
        If `p` is below 3, `table` is neither, or a split would be empty.
    """
    _check_size(p, "p", least=3)
    _check_table(table)
    divisors = [b for b in range(1, p) if table == "paper" or gcd(b, p) == 1]
    factor = {b: pow(b, p - 2 if table == "paper" else -1, p) for b in divisors}
    name = f"division modulo {p}"
    if table == "paper":
        name = f"a * b^{p - 2} modulo {p}"
    elif len(divisors) < p - 1:
        name += f" by its {len(divisors)} invertible divisors"
    return _table(name, range(p), divisors, lambda a, b: a * factor[b] % p, p, fraction, seed)


def subtraction(p: int, *, fraction: float = 0.5, seed: int = 0) -> Task:
    """Subtraction modulo `p`: all `p * p` pairs, `c = a - b mod p`; `p` at least 3. Else as `division`.

    For a prime `q`, division of nonzero residues modulo `q` is this table modulo `q - 1`, renamed by logarithms.
    """
    _check_size(p, "p", least=3)
    return _table(f"subtraction modulo {p}", range(p), range(p), lambda a, b: (a - b) % p, p, fraction, seed)


def composition(n: int = 5, *, fraction: float = 0.5, seed: int = 0) -> Task:
    """Composition in the symmetric group S_n: all pairs of permutations, `c[i] = a[b[i]]`.

    Parameters
    ----------
    n : int
        From 2 (4 pairs) to 6 (518,400 pairs); S5 has 14,400.
    fraction, seed
        As in `division`.

    Returns
    -------
    Task
        `n! + 2` tokens, `n!` answers; permutations are numbered in lexicographic order, 0 is the identity.
    """
    _check_size(n, "n", least=2)
    if n > 6:
        raise ValueError(f"Expected n of at most 6, came {n}: S{n} has {factorial(n) ** 2:,} pairs. Give 5 or 6.")
    elements = list(permutations(range(n)))
    number = {element: i for i, element in enumerate(elements)}

    def compose(a: int, b: int) -> int:
        return number[tuple(elements[a][i] for i in elements[b])]

    size = range(len(elements))
    return _table(f"composition in S{n}", size, size, compose, len(elements), fraction, seed)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which task, in plain values that a recording can hold.

    Attributes
    ----------
    operation : {"division", "subtraction", "composition"}
        The function of this module that makes it.
    size : int
        Its `p` or `n`.
    table : {None, "paper"}
        Of `division`.
    fraction : float
        Share of the pairs used for training.
    shuffled : bool
        Deal the answers out to the pairs by chance, with the seed: a control, which can be learnt by heart only.
    """

    operation: str = "division"
    size: int = 97
    table: str | None = None
    fraction: float = 0.5
    shuffled: bool = False

    def __post_init__(self) -> None:
        if self.operation not in _OPERATIONS:
            raise ValueError(f"Expected an operation among {', '.join(_OPERATIONS)}, came {self.operation!r}.")
        _check_table(self.table)
        if self.table is not None and self.operation != "division":
            raise ValueError(f"Expected no table for {self.operation}, came {self.table!r}. Only division has two.")

    def make(self, seed: int) -> Task:
        """The task, split by `seed`."""
        extra = {"table": self.table} if self.operation == "division" else {}
        task = _OPERATIONS[self.operation](self.size, fraction=self.fraction, seed=seed, **extra)
        if not self.shuffled:
            return task
        order = _order(len(task.targets), seed + 1)  # the split has the seed itself
        return replace(task, name=f"{task.name}, answers shuffled", targets=task.targets[order])


_OPERATIONS: dict[str, Callable[..., Task]] = {
    "division": division,
    "subtraction": subtraction,
    "composition": composition,
}


def _table(
    name: str,
    first: range,
    second: range | list[int],
    operation: Callable[[int, int], int],
    n: int,
    fraction: float,
    seed: int,
) -> Task:
    """All pairs of `first` and `second` with numbers below `n`, in that order."""
    pairs = torch.tensor([(a, n, b, n + 1) for a in first for b in second])  # (n_pairs, 4)
    targets = torch.tensor([operation(a, b) for a in first for b in second])  # (n_pairs,)
    train, test = _split(len(pairs), fraction, seed)
    return Task(name, pairs, targets, train, test, n_tokens=n + 2, n_classes=n)


def _check_table(table: str | None) -> None:
    if table not in (None, "paper"):
        raise ValueError(f"Expected table=None or 'paper', came {table!r}. Leave it out for true division.")


def _check_size(value: int, name: str, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"Expected an int as {name}, came {value!r} ({type(value).__name__}). Give one such as 5 or 97."
        )
    if value < least:
        raise ValueError(f"Expected {name} of at least {least}, came {value}. Give a larger number.")


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
            f"{n_train} of {n} pairs. Give a fraction nearer to 0.5 or a larger table."
        )
    order = _order(n, seed)
    return order[:n_train], order[n_train:]


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
