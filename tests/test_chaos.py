"""Batches by the step, twins, tangents and chaos: closed forms on quadratic losses, and what must be refused."""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, RandomSampler, TensorDataset

from probe import ChaosProbe
from probe.errors import ProbeWarning
from probe.forward import TrainingContext, read_data, step_batches, trace
from probe.forward.window_curvature import Curvature, choose_route, quadratic_tangent
from probe.forward.window_dual import NotDifferentiableError, prepare
from probe.forward.window_tangent import tangent
from probe.forward.windows import Window, gaussian
from probe.geometry import log_growth, top_eigenpair
from probe.measures.chaos.barrier import loss_reader, losses_on_line
from probe.measures.chaos.preconditioner import roots
from probe.stats import loss_barriers

X, Y = torch.randn(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 3

# -- batches by the step -----------------------------------------------------------------------------------------------


class Augmented(Dataset[Any]):
    """Rows with noise from all global generators."""

    def __len__(self) -> int:
        return 7

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.tensor([i + torch.rand(()).item(), np.random.rand()]), i  # noqa: NPY002


class Endless(IterableDataset[Any]):
    def __iter__(self) -> Iterator[int]:
        yield from range(3)


@pytest.mark.parametrize("data", [Augmented(), DataLoader(Augmented(), 3, shuffle=True)], ids=["dataset", "loader"])
def test_batches_are_a_function_of_the_step(data: Any) -> None:
    batches = step_batches(data, 3)
    assert batches.per_epoch == 3
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
    whole = batches(4, 5)
    torch.rand(3)
    for k, (x, rows) in enumerate(whole):
        again, same_rows = batches(4 + k, 1)[0]
        assert torch.equal(x, again)
        assert torch.equal(rows, same_rows)
    epochs = [torch.cat([rows for _, rows in batches(start, 3)]).tolist() for start in (0, 3, 6)]
    assert all(sorted(rows) == list(range(7)) for rows in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert not torch.equal(batches(0, 1)[0][0], step_batches(data, 3, random_state=1)(0, 1)[0][0])
    torch.set_rng_state(before[0])
    batches(0, 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]  # noqa: NPY002


def test_a_loader_without_shuffling_gives_its_own_batches() -> None:
    loader = DataLoader(TensorDataset(X, Y), 7, drop_last=True)
    mine = step_batches(loader)(0, 3)
    for (x, y), (same_x, same_y) in zip(mine, loader, strict=True):
        assert torch.equal(x, same_x)
        assert torch.equal(y, same_y)
    assert torch.equal(step_batches(loader)(3, 1)[0][1], mine[0][1])


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (iter([1]), TypeError, "indexed by the row, got list_iterator"),
        (DataLoader(Endless()), TypeError, "indexed by the row, got Endless"),
        ({"x": X}, TypeError, "got dict"),
        (
            DataLoader(TensorDataset(X), batch_sampler=BatchSampler(range(9), 3, False)),
            ValueError,
            "BatchSampler of Seq",
        ),
        (DataLoader(TensorDataset(X), 4, sampler=RandomSampler(X, replacement=True)), ValueError, "of RandomSampler"),
        (DataLoader(TensorDataset(X), 4, sampler=list(range(3))), ValueError, "BatchSampler of list"),
        (DataLoader(TensorDataset(X), None), ValueError, "NoneType of SequentialSampler"),
        (TensorDataset(X[:0]), ValueError, "got 0 rows"),
    ],
)
def test_data_without_batches_by_the_step_are_refused(data: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        step_batches(data)


@pytest.mark.parametrize("kind", ["pair", "loader", "function"])
def test_the_usual_loop_in_two_lines(kind: str) -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    data = {"pair": (X, Y), "loader": DataLoader(TensorDataset(X, Y), 8), "function": step_batches((X, Y), 8)}[kind]
    training = TrainingContext.usual(optimizer, F.cross_entropy, data, batch_size=8, max_norm=0.5)
    copied, copied_optimizer = training.copy(model)
    for batch in training.batches(0, 4):
        training.update(copied, copied_optimizer, batch)
    for x, y in training.batches(0, 4):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
    assert all(map(torch.equal, model.parameters(), copied.parameters()))


def test_batches_that_are_no_pairs_are_refused_in_the_usual_loop() -> None:
    model = nn.Linear(6, 3)
    training = TrainingContext.usual(torch.optim.SGD(model.parameters()), F.mse_loss, TensorDataset(X))
    with pytest.raises(TypeError, match=r"Expected batches \(inputs, targets\), got list"):
        training.step_fn(model, training.optimizer, training.batches(0, 1)[0])


# -- windows, twins, tangents ------------------------------------------------------------------------------------------


class Quadratic(nn.Module):
    """Half a quadratic form of its parameters."""

    def __init__(self, curvatures: Tensor, start: Tensor) -> None:
        super().__init__()
        self.register_buffer("curvatures", curvatures.double())
        self.theta = nn.Parameter(start.double().clone())

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.curvatures * self.theta**2).sum() / 2  # type: ignore[operator]


CURVATURES, START = torch.tensor([0.1, 0.7, 2.0]), torch.tensor([1.0, -0.5, 0.3])


def window_of(
    model: nn.Module, optimizer: torch.optim.Optimizer, data: Any, loss: Any, n: int, batch_size: int | None = None
) -> Window:
    training = TrainingContext.usual(optimizer, loss, data, batch_size=batch_size)
    return Window(training, model, training.batches(0, n), seed=0, outputs=lambda copied: copied(data[0]))


def quadratic(make: Callable[[Any], torch.optim.Optimizer], n: int, before: int = 0) -> Window:
    model = Quadratic(CURVATURES, START)
    ones = torch.ones(2, dtype=torch.float64)
    window = window_of(model, make(model.parameters()), (ones, ones), lambda outputs, _: outputs.mean(), n)
    for batch in window.training.batches(0, before):
        window.training.step_fn(model, window.training.optimizer, batch)
    return window


def growths(window: Window, direction: Tensor, size: float) -> tuple[float, float]:
    """Log growth of a twin and of the tangent."""
    plain, twin = window.run(), window.run(size * direction)
    derivative = tangent(window, direction)[0]
    return log_growth(plain.start, plain.end, twin.start, twin.end), derivative.norm().log().item()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_growth_of_gradient_descent_on_a_quadratic_loss(axis: int) -> None:
    """A direction along an axis is multiplied by 1 - lr h in each step."""
    window = quadratic(lambda p: torch.optim.SGD(p, 0.3), 40)
    expected = 40 * math.log(abs(1 - 0.3 * CURVATURES[axis].item()))
    assert growths(window, torch.eye(3).double()[axis], 1e-3) == pytest.approx([expected] * 2, abs=1e-6)


@pytest.mark.parametrize("before", [0, 5])
def test_growth_of_momentum_on_a_quadratic_loss(before: int) -> None:
    """The pair (theta, buffer) is multiplied by a matrix; the perturbation starts with no buffer."""
    window = quadratic(lambda p: torch.optim.SGD(p, 0.3, momentum=0.9), 25, before)
    direction = torch.ones(3).double() / math.sqrt(3)
    ends = []
    for h in CURVATURES.tolist():
        matrix = np.array([[1 - 0.3 * h, -0.3 * 0.9], [h, 0.9]])
        ends.append((np.linalg.matrix_power(matrix, 25) @ [1 / math.sqrt(3), 0.0])[0])
    expected = math.log(np.linalg.norm(ends))
    assert growths(window, direction, 1e-3) == pytest.approx([expected] * 2, abs=1e-6)


@pytest.mark.parametrize("before", [0, 4])
def test_growth_of_adam_on_a_quadratic_loss(before: int) -> None:
    """The derivative of the recursion of Adam, written out for one parameter."""
    window = quadratic(lambda p: torch.optim.Adam(p, 0.01), 20, before)
    ends = []
    for h, theta in zip(CURVATURES.double().tolist(), START.double().tolist(), strict=True):
        m = v = dm = dv = d = 0.0
        for k in range(1, 21 + before):
            if k == before + 1:
                d = 1.0
            g, dg = h * theta, h * d
            m, dm = 0.9 * m + 0.1 * g, 0.9 * dm + 0.1 * dg
            v, dv = 0.999 * v + 0.001 * g * g, 0.999 * dv + 0.002 * g * dg
            root = math.sqrt(v / (1 - 0.999**k))
            change = 1 / (root + 1e-8) / (1 - 0.9**k)
            d -= 0.01 * change * (dm - m / (root + 1e-8) * dv / (2 * root * (1 - 0.999**k)))
            theta -= 0.01 * change * m
        ends.append(d / math.sqrt(3))
    direction = torch.ones(3).double() / math.sqrt(3)
    assert growths(window, direction, 1e-6) == pytest.approx([math.log(np.linalg.norm(ends))] * 2, abs=1e-6)


def tanh_window(dtype: torch.dtype = torch.float64, n: int = 100, act: type[nn.Module] = nn.Tanh) -> Window:
    """The network and the training of the table of float32: 20-64-5, SGD .1 with momentum .9, batches of 64."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 64), act(), nn.Linear(64, 5)).to(dtype)
        x = torch.randn(512, 20).to(dtype)
        y = torch.randint(5, (512,))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    return window_of(model, optimizer, (x, y), F.cross_entropy, n, 64)


def direction_of(window: Window) -> Tensor:
    return gaussian(list(window.model.parameters()), torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("n", "decades"), [(15, (3, 8)), pytest.param(100, range(2, 10), marks=pytest.mark.slow)])
@pytest.mark.parametrize("act", [nn.Tanh, nn.ReLU])
def test_the_tangent_equals_a_twin_over_eight_decades(act: type[nn.Module], n: int, decades: Sequence[int]) -> None:
    """With ReLU, only below the size at which kinks set in, which is between 1e-5 and 1e-4 here."""
    window = tanh_window(n=n, act=act)
    direction, plain = direction_of(window), window.run()
    expected = tangent(window, direction)[0].norm().log().item()
    single = tangent(tanh_window(torch.float32, n, act), direction)[0].norm().log().item()
    assert single == pytest.approx(expected, abs=1e-5)
    sizes = 10.0 ** -np.array(decades, float)
    twins = [window.run(size * direction) for size in sizes]
    found = np.array([log_growth(plain.start, plain.end, twin.start, twin.end) for twin in twins])
    smooth = sizes < (1 if act is nn.Tanh else 5e-5)
    assert found[smooth] == pytest.approx(expected, abs=1e-3)
    assert (found[~smooth] > expected + 1).all()


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "nesterov": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True, weight_decay=1e-2),
    "ASGD": lambda p: torch.optim.ASGD(p, 0.1),
    "Adam": lambda p: torch.optim.Adam(p, 1e-2, amsgrad=True),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2, foreach=True),
    "Adamax": lambda p: torch.optim.Adamax(p, 1e-2),
    "NAdam": lambda p: torch.optim.NAdam(p, 1e-2),
    "RAdam": lambda p: torch.optim.RAdam(p, 1e-2),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, momentum=0.5, centered=True),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
    "Adadelta": lambda p: torch.optim.Adadelta(p),
}


NORMALISED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight norm": nn.utils.parametrizations.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "spectral norm of hooks": nn.utils.spectral_norm,
}


@pytest.mark.parametrize("name", NORMALISED)
def test_normalised_weights_have_the_tangent_of_a_twin(name: str) -> None:
    """PyTorch's second derivative of weight norm is wrong; spectral norm moves its vectors with the parameters."""
    torch.manual_seed(0)
    model = nn.Sequential(NORMALISED[name](nn.Linear(6, 8)), nn.Tanh(), nn.Linear(8, 3)).double()
    window = window_of(model, torch.optim.SGD(model.parameters(), 0.3), (X.double(), Y), F.cross_entropy, 4, 8)
    direction = direction_of(window)
    twin, derivative = growths(window, direction, 1e-7)
    assert derivative == pytest.approx(twin, abs=1e-5)
    assert choose_route(window, direction) == ("reverse" if name == "weight norm" else "forward")
    if name == "weight norm":
        assert torch.allclose(tangent(window, direction)[0], tangent(window, direction, "reverse")[0], atol=1e-11)


class Everything(nn.Module):
    """Batch, layer and group norm, dropout, attention, a detached value, tied weights, and a dead unit."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.act = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh()
        self.attention, self.groups = nn.MultiheadAttention(8, 2, batch_first=True), nn.GroupNorm(2, 8)
        self.drop, self.last, self.head = nn.Dropout(0.2), nn.LayerNorm(8), nn.Linear(8, 3)
        self.attached = False
        with torch.no_grad():
            self.first.weight[0], self.norm.weight[0] = 0, 0

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.norm(self.first(x)))
        tokens = torch.stack([x, x + 1, x * 0.5], 1)
        x = self.attention(tokens, tokens, tokens)[0].mean(1) + (x if self.attached else x.detach()) * x
        return self.head(self.drop(self.last(self.groups(x))))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_tangent_of_each_optimizer_equals_a_twin(name: str) -> None:
    """In a training that has begun: in the first updates of Adam, weights without a gradient have a kink at 0."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    window = window_of(model, OPTIMIZERS[name](model.parameters()), (X.double(), Y), F.cross_entropy, 10, 8)
    for batch in window.training.batches(0, 4):
        window.training.step_fn(model, window.training.optimizer, batch)
    direction = direction_of(window)
    twin, derivative = growths(window, direction, 1e-7)
    assert derivative == pytest.approx(twin, abs=1e-5)
    pairs = zip(tangent(window, direction), tangent(window, direction, "reverse"), strict=True)
    assert all(torch.allclose(one, other, rtol=1e-9, atol=1e-12) for one, other in pairs)


def test_the_tangent_of_a_network_with_everything_equals_a_twin() -> None:
    torch.manual_seed(0)
    model = Everything().double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    window = window_of(model, optimizer, (X.double(), Y), F.cross_entropy, 8, 8)
    window = replace(window, training=TrainingContext.usual(optimizer, F.cross_entropy, (X.double(), Y), max_norm=0.5))
    direction, plain = direction_of(window), window.run()
    derivative, end, _, _ = tangent(window, direction)
    one, other = (window.run(size * direction).end for size in (1e-8, -1e-8))
    assert torch.allclose(end, plain.end, atol=1e-12)
    assert (derivative - (one - other) / 2e-8).norm() < 1e-6 * derivative.norm()
    assert choose_route(window, direction) == "forward", "a detached value depends on the parameters"


def test_without_a_detached_value_the_second_backward_pass_is_as_exact() -> None:
    """Batch norm has a second derivative of its own there."""
    torch.manual_seed(0)
    model = Everything().double()
    model.attached = True
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    window = window_of(model, optimizer, (X.double(), Y), F.cross_entropy, 8, 8)
    window = replace(window, training=TrainingContext.usual(optimizer, F.cross_entropy, (X.double(), Y), max_norm=0.5))
    direction = direction_of(window)
    assert choose_route(window, direction) == "reverse"
    one, other = (tangent(window, direction, route)[0] for route in ("forward", "reverse"))
    assert torch.allclose(one, other, atol=1e-11)
    one, other = (quadratic_tangent(window, direction, route) for route in ("forward", "reverse"))
    assert torch.allclose(one, other, atol=1e-11)


@pytest.mark.parametrize("name", ["mse_loss", "smooth_l1_loss", "cross_entropy"])
def test_losses_of_real_targets_have_a_tangent(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 3), nn.LogSoftmax(1)).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    window = window_of(model, optimizer, (X.double(), X[:, :3].double().softmax(1)), getattr(F, name), 4)
    twin, derivative = growths(window, direction_of(window), 1e-7)
    assert derivative == pytest.approx(twin, abs=1e-5)


def dead_unit(waking: bool) -> Window:
    """Adam before its first update, with a unit that never fires, or one that the perturbation wakes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    with torch.no_grad():
        model[0].bias[0] = -1e3  # type: ignore[operator]
        if waking:
            model[2].weight[:, 1] = 0  # the unit has outputs, so its gradient is 0 until a weight changes
    return window_of(model, torch.optim.Adam(model.parameters(), 1e-2), (X.double(), Y), F.cross_entropy, 5, 8)


@pytest.mark.parametrize("route", ["forward", "reverse"])
def test_adam_has_a_derivative_where_no_gradient_has_been(route: str) -> None:
    """A unit that never fires has v = 0 and m = 0: it stays, and so does a perturbation that does not wake it."""
    window = dead_unit(waking=False)
    direction = torch.zeros(sum(p.numel() for p in window.model.parameters())).double()
    direction[0] = 1  # a weight of the dead unit
    assert torch.equal(tangent(window, direction, route)[0], direction)


@pytest.mark.parametrize("route", ["forward", "reverse"])
def test_the_first_updates_of_adam_have_the_derivative_of_sizes_below_eps(route: str) -> None:
    """A first gradient g of exactly 0 moves by lr g / (|g| + eps): lr / eps times its change, for changes below eps."""
    window = dead_unit(waking=True)
    window = replace(window, batches=window.batches[:1])
    direction = direction_of(window)
    derivative = tangent(window, direction, route)[0]
    one, other = (window.run(size * direction).end for size in (1e-13, -1e-13))
    assert derivative.norm().item() > 100
    assert (derivative - (one - other) / 2e-13).norm() < 1e-2 * derivative.norm()
    large = window.run(1e-2 * direction).end - window.run().end
    assert large.norm().item() / 1e-2 < 0.1 * derivative.norm().item()


class Copying(torch.optim.SGD):
    """An update of a class of the user's own."""


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda p: torch.optim.LBFGS(p), "LBFGS"),
        (lambda p: torch.optim.Adafactor(p), "Adafactor"),
        (lambda p: torch.optim.SparseAdam(p), "SparseAdam"),
        (lambda p: torch.optim.Rprop(p), "Rprop"),
        (lambda p: torch.optim.Muon([q for q in p if q.ndim == 2]), "Muon"),
        (lambda p: Copying(p, 0.1), "Copying"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_optimizers_without_derivatives_are_refused_by_name(make: Any, name: str) -> None:
    model = nn.Linear(6, 3)
    window = window_of(model, make(list(model.parameters())), (X, Y), F.cross_entropy, 2)
    with pytest.raises(NotDifferentiableError, match=f"of torch.optim, got {name}; its twin is measured"):
        tangent(window, torch.ones(21))


class Recurrent(nn.Module):
    def __init__(self, cell: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.cell, self.head = cell(6, 4, batch_first=True), nn.Linear(4, 3)  # type: ignore[call-arg]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(x[:, None].expand(-1, 3, -1))[0][:, -1])


class Attends(nn.Module):
    """Attention by a function that takes a kernel without derivatives by default."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        z = self.tokens(x).view(-1, 1, 4, 2)
        return self.head(F.scaled_dot_product_attention(z, z, z).flatten(1))


@pytest.mark.parametrize("make", [lambda: Recurrent(nn.LSTM), lambda: Recurrent(nn.GRU), Attends, "huber_loss"])
def test_a_second_backward_pass_where_there_are_no_forward_derivatives(make: Any) -> None:
    torch.manual_seed(0)
    named = isinstance(make, str)
    model = (nn.Linear(6, 6) if named else make()).double()
    loss, y = (getattr(F, make), X.double().flip(1)) if named else (F.cross_entropy, Y)
    window = window_of(model, torch.optim.Adam(model.parameters(), 1e-2), (X.double(), y), loss, 4, 8)
    for batch in window.training.batches(0, 2):
        window.training.step_fn(model, window.training.optimizer, batch)
    direction = direction_of(window)
    assert choose_route(window, direction) == "reverse"
    derivative, _, first, last = tangent(window, direction, "reverse")
    one, other = (window.run(size * direction) for size in (1e-6, -1e-6))
    for found, name in ((derivative, "end"), (first, "outputs_start"), (last, "outputs_end")):
        assert torch.allclose(found, (getattr(one, name) - getattr(other, name)) / 2e-6, rtol=1e-6, atol=1e-8)


class Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0]


class Marked(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return Once.apply(super().forward(x))  # type: ignore[no-any-return]


def step_of(kind: str) -> Callable[[nn.Module, torch.optim.Optimizer, Any], Tensor]:
    """Return an update that is not the usual one."""

    def step_fn(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
        def closure() -> Tensor:
            optimizer.zero_grad()
            losses = [F.cross_entropy(model(x), y) / 2 for x, y in zip(batch[0].chunk(2), batch[1].chunk(2))]  # noqa: B905
            for loss in losses:
                torch.autograd.backward(loss) if kind == "function" else scaler.scale(loss).backward()
            return losses[0]

        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, enabled=kind == "scaler")
        if kind == "closure":
            return optimizer.step(closure)
        loss = closure()
        if kind == "clipped":
            nn.utils.clip_grad_value_(model.parameters(), 0.05)
        if kind == "by hand":
            with torch.no_grad():
                for p in model.parameters():
                    p -= 0.1 * p.grad
        elif kind == "data":
            for p in model.parameters():
                p.data = p.detach() - 0.1 * p.grad
        else:
            scaler.step(optimizer)
        if kind == "bounded":
            with torch.no_grad():
                model[0].weight.clamp_(-0.3, 0.3)  # type: ignore[index, operator]
        if kind == "scheduled":
            optimizer.param_groups[0]["lr"] *= 0.5
        return loss

    return step_fn


SGD = lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)  # noqa: E731
ADAM = lambda p: torch.optim.Adam(p, 1e-2)  # noqa: E731
BODY = nn.Linear(6, 6)
UNUSUAL: dict[str, tuple[nn.Module, Any, str, str]] = {  # model, optimizer, update, why there is no tangent
    "closure": (nn.Linear(6, 3), SGD, "closure", ""),
    "scaler": (nn.Linear(6, 3), SGD, "scaler", ""),
    "clipped": (nn.Linear(6, 3), ADAM, "clipped", ""),
    "function": (nn.Linear(6, 3), SGD, "function", ""),
    "bounded": (nn.Sequential(nn.Linear(6, 3)), SGD, "bounded", ""),
    "scheduled": (nn.Linear(6, 3), SGD, "scheduled", ""),
    "fused": (nn.Linear(6, 3), lambda p: torch.optim.AdamW(p, 1e-2, fused=True), "", ""),
    "tied": (nn.Sequential(BODY, nn.Tanh(), BODY), SGD, "", ""),
    "frozen": (nn.Sequential(nn.Linear(6, 6).requires_grad_(False), nn.Tanh(), nn.Linear(6, 3)), ADAM, "", ""),
    "dropout": (nn.Sequential(nn.Linear(6, 6), nn.Dropout(), nn.Linear(6, 3)), SGD, "", ""),
    "by hand": (nn.Linear(6, 3), SGD, "by hand", "call optimizer.step.. once, got 0 calls"),
    "data": (nn.Linear(6, 3), SGD, "data", r"got one with \.data of a parameter"),
    "once": (Marked(6, 3), SGD, "", r"marked once_differentiable; .* must implement the jvp function"),
    "LBFGS": (nn.Linear(6, 3), torch.optim.LBFGS, "closure", "of torch.optim, got LBFGS; its twin is measured"),
    "sparse": (nn.EmbeddingBag(6, 3, sparse=True), lambda p: torch.optim.SparseAdam([*p]), "", "gradients are sparse"),
}


@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_updates_have_a_tangent_or_are_named(name: str) -> None:
    model, make, kind, reason = UNUSUAL[name]
    torch.manual_seed(0)
    for module in model.modules():
        getattr(module, "reset_parameters", lambda: None)()
    sparse = isinstance(model, nn.EmbeddingBag)
    x = X.abs().long() if sparse else X.double()
    model = model if sparse else model.double()
    training = TrainingContext(make(model.parameters()), step_of(kind), step_batches((x, Y), 8))
    for batch in training.batches(0, 2):
        training.step_fn(model, training.optimizer, batch)
    probe = ChaosProbe(window=3, sizes=[1e-4 if sparse else 1e-6], n_products=2)
    with pytest.warns(ProbeWarning, match=reason) if reason else nullcontext():
        found = probe.attach(model, (x, Y), training=training, on_error="raise").observe(0).series_.squeeze()
    assert found["chaos_not_differentiable"].item() == bool(reason)
    assert found["chaos_growth"].notnull()
    assert found["chaos_nondeterministic"].item() == 0
    if not reason or name == "by hand":  # its tangent needs no step of the optimizer, the sharpness does
        for pair in ("growth", "output_growth"):
            assert found[f"chaos_tangent_{pair}"].item() == pytest.approx(found[f"chaos_{pair}"].item(), abs=1e-4)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    model = nn.Linear(6, 3)
    window = window_of(model, torch.optim.SGD(model.parameters(), 1e30), (X, X[:, :3]), F.mse_loss, 4)
    with pytest.raises(ValueError, match=r"Expected finite losses in a window of 4 updates, got (nan|inf) at update"):
        window.run()


# -- curvature ---------------------------------------------------------------------------------------------------------


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    window = window_of(model, torch.optim.AdamW(model.parameters()), (X.double(), Y), F.cross_entropy, 2)
    names = [name for name, _ in model.named_parameters()]
    shapes = [p.shape for p in model.parameters()]

    def loss(vector: Tensor) -> Tensor:
        pieces = vector.split([shape.numel() for shape in shapes])
        values = {name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
        return F.cross_entropy(torch.func.functional_call(model, values, X.double()), Y)

    at = torch.cat([p.detach().flatten() for p in model.parameters()])
    hessian = torch.autograd.functional.hessian(loss, at)
    values, vectors = torch.linalg.eigh(hessian)
    curvature = Curvature(window)
    start = direction_of(window)
    assert torch.allclose(curvature.product(start), hessian @ start, atol=1e-12)
    value, vector, residual = top_eigenpair(curvature.product, start, 30)
    assert value == pytest.approx(values[-1].item(), abs=1e-8)
    assert (vector @ vectors[:, -1]).abs().item() == pytest.approx(1, abs=1e-6)
    short, _, residual = top_eigenpair(curvature.product, start, 6)
    assert (values - short).abs().min() <= residual
    gradient = torch.autograd.functional.jacobian(loss, at)
    assert torch.allclose(curvature.gradient(), gradient, atol=1e-12)


PRECONDITIONED: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "Adam": lambda p: torch.optim.Adam(p, 1e-2, betas=(0.8, 0.9), eps=1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, 1e-2, amsgrad=True),
    "RMSprop": lambda p: torch.optim.RMSprop(p, 1e-3, centered=True),
    "SGD": lambda p: torch.optim.SGD(p, 0.1),
    "Adagrad": lambda p: torch.optim.Adagrad(p, 1e-2),
}


@pytest.mark.parametrize("name", PRECONDITIONED)
def test_preconditioned_sharpness_is_the_largest_eigenvalue_of_the_scaled_hessian(name: str) -> None:
    """On a diagonal Hessian h, it is max h / P, with P from the recursion of the optimizer (Cohen et al. 2022)."""
    window = quadratic(PRECONDITIONED[name], 1)
    model, optimizer = window.model, window.training.optimizer
    assert (roots(window) is None) == (name != "SGD"), "no update yet"
    second, first = torch.zeros(3).double(), torch.zeros(3).double()
    for batch in window.training.batches(0, 4):
        gradient = model.curvatures * model.theta.detach()  # type: ignore[operator, union-attr]
        second = 0.9 * second + 0.1 * gradient**2
        window.training.step_fn(model, optimizer, batch)
    state = optimizer.state[model.theta]  # type: ignore[index]
    expected = {
        "Adam": lambda: (1 - 0.8**4) * ((second / (1 - 0.9**4)).sqrt() + 1e-3),
        "AdamW": lambda: (1 - 0.9**4) * ((state["max_exp_avg_sq"] / (1 - 0.999**4)).sqrt() + 1e-8),
        "RMSprop": lambda: (state["square_avg"] - state["grad_avg"] ** 2).sqrt() + 1e-8,
        "SGD": lambda: first + 1,
    }
    probe = ChaosProbe(window=2, sizes=[1e-3], n_products=8)
    ones = torch.ones(2).double()
    found = probe.fit(model, (ones, ones), training=window.training).series_["sharpness_preconditioned"].item()
    if name == "Adagrad":
        assert math.isnan(found)
    else:
        assert found == pytest.approx((CURVATURES.double() / expected[name]()).max().item(), rel=1e-6)


def test_parameters_without_an_update_are_left_out_of_the_preconditioned_sharpness() -> None:
    torch.manual_seed(0)
    found = []
    for more in (False, True):
        model = Quadratic(CURVATURES, START)
        if more:
            model.unused = nn.Linear(2, 2).double()
        ones = torch.ones(2).double()
        training = TrainingContext.usual(torch.optim.Adam(model.parameters()), lambda z, _: z.mean(), (ones, ones))
        for batch in training.batches(0, 3):
            training.step_fn(model, training.optimizer, batch)
        probe = ChaosProbe(window=1, sizes=[1e-3], n_products=8, quadratic=False)
        found.append(probe.fit(model, (ones, ones), training=training).series_["sharpness_preconditioned"].item())
    assert found[1] == pytest.approx(found[0], rel=1e-9)


def test_a_step_function_that_never_steps_has_no_curvature() -> None:
    model = nn.Linear(6, 3)
    window = window_of(model, torch.optim.SGD(model.parameters(), 0.1), (X, Y), F.cross_entropy, 2)
    window = replace(window, training=replace(window.training, step_fn=lambda *_: None))
    with pytest.raises(NotDifferentiableError, match=r"Expected step_fn to call optimizer.step\(\)"):
        Curvature(window).gradient()


@pytest.mark.parametrize("make", [lambda p: torch.optim.SGD(p, 0.3, momentum=0.9), lambda p: torch.optim.Adam(p, 0.01)])
def test_on_a_quadratic_loss_the_quadratic_model_is_the_training(make: Any) -> None:
    window = quadratic(make, 15, before=3)
    direction = torch.ones(3).double()
    assert torch.allclose(quadratic_tangent(window, direction), tangent(window, direction)[0], atol=1e-12)


def test_the_quadratic_model_keeps_the_hessian_of_the_start() -> None:
    """Full batches and gradient descent: the matrix 1 - lr H, at each of 12 updates."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    window = window_of(model, optimizer, (X.double(), Y), F.cross_entropy, 12)
    curvature, expected = Curvature(window), direction_of(window)
    for _ in range(12):
        expected = expected - 0.5 * curvature.product(expected)
    assert torch.allclose(quadratic_tangent(window, direction_of(window)), expected, atol=1e-12)


# -- the probe ---------------------------------------------------------------------------------------------------------


def observed(model: nn.Module, x: Tensor, y: Tensor, optimizer: Any = None, **parameters: Any) -> Any:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loss = F.mse_loss if y.is_floating_point() else F.cross_entropy
    training = TrainingContext.usual(optimizer, loss, (x, y), batch_size=64)
    probe = ChaosProbe(**parameters).fit(model, (x, y), training=training)
    return probe.series_.isel(step=0, drop=True)


def table(dtype: torch.dtype, act: type[nn.Module]) -> tuple[nn.Module, Tensor, Tensor]:
    window = tanh_window(dtype, 1, act)
    x, y = window.training.batches(0, 8), window.batches
    del y
    return window.model, torch.cat([rows for rows, _ in x]), torch.cat([targets for _, targets in x])


@pytest.mark.parametrize("n", [12, pytest.param(100, marks=pytest.mark.slow)])
def test_smooth_networks_grow_alike_at_each_size_and_rounding_is_refused(n: int) -> None:
    """In float64 a constant over eight decades; float32 gives 2.8 in place of .51 at the size 1e-7 (100 updates)."""
    model, x, y = table(torch.float64, nn.Tanh)
    norm = torch.cat([p.detach().flatten() for p in model.parameters()]).norm().item()
    sizes = 10.0 ** -np.arange(8, 0, -1) / norm  # absolute sizes are multiples of the norm for the probe
    found = observed(model, x, y, sizes=sizes[:-1], window=n, n_products=0).isel(direction=0)
    truth = found["chaos_tangent_growth"].item()
    assert found["chaos_growth"].values == pytest.approx(truth, abs=1e-3)
    model, x, y = table(torch.float32, nn.Tanh)
    with pytest.warns(ProbeWarning, match=r"parameters can hold, got sizes \[.*\], whose growth is NaN; pass sizes of"):
        single = observed(model, x, y, sizes=sizes, window=n, n_products=0).isel(direction=0)
    assert single["chaos_tangent_growth"].item() == pytest.approx(truth, abs=1e-5)
    growth, usable = single["chaos_growth"].values, sizes > single["chaos_smallest_size"].item()
    assert single["chaos_rounded"].values.tolist() == np.isnan(growth).tolist() == (~usable).tolist()
    assert usable[[0, 1, 2, 4, 5, 6]].tolist() == [False, False, False, True, True, True]  # 1e-8 to 1e-6, 1e-4 to 1e-2
    assert growth[usable][:-1] == pytest.approx(truth, abs=0.01)
    output_growth = single["chaos_output_growth"].values[4:7]
    assert output_growth == pytest.approx(single["chaos_tangent_output_growth"].item(), abs=0.01)
    assert single["chaos_nondeterministic"].item() == 0
    assert (single["chaos_disagreement"].values[4:6] < 0.1).all()


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.head = nn.MultiheadAttention(6, 2, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = torch.stack([x, x * 0.5, x.flip(1)], 1)
        return self.head(self.attention(tokens, tokens, tokens)[0].mean(1))


def test_a_bias_without_effect_leaves_the_numbers_of_outputs() -> None:
    """The bias of keys has a gradient of rounding only, which Adam divides by its size. Outputs do not depend on it."""
    torch.manual_seed(0)
    model = Attention()
    nn.init.normal_(model.attention.in_proj_bias)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    found = observed(model, X, Y, optimizer, window=5, sizes=[1e-3], n_products=0).isel(direction=0, size=0)
    assert (found["chaos_rounded"].item(), found["chaos_output_rounded"].item()) == (1, 0)
    assert np.isnan(found["chaos_growth"].item())
    tangent_growth = found["chaos_tangent_output_growth"].item()
    assert found["chaos_output_growth"].item() == pytest.approx(tangent_growth, abs=0.01)


@pytest.mark.parametrize(("width", "n"), [(64, 30), pytest.param(128, 50, marks=pytest.mark.slow)])
def test_relu_networks_are_limited_by_kinks(width: int, n: int) -> None:
    """20-64-64-5: log growth .2 up to the size 1e-6, 2.9 to 7.1 at 1e-4 (50 updates, 4 seeds).

    With four layers of 128: .02 up to 1e-7, 9.9 at 1e-6 for one of 4 seeds, and 2.6 to 8.3 at 1e-5.
    """
    dims = [20, width, width, 5] if width == 64 else [20, *[width] * 4, 5]
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = [module for one, other in pairwise(dims) for module in (nn.Linear(one, other), nn.ReLU())]
        model, x, y = nn.Sequential(*layers[:-1]).double(), torch.randn(512, 20).double(), torch.randint(5, (512,))
    norm = torch.cat([p.detach().flatten() for p in model.parameters()]).norm().item()
    sizes = np.array([1e-9, 1e-6, 1e-4] if width == 64 else [1e-9, 1e-7, 1e-5]) / norm
    found = observed(model, x, y, sizes=sizes, window=n, n_products=0).isel(direction=0)
    assert found["chaos_kink_limited"].item() == 1
    assert found["chaos_kink_size"].item() == sizes[2]
    assert found["chaos_growth"].values[:2] == pytest.approx(found["chaos_tangent_growth"].item(), abs=1e-3)
    assert found["chaos_growth"].values[2] > found["chaos_tangent_growth"].item() + 2
    assert found["sharpness"].isnull().item()


def test_growth_on_the_quadratic_model_and_other_directions() -> None:
    """One step from the start, the quadratic model is exact; the gradient of a linear model is a direction."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    names = ("gaussian", "gradient", "curvature")
    found = observed(model, X.double(), Y, directions=names, window=1, n_products=40)
    assert found["chaos_quadratic_growth"].values == pytest.approx(found["chaos_tangent_growth"].values, abs=1e-9)
    stretched = math.log(abs(1 - 0.1 * found["sharpness"].item()))  # the direction of the largest curvature
    assert found["chaos_tangent_growth"].sel(direction="curvature").item() == pytest.approx(stretched, abs=1e-6)
    assert found["sharpness_learning_rate"].item() == pytest.approx(0.1 * found["sharpness"].item())
    window = window_of(model, torch.optim.SGD(model.parameters(), 0.1), (X.double(), Y), F.cross_entropy, 1)
    gradient = Curvature(window).gradient()
    moved = tangent(window, gradient / gradient.norm())[0].norm().log().item()
    assert found["chaos_tangent_growth"].sel(direction="gradient").item() == pytest.approx(moved, abs=1e-9)


def test_barriers_of_known_losses() -> None:
    """A hump between ends of 1 and 3: 3.5 - 1.5 above the line at the second of five points, .5 above the ends."""
    losses = torch.tensor([[1.0, 3.5, 2.0, 2.5, 3.0], [2.0, 1.0, 1.0, 1.0, 0.0]]).double().T
    found = loss_barriers(losses)
    assert (found.line.tolist(), found.ends.tolist()) == ([2.0, 0.5], [0.5, 0.0])
    assert np.isnan(loss_barriers([1.0, math.inf, math.inf])).all()
    for wrong in (1.0, [1.0]):
        with pytest.raises(ValueError, match="Expected losses at 2 or more points"):
            loss_barriers(wrong)


def test_a_barrier_between_two_minima_and_none_within_one() -> None:
    """The loss of w -> w^2 with target 1 is (w^2 - 1)^2: 0 at -1 and 1, and 1 between them."""

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.w.square()

    model, ones = Square(), torch.ones(4, 1)
    window = window_of(model, torch.optim.SGD(model.parameters(), 0.1), (ones, ones), F.mse_loss, 1)
    trace_, data = trace(model, ones[:2]), read_data((ones, ones))["all"]
    losses = loss_reader([(data, torch.arange(4))], trace_, 4)
    rise = [losses_on_line(window, torch.ones(1), torch.tensor([end]), 9, losses) for end in (-1.0, 1.1)]
    assert np.ravel(loss_barriers(rise[0])) == pytest.approx([1.0, 1.0])
    assert np.ravel(loss_barriers(rise[1])) == pytest.approx([0.0, 0.0])


def test_barriers_re_estimate_batch_norm() -> None:
    """At an end, the statistics are means over the batches, as a pass in training mode over them gives."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 3))
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    found = observed(model, X, Y, optimizer, window=3, sizes=[0.01, 0.3], n_points=3, n_products=0)
    assert found["chaos_barrier"].sizes == {"direction": 1, "size": 2, "barrier": 2, "split": 1}
    assert (found["chaos_barrier"] >= 0).all()
    window = window_of(model, optimizer, (X, Y), F.cross_entropy, 2, 12)
    seen: list[Tensor] = []

    def read(copied: nn.Module) -> Tensor:
        seen.append(copied[1].running_mean.clone())  # type: ignore[index]
        return torch.zeros(1)

    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    losses_on_line(window, start, start, 1, read)
    expected = torch.stack([model[0](x).mean(0) for x, _ in window.batches]).mean(0)
    assert torch.allclose(seen[0], expected, atol=1e-6)


def test_a_training_without_derivatives_has_twins_only() -> None:
    torch.manual_seed(0)
    model = nn.Linear(6, 3)
    with pytest.warns(ProbeWarning, match="Expected one of the optimizers SGD.*got Rprop"):
        found = observed(model, X, Y, torch.optim.Rprop(model.parameters(), 1e-3), window=3)
    assert found["chaos_not_differentiable"].item() == 1
    assert found["chaos_kink_limited"].item() == -1
    assert found["chaos_tangent_growth"].isnull().all()
    assert found["sharpness"].notnull()  # needs no update
    assert found["chaos_growth"].notnull().all()


def test_a_training_that_is_not_deterministic_is_named() -> None:
    model, noise = nn.Linear(6, 3), torch.Generator()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    training = TrainingContext.usual(
        optimizer, lambda z, y: F.cross_entropy(z + torch.randn(3, generator=noise), y), (X, Y), batch_size=8
    )
    with pytest.warns(ProbeWarning, match="two unperturbed copies to train alike.*is not deterministic"):
        found = ChaosProbe(window=3, sizes=[1e-2]).fit(model, (X, Y), training=training).series_
    assert found["chaos_nondeterministic"].item() == 1
    assert found["chaos_rounded"].item() == 1


def test_numbers_of_other_precisions_bound_the_size() -> None:
    """A layer in bfloat16 rounds, although the others are in float32."""

    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(6, 4).bfloat16(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(x.bfloat16()).float())

    torch.manual_seed(0)
    with pytest.warns(ProbeWarning, match=r"got sizes \[0.001\], whose growth is NaN; pass sizes of 0.0\d or more"):
        found = observed(Mixed(), X, Y, window=2, sizes=[1e-3], n_products=0, quadratic=False)
    assert found["chaos_smallest_size"].item() > 1e-2


Step = Callable[[nn.Module, torch.optim.Optimizer, Any], Any]
OTHER = nn.Linear(6, 3)
OTHER_SGD = torch.optim.SGD(OTHER.parameters(), 0.1)


def diverges(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> None:
    step_of("")(model, optimizer, batch)
    with torch.no_grad():
        next(iter(model.parameters())).mul_(1e30)


def steps_another(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any) -> Tensor:
    OTHER_SGD.step()
    return step_of("")(model, optimizer, batch)


@pytest.mark.parametrize(
    ("step_fn", "batches", "message"),
    [
        (diverges, lambda step, n: step_batches((X, Y), 8)(step, n), "Expected finite parameters after a window of 4"),
        (steps_another, lambda step, n: step_batches((X, Y), 8)(step, n), "got a step of another SGD; put the param"),
        (step_of(""), lambda step, n: [(X, Y)] * min(n, 3), r"Expected 4 batches from training.batches\(0, 4\), got 3"),
    ],
)
def test_windows_that_are_not_those_of_the_training_are_refused(step_fn: Step, batches: Any, message: str) -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    training = TrainingContext(torch.optim.SGD(model.parameters(), 0.1), step_fn, batches)
    with pytest.raises(ValueError, match=message):
        ChaosProbe(window=4).fit(model, (X, Y), training=training)


def test_a_window_without_a_change_and_complex_parameters_are_named() -> None:
    model = nn.Linear(6, 3)
    training = TrainingContext(
        torch.optim.SGD(model.parameters(), 0.1), lambda _, optimizer, __: optimizer.step(), step_batches((X, Y), 8)
    )
    with pytest.warns(ProbeWarning, match="got parameters that no update of a window has changed; call step"):
        ChaosProbe(window=2, n_products=0).fit(model, (X, Y), training=training)
    both = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.cfloat))]
    with pytest.raises(NotDifferentiableError, match=r"Expected real trained parameters, got torch\.complex64; twins"):
        prepare(torch.optim.SGD(both, 0.1))
    with pytest.raises(ValueError, match="Expected trained real parameters of the model, got none"):
        gaussian([], torch.Generator())


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": 0}, "Expected window as a whole number >= 1, got 0"),
        ({"window": 2.5}, "Expected window as a whole number >= 1, got 2.5"),
        ({"max_samples": 0}, "Expected max_samples as a whole number >= 1, got 0"),
        ({"sizes": [0.0]}, r"Expected sizes between 0 and 1, got \[0.0\]; pass a list"),
        ({"sizes": 0.1}, "Expected sizes between 0 and 1, got 0.1; pass a list"),
        ({"directions": "gaussian"}, "got 'gaussian'; pass a list of those"),
        ({"directions": ["up"]}, "Expected directions among gaussian, gradient, curvature, got"),
        ({"directions": ["curvature"], "n_products": 0}, "Expected n_products >= 1"),
    ],
)
def test_wrong_parameters_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        observed(nn.Linear(6, 3), X, Y, **parameters)


# -- the four faults of another package, each on its least squares (eigenvalues .1 to 2, learning rate .3, 40 steps) ---


def test_growth_does_not_depend_on_the_size_in_float32() -> None:
    """The other package gives -.052, -.039 and -.033 for the sizes 1e-2, 1e-5 and 1e-7; the slowest rate is -.030.

    A size that float32 cannot resolve is NaN here, and the derivative has none.
    """
    values = torch.linspace(0.1, 2, 8)
    model = nn.Linear(8, 1, bias=False)
    x, y = torch.diag((values * 8 / 2).sqrt()), torch.zeros(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.3)
    direction = model.weight.detach().flatten().double()
    with pytest.warns(ProbeWarning, match="parameters can hold"):
        found = observed(model, x, y, optimizer, sizes=(1e-2, 1e-5, 1e-7), window=40, n_products=0).isel(direction=0)
    direction = gaussian([model.weight], torch.Generator().manual_seed(0))
    expected = (direction * (1 - 0.3 * values.double()) ** 40).norm().log().item()
    growth = found["chaos_growth"].values
    assert found["chaos_tangent_growth"].item() == pytest.approx(expected, abs=1e-5)
    assert growth[~np.isnan(growth)] == pytest.approx(expected, abs=0.02)
    assert not np.isnan(growth[-1])
    assert np.isnan(growth[0])


def test_an_unperturbed_twin_ends_exactly_where_the_original_does() -> None:
    """The other package refuses a size of 0."""
    window = tanh_window(torch.float32, 5)
    assert torch.equal(window.run().end, window.run(torch.zeros(1669)).end)


def test_twins_continue_with_the_state_of_the_optimizer() -> None:
    """The copies of the other package start with fresh momentum."""
    window = tanh_window(n=5)
    for batch in window.training.batches(0, 5):
        window.training.step_fn(window.model, window.training.optimizer, batch)
    end = window.run().end
    for k, batch in enumerate(window.batches):
        window.update(window.model, window.training.optimizer, batch, k)
    assert torch.equal(end, torch.cat([p.detach().flatten() for p in window.model.parameters()]))


def test_global_random_states_are_left_alone() -> None:
    """The other package changes them. Observations restore them; the contract tests cover model and optimizer."""
    model, before = nn.Sequential(nn.Linear(6, 3), nn.Dropout()), torch.get_rng_state()
    torch.manual_seed(3)
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # type: ignore[index, union-attr]  # noqa: NPY002
    observed(model, X, Y, window=2, sizes=[1e-2])
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # type: ignore[index]  # noqa: NPY002
    assert random.getstate() == before[2]
