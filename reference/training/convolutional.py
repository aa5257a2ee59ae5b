"""Small convolutional networks on handwritten digits: a plain one (``vgg``) and one with residual sums (``resnet``).

The networks have batch norm and ReLU, as the VGG-16 and the ResNet-20 of arXiv:2505.13900. Optimiser, weight decay,
augmentation and the drops of the learning rate are of the kind of that paper, with 8 x 8 images in place of CIFAR-10.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reference.training.perceptron import digits
from reference.training.randomness import Draws
from reference.training.recipes import Batch, Data, update


@dataclass(frozen=True, kw_only=True)
class ConvolutionalConfig:
    """Network and recipe of a training on scikit-learn's digits. With a seed, it determines the run.

    Attributes
    ----------
    network : {"vgg", "resnet"}
        Two convolutions in each stage, with max pooling between stages; or two in a residual block, with strides.
    widths : tuple of int
        Channels of the stages.
    n_train : int
        Number of training images; all others are test images.
    batch_size : int
        Images of an update. Each epoch has an order of its own.
    lr, momentum, weight_decay : float
        Parameters of SGD. The learning rate is divided by 10 at 1/2 and at 3/4 of the training.
    shift : int
        Largest shift of a training image, in pixels. Direction and size depend on seed and step.
    steps : int
        Optimiser steps.

    Raises
    ------
    ValueError
        If the network is unknown, or the number of training images leaves an empty split or fills no batch.
    """

    network: str
    widths: tuple[int, ...] = (8, 16, 32)
    n_train: int = 500
    batch_size: int = 32
    lr: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    shift: int = 1
    steps: int = 720

    def __post_init__(self) -> None:
        if self.network not in _NETWORKS:
            raise ValueError(f"Expected a network among {', '.join(_NETWORKS)}, got {self.network!r}; choose one.")
        n = len(digits()[1])
        if not self.batch_size <= self.n_train < n:
            raise ValueError(
                f"Expected n_train from {self.batch_size}, one batch, to {n - 1}, got {self.n_train}; give such a "
                "number."
            )

    def data(self, seed: int) -> dict[str, Data]:
        """Return images (n, 1, 8, 8) and answers (n,) of the splits ``train`` and ``test``, drawn by ``seed``."""
        x, y = digits()
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed), device="cpu")
        train, test = order[: self.n_train], order[self.n_train :]
        images = (x - 0.3).view(-1, 1, 8, 8)  # the mean of all pixels is .3
        return {"train": (images[train], y[train]), "test": (images[test], y[test])}

    def model(self, seed: int) -> nn.Sequential:
        """Return the network with its initial parameters. The global random state is neither read nor changed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return _NETWORKS[self.network](self.widths)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Return the optimiser of a model."""
        return torch.optim.SGD(model.parameters(), lr=self.lr, momentum=self.momentum, weight_decay=self.weight_decay)

    def update(self, model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> Tensor:
        """Make one update, and return the loss (nats)."""
        return update(model, optimizer, batch)

    def rate(self, step: int) -> float:
        """Return the learning rate of the update after ``step`` updates."""
        return self.lr * 0.1 ** ((2 * step >= self.steps) + (4 * step >= 3 * self.steps))

    def batches(self, seed: int) -> Callable[[int, int], list[Batch]]:
        """Return a function of step and number n. It returns the batches of the n updates after the step."""
        x, y = self.data(seed)["train"]
        draws = Draws(seed, n_rows=len(y), batch_size=self.batch_size, n_masks=0, replacement=False)

        def batch(step: int) -> Batch:
            rows = draws.rows(step)[0]
            return shifted(x[rows], self.shift, seed, step), y[rows], self.rate(step)

        return lambda step, n: [batch(k) for k in range(step, step + n)]


def shifted(images: Tensor, largest: int, seed: int, step: int) -> Tensor:
    """Return images (n, 1, h, w), each moved by up to ``largest`` pixels in both directions; the border is repeated."""
    if not largest:
        return images
    n, _, h, w = images.shape
    generator = torch.Generator().manual_seed(1_000_003 * seed + step)
    moves = torch.randint(2 * largest + 1, (2, n, 1, 1), generator=generator, device="cpu")
    padded = F.pad(images, (largest,) * 4, mode="replicate")[:, 0]
    rows, columns = moves[0] + torch.arange(h)[:, None], moves[1] + torch.arange(w)
    return padded[torch.arange(n)[:, None, None], rows, columns][:, None]


# -- networks ------------------------------------------------------------------------------------------------------


def _vgg(widths: tuple[int, ...]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before, width in pairwise((1, *widths)):
        parts += [*_convolution(before, width), nn.ReLU(), *_convolution(width, width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*parts, *_head(widths[-1]))


def _resnet(widths: tuple[int, ...]) -> nn.Sequential:
    first = [*_convolution(1, widths[0]), nn.ReLU()]
    blocks = [Residual(before, width) for before, width in pairwise((widths[0], *widths))]
    return nn.Sequential(*first, *blocks, *_head(widths[-1]))


def _convolution(before: int, width: int, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(before, width, 3, stride, padding=1, bias=False), nn.BatchNorm2d(width)]


def _head(width: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]


class Residual(nn.Module):
    """Two convolutions with batch norm and ReLU, added to the input. A change of the width halves the resolution."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        stride = 1 if before == width else 2
        self.inner = nn.Sequential(*_convolution(before, width, stride), nn.ReLU(), *_convolution(width, width))
        self.shortcut = (
            nn.Identity()
            if before == width
            else nn.Sequential(nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))
        )
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, before, h, w) to (n, width, h / stride, w / stride)."""
        return self.act(self.inner(x) + self.shortcut(x))


_NETWORKS: dict[str, Callable[[tuple[int, ...]], nn.Sequential]] = {"vgg": _vgg, "resnet": _resnet}
