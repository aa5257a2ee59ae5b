"""Tasks: tables of a binary operation as token sequences `a o b =` with one answer, split into train and test.

`division`, `subtraction` and `composition` (of permutations) return a `Task`. `TaskConfig` describes a task in plain
values.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import permutations
from math import factorial, gcd
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Task:
    """A complete table of examples and its split.

    Attributes
    ----------
    name : str
        Description of the table.
    inputs : Tensor
        `(n, 4)` int64 tokens `a o b =`.
    targets : Tensor
        `(n,)` int64 answers, in `0 .. n_classes - 1`.
    train, test : Tensor
        Rows of the two splits. They are disjoint and together the whole table. They are shuffled, so that the first
        rows are a random sample.
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
    """Return division modulo `p`: all pairs `(a, b)` whose `b` has an inverse, and the `c` with `c * b = a (mod p)`.

    For a prime, every `b` except 0 has an inverse: `p * (p - 1)` pairs. For another `p`, only the numbers prime to `p`
    have one, and the name of the task gives their number. Modulo 96 they are 32, which makes 3,072 pairs.

    Parameters
    ----------
    p : int
        The modulus, at least 3.
    table : {None, "paper"}
        ``"paper"`` is the table of arXiv:2504.12700: `c = a * b^(p - 2) mod p` for every `b` except 0. If `p` is
        prime, this is division by Fermat's little theorem. **Otherwise it is not division**: modulo 96 the power takes
        10 values over the 95 `b` (64 for 32 of them, 0 for 15), so that `c * b = a` fails for most pairs and 27.9 % of
        all answers are 0.
    fraction : float
        Share of the pairs used for training, between 0 and 1.
    seed : int
        Determines the split. The global random state is neither read nor changed.

    Returns
    -------
    Task
        `p + 2` tokens (the numbers, then `o`, then `=`) and `p` answers; rows ordered by `a`, then `b`.

    Raises
    ------
    TypeError
        If `p` is not an integer.
    ValueError
        If `p` is below 3, `table` is unknown, or a split would be empty.
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
    """Return subtraction modulo `p`, at least 3: all `p * p` pairs, `c = a - b mod p`. Otherwise as `division`.

    For a prime `q`, this table modulo `q - 1` is division of the nonzero residues modulo `q`, with numbers replaced by
    their discrete logarithms.
    """
    _check_size(p, "p", least=3)
    return _table(f"subtraction modulo {p}", range(p), range(p), lambda a, b: (a - b) % p, p, fraction, seed)


def composition(n: int = 5, *, fraction: float = 0.5, seed: int = 0) -> Task:
    """Return composition in the symmetric group S_n: all pairs of permutations, `c[i] = a[b[i]]`.

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
        raise ValueError(f"Expected n of at most 6, got {n}, with {factorial(n) ** 2:,} pairs; give 5 or 6.")
    elements = list(permutations(range(n)))
    number = {element: i for i, element in enumerate(elements)}

    def compose(a: int, b: int) -> int:
        return number[tuple(elements[a][i] for i in elements[b])]

    size = range(len(elements))
    return _table(f"composition in S{n}", size, size, compose, len(elements), fraction, seed)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Description of a task in plain values, for a recording.

    Attributes
    ----------
    operation : {"division", "subtraction", "composition"}
        Name of a function of this module.
    size : int
        Argument `p` or `n` of the function.
    table : {None, "paper"}
        Argument of `division`.
    fraction : float
        Share of the pairs used for training.
    shuffled : bool
        Permute the answers randomly, with the seed. This is a control: a model can only memorise it.

    Raises
    ------
    ValueError
        If the operation or the table is unknown.
    """

    operation: str = "division"
    size: int = 97
    table: str | None = None
    fraction: float = 0.5
    shuffled: bool = False

    def __post_init__(self) -> None:
        if self.operation not in _OPERATIONS:
            raise ValueError(
                f"Expected an operation among {', '.join(_OPERATIONS)}, got {self.operation!r}; choose one."
            )
        _check_table(self.table)
        if self.table is not None and self.operation != "division":
            raise ValueError(
                f"Expected no table for {self.operation}, got {self.table!r}; leave it out, or use division."
            )

    def make(self, seed: int) -> Task:
        """Return the task, split by `seed`."""
        extra = {"table": self.table} if self.operation == "division" else {}
        task = _OPERATIONS[self.operation](self.size, fraction=self.fraction, seed=seed, **extra)
        if not self.shuffled:
            return task
        order = _order(len(task.targets), seed + 1)  # the split uses the seed itself
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
    """Return the task with all pairs of `first` and `second`, numbers below `n`, in this order."""
    pairs = torch.tensor([(a, n, b, n + 1) for a in first for b in second])  # (n_pairs, 4)
    targets = torch.tensor([operation(a, b) for a in first for b in second])  # (n_pairs,)
    train, test = _split(len(pairs), fraction, seed)
    return Task(name, pairs, targets, train, test, n_tokens=n + 2, n_classes=n)


def _check_table(table: str | None) -> None:
    if table not in (None, "paper"):
        raise ValueError(f"Expected table=None or 'paper', got {table!r}; leave it out for true division.")


def _check_size(value: Any, name: str, *, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(
            f"Expected an int as {name}, got {value!r} ({type(value).__name__}); give a number such as 5 or 97."
        )
    if value < least:
        raise ValueError(f"Expected {name} of at least {least}, got {value}; give a larger number.")


def _split(n: int, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the rows of the train and the test split, in random order."""
    if not 0 < fraction < 1:  # refuses nan too
        raise ValueError(
            f"Expected a fraction between 0 and 1, both excluded, got {fraction}; give the share of the training "
            "pairs, such as 0.5."
        )
    n_train = round(fraction * n)
    if not 0 < n_train < n:
        raise ValueError(
            f"Expected a fraction that leaves pairs in both splits, got {fraction}, with {n_train} of {n} pairs for "
            "training; give a fraction nearer to 0.5, or a larger table."
        )
    order = _order(n, seed)
    return order[:n_train], order[n_train:]


def _order(n: int, seed: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed), device="cpu")
