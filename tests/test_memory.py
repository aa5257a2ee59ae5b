"""Tests of the memory that observations use, with bytes counted at their allocation."""

import gc
import pickle
import tracemalloc
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from probe import (
    ActivationsProbe,
    ChaosProbe,
    Measured,
    PerformanceProbe,
    Probe,
    ProbeSet,
    Snapshot,
    TangentKernelProbe,
    Tap,
    every,
    log_spaced,
)
from probe.forward import TrainingContext
from probe.forward.outputs import Reduce
from probe.schedule import count

WIDTH, SIDE, LAYERS = 8, 16, 4
CHUNK = 16  # rows of a forward pass


class Live(TorchDispatchMode):
    """Bytes of the tensors made inside that still exist, and their maximum."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for leaf in tree_leaves((args, kwargs)):  # made outside; a view of it uses no memory
            if isinstance(leaf, Tensor):
                self._seen.add(leaf.untyped_storage())
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and (storage := leaf.untyped_storage()) not in self._seen:
                self._seen.add(storage)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._gone, storage.nbytes())
        return out

    def _gone(self, size: int) -> None:
        self.now -= size


class Takes(Probe):
    """A probe that takes all layers from the shared pass and computes nothing."""

    def __init__(self, reduce: Reduce = None) -> None:
        self.reduce = reduce

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        return [Tap(layer, self.reduce) for layer in snapshot.select(nn.Conv2d)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        found = snapshot.outputs("all", snapshot.select(nn.Conv2d), reduce=self.reduce)
        return {"layers": Measured(float(len(found)))}


def images(layers: int = LAYERS) -> nn.Sequential:
    inside = (nn.Conv2d(WIDTH, WIDTH, 3, padding=1) for _ in range(layers))
    return nn.Sequential(*(part for conv in inside for part in (conv, nn.ReLU())))


def peak(probe: Probe, n: int, layers: int = LAYERS) -> int:
    """Return the largest number of bytes during one observation of n images."""
    probe.attach(images(layers), (torch.randn(n, WIDTH, SIDE, SIDE), None), batch_size=CHUNK, on_error="raise")
    with Live() as live:
        probe.observe(0)
    assert live.peak > 0
    return live.peak


def test_the_count_of_bytes_counts() -> None:
    with Live() as live:
        one = torch.ones(1000)
        view = one[10:].view(-1, 10)
        two = one + 1
        del one
        assert (live.now, live.peak) == (8000, 8000), "the view keeps what it looks at"
        del view
        assert live.now == 4000
        two = two * 2
        assert (live.now, live.peak) == (4000, 8000)


RAW = 4 * WIDTH * SIDE * SIDE  # bytes of one image in one layer
KEPT = 4 * WIDTH  # bytes that are kept of it: means over the image


def test_an_observation_keeps_rows_and_no_raw_activations() -> None:
    """Joining the pieces takes twice the kept bytes, and the index of a row 16 bytes."""
    small, large = peak(Takes(), 64), peak(Takes(), 512)
    more = 512 - 64
    assert large - small <= more * (2 * LAYERS * KEPT + 16)
    assert large - small < 0.1 * more * LAYERS * RAW
    assert small <= 8 * CHUNK * RAW, "one chunk: a convolution's input, output and work space"


def test_layers_add_what_is_kept_of_them_only() -> None:
    n = 256
    few, many = peak(Takes(), n, 2), peak(Takes(), n, 10)
    assert many - few <= 8 * n * 2 * KEPT


def test_raw_activations_that_are_asked_for_are_seen_by_this_count() -> None:
    """Show that the test above can fail."""
    small, large = peak(Takes("none"), 64), peak(Takes("none"), 128)
    assert large - small >= 64 * LAYERS * RAW


@pytest.mark.parametrize("probe", [PerformanceProbe(), ActivationsProbe(max_samples=32)], ids=repr)
def test_after_an_observation_no_tensor_is_left(probe: Probe) -> None:
    data = (torch.randn(64, WIDTH, SIDE, SIDE), torch.randint(3, (64, SIDE, SIDE)))
    probe.attach(images(), data, batch_size=CHUNK, on_error="raise").observe(0)
    gc.collect()
    with Live() as live:
        probe.observe(1)
        gc.collect()
        assert live.now == 0


# -- many steps ------------------------------------------------------------------------------------------------------


def trained(probes: ProbeSet, schedule: Any, stops: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return bytes of Python and numpy, number of tensors, and observations at these steps of a training."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probes.attach(model, (torch.randn(8, 2), torch.arange(8) % 2), optimizer=optimizer, schedule=schedule)
    optimizer.step()
    gc.collect()
    found, _ = [], probes.series_  # what is imported on first use is not what is looked for
    tracemalloc.start()
    try:
        for step in range(2, stops[-1] + 1):
            optimizer.step()
            if step in stops:
                observations = probes.series_.sizes["step"]
                gc.collect()
                tensors = sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())
                found.append((tracemalloc.get_traced_memory()[0], tensors, observations))
    finally:
        tracemalloc.stop()
        probes.detach()
    return found


@pytest.mark.parametrize("limits", [{}, {"budget": 0.01, "total_steps": 10**6}], ids=repr)
def test_steps_that_are_not_observed_leave_nothing(limits: dict[str, Any]) -> None:
    """PyTorch itself keeps about one byte per step here. A kept number would take 32 bytes."""
    _, before, after = trained(ProbeSet(**limits), every(10**5), [50, 200, 1200])
    assert after[0] - before[0] < 5 * 1000
    assert after[1:] == (before[1], 1)


@pytest.mark.slow
def test_a_long_training_grows_by_its_records_only() -> None:
    _, before, after = trained(ProbeSet([ActivationsProbe()]), log_spaced(), [100, 1_000, 50_000])
    more = count(log_spaced(), 1_001, 50_001)
    assert more == 20
    assert after[0] - before[0] < more * 2_000 + 2 * 49_000
    assert after[1] <= before[1]
    assert after[2] == before[2] + more


def test_an_observation_takes_bytes_in_proportion_to_its_numbers() -> None:
    """Columns that double hold 8 bytes per number and 1 per flag, and a step takes 200 bytes."""
    probes = ProbeSet([ActivationsProbe()]).attach(nn.Linear(2, 2), (torch.randn(8, 2), torch.arange(8) % 2))
    probes.observe(1)
    assert probes._session is not None
    records = probes._session.records
    one = sum(records.column(name)[0].nbytes for name in records.variables)
    assert one > 8 * 10
    values = {name: records.column(name)[0] for name in records.variables}
    before, n = len(pickle.dumps(records)), 3_000
    for step in range(10**6, 10**6 + n):
        records.put(step, values)
    assert len(pickle.dumps(records)) - before <= n * (2 * one + 200)


# -- derivatives -------------------------------------------------------------------------------------------------------


def vectors_of(probe: Probe, width: int) -> float:
    """Return the largest number of bytes of an observation, in vectors of all parameters in float32."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 3))
    x, y = torch.randn(6, 8), torch.arange(6) % 3
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    training = TrainingContext.usual(optimizer, nn.functional.cross_entropy, (x, y))
    training.step_fn(model, optimizer, *training.batches(0, 1))
    probe.attach(model, (x, y), training=training, on_error="raise")
    gc.collect()
    with Live() as live:
        probe.observe(0)
    return live.peak / 4 / sum(p.numel() for p in model.parameters())


def test_a_window_takes_memory_in_proportion_to_parameters_whatever_its_length() -> None:
    """Twins, tangent, quadratic model and sharpness: 41 to 44 vectors, in windows of 2 and 8 updates."""
    narrow, wide, long = (
        vectors_of(ChaosProbe(window=window, sizes=[0.01], n_products=2), width)
        for window, width in ((2, 96), (2, 192), (8, 96))
    )
    assert max(wide, long) < 1.25 * narrow  # what cycles of Python objects hold differs
    assert narrow < 55


def test_products_with_a_kernel_take_memory_in_proportion_to_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors in groups of at most ``GROUP`` numbers, here one by one, so that more of them take no more memory."""
    monkeypatch.setattr("probe.forward.tangents.kernel.GROUP", 1)
    narrow, wide, more = (
        vectors_of(TangentKernelProbe(method="probes", n_probes=n, n_batches=1), width)
        for n, width in ((16, 96), (16, 192), (32, 96))
    )
    assert max(wide, more) < 1.25 * narrow
    assert narrow < 5
