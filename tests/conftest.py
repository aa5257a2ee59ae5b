"""Tests run on one thread: small tensors are faster so, and sums come out the same everywhere."""

import matplotlib as mpl
import torch

mpl.use("Agg")
torch.set_num_threads(1)
