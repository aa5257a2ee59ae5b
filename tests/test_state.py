"""What a forward pass or a probe writes to a model is restored: numbers, objects, hooks, submodules, attributes."""

import contextlib
import random
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from cases import Counting, Stateful, sequences, splits, vectors
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from probe import ActivationsProbe, Measured, PerformanceProbe, Probe, ProbeSet, Snapshot, every
from probe.errors import ModelChangedError, ProbeWarning
from probe.forward import isolated
from probe.testing import state_of

X, Y = torch.linspace(-2, 2, 72).reshape(12, 6), torch.tensor([0, 1, 2] * 4)
DATA = {"train": (X, Y)}


class Cache:
    """An object of the model's own code."""

    def __init__(self) -> None:
        self.items: list[Any] = [torch.zeros(2)]


class Scribbler(nn.Module):
    """Model with state of many kinds, to which a test writes."""

    shared_by_class: ClassVar[dict[str, int]] = {"calls": 0}
    number_of_class = 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))
        self.linear = nn.Linear(3, 3)
        self.tied = nn.Linear(3, 3)
        self.tied.weight = self.linear.weight
        self.number, self.kept, self.table = 1.5, [1, [2]], {"a": 1}
        self.queue, self.tally, self.names = deque([1], maxlen=3), Counter("ab"), {"x"}
        self.order, self.last, self.state = OrderedDict(a=1), torch.zeros(2), (torch.zeros(1), None)
        self.nested = {"layer": [torch.zeros(2), {"deep": [1]}]}
        self.cache, self.hidden = Cache(), [nn.Linear(2, 2)]
        self.array = np.zeros(3)
        self.generators = [torch.Generator(), random.Random(0), np.random.default_rng(0)]


def silent(*_: Any) -> None: ...


def set_item(container: Any, key: Any, value: Any) -> None:
    container[key] = value


WRITES: dict[str, Callable[[Scribbler], object]] = {
    "buffer in place": lambda m: m.count.add_(1),
    "buffer exchanged": lambda m: setattr(m, "count", m.count + 1),
    "buffer of another shape": lambda m: setattr(m, "count", torch.ones(5)),
    "new buffer that is not persistent": lambda m: m.register_buffer("more", torch.ones(1), persistent=False),
    "number": lambda m: setattr(m, "number", m.number + 1),
    "list": lambda m: m.kept.append(3),
    "item of a list": lambda m: set_item(m.kept, 0, 7),
    "mapping": lambda m: m.table.update(b=2),
    "queue": lambda m: m.queue.extend([2, 3, 4]),
    "counter": lambda m: m.tally.update("a"),
    "set": lambda m: m.names.add("y"),
    "order": lambda m: m.order.move_to_end("a") or m.order.update(b=1),
    "tensor in place": lambda m: m.last.fill_(torch.nan),
    "tensor exchanged": lambda m: setattr(m, "last", torch.ones(2)),
    "tensor in a tuple": lambda m: m.state[0].add_(1),
    "tuple": lambda m: setattr(m, "state", (torch.ones(1), None)),
    "new": lambda m: setattr(m, "fresh", torch.ones(1)),
    "in a part": lambda m: setattr(m.linear, "fresh", [1]),
    "deleted": lambda m: delattr(m, "number"),
    "tensor in nested containers": lambda m: m.nested["layer"][0].add_(1),
    "item in nested containers": lambda m: m.nested["layer"][1]["deep"].append(2),
    "item of an object": lambda m: m.cache.items.append(torch.ones(1)),
    "tensor of an object": lambda m: m.cache.items[0].add_(1),
    "array": lambda m: set_item(m.array, 0, 1.0),
    "generator of torch": lambda m: torch.rand(1, generator=m.generators[0]),
    "generator of Python": lambda m: m.generators[1].random(),
    "generator of numpy": lambda m: m.generators[2].random(),
    "parameter in place": lambda m: m.linear.weight.mul_(2),
    "parameter behind autograd": lambda m: m.linear.weight.data.mul_(2),
    "parameter in other memory": lambda m: setattr(m.linear.weight, "data", m.linear.weight.data + 1),
    "parameter exchanged": lambda m: setattr(m.linear, "bias", nn.Parameter(torch.ones(3))),
    "parameter removed": lambda m: setattr(m.linear, "bias", None),
    "parameter added": lambda m: m.register_parameter("more", nn.Parameter(torch.ones(1))),
    "parameter tied to another": lambda m: setattr(m.tied, "bias", m.linear.bias),
    "tied parameter in place": lambda m: m.tied.weight.add_(1),
    "frozen": lambda m: m.linear.weight.requires_grad_(False),
    "gradient": lambda m: setattr(m.linear.weight, "grad", torch.ones(3, 3)),
    "hook on a parameter": lambda m: m.linear.weight.register_hook(silent),
    "hook on a gradient": lambda m: m.linear.weight.register_post_accumulate_grad_hook(silent),
    "forward hook": lambda m: m.linear.register_forward_hook(silent),
    "forward hook with all": lambda m: m.linear.register_forward_hook(silent, with_kwargs=True, always_call=True),
    "forward hook before others": lambda m: m.register_forward_hook(silent, prepend=True),
    "forward pre-hook": lambda m: m.linear.register_forward_pre_hook(silent, with_kwargs=True),
    "backward hook": lambda m: m.linear.register_full_backward_hook(silent),
    "state-dict hook": lambda m: m.register_state_dict_post_hook(silent),
    "hook removed": lambda m: m._forward_hooks.clear(),
    "submodule added": lambda m: m.add_module("lazy", nn.Linear(2, 2)),
    "submodule exchanged": lambda m: setattr(m, "linear", nn.Linear(3, 3)),
    "submodule removed": lambda m: delattr(m, "linear"),
    "module in a list": lambda m: m.hidden[0].weight.data.mul_(2),
    "class": lambda m: setattr(m.linear, "__class__", nn.Identity),
    "parametrisation": lambda m: parametrizations.weight_norm(m.linear),
    "attribute of the class": lambda m: setattr(type(m), "number_of_class", type(m).number_of_class + 1),
    "new attribute of the class": lambda m: setattr(type(m), "fresh_of_class", 1),
    "container of the class": lambda m: m.shared_by_class.update(calls=1),
}


def snapshot_of(model: Scribbler) -> dict[str, Any]:
    """Return all objects and numbers that a write can change, in a form that can be compared."""
    tensors = [
        model.last,
        model.state[0],
        model.nested["layer"][0],
        model.cache.items[0],
        *model.hidden[0].parameters(),
    ]
    parameters = [model.linear.weight, model.linear.bias, model.tied.bias]
    return {
        **state_of(model, None),
        "class": {key: repr(value) for key, value in vars(type(model)).items() if not key.startswith("__")},
        "objects": {name: list(map(id, vars(module).values())) for name, module in model.named_modules()},
        "items": [list(map(id, vars(model)[name].values())) for name in ("_parameters", "_buffers", "_modules")],
        "parameters": [(id(p), p.data_ptr(), p._version, id(p.grad)) for p in parameters],
        "tensors": [(tensor.tolist(), tensor._version) for tensor in tensors],
        "array": model.array.tolist(),
        "nested": repr(model.nested),
        "generators": [
            model.generators[0].get_state().tolist(),
            model.generators[1].getstate(),
            repr(model.generators[2].bit_generator.state),
        ],
    }


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_writes_to_a_model_are_detected_and_restored(write: Callable[[Scribbler], object]) -> None:
    model = Scribbler()
    model.register_forward_hook(lambda *_: None)
    before = snapshot_of(model)
    with isolated(model) as state:
        write(model)
        state.restore()
        state.restore()  # safe to run twice
    assert snapshot_of(model) == before
    assert state.restored
    assert not state.lost
    places = {place[:2] for place in state.restored}  # as an attachment remembers them
    with contextlib.suppress(KeyError), isolated(model, places) as state:
        write(model)
        raise KeyError  # an error makes no difference
    assert snapshot_of(model) == before
    assert not state.lost


IN_PLACE = [
    "buffer in place",
    "tensor in place",
    "tensor in nested containers",
    "parameter in place",
    "tensor in a tuple",
]


@pytest.mark.parametrize("write", [WRITES[name] for name in [*IN_PLACE, "parameter in other memory"]])
def test_a_write_without_a_copy_is_noted_as_lost(write: Callable[[Scribbler], object]) -> None:
    with isolated(Scribbler(), ()) as state:
        write(model := state.structure.modules[""])  # type: ignore[arg-type]
    assert len(state.lost) == 1, model


def test_a_model_that_writes_nothing_has_no_side_effects() -> None:
    model = Scribbler()
    model.register_buffer("empty", None)
    model.last = torch.full((2,), torch.nan)
    with isolated(model) as state:
        model.number = 3.0 / 2  # an equal number
    assert not state.restored


def test_restoring_does_not_disturb_a_later_backward_pass() -> None:
    model = Counting()
    loss = (model(vectors()[0]) * model.seen).sum()
    with isolated(model):
        model.seen.add_(1)
        next(model.parameters()).mul_(2)
    loss.backward()


def test_counters_count_the_passes_of_the_training_only() -> None:
    model, data = Counting(), splits(vectors())
    with pytest.warns(ProbeWarning, match=r"got writes to calls, log, seen;"):
        probe = PerformanceProbe().attach(model, data)
    for step in range(3):
        probe.observe(step)
        model(data["train"][0])
    assert (model.calls, model.seen.item(), model.log) == (3, 48, [16, 16, 16])


def test_a_carried_state_survives_an_observation() -> None:
    model, data = Stateful(), splits(sequences())
    model(data["train"][0][:5])
    carried = model.state[0]
    with pytest.warns(ProbeWarning, match="writes to state"):
        PerformanceProbe().attach(model, data).observe(0)
    assert model.state[0] is carried


# -- trainings of models that write to themselves ---------------------------------------------------------------------


class Net(nn.Module):
    """Two layers; a subclass writes to itself in ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 12), nn.Linear(12, 3)

    def write(self) -> None: ...

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.write()
        return self.b(torch.relu(self.a(x)))


class Rescales(Net):
    """Halves a weight on entering evaluation mode, and doubles it on leaving."""

    scaled = False

    def write(self) -> None:
        if self.scaled == self.training:
            self.b.weight.mul_(2.0) if self.training else self.b.weight.div_(2.0)
            self.scaled = not self.training


class RescalesBehindAutograd(Rescales):
    def write(self) -> None:
        if self.scaled == self.training:
            self.b.weight.data = self.b.weight.data * (2.0 if self.training else 0.5)
            self.scaled = not self.training


class HalvesData(Net):
    def write(self) -> None:
        self.b.weight.data.mul_(0.9)


class Averages(Net):
    """An average of the weights, updated in forward."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(3, 12))

    def write(self) -> None:
        self.average.lerp_(self.b.weight, 0.1)


class Normalises(Net):
    """Statistics as those of batch normalisation, in both modes."""

    def __init__(self) -> None:
        super().__init__()
        self.mean: Tensor = torch.zeros(())

    def write(self) -> None:
        self.mean = self.mean * 0.9 + self.a.weight.mean()


class Ties(Net):
    """Ties a weight again at each call, to a new object."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def write(self) -> None:
        self.b._parameters["weight"] = self.a.weight


class TiesMemory(Ties):
    def write(self) -> None:
        self.b.weight.data = self.a.weight.data


class WritesTied(Ties):
    def __init__(self) -> None:
        super().__init__()
        self.b.weight = self.a.weight

    def write(self) -> None:
        self.b.weight.clamp_(-0.3, 0.3)


class Hooks(Net):
    """Installs hooks in the first call, and marks itself."""

    installed = False

    def write(self) -> None:
        if not self.installed:
            self.a.register_forward_hook(lambda module, args, output: output * 1.1)
            self.installed = True


class Lazy(Net):
    """Makes a layer in the first call, and writes to it."""

    def write(self) -> None:
        if not hasattr(self, "extra"):
            self.extra = nn.Linear(3, 3)
            self.extra.register_buffer("calls", torch.zeros(()), persistent=False)
        self.extra.calls += 1

    def forward(self, x: Tensor) -> Tensor:
        z = super().forward(x)
        return self.extra(z)


class Quantises(Net):
    """Observes ranges, as fake quantisation does."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = torch.ao.quantization.FakeQuantize.with_args(
            observer=torch.ao.quantization.MovingAverageMinMaxObserver
        )()

    def forward(self, x: Tensor) -> Tensor:
        return self.fake(super().forward(x))


class CountsInClass(Net):
    calls = 0

    def write(self) -> None:
        type(self).calls += 1
        self.b.weight.mul_(1 - 0.001 * (type(self).calls % 3))


class DrawsNoise(Net):
    """Noise from a generator of its own, in both modes."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(0)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + 0.1 * torch.rand(x.shape, generator=self.generator))


MODELS = [
    Rescales, RescalesBehindAutograd, HalvesData, Averages, Normalises, Ties, TiesMemory, WritesTied, Hooks, Lazy,
    Quantises, CountsInClass, DrawsNoise,
]  # fmt: skip


def trained(cls: type[Net], probes: Probe | None, *, evaluates: bool = False) -> dict[str, Any]:
    torch.manual_seed(0)
    if cls is CountsInClass:
        CountsInClass.calls = 0
    model = cls()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    if evaluates:  # the model is attached after an evaluation of its own
        model.eval()(X)
        model.train()
    if probes is not None:
        probes.attach(model, DATA, optimizer=optimizer, schedule=every(1), on_error="raise")
    for _ in range(4):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
        if evaluates:
            model.eval()(X)
            model.train()
    if probes is not None:
        assert probes.detach().series_.sizes["step"] == 5
    return {**state_of(model, optimizer), "calls": getattr(model, "calls", 0)}


@pytest.mark.filterwarnings("ignore")  # these models are warned of at attach
@pytest.mark.parametrize("evaluates", [False, True], ids=["trained", "trained and evaluated"])
@pytest.mark.parametrize("cls", MODELS)
def test_the_training_of_a_model_that_writes_to_itself_is_unchanged(cls: type[Net], evaluates: bool) -> None:
    without, observed = (trained(cls, probes, evaluates=evaluates) for probes in (None, ActivationsProbe()))
    assert [key for key in {**without, **observed} if without.get(key) != observed.get(key)] == []


def test_weights_cached_by_the_user_are_computed_anew_in_an_observation() -> None:
    model = nn.Sequential(parametrizations.weight_norm(nn.Linear(6, 3)))
    probe = PerformanceProbe().attach(model, DATA)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with parametrize.cached():
        probe.observe(0)
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()  # with a weight of the observation, which has no gradient, this would fail
        optimizer.step()
        probe.observe(1)
    losses = probe.series_["train_loss"].values
    assert losses[0] == pytest.approx(loss.item(), rel=1e-6)
    assert losses[1] == pytest.approx(nn.functional.cross_entropy(model(X), Y).item(), rel=1e-6)


# -- writes that attach has not seen ----------------------------------------------------------------------------------


class Later(Net):
    """Writes in some way from its 20th call on."""

    calls = 0

    def write(self) -> None:
        self.calls += 1
        if self.calls > 20:
            self.write_now()


class LaterInPlace(Later):
    def write_now(self) -> None:
        self.b.weight.mul_(0.5)


class LaterAttribute(Later):
    def write_now(self) -> None:
        self.note = self.calls


@pytest.mark.filterwarnings("ignore:Expected forward passes in evaluation mode")
def test_a_later_write_that_cannot_be_undone_stops_observing() -> None:
    model = LaterInPlace()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = ProbeSet([]).attach(model, DATA, optimizer=optimizer, schedule=every(1))
    model.calls = 20
    with pytest.raises(
        ModelChangedError, match=r"observation of step 1 .* got new numbers in b\.weight, of which no copy"
    ):
        optimizer.step()
    optimizer.step()  # the loop may go on
    with pytest.raises(ModelChangedError, match="call detach"):
        probe.observe(loss=1.0)
    assert probe.detach().series_["step"].values.tolist() == [0]
    assert not optimizer._optimizer_step_post_hooks


@pytest.mark.filterwarnings("ignore:Expected forward passes in evaluation mode")
def test_a_later_write_that_can_be_undone_is_said_once() -> None:
    model = LaterAttribute()
    probe = PerformanceProbe().attach(model, DATA).observe(0)
    model.calls = 20
    with pytest.warns(ProbeWarning, match=r"got writes to note at step 1; these values are restored"):
        probe.observe(1)
    probe.observe(2)
    assert not hasattr(model, "note")


def test_a_probe_that_writes_to_the_weights_stops_observing() -> None:
    class Writes(Probe):
        def measure(self, snapshot: Snapshot) -> dict[str, Measured]:
            next(snapshot.model.parameters()).zero_()
            return {"number": Measured(0.0)}

    probe = Writes().attach(Net(), DATA)
    with pytest.raises(ModelChangedError, match=r"got new numbers in a\.weight"):
        probe.observe(0)


def test_the_structure_of_a_model_is_used_again() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    with isolated(model, ()) as first:
        pass
    with isolated(model, (), first.structure) as second:
        model[0].bias.requires_grad_(False)
    assert second.structure is first.structure
    assert model[0].bias.requires_grad


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.add_module("new", nn.Linear(2, 2)),
        lambda model: model[0].register_forward_hook(lambda *_: None),
        lambda model: setattr(model[0], "weight", nn.Parameter(torch.ones(2, 2))),
        lambda model: setattr(model[1], "note", "new"),
        lambda model: setattr(model[1], "__class__", nn.InstanceNorm1d),
        lambda model: model.insert(0, model.pop(1)),
        lambda model: model.train(),
    ],
)
def test_the_structure_of_a_model_that_was_changed_is_taken_anew(change: Callable[[nn.Module], object]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).eval()
    with isolated(model, ()) as first:
        pass
    change(model)
    before = state_of(model, None)
    with isolated(model, (), first.structure) as second:
        model[0].note = "written"
        model.register_forward_hook(lambda *_: None)
    assert state_of(model, None) == before
    assert second.restored
    assert (second.structure is first.structure) == model.training  # training flags are no structure


def test_a_structure_with_stored_activations_is_not_kept() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].last = model(torch.ones(1, 2))  # holds the graph of a training pass
    with isolated(model, ()) as state:
        pass
    assert not state.structure.contents.lasting
    assert not state.structure.serves(())


def test_a_hook_that_a_forward_pass_registers_on_a_weight_is_named_and_removed() -> None:
    class Scaled(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.weight.register_hook(lambda gradient: 0.5 * gradient)
            return super().forward(x)

    model = Scaled(3, 2)
    with pytest.warns(ProbeWarning, match=r"got writes to weight\._backward_hooks;"):
        ActivationsProbe().fit(model, (torch.ones(4, 3), None))
    assert not model.weight._backward_hooks
