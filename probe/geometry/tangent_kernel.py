"""Size, rank and alignment of a tangent kernel, from the whole kernel or from its products with random vectors.

With random signs z (Rademacher vectors) and a symmetric kernel K of N rows, averages over z are

    trace K = E[z . K z],    |K|^2 = E[|K z|^2]    (Hutchinson 1990, Communications in Statistics 19)

The other numbers are functions of these averages, and their standard errors follow from the first-order influence of
each vector.

    effective rank  (trace K)^2 / |K|^2: N if all eigenvalues are equal, 1 if one is not 0 (participation ratio)
    alignment       y . K y / (|K| |y|^2), the cosine of K and y y^T (Cristianini et al. 2001): 0 to 1
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class KernelNumbers(NamedTuple):
    """Numbers of a kernel with their standard errors ``_se``, which are 0 for a whole kernel and NaN for one vector.

    ``trace`` and ``norm`` are in units of the outputs squared over those of the parameters squared.
    """

    trace: float
    trace_se: float
    norm: float
    norm_se: float
    effective_rank: float
    effective_rank_se: float


def kernel_numbers(products: Tensor, probes: Tensor | None = None) -> KernelNumbers:
    """Return trace, Frobenius norm and effective rank of a kernel.

    Parameters
    ----------
    products : Tensor of shape (N, m)
        Products K z with each vector; or the whole kernel, (N, N).
    probes : Tensor of shape (N, m), optional
        The vectors z, of signs. None: ``products`` is the whole kernel.

    Returns
    -------
    KernelNumbers

    See Also
    --------
    kernel_alignment : With targets.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import kernel_numbers
    >>> found = kernel_numbers(torch.diag(torch.tensor([2.0, 2.0, 0.0])))
    >>> round(found.trace, 4), round(found.norm, 4), round(found.effective_rank, 4)
    (4.0, 2.8284, 2.0)
    """
    products = products.double()
    if probes is None:
        size, norm = products.trace().item(), math.sqrt(products.square().sum().item())
        return KernelNumbers(size, 0.0, norm, 0.0, (size / norm) ** 2 if norm > 0 else math.nan, 0.0)
    traces, squares = (probes.double() * products).sum(0), products.square().sum(0)
    mean, square = traces.mean(), squares.mean()
    rank, root = mean.square() / square, square.sqrt()
    influence = 2 * mean / square * traces - rank / square * squares
    errors = _error(traces), _error(squares) / (2 * root), _error(influence)
    pairs = zip((mean, root, rank), errors, strict=True)
    return KernelNumbers(*(part.item() for pair in pairs for part in pair))


def _error(values: Tensor) -> Tensor:
    return values.std() / len(values) ** 0.5 if len(values) > 1 else values.new_tensor(math.nan)


def kernel_alignment(product: Tensor, targets: Tensor, numbers: KernelNumbers) -> tuple[float, float]:
    """Return the alignment of a kernel with targets, and its standard error.

    Parameters
    ----------
    product : Tensor of shape (N,)
        K y.
    targets : Tensor of shape (N,)
        y, as a rule centred: with a mean over the inputs of 0 in each column.
    numbers : KernelNumbers
        Those of this kernel.

    Returns
    -------
    (float, float)
        NaN if the kernel or the targets are 0.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import kernel_alignment, kernel_numbers
    >>> y = torch.tensor([1.0, -1.0])
    >>> kernel = torch.outer(y, y)
    >>> value, error = kernel_alignment(kernel @ y, y, kernel_numbers(kernel))
    >>> round(value, 4), error
    (1.0, 0.0)
    """
    y, size = targets.double(), targets.double().square().sum().item() * numbers.norm
    if not size > 0:
        return math.nan, math.nan
    value = (y * product.double()).sum().item() / size
    return value, abs(value) * numbers.norm_se / numbers.norm


def probe_sketch(products: Tensor, numbers: int, *, random_state: int = 0) -> Tensor:
    """Return a sketch of the products of a kernel with m vectors, for :func:`probe.stats.kernel_distance`.

    Parameters
    ----------
    products : Tensor of shape (N, m)
    numbers : int
        Numbers to keep of each product. Of more, sums with random signs are kept, the same at each call.
    random_state : int
        Seed of the sums.

    Returns
    -------
    float64 Tensor of shape (m numbers,)

    See Also
    --------
    kernel_sketch : Of a whole kernel.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import probe_sketch
    >>> probe_sketch(torch.tensor([[1.0, 3.0], [2.0, 4.0]]), 2).tolist()
    [1.0, 2.0, 3.0, 4.0]
    """
    return _hashed(products.double().T, numbers, random_state).flatten()


def kernel_sketch(kernel: Tensor, numbers: int, *, random_state: int = 0) -> Tensor:
    """Return a sketch of a whole symmetric kernel, for :func:`probe.stats.kernel_distance`.

    Parameters
    ----------
    kernel : Tensor of shape (N, N)
    numbers : int
        Numbers to keep. Of more than N (N + 1) / 2, all entries of one triangle are kept, and zeros. Of fewer, sums
        with random signs are kept, the same at each call.
    random_state : int
        Seed of the sums.

    Returns
    -------
    float64 Tensor of shape (numbers,)
        Entries off the diagonal are multiplied by the root of 2, so that inner products are those of the kernels.

    See Also
    --------
    probe_sketch : Of products.

    Examples
    --------
    >>> import torch
    >>> from probe.geometry import kernel_sketch
    >>> [round(number, 3) for number in kernel_sketch(torch.tensor([[1.0, 2.0], [2.0, 3.0]]), 4).tolist()]
    [1.0, 2.828, 3.0, 0.0]
    """
    kernel = kernel.double()
    scaled = kernel * (2**0.5 + (1 - 2**0.5) * torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device))
    row, column = torch.triu_indices(*kernel.shape, device=kernel.device)
    return _hashed(scaled[row, column][None], numbers, random_state)[0]


def _hashed(rows: Tensor, numbers: int, random_state: int) -> Tensor:
    """Return rows (m, N) with ``numbers`` columns: padded with 0, or other random sums of the columns for each row."""
    m, n = rows.shape
    found = rows.new_zeros(m, numbers)
    if n <= numbers:
        found[:, :n] = rows
        return found
    generator = torch.Generator().manual_seed(random_state)
    places = torch.randint(numbers, (m, n), generator=generator).to(rows.device)
    signs = torch.randint(2, (m, n), generator=generator).to(rows.device) * 2 - 1
    return found.scatter_add_(1, places, signs * rows)
