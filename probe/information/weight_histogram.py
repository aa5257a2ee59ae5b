"""Entropy of a histogram of weights: the quantity on both axes of the information plane of arXiv:2504.12700.

**It depends on no data**: on no input, no activation, no label. The published "I(T; X)" is this entropy of the token
embeddings, and the published "I(T; Y)" is this entropy of a query projection. It changes when weights grow beyond
[-1, 1] or spread within it. It does not measure what a layer contains about its input. This function reproduces the
published curves under a name that describes them.
"""

import torch
from torch import Tensor

from probe.information.arguments import check_tensor
from probe.information.bins import EARLY_EDGES, early_code_bins
from probe.information.validation import as_finite

_BLOCK = 2**20  # weights at a time: 16 MB of codes and copies


def weight_histogram_entropy(weights: Tensor) -> float:
    """Entropy of the histogram of weights, in bits.

    The histogram has 29 bins between 30 equally spaced edges on [-1, 1], and one bin for all weights outside.

    Parameters
    ----------
    weights : Tensor of any shape

    Returns
    -------
    float
        From 0 to log2 30 = 4.91. The value of 12,544 standard normal numbers is 4.20.

    Raises
    ------
    ValueError
        If ``weights`` is empty, or if a weight is NaN or infinite.

    See Also
    --------
    early_code_bins : The bins.

    Examples
    --------
    Half of these weights share the bin at 0, and half lie outside [-1, 1).

    >>> import torch
    >>> from probe.information import weight_histogram_entropy
    >>> round(weight_histogram_entropy(torch.tensor([0.0, 0.0, -3.0, 3.0])), 6)
    1.0
    """
    check_tensor(weights, "weights")
    if weights.numel() == 0:
        raise ValueError(f"Expected at least one weight, got shape {tuple(weights.shape)}; pass a tensor with elements")
    blocks = weights.detach().flatten().split(_BLOCK)
    codes = (early_code_bins(as_finite(block, name="weights")) for block in blocks)
    counts = torch.stack([torch.bincount(code, minlength=EARLY_EDGES) for code in codes]).sum(0)
    shares = counts[counts > 0].double() / weights.numel()
    return -float((shares * shares.log2()).sum())
