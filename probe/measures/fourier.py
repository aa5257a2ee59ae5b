r"""Fourier sparsity of a token embedding, for tasks on a cycle such as addition modulo p.

With W (p, d) the rows of the tokens 0, ..., p-1 in the order of the cycle, and for each frequency k = 1, ..., p/2

    F_k = root of the sum of squares of the cosine and sine components of W at k, over the d dimensions

so that sum_k F_k^2 is the squared distance of the rows from their mean. Networks that have learnt modular addition
keep a few frequencies (Nanda et al. 2023, arXiv:2301.05217; Furuta et al. 2024, arXiv:2402.16726). How few:

    gini                          of F_k: 0 where all frequencies are equally strong, 1 - 1/n where there is one of n
    inverse participation ratio   sum_k p_k^2 with p_k = F_k^2 / sum F^2: 1/n where all are equally strong, 1 for one
    top share                     of the strongest frequencies in sum F^2

Random rows do not have 0: for Gaussian ones of d dimensions F_k^2 varies by 1/sqrt(d), its share of the top is biased
upwards. Other groups need another order: multiplication modulo a prime that of the powers of a primitive root.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import named_layers
from probe.forward.passes import Tap
from probe.geometry.spectra import spectral_distribution
from probe.information.validation import rows_equal, to_float64_device


def fourier_norms(rows: Tensor) -> Tensor:
    """F_k of the rows of an embedding.

    Parameters
    ----------
    rows : Tensor of shape (p, d)

    Returns
    -------
    float64 Tensor of shape (p // 2,), for k = 1, ..., p // 2
    """
    p = len(rows)
    power = torch.fft.rfft(rows.double(), dim=0, norm="ortho").abs().square().sum(1)[1:]
    twice = torch.full_like(power, 2)  # k and p - k, which are one component at k = p / 2
    twice[(p - 1) // 2 :] = 1
    return (twice * power).sqrt()


def gini(values: Tensor) -> Tensor:
    """Gini coefficient of numbers (n,) from 0 up: mean absolute difference of two of them over twice their mean."""
    n = len(values)
    weights = torch.arange(1 - n, n, 2, dtype=torch.float64, device=values.device)
    return (weights * values.sort().values).sum() / (n * values.sum())


class FourierProbe(Probe):
    """How few frequencies an embedding holds.

    Parameters
    ----------
    weight
        Name of the matrix, ``"tokens.weight"``. Default: that of the only :class:`torch.nn.Embedding`; where there are
        several or none, attaching is an error that names candidates.
    tokens
        Which rows, in the order of the cycle: a count p for the first p, a slice, or a list of indices such as
        ``[3**k % 97 for k in range(96)]``. Default: all.
    axis
        That of the tokens: 0 for embeddings, 1 for the weight of a linear layer that reads one-hot inputs.
    top
        So many frequencies count in the top share; 5 are the key frequencies of arXiv:2301.05217.
    random_state
        Not used, since nothing is drawn; accepted as by every probe.
    device
        Where the transform is computed. Default: where the weights are.

    Notes
    -----
    Variables: ``fourier_norm`` by ``frequency``; ``fourier_gini``, ``fourier_inverse_participation_ratio``,
    ``fourier_top_share``; the flag ``fourier_undefined``: the rows are all alike or not finite.
    """

    def __init__(
        self,
        *,
        weight: str | None = None,
        tokens: int | slice | Sequence[int] | None = None,
        axis: int = 0,
        top: int = 5,
        random_state: int = 0,
        device: Any = None,
    ) -> None:
        self.weight = weight
        self.tokens = tokens
        self.axis = axis
        self.top = top
        self.random_state = random_state
        self.device = device

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """None: it reads a parameter. What cannot be read is an error when attaching."""
        self._rows(snapshot.model)
        return ()

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        """Transform the rows."""
        rows = to_float64_device(self._rows(snapshot.model), self.device).double()
        norms = fourier_norms(rows)
        lost = not torch.isfinite(rows).all() or rows_equal(rows)
        power = spectral_distribution(norms.square()) if not lost else torch.full_like(norms, math.nan)
        facts = {
            "gini": (gini(norms), "Gini coefficient over frequencies"),
            "inverse_participation_ratio": (power.square().sum(), "inverse participation ratio over frequencies"),
            "top_share": (power.sort().values[-self.top :].sum(), f"share of the {self.top} strongest frequencies"),
        }
        frequencies = {"frequency": list(range(1, len(norms) + 1))}
        found = {"fourier_norm": Measured(norms, ("frequency",), frequencies, long_name="norm of the component")}
        for name, (value, text) in facts.items():
            found[f"fourier_{name}"] = Measured(math.nan if lost else value, long_name=text)
        found["fourier_undefined"] = Measured(int(lost), flag=True, long_name="rows are alike or not finite")
        return found

    def _rows(self, model: nn.Module) -> Tensor:
        """Of the tokens, (p, d)."""
        matrix = self._matrix(model).movedim(self.axis, 0).flatten(1)
        tokens = slice(self.tokens) if isinstance(self.tokens, int) else self.tokens
        if isinstance(self.tokens, int) and self.tokens > len(matrix):
            raise ValueError(f"tokens={self.tokens}, but {self.weight or 'the embedding'} has {len(matrix)} rows")
        rows = matrix if tokens is None else matrix[tokens if isinstance(tokens, slice) else list(tokens)]
        if len(rows) < 4 or self.top < 1:
            raise ValueError(f"expected 4 or more tokens and top >= 1, got {len(rows)} and {self.top}")
        return rows

    def _matrix(self, model: nn.Module) -> Tensor:
        layers = {"": model, **named_layers(model)}
        embeddings = [f"{name}.weight".lstrip(".") for name, layer in layers.items() if isinstance(layer, nn.Embedding)]
        name = self.weight or (embeddings[0] if len(embeddings) == 1 else "")
        owner, _, attribute = name.rpartition(".")
        found = getattr(layers.get(owner), attribute, None) if attribute else None
        if not isinstance(found, Tensor) or found.ndim < 2 or not found.is_floating_point():
            matrices = embeddings or [key for key, value in model.named_parameters() if value.ndim > 1]
            raise ValueError(
                f"weight={self.weight!r}: expected the name of a matrix with a row for each token, this model has "
                f"{len(embeddings)} embeddings; FourierProbe(weight=...) may be {', '.join(matrices) or 'nothing here'}"
            )
        return found
