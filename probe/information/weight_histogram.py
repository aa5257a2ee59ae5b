"""Entropy of a histogram of weights: what arXiv:2504.12700 plots on the axes of its information plane.

**No data is in it**: no input, no activation, no label. The published "I(T; X)" is this entropy of the token
embeddings, the published "I(T; Y)" that of a query projection. It moves when weights grow beyond [-1, 1] or spread
within it, and says nothing about what a layer knows of its input. It is here so that the published curves can be
reproduced under their right name.
"""

import torch
from torch import Tensor

from probe.information.bins import EARLY_EDGES, early_code_bins
from probe.information.discrete import finite

_BLOCK = 2**20  # weights at a time: 16 MB of codes and copies


def weight_histogram_entropy(weights: Tensor) -> float:
    """Entropy in bits of the weights' bins: 29 between 30 equally spaced edges on [-1, 1], one for all outside.

    Parameters
    ----------
    weights : Tensor of any shape
        12,544 standard normal numbers give 4.20 bits; the most is log2 30 = 4.91.
    """
    if weights.numel() == 0:
        raise ValueError(f"weights must not be empty, got shape {tuple(weights.shape)}")
    blocks = weights.detach().flatten().split(_BLOCK)
    codes = (early_code_bins(finite(block, name="weights")) for block in blocks)
    counts = torch.stack([torch.bincount(code, minlength=EARLY_EDGES) for code in codes]).sum(0)
    shares = counts[counts > 0].double() / weights.numel()
    return -float((shares * shares.log2()).sum())
