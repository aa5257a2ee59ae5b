"""The circuit of an input: its active units and, for piecewise-linear networks, the affine map that they make.

A unit is active if its pre-activation lies above the (first) breakpoint of its activation function. The active units
and the weights between them are the circuit of an input. In a piecewise-linear network, all inputs with one circuit
have one affine map, f(x) = A x + b.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.data import Batch, map_leaves, to_tensor
from probe.forward.gradients import differentiable
from probe.forward.isolation import device_of, torch_defaults
from probe.forward.layers import INPUT, OUTPUT, unwrap
from probe.forward.outputs import Select
from probe.forward.piecewise.network import piecewise_linear
from probe.forward.piecewise.refusals import NotPiecewiseLinearError
from probe.forward.sites import TRACE_ROWS
from probe.forward.snapshot import Snapshot
from probe.forward.tracing import trace
from probe.geometry.networks import Affine, Bend, Maximum, PiecewiseLinear
from probe.measures.circuits.exact import affine_map, derivatives


@dataclass(frozen=True)
class Circuit:
    """Circuits of n inputs.

    Attributes
    ----------
    patterns : dict of str to Tensor of shape (n, units)
        Piece of each unit by site: 0 below the first breakpoint, 1 above it, and so on; for a maximum, the number of
        the first largest candidate. Units are the numbers of an input at the site, flattened.
    exact : bool
        Whether the network is piecewise linear, so that equal patterns imply equal affine maps. If not, ``patterns``
        holds the signs of the pre-activations.
    on_boundary : bool Tensor of shape (n,)
        Inputs at which a unit changes: neighbouring regions have other circuits, and the map is that of one of them.
        Images with constant areas often lie on boundaries of max-pooling, since several candidates are equal there.
    matrix : Tensor of shape (n, n_out, ...), or None
        A, in float64. If the network is not piecewise linear, the Jacobian, if it was requested. None with
        ``matrix=False``.
    offset : Tensor of shape (n, n_out), or None
        b = f(x) - A x.
    outputs : Tensor of shape (n, n_out)
        f(x), of the model in evaluation mode.
    reason : str
        Why the circuit is not exact, or an empty string.
    network : PiecewiseLinear or None
        The network, if it is piecewise linear.

    See Also
    --------
    circuit : Make circuits.
    probe.plots.circuit : Draw the circuit of one input, or compare two.
    """

    patterns: dict[str, Tensor]
    exact: bool
    on_boundary: Tensor
    outputs: Tensor
    matrix: Tensor | None = None
    offset: Tensor | None = None
    reason: str = ""
    network: PiecewiseLinear | None = field(default=None, repr=False)

    @property
    def active(self) -> dict[str, Tensor]:
        """The active units by site, bool (n, units), without maxima.

        The units that differ between inputs i and j are ``active[site][i] != active[site][j]``.
        """
        operations = () if self.network is None else self.network.operations
        maxima = {step.site for step in operations if isinstance(step, Maximum)}
        return {site: pieces > 0 for site, pieces in self.patterns.items() if site not in maxima}

    @property
    def n_distinct(self) -> int:
        """Number of different circuits."""
        return len(torch.cat(list(self.patterns.values()), 1).unique(dim=0))

    def weights(self) -> list[Tensor]:
        """Return the weights (units, units before) between the sites: from the input, to each site, to the output.

        With ``active``, they are the nodes and edges of the circuit of a chain of layers.

        Raises
        ------
        ValueError
            If the network is no chain of affine maps and activation functions.
        """
        return _chain_weights(self.network)

    def __repr__(self) -> str:
        n = len(self.outputs)
        shares = ", ".join(
            f"{site} {_number(on.double().sum(1).mean().item())}/{on.shape[1]}" for site, on in self.active.items()
        )
        facts = [f"{n} input{'' if n == 1 else 's'}", f"active {shares}" if shares else "no activation function"]
        signs = "signs only" if self.matrix is None else "signs and Jacobian"
        facts += ["exact" if self.exact else f"{signs}, see reason"]
        facts += [f"{int(self.on_boundary.sum())} on a boundary"] if self.on_boundary.any() else []
        return f"Circuit({'; '.join(facts)})"


def circuit(
    model: nn.Module | PiecewiseLinear,
    inputs: Any,
    *,
    stem: str | None = None,
    output: Select = None,
    matrix: bool = True,
    jacobian: bool = False,
    snap: float = 1e-9,
) -> Circuit:
    """Return the circuits of inputs.

    Parameters
    ----------
    model : Module or PiecewiseLinear
        In evaluation mode: dropout is off, and batch norms use their statistics. The model stays unchanged.
    inputs : Tensor of shape (n, ...), tuple or mapping
        As in :meth:`probe.Probe.attach`.
    stem : str, optional
        Site at which the map starts. Default: the input, or the first layer with floating-point output.
    output
        What the output of the model is, see :meth:`probe.Probe.attach`.
    matrix : bool
        Whether to compute A and b of a piecewise-linear network. They need one backward pass for each output, and 8
        bytes x inputs x outputs for each row, at most 2 GiB in all.
    jacobian : bool
        Whether to compute the Jacobian of a model that is not piecewise linear. It needs a floating-point input and one
        backward pass for each output.
    snap : float
        A unit nearer to its breakpoint than this share of the largest distance at its site is on a boundary.

    Returns
    -------
    Circuit

    Raises
    ------
    ValueError
        If the rows are not those of the model, if an output is not finite, or if A needs more than 2 GiB.

    See Also
    --------
    probe.CircuitsProbe : Numbers of circuits over training.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import perceptron
    >>> from probe.measures import circuit
    >>> network = perceptron([([[1.0, 0.0], [0.0, 1.0]], [0.0, 0.0]), ([[1.0, 2.0]], [0.5])])
    >>> found = circuit(network, torch.tensor([[3.0, -1.0], [3.0, 1.0]]))
    >>> found
    Circuit(2 inputs; active 0 1.5/2; exact)
    >>> found.active["0"].tolist(), found.matrix.tolist(), found.offset.tolist()
    ([[True, False], [True, True]], [[[1.0, 0.0]], [[1.0, 2.0]]], [[0.5], [0.5]])
    """
    if isinstance(model, PiecewiseLinear):
        return _exact(model, torch.as_tensor(inputs), snap, matrix)
    model, batch = unwrap(model), Batch(map_leaves(inputs, to_tensor), None)
    with torch_defaults():
        snapshot, rows = _observed(model, batch, output)
        given, _ = snapshot.data["all"].take(rows[:1], snapshot.device)
        try:
            network = piecewise_linear(model, given, stem=stem, output=output)
        except NotPiecewiseLinearError as error:
            found = _signs(snapshot, rows, snap, str(error))
            return _with_jacobian(found, snapshot, rows, stem) if jacobian else found
        return _exact(network, _values(snapshot, batch, rows, stem), snap, matrix)


def _observed(model: nn.Module, batch: Batch, output: Select) -> tuple[Snapshot, Tensor]:
    """Return a snapshot with these inputs as numbers of the model, and their rows. A single input is there twice."""
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)

    def converted(leaf: Any) -> Any:
        return leaf.to(dtype) if dtype and isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    rows = torch.arange(len(batch))
    both = rows.repeat(TRACE_ROWS)[: max(TRACE_ROWS, len(rows))]
    numbers = Batch(map_leaves(batch.inputs, converted), None).subset(both, device_of(model)).with_names(model)
    recorded = trace(model, numbers.take(both[:TRACE_ROWS], device_of(model))[0], output=output)
    return Snapshot(model, 0, {"all": numbers}, recorded), rows


def _values(snapshot: Snapshot, batch: Batch, rows: Tensor, stem: str | None) -> Tensor:
    """Return the inputs of the network of a model: its own, or the values of its stem."""
    floating = [leaf for _, leaf in batch.arguments() if leaf.is_floating_point()]
    if floating and stem in (None, INPUT):
        return floating[0]
    site = snapshot.stem(stem)
    return snapshot.outputs("all", [site], reduce="none", rows=rows)[site]


def _signs(snapshot: Snapshot, rows: Tensor, snap: float, reason: str) -> Circuit:
    """Return the signs of the pre-activations, as the patterns of circuits that are not exact."""
    recorded = snapshot.trace
    sites = [site for site in recorded.activations if recorded.has_rows(site) and recorded.is_floating(site)]
    found = snapshot.outputs("all", [*sites, OUTPUT], reduce="flatten", rows=rows)
    values = {site: found[site].double().cpu() for site in (*sites, OUTPUT)}
    outputs = values.pop(OUTPUT)
    near = [(z.abs() <= snap * z.abs().amax(1, keepdim=True)).any(1) for z in values.values()]
    on_boundary = torch.stack(near).any(0) if near else torch.zeros(len(rows), dtype=torch.bool)
    patterns = {site: (z > 0).to(torch.int16) for site, z in values.items()}
    return Circuit(patterns, False, on_boundary, outputs, reason=reason)


def _with_jacobian(found: Circuit, snapshot: Snapshot, rows: Tensor, stem: str | None) -> Circuit:
    """Return the circuits with the Jacobian J of the model at a site, and f(x) - J x."""
    inputs, _ = snapshot.data["all"].take(rows, snapshot.device)
    with differentiable(snapshot.model, inputs, snapshot.stem(stem), snapshot.trace.output) as (leaf, returned):
        matrix = derivatives(returned.flatten(1), leaf).double().cpu()
    x = leaf.detach().double().cpu()
    offset = found.outputs - torch.einsum("noi,ni->no", matrix.flatten(2), x.flatten(1))
    return replace(found, matrix=matrix, offset=offset)


def _exact(network: PiecewiseLinear, rows: Tensor, snap: float, matrix: bool) -> Circuit:
    if rows.shape[1:] != network.shape or not len(rows):
        raise ValueError(
            f"Expected inputs of shape (n, {', '.join(map(str, network.shape))}), got {tuple(rows.shape)}; pass one "
            "row for each input, for example x[None]"
        )
    found = affine_map(network, rows, snap, matrix)
    return Circuit(found.patterns, True, found.on_boundary, found.outputs, found.matrix, found.offset, network=network)


def _chain_weights(network: PiecewiseLinear | None) -> list[Tensor]:
    """Return the linear parts of the affine maps between the bends of a chain."""
    chain = network is not None and all(
        isinstance(step, Affine | Bend) and step.inputs == (number,) for number, step in enumerate(network.operations)
    )
    if network is None or not chain:
        raise ValueError(
            "Expected a chain of affine maps and activation functions, got "
            f"{'a model that is not piecewise linear' if network is None else 'another graph'}; use `matrix`"
        )
    found = []
    rows = _axes(network.shape)
    for step in network.operations:
        if isinstance(step, Affine):
            rows = step.function(rows)
            continue
        found.append(rows)
        rows = _axes(rows.shape[1:])
    return [(values[1:] - values[:1]).flatten(1).T for values in (*found, rows)]


def _axes(shape: tuple[int, ...]) -> Tensor:
    """Return the origin and the unit vectors, (1 + numbers, *shape)."""
    unit = torch.eye(math.prod(shape), dtype=torch.float64)
    return torch.cat([0 * unit[:1], unit]).view(-1, *shape)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
