"""Tests of the modes of weight matrices over time: matching, tracking, what is kept, bad input, other models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

from probe import ProbeSet, WeightModesProbe, WeightsProbe
from probe.errors import ProbeWarning
from probe.geometry import follow_modes
from probe.geometry.modes.decomposition import decompose
from probe.measures.weight_modes.sketch import SIZE, sketch

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def frames(rng: np.random.Generator, m: int, n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random orthonormal columns of both sides."""
    return np.linalg.qr(rng.normal(size=(m, k)))[0], np.linalg.qr(rng.normal(size=(n, k)))[0]


def planted(rng: np.random.Generator, values: np.ndarray, m: int, n: int, noise: float = 0.0) -> np.ndarray:
    """Return matrices with planted singular values (T, k), in fixed random directions, with white noise."""
    left, right = frames(rng, m, n, values.shape[1])
    return np.einsum("mk,tk,nk->tmn", left, values, right) + noise * rng.normal(size=(len(values), m, n))


# -- the identity of modes ---------------------------------------------------------------------------------------------

TIMES = np.geomspace(1, 100, 25)
CROSSING = np.array([1.0, 2, 4, 4.01, 8, 10]) * TIMES[:, None] ** np.array([0.5, 0.3, 0, 0, -0.3, -0.5])


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (6, 6)])
def test_modes_keep_their_slots_through_crossings(shape: tuple[int, int]) -> None:
    found = follow_modes(planted(np.random.default_rng(0), CROSSING, *shape), share=1.0, max_modes=6)
    assert (found.matched[1:] == 1).all()
    assert (found.matched[0] == 0).all()
    np.testing.assert_allclose(found.values, CROSSING[:, ::-1], rtol=1e-9)
    np.testing.assert_allclose(found.norms, np.linalg.norm(CROSSING, axis=1))
    np.testing.assert_allclose(found.spectrum[:, :6], -np.sort(-CROSSING, 1))
    assert (found.overlaps[1:] > 0.7).all()  # at the crossing its vectors are arbitrary mixtures
    np.testing.assert_allclose(found.overlaps[14:], 1, atol=1e-6)
    assert np.isnan(found.overlaps[0]).all()


def test_a_mode_keeps_its_identity_if_an_observation_falls_on_the_crossing() -> None:
    """Two values are equal at the middle, and the matrix is tilted there, so that its singular vectors are mixtures."""
    rng = np.random.default_rng(0)
    values = np.array([[3.0, 1.0], [2.5, 1.5], [2.0, 2.0], [1.5, 2.5], [1.0, 3.0]])
    matrices = planted(rng, values, 8, 10)
    left, _, right = np.linalg.svd(matrices[0], full_matrices=False)
    matrices[2] += 0.05 * (np.outer(left[:, 0], right[1]) + np.outer(left[:, 1], right[0]))
    found = follow_modes(matrices, share=1.0, max_modes=2)
    assert abs(left[:, 0] @ np.linalg.svd(matrices[2])[0][:, 0]) == pytest.approx(0.5**0.5)
    assert found.degenerate.tolist() == [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0]]
    assert (found.matched[1:] == 1).all()
    np.testing.assert_allclose(found.values, values, atol=1e-6)


def test_near_degenerate_modes_with_noise_are_matched_as_a_subspace() -> None:
    values = np.tile([5.0, 5.001, 2.0], (20, 1))
    found = follow_modes(planted(np.random.default_rng(1), values, 20, 30, 0.02), share=0.99, max_modes=3)
    assert (found.matched[1:] == 1).mean() > 0.9
    assert found.degenerate[1:, :2].any()
    assert not found.degenerate[1:, 2].any()


def test_unrelated_matrices_have_no_common_modes() -> None:
    """By chance the overlap is at most about .5, also in a subspace of all modes."""
    rng = np.random.default_rng(0)
    for shape in ((30, 30), (8, 40), (30, 10)):
        found = follow_modes(rng.normal(size=(40, *shape)), share=0.9, max_modes=12)
        assert (found.matched[1:] == 1).mean() < 0.01


def test_a_new_leading_mode_takes_the_slot_of_the_smallest_other_mode() -> None:
    values = np.array([[5.0, 3, 0.1], [5, 1, 2], [5, 0.1, 3]])
    found = follow_modes(planted(np.random.default_rng(0), values, 9, 7), share=0.95, max_modes=2)
    np.testing.assert_allclose(found.values, [[5, 3], [5, 2], [5, 3]], rtol=1e-6)
    assert found.matched.tolist() == [[0, 0], [1, 0], [1, 1]]


def test_decomposition_is_the_svd() -> None:
    generator = torch.Generator().manual_seed(0)
    for shape in ((5, 9), (9, 5), (3, 4, 6), (3, 1, 5)):
        weight = torch.randn(shape, generator=generator)
        found = decompose(weight)
        expected = torch.linalg.svdvals(weight.double()).flatten().sort(descending=True).values
        torch.testing.assert_close(found.values, expected)


# -- the probe ---------------------------------------------------------------------------------------------------------


def recorded(model: nn.Module, x: Tensor, steps: int = 3, path: Any = None, mode: Any = None, **kw: Any) -> xr.Dataset:
    """Observe a model whose weights take small random steps, each from a generator of its own."""
    probe = WeightModesProbe(**kw).attach(model, (x, None), on_error="raise", path=path, mode=mode)
    first = int(probe.series_["step"][-1]) + 1 if mode else 0
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.02 * torch.randn(weight.shape, generator=generator).to(weight.dtype))
        probe.observe(step)
    return probe.detach().series_


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make()


def test_numbers_are_those_of_numpy() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 9), nn.Conv2d(2, 4, 3, groups=2)))
    model.forward = lambda x: x  # type: ignore[method-assign]
    before = [weight.detach().clone() for weight in (model[0].weight, model[1].weight)]
    probe = WeightModesProbe(share=1.0).attach(model, (X, None)).observe(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.01).add_(0.01)
    series = probe.observe(5).series_
    for i, (name, old) in enumerate(zip(["0.weight", "1.weight"], before, strict=True)):
        weight, row = model[i].weight.detach().double(), series.sel(parameter=name)
        blocks = weight.reshape(-1, *(weight.shape if i == 0 else (2, 9)))
        values = torch.linalg.svdvals(blocks).flatten().sort(descending=True).values.numpy()
        np.testing.assert_allclose(row["mode_spectrum"][1, : len(values)], values, rtol=1e-5)
        np.testing.assert_allclose(np.sort(row["mode_singular_value"][1, : len(values)])[::-1], values, rtol=1e-5)
        assert row["mode_norm"][1].item() == pytest.approx(weight.norm().item(), rel=1e-6)
        assert row["mode_update_norm"][1].item() == pytest.approx((weight - old).norm().item(), rel=1e-5)
        assert row["mode_share"][1].item() == pytest.approx(1, rel=1e-5)
    assert series["mode_update_norm"][0].isnull().all()
    assert (series["mode_matched"].values[0] <= 0).all()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTM(6, 12, batch_first=True), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.cell(x[:, None])[0][:, -1])  # type: ignore[no-any-return]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Embedding(9, 6), nn.Linear(6, 6), nn.Linear(6, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.mix(self.embed((x > 0).long()))))  # type: ignore[no-any-return]


MODELS: dict[str, Callable[[], nn.Module]] = {
    "lstm": Recurrent,
    "tied": Tied,
    "cnn": lambda: nn.Sequential(nn.Unflatten(1, (2, 3)), nn.Conv1d(2, 4, 2, groups=2), nn.ReLU(), nn.Flatten()),
    "half": lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).bfloat16(),
    "norm": lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 8)), nn.Linear(8, 3)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_modes_of_other_models_are_followed(kind: str) -> None:
    model = seeded(MODELS[kind])
    series = recorded(model, X.bfloat16() if kind == "half" else X)
    assert (series["mode_undefined"] == 0).all()
    present = series["mode_matched"].values[1:] >= 0
    assert present.any()
    assert (series["mode_matched"].values[1:][present] == 1).mean() > 0.8
    assert (series["mode_share"] > 0.98).all()
    if kind == "tied":
        assert series["mode_norm"].attrs["tied"] == "head.weight is embed.weight"
        assert series["parameter"].values.tolist() == ["embed.weight", "mix.weight"]


def test_a_resumed_recording_has_the_same_numbers(tmp_path: Path) -> None:
    whole = recorded(seeded(Recurrent), X, 5)
    model = seeded(Recurrent)
    recorded(model, X, 3, tmp_path / "run.nc")
    resumed = recorded(model, X, 2, tmp_path / "run.nc", "resume")
    names = [name for name in whole.data_vars if str(name).startswith("mode_")]
    assert len(names) == 10
    xr.testing.assert_equal(whole[names], resumed[names])


# -- the size of the update --------------------------------------------------------------------------------------------


def test_a_sketch_is_linear_and_estimates_the_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    small, ratios = torch.randn(9, 7, generator=generator), list[float]()
    assert sketch(small).tolist() == small.flatten().tolist()
    column = torch.zeros(600, 500)
    column[:, 3] = 1
    row = torch.randn(500, generator=generator)
    for large in (torch.randn(600, 500, generator=generator), column, row.expand(600, 500)):
        ratios.append((sketch(large).norm() / large.norm()).item())
        torch.testing.assert_close(sketch(3 * large + column) - sketch(column), 3 * sketch(large), atol=1e-3, rtol=1e-4)
    assert len(sketch(column)) == SIZE
    assert max(abs(np.array(ratios) - 1)) < 4 / (2 * SIZE) ** 0.5


# -- bad input ---------------------------------------------------------------------------------------------------------


def test_zero_and_infinite_matrices_are_undefined_and_modes_continue_after_them() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)))
    kept = model[0].weight.detach().clone()
    probe = WeightModesProbe().attach(model, (X, None), on_error="raise").observe(0)
    for step, value in enumerate([0.0, np.nan], 1):
        model[0].weight.data.fill_(value)
        probe.observe(step)
    model[0].weight.data.copy_(kept)
    series = probe.observe(3).series_.sel(parameter="0.weight")
    assert series["mode_undefined"].values.tolist() == [0, 1, 1, 0]
    assert series["mode_singular_value"][1:3].isnull().all()
    assert series["mode_norm"][1].item() == 0
    assert (series["mode_matched"][3] == 1).all()
    expected = [np.nan, kept.norm().item(), np.nan, kept.norm().item()]  # from the last finite matrix
    np.testing.assert_allclose(series["mode_update_norm"], expected, rtol=1e-6)


def test_a_matrix_that_changes_its_shape_is_left_out_with_a_warning() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 4)))
    probe = WeightModesProbe().attach(model, (X, None), on_error="raise").observe(0)
    model[1] = nn.Linear(5, 7)
    with pytest.warns(ProbeWarning, match=r"Expected 1.weight of shape \(1, 4, 5\) .*, got \(1, 7, 5\)"):
        probe.observe(1)
    series = probe.observe(2).series_
    assert series["mode_undefined"].values.tolist() == [[0, 0], [0, 1], [0, 1]]
    assert series["mode_norm"].isnull().values.tolist() == [[False, False], [False, True], [False, True]]


def test_a_matrix_that_appears_later_is_named() -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(6, 5)))
    probe = WeightModesProbe().attach(model, (X, None), on_error="raise").observe(0)
    model.add_module("new", nn.Linear(5, 4))
    with pytest.warns(ProbeWarning, match=r"got also new\.weight, .*; attach again"):
        probe.observe(1)
    assert probe.series_["parameter"].values.tolist() == ["0.weight"]


def test_large_and_complex_matrices_have_norms_only() -> None:
    sizes = {"a": torch.eye(3, dtype=torch.complex64), "b": torch.eye(9), "c": torch.eye(2)}
    model = nn.Sequential()
    for name, weight in sizes.items():
        model.register_parameter(name, nn.Parameter(weight))
    with pytest.warns(ProbeWarning, match="smaller side of at most 8, got b; .* norms only"):
        series = recorded(model, X, 2, max_side=8)
    assert series["mode_undefined"].sel(step=1).to_series().to_dict() == {"a": -1, "b": -1, "c": 0}
    assert series["mode_norm"].notnull().all()
    assert series["mode_update_norm"][1].notnull().all()
    assert series.sizes["mode"] == series.sizes["rank"] == 2


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(40, 50), nn.Linear(50, 30)))
    model.forward = lambda x: x  # type: ignore[method-assign]
    bytes_of = 4 * (40 * 50 + 50 * 30)
    monkeypatch.setattr("probe.measures.weight_modes.state.LIMIT", bytes_of + 10 * (4 * 170 + 32))
    assert recorded(model, X, 1).sizes["mode"] == 10
    with pytest.raises(ValueError, match=r"Expected modes and sketches of at most .*; pass max_modes=10$"):
        recorded(model, X, 1, max_modes=11)
    monkeypatch.setattr("probe.measures.weight_modes.state.LIMIT", bytes_of)
    with pytest.raises(ValueError, match="attach to a part of the model"):
        recorded(model, X, 1)


def test_names_of_a_set_with_weights_do_not_clash() -> None:
    series = ProbeSet([WeightsProbe(), WeightModesProbe()]).fit(nn.Linear(6, 3), (X, None)).series_
    np.testing.assert_allclose(series["weight_norm"], series["mode_norm"])


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (nn.LayerNorm(6), {}, "two or more dimensions, got a model without any"),
        (nn.Linear(6, 3), {"share": 0}, "Expected share above 0 and at most 1, got 0"),
        (nn.Linear(6, 3), {"share": "all"}, "Expected share above 0 and at most 1, got 'all'"),
        (nn.Linear(6, 3), {"max_modes": 0}, "Expected an integer of at least 1 as max_modes"),
        (nn.Linear(6, 3), {"max_side": 2.5}, "Expected an integer of at least 1 as max_side"),
    ],
)
def test_bad_parameters_are_errors(model: nn.Module, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WeightModesProbe(**options).fit(model, (X, None))


@pytest.mark.parametrize(
    "matrices", [[], [np.eye(2), np.zeros((2, 2))], [np.eye(2), np.eye(3)], [np.full((2, 2), np.nan)], np.eye(3)]
)
def test_bad_sequences_are_errors(matrices: Any) -> None:
    with pytest.raises(ValueError, match="Expected"):
        follow_modes(matrices)
