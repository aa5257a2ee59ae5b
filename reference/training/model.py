"""The transformer of arXiv:2504.12700, which reads `a o b =` and answers at the last token.

It has pre-norm blocks with a final norm, biases in all layers, learnt positions, causal attention and GELU. It is the
network of the public repository that the paper uses. docs/performance.md lists the computations that are skipped.
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
class ModelConfig:
    """Sizes and initial parameters of a `Transformer`. The defaults are those of the paper.

    Attributes
    ----------
    d_model, n_heads, d_mlp, n_blocks : int
        Width of the residual stream, attention heads (must divide `d_model`), hidden units, blocks.
    activation : {"gelu", "gelu_tanh", "relu"}
        Activation function of the hidden units: exact GELU, its tanh approximation, or ReLU.
    dropout : float
        Rate after the embedding, on attention weights, after attention, on hidden units and after the MLP.
    token_std, position_std : float
        Standard deviations of the normal initial values of token vectors and of position vectors. The paper draws
        token vectors from N(0, 1) and multiplies them by sqrt(d_model) (`token_scale`).
    token_scale : float
        Factor of the token vectors in the forward pass.
    norm : {"pre", "post"}
        "pre": a norm before each part of a block and before the head. "post": a norm after each addition, and none
        before the head.

    Raises
    ------
    ValueError
        If a value is outside its range.
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
                f"Expected n_heads to divide d_model, got {self.n_heads} heads for d_model={self.d_model}; make "
                "d_model a multiple of n_heads."
            )
        if self.activation not in _ACTIVATIONS:
            raise ValueError(
                f"Expected an activation among {', '.join(_ACTIVATIONS)}, got {self.activation!r}; choose one of them."
            )
        if self.norm not in ("pre", "post"):
            raise ValueError(f"Expected norm 'pre' or 'post', got {self.norm!r}; choose one of them.")
        if not 0 <= self.dropout <= 0.99:  # masks have a resolution of 2^-16
            raise ValueError(f"Expected a dropout rate from 0 to 0.99, got {self.dropout}; give a rate such as 0.1.")
        for name in ("d_mlp", "n_blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected {name} of at least 1, got {getattr(self, name)}; give a larger number.")


class Attention(nn.Module):
    """Causal self-attention: a position attends to itself and to earlier positions.

    With `last`, only the last position is computed.
    """

    def __init__(self, config: ModelConfig, *, last: bool) -> None:
        super().__init__()
        self.last, self.n_heads = last, config.n_heads
        self.q = nn.Linear(config.d_model, config.d_model)
        self.kv = nn.Linear(config.d_model, 2 * config.d_model)
        self.out = nn.Linear(config.d_model, config.d_model)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map `(B, T, d)` to `(B, T, d)`, or to `(B, 1, d)` for the last position only.

        For a single query, and under a compiler, sums of products replace the small matrix products: they are as fast
        and can be fused.
        """
        q, (k, v) = self.q(x[:, -1:] if self.last else x), self.kv(x).chunk(2, dim=-1)
        q, k, v = (part.unflatten(-1, (self.n_heads, -1)) for part in (q, k, v))  # each (B, Q or T, heads, d_head)
        sums = self.last or torch.compiler.is_compiling()
        scores = (q[:, :, None] * k[:, None]).sum(-1) if sums else torch.einsum("bqhd,bkhd->bqkh", q, k)
        scores = scores / math.sqrt(q.shape[-1])  # (B, Q, T, heads)
        if not self.last:  # the last position attends to all
            ahead = torch.full((x.shape[1],) * 2, -math.inf, dtype=x.dtype, device=x.device).triu(1)  # (Q, T)
            scores = scores + ahead[:, :, None]
        weights = drop(scores.softmax(2), mask)  # (B, Q, T, heads)
        mixed = (weights[..., None] * v[:, None]).sum(2) if sums else torch.einsum("bqkh,bkhd->bqhd", weights, v)
        return self.out(mixed.flatten(2))  # (B, Q, d)


class Block(nn.Module):
    """Attention and a two-layer perceptron, both with a norm and added to the residual stream.

    With `last`, only the last position is computed, because the head reads no other. This saves a third of the work.
    """

    def __init__(self, config: ModelConfig, *, last: bool = False) -> None:
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
    """The whole network, with initial parameters that depend on `seed` alone.

    Parameters
    ----------
    config : ModelConfig
        Sizes and initial standard deviations.
    n_tokens, n_classes : int
        Size of the vocabulary and number of answers, as in the task.
    seed : int
        Determines the initial parameters. They are drawn on the CPU, so that they are the same for every device. The
        global random state is not changed.
    """

    n_positions = 4

    def __init__(self, config: ModelConfig, n_tokens: int, n_classes: int, *, seed: int = 0) -> None:
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
        """Map int64 tokens `(B, 4)` to logits `(B, n_classes)`.

        Dropout acts only if `masks` are given, one for each of `mask_shapes`. The logits then depend on the arguments
        alone, not on a mode or on the global random state.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.n_positions:
            raise ValueError(
                f"Expected tokens of shape (B, {self.n_positions}), got {tuple(tokens.shape)}; give one row for each "
                "sequence, as in Task.inputs."
            )
        x = self.config.token_scale * self.tokens(tokens) + self.positions.weight  # (B, T, d)
        all_masks: Sequence[Tensor | None] = masks or (None,) * (1 + 4 * len(self.blocks))
        rest = iter(all_masks)
        x = drop(x, next(rest))
        for block in self.blocks:
            x = block(x, list(islice(rest, 4)))  # (B, T, d), after the last block (B, 1, d)
        return self.head(self.norm(x[:, -1]))  # (B, n_classes)

    @property
    def n_masks(self) -> int:
        """Number of dropout masks in a forward pass; 0 without dropout."""
        return 1 + 4 * len(self.blocks) if self.config.dropout else 0

    def mask_shapes(self, n: int) -> Iterator[tuple[int, ...]]:
        """Yield the shapes of the dropout masks of a batch of `n` sequences, in the order of their use."""
        t, d = self.n_positions, self.config.d_model
        yield n, t, d
        for i in range(len(self.blocks)):
            q = 1 if i == len(self.blocks) - 1 else t
            yield from ((n, q, t, self.config.n_heads), (n, q, d), (n, q, self.config.d_mlp), (n, q, d))


def drop(x: Tensor, mask: Tensor | None) -> Tensor:
    """Apply a dropout mask, whose elements are 0 or 1 / (1 - rate)."""
    return x if mask is None else x * mask
