"""Architectures by name, written by hand, small and with random weights; see tests/cases.py."""

from typing import Any

import torch
from cases import CLASSES, Case, Data, N, images, mlp, plain, sequences, vectors
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence

from probe import shared


class DiTBlock(nn.Module):
    """A transformer block whose norms are shifted, scaled and gated by a condition."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(approximate="tanh"), nn.Linear(2 * width, width))
        self.condition = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.condition(condition)[:, None].chunk(6, -1)
        h = self.norm1(x) * (1 + scale1) + shift1
        x = x + gate1 * self.attention(h, h, h, need_weights=False)[0]
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class DiT(nn.Module):
    """Diffusion transformer with an image, a time and a class as inputs, and an image as output."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.patches = nn.Conv2d(2, width, 4, stride=4)
        self.positions = nn.Parameter(0.1 * torch.randn(4, width))
        self.time, self.label = nn.Linear(1, width), nn.Embedding(CLASSES, width)
        self.blocks = nn.ModuleList(DiTBlock(width) for _ in range(2))
        self.out = nn.ConvTranspose2d(width, 2, 4, stride=4)

    def forward(self, x: Tensor, t: Tensor, label: Tensor) -> Tensor:
        h = self.patches(x).flatten(2).mT + self.positions
        condition = self.time(t[:, None]) + self.label(label)
        for block in self.blocks:
            h = block(h, condition)
        return self.out(h.mT.unflatten(2, (2, 2)))


class GNN(nn.Module):
    """Graph network with messages along the edges. ``x`` has the shape (nodes, 6) or (graphs, nodes, 6)."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        self.message, self.update, self.head = nn.Linear(12, 12), nn.Linear(18, 12), nn.Linear(12, CLASSES)
        self.pooled = pooled

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        source, target = edge_index
        messages = F.relu(self.message(torch.cat([x[..., source, :], x[..., target, :]], -1)))
        received = x.new_zeros(*x.shape[:-1], 12).index_add(-2, target, messages)
        h = F.relu(self.update(torch.cat([x, received], -1)))
        return self.head(h.mean(-2) if self.pooled else h)


class NeuralODE(nn.Module):
    """Ordinary differential equation, solved by three steps of Heun's method, so that its field is called 6 times."""

    def __init__(self) -> None:
        super().__init__()
        self.field = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = 1 / 3
        for _ in range(3):
            slope = self.field(x)
            x = x + h / 2 * (slope + self.field(x + h * slope))
        return self.head(x)


class Siamese(nn.Module):
    """One encoder for both inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, CLASSES)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        return self.head((self.encoder(one) - self.encoder(other)).abs())


class UniversalTransformer(nn.Module):
    """One block, applied three times, with an embedding of the number of the application."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(6, 2, 12, batch_first=True)
        self.times, self.head = nn.Embedding(3, 6), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        for time in self.times.weight:
            x = self.block(x + time)
        return self.head(x.mean(1))


class KANLayer(nn.Module):
    """A learned function on each edge: a multiple of SiLU and a sum of Gaussian bumps."""

    def __init__(self, n_in: int, n_out: int, n_bumps: int = 5) -> None:
        super().__init__()
        self.base = nn.Linear(n_in, n_out, bias=False)
        self.bumps = nn.Parameter(0.1 * torch.randn(n_out, n_in, n_bumps))
        self.register_buffer("grid", torch.linspace(-2, 2, n_bumps))

    def forward(self, x: Tensor) -> Tensor:
        basis = torch.exp(-((x[..., None] - self.grid) ** 2))
        return self.base(F.silu(x)) + torch.einsum("nik,oik->no", basis, self.bumps)


class Experts(nn.Module):
    """Each input goes to the expert that the router chooses, weighted by the router's probability."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 3)
        self.experts = nn.ModuleList(nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        weight, chosen = self.router(x).softmax(-1).max(-1)
        mixed = torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            rows = (chosen == k).nonzero()[:, 0]
            mixed = mixed.index_add(0, rows, weight[rows, None] * F.gelu(expert(x[rows])))
        return x + mixed


class LoRA(nn.Module):
    """A frozen linear layer with a trained low-rank term."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Parameter(0.3 * torch.randn(rank, base.in_features))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + x @ self.down.T @ self.up.T


class Packed(nn.Module):
    """An LSTM on sequences of different lengths."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(self.rnn(packed)[1][0][-1])


class ForceField(nn.Module):
    """The forces on three particles, the negative gradient of a learned energy."""

    def __init__(self) -> None:
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(3, 12), nn.SiLU(), nn.Linear(12, 1))

    def forward(self, positions: Tensor) -> Tensor:
        positions = positions.detach().requires_grad_()
        distances = torch.stack([(positions[:, i] - positions[:, j]).norm(dim=-1) for i, j in ((0, 1), (0, 2), (1, 2))])
        return -torch.autograd.grad(self.energy(distances.T).sum(), positions, create_graph=True)[0]


class Mapped(nn.Module):
    """A module that is called for one input at a time, inside torch.vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head = nn.Sequential(nn.Linear(6, 12), nn.Tanh()), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.vmap(self.hidden)(x))


class Rescaling(nn.Module):
    """Writes to its weights when it changes between training and evaluation, as RWKV in transformers does."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.head, self.halved = nn.Linear(6, 12), nn.Linear(12, CLASSES), False

    def forward(self, x: Tensor) -> Tensor:
        if self.halved == self.training:
            with torch.no_grad():
                self.head.weight.mul_(2.0 if self.training else 0.5)
            self.halved = not self.training
        return self.head(F.relu(self.hidden(x))) * (2.0 if self.halved else 1.0)


def edges() -> Tensor:
    """Return the edges of a ring of 5 nodes, in both directions."""
    nodes = torch.arange(5)
    return torch.cat([torch.stack([nodes, (nodes + 1) % 5]), torch.stack([(nodes + 1) % 5, nodes])], 1)


def denoising() -> tuple[nn.Module, Data]:
    x, y = images()
    return DiT(), ((x, torch.rand(N), y), torch.randn_like(x))


def graphs() -> tuple[nn.Module, Data]:
    x, y = sequences()
    return GNN(pooled=True), ((x, shared(edges())), y)


def nodes() -> tuple[nn.Module, Data]:
    x, y = vectors()
    return GNN(pooled=False), ((x, shared(torch.randint(N, (2, 40)))), y)


def pairs() -> tuple[nn.Module, Data]:
    x, y = vectors()
    return Siamese(), ((x, torch.randn(N, 6)), y)


def lora() -> nn.Module:
    model = mlp()
    for name in ("0", "2", "4"):
        model[int(name)] = LoRA(model.get_submodule(name))  # type: ignore[arg-type]
    return model


def packed() -> tuple[nn.Module, Data]:
    x, y = sequences()
    return Packed(), ((x, torch.randint(1, 6, (N,))), y)


def forces() -> tuple[nn.Module, Data]:
    x = torch.randn(N, 3, 2)
    return ForceField(), (x, torch.sin(x))


def exported() -> tuple[nn.Module, Data]:
    x, y = vectors()
    program: Any = torch.export.export(mlp(), (x,), dynamic_shapes=({0: torch.export.Dim("rows")},))
    return program.module(), (x, y)


ARCHITECTURES = [
    Case("DiT, image targets", denoising),
    Case("graph network, a batch of graphs with shared edges", graphs),
    Case("neural ODE, fixed steps", plain(NeuralODE, vectors)),
    Case("siamese network", pairs),
    Case("universal transformer", plain(UniversalTransformer, sequences)),
    Case("KAN", plain(lambda: nn.Sequential(KANLayer(6, 8), KANLayer(8, CLASSES)), vectors)),
    Case(
        "mixture of experts",
        plain(
            lambda: nn.Sequential(nn.Linear(6, 8), nn.Sequential(Experts(8), Experts(8)), nn.Linear(8, CLASSES)),
            vectors,
        ),
    ),
    Case("LoRA on a multilayer perceptron", plain(lora, vectors)),
    Case("LSTM on packed sequences", packed),
    Case("force field that differentiates its energy", forces),
    Case("torch.vmap inside", plain(Mapped, vectors)),
    Case("torch.export", exported, slow=True),
    Case("writes to its weights in evaluation mode", plain(Rescaling, vectors)),
]
