"""The small networks of `train_blind.py`."""

from itertools import pairwise

import torch
from torch import Tensor, nn

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU, "none": nn.Identity}


class Square(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.square()


ACTIVATIONS["square"] = Square


def mlp(
    *sizes: int, activation: str = "relu", batch_norm: bool = False, dropout: float = 0.0, scale: float = 1.0
) -> nn.Sequential:
    """A multilayer perceptron; ``scale`` multiplies all initial parameters."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after)]
        layers += [nn.BatchNorm1d(after)] if batch_norm else []
        layers += [ACTIVATIONS[activation]()]
        layers += [nn.Dropout(dropout)] if dropout else []
    model = nn.Sequential(*layers, nn.Linear(*sizes[-2:]))
    return scaled(model, scale)


def scaled(model: nn.Sequential, scale: float) -> nn.Sequential:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(scale)
    return model


def linear(n_inputs: int) -> nn.Sequential:
    """Linear regression that starts at zero."""
    return scaled(nn.Sequential(nn.Linear(n_inputs, 1, bias=False)), 0.0)


def embedding_mlp(n_symbols: int, size: int, width: int) -> nn.Sequential:
    """An embedding of both operands, then one hidden layer."""
    return nn.Sequential(nn.Embedding(n_symbols, size), nn.Flatten(), *mlp(2 * size, width, n_symbols))


def cnn(channels: int, *, batch_norm: bool = False) -> nn.Sequential:
    """Two convolutions for the 8 x 8 digits."""
    norms = [nn.BatchNorm2d(channels), nn.BatchNorm2d(2 * channels)] if batch_norm else [nn.Identity(), nn.Identity()]
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        *(nn.Conv2d(1, channels, 3, padding=1), norms[0], nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(channels, 2 * channels, 3, padding=1), norms[1], nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(8 * channels, 10)),
    )


class Transformer(nn.Module):
    """One block with causal attention; ``last`` returns the logits of the last place only."""

    def __init__(self, n_symbols: int, length: int, size: int, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.embedding = nn.Embedding(n_symbols, size)
        self.places = nn.Parameter(torch.randn(length, size) / size**0.5)
        self.query_key_value = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)
        self.mlp = mlp(size, 4 * size, size)
        self.head = nn.Linear(size, n_symbols)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.places  # (n, length, size)
        parts = [part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.query_key_value(x).chunk(3, -1)]
        mixed = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)  # (n, 4, length, size / 4)
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        x = x[:, -1] if self.last else x
        return self.head(x + self.mlp(x))


class Recurrent(nn.Module):
    """A recurrent layer (RNN, GRU or LSTM) with logits at each place."""

    def __init__(self, kind: str, n_symbols: int, size: int, n_classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_symbols, size)
        self.layer = getattr(nn, kind)(size, size, batch_first=True)
        self.head = nn.Linear(size, n_classes)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.layer(self.embedding(tokens))[0])
