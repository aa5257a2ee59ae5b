"""The tables: their defining properties, checked without the formula that computes them."""

import itertools
import math
from dataclasses import replace

import pytest
import torch

from reference.runs import find_config
from reference.training import CONFIGS, Task, TaskConfig, composition, division, subtraction

pytestmark = pytest.mark.usefixtures("global_random_state_untouched")


@pytest.fixture(scope="module")
def paper() -> Task:
    return division(96, table="paper")


def table(task: Task) -> torch.Tensor:
    """Return the answers as a matrix over first and second operand, -1 for a pair that is not in the table."""
    a, _, b, _ = task.inputs.unbind(1)
    square = torch.full((task.n_classes,) * 2, -1)
    square[a, b] = task.targets
    return square


def is_permutation(rows: torch.Tensor) -> bool:
    return bool((rows.sort(-1).values == torch.arange(rows.shape[-1])).all())


# Division


@pytest.mark.parametrize("p", [3, 7, 59])
def test_division_modulo_a_prime(p):
    task = division(p)
    a, operation, b, equals = task.inputs.unbind(1)
    assert task.inputs.dtype == task.targets.dtype == torch.int64
    assert torch.equal(task.targets * b % p, a)  # the defining property; no inverse is computed here
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(i, j) for i in range(p) for j in range(1, p)]
    assert operation.unique().tolist() == [p]
    assert equals.unique().tolist() == [p + 1]
    assert (task.n_tokens, task.n_classes) == (p + 2, p)
    assert task.name == f"division modulo {p}"
    assert is_permutation(table(task).T[1:])  # dividing by b permutes the numbers
    assert (table(task)[:, 0] == -1).all()


def test_division_modulo_96_uses_divisors_with_an_inverse():
    task = division(96)
    a, _, b, _ = task.inputs.unbind(1)
    assert torch.equal(task.targets * b % 96, a)
    coprime = [n for n in range(96) if n % 2 and n % 3]  # 96 = 2^5 * 3; phi(96) = 32
    assert b.unique().tolist() == coprime
    assert len(coprime) == 32
    assert len(task.inputs) == 96 * 32 == 3072
    assert is_permutation(table(task).T[coprime])
    assert task.name == "division modulo 96 by its 32 invertible divisors"
    assert (task.n_tokens, task.n_classes) == (98, 96)


def test_table_of_the_paper_is_a_power(paper):
    a, _, b, _ = paper.inputs.unbind(1)
    power = torch.ones_like(b)
    for _ in range(94):
        power = power * b % 96
    assert torch.equal(paper.targets, a * power % 96)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == [(i, j) for i in range(96) for j in range(1, 96)]
    assert len(a) == 9120
    assert paper.name == "a * b^94 modulo 96"
    assert (paper.n_tokens, paper.n_classes) == (98, 96)


def test_table_of_the_paper_is_not_division(paper):
    """Check its ten factors, as counted for the code of the paper, and the resulting share of 0."""
    factors = table(paper)[1, 1:]  # the answers for a = 1
    counted = dict(zip(*(t.tolist() for t in factors.unique(return_counts=True)), strict=True))
    assert counted == {64: 32, 0: 15, 1: 8, 25: 8, 49: 8, 73: 8, 9: 4, 33: 4, 57: 4, 81: 4}
    # A factor f maps gcd(f, 96) of the 96 numbers to 0.
    zeros = 15 * 96 + 32 * 32 + 32 * 1 + 16 * 3
    assert (paper.targets == 0).sum() == zeros
    assert zeros / 9120 == pytest.approx(0.2789, abs=5e-5)
    a, _, b, _ = paper.inputs.unbind(1)
    divided = paper.targets * b % 96 == a
    assert divided.float().mean() < 0.1
    assert [n for n in range(1, 96) if divided[b == n].all()] == [1]  # b^94 is 1 / b^2 for b with an inverse


@pytest.mark.parametrize("p", [3, 7, 59, 97])
def test_both_tables_are_equal_modulo_a_prime(p):
    """Fermat's little theorem."""
    both = division(p), division(p, table="paper")
    assert torch.equal(both[0].inputs, both[1].inputs)
    assert torch.equal(both[0].targets, both[1].targets)


# Subtraction


def test_subtraction():
    task = subtraction(96)
    a, operation, b, equals = task.inputs.unbind(1)
    assert torch.equal((task.targets + b) % 96, a)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == list(itertools.product(range(96), repeat=2))
    assert (operation.unique().item(), equals.unique().item()) == (96, 97)
    assert (task.n_tokens, task.n_classes, task.name) == (98, 96, "subtraction modulo 96")
    assert is_permutation(table(task))
    assert is_permutation(table(task).T)


def test_division_modulo_97_is_subtraction_modulo_96_of_logarithms():
    logarithm = {pow(5, i, 97): i for i in range(96)}
    assert len(logarithm) == 96  # 5 is a primitive root
    a, _, b, _ = division(97).inputs.unbind(1)
    nonzero = a != 0
    triples = torch.stack([a, b, division(97).targets], 1)[nonzero].tolist()
    renamed = {tuple(logarithm[number] for number in triple) for triple in triples}
    task = subtraction(96)
    a, _, b, _ = task.inputs.unbind(1)
    assert renamed == {tuple(triple) for triple in torch.stack([a, b, task.targets], 1).tolist()}


# Composition


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_composition_is_the_product_of_permutation_matrices(n):
    elements = torch.tensor(list(itertools.permutations(range(n))))  # in lexicographic order
    matrices = torch.nn.functional.one_hot(elements).mT.float()  # [g(i), i] = 1
    task = composition(n)
    a, operation, b, equals = task.inputs.unbind(1)
    order = math.factorial(n)
    assert list(zip(a.tolist(), b.tolist(), strict=True)) == list(itertools.product(range(order), repeat=2))
    assert torch.equal(matrices[task.targets], matrices[a] @ matrices[b])
    assert (operation.unique().item(), equals.unique().item()) == (order, order + 1)
    assert (task.n_tokens, task.n_classes, task.name) == (order + 2, order, f"composition in S{n}")


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_composition_is_a_group(n):
    square, order = table(composition(n)), math.factorial(n)
    a, b, c = torch.randint(order, (3, 5000), generator=torch.Generator().manual_seed(0))
    assert square.shape == (order, order)
    assert ((square >= 0) & (square < order)).all()
    assert torch.equal(square[square[a, b], c], square[a, square[b, c]])
    assert torch.equal(square[0], torch.arange(order))
    assert torch.equal(square[:, 0], torch.arange(order))
    assert is_permutation(square)  # a Latin square, so that each element has one inverse
    assert is_permutation(square.T)
    assert torch.equal(square == 0, (square == 0).T)  # left and right inverses are equal
    assert torch.equal(square, square.T) == (n == 2)


# The split


@pytest.mark.parametrize("make", [lambda **o: division(59, **o), lambda **o: composition(4, **o)])
def test_split_is_disjoint_and_complete_and_depends_on_the_seed(make):
    task = make()
    n = len(task.targets)
    assert torch.cat([task.train, task.test]).sort().values.tolist() == list(range(n))
    assert len(task.train) == n // 2
    assert len(make(fraction=0.3).train) == round(0.3 * n)
    assert torch.equal(make().train, task.train)
    assert not torch.equal(make(seed=1).train, task.train)
    for rows, (x, y) in ((task.train, task.train_data), (task.test, task.test_data)):
        assert torch.equal(x, task.inputs[rows])
        assert torch.equal(y, task.targets[rows])
    # The first rows are a random sample: their first operands are not only the small ones.
    assert task.train_data[0][: n // 10, 0].unique().numel() > 15


def test_the_split_of_a_seed_never_changes():
    """Recorded runs cannot be repeated with another split."""
    assert division(97, fraction=0.4).train[:6].tolist() == [8108, 6314, 1465, 5538, 5619, 2330]
    assert division(97, fraction=0.4, seed=1).test[:6].tolist() == [388, 5068, 3404, 5355, 3120, 3141]


# By name


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (TaskConfig(), division(97, seed=3)),
        (TaskConfig(size=96, table="paper", fraction=0.4), division(96, table="paper", fraction=0.4, seed=3)),
        (TaskConfig(size=96), division(96, seed=3)),
        (TaskConfig(operation="subtraction", size=12, fraction=0.3), subtraction(12, fraction=0.3, seed=3)),
        (TaskConfig(operation="composition", size=4), composition(4, seed=3)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_named_task_is_what_the_function_makes(config, expected):
    made = config.make(3)
    assert (made.name, made.n_tokens, made.n_classes) == (expected.name, expected.n_tokens, expected.n_classes)
    for part in ("inputs", "targets", "train", "test"):
        assert torch.equal(getattr(made, part), getattr(expected, part))


@pytest.mark.parametrize("name", [name for name, config in CONFIGS.items() if config.task.operation != "composition"])
def test_every_configuration_makes_its_task(name):
    config = find_config(name)[1].task
    task = config.make(0)
    assert len(task.train) == round(config.fraction * len(task.targets))
    assert task.targets.max() < task.n_classes == config.size
    assert task.inputs.max() == config.size + 1


# Shuffled answers


SHUFFLED = TaskConfig(size=13, shuffled=True)


def test_shuffled_answers_are_a_permutation():
    plain, shuffled = replace(SHUFFLED, shuffled=False).make(3), SHUFFLED.make(3)
    for part in ("inputs", "train", "test"):
        assert torch.equal(getattr(shuffled, part), getattr(plain, part))
    assert torch.equal(shuffled.targets.sort().values, plain.targets.sort().values)
    assert (shuffled.targets == plain.targets).float().mean() < 3 / 13  # 1 / 13 expected
    assert shuffled.name == "division modulo 13, answers shuffled"
    assert (shuffled.n_tokens, shuffled.n_classes) == (plain.n_tokens, plain.n_classes)


def test_the_shuffling_depends_on_the_seed():
    assert torch.equal(SHUFFLED.make(3).targets, SHUFFLED.make(3).targets)
    assert not torch.equal(SHUFFLED.make(3).targets, SHUFFLED.make(4).targets)


def test_shuffled_answers_are_independent_of_the_operands():
    """A chi-squared statistic over 96 answers and 96 operands has the mean 95^2 and the deviation sqrt(2) 95."""
    task = TaskConfig(operation="subtraction", size=96, shuffled=True).make(0)
    for operand in (task.inputs[:, 0], task.inputs[:, 2], (task.inputs[:, 0] - task.inputs[:, 2]) % 96):
        counts = torch.bincount(operand * 96 + task.targets, minlength=96 * 96).double()
        assert ((counts - 1) ** 2).sum() == pytest.approx(95**2, abs=5 * 2**0.5 * 95)  # the expected count is one


# Bad input


@pytest.mark.parametrize("make", [division, subtraction])
@pytest.mark.parametrize("p", [-7, 0, 1, 2])
def test_error_for_a_small_modulus(make, p):
    with pytest.raises(ValueError, match=rf"Expected p of at least 3, got {p}; give"):
        make(p)


@pytest.mark.parametrize("make", [division, subtraction, composition])
@pytest.mark.parametrize("value", [59.0, "59", True])
def test_sizes_must_be_integers(make, value):
    with pytest.raises(TypeError, match=rf"Expected an int as [pn], got {value!r} .*; give a number such as"):
        make(value)


@pytest.mark.parametrize(("n", "message"), [(1, "n of at least 2, got 1"), (7, "n of at most 6, got 7")])
def test_errors_for_the_size_of_a_group(n, message):
    with pytest.raises(ValueError, match=rf"Expected {message}.*; give"):
        composition(n)


def test_errors_for_unknown_names():
    with pytest.raises(ValueError, match=r"Expected table=None or 'paper', got 'fermat'; leave it out"):
        division(96, table="fermat")
    with pytest.raises(ValueError, match=r"an operation among division, subtraction, composition, got 'addition'"):
        TaskConfig(operation="addition")
    with pytest.raises(
        ValueError, match=r"Expected no table for subtraction, got 'paper'; leave it out, or use division"
    ):
        TaskConfig(operation="subtraction", table="paper")


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 50, math.nan])
def test_fraction_must_lie_between_0_and_1(fraction):
    for make in (division, subtraction):
        with pytest.raises(ValueError, match=rf"Expected a fraction between 0 and 1.* got {fraction}; give"):
            make(59, fraction=fraction)


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_no_split_may_be_empty(fraction):
    with pytest.raises(ValueError, match=r"leaves pairs in both splits.* of 6 pairs"):
        division(3, fraction=fraction)
