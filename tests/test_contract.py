"""Tests that every probe keeps the contract, and that the checks find probes that break it."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import nn

import probe.measures
from probe import (
    ChaosProbe,
    FourierProbe,
    LinearRegionsProbe,
    LMNProbe,
    Measured,
    MutualInfoProbe,
    NeuralCollapseProbe,
    Probe,
    ProbeSet,
    Snapshot,
    check_probe,
    testing as contract,
)
from probe.forward.model_state import Structure
from probe.testing import CHECKS


def every_probe() -> list[type[Probe]]:
    names = [name for _, name, _ in pkgutil.walk_packages(probe.measures.__path__, "probe.measures.")]
    found = {cls for name in names for cls in vars(importlib.import_module(name)).values() if inspect.isclass(cls)}
    probes = {cls for cls in found if issubclass(cls, Probe) and not inspect.isabstract(cls)}
    return sorted(probes, key=lambda cls: cls.__name__)


EXAMPLES = {  # other models than the usual one
    FourierProbe: contract.token_example,
    LinearRegionsProbe: contract.relu_example,
}


PARAMETERS: dict[type[Probe], dict[str, Any]] = {  # faster than the defaults
    ChaosProbe: {"window": 2, "n_products": 2, "sizes": [1e-2]},
}


@pytest.mark.usefixtures("global_random_state_untouched")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("cls", every_probe(), ids=lambda cls: cls.__name__)
def test_contract(cls: type[Probe], check: Any) -> None:
    check(cls(**PARAMETERS.get(cls, {})), EXAMPLES.get(cls, contract.example))


def test_every_probe_is_found_and_public() -> None:
    names = {cls.__name__ for cls in every_probe()}
    assert {"MutualInfoProbe", "LocalComplexityProbe", "LMNProbe", "PerformanceProbe"} <= names
    assert names <= set(probe.__all__), f"not in probe/__init__.py: {names - set(probe.__all__)}"


def test_contract_of_a_set() -> None:
    """One probe reads the shared pass, the other makes passes of its own; test_layer_probe has two of one class."""
    check_probe(ProbeSet([NeuralCollapseProbe(), ("lines", LMNProbe())]))


class Offender(Probe):
    """A probe that breaks the contract in one way."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        snapshot.outputs(snapshot.splits[0], ["head"])
        self.offend(snapshot.model)
        return {"number": Measured(1.0)}

    def offend(self, model: nn.Module) -> None: ...


class ChangesParameter(Offender):
    def offend(self, model: nn.Module) -> None:
        next(model.parameters()).data[0, 0] += 1e-6


class ChangesBuffer(Offender):
    def offend(self, model: nn.Module) -> None:
        model.train()
        model(torch.ones(4, 6))


class SetsGradient(Offender):
    def offend(self, model: nn.Module) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)


class Freezes(Offender):
    def offend(self, model: nn.Module) -> None:
        next(model.parameters()).requires_grad_(False)


class LeavesHook(Offender):
    def offend(self, model: nn.Module) -> None:
        model.get_submodule("act").register_forward_hook(nothing)


def nothing(*_: Any) -> None: ...


class SetsAttribute(Offender):
    def offend(self, model: nn.Module) -> None:
        model.was_probed = True  # type: ignore[assignment]


class ReplacesParameter(Offender):
    def offend(self, model: nn.Module) -> None:
        head = model.get_submodule("head")
        head.weight = nn.Parameter(head.weight.clone())  # type: ignore[arg-type, operator]


class ReplacesModule(Offender):
    def offend(self, model: nn.Module) -> None:
        model.act = nn.ReLU()


class SwapsClass(Offender):
    def offend(self, model: nn.Module) -> None:
        model.get_submodule("act").__class__ = nn.Identity


class HooksParameter(Offender):
    def offend(self, model: nn.Module) -> None:
        next(model.parameters()).register_hook(nothing)


class MultipliesParameter(Offender):
    def offend(self, model: nn.Module) -> None:
        next(model.parameters()).mul_(2.0)


class MovesParameter(Offender):
    def offend(self, model: nn.Module) -> None:
        parameter = next(model.parameters())
        parameter.data = parameter.data.clone()


class Counts(Offender):
    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        self.count = getattr(self, "count", 0) + 1
        return {"number": Measured(self.count)}


class Remembers(Offender):
    """Measure the first model that was observed."""

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        if not hasattr(self, "first"):
            self.first = next(snapshot.model.parameters()).sum().item()
        return {"number": Measured(self.first)}


class HoldsClosure(Offender):
    def offend(self, model: nn.Module) -> None:
        self.function = lambda: model


class Swallows(Offender):
    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        try:
            return super().measure(snapshot)
        except RuntimeError:
            return {"number": Measured(0.0)}


class RenamesParameter(Offender):
    def __init__(self, *, size: int = 1) -> None:
        self.scale = size


class NeedsArgument(Offender):
    def __init__(self, size: int) -> None:
        self.size = size


class WrongFlag(Offender):
    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        return {"flag": Measured(7, flag=True)}


class OutOfShape(Offender):
    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        return {"number": Measured([1.0, 2.0], ("split",), {"split": ["train"]})}


OFFENDERS = [
    (ChangesParameter(), "check_training_untouched", "value of first.weight"),
    (MultipliesParameter(), "check_training_untouched", "got new numbers in first.weight"),
    (MovesParameter(), "check_training_untouched", "got new numbers in first.weight"),
    (ReplacesParameter(), "check_training_untouched", "writes to head.weight"),
    (ReplacesModule(), "check_training_untouched", "writes to act"),
    (SwapsClass(), "check_training_untouched", "writes to act.__class__"),
    (HooksParameter(), "check_training_untouched", "writes to first.weight._backward_hooks"),
    (ChangesBuffer(), "check_training_untouched", "got new numbers in norm.num_batches_tracked"),
    (SetsGradient(), "check_training_untouched", "first.weight.grad"),
    (Freezes(), "check_training_untouched", "writes to first.weight.requires_grad"),
    (LeavesHook(), "check_training_untouched", "writes to act._forward_hooks"),
    (SetsAttribute(), "check_training_untouched", "writes to was_probed"),
    (Counts(), "check_same_twice", "number"),
    (Remembers(), "check_second_attach", "number"),
    (HoldsClosure(), "check_copies", "pickle"),
    (Swallows(), "check_exceptions", "to be [0, 1, 0]"),
    (NeedsArgument(3), "check_parameters", "size"),
    (WrongFlag(), "check_series", "flag"),
    (OutOfShape(), "check_series", "need shape"),
]


@pytest.mark.parametrize(("offender", "check", "message"), OFFENDERS, ids=lambda item: type(item).__name__)
def test_offender_is_caught(offender: Probe, check: str, message: str) -> None:
    with pytest.raises((AssertionError, AttributeError, TypeError, ValueError), match=re.escape(message)):
        getattr(contract, check)(offender)


def test_renamed_parameter_is_caught() -> None:
    with pytest.raises(AttributeError, match="size"):
        contract.check_parameters(RenamesParameter())


def test_offender_without_offence_passes() -> None:
    check_probe(Offender())


class Draws(Offender):
    def taps(self, snapshot: Snapshot) -> tuple[()]:
        torch.rand(1)
        return ()

    def offend(self, model: nn.Module) -> None:
        torch.rand(1)


class Evaluates(Offender):
    def offend(self, model: nn.Module) -> None:
        model.eval()


def test_rogue_probes_are_contained() -> None:
    for rogue in (Draws(), Evaluates()):
        contract.check_training_untouched(rogue)


class Written:
    """The state that ``isolated`` yields, of a model to which nothing was written."""

    restored: frozenset[Any] = frozenset()
    lost: frozenset[Any] = frozenset()
    structure = Structure(nn.Identity())

    def restore(self) -> None: ...


@contextmanager
def without_fork(model: nn.Module, *_: Any) -> Iterator[Written]:
    """As ``isolated``, but random states are not restored."""
    flags = {module: module.training for module in model.modules()}
    for module in flags:
        module.training = False
    with torch.no_grad():
        yield Written()
    for module, flag in flags.items():
        module.training = flag


@contextmanager
def without_flags(model: nn.Module, *_: Any) -> Iterator[Written]:
    """As ``isolated``, but the frozen part ends in training mode."""
    model.eval()
    with torch.random.fork_rng([]), torch.no_grad():
        yield Written()
    model.train()


@contextmanager
def without_restoring(model: nn.Module, *_: Any) -> Iterator[Written]:
    """As ``isolated``, but only flags and random states are restored."""
    flags = {module: module.training for module in model.modules()}
    model.eval()
    with torch.random.fork_rng([]), torch.no_grad():
        yield Written()
    for module, flag in flags.items():
        module.training = flag


@pytest.mark.parametrize(
    ("breakage", "rogue", "message"),
    [
        (without_fork, Draws(), "random state of torch"),
        (without_flags, Offender(), "training flag of frozen"),
        (lambda *_: nullcontext(Written()), Offender(), "in another batch at act:gelu"),  # in training mode
        (without_restoring, LeavesHook(), "hooks of act"),
        (without_restoring, SwapsClass(), "class of act"),
        (without_restoring, Freezes(), "requires_grad of first.weight"),
    ],
    ids=lambda item: type(item).__name__ if isinstance(item, Probe) else "",
)
def test_broken_capture_is_caught(breakage: Any, rogue: Probe, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("attach.prepare", "attach.observation", "forward.tracing", "forward.runner"):
        monkeypatch.setattr(f"probe.{module}.isolated", breakage)
    monkeypatch.setattr("probe.attach.prepare.hidden_state_warnings", lambda *_: ())  # would see the breakage first
    with pytest.raises(AssertionError, match=message):
        contract.check_training_untouched(rogue)


def test_clone_of_an_attached_probe_is_unattached() -> None:
    model, data = contract.example()
    attached = MutualInfoProbe().attach(model, data)
    assert attached.__sklearn_is_fitted__()
    assert not clone(attached).__sklearn_is_fitted__()


def series_of(answer: Any) -> Any:
    class Answers(Probe):
        def measure(self, snapshot: Snapshot) -> Any:
            return answer

    return Answers().fit(nn.Linear(3, 2), (torch.zeros(4, 3), None)).series_


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        ({"q": 1.0}, r"got float under 'q'; return \{\"q\": Measured\(1.0\)\}"),
        ({"q": None}, "got NoneType under 'q'"),
        ({3: Measured(1.0)}, "got Measured under 3"),
        (None, "mapping of names to Measured, got NoneType"),
        (Measured(1.0), "mapping of names to Measured, got Measured"),
    ],
)
def test_what_measure_returns_is_checked(answer: Any, match: str) -> None:
    with pytest.raises(TypeError, match=match):
        series_of(answer)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(1j),
        1j,
        np.array(2 + 1j),
        [torch.tensor(1j)],
        np.ma.masked,
        np.ma.array([1.0, 2.0], mask=[False, True]),
        [np.ma.array([1.0, 2.0], mask=[False, True])],
        np.datetime64("NaT"),
        np.datetime64("2020-01-01"),
        np.timedelta64(3, "s"),
        "3",
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_real_number_is_an_error(value: Any) -> None:
    measured = Measured(value, ("x",), {"x": [0, 1][: np.size(value)]}) if np.ndim(value) else Measured(value)
    with pytest.raises(TypeError, match=r"^Expected .* for q, got .*; "):
        measured.array("q")


@pytest.mark.parametrize(
    "value",
    [2, True, np.float16(2), np.ma.array(2.0), torch.tensor(2.0, dtype=torch.bfloat16), Fraction(2), torch.tensor(2)],
    ids=lambda value: type(value).__name__,
)
def test_every_real_number_is_recorded(value: Any) -> None:
    assert Measured(value).array("q") == float(value)
    assert np.isnan(Measured(None).array("q"))
    tensors = [torch.tensor(2.0, requires_grad=True), torch.tensor(3.0, dtype=torch.bfloat16)]
    assert Measured(tensors, ("x",), {"x": [0, 1]}).array("q").tolist() == [2, 3]


def test_a_masked_array_is_not_kept_and_units_are_text() -> None:
    with pytest.raises(TypeError, match="got masked entries; return NaN"):
        Measured(np.ma.array([1.0, 2.0], mask=[False, True]), keep=True).kept_array("q")
    for name in ("units", "long_name"):
        with pytest.raises(TypeError, match=f"Expected text as {name}, got 3; "):
            Measured(1.0, **{name: 3})
