"""Tests run on one thread (small tensors are faster so) and from one seed: they come out the same everywhere."""

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("Agg")
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """A test that wants other numbers draws them from a generator of its own."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
