"""A small decoder that reads `a o b =` and answers at the last token."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes of a `Transformer`.

    Attributes
    ----------
    n_tokens, n_classes : int
        Size of the vocabulary and number of answers; take them from the task.
    n_positions : int
        Tokens in a sequence.
    d_model, n_heads, d_mlp, n_blocks : int
        Width of the residual stream, attention heads (must divide `d_model`), hidden units, blocks.
    dropout : float
        Rate after the embedding, on attention weights, after attention, on hidden units and after the MLP.
        Above 0, the masks come from torch's global random state.
    """

    n_tokens: int
    n_classes: int
    n_positions: int = 4
    d_model: int = 128
    n_heads: int = 4
    d_mlp: int = 512
    n_blocks: int = 2
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.n_heads < 1 or self.d_model % self.n_heads:
            raise ValueError(
                f"Expected n_heads to divide d_model, came {self.n_heads} heads for d_model={self.d_model}. "
                "Make d_model a multiple of n_heads."
            )


class Attention(nn.Module):
    """Causal self-attention: a position sees itself and what stands before it. Answers all, or only the last."""

    def __init__(self, config: Config, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.n_heads, self.dropout = config.n_heads, config.dropout
        self.qkv = nn.Linear(config.d_model, 3 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, T, d)` to `(B, T, d)`, or to `(B, 1, d)` for the last position only."""
        qkv = self.qkv(x).unflatten(-1, (3, self.n_heads, -1))  # (B, T, 3, heads, d_head)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, T, d_head)
        q = q[:, :, -1:] if self.last else q  # the last position sees all, so it needs no mask
        dropout = self.dropout if self.training else 0.0
        z = functional.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=not self.last)
        return self.out(z.transpose(1, 2).flatten(2))  # (B, heads, T, d_head) to (B, T, d)


class Block(nn.Module):
    """Attention, then a two-layer perceptron, each read from and added to the residual stream.

    With `last`, only the last position goes on: the answer reads no other, which saves a third of all work.
    """

    def __init__(self, config: Config, *, last: bool = False) -> None:
        super().__init__()
        d = config.d_model
        self.norm1, self.attention = nn.LayerNorm(d), Attention(config, last=last)
        self.norm2, self.up, self.act = nn.LayerNorm(d), nn.Linear(d, config.d_mlp), nn.GELU()
        self.down, self.dropout = nn.Linear(config.d_mlp, d), nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map `(B, T, d)` to `(B, T, d)`, or to `(B, 1, d)` for the last position only."""
        z = self.dropout(self.attention(self.norm1(x)))  # (B, T or 1, d)
        x = x[:, -z.shape[1] :] + z  # (B, T or 1, d)
        hidden = self.dropout(self.act(self.up(self.norm2(x))))  # (B, T or 1, d_mlp)
        return x + self.dropout(self.down(hidden))  # (B, T or 1, d)


class Transformer(nn.Module):
    """The whole network, initialised from `seed` alone.

    Parameters
    ----------
    config : Config
        Its sizes.
    seed : int
        Decides the initial parameters, made on the CPU so that a seed means the same for every device; the
        global random state is left as it was.
    """

    def __init__(self, config: Config, *, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        # torch.manual_seed would seed the GPUs too, which fork_rng without devices does not restore.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.default_generator.manual_seed(seed)
            self.tokens = nn.Embedding(config.n_tokens, config.d_model)
            self.positions = nn.Embedding(config.n_positions, config.d_model)
            self.dropout = nn.Dropout(config.dropout)
            last = config.n_blocks - 1
            self.blocks = nn.ModuleList(Block(config, last=i == last) for i in range(config.n_blocks))
            self.norm = nn.LayerNorm(config.d_model)
            self.head = nn.Linear(config.d_model, config.n_classes)
            for embedding in (self.tokens, self.positions):  # torch's N(0, 1) would dwarf what blocks add
                nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Answer each sequence: int64 tokens `(B, n_positions)` to logits `(B, n_classes)`."""
        expected = self.config.n_positions
        if tokens.ndim != 2 or tokens.shape[1] != expected:
            raise ValueError(
                f"Expected tokens of shape (B, {expected}), came {tuple(tokens.shape)}. "
                "Give one row per sequence, as Task.inputs has them."
            )
        x = self.dropout(self.tokens(tokens) + self.positions.weight)  # (B, T, d)
        for block in self.blocks:
            x = block(x)  # (B, T, d), after the last block (B, 1, d)
        return self.head(self.norm(x[:, -1]))  # (B, n_classes)
