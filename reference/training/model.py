"""The paper's transformer: it reads `a o b =` and answers at the last token.

Pre-norm blocks with a final norm, biases everywhere, learnt positions, causal attention, GELU. It is the network of
the public repository that arXiv:2504.12700 builds on (see docs/performance.md for what is computed, and what is not).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": nn.ReLU,
}


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of a `Transformer`, and how it starts. The defaults are the paper's.

    Attributes
    ----------
    d_model, n_heads, d_mlp, n_blocks : int
        Width of the residual stream, attention heads (must divide `d_model`), hidden units, blocks.
    activation : {"gelu", "gelu_tanh", "relu"}
        Of the hidden units: GELU exactly, by its tanh approximation, or ReLU.
    dropout : float
        Rate after the embedding, on attention weights, after attention, on hidden units and after the MLP.
    token_std, position_std : float
        Token vectors start normal with this standard deviation, and so do position vectors. The paper draws token
        vectors N(0, 1) and multiplies them by sqrt(d_model) (`token_scale`).
    token_scale : float
        What token vectors are multiplied by when read.
    norm : {"pre", "post"}
        Whether each part of a block reads the stream through its norm, and the head too, or the norm comes after
        each addition, and none before the head.
    """

    d_model: int = 128
    n_heads: int = 4
    d_mlp: int = 512
    n_blocks: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    token_std: float = 1.0
    position_std: float = 1.0
    token_scale: float = math.sqrt(128)
    norm: str = "pre"

    def __post_init__(self) -> None:
        if self.n_heads < 1 or self.d_model < 1 or self.d_model % self.n_heads:
            raise ValueError(
                f"Expected n_heads to divide d_model, came {self.n_heads} heads for d_model={self.d_model}. "
                "Make d_model a multiple of n_heads."
            )
        if self.activation not in _ACTIVATIONS:
            raise ValueError(f"Expected an activation among {', '.join(_ACTIVATIONS)}, came {self.activation!r}.")
        if self.norm not in ("pre", "post"):
            raise ValueError(f"Expected norm 'pre' or 'post', came {self.norm!r}.")
        if not 0 <= self.dropout <= 0.99:  # masks are drawn to 2^-16
            raise ValueError(f"Expected a dropout rate from 0 to 0.99, came {self.dropout}. Give one such as 0.1.")
        for name in ("d_mlp", "n_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name} of at least 1, came {getattr(self, name)}. Give a larger number.")


class Attention(nn.Module):
    """Causal self-attention: a position sees itself and what stands before it. Answers all, or only the last."""

    def __init__(self, config: Config, *, last: bool) -> None:
        super().__init__()
        self.last, self.n_heads = last, config.n_heads
        self.q = nn.Linear(config.d_model, config.d_model)
        self.kv = nn.Linear(config.d_model, 2 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map `(B, T, d)` to `(B, T, d)`, or to `(B, 1, d)` for the last position only.

        One query, or a compiler: sums of products, which are as quick as a matrix product so small, and can be fused.
        """
        q, (k, v) = self.q(x[:, -1:] if self.last else x), self.kv(x).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)) for part in (q, k, v))  # each (B, Q or T, heads, d_head)
        sums = self.last or torch.compiler.is_compiling()
        scores = (q[:, :, None] * k[:, None]).sum(-1) if sums else torch.einsum("bqhd,bkhd->bqkh", q, k)
        scores = scores / math.sqrt(q.shape[-1])  # (B, Q, T, heads)
        if not self.last:  # the last position sees all
            ahead = torch.full((x.shape[1],) * 2, -math.inf, dtype=x.dtype, device=x.device).triu(1)  # (Q, T)
            scores = scores + ahead[:, :, None]
        weights = drop(scores.softmax(2), mask)  # (B, Q, T, heads)
        mixed = (weights[..., None] * v[:, None]).sum(2) if sums else torch.einsum("bqkh,bkhd->bqhd", weights, v)
        return self.out(mixed.flatten(2))  # (B, Q, d)


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each read from and added to the residual stream, with its norm.

    With `last`, only the last position goes on: the answer reads no other, which saves a third of all work.
    """

    def __init__(self, config: Config, *, last: bool = False) -> None:
        super().__init__()
        d, self.post = config.d_model, config.norm == "post"
        self.norm1, self.attention = nn.LayerNorm(d), Attention(config, last=last)
        self.norm2, self.up, self.act = nn.LayerNorm(d), nn.Linear(d, config.d_mlp), _ACTIVATIONS[config.activation]()
        self.down = nn.Linear(config.d_mlp, d)

    def forward(self, x: Tensor, masks: Sequence[Tensor | None] = (None,) * 4) -> Tensor:
        """Map `(B, T, d)` to `(B, T, d)`, or to `(B, 1, d)` for the last position only."""
        attended = drop(self.attention(x if self.post else self.norm1(x), masks[0]), masks[1])  # (B, Q, d)
        x = x[:, -attended.shape[1] :] + attended  # (B, Q, d)
        x = self.norm1(x) if self.post else x
        hidden = drop(self.act(self.up(x if self.post else self.norm2(x))), masks[2])  # (B, Q, d_mlp)
        x = x + drop(self.down(hidden), masks[3])  # (B, Q, d)
        return self.norm2(x) if self.post else x


class Transformer(nn.Module):
    """The whole network, initialised from `seed` alone.

    Parameters
    ----------
    config : Config
        Its sizes.
    n_tokens, n_classes : int
        Size of the vocabulary and number of answers; take them from the task.
    seed : int
        Decides the initial parameters, made on the CPU so that a seed means the same for every device; the
        global random state is left as it was.
    """

    n_positions = 4

    def __init__(self, config: Config, n_tokens: int, n_classes: int, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        # torch.manual_seed would seed the GPUs too, which fork_rng without devices does not restore.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            self.tokens = nn.Embedding(n_tokens, config.d_model)
            self.positions = nn.Embedding(self.n_positions, config.d_model)
            last = config.n_blocks - 1
            self.blocks = nn.ModuleList(Block(config, last=i == last) for i in range(config.n_blocks))
            self.norm = nn.Identity() if config.norm == "post" else nn.LayerNorm(config.d_model)
            self.head = nn.Linear(config.d_model, n_classes)
            nn.init.normal_(self.tokens.weight, std=config.token_std)
            nn.init.normal_(self.positions.weight, std=config.position_std)

    def forward(self, tokens: Tensor, masks: Sequence[Tensor] | None = None) -> Tensor:
        """Answer each sequence: int64 tokens `(B, 4)` to logits `(B, n_classes)`.

        Dropout acts only where `masks` are given (one for each of `mask_shapes`), so that the answer is a function
        of the arguments: no mode, no global random state.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.n_positions:
            raise ValueError(
                f"Expected tokens of shape (B, {self.n_positions}), came {tuple(tokens.shape)}. "
                "Give one row per sequence, as Task.inputs has them."
            )
        x = self.config.token_scale * self.tokens(tokens) + self.positions.weight  # (B, T, d)
        given: Sequence[Tensor | None] = masks or (None,) * (1 + 4 * len(self.blocks))
        rest = iter(given)
        x = drop(x, next(rest))
        for block in self.blocks:
            x = block(x, list(islice(rest, 4)))  # (B, T, d), after the last block (B, 1, d)
        return self.head(self.norm(x[:, -1]))  # (B, n_classes)

    @property
    def n_masks(self) -> int:
        """Dropout masks in a forward pass; 0 without dropout."""
        return 1 + 4 * len(self.blocks) if self.config.dropout else 0

    def mask_shapes(self, n: int) -> Iterator[tuple[int, ...]]:
        """Shapes of the dropout masks of a batch of `n` sequences, in the order in which they are used."""
        t, d = self.n_positions, self.config.d_model
        yield n, t, d
        for i in range(len(self.blocks)):
            q = 1 if i == len(self.blocks) - 1 else t
            yield from ((n, q, t, self.config.n_heads), (n, q, d), (n, q, self.config.d_mlp), (n, q, d))


def drop(x: Tensor, mask: Tensor | None) -> Tensor:
    """Dropout by a given mask, which holds 0 or 1 / (1 - rate)."""
    return x if mask is None else x * mask
