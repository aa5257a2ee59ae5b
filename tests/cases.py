"""Small models of many kinds, with random weights, for tests/test_models.py and the table of docs/compatibility.md.

A case makes its model and data from the global random state. Each row of the data is a sample.
"""

import re
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
import xarray as xr
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PerformanceProbe, ProbeSet, every
from probe.errors import ProbeWarning
from probe.forward.data import Shared
from probe.testing import state_of

N, CLASSES = 24, 3
Data = tuple[Any, Tensor]


@dataclass(frozen=True)
class Case:
    """One kind of model.

    ``make()`` returns the model and (inputs, targets). ``logits(output)`` returns the logits for the training loss.
    ``trains`` is False for a model that cannot be trained.
    """

    name: str
    make: Callable[[], tuple[nn.Module, Data]]
    logits: Callable[[Any], Tensor] = lambda output: output
    trains: bool = True
    needs: str = ""  # name of a required package
    options: Mapping[str, Any] = field(default_factory=dict)  # of attach
    slow: bool = False

    def loss(self, model: nn.Module, inputs: Any, targets: Tensor) -> Tensor:
        """Return the loss of one batch of the training."""
        logits = self.logits(call_model(model, inputs)).float()
        if shift := self.options.get("targets_shift"):
            logits, targets = logits[:, :-shift], targets[:, shift:]
        if targets.is_floating_point():
            return F.mse_loss(logits, targets.float())
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), ignore_index=-100)


def call_model(model: nn.Module, inputs: Any) -> Any:
    inputs = each(inputs, lambda value: value.value if isinstance(value, Shared) else value)
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def rows(inputs: Any, chosen: Any) -> Any:
    """Return the chosen samples of inputs of any kind."""
    return each(inputs, lambda value: value if isinstance(value, Shared) else value[chosen])


def each(inputs: Any, function: Callable[[Any], Any]) -> Any:
    """Return inputs of any kind with each part replaced by the function."""
    if isinstance(inputs, Mapping):
        return {key: function(value) for key, value in inputs.items()}
    return tuple(map(function, inputs)) if isinstance(inputs, tuple) else function(inputs)


def splits(data: Data) -> dict[str, Data]:
    inputs, targets = data
    train, test = slice(0, 16), slice(16, N)
    return {"train": (rows(inputs, train), targets[train]), "test": (rows(inputs, test), targets[test])}


# -- data --------------------------------------------------------------------------------------------------------------


def vectors() -> Data:
    x = torch.randn(N, 6)
    return x, (x[:, 0] > 0).long() + (x[:, 1] > 0).long()


def images() -> Data:
    x = torch.randn(N, 2, 8, 8)
    return x, torch.arange(N) % CLASSES


def sequences() -> Data:
    return torch.randn(N, 5, 6), torch.arange(N) % CLASSES


def tokens() -> Data:
    return torch.randint(1, 11, (N, 5)), torch.arange(N) % CLASSES


def padding() -> Tensor:
    """Return the padding mask (N, 5), True at the last two positions of every second sequence."""
    mask = torch.zeros(N, 5, dtype=torch.bool)
    mask[::2, 3:] = True
    return mask


# -- models ------------------------------------------------------------------------------------------------------------


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, CLASSES))


def cnn() -> nn.Sequential:
    first = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
    return nn.Sequential(*first, nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(24, CLASSES))


class BasicBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x))))))


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 6, 3, padding=1)
        self.layers = nn.Sequential(BasicBlock(6), BasicBlock(6))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(F.relu(self.stem(x))).mean((2, 3)))


class Recurrent(nn.Module):
    """An LSTM or a GRU, whose output is a nested tuple."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.rnn, self.head = kind(6, 8, num_layers=2, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(6, 2, dropout=0.1, batch_first=True), nn.LayerNorm(6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x + self.attention(x, x, x, need_weights=False)[0])[:, -1])


class Encoder(nn.Module):
    """Classification of sequences with padding. The mask is a second input."""

    def __init__(self, nested: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.head(self.encoder(self.embed(x), src_key_padding_mask=mask)[:, 0])


class Translator(nn.Module):
    """Model of source and target sequences that returns a class for each position of the target."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        self.transformer = nn.Transformer(8, 2, 2, 2, 16, batch_first=True)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.head(self.transformer(self.embed(source), self.embed(target)))


@dataclass
class Answer:
    """A dataclass with optional fields, as the outputs of some libraries."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    hidden: tuple[Tensor, ...] = ()


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """A mapping whose keys are attributes too, as the outputs of Hugging Face models."""

    __getattr__ = OrderedDict.__getitem__


class Named(NamedTuple):
    logits: Tensor
    hidden: Tensor


class Language(nn.Module):
    """A causal language model in the style of Hugging Face: keyword inputs, a mapping as output, tied weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 8)
        layers = [nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, activation="gelu") for _ in range(2)]
        self.blocks = nn.ModuleList(layers)
        self.head = nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Any:
        x = self.embed(input_ids)
        causal = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        padded = None if attention_mask is None else attention_mask == 0
        for block in self.blocks:
            x = block(x, src_mask=causal, src_key_padding_mask=padded)
        return ModelOutput(logits=self.head(x), last_hidden_state=x)


class Down(nn.Module):
    def __init__(self, old: int, new: int) -> None:
        super().__init__()
        self.conv, self.norm, self.time = nn.Conv2d(old, new, 3, padding=1), nn.GroupNorm(2, new), nn.Linear(4, new)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)) + self.time(t)[:, :, None, None])


class UNet(nn.Module):
    """Diffusion model with an image and a time as inputs, an image as output, and skip connections."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Linear(1, 4)
        self.down, self.middle, self.up = Down(2, 4), Down(4, 4), Down(8, 4)
        self.out = nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = torch.sin(self.time(t[:, None]))
        skip = self.down(x, t)
        low = self.middle(F.avg_pool2d(skip, 2), t)
        return self.out(self.up(torch.cat([skip, F.interpolate(low, scale_factor=2)], 1), t))


class Twice(nn.Module):
    """Model that calls one layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again, self.head = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.first(x))
        return self.head(torch.tanh(self.again(torch.tanh(self.again(x)))))


class Dynamic(nn.Module):
    """Model whose control flow depends on the numbers. Only some batches run the extra layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.extra, self.head = nn.Linear(6, 12), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.first(x))
        if x.sum() > 0:
            h = F.relu(self.extra(h))
        for _ in range(int(x[0, 0] > 0) + 1):
            h = h + 0.1 * torch.tanh(h)
        return self.head(h)


class Wrapped(nn.Module):
    """Model that returns more than a tensor, as its inner layer does."""

    class Inside(nn.Module):
        def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
            super().__init__()
            self.linear, self.wrap = nn.Linear(6, 12), wrap

        def forward(self, x: Tensor) -> Any:
            h = F.relu(self.linear(x))
            return self.wrap(h, x)

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any], first: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.inside, self.head, self.wrap, self.first = Wrapped.Inside(wrap), nn.Linear(12, CLASSES), wrap, first

    def forward(self, x: Tensor) -> Any:
        h = self.first(self.inside(x))
        return self.wrap(self.head(h), h)


class Complex(nn.Module):
    """Model with complex numbers in its hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 12, dtype=torch.complex64), nn.Linear(12, 12, dtype=torch.complex64)
        self.head = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.second(torch.tanh(self.first(x))).abs()))


class Two(nn.Module):
    """Model with two inputs of different kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.first, self.head = nn.Embedding(5, 6), nn.Linear(12, 12), nn.Linear(12, CLASSES)

    def forward(self, x: Tensor, kind: Tensor) -> Tensor:
        return self.head(F.gelu(self.first(torch.cat([x, self.table(kind)], 1))))


class Loss(nn.Module):
    """Model that receives the targets and returns its loss."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()

    def forward(self, x: Tensor, labels: Tensor) -> Any:
        logits = self.body(x)
        return Answer(F.cross_entropy(logits, labels), logits)


class Counting(nn.Module):
    """Model that changes its own attributes at each call, also in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp()
        self.register_buffer("seen", torch.zeros(()))
        self.calls, self.log = 0, []  # type: ignore[var-annotated]

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen += len(x)
        self.log.append(len(x))
        self.last = self.body(x)
        return self.last


class Stateful(nn.Module):
    """An LSTM that carries its state from one batch to the next, as in truncated backpropagation."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(6, 8, batch_first=True), nn.Linear(8, CLASSES)
        self.state: Any = None

    def forward(self, x: Tensor) -> Tensor:
        if self.state is not None and self.state[0].shape[1] != len(x):
            self.state = None
        h, state = self.rnn(x, self.state)
        self.state = tuple(part.detach() for part in state)
        return self.head(h[:, -1])


def with_parametrisations() -> nn.Sequential:
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(6, 12)),
        nn.Tanh(),
        parametrizations.spectral_norm(nn.Linear(12, 12)),
        nn.Tanh(),
        parametrizations.orthogonal(nn.Linear(12, 12)),
        nn.Tanh(),
        nn.Linear(12, CLASSES),
    )


def with_old_parametrisations() -> nn.Sequential:
    """Return a model with a parametrisation that is a hook."""
    return nn.Sequential(
        nn.Linear(6, 12), nn.Tanh(), nn.utils.spectral_norm(nn.Linear(12, 12)), nn.Tanh(), nn.Linear(12, 3)
    )


def quantised() -> nn.Module:
    from torch.ao.quantization import quantize_dynamic

    return quantize_dynamic(mlp(), {nn.Linear}, dtype=torch.qint8)


def frozen_base() -> nn.Module:
    """Return a model with frozen layers, whose batch norm stays in evaluation mode."""
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, CLASSES))
    for part in (model[0], model[1]):
        part.requires_grad_(False)
    model[1].eval()
    return model


# -- the cases ---------------------------------------------------------------------------------------------------------


def plain(make: Callable[[], nn.Module], data: Callable[[], Data]) -> Callable[[], tuple[nn.Module, Data]]:
    return lambda: (make(), data())


def in_type(dtype: torch.dtype) -> Callable[[], tuple[nn.Module, Data]]:
    def make() -> tuple[nn.Module, Data]:
        x, y = vectors()
        return mlp().to(dtype), (x.to(dtype), y)

    return make


def padded(nested: bool) -> Callable[[], tuple[nn.Module, Data]]:
    def make() -> tuple[nn.Module, Data]:
        x, y = tokens()
        return Encoder(nested), ((x, padding()), y)

    return make


def translation() -> tuple[nn.Module, Data]:
    source, target = tokens()[0], tokens()[0]
    labels = target[:, :4] % CLASSES
    labels[padding()[:, 1:]] = -100  # no target at padded positions
    return Translator(), ((source, target[:, :4]), labels)


def language() -> tuple[nn.Module, Data]:
    x, present = tokens()[0], (~padding()).long()
    labels = torch.where(present == 1, x.roll(-1, 1), -100)
    return Language(), ({"input_ids": x, "attention_mask": present}, labels)


def diffusion() -> tuple[nn.Module, Data]:
    x, _ = images()
    return UNet(), ((x, torch.rand(N)), torch.randn(N, 2, 8, 8))


def complex_numbers() -> tuple[nn.Module, Data]:
    x, y = vectors()
    return Complex(), (torch.complex(x, x.roll(1, 1)), y)


def two_inputs() -> tuple[nn.Module, Data]:
    x, y = vectors()
    return Two(), ((x, torch.arange(N) % 5), y)


def own_loss() -> tuple[nn.Module, Data]:
    x, y = vectors()
    return Loss(), ((x, y), y)


CASES = [
    Case("multilayer perceptron", plain(mlp, vectors)),
    Case("convolutional network with batch norm", plain(cnn, images)),
    Case("residual network", plain(ResNet, images)),
    Case("LSTM", plain(lambda: Recurrent(nn.LSTM), sequences)),
    Case("GRU", plain(lambda: Recurrent(nn.GRU), sequences)),
    Case("recurrent state carried across batches", plain(Stateful, sequences)),
    Case("nn.MultiheadAttention", plain(Attention, sequences)),
    Case("nn.TransformerEncoder", plain(lambda: Encoder(False), tokens)),
    Case("nn.TransformerEncoder, padding mask", padded(False)),
    Case("nn.TransformerEncoder, padding mask, nested tensors", padded(True)),
    Case("nn.Transformer, two inputs, token targets with -100", translation),
    Case("language model, keywords in, mapping out, tied weights, -100", language, lambda output: output["logits"]),
    Case("U-Net with a time, image targets", diffusion),
    Case("a layer called twice", plain(Twice, vectors)),
    Case("dynamic control flow", plain(Dynamic, vectors)),
    Case("returns a tuple", plain(lambda: Wrapped(lambda a, b: (a, b), lambda o: o[0]), vectors), lambda o: o[0]),
    Case("returns a list", plain(lambda: Wrapped(lambda a, b: [a, [b]], lambda o: o[0]), vectors), lambda o: o[0]),
    Case(
        "returns a mapping",
        plain(lambda: Wrapped(lambda a, b: {"x": b, "logits": a}, lambda o: o["logits"]), vectors),
        lambda o: o["logits"],
    ),
    Case(
        "returns a dataclass",
        plain(lambda: Wrapped(lambda a, b: Answer(None, a, (b,)), lambda o: o.logits), vectors),
        lambda o: o.logits,
    ),
    Case("returns a named tuple", plain(lambda: Wrapped(Named, lambda o: o.logits), vectors), lambda o: o.logits),
    Case("returns its loss beside its logits", own_loss, lambda output: output.logits),
    Case("complex numbers", complex_numbers),
    Case("several inputs", two_inputs),
    Case("bfloat16", in_type(torch.bfloat16)),
    Case("float16", in_type(torch.float16)),
    Case("float64", in_type(torch.float64)),
    Case("quantised (torch.ao, dynamic), not trained", plain(quantised, vectors), trains=False),
    Case("weight_norm, spectral_norm, orthogonal", plain(with_parametrisations, vectors)),
    Case("spectral_norm as a hook", plain(with_old_parametrisations, vectors)),
    Case("frozen parts", plain(frozen_base, vectors)),
    Case("counts its own forward passes", plain(Counting, vectors)),
]


# -- running the cases -------------------------------------------------------------------------------------------------

MAIN = {
    "train_loss": PerformanceProbe,
    "information_x": MutualInfoProbe,
    "local_complexity": LocalComplexityProbe,
    "linear_mapping_number": LMNProbe,
}
UPDATES = 3


@dataclass
class Outcome:
    """Result of a case: a word for each probe, the messages, and the final state of the training."""

    words: list[str]
    remarks: list[str]
    state: dict[str, Any]
    series: xr.Dataset | None = None


def trained(case: Case, probes: ProbeSet | None) -> tuple[dict[str, Any], xr.Dataset | None]:
    """Return the state after a few updates from a fixed seed, and the series."""
    torch.manual_seed(1)
    model, data = case.make()
    x, y = splits(data)["train"]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9) if case.trains else None
    if probes:
        probes.attach(model, splits(data), optimizer=optimizer, schedule=every(2), on_error="raise", **case.options)
    for step in range(UPDATES):
        if optimizer is None:
            probes and probes.observe(step)
            continue
        chosen = torch.randint(len(y), (8,))
        optimizer.zero_grad()
        case.loss(model, rows(x, chosen), y[chosen]).backward()
        optimizer.step()
    found = probes.detach().series_ if probes else None
    return state_of(model, optimizer), found


def tried(case: Case) -> Outcome:
    """Train with all probes. If some of them raise an error, train with the others."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        refused: dict[str, str] = {}
        try:
            state, found = trained(case, ProbeSet([cls() for cls in MAIN.values()]))
        except (ValueError, TypeError):
            refused = refusals(case)
            caught.clear()
            state, found = trained(case, ProbeSet([cls() for name, cls in MAIN.items() if name not in refused]))
    assert found is not None
    words = ["no" if name in refused else word_of(found[name]) for name in MAIN]
    messages = [
        str(warning.message) for warning in caught if issubclass(warning.category, (ProbeWarning, RuntimeWarning))
    ]
    texts = map(shortened, [*refused.values(), *messages])
    remarks = {re.sub(r"\d+|split `\w+`", "", text): text for text in texts}  # one for all splits
    return Outcome(words, list(remarks.values()), state, found)


def refusals(case: Case) -> dict[str, str]:
    """Return the error messages of the probes that cannot measure this model."""
    found = {}
    for name, cls in MAIN.items():
        torch.manual_seed(1)
        model, data = case.make()
        try:
            cls().fit(model, splits(data), **case.options)
        except (ValueError, TypeError) as error:
            found[name] = str(error)
    return found


def word_of(values: xr.DataArray) -> str:
    for dim in {"layer", "split"} & set(values.dims):  # labels of other probes
        values = values.dropna(dim, how="all")
    return "yes" if values.notnull().all() else "partly" if values.notnull().any() else "no"


def shortened(message: str) -> str:
    """Return the first part of a message, with names as code."""
    message = re.sub(r"^Expected the probes to measure two inputs .*?, got \w+: ", "", message)
    text = re.split(r"; | \((?!\d)|: | in \d", message)[0].strip()
    text = re.sub(r"(writes to) ([^,]+)(, .+)?", lambda m: f"{m[1]} '{m[2]}'" + " and others" * bool(m[3]), text)
    return re.sub(r"'([^']+)'", r"`\1`", text)


def row(case: Case, outcome: Outcome) -> str:
    """Return the row of a case in docs/compatibility.md."""
    remarks = " ".join(f"{remark}." for remark in outcome.remarks)
    return f"| {' | '.join([case.name, *outcome.words, remarks])} |"
