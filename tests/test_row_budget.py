"""Tests of the budget of forward rows, of what follows from it, and of estimates before a training."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, ProbeSet, RobustnessProbe, Snapshot
from probe.errors import ProbeWarning
from probe.forward import operations, read_data, trace
from probe.forward.operations import default_rows

few = pytest.mark.filterwarnings("ignore:Expected forward rows for")  # tested by itself
T, K = 6, 11


class Block(nn.Module):
    """A block of a transformer, with functions between its modules, so that no chain leads through it."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(d), nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).chunk(3, -1)
        x = x + scale * self.out(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + self.down(nn.functional.gelu(self.up(x)))


class Language(nn.Module):
    """A language model that returns logits at all positions."""

    def __init__(self, head: nn.Module | None = None, d: int = 16, n_blocks: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(K, d)
        self.blocks = nn.ModuleList(Block(d) for _ in range(n_blocks))
        self.head = nn.Linear(d, K) if head is None else head

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, 1.0)
        return self.head(h[:, :])


class Images(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 5))


def made(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return build()


def tokens(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(K, (n, T), generator=draw), torch.randint(K, (n,), generator=draw)


def images(n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 8, 8, generator=draw), torch.randint(5, (n,), generator=draw)


def snapshot(model: nn.Module, x: Any) -> Snapshot:
    data = read_data((x, None))
    return Snapshot(model, 0, data, trace(model, data["all"].take(torch.arange(2), torch.device("cpu"))[0]))


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every model a large one: 2 ** 10 operations are the budget."""
    monkeypatch.setattr(operations, "_OPERATIONS", 2**10)


# -- the rule --------------------------------------------------------------------------------------------------------


def test_a_small_model_has_4096_rows_and_a_large_one_four_passes() -> None:
    assert default_rows(2**22, 10) == default_rows(0, 10) == default_rows(1, 1) == 4096
    assert default_rows(2**40, 10) == 40
    assert default_rows(2**40, 10_000) == 4096
    assert default_rows(2**25, 10) == default_rows(2**24 + 1, 10) == 512
    assert default_rows(2**25 + 1, 10) == 256


def test_a_number_of_rows_is_taken_as_it_is(large: None) -> None:
    found = snapshot(made(Images), images(8)[0])
    assert (found.row_budget(77), found.rows) == (77, 0)
    assert (found.row_budget(None), found.row_budget(None), found.rows) == (32, 32, 2)


@pytest.mark.parametrize(
    ("build", "x", "by_hand"),
    [
        (lambda: nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), torch.randn(4, 5), 2 * (5 * 7 + 7 * 3)),
        (Images, images(4)[0], 2 * (36 * 4 * 27 + 16 * 4 * 36 + 64 * 5)),
        (lambda: nn.GRU(8, 5, batch_first=True), torch.randn(4, 6, 8), 2 * 6 * 15 * (8 + 5)),
    ],
)
def test_operations_of_products_and_convolutions_are_counted(build: Any, x: Tensor, by_hand: int) -> None:
    found = snapshot(made(build), x)
    found.row_budget(None)
    assert found.trace.operations == by_hand


def test_operations_of_attention_and_recurrent_layers_are_counted_by_hand() -> None:
    d = 16
    found = snapshot(made(lambda: Language(n_blocks=1)), tokens(4)[0])
    found.row_budget(None)
    assert found.trace.operations == T * 2 * (3 * d * d + d * d + 8 * d * d + d * K) + 2 * T * T * d * 2
    lstm = snapshot(nn.LSTM(8, 16, batch_first=True), torch.randn(4, 5, 8))
    lstm.row_budget(None)
    by_hand = 5 * 2 * (4 * 16 * 8 + 4 * 16 * 16)
    assert lstm.trace.operations is not None
    assert by_hand <= lstm.trace.operations <= 1.1 * by_hand


def test_a_model_without_counted_operations_has_two_for_each_weight_that_is_no_embedding() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.weight = nn.Embedding(100, 7), nn.Parameter(torch.ones(1, 7))

        def forward(self, x: Tensor) -> Tensor:
            return self.embed(x) * self.weight

    found = snapshot(Own(), torch.arange(4))
    found.row_budget(None)
    assert found.trace.operations == 14


# -- the cost of one observation ----------------------------------------------------------------------------------


def readme(**kwargs: Any) -> ProbeSet:
    return ProbeSet([MutualInfoProbe(), LocalComplexityProbe(**kwargs), LMNProbe()])


@few
@pytest.mark.parametrize(("n", "n_splits"), [(8, 1), (16, 2), (64, 1)])
@pytest.mark.parametrize(("build", "draw"), [(Language, tokens), (Images, images)])
def test_the_set_of_the_readme_costs_at_most_ten_passes(
    n: int, build: Any, draw: Any, n_splits: int, large: None
) -> None:
    data = {f"split {i}": draw(n, i) for i in range(n_splits)}
    estimate = readme().estimate(made(build), data)
    assert 5 < estimate.passes <= (10 if n > 8 else 12), "the checks have a fixed number of rows"
    counts = estimate.counts["LocalComplexityProbe"]
    assert counts["n_points"] == min(n, 16)
    assert counts["max_rows"] == estimate.counts["LMNProbe"]["max_rows"] == 4 * n * n_splits
    lines = estimate.counts["LMNProbe"]["n_rows"]
    assert 3 * lines + 2 * lines * (lines - 1) <= 4 * n < 3 * (lines + 1) + 2 * lines * (lines + 1)


def test_a_small_model_keeps_its_numbers() -> None:
    given = {"train": (torch.randn(50, 9), torch.randint(3, (50,))), "test": (torch.randn(50, 9), None)}
    model = made(lambda: nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)))
    one = LocalComplexityProbe(n_directions=9).fit(model, given).series_
    other = LocalComplexityProbe(max_rows=4096).fit(model, given).series_
    assert one["local_complexity"].attrs == other["local_complexity"].attrs
    assert other["local_complexity"].attrs["n_points"] == 50
    np.testing.assert_array_equal(one["local_complexity"], other["local_complexity"])
    assert LMNProbe().fit(model, given).series_["linear_mapping_number"].attrs["n_rows"] == 31


def test_few_samples_points_and_directions_are_warned_of_once(large: None) -> None:
    model, data = made(Language), (tokens(8)[0], None)
    radii = np.linspace(0.1, 0.2, 9).tolist()
    for probe, message in [
        (LMNProbe(), r"lines between 8 or more samples, got 32 rows for 1 splits and layers, enough for 3; measure"),
        (
            LocalComplexityProbe(radius=radii),
            r"4 or more points of each split, got 32 rows, enough for 1; measure more",
        ),
        (RobustnessProbe(), r"for 4 or more points of split 'all', got 32 rows, enough for 3; measure more rows"),
    ]:
        with pytest.warns(ProbeWarning, match=message) as caught:
            probe.attach(model, data, on_error="raise").observe(0).observe(1)
        assert len([one for one in caught if "Expected forward rows" in str(one.message)]) == 1
    found = LocalComplexityProbe(radius=radii)
    with pytest.warns(ProbeWarning):
        attrs = found.fit(model, data).series_["local_complexity"].attrs
    assert (attrs["n_points"], attrs["n_directions"]) == (2, 1), "the least that can be measured"


def test_the_default_budget_never_raises(large: None) -> None:
    model = made(lambda: Language(n_blocks=4))
    with pytest.warns(ProbeWarning, match="enough for 1; measure"):
        series = LMNProbe(layers="blocks.*").fit(model, (tokens(4)[0], None)).series_
    assert series["linear_mapping_number"].attrs["n_rows"] == 2
    with pytest.raises(ValueError, match="got 1 with max_samples=96 and max_rows=16"):
        LMNProbe(layers="blocks.*", max_rows=16).fit(model, (tokens(4)[0], None))


def test_random_points_share_the_budget() -> None:
    given = {"train": (torch.randn(90, 30), None), "test": (torch.randn(90, 30), None)}
    model = made(lambda: nn.Sequential(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 3)))
    estimate = LocalComplexityProbe(n_random=200).estimate(model, given)
    assert estimate.counts["LocalComplexityProbe"] == {"n_points": 27, "n_directions": 25, "max_rows": 4096}
    assert sum(estimate.rows.values()) < 4096 + 150
    few_random = LocalComplexityProbe(n_random=10).estimate(model, given)
    assert few_random.counts["LocalComplexityProbe"]["n_points"] == 10, "the rest goes to the other splits"


# -- a linear head -------------------------------------------------------------------------------------------------


class Opaque(nn.Module):
    """The same function as a linear layer, of a class that is not known."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear = linear

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.linear.weight, self.linear.bias)


class Returns(Language):
    """Returns its logits in a dictionary, after it has used them all."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        logits = super().forward(x)
        return {"sums": logits.sum(2), "logits": logits}


class Chained(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Embedding(K, 16), nn.Tanh(), nn.LSTM(16, 16, batch_first=True), First(), nn.Linear(16, K))


class First(nn.Module):
    def forward(self, x: tuple[Tensor, Any]) -> Tensor:
        return x[0]


@pytest.mark.filterwarnings("ignore:Expected targets, got None:probe.errors.ProbeWarning")  # Returns has a loss
@pytest.mark.parametrize("build", [Language, Returns, Chained])
def test_only_the_last_position_goes_through_a_linear_head(build: Callable[[], nn.Module]) -> None:
    x = tokens(12)[0]
    model = made(build)
    head = model[-1] if isinstance(model, nn.Sequential) else model.head
    positions: list[int] = []
    with head.register_forward_hook(lambda module, args, output: positions.append(output.shape[1])):
        LMNProbe().fit(model, (x, None))
    assert T in positions, "a layer with a hook of its own is not known"
    assert 1 not in positions
    found = LMNProbe().fit(model, (x, None)).series_
    mapped = {1: 0, T: 0}  # positions -> rows
    original, nn.functional.linear = (
        nn.functional.linear,
        lambda z, w, b=None: (
            mapped.update({z.shape[1]: mapped[z.shape[1]] + len(z)}) if w is head.weight and z.ndim == 3 else None,
            original(z, w, b),
        )[1],
    )
    try:
        again = LMNProbe().fit(model, (x, None)).series_
    finally:
        nn.functional.linear = original
    assert mapped[1] > 12 * 11 / 2 * 3 > 100 > mapped[T]
    other = made(build)
    if isinstance(other, nn.Sequential):
        other[-1] = Opaque(other[-1])
    else:
        other.head = Opaque(other.head)
    expected = LMNProbe().fit(other, (x, None)).series_
    for name in ("linear_mapping_number", "linear_mapping_number_weighted"):
        assert found[name].item() == again[name].item()
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4)


def test_all_positions_of_a_head_are_computed_where_they_are_measured() -> None:
    x, model = tokens(12)[0], made(Language)
    other = made(Language)
    other.head = Opaque(other.head)
    for reduce in ("mean", "flatten", 0):
        found, expected = (LMNProbe(reduce=reduce).fit(one, (x, None)).series_ for one in (model, other))
        np.testing.assert_allclose(found["linear_mapping_number"], expected["linear_mapping_number"], rtol=1e-4)


class Masked(Language):
    def forward(self, x: Tensor, attention_mask: Tensor) -> Tensor:
        return super().forward(x)


def test_with_padding_the_last_kept_position_is_measured() -> None:
    mask = (torch.arange(T) < torch.randint(2, T + 1, (12, 1), generator=torch.Generator().manual_seed(0))).long()
    data = {"x": tokens(12)[0], "attention_mask": mask}
    model, other = made(Masked), made(Masked)
    other.head = Opaque(other.head)
    found, expected = (LMNProbe().fit(one, (data, None)).series_["linear_mapping_number"] for one in (model, other))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    unmasked = LMNProbe().fit(model, ({**data, "attention_mask": torch.ones_like(mask)}, None)).series_
    assert abs(found.item() - unmasked["linear_mapping_number"].item()) > 1e-3


# -- the estimate ----------------------------------------------------------------------------------------------------


def test_an_estimate_has_the_rows_of_the_passes() -> None:
    model, data = made(Language), {"train": tokens(20), "test": tokens(12, 1)}
    probes = readme()
    passed: list[int] = []
    probes.attach(model, data, on_error="raise")
    with model.register_forward_pre_hook(lambda module, args: passed.append(len(args[0]))):
        probes.observe(0)
    estimate = readme().estimate(model, data, steps=100)
    assert sum(estimate.rows.values()) == sum(passed)
    assert estimate.rows["shared pass"] == 32
    assert estimate.passes == sum(passed) / 32
    assert estimate.observations == 22
    text = str(estimate)
    assert "LMNProbe (n_rows=12, n_points=5, max_rows=4,096)" in text
    assert f"one observation: {estimate.passes:.1f} passes over the data" in text
    assert math.isclose(sum(estimate.seconds.values()), float(text.splitlines()[-2].split()[0]), abs_tol=1e-3)


@pytest.mark.parametrize(("quick", "observations"), [(math.inf, 2), (0.0, 1)])
def test_a_slow_observation_is_made_once(quick: float, observations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probe.base._QUICK", quick)
    steps: list[int] = []

    class Counts(LMNProbe):
        def measure(self, snapshot: Snapshot) -> Any:
            steps.append(snapshot.step)
            return super().measure(snapshot)

    Counts().estimate(made(Images), images(8))
    assert len(steps) == observations


def test_the_memory_of_an_estimate_is_that_of_the_tensors() -> None:
    """A shared pass over 64 rows of 1,000 numbers: input, output and rows of one layer."""
    model = nn.Sequential(nn.Linear(10, 1000), nn.Identity())
    memory = MutualInfoProbe(layers="0").estimate(model, (torch.randn(64, 10), None)).memory
    assert memory is not None
    assert 64 * 1000 * 4 < memory < 30 * 64 * 1000 * 4


def test_a_model_that_no_mode_can_watch_has_an_estimate_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr("probe.attach.memory.PeakMemory.__torch_dispatch__", fails)
    estimate = LMNProbe().estimate(made(Images), images(8))
    assert (estimate.memory, estimate.rows["LMNProbe"] > 8) == (None, True)
    assert "MiB" not in str(estimate)
    with pytest.raises(ValueError, match="Expected n_points >= 3"):
        LMNProbe(n_points=2).estimate(made(Images), images(8))


def test_attaching_costs_a_few_rows() -> None:
    model, data = made(Language), {"train": tokens(60), "test": tokens(60, 1)}
    passed: list[int] = []
    with model.register_forward_pre_hook(lambda module, args: passed.append(len(args[0]))):
        readme().attach(model, data)
    assert sum(passed) <= 36 * len(data)
