"""Data for the small networks of `train_blind.py`: each function returns ((inputs, targets), (inputs, targets)).

The first pair is the training set, the second is the test set. `seed` determines everything. Targets of classes are
integers, binary targets are floats 0 and 1 of shape (n, 1), and targets of regressions are floats of shape (n, d).
"""

import itertools

import numpy as np
import torch
from sklearn import datasets
from torch import Tensor

Data = tuple[Tensor, Tensor]
Split = tuple[Data, Data]


def tensors(inputs: np.ndarray, targets: np.ndarray, n_train: int, n_test: int | None = None) -> Split:
    """Split rows that are already in random order."""
    kinds = [torch.float32 if np.asarray(a).dtype.kind == "f" else torch.int64 for a in (inputs, targets)]
    x, y = (torch.tensor(np.asarray(a), dtype=kind) for a, kind in zip((inputs, targets), kinds, strict=True))
    stop = None if n_test is None else n_train + n_test
    return (x[:n_train], y[:n_train]), (x[n_train:stop], y[n_train:stop])


def group_table(table: np.ndarray, fraction: float, seed: int, *, one_hot: bool) -> Split:
    """All pairs (a, b) of a binary operation, with ``table[a, b]`` as target."""
    size = len(table)
    pairs = np.random.default_rng(seed).permutation(np.array(list(itertools.product(range(size), repeat=2))))
    targets = table[pairs[:, 0], pairs[:, 1]]
    inputs = np.eye(size)[pairs].reshape(len(pairs), -1) if one_hot else pairs  # (n, 2 size) or (n, 2)
    return tensors(inputs, targets, round(fraction * len(pairs)))


def modular(p: int, fraction: float, seed: int, *, operation: str = "+", one_hot: bool = True) -> Split:
    """Addition, subtraction or multiplication modulo ``p``."""
    a, b = np.indices((p, p))
    return group_table({"+": a + b, "-": a - b, "*": a * b}[operation] % p, fraction, seed, one_hot=one_hot)


def permutations(size: int, fraction: float, seed: int, *, one_hot: bool = True) -> Split:
    """Composition in the symmetric group of ``size`` letters."""
    elements = list(itertools.permutations(range(size)))
    number = {element: i for i, element in enumerate(elements)}
    table = np.array([[number[tuple(a[i] for i in b)] for b in elements] for a in elements])
    return group_table(table, fraction, seed, one_hot=one_hot)


def sparse_parity(n_bits: int, k: int, n_train: int, seed: int, *, n_test: int = 1000, noise: float = 0.0) -> Split:
    """Parity of the first ``k`` of ``n_bits`` random signs; a share ``noise`` of the training answers is wrong."""
    generator = np.random.default_rng(seed)
    signs = generator.choice([-1.0, 1.0], (n_train + n_test, n_bits))
    targets = (signs[:, :k].prod(1, keepdims=True) + 1) / 2
    wrong = generator.random(n_train) < noise
    targets[:n_train][wrong] = 1 - targets[:n_train][wrong]
    return tensors(signs, targets, n_train)


def bundled(name: str, n_train: int, n_test: int, seed: int, *, noise: float = 0.0, binary: bool = False) -> Split:
    """A data set of scikit-learn, standardised; a share ``noise`` of the training labels is drawn by chance."""
    generator = np.random.default_rng(seed)
    inputs, targets = getattr(datasets, f"load_{name}")(return_X_y=True)
    order = generator.permutation(len(inputs))
    inputs, targets = inputs[order].astype(float), targets[order]
    inputs = (inputs - inputs.mean(0)) / inputs.std() if name == "digits" else standard(inputs)
    if name == "diabetes":
        return tensors(inputs, standard(targets.astype(float)[:, None]), n_train, n_test)
    drawn = np.flatnonzero(generator.random(n_train) < noise)
    targets[drawn] = generator.integers(0, targets.max() + 1, len(drawn))
    return tensors(inputs, targets[:, None].astype(float) if binary else targets, n_train, n_test)


def standard(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(0)) / values.std(0)


def linear(n_train: int, scales: np.ndarray, weights: np.ndarray, noise: float, seed: int) -> Split:
    """Linear regression on Gaussian features with standard deviations ``scales``; the test answers have no noise."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(n_train + 1000, len(scales))) * scales
    targets = inputs @ (weights / scales)[:, None]
    targets[:n_train] += noise * generator.normal(size=(n_train, 1))
    return tensors(inputs, targets, n_train)


def random_features(n_train: int, n_features: int, noise: float, seed: int, *, n_inputs: int = 20) -> Split:
    """ReLU features of Gaussian inputs, with targets that are linear plus quadratic in the inputs."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(n_train + 1000, n_inputs))
    targets = inputs[:, :1] + 0.5 * inputs[:, 1:2] * inputs[:, 2:3]
    targets[:n_train] += noise * generator.normal(size=(n_train, 1))
    features = np.maximum(inputs @ generator.normal(size=(n_inputs, n_features)), 0) / np.sqrt(n_features * n_inputs)
    return tensors(features, targets, n_train)


def deep_linear_map(n_train: int, singular: list[float], noise: float, seed: int, *, size: int = 16) -> Split:
    """Targets that are a linear map of the inputs, with the given singular values."""
    generator = np.random.default_rng(seed)
    left, right = (np.linalg.qr(generator.normal(size=(size, size)))[0][:, : len(singular)] for _ in range(2))
    inputs = generator.normal(size=(n_train + 500, size))
    targets = inputs @ (left * singular) @ right.T
    targets[:n_train] += noise * generator.normal(size=(n_train, size))
    return tensors(inputs, targets, n_train)


def teacher(n_train: int, width: int, noise: float, seed: int, *, n_inputs: int = 15) -> Split:
    """Targets of a random ReLU network with one hidden layer."""
    generator = np.random.default_rng(seed)
    inputs = generator.normal(size=(n_train + 1000, n_inputs))
    hidden = np.maximum(inputs @ generator.normal(size=(n_inputs, width)) / np.sqrt(n_inputs), 0)
    targets = hidden @ generator.choice([-1.0, 1.0], (width, 1)) * np.sqrt(2 / width)
    targets[:n_train] += noise * generator.normal(size=(n_train, 1))
    return tensors(inputs, targets, n_train)


def copying(n_train: int, length: int, seed: int, *, n_symbols: int = 6, n_test: int = 300) -> Split:
    """Sequences of symbols, then as many blanks; the answer is the blanks, then the symbols."""
    generator = np.random.default_rng(seed)
    symbols = generator.integers(1, n_symbols + 1, (n_train + n_test, length))
    blanks = np.zeros_like(symbols)
    return tensors(np.hstack([symbols, blanks]), np.hstack([blanks, symbols]), n_train)


def running_parity(n_train: int, length: int, seed: int, *, n_test: int = 300) -> Split:
    """Sequences of bits, with the parity of all bits so far as the answer at each place."""
    bits = np.random.default_rng(seed).integers(0, 2, (n_train + n_test, length))
    return tensors(bits, bits.cumsum(1) % 2, n_train)


def markov_text(n_train: int, length: int, seed: int, *, n_symbols: int = 12, n_test: int = 100) -> Split:
    """Sequences of a random Markov chain of order 1, with the next symbol as the answer at each place."""
    generator = np.random.default_rng(seed)
    chain = generator.dirichlet(np.full(n_symbols, 0.3), n_symbols).cumsum(1)
    text = generator.integers(0, n_symbols, (n_train + n_test, length + 1))
    for place in range(1, length + 1):
        draws = generator.random(len(text))[:, None]
        text[:, place] = np.minimum((draws > chain[text[:, place - 1]]).sum(1), n_symbols - 1)
    return tensors(text[:, :-1], text[:, 1:], n_train)


def two_moons(n_train: int, n_test: int, noise: float, seed: int) -> Split:
    inputs, targets = datasets.make_moons(n_train + n_test, noise=noise, random_state=seed % 2**31)
    return tensors(inputs, targets[:, None].astype(float), n_train)


def with_shuffled_answers(split: Split, seed: int) -> Split:
    """The training answers in random order: a control that cannot generalise."""
    (inputs, targets), test = split
    order = np.random.default_rng(seed).permutation(len(targets))
    return (inputs, targets[torch.tensor(order)]), test


def with_one_hot_targets(split: Split, n_classes: int) -> Split:
    """Targets for the squared error; the accuracy compares the largest outputs."""
    one_hot = [(x, torch.nn.functional.one_hot(y, n_classes).float()) for x, y in split]
    return one_hot[0], one_hot[1]


def with_inputs_as_targets(split: Split) -> Split:
    return (split[0][0], split[0][0]), (split[1][0], split[1][0])


def upside_down(split: Split) -> Split:
    """The digits turned by 180 degrees."""
    return (split[0][0].flip(1), split[0][1]), (split[1][0].flip(1), split[1][1])
