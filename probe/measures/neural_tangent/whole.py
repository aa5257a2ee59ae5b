"""The whole tangent kernel of a model, outside a recording."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from probe.forward.data import read_data
from probe.forward.isolation import device_of, isolated
from probe.forward.layers import Layers
from probe.forward.tangents.contraction import contracted_kernel
from probe.forward.tangents.kernel import TangentMap
from probe.forward.tangents.layerwise import NotLayerwiseError, layers_of, layerwise_kernel
from probe.forward.tangents.outputs import Outputs, trained_parameters

_METHODS = "auto", "exact", "layerwise"


def tangent_kernel(
    model: nn.Module,
    inputs: Any,
    *,
    layers: Layers = None,
    method: str = "auto",
    output: str | int | Callable[[Any], Any] | None = None,
    batch_size: int = 512,
) -> Tensor:
    """Return the empirical tangent kernel of a model for some inputs.

    Parameters
    ----------
    model : torch.nn.Module
        Runs in evaluation mode, and is left unchanged.
    inputs
        As in the data of :meth:`probe.Probe.attach`: a tensor, a tuple or a mapping, with n rows.
    layers
        Layers whose parameters count, see :class:`probe.TangentKernelProbe`. Default: all.
    method : str
        ``"exact"``: contraction of the Jacobian. ``"layerwise"``: for models whose parameters are in Linear, Conv1d and
        Conv2d layers. ``"auto"``: layer by layer if possible.
    output
        Part of what the model returns, as in :meth:`probe.Probe.attach`.
    batch_size : int
        Number of inputs in one forward pass of ``"layerwise"``.

    Returns
    -------
    Tensor of shape (n C, n C)
        Row i C + c is output c for input i.

    Raises
    ------
    ValueError
        As :class:`probe.TangentKernelProbe`.

    See Also
    --------
    tangent_products : Products with vectors, also of kernels that are too large.
    probe.TangentKernelProbe : Over training.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import tangent_kernel
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> tangent_kernel(model, torch.tensor([[3.0, 0.0], [1.0, 4.0]])).tolist()
    [[9.0, 3.0], [3.0, 17.0]]
    """
    if method not in _METHODS:
        raise ValueError(f"Expected method as one of {', '.join(_METHODS)}, got {method!r}; pass one of them")
    tangents = _tangents(model, inputs, layers, output, batch_size)
    if method != "exact":
        try:
            layers_of(tangents)
            return layerwise_kernel(tangents)
        except NotLayerwiseError:
            if method == "layerwise":
                raise
    return contracted_kernel(tangents)


def tangent_products(
    model: nn.Module,
    inputs: Any,
    vectors: Tensor,
    *,
    layers: Layers = None,
    output: str | int | Callable[[Any], Any] | None = None,
    batch_size: int = 512,
) -> Tensor:
    """Return products of the empirical tangent kernel of a model with vectors, without the kernel.

    Parameters
    ----------
    model, inputs, layers, output
        As in :func:`tangent_kernel`.
    vectors : Tensor of shape (n C, m)
        Of the dtype of the parameters, on the device of the model.
    batch_size : int
        Number of inputs in one forward pass.

    Returns
    -------
    Tensor of shape (n C, m)

    Raises
    ------
    ValueError
        As :class:`probe.TangentKernelProbe`, and if the vectors have another length.

    See Also
    --------
    probe.geometry.kernel_numbers : Trace, norm and rank from products with random signs.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import tangent_products
    >>> model = torch.nn.Linear(2, 1, bias=False)
    >>> tangent_products(model, torch.tensor([[3.0, 0.0], [1.0, 4.0]]), torch.tensor([[1.0], [-1.0]])).tolist()
    [[6.0], [-14.0]]
    """
    with isolated(model):
        tangents = _tangents(model, inputs, layers, output, batch_size)
        n, columns = tangents.outputs.n, tangents.outputs.shape().numel()
        if vectors.ndim != 2 or len(vectors) != n * columns:
            raise ValueError(
                f"Expected vectors of shape ({n * columns}, m) for {n} inputs with {columns} outputs, got "
                f"{tuple(vectors.shape)}; pass one number for each output"
            )
        return tangents.products(vectors.view(n, columns, -1)).flatten(0, 1)


def _tangents(model: nn.Module, inputs: Any, layers: Layers, output: Any, batch_size: int) -> TangentMap:
    batch, device = read_data((inputs, None))["all"].with_names(model), device_of(model)
    mask = None if batch.mask is None else lambda rows: batch.mask_of(rows, device)
    outputs = Outputs(model, lambda rows: batch.take(rows, device)[0], len(batch), output, mask=mask)
    return TangentMap(outputs, trained_parameters(model, layers), batch_size)
