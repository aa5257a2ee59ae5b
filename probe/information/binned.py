r"""Information of binned activations about inputs and labels, in bits (plug-in estimates).

With the bins B of a layer (rules: :mod:`probe.information.bins`) and frequencies p in the sample,

    I(B; X) = H(B) - H(B | X)          I(B; Y) = H(B) - sum_y p(y) H(B | y)

A deterministic network with distinct inputs has H(B | X) = 0 for the rows, so I(B; X) = H(B) [1]_. If no two rows share
all their bins, I(B; X) = log2 n and I(B; Y) = H(Y) for every network: the result is ``saturated``. Rows of more than
three or four units are nearly always saturated. Reduce them first (:func:`principal_components`), or measure single
units.

.. [1] Saxe et al. 2018, On the information bottleneck theory of deep learning, ICLR, section 2 and appendix.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from probe.information.arguments import check_count, check_tensor
from probe.information.discrete import discrete_entropy, discrete_information, label_codes
from probe.information.validation import as_rows, class_codes


class BinnedInformation(NamedTuple):
    """Result of :func:`binned_information`, in bits.

    Attributes
    ----------
    x : float
        I(B; X).
    y : float or None
        I(B; Y). None without labels.
    entropy : float
        H(B).
    x_ceiling : float
        H(X), the largest possible I(B; X).
    y_ceiling : float or None
        H(Y), the largest possible I(B; Y). None without labels.
    """

    x: float
    y: float | None
    entropy: float
    x_ceiling: float
    y_ceiling: float | None

    @property
    def saturated(self) -> bool:
        """Whether I(B; X) is within 2 % of H(X): finer bins cannot change it, and I(B; Y) is near H(Y)."""
        return self.x > 0.98 * self.x_ceiling


def binned_information(
    bins: Tensor,
    labels: Tensor | None = None,
    *,
    inputs: Tensor | None = None,
    symbols: Literal["rows", "units", "pooled"] = "rows",
) -> BinnedInformation:
    """I(B; X) and I(B; Y) of binned activations, in bits. Each row is one draw of the input.

    Parameters
    ----------
    bins : integer Tensor of shape (n, d)
        Made by a rule of :mod:`probe.information.bins`.
    labels : integer Tensor of shape (n,), optional
        Classes Y of the rows.
    inputs : integer Tensor of shape (n,), optional
        Equal inputs X have equal numbers. By default all inputs are distinct. The probability of a repeated input is
        its frequency. If the network itself is noisy, H(B | X) is subtracted.
    symbols : {"rows", "units", "pooled"}
        ``"rows"``: a row is one symbol. ``"units"``: the mean of the information of each single unit. ``"pooled"``: the
        value of one unit drawn at random, without its index. The ``entropy`` H(B) of pooled units is often plotted in
        place of I(B; X). The units of one input differ, however, so that H(B | X) > 0.

    Returns
    -------
    BinnedInformation

    Raises
    ------
    ValueError
        If ``bins`` is empty or not an integer matrix, if ``labels`` or ``inputs`` do not match the rows, or if
        ``symbols`` is unknown.

    See Also
    --------
    channel_information : Information through Gaussian noise, which does not need bins.
    principal_components : Reduce the number of units before binning.

    Examples
    --------
    Four equally likely rows hold two bits, and one of them is the label.

    >>> import torch
    >>> from probe.information import binned_information
    >>> result = binned_information(torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]), torch.tensor([0, 0, 1, 1]))
    >>> round(result.x, 6), round(result.y, 6), result.saturated
    (2.0, 1.0, True)
    """
    check_tensor(bins, "bins")
    if bins.ndim != 2 or bins.numel() == 0 or bins.is_floating_point():
        raise ValueError(
            f"Expected integer bins of shape (n, d), got {bins.dtype} of shape {tuple(bins.shape)}; "
            "apply a rule such as quantile_bins first"
        )
    x = torch.arange(len(bins), device=bins.device) if inputs is None else class_codes(inputs, bins)
    y = None if labels is None else class_codes(labels, bins)
    variables = _symbol_codes(bins, symbols)
    return BinnedInformation(
        _mean_information(variables, x),
        None if y is None else _mean_information(variables, y),
        sum(map(discrete_entropy, variables)) / len(variables),
        discrete_entropy(x),
        None if y is None else discrete_entropy(y),
    )


def principal_components(activations: Tensor, n_components: int) -> Tensor:
    """Coordinates of the centred rows along their first principal axes, not rescaled.

    Parameters
    ----------
    activations : Tensor of shape (n, d)
    n_components : int
        Number of axes, at most min(n, d).

    Returns
    -------
    float64 Tensor of shape (n, n_components)
        The sign of each axis is fixed: the row with the largest absolute coordinate has a positive one.

    Raises
    ------
    ValueError
        If ``n_components`` is not between 1 and min(n, d).

    See Also
    --------
    binned_information : Information of few, binned coordinates.

    Examples
    --------
    >>> import torch
    >>> from probe.information import principal_components
    >>> line = torch.tensor([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0], [15.0, 20.0]])
    >>> [round(value, 6) for value in principal_components(line, 1).flatten().tolist()]
    [-10.0, -5.0, 0.0, 15.0]
    """
    rows = as_rows(activations)
    check_count(n_components, "n_components", 1, min(rows.shape))
    centred = rows - rows.mean(0)
    u, s, _ = torch.linalg.svd(centred, full_matrices=False)
    coordinates = u[:, :n_components] * s[:n_components]
    largest = coordinates.gather(0, coordinates.abs().argmax(0, keepdim=True))
    return coordinates * torch.where(largest < 0, -1.0, 1.0)


def row_codes(bins: Tensor) -> Tensor:
    """Integer codes 0, ..., K-1 of rows: equal rows have equal codes, different rows have different codes.

    Parameters
    ----------
    bins : integer Tensor of shape (n, d)

    Returns
    -------
    int64 Tensor of shape (n,)

    See Also
    --------
    label_codes : The same for single integers, in ascending order.

    Notes
    -----
    The codes come from a 64-bit hash of each row. A check compares all rows of one code. If two different rows have one
    hash, whole rows are sorted instead, which is ten times slower.

    Examples
    --------
    >>> import torch
    >>> from probe.information import row_codes
    >>> codes = row_codes(torch.tensor([[1, 2], [3, 4], [1, 2]]))
    >>> bool(codes[0] == codes[2]), bool(codes[0] == codes[1])
    (True, False)
    """
    check_tensor(bins, "bins")
    if bins.ndim != 2 or bins.is_floating_point():
        raise ValueError(
            f"Expected integer bins of shape (n, d), got {bins.dtype} of shape {tuple(bins.shape)}; apply a rule such "
            "as quantile_bins first"
        )
    source = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**63), 2**63 - 1, bins.shape[1:], generator=source).bitwise_or(1)
    codes = label_codes((bins.long() * factors.to(bins.device)).sum(1))  # modulo 2^64
    members = torch.arange(len(codes), device=codes.device)
    member = torch.empty_like(codes).scatter_(0, codes, members)  # one row of each code
    if torch.equal(bins[member[codes]], bins):
        return codes
    return bins.unique(dim=0, return_inverse=True)[1]


def _symbol_codes(bins: Tensor, symbols: str) -> list[Tensor]:
    """Return the discrete variables whose informations are averaged. The pooled one lists the units row by row."""
    if symbols == "rows":
        return [row_codes(bins)]
    if symbols == "units":
        return [label_codes(unit) for unit in bins.unbind(1)]
    if symbols == "pooled":
        return [label_codes(bins.flatten())]
    raise ValueError(f'Expected symbols="rows", "units" or "pooled", got {symbols!r}; pass one of these')


def _mean_information(variables: list[Tensor], given: Tensor) -> float:
    values = [discrete_information(codes, given.repeat_interleave(len(codes) // len(given))) for codes in variables]
    return sum(values) / len(values)
