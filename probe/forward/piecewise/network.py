"""Piecewise-linear networks from models.

:func:`piecewise_linear` records the forward pass of a model (see :mod:`probe.forward.piecewise.recording`), and turns
each operation that depends on the input into an affine map, a bend or a maximum. Everything else is computed once, in
float64.
"""

from typing import Any

import torch
from torch import Tensor, nn

from probe.forward.data import Batch, leaves_of, map_leaves, to_tensor
from probe.forward.isolation import device_of, isolated, torch_defaults
from probe.forward.layers import INPUT, advised_names, unwrap
from probe.forward.outputs import Select
from probe.forward.piecewise.builder import NetworkBuilder
from probe.forward.piecewise.recording import StartedPasses
from probe.forward.piecewise.refusals import NotPiecewiseLinearError
from probe.forward.piecewise.row_layouts import ROWS, agree
from probe.forward.piecewise.tape import Tape
from probe.forward.shards import refuse_sharded
from probe.forward.tracing import trace
from probe.geometry.networks import PiecewiseLinear

_CHECKED_ROWS = 8


def piecewise_linear(
    model: nn.Module, inputs: Any, *, stem: str | None = None, output: Select = None
) -> PiecewiseLinear:
    """Return the piecewise-linear network of a model.

    The model is measured in evaluation mode and stays as it is. Its parameters are promoted to float64. The network is
    compared with the model on random rows.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : Tensor, tuple or mapping
        One or more rows, of which the first one counts: arguments other than the stem are constant, with this row.
    stem : str, optional
        Site at which the network starts, see :mod:`probe.forward.sites`. Default: the first floating-point input, or
        else the first layer that returns floating-point numbers (an embedding, for example).
    output
        Which part of what the model returns is the output, see :meth:`probe.Probe.attach`.

    Returns
    -------
    PiecewiseLinear
        The sites of its bends have the names of :func:`trace`. A function with two bends is one site: ``"1:hardtanh"``
        in place of ``"1:hardtanh_min"`` and ``"1:hardtanh_max"``. Maxima have names such as ``"2:max_pool2d"``.

    Raises
    ------
    NotPiecewiseLinearError
        If the model computes something else. The message names the function and the module. This is a ValueError.
    ValueError
        If there is no such stem.

    See Also
    --------
    probe.Snapshot.network : The network of a model at an observation.
    probe.geometry.PiecewiseLinear : The network.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import piecewise_linear
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> network, x = piecewise_linear(model, torch.ones(1, 3)), torch.tensor([[1.0, 2.0, 3.0]])
    >>> network.sites, network.shape, torch.allclose(network(x), model(x).double(), atol=1e-6)
    (['1:relu'], (3,), True)
    """
    model = unwrap(model)
    refuse_sharded(model, "the piecewise-linear network of a model")
    batch = Batch(map_leaves(inputs, to_tensor), None)
    if len(batch) == 0:
        raise ValueError("Expected at least one row of inputs, got none; pass a row of the data")
    with isolated(model), torch_defaults():
        repeated = {n: batch.take(torch.zeros(n).long(), device_of(model))[0] for n in (*ROWS, _CHECKED_ROWS)}
        passes = StartedPasses(model, _start(model, batch, repeated[ROWS[0]], stem), output)
        rows = _rows_near(_first_value(model, passes, repeated[ROWS[0]], stem), _CHECKED_ROWS)
        builder = NetworkBuilder(model, *(passes.record(repeated[n], rows[:n]) for n in ROWS))
        if builder.writes_in_place:
            builder = NetworkBuilder(model, *(_without_writes(passes, repeated[n], rows[:n]) for n in ROWS))
        network = builder.network()
        expected = builder.output.to_rows(passes.output(repeated[_CHECKED_ROWS], rows))
        _check(network, expected, rows, builder.precision)
    return network


# -- stem, recordings and check --------------------------------------------------------------------------------------


def _start(model: nn.Module, batch: Batch, inputs: Any, stem: str | None) -> str | int:
    """Return the site at which the network starts, or the number of a part of the inputs."""
    if stem not in (None, INPUT):
        return stem
    for number, leaf in enumerate(leaves_of(batch.inputs)):  # what all inputs share is marked here
        if isinstance(leaf, Tensor) and leaf.ndim > 0 and leaf.is_floating_point():
            return number
    if stem is not None:
        raise ValueError(
            f"Expected floating-point numbers at the stem {stem!r}, got inputs with none; pass stem=None for the first "
            "layer that returns such numbers"
        )
    sites = trace(model, inputs)
    layers = (site for site in sites.order if ":" not in site and sites.is_floating(site) and sites.has_rows(site))
    if (layer := next(layers, None)) is None:
        raise ValueError(
            "Expected inputs or a layer with floating-point numbers, got a model with none; leave out this probe"
        )
    return layer


def _first_value(model: nn.Module, passes: StartedPasses, inputs: Any, stem: str | None) -> Tensor:
    """Return the value at the start for the first row."""
    try:
        value = passes.value(inputs)
    except NotPiecewiseLinearError:
        raise
    except Exception as error:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves_of(inputs) if isinstance(leaf, Tensor))
        raise ValueError(
            f"Expected a model that accepts {ROWS[0]} rows, here {shapes}, got {type(error).__name__}: {error}; pass "
            "inputs with a first dimension of rows, such as x[:1]"
        ) from error
    if value is None:
        advice = advised_names(str(stem), trace(model, inputs).order)
        raise ValueError(f"Expected stem= to name a site that the forward pass visits, got {stem!r}; {advice}")
    if not value.is_floating_point() or value.shape[:1] != ROWS[:1]:
        raise ValueError(
            f"Expected floating-point numbers with one row for each input at the stem {stem!r}, got {value.dtype} of "
            f"shape {tuple(value.shape)} for {ROWS[0]} inputs; choose another stem="
        )
    return value[:1]


def _rows_near(first: Tensor, n: int) -> Tensor:
    """Return different rows near the first one, at several distances."""
    noise = torch.randn(n, *first.shape[1:], generator=torch.Generator().manual_seed(0)).to(first)
    scale = first[first.isfinite()].square().mean().sqrt() if first.any() else torch.ones(())
    distances = torch.logspace(-1, 1, n)[torch.arange(n).flip(0)].reshape(-1, *[1] * (first.ndim - 1)).to(first)
    return first + scale.to(first) * distances * noise


def _without_writes(passes: StartedPasses, inputs: Any, rows: Tensor) -> Tape:
    try:
        return passes.record(inputs, rows, without_writes=True)
    except RuntimeError as error:
        constant = "non-functional" in str(error)
        found = "a write in place to a tensor that does not depend on the input" if constant else str(error)
        raise NotPiecewiseLinearError(
            f"Expected a forward pass that torch.func.functionalize can follow, got {found}; let the model make a new "
            "tensor (torch.cat, torch.stack, torch.where), start after this place with stem=, or leave out this probe"
        ) from error


def _check(network: PiecewiseLinear, expected: Tensor, rows: Tensor, precision: float) -> None:
    """Raise unless the network, on other blocks of rows and in another order, has the outputs of the model."""
    blocks = rows.flip(0).split([1, len(rows) - 1])
    found = torch.cat([network(block) for block in blocks]).flip(0).to(expected)
    if not agree(expected, found, precision):
        if not expected.isfinite().all():  # numbers of its own type are too large for its outputs
            raise ValueError(
                "Expected finite outputs of the model on rows near the first one, got NaN or infinity; check the "
                "parameters, and whether training has diverged"
            )
        raise NotPiecewiseLinearError(
            "Expected the same outputs from the model and from its operations on other rows, got others; the model "
            "mixes rows, draws random numbers, or decides by its input which operations run, so leave out this probe"
        )
