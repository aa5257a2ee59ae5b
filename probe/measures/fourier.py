r"""Fourier sparsity of a token embedding, for tasks on a cycle such as addition modulo p.

With W (p, d) the rows of the tokens 0, ..., p-1 in the order of the cycle, and for each frequency k = 1, ..., p/2

    F_k = root of the sum of squares of the cosine and sine components of W at k, over the d dimensions

so that sum_k F_k^2 is the sum of the squared distances of the rows from their mean. Networks that have learnt modular
addition use a few frequencies (Nanda et al. 2023, arXiv:2301.05217; Furuta et al. 2024, arXiv:2402.16726). Three
numbers measure how few:

    gini                          of F_k: 0 if all n frequencies are equally strong, 1 - 1/n if a single one is present
    inverse participation ratio   sum_k p_k^2 with p_k = F_k^2 / sum F^2: 1/n if all are equally strong, 1 for one
    top share                     share of the strongest frequencies in sum F^2

Random rows do not have a Gini coefficient of 0: for Gaussian rows of d dimensions, F_k^2 varies by 1/sqrt(d), and the
share of the top frequencies is biased upwards. Other groups need another order of the tokens: multiplication modulo a
prime needs the powers of a primitive root.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import named_layers
from probe.forward.passes import Tap
from probe.forward.shards import whole
from probe.geometry.spectra import spectral_distribution
from probe.information.arguments import check_tensor
from probe.information.validation import rows_equal, to_float64_device


def fourier_norms(rows: Tensor) -> Tensor:
    """Return the norm F_k of each frequency in the rows of an embedding.

    Parameters
    ----------
    rows : Tensor of shape (p, d)
        Rows of the tokens in the order of the cycle.

    Returns
    -------
    float64 Tensor of shape (p // 2,)
        F_k for k = 1, ..., p // 2, in the units of ``rows``. NaN if a row is not finite.

    Raises
    ------
    TypeError
        If ``rows`` is no dense tensor of real numbers.
    ValueError
        If ``rows`` is no matrix, or has fewer than two rows or no columns.

    See Also
    --------
    gini : How unequal these norms are.
    probe.FourierProbe : The same norms over training.

    Examples
    --------
    The rows of a cosine with two periods hold the frequency 2 alone:

    >>> import torch
    >>> from probe.measures import fourier_norms
    >>> rows = torch.tensor([[1.0], [-1.0], [1.0], [-1.0]])
    >>> fourier_norms(rows).tolist()
    [0.0, 2.0]
    """
    check_tensor(rows, "rows")
    if rows.ndim != 2 or len(rows) < 2 or not rows.shape[1]:
        raise ValueError(
            f"Expected rows of shape (p, d) with p >= 2 and d >= 1, got {tuple(rows.shape)}; pass one row per token"
        )
    p = len(rows)
    power = torch.fft.rfft(rows.double(), dim=0, norm="ortho").abs().square().sum(1)[1:]
    twice = torch.full_like(power, 2)  # k and p - k, which are one component at k = p / 2
    twice[(p - 1) // 2 :] = 1
    return (twice * power).sqrt()


def gini(values: Tensor) -> Tensor:
    """Return the Gini coefficient: the mean absolute difference of two values over twice their mean.

    Parameters
    ----------
    values : Tensor of shape (n,)
        Numbers of at least 0, not all 0.

    Returns
    -------
    float64 Tensor of shape ()
        0 if all values are equal, 1 - 1/n if a single one is not 0. NaN if all values are 0, or one is not finite.

    Raises
    ------
    TypeError
        If ``values`` is no dense tensor of real numbers.
    ValueError
        If ``values`` is no vector, is empty, or has negative numbers.

    Examples
    --------
    >>> import torch
    >>> from probe.measures import gini
    >>> gini(torch.tensor([0.0, 0.0, 0.0, 5.0])).item()
    0.75
    """
    check_tensor(values, "values")
    if values.ndim != 1 or not len(values):
        raise ValueError(f"Expected a vector of one or more values, got shape {tuple(values.shape)}; flatten it first")
    if (least := values.min().item()) < 0:
        raise ValueError(f"Expected values of at least 0, got {least}; take their size with abs()")
    n, values = len(values), values.double()
    weights = torch.arange(1 - n, n, 2, dtype=torch.float64, device=values.device)
    return (weights * values.sort().values).sum() / (n * values.sum())


class FourierProbe(Probe):
    """Measure how few frequencies a token embedding uses.

    Parameters
    ----------
    weight : str, optional
        Name of the matrix, for example ``"tokens.weight"``. Default: the weight of the only
        :class:`torch.nn.Embedding`. If there are several or none, :meth:`attach` raises an error that names candidates.
    tokens : int, slice or sequence of int, optional
        Rows to transform, in the order of the cycle: a count p for the first p, a slice, or a list of indices such as
        ``[3**k % 97 for k in range(96)]``. Default: all rows.
    axis : int
        Axis of the tokens: 0 for embeddings, 1 for the weight of a linear layer with one-hot inputs.
    top : int
        Number of frequencies in the top share; 5 is the number of key frequencies in arXiv:2301.05217.
    device
        Device of the transform. Default: the device of the weights.

    Attributes
    ----------
    series_ : xarray.Dataset
        ``fourier_norm`` by (step, frequency), in the units of the weights. By step, in units of 1: ``fourier_gini``,
        ``fourier_inverse_participation_ratio``, ``fourier_top_share``. Flag: ``fourier_undefined`` (the rows are all
        equal or not finite).

    See Also
    --------
    probe.measures.fourier_norms, probe.measures.gini : The same numbers of one matrix.

    Examples
    --------
    The rows of this embedding lie on a circle that they run through once:

    >>> import torch
    >>> from probe import FourierProbe
    >>> model = torch.nn.Embedding(8, 2)
    >>> angles = torch.arange(8) * 2 * torch.pi / 8
    >>> _ = model.weight.data.copy_(torch.stack([angles.cos(), angles.sin()], 1))
    >>> series = FourierProbe().fit(model, (torch.arange(8), None)).series_
    >>> round(series["fourier_gini"].item(), 4), round(series["fourier_inverse_participation_ratio"].item(), 4)
    (0.75, 1.0)
    """

    def __init__(
        self,
        *,
        weight: str | None = None,
        tokens: int | slice | Sequence[int] | None = None,
        axis: int = 0,
        top: int = 5,
        device: Any = None,
    ) -> None:
        self.weight = weight
        self.tokens = tokens
        self.axis = axis
        self.top = top
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Check that the parameters name a matrix. The probe needs no forward pass, hence no taps."""
        self._rows(snapshot.model)
        return ()

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Transform the rows."""
        matrix = self._rows(snapshot.model)
        rows = to_float64_device(matrix, self.device).double()
        norms = fourier_norms(rows)
        undefined = not torch.isfinite(rows).all() or rows_equal(rows, matrix.dtype)
        power = torch.full_like(norms, math.nan) if undefined else spectral_distribution(norms.square())
        numbers = {
            "gini": (gini(norms), "Gini coefficient over frequencies"),
            "inverse_participation_ratio": (power.square().sum(), "inverse participation ratio over frequencies"),
            "top_share": (power.sort().values[-self.top :].sum(), f"share of the {self.top} strongest frequencies"),
        }
        frequencies = {"frequency": list(range(1, len(norms) + 1))}
        found = {"fourier_norm": Measured(norms, ("frequency",), frequencies, long_name="norm of the component")}
        for name, (value, text) in numbers.items():
            found[f"fourier_{name}"] = Measured(math.nan if undefined else value, long_name=text)
        found["fourier_undefined"] = Measured(int(undefined), flag=True, long_name="rows are alike or not finite")
        return found

    def _rows(self, model: nn.Module) -> Tensor:
        """Return the rows of the tokens, (p, d)."""
        matrix = self._matrix(model).movedim(self.axis, 0).flatten(1)
        tokens = slice(self.tokens) if isinstance(self.tokens, int) else self.tokens
        if isinstance(self.tokens, int) and self.tokens > len(matrix):
            raise ValueError(
                f"Expected tokens <= {len(matrix)}, the number of rows of {self.weight or 'the embedding'}, "
                f"got {self.tokens}; lower tokens, or pass another weight"
            )
        rows = matrix if tokens is None else matrix[tokens if isinstance(tokens, slice) else list(tokens)]
        if self.top < 1:
            raise ValueError(f"Expected top >= 1, got {self.top}; raise it")
        if len(rows) < 4:
            raise ValueError(
                f"Expected 4 or more tokens, got {len(rows)} rows of {self.weight or 'the embedding'}; pass a matrix "
                "with a row for each token, FourierProbe(weight=...), or leave this probe out"
            )
        return rows

    def _matrix(self, model: nn.Module) -> Tensor:
        layers = {"": model, **named_layers(model)}
        embeddings = [f"{name}.weight".lstrip(".") for name, layer in layers.items() if isinstance(layer, nn.Embedding)]
        name = self.weight or (embeddings[0] if len(embeddings) == 1 else "")
        owner, _, attribute = name.rpartition(".")
        matrix = getattr(layers.get(owner), attribute, None) if attribute else None
        if not isinstance(matrix, Tensor) or matrix.ndim < 2 or not matrix.is_floating_point():
            matrices = embeddings or [key for key, value in model.named_parameters() if value.ndim > 1]
            some = f"one of {', '.join(matrices[:10])}{', ...' if len(matrices) > 10 else ''}, or "
            raise ValueError(
                f"Expected weight= to name a matrix with a row for each token, got {self.weight!r} for a model with "
                f"{len(embeddings)} embeddings; pass FourierProbe(weight=...), {some if matrices else 'or '}leave this "
                "probe out"
            )
        return whole(matrix)
