"""Piecewise-linear networks as lists of operations on rows of numbers.

A network is a list of operations in the order of execution. Each operation reads earlier values and writes one new
value. Value 0 is the input. There are three kinds: maps that are affine in all their inputs together, functions of
single numbers that bend at breakpoints, and maxima over groups of numbers. Residual sums and concatenations are affine
maps with several inputs, so any graph of such operations is a list. All numbers are float64, on the CPU.

:func:`probe.forward.piecewise_linear` makes the list from a model.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Affine:
    """An operation that is affine in all its inputs together.

    Attributes
    ----------
    inputs, output : tuple of int, int
        Numbers of the values that it reads and writes.
    function : Callable
        Maps one Tensor of shape (n, ...) for each input to a Tensor of shape (n, ...), row by row.
    """

    inputs: tuple[int, ...]
    output: int
    function: Callable[..., Tensor]


@dataclass(frozen=True)
class Bend:
    """A continuous function of single numbers that is linear between breakpoints, such as ReLU.

    The numbers of a row, flattened, are the *units* of the operation.

    Attributes
    ----------
    inputs, output : tuple of int, int
        Numbers of the values that it reads (one) and writes.
    function : Callable
        Maps a Tensor of shape (n, ...) to one of the same shape.
    site : str
        Name of the input of the function, as ``"1:relu"``, see :mod:`probe.forward.sites`.
    breakpoints : Tensor of shape (k, 1) or (k, units)
        In ascending order.
    slopes : Tensor of shape (k + 1, 1) or (k + 1, units)
        Slope below the first breakpoint, between neighbours, and above the last. A breakpoint between equal slopes is
        no bend.
    """

    inputs: tuple[int, ...]
    output: int
    function: Callable[..., Tensor]
    site: str
    breakpoints: Tensor
    slopes: Tensor


@dataclass(frozen=True)
class Maximum:
    """The maximum of several numbers, such as max-pooling.

    Attributes
    ----------
    inputs, output : tuple of int, int
        Numbers of the values that it reads and writes.
    function : Callable
        Maps one Tensor of shape (n, ...) for each input to the maxima, a Tensor of shape (n, ...).
    candidates : Callable
        Maps the same inputs to a Tensor of shape (n, units, k): the numbers whose maximum each unit is, -inf for
        places outside the data. The units are the numbers of a row of the output, flattened.
    site : str
        Name of the operation, as ``"2:max_pool2d"``.
    """

    inputs: tuple[int, ...]
    output: int
    function: Callable[..., Tensor]
    candidates: Callable[..., Tensor]
    site: str


Operation = Affine | Bend | Maximum


@dataclass(frozen=True)
class PiecewiseLinear:
    """A piecewise-linear network.

    Attributes
    ----------
    operations : tuple
        In the order of execution.
    shape : tuple of int
        Shape of one input, without rows.
    output : int
        Number of the value that is the output.

    See Also
    --------
    probe.forward.piecewise_linear : Make a network from a model.
    perceptron : Make a network from matrices.

    Examples
    --------
    The network max(0, x) - max(0, -x) is the identity.

    >>> import torch
    >>> from probe.geometry import perceptron
    >>> network = perceptron([([[1.0], [-1.0]], [0.0, 0.0]), ([[1.0, -1.0]], [0.0])])
    >>> network(torch.tensor([[2.0], [-3.0]])).tolist()
    [[2.0], [-3.0]]
    """

    operations: tuple[Operation, ...]
    shape: tuple[int, ...]
    output: int

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return the outputs (n, ...) for inputs (n, ...), in float64."""
        values = {0: inputs.to("cpu", torch.float64)}
        for operation, unused in self.steps():
            values[operation.output] = operation.function(*(values[place] for place in operation.inputs))
            for place in unused:
                del values[place]
        return values[self.output]

    def steps(self) -> Iterator[tuple[Operation, list[int]]]:
        """Yield each operation and the values that no later operation reads."""
        last: dict[int, int] = {}
        for number, operation in enumerate(self.operations):
            last |= dict.fromkeys((*operation.inputs, operation.output), number)
        last.pop(self.output, None)
        unused: list[list[int]] = [[] for _ in self.operations]
        for place, number in last.items():
            unused[number].append(place)
        yield from zip(self.operations, unused, strict=True)

    @property
    def sites(self) -> list[str]:
        """Names of the operations that are not affine, in the order of execution."""
        return [operation.site for operation in self.operations if not isinstance(operation, Affine)]

    def __repr__(self) -> str:
        return f"PiecewiseLinear(inputs of shape {tuple(self.shape)}; sites {', '.join(self.sites) or 'none'})"


def check_network(network: object) -> None:
    """Raise TypeError unless this is a piecewise-linear network."""
    if not isinstance(network, PiecewiseLinear):
        raise TypeError(
            f"Expected a PiecewiseLinear, got {type(network).__name__}; make it with piecewise_linear(model, inputs) "
            "of probe.forward, or with perceptron"
        )


def fused(network: PiecewiseLinear) -> PiecewiseLinear:
    """Return the same network, in which each affine map that only one affine map reads is a part of that map."""
    readers: dict[int, list[Operation | None]] = {network.output: [None]}
    for operation in network.operations:
        for place in operation.inputs:
            readers.setdefault(place, []).append(operation)
    waiting: dict[int, list[Affine]] = {}  # maps that are part of a later one
    places, kept = {0: 0}, list[Operation]()
    for operation in network.operations:
        if isinstance(operation, Affine):
            steps = [step for place in operation.inputs for step in waiting.pop(place, [])]
            reading = readers.get(operation.output, [])
            if len(reading) == 1 and isinstance(reading[0], Affine):
                waiting[operation.output] = [*steps, operation]
                continue
            operation = _composed([*steps, operation])
        places[operation.output] = place = len(kept) + 1
        kept.append(replace(operation, inputs=tuple(places[each] for each in operation.inputs), output=place))
    return PiecewiseLinear(tuple(kept), network.shape, places[network.output])


def _composed(steps: Sequence[Affine]) -> Affine:
    """Return the affine map of several ones, each of which only a later one reads."""
    if len(steps) == 1:
        return steps[0]
    made, last = {step.output for step in steps}, steps[-1].output
    inputs = tuple(dict.fromkeys(place for step in steps for place in step.inputs if place not in made))

    def function(*rows: Tensor) -> Tensor:
        values = dict(zip(inputs, rows, strict=True))
        for step in steps:
            read = [values.pop(place) if place in made else values[place] for place in step.inputs]
            values[step.output] = step.function(*read)
        return values[last]

    return Affine(inputs, last, function)


def perceptron(layers: Iterable[tuple[Any, Any]], *, last: bool = False) -> PiecewiseLinear:
    """Return the network of affine layers with ReLU between them.

    Parameters
    ----------
    layers : iterable of (weight, bias)
        Weights (out, in) and biases (out,).
    last : bool
        Whether a ReLU follows the last layer.

    Returns
    -------
    PiecewiseLinear
        Its sites are ``"0"``, ``"1"`` and so on, one for each ReLU.

    See Also
    --------
    probe.forward.piecewise_linear : Make a network from a model.

    Examples
    --------
    >>> from probe.geometry import perceptron
    >>> perceptron([([[1.0, 2.0]], [0.0]), ([[1.0]], [0.0])]).sites
    ['0']
    """
    found: list[Operation] = []
    pairs = [[torch.as_tensor(part, dtype=torch.float64) for part in layer] for layer in layers]
    for number, (weight, bias) in enumerate(pairs):
        found.append(Affine((len(found),), len(found) + 1, _linear(weight, bias)))
        if last or number < len(pairs) - 1:
            found.append(relu(len(found), len(found) + 1, str(number)))
    return PiecewiseLinear(tuple(found), (pairs[0][0].shape[1],), len(found))


def relu(read: int, write: int, site: str) -> Bend:
    """Return the ReLU that reads and writes these values."""
    return Bend((read,), write, torch.relu, site, _column([0.0]), _column([0.0, 1.0]))


def _linear(weight: Tensor, bias: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda rows: torch.nn.functional.linear(rows, weight, bias)


def _column(numbers: Sequence[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)[:, None]
