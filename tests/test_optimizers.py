"""Count the updates of every kind of optimizer, and say so if they cannot be counted."""

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import built
from torch import nn

from probe import PerformanceProbe, every
from probe.errors import ProbeWarning
from probe.forward import TrainingContext
from probe.testing import state_of

X = torch.linspace(-2, 2, 36).reshape(12, 3)
Y = torch.tensor([0, 1, 1] * 4)
UPDATES = 4


def net() -> nn.Sequential:
    return built(lambda: nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))  # type: ignore[no-any-return]


def sgd(model: nn.Module) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)


class Prepared(torch.optim.Optimizer):
    """A wrapper without hooks of its own, as that of Accelerate."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self.optimizer = optimizer

    param_groups = property(lambda self: self.optimizer.param_groups)  # type: ignore[assignment]

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.optimizer.zero_grad(set_to_none)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.optimizer.step(closure)


class Master:
    """A wrapper that is no optimizer, as those of mixed precision."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._optimizer, name)


class Sharpness(torch.optim.Optimizer):
    """SAM: two gradients for an update, which the inner optimizer makes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model.parameters(), {})
        self.base_optimizer = sgd(model)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            self.state[parameter]["old"] = parameter.data.clone()
            parameter.add_(parameter.grad, alpha=0.05)

    @torch.no_grad()
    def second_step(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.data = self.state[parameter]["old"]
        self.base_optimizer.step()

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.first_step()
        torch.enable_grad()(closure)()
        self.second_step()


class Inherited(torch.optim.SGD):
    """A step that calls that of the class above. PyTorch calls the hooks in both."""

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return super().step(closure)


class Halves(torch.optim.Optimizer):
    """One update by two optimizers, with a step of its own."""

    def __init__(self, model: nn.Sequential) -> None:
        super().__init__(model.parameters(), {})
        self.first, self.second = sgd(model[0]), sgd(model[2])

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.first.step()
        self.second.step()


class Bare(torch.optim.Optimizer):
    """An optimizer that leaves out the initialisation of its class."""

    def __init__(self, *optimizers: torch.optim.Optimizer) -> None:
        self.param_groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for i, optimizer in enumerate(optimizers):
            setattr(self, f"part{i}", optimizer)


def scheduled(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = sgd(model)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)  # replaces the method step
    return optimizer


def plain(optimizer: Any, closure: Callable[[], Any]) -> None:
    closure()
    optimizer.step()


def with_closure(optimizer: Any, closure: Callable[[], Any]) -> None:
    closure()
    optimizer.step(closure)


def in_two_steps(optimizer: Any, closure: Callable[[], Any]) -> None:
    closure()
    optimizer.first_step()
    closure()
    optimizer.second_step()


Update = Callable[[Any, Callable[[], Any]], None]


def trained(model: nn.Module, optimizer: Any, update: Update = plain, n: int = UPDATES) -> nn.Module:
    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(X), Y)
        loss.backward()
        return loss

    for _ in range(n):
        update(optimizer, closure)
    return model


OPTIMIZERS: dict[str, tuple[Callable[[Any], Any], Update]] = {
    "plain": (sgd, plain),
    "prepared": (lambda model: Prepared(sgd(model)), plain),
    "prepared twice": (lambda model: Prepared(Prepared(sgd(model))), plain),
    "no optimizer by type": (lambda model: Master(sgd(model)), plain),
    "SAM with a closure": (Sharpness, with_closure),
    "SAM in two steps": (Sharpness, in_two_steps),
    "a step that calls the inherited one": (lambda model: Inherited(model.parameters(), lr=0.1), plain),
    "a step of two optimizers": (Halves, plain),
    "LBFGS": (lambda model: torch.optim.LBFGS(model.parameters(), lr=0.1), with_closure),
    "a schedule of learning rates": (scheduled, plain),
    "a part of the parameters": (lambda model: sgd(model[2]), plain),
}


@pytest.mark.parametrize(("make", "update"), OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_each_update_is_counted_once_and_observed_when_it_is_complete(make: Any, update: Update) -> None:
    sgd(net())  # patches SGD.step, so that a class that inherits from it calls hooks twice
    model, without = net(), net()
    optimizer = make(model)
    probe = PerformanceProbe().attach(model, (X, Y), optimizer=optimizer, schedule=every(1))
    trained(model, optimizer, update)
    series = probe.detach().series_
    assert series["step"].values.tolist() == list(range(UPDATES + 1))
    assert series["all_loss"].values[-1] == pytest.approx(nn.functional.cross_entropy(model(X), Y).item(), rel=1e-6)
    trained(without, make(without), update)
    assert state_of(model, None) == state_of(without, None)


class Lookahead(Master):
    """A wrapper that is no optimizer, and goes back half the way at every second step."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        super().__init__(optimizer)
        self._weights = optimizer.param_groups[0]["params"]
        self._slow = [weight.detach().clone() for weight in self._weights]
        self._steps = 0

    def step(self) -> None:
        self._optimizer.step()
        self._steps += 1
        if self._steps % 2 == 0:
            for slow, weight in zip(self._slow, self._weights, strict=True):
                slow.lerp_(weight.detach(), 0.5)
                weight.data.copy_(slow)


def clipped(optimizer: Any, closure: Callable[[], Any]) -> None:
    plain(optimizer, closure)
    for weight in optimizer.param_groups[0]["params"]:
        weight.data.clamp_(-0.1, 0.1)


def normalised(optimizer: Any, closure: Callable[[], Any]) -> None:
    plain(optimizer, closure)
    with torch.no_grad():
        optimizer.param_groups[0]["params"][0].div_(optimizer.param_groups[0]["params"][0].norm())


@pytest.mark.parametrize(
    ("make", "update"),
    [(lambda model: Lookahead(sgd(model)), plain), (sgd, clipped), (sgd, normalised)],
    ids=["Lookahead", "clipping", "normalisation"],
)
def test_an_update_that_is_completed_after_the_step_is_said(make: Any, update: Update) -> None:
    model = net()
    optimizer = make(model)
    PerformanceProbe().attach(model, (X, Y), optimizer=optimizer, schedule=every(1))
    with pytest.warns(ProbeWarning, match="complete at the end of the optimizer's step") as caught:
        trained(model, optimizer, update, n=8)
    assert len(caught) == 1


def averaged(optimizer: Any, closure: Callable[[], Any]) -> None:
    """Other weights for a validation, which a loop puts back up to rounding."""
    plain(optimizer, closure)
    for weight in optimizer.param_groups[0]["params"]:
        weight.data.mul_(3.0).div_(3.0)


def in_turn(optimizer: Any, closure: Callable[[], Any]) -> None:
    """Another optimizer steps first."""
    closure()
    torch.optim.SGD(optimizer.others, lr=0.1).step()
    optimizer.step()


@pytest.mark.filterwarnings("error::probe.errors.ProbeWarning")
@pytest.mark.parametrize("update", [plain, averaged, in_turn])
def test_an_update_that_the_step_completes_is_not_said(update: Update) -> None:
    model = net()
    optimizer: Any = sgd(model[2])
    optimizer.others = list(model[0].parameters())
    PerformanceProbe().attach(model, (X, Y), optimizer=optimizer, schedule=every(1))
    trained(model, optimizer, update, n=8)


def test_two_attachments_count_the_steps_of_two_optimizers() -> None:
    model = net()
    first, second = sgd(model[0]), sgd(model[2])
    one = PerformanceProbe().attach(model, (X, Y), optimizer=first, schedule=every(1))
    two = PerformanceProbe().attach(model, (X, Y), optimizer=second, schedule=every(1))
    trained(model, first, n=3)
    trained(model, second, n=2)
    assert [probe.series_.sizes["step"] for probe in (one.detach(), two.detach())] == [4, 3]


def test_an_error_within_a_step_does_not_stop_the_counting() -> None:
    model = net()
    optimizer = Sharpness(model)
    probe = PerformanceProbe().attach(model, (X, Y), optimizer=optimizer, schedule=every(1))

    def fails() -> None:
        raise RuntimeError("no")

    trained(model, optimizer, in_two_steps, n=1)
    with pytest.raises(RuntimeError, match="no"):
        optimizer.step(fails)
    trained(model, optimizer, in_two_steps, n=1)
    trained(model, optimizer, with_closure, n=1)
    assert probe.detach().series_["step"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: Bare(sgd(model[0]), sgd(model[2])), "got Bare, which holds 2 of them"),
        (lambda model: Bare(), r"does not call that of torch\.optim\.Optimizer.*call observe\(step\)"),
        (lambda model: "adam", "got str; give the optimizer itself"),
        (lambda model: sgd(copy.deepcopy(model)), "hold parameters of this model, got none"),
        (lambda model: Prepared(sgd(copy.deepcopy(model))), "updates other copies of its parameters"),
    ],
)
def test_an_optimizer_whose_updates_cannot_be_counted_is_refused(make: Any, message: str) -> None:
    model, without = net(), net()
    with pytest.raises((TypeError, ValueError), match=f"(?s)Expected optimizer to .*{message}"):
        PerformanceProbe().attach(model, (X, Y), optimizer=make(model))
    assert state_of(trained(model, sgd(model)), None) == state_of(trained(without, sgd(without)), None)


def test_a_training_context_needs_the_inner_optimizer() -> None:
    model = net()
    training = TrainingContext(Prepared(sgd(model)), lambda *_: None, lambda step, n: [X] * n)
    with pytest.raises(TypeError, match=r"that holds no other.*got Prepared; give the inner optimizer"):
        PerformanceProbe().attach(model, (X, Y), training=training)


# -- updates that nothing counts -------------------------------------------------------------------------------------


def test_an_optimizer_that_never_steps_is_said_at_the_next_call_of_observe() -> None:
    model = net()
    probe = PerformanceProbe().attach(model, (X, Y), optimizer=sgd(model))
    probe.observe(lr=0.1)
    with pytest.warns(ProbeWarning, match="weights that change while it has made 0 steps"):
        probe.observe(lr=trained(model, sgd(model), n=1)[0].weight.sum())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(model, sgd(model), n=5)
        probe.observe(lr=0.1).detach()  # said once


@pytest.mark.parametrize("frozen", [True, False])
def test_an_optimizer_that_never_steps_is_said_at_detach(frozen: bool) -> None:
    model = net()
    model[0].requires_grad_(not frozen)
    probe = PerformanceProbe().attach(model, (X, Y), optimizer=sgd(model))
    for parameter in model.parameters():  # a write that has no version
        parameter.data.mul_(1.0 if frozen and parameter is model[0].weight else 1.5)
    with pytest.warns(ProbeWarning, match=r"0 steps, so later states are not observed; attach the optimizer whose"):
        probe.detach()
    assert probe.series_.sizes["step"] == 1


@pytest.mark.parametrize("schedule", [None, every(2)])
@pytest.mark.parametrize("calls", [True, False])
def test_an_optimizer_that_is_replaced_is_said(calls: bool, schedule: Any) -> None:
    model = net()
    optimizer = sgd(model)
    probe = PerformanceProbe().attach(model, (X, Y), optimizer=optimizer, schedule=schedule)
    trained(model, optimizer, n=3)
    optimizer = sgd(model)
    if calls:
        with pytest.warns(ProbeWarning, match="weights that change while it has made 3 steps") as caught:
            [probe.observe(lr=trained(model, optimizer, n=1)[0].weight.sum()) for _ in range(12)]
        assert len(caught) == 1
        probe.detach()
    else:
        trained(model, optimizer, n=12)
        with pytest.warns(ProbeWarning, match="weights that change while it has made 3 steps"):
            probe.detach()


def test_weights_that_are_loaded_are_no_updates() -> None:
    model = net()
    optimizer = sgd(model)
    probe = PerformanceProbe().attach(model, (X, Y), optimizer=optimizer)
    best = copy.deepcopy(model.state_dict())
    model.load_state_dict(best)  # the same numbers, as when processes begin
    probe.observe(lr=0.1)
    for _ in range(3):
        trained(model, optimizer, n=1)
        probe.observe(lr=0.1)
        kept = copy.deepcopy(model.state_dict())
        model.load_state_dict(best)  # an average of the weights, for a validation
        probe.observe(lr=0.1)
        model.load_state_dict(kept)
        probe.observe(lr=0.1)
    model.load_state_dict(best)
    probe.detach()
    PerformanceProbe().attach(model, (X, Y), optimizer=optimizer).detach()


# -- prepared by libraries -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_accelerate_skips_steps_while_gradients_accumulate_and_these_do_not_count() -> None:
    accelerator = pytest.importorskip("accelerate").Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = net()
    model, optimizer = accelerator.prepare(model, sgd(model))
    probe = PerformanceProbe().attach(model, (X, Y), optimizer=optimizer, schedule=every(1))
    for _ in range(6):
        with accelerator.accumulate(model):
            accelerator.backward(nn.functional.cross_entropy(model(X), Y))
            optimizer.step()
            optimizer.zero_grad()
    assert probe.detach().series_["step"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("automatic", [True, False])
def test_the_optimizer_that_lightning_hands_out(automatic: bool, tmp_path: Any) -> None:
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.net, self.automatic_optimization = net(), automatic

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net(x)

        def on_train_start(self) -> None:
            self.probe = PerformanceProbe().attach(self, (X, Y), optimizer=self.optimizers(), schedule=every(1))

        def training_step(self, batch: Any, index: int) -> Any:
            loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
            if not automatic:
                self.optimizers().zero_grad()
                self.manual_backward(loss)
                self.optimizers().step()
            return loss if automatic else None

        def on_train_end(self) -> None:
            self.probe.detach()

        def configure_optimizers(self) -> Any:
            return sgd(self.net)

    module = Module()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, Y), batch_size=4)
    lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path,
    ).fit(module, loader)  # fmt: skip
    assert module.probe.series_["step"].values.tolist() == list(range(7))
