"""Random small models and random training loops, each made from one integer; for tests/test_random_models.py."""

import copy
import random
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

N, T, D, K = 12, 4, 8, 3  # inputs, positions, width, classes

MODULES: tuple[Callable[[], nn.Module], ...] = (
    *(nn.ReLU, nn.GELU, nn.Tanh, nn.SiLU, nn.ELU, nn.Softplus, nn.Hardtanh, nn.LeakyReLU, nn.Hardshrink, nn.Softshrink),
    *(nn.PReLU, nn.Mish, nn.Sigmoid, nn.ReLU6),
)
FUNCTIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    *(F.relu, F.gelu, torch.tanh, F.silu, torch.sigmoid, F.leaky_relu, F.softplus, torch.abs),
    *(lambda x: x.clamp(min=0), lambda x: torch.maximum(x, torch.zeros_like(x)), lambda x: x * (x > 0)),
    *(lambda x: torch.where(x > 0, x, 0.1 * x), lambda x: F.threshold(x, 0.0, 0.0), Tensor.relu),
)


class Function(nn.Module):
    """Calls a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Residual(nn.Module):
    """Adds the input, in place or not."""

    def __init__(self, inner: nn.Module, in_place: bool) -> None:
        super().__init__()
        self.inner, self.in_place = inner, in_place

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x)
        return h.add_(x) if self.in_place else h + x


class Repeated(nn.Module):
    """Calls one block several times."""

    def __init__(self, block: nn.Module, times: int) -> None:
        super().__init__()
        self.block, self.times = block, times

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.times):
            x = self.block(x)
        return x


class Branches(nn.Module):
    """Concatenates or adds two branches, which may be one module."""

    def __init__(self, one: nn.Module, other: nn.Module, concatenate: bool) -> None:
        super().__init__()
        self.branches = nn.ModuleDict({"one": one, "other": other})
        self.join = nn.Linear(2 * D, D) if concatenate else None

    def forward(self, x: Tensor) -> Tensor:
        one, other = self.branches["one"](x), self.branches["other"](x.flip(-1))
        return one + other if self.join is None else self.join(torch.cat([one, other], -1))


class Gated(nn.Module):
    """Multiplies by a gate."""

    def __init__(self, glu: bool) -> None:
        super().__init__()
        self.up, self.glu = nn.Linear(D, 2 * D), glu

    def forward(self, x: Tensor) -> Tensor:
        if self.glu:
            return F.glu(self.up(x), -1)
        h, gate = self.up(x).chunk(2, -1)
        return h * torch.sigmoid(gate)


class Experts(nn.Module):
    """Sends each row to one of the experts."""

    def __init__(self, experts: list[nn.Module]) -> None:
        super().__init__()
        self.router, self.experts = nn.Linear(D, len(experts)), nn.ModuleList(experts)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.reshape(-1, D)
        chosen = self.router(flat).argmax(-1)
        result = torch.zeros_like(flat)
        for k, expert in enumerate(self.experts):
            rows = (chosen == k).nonzero().flatten()
            if len(rows):
                result = result.index_add(0, rows, expert(flat[rows]).to(flat.dtype))
        return result.view_as(x)


class Attention(nn.Module):
    """Attention over positions, as a module or by a function."""

    def __init__(self, by_module: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(D, 2, batch_first=True) if by_module else None
        self.qkv = nn.Linear(D, 3 * D)

    def forward(self, x: Tensor) -> Tensor:
        if self.attention is not None:
            return self.attention(x, x, x, need_weights=False)[0]
        return F.scaled_dot_product_attention(*self.qkv(x).chunk(3, -1), is_causal=True)


class Recurrent(nn.Module):
    """A recurrent layer, or a loop over a cell, which returns its last state too."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.cell = nn.GRUCell(D, D) if kind == "cell" else None
        self.layer = nn.LSTM(D, D, batch_first=True) if kind == "lstm" else nn.GRU(D, D, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        if self.cell is None:
            return self.layer(x)
        states = [x[:, 0]]
        for position in range(x.shape[1]):
            states.append(self.cell(x[:, position], states[-1]))
        return torch.stack(states[1:], 1), states[-1]


class First(nn.Module):
    """Returns the first output of a module that returns several."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)[0]


class InType(nn.Module):
    """Computes in another type of numbers."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear, self.dtype = nn.Linear(D, D).to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.linear(x.to(self.linear.weight.dtype))).to(x.dtype)


class Bare(nn.Module):
    """Uses its parameters with no inner module."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix, self.shift = nn.Parameter(torch.randn(D, D) / D**0.5), nn.Parameter(torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x @ self.matrix + self.shift)


class Writes(nn.Module):
    """Writes to itself in each forward pass: a counter, a cache, an average, or its weight when the mode changes."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.linear, self.what, self.calls, self.cache, self.halved = nn.Linear(D, D), what, 0, [], False
        self.register_buffer("average", torch.zeros(D))

    def forward(self, x: Tensor) -> Tensor:
        if self.what == "counter":
            self.calls += 1
        elif self.what == "cache":
            self.cache = [*self.cache[-1:], x.detach()]
        elif self.what == "average":
            self.average.lerp_(x.detach().reshape(-1, D).mean(0).to(self.average), 0.1)
        elif self.what == "weight" and self.halved == self.training:
            with torch.no_grad():
                self.linear.weight.mul_(2.0 if self.training else 0.5)
            self.halved = not self.halved
        elif self.what == "data" and not self.training:
            self.linear.weight.data.mul_(0.5)
        return self.linear(x)


class Checkpointed(nn.Module):
    """Recomputes its inner module in the backward pass."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return checkpoint(self.inner, x, use_reentrant=False) if x.requires_grad else self.inner(x)


class Step(torch.autograd.Function):
    """A function with a gradient of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


class Output(NamedTuple):
    """An output with two fields."""

    hidden: Tensor
    logits: Tensor


class Net(nn.Module):
    """Embeds the input, applies the blocks, pools the positions, and returns logits in one of several forms."""

    def __init__(self, kind: str, blocks: list[nn.Module], pool: str, form: str) -> None:
        super().__init__()
        make = {"tokens": lambda: nn.Embedding(5, D), "image": lambda: nn.Conv2d(2, D, 3, padding=1)}
        self.stem = make.get(kind, lambda: nn.Linear(D, D))()
        self.blocks, self.head = nn.ModuleList(blocks), nn.Linear(D, K)
        self.kind, self.pool, self.form = kind, pool, form

    def forward(self, x: Tensor) -> Any:
        h = self.stem(x)
        if self.kind == "image":
            h = h.flatten(2).mT  # (n, positions, D)
        for block in self.blocks:
            h = block(h)
        pooled = h if h.ndim == 2 else h[:, -1] if self.pool == "last" else h.mean(1)
        logits = self.head(pooled)
        forms = {
            "tuple": (logits, pooled),
            "dict": {"hidden": pooled, "logits": logits},
            "named": Output(pooled, logits),
        }
        return forms.get(self.form, logits)


@dataclass
class Drawn:
    """A random model with its data and its loop.

    ``exact`` is whether its evaluation mode is repeatable float32, and each row of the input belongs to one row of each
    layer.
    """

    model: Net
    inputs: Tensor
    targets: Tensor
    description: str
    exact: bool
    loop: "Loop"


@dataclass(frozen=True)
class Loop:
    """How to train."""

    optimizer: str
    accumulate: int
    clip: str
    scheduler: bool
    autocast: bool
    average: bool
    evaluates: bool
    counted: bool


def draw(seed: int) -> Drawn:
    """Return the model, the data and the loop of a seed."""
    chance = random.Random(seed)
    torch.manual_seed(seed)
    kind = chance.choice(["vector", "sequence", "tokens", "image"])
    names: list[str] = []
    blocks = [_block(chance, kind, names, depth=0) for _ in range(chance.randint(1, 4))]
    pool, form = chance.choice(["last", "mean"]), chance.choice(["tensor", "tensor", "tuple", "dict", "named"])
    model = Net(kind, blocks, pool, form)
    inputs = {
        "vector": lambda: torch.randn(N, D),
        "sequence": lambda: torch.randn(N, T, D),
        "tokens": lambda: torch.randint(5, (N, T)),
        "image": lambda: torch.randn(N, 2, 3, 3),
    }[kind]()
    loop = Loop(
        chance.choice(["SGD", "momentum", "Adam", "AdamW", "RMSprop", "NAdam"]),
        chance.choice([1, 1, 2]),
        chance.choice(["", "norm", "value"]),
        *(chance.random() < share for share in (0.3, 0.2, 0.2, 0.3, 0.8)),
    )
    exact = not {"experts", "noise", "bfloat16", "data"} & set(names)
    text = f"seed {seed}: {kind}, {' '.join(names)}, {pool}, {form}; {loop}"
    return Drawn(model, inputs, torch.randint(K, (N,)), text, exact, loop)


def _activation(chance: random.Random, names: list[str]) -> nn.Module:
    if chance.random() < 0.5:
        made = chance.choice(MODULES)()
        if hasattr(made, "inplace") and chance.random() < 0.5:
            made.inplace = True
        names.append(type(made).__name__)
        return made
    function = chance.choice(FUNCTIONS)
    names.append(getattr(function, "__name__", "function"))
    return Function(function)


def _linear(chance: random.Random, names: list[str]) -> nn.Module:
    linear = nn.Linear(D, D)
    form = chance.choice(["", "", "weight_norm", "spectral_norm", "old_weight_norm"])
    if form == "old_weight_norm":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            linear = nn.utils.weight_norm(linear)
    elif form:
        linear = getattr(parametrizations, form)(linear)
    names.append(form or "linear")
    return linear


def _block(chance: random.Random, kind: str, names: list[str], depth: int) -> nn.Module:
    plain = ["mlp", "mlp", "norm", "dropout", "gated", "experts", "bare", "writes", "type", "step", "noise", "conv"]
    outer = ["residual", "residual", "repeated", "branches", "checkpointed", "sequential"]
    positions = ["attention", "attention", "recurrent"]
    choices = [*plain, *([] if depth > 1 else outer), *([] if kind == "vector" else positions)]
    name = chance.choice(choices)
    names.append(name)

    def inner() -> nn.Module:
        return _block(chance, kind, names, depth + 1)

    def mlp() -> nn.Module:
        return nn.Sequential(_linear(chance, names), _activation(chance, names), nn.Linear(D, D))

    def writes() -> nn.Module:
        what = chance.choice(["counter", "cache", "average", "weight", "data"])
        names.append(what)
        return Writes(what)

    def in_type() -> nn.Module:
        dtype = chance.choice([torch.float64, torch.bfloat16])
        names.append(str(dtype).removeprefix("torch."))
        return InType(dtype)

    def branches() -> nn.Module:
        one = inner()
        return Branches(one, one if chance.random() < 0.4 else inner(), chance.random() < 0.5)

    makers: dict[str, Callable[[], nn.Module]] = {
        "mlp": mlp,
        "norm": lambda: nn.LayerNorm(D) if kind != "vector" or chance.random() < 0.5 else nn.BatchNorm1d(D),
        "dropout": lambda: nn.Dropout(0.2),
        "gated": lambda: Gated(chance.random() < 0.5),
        "experts": lambda: Experts([mlp() for _ in range(chance.randint(2, 3))]),
        "bare": Bare,
        "writes": writes,
        "type": in_type,
        "step": lambda: Function(Step.apply),
        "noise": lambda: Function(lambda x: x + 0.1 * torch.randn_like(x)),
        "conv": lambda: nn.Sequential(nn.Linear(D, D), nn.ReLU(inplace=True)),
        "residual": lambda: Residual(nn.Sequential(nn.LayerNorm(D), inner(), nn.Linear(D, D)), chance.random() < 0.5),
        "repeated": lambda: Repeated(inner(), chance.randint(2, 3)),
        "branches": branches,
        "checkpointed": lambda: Checkpointed(inner()),
        "sequential": lambda: nn.Sequential(inner(), nn.Linear(D, D), inner()),
        "attention": lambda: Attention(chance.random() < 0.5),
        "recurrent": lambda: First(Recurrent(chance.choice(["gru", "lstm", "cell"]))),
    }
    return makers[name]()


# -- the loop --------------------------------------------------------------------------------------------------------


def optimizer_of(drawn: Drawn) -> torch.optim.Optimizer:
    """Return the optimizer of the loop."""
    parameters = drawn.model.parameters()
    if drawn.loop.optimizer in ("SGD", "momentum"):
        return torch.optim.SGD(parameters, lr=1e-2, momentum=0.9 if drawn.loop.optimizer == "momentum" else 0)
    return getattr(torch.optim, drawn.loop.optimizer)(parameters, lr=1e-3)


def logits_of(output: Any) -> Tensor:
    """Return the logits in an output of :class:`Net`."""
    if isinstance(output, Tensor):
        return output
    return output["logits"] if isinstance(output, dict) else output.logits if isinstance(output, Output) else output[0]


def train(drawn: Drawn, optimizer: torch.optim.Optimizer, after_step: Callable[[int], object], steps: int = 3) -> None:
    """Train for a few updates."""
    model, loop = drawn.model, drawn.loop
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9) if loop.scheduler else None
    average = AveragedModel(model) if loop.average and _can_be_copied(model) else None
    for step in range(1, steps + 1):
        model.train()
        optimizer.zero_grad(set_to_none=bool(step % 2))
        for _ in range(loop.accumulate):
            chosen = torch.randint(N, (6,))
            with torch.autocast("cpu", torch.bfloat16, enabled=loop.autocast):
                loss = F.cross_entropy(logits_of(model(drawn.inputs[chosen])).float(), drawn.targets[chosen])
            loss.backward()
        if loop.clip == "norm":
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        elif loop.clip:
            nn.utils.clip_grad_value_(model.parameters(), 0.1)
        optimizer.step()
        if scheduler:
            scheduler.step()
        if average:
            average.update_parameters(model)
        if loop.evaluates:
            model.eval()
            with torch.no_grad():
                model(drawn.inputs)
        after_step(step)


def _can_be_copied(model: nn.Module) -> bool:
    try:
        copy.deepcopy(model)
    except RuntimeError:
        return False
    return True
