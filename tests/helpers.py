"""What several test files need."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def built(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    """A module initialised from the seed alone."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make()
