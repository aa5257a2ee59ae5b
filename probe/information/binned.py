r"""Information of binned activations about inputs and labels, in bits, by plug-in.

With B the bins of a layer (rules: :mod:`probe.information.bins`) and frequencies p in the sample,

    I(B; X) = H(B) - H(B | X)          I(B; Y) = H(B) - sum_y p(y) H(B | y)

For a deterministic network and distinct inputs the rows have H(B | X) = 0 and I(B; X) = H(B) [1]_. As soon as no two
rows share all their bins, I(B; X) = log2 n and I(B; Y) = H(Y), whatever the network: ``saturated``. Rows of more than
three or four units nearly always are; reduce them first (:func:`principal_components`), or read single units.

.. [1] Saxe et al. 2018, On the information bottleneck theory of deep learning, ICLR, section 2 and appendix.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from probe.information.discrete import class_codes, codes, discrete_entropy, discrete_information, rows


class BinnedInformation(NamedTuple):
    """I(B; X), I(B; Y) (None without labels), H(B), and the ceilings H(X) and H(Y), in bits."""

    x: float
    y: float | None
    entropy: float
    x_ceiling: float
    y_ceiling: float | None

    @property
    def saturated(self) -> bool:
        """I(B; X) within 2 % of its ceiling: finer bins would change nothing, and I(B; Y) is near its own."""
        return self.x > 0.98 * self.x_ceiling


def binned_information(
    bins: Tensor,
    labels: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    of: Literal["rows", "units", "pooled"] = "rows",
) -> BinnedInformation:
    """I(B; X) and I(B; Y) of binned activations; each row one draw of the input.

    Parameters
    ----------
    bins : integer Tensor of shape (n, d)
        As one of the rules of :mod:`probe.information.bins` makes them.
    labels : integer Tensor of shape (n,), optional
    inputs : integer Tensor of shape (n,), optional
        The same number for the same input; default: all inputs are distinct. Repeated inputs weigh by their number,
        and where the network has noise of its own H(B | X) is subtracted.
    of
        ``"rows"``: a row is one symbol. ``"units"``: the mean of the informations of each unit alone.
        ``"pooled"``: the value of a unit drawn at random, not knowing which; its ``entropy`` H(B) is often plotted
        in place of I(B; X), but the units of one input differ, so H(B | X) > 0.

    Returns
    -------
    BinnedInformation
    """
    if bins.ndim != 2 or bins.numel() == 0 or bins.is_floating_point():
        raise ValueError(f"bins must be integers of shape (n, d), got {bins.dtype} of shape {tuple(bins.shape)}")
    x = torch.arange(len(bins), device=bins.device) if inputs is None else class_codes(inputs, bins)
    y = None if labels is None else class_codes(labels, bins)
    symbols = _symbols(bins, of)
    return BinnedInformation(
        _mean_information(symbols, x),
        None if y is None else _mean_information(symbols, y),
        sum(map(discrete_entropy, symbols)) / len(symbols),
        discrete_entropy(x),
        None if y is None else discrete_entropy(y),
    )


def principal_components(z: Tensor, k: int) -> Tensor:
    """Coordinates of the rows along their first ``k`` principal axes, unscaled, signs fixed.

    Parameters
    ----------
    z : Tensor of shape (n, d)
    k
        At most min(n, d).

    Returns
    -------
    float64 Tensor of shape (n, k)
    """
    z = rows(z)
    if not 1 <= k <= min(z.shape):
        raise ValueError(f"k must be between 1 and min(n, d) = {min(z.shape)}, got {k}")
    centred = z - z.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    out = u[:, :k] * s[:k]
    largest = out.gather(0, out.abs().argmax(0, keepdim=True))  # an axis has no sign: the farthest row is positive
    return out * torch.where(largest < 0, -1.0, 1.0)


def row_codes(bins: Tensor) -> Tensor:
    """Equal rows get equal numbers 0, ..., K-1, by a 64-bit hash that is checked: exact.

    Parameters
    ----------
    bins : integer Tensor of shape (n, d)

    Returns
    -------
    int64 Tensor of shape (n,)
    """
    source = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, bins.shape[1:], generator=source).bitwise_or(1)
    out = codes((bins.long() * factors.to(bins.device)).sum(1))  # modulo 2^64
    first = torch.empty_like(out).scatter_(0, out, torch.arange(len(out), device=out.device))  # one row of each code
    if torch.equal(bins[first[out]], bins):
        return out
    return bins.unique(dim=0, return_inverse=True)[1]  # two different rows met: sort whole rows, ten times slower


def _symbols(bins: Tensor, of: str) -> list[Tensor]:
    """Codes whose informations are to be averaged; pooled ones are row by row."""
    if of == "rows":
        return [row_codes(bins)]
    if of == "units":
        return [codes(unit) for unit in bins.unbind(1)]
    if of == "pooled":
        return [codes(bins.flatten())]
    raise ValueError(f'of must be "rows", "units" or "pooled", got {of!r}')


def _mean_information(symbols: list[Tensor], given: Tensor) -> float:
    values = [discrete_information(symbol, given.repeat_interleave(len(symbol) // len(given))) for symbol in symbols]
    return sum(values) / len(values)
