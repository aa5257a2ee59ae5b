"""The context of a training: copies train as the original would, and leave it unchanged."""

import copy
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe import ChaosProbe, Measured, PerformanceProbe, Probe, ProbeSet, Snapshot, check_probe, every
from probe.forward import TrainingContext
from probe.testing import check_recording, check_same_twice, check_series, check_training_untouched, example, state_of

X, Y = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3
DATA = {"train": (X, Y)}


class Tied(nn.Module):
    """Tied weights, a frozen part, batch norm and dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.drop = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Dropout(0.3)
        self.frozen, self.head = nn.Linear(6, 6).requires_grad_(False).eval(), nn.Linear(6, 3)
        self.tied = self.first

    def forward(self, x: Tensor) -> Tensor:
        x = self.tied(self.drop(self.norm(self.first(x))))
        return self.head(self.frozen(x).tanh())


def step_fn(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    if isinstance(optimizer, torch.optim.LBFGS):
        return optimizer.step(closure)
    loss = closure()
    optimizer.step()
    return loss


def batches(step: int, n: int) -> list[tuple[Tensor, Tensor]]:
    rows = [torch.randperm(24, generator=torch.Generator().manual_seed(k))[:8] for k in range(step, step + n)]
    return [(X[r], Y[r]) for r in rows]


def groups(model: Tied) -> list[dict[str, Any]]:
    return [
        {"params": [*model.first.parameters(), *model.norm.parameters()]},
        {"params": model.head.weight, "lr": 0.01},
    ]


OPTIMIZERS: dict[str, Callable[[Tied], torch.optim.Optimizer]] = {
    "SGD": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3),
    "AdamW": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2, amsgrad=True),
    "fused": lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2, fused=True),
    "groups": lambda model: torch.optim.SGD(groups(model), lr=0.1, momentum=0.5, nesterov=True),
    "LBFGS": lambda model: torch.optim.LBFGS(model.parameters(), max_iter=3),
}


def trained(name: str, n: int = 3, *, scheduled: bool = False) -> tuple[Tied, TrainingContext]:
    model = Tied()
    optimizer = OPTIMIZERS[name](model)
    # a scheduler wraps the step of its optimizer
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5) if scheduled else None
    for batch in batches(0, n):
        step_fn(model, optimizer, batch)
        if scheduler is not None:
            scheduler.step()
    return model, TrainingContext(optimizer, step_fn, batches)


# -- copies ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_copy_trains_as_the_original_does_and_leaves_it_alone(name: str, scheduled: bool) -> None:
    model, training = trained(name, scheduled=scheduled)
    before = state_of(model, training.optimizer)
    copied, optimizer = training.copy(model)
    for run in (0, 1):  # the second time from where the first has ended
        torch.manual_seed(run)
        losses = [training.update(copied, optimizer, batch) for batch in batches(3 + run, 4)]
        assert all(loss is not None and not loss.requires_grad for loss in losses)
        if run == 0:
            torch.manual_seed(0)
            twin = copy.deepcopy(copied), losses
    after = state_of(model, training.optimizer)
    assert [key for key in before if before[key] != after[key] and not key.startswith("random state")] == []
    torch.manual_seed(0)
    expected = [step_fn(model, training.optimizer, batch) for batch in batches(3, 4)]
    assert [loss.item() for loss in expected] == [loss.item() for loss in twin[1]]  # type: ignore[union-attr]
    for key, value in model.state_dict().items():
        assert torch.equal(value, twin[0].state_dict()[key]), key


def test_a_copy_has_parameters_of_its_own_tied_frozen_and_grouped_alike() -> None:
    model, training = trained("groups")
    copied, optimizer = training.copy(model)
    assert copied.tied is copied.first
    assert [p.requires_grad for p in copied.parameters()] == [p.requires_grad for p in model.parameters()]
    assert {p.data_ptr() for p in copied.parameters()}.isdisjoint({p.data_ptr() for p in model.parameters()})
    names = {id(p): name for name, p in copied.named_parameters()}
    theirs = {id(p): name for name, p in model.named_parameters()}
    for mine, group in zip(optimizer.param_groups, training.optimizer.param_groups, strict=True):
        assert [names[id(p)] for p in mine["params"]] == [theirs[id(p)] for p in group["params"]]
        assert {k: v for k, v in mine.items() if k != "params"} == {k: v for k, v in group.items() if k != "params"}
    assert {names[id(p)] for p in optimizer.state} == {theirs[id(p)] for p in training.optimizer.state}
    assert [mode.training for mode in copied.modules()] == [mode.training for mode in model.modules()]
    assert all(p.grad is None for p in copied.parameters())


def test_hooks_of_the_optimizer_are_not_copied_and_its_updates_not_counted() -> None:
    model, training = trained("SGD")
    probe = PerformanceProbe().attach(model, DATA, optimizer=training.optimizer, schedule=every(1))
    copied, optimizer = training.copy(model)
    training.update(copied, optimizer, batches(0, 1)[0])
    assert probe.series_["step"].values.tolist() == [0]


def test_a_model_that_cannot_be_copied_is_refused_with_its_cause() -> None:
    model, training = trained("SGD")
    model.handle = open(__file__)  # type: ignore[assignment]  # noqa: SIM115
    try:
        with pytest.raises(ValueError, match=r"Expected a Tied that copy.deepcopy can copy, got TypeError.*TextIO"):
            training.copy(model)
    finally:
        model.handle.close()  # type: ignore[operator, union-attr]


# -- inside an observation ---------------------------------------------------------------------------------------------


class TrainsACopy(Probe):
    """Loss after some updates of a copy, twice from the same start, and the flags that the copies have."""

    requires = ("training",)

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        assert snapshot.training is not None
        losses: list[float] = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            model, optimizer = snapshot.training.copy(snapshot.model)
            flags = [module.training for module in model.modules()]
            for batch in snapshot.training.batches(snapshot.step, 3):
                loss = snapshot.training.update(model, optimizer, batch)
            assert loss is not None
            losses.append(loss.item())
        snapshot.outputs(snapshot.splits[0], snapshot.trace.order[-1:], rows=torch.arange(4))
        return {"losses": Measured(losses, ("k",), {"k": range(3)}), "in_training": Measured(float(sum(flags)))}


def test_a_probe_that_trains_copies_keeps_the_contract() -> None:
    """Updates of copies inside an observation leave the training bit-identical, among other checks."""
    check_probe(TrainsACopy())
    for check in (check_series, check_recording):
        check(ProbeSet([TrainsACopy()]))


def test_copies_inside_an_observation_train_in_the_mode_of_the_training() -> None:
    model, training = trained("AdamW")
    found = TrainsACopy().fit(model, DATA, training=training).series_.isel(step=0)
    first, again, other = found["losses"].values
    assert first == again
    assert first != other, "dropout is on"
    assert found["in_training"].item() == sum(module.training for module in model.modules()) == 5


class Backward(TrainsACopy):
    """Trains the real model in place of a copy."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        assert snapshot.training is not None
        with torch.enable_grad():
            snapshot.model(torch.ones(4, 6)).sum().backward()
        return {"number": Measured(0.0)}


def test_a_probe_that_trains_the_model_itself_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"got new numbers in first|writes to .*first\.weight\.grad"):
        check_training_untouched(Backward())


NOISE = torch.Generator().manual_seed(0)


class Chaotic(ChaosProbe):
    """Measures chaos, and writes to what belongs to the user."""

    def __init__(self, what: str = "") -> None:
        super().__init__(window=2, sizes=[1e-2], n_products=0)
        self.what = what

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        assert snapshot.training is not None
        optimizer, model = snapshot.training.optimizer, snapshot.model
        found = dict(super().measure(snapshot))
        if self.what == "state of the optimizer" and optimizer.state:
            next(iter(optimizer.state.values()))["exp_avg"].mul_(1.001)
        elif self.what == "settings of the optimizer":
            optimizer.param_groups[0]["lr"] *= 0.5
        elif self.what == "parameters":
            optimizer.zero_grad(set_to_none=False)
            optimizer.step()
        elif self.what == "buffers":
            model.norm.running_mean += 1  # type: ignore[operator, union-attr]
        elif self.what == "training flags":
            model.train()
            torch.manual_seed(0)  # flags and random states of an observation are restored
        elif self.what == "batches":
            snapshot.training.batches(snapshot.step, 1)[0].zero_()
        elif self.what == "random numbers":
            found["chaos_growth"] = replace(found["chaos_growth"], values=torch.rand(1, 1, generator=NOISE).numpy())
        return found


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("state of the optimizer", "got changes of .*optimiser state exp_avg of parameter 0"),
        pytest.param("settings of the optimizer", "got changes of", marks=pytest.mark.slow),
        ("parameters", "writes to|got changes of|got new numbers"),
        ("buffers", "writes to .*running_mean|got new numbers in norm.running_mean"),
        pytest.param("training flags", "", marks=pytest.mark.slow),
        ("batches", ""),
    ],
)
def test_a_probe_that_writes_to_the_training_is_caught(what: str, message: str) -> None:
    """Copies of batches, training flags and random states are restored or made anew, so that they do no harm."""
    with pytest.raises(AssertionError, match=message) if message else nullcontext():
        check_training_untouched(Chaotic(what))


def test_a_probe_of_chaos_whose_numbers_differ_is_named() -> None:
    with pytest.raises(AssertionError, match="chaos_growth"):
        check_same_twice(Chaotic("random numbers"))


def test_without_a_context_there_is_none() -> None:
    class Looks(Probe):
        def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
            return {"given": Measured(float(snapshot.training is not None))}

    model, training = trained("SGD")
    assert Looks().fit(model, DATA).series_["given"].item() == 0
    assert Looks().fit(model, DATA, training=training).series_["given"].item() == 1


def test_an_estimate_takes_a_context_too() -> None:
    model, training = trained("SGD")
    assert TrainsACopy().estimate(model, DATA, training=training, steps=10).seconds["TrainsACopy"] > 0


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_probe_that_requires_a_context_is_refused_without() -> None:
    with pytest.raises(ValueError, match=r"Expected training= since TrainsACopy requires it, got None; give training="):
        ProbeSet([TrainsACopy()]).attach(Tied(), DATA)


def test_a_probe_that_requires_targets_is_refused_where_a_split_has_none() -> None:
    needs = type("Needs", (PerformanceProbe,), {"requires": ("targets",)})
    with pytest.raises(ValueError, match=r"Expected targets in each split, since Needs requires them, got none in b;"):
        needs().attach(Tied(), {"a": (X, Y), "b": (X, None)})
    needs().attach(Tied(), DATA)


def test_an_unknown_requirement_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Odd.requires to hold 'targets' or 'training', got \['gpu'\]"):
        type("Odd", (PerformanceProbe,), {"requires": ("gpu",)})().attach(Tied(), DATA)


COUNTER = iter(range(10**6))


class Stream:
    def __init__(self) -> None:
        self.left = iter(batches(0, 100))

    def __call__(self, step: int, n: int) -> list[Any]:
        return [next(self.left) for _ in range(n)]


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"optimizer": torch.optim.SGD(Tied().parameters())}, ValueError, "training.optimizer to hold parameters of this"),
    ({"optimizer": None}, TypeError, "training.optimizer to be a torch.optim.Optimizer, got NoneType"),
    ({"step_fn": None}, TypeError, "training.step_fn to be a function, got NoneType"),
    ({"batches": [1, 2]}, TypeError, "training.batches to be a function, got list"),
    ({"batches": lambda step, n: batches(step, 1)}, ValueError, r"return a list of 2 batches, got 1 of them"),
    ({"batches": lambda step, n: iter(batches(step, n))}, ValueError, r"list of 2 batches, got list_iterator"),
    ({"batches": Stream()}, ValueError, "to return the same batches twice, got different ones"),
    ({"batches": lambda step, n: [torch.rand(3)] * n}, ValueError, "the same batches twice"),
    ({"batches": lambda step, n: [{"x": np.array([next(COUNTER)])}] * n}, ValueError, "the same batches twice"),
    ({"step_fn": lambda model, optimizer: None}, ValueError, "to update a copy of the model, got TypeError"),
]


@pytest.mark.parametrize(("changes", "error", "message"), BAD, ids=[message for _, _, message in BAD])
def test_a_context_that_cannot_work_is_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    model = Tied()
    good = {"optimizer": OPTIMIZERS["SGD"](model), "step_fn": step_fn, "batches": batches}
    with pytest.raises(error, match=message):
        PerformanceProbe().attach(model, DATA, training=TrainingContext(**{**good, **changes}))


@pytest.mark.parametrize("batch", [{"x": X, "y": [Y]}, (X, np.array([np.nan])), [Y, "text", 3], example, (X * np.nan,)])
def test_equal_batches_of_any_kind_are_accepted(batch: Any) -> None:
    def copies(step: int, n: int) -> Sequence[Any]:
        return [copy.deepcopy(batch) for _ in range(n)]

    model = Tied()
    training = TrainingContext(OPTIMIZERS["SGD"](model), lambda model, optimizer, batch: None, copies)
    PerformanceProbe().attach(model, DATA, training=training)


def test_what_is_no_context_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Expected training to be a probe\.forward\.TrainingContext, got Adam;"):
        PerformanceProbe().attach(Tied(), DATA, training=torch.optim.Adam(Tied().parameters()))  # type: ignore[arg-type]


@pytest.mark.parametrize("what", ["parameters", "gradients", "buffers", "data", "settings"])
def test_a_function_that_changes_the_attached_training_is_refused(what: str) -> None:
    model = Tied()
    model.register_buffer("count", torch.zeros(1))
    optimizer = OPTIMIZERS["SGD"](model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)

    def outside(_: nn.Module, __: torch.optim.Optimizer, batch: Any) -> None:
        if what == "gradients":
            F.cross_entropy(model(batch[0]), batch[1]).backward()  # adds to the gradients in place
        elif what == "parameters":
            with torch.no_grad():
                next(model.parameters()).mul_(0.999)
        elif what == "buffers":
            model.count += 1
        elif what == "data":  # not seen by version counters
            next(model.parameters()).data.mul_(0.999)
        else:
            optimizer.param_groups[0]["lr"] *= 0.5

    name = {"data": "parameters", "settings": "settings of the optimizer"}.get(what, what)
    with pytest.raises(ValueError, match=f"got other {name} of the attached training"):
        PerformanceProbe().attach(model, DATA, training=TrainingContext(optimizer, outside, batches))


def test_attaching_with_a_context_changes_nothing() -> None:
    model, training = trained("AdamW")

    def seeding(step: int, n: int) -> list[tuple[Tensor, Tensor]]:
        torch.manual_seed(step)
        return [(X[:8] + torch.rand(8, 6), Y[:8]) for _ in range(n)]

    context = TrainingContext(training.optimizer, step_fn, seeding)
    before = state_of(model, training.optimizer)
    ProbeSet([TrainsACopy()]).attach(model, DATA, training=context)
    after = state_of(model, training.optimizer)
    assert [key for key in before if before[key] != after[key]] == []


@pytest.mark.parametrize("where", ["tensor", "accumulated", "optimizer"])
def test_hooks_that_a_copy_would_lack_are_refused(where: str) -> None:
    model = Tied()
    optimizer = OPTIMIZERS["SGD"](model)
    parameter = next(model.parameters())
    if where == "tensor":
        parameter.register_hook(lambda gradient: 0 * gradient)
    elif where == "accumulated":
        parameter.register_post_accumulate_grad_hook(lambda p: None)
    else:
        optimizer.register_step_pre_hook(lambda *_: None)
    with pytest.raises(ValueError, match=r"Expected no hooks on parameters and before optimizer steps .* got hooks on"):
        PerformanceProbe().attach(model, DATA, training=TrainingContext(optimizer, step_fn, batches))


@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_weight_that_a_forward_pass_has_computed_is_copied() -> None:
    """Old weight normalisation stores a tensor with a history, which deepcopy refuses."""
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(6, 3)))
    model(torch.ones(1, 6))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    copied, _ = TrainingContext(optimizer, step_fn, batches).copy(model)
    assert torch.equal(copied(torch.ones(1, 6)), model(torch.ones(1, 6)))


def test_an_optimizer_keeps_its_functions_and_a_loss_that_is_no_tensor_is_refused() -> None:
    model = Tied()
    optimizer = OPTIMIZERS["SGD"](model)
    optimizer.scale = len  # type: ignore[attr-defined]
    copied = TrainingContext(optimizer, step_fn, batches).copy(model)[1]
    assert copied.scale is len  # type: ignore[attr-defined]
    training = TrainingContext(optimizer, lambda model, optimizer, batch: 0.5, batches)  # type: ignore[arg-type, return-value]
    with pytest.raises(ValueError, match="return the loss as a Tensor, or None, got float"):
        PerformanceProbe().attach(model, DATA, training=training)
