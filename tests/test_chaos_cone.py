"""``python -m reference chaos-cone``: recipes, twins, linearised trainings and recordings."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

import probe
from probe import ChaosProbe, Probe, TangentKernelProbe
from reference.__main__ import main
from reference.experiments import (
    CHAOS_CONE,
    ChaosConeConfig,
    chaos_cone,
    record_chaos,
    record_chaos_seed,
)
from reference.experiments.chaos_cone import n_parts
from reference.experiments.chaos_twins import (
    Linearised,
    State,
    compare,
    linearised_accuracy,
    perturb,
    signal_to_noise,
    train_twin,
    trained,
)
from reference.training import ConvolutionalConfig, Recipe, TransformerRecipe
from reference.training.convolutional import shifted

NETWORK = ConvolutionalConfig(network="resnet", widths=(2,), n_train=16, batch_size=8, steps=4)
TINY = ChaosConeConfig(
    recipe=replace(NETWORK, steps=2), t0=(0, 1), t1=(1, 2), linearised=(1,), control=1, window=1, n_points=1, n_rows=8,
    n_train=16, n_test=20,
)  # fmt: skip
DIVISION = CHAOS_CONE["division"].recipe


def started(recipe: Recipe, seed: int, steps: int) -> State:
    model = recipe.model(seed).train()
    state, batches = State(model, recipe.optimizer(model)), recipe.batches(seed)
    for k in range(steps):
        recipe.update(*state, *batches(k, 1))
    return state


def flat(model: nn.Module) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


# -- recipes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe", [NETWORK, replace(NETWORK, network="vgg"), DIVISION], ids=["resnet", "vgg", "division"]
)
def test_an_unperturbed_twin_is_the_training(recipe: Recipe) -> None:
    """Also from a later step on: the state of the optimiser and the buffers of batch norm are copied."""
    start, end = started(recipe, 1, 2), started(recipe, 1, 4)
    before = flat(start.model)
    ((_, twin),) = train_twin(recipe, 1, start, 2, [4], size=0, noise=0)
    assert torch.equal(flat(twin), flat(end.model))
    assert torch.equal(flat(start.model), before)
    assert not torch.equal(before, flat(end.model))


def test_batches_are_a_function_of_seed_and_step() -> None:
    batches = NETWORK.batches(0)
    whole, later = batches(0, 5), batches(3, 2)
    assert all(torch.equal(a[0], b[0]) and torch.equal(a[1], b[1]) for a, b in zip(whole[3:], later, strict=True))
    assert not torch.equal(batches(3, 1)[0][0], NETWORK.batches(1)(3, 1)[0][0])
    rates = [NETWORK.rate(step) for step in range(4)]  # divided by 10 at 1/2 and 3/4
    np.testing.assert_allclose(rates, [0.1, 0.1, 0.01, 0.001])


def test_shifts_move_whole_images_by_a_pixel() -> None:
    images = torch.arange(2 * 16.0).view(2, 1, 4, 4)
    moved = torch.cat([shifted(images, 1, 0, step)[:1] for step in range(40)])
    rows, columns = moved[:, 0, 1, 1] // 4 - 1, moved[:, 0, 1, 1] % 4 - 1
    assert sorted({*rows.tolist()}) == sorted({*columns.tolist()}) == [-1, 0, 1]
    inner = moved[:, 0, 1, 1]  # the inner pixels keep their order
    assert torch.equal(moved[:, 0, 1, 2], inner + 1)
    assert torch.equal(moved[:, 0, 2, 1], inner + 4)
    assert torch.equal(shifted(images, 0, 0, 1), images)


def test_recipes_that_cannot_be_trained_are_refused() -> None:
    with pytest.raises(ValueError, match="Expected a network among vgg, resnet"):
        replace(NETWORK, network="other")
    with pytest.raises(ValueError, match="Expected n_train from 8"):
        replace(NETWORK, n_train=7)
    assert isinstance(DIVISION, TransformerRecipe)
    with pytest.raises(ValueError, match="without dropout"):
        TransformerRecipe(replace(DIVISION.config, model=replace(DIVISION.config.model, dropout=0.1)))
    assert not any(p.requires_grad for n, p in DIVISION.model(0).named_parameters() if n.endswith("kv.bias"))


# -- twins ---------------------------------------------------------------------------------------------------------


def test_a_perturbation_has_its_size() -> None:
    model = NETWORK.model(0)
    before = torch.cat([p.detach().double().flatten() for p in trained(model)])
    perturb(model, 1e-4, 5)
    change = torch.cat([p.detach().double().flatten() for p in trained(model)]) - before
    assert change.norm() / before.norm() == pytest.approx(1e-4, rel=1e-3)


def test_the_barrier_of_independent_networks_is_high_and_that_of_one_network_is_0() -> None:
    recipe = replace(NETWORK, widths=(4,), n_train=100, batch_size=25, steps=60)
    data, first, model = recipe.data(0), started(recipe, 0, 60).model, recipe.model(9).train()
    other = State(model, recipe.optimizer(model))
    for k in range(60):
        recipe.update(*other, *recipe.batches(0)(k, 1))
    far = compare(first, other.model, data, n_points=3, rows=50)
    same = compare(first, first, data, n_points=1, rows=50)
    assert far["line"] > 0.1
    assert far["angle"] > 0.3
    assert same["line"] == pytest.approx(0, abs=1e-12)
    assert same["distance"] == same["angle"] == same["disagreement"] == 0


def test_the_linearised_model_is_the_expansion() -> None:
    """Its outputs and gradients are those of the derivative in the parameters, by finite differences of float64."""
    model = started(NETWORK, 0, 3).model.double()
    x, y = NETWORK.data(0)["train"]
    x, linear = x.double(), Linearised(model)
    torch.testing.assert_close(linear(x), model.eval()(x))
    direction = [torch.randn_like(p) for p in trained(model)]
    start = model.eval()(x).detach()
    with torch.no_grad():
        for p, part in zip(trained(model), direction, strict=True):
            p.add_(1e-9 * part)
    change = linear(x) - start
    torch.testing.assert_close(change, model(x) - start, rtol=1e-5, atol=1e-14)
    with torch.no_grad():  # linear also far away
        for p, part in zip(trained(model), direction, strict=True):
            p.add_((2 - 1e-9) * part)
    torch.testing.assert_close(linear(x) - start, 2e9 * change, rtol=1e-4, atol=1e-4)
    loss = nn.functional.cross_entropy(linear(x), y)
    slope = sum((g * d).sum() for g, d in zip(torch.autograd.grad(loss, trained(model)), direction, strict=True))
    with torch.no_grad():
        for p, part in zip(trained(model), direction, strict=True):
            p.add_(1e-6 * part)
        assert (nn.functional.cross_entropy(linear(x), y) - loss).item() / 1e-6 == pytest.approx(float(slope), rel=1e-4)


def test_linearised_training_of_a_linear_model_is_the_training() -> None:
    class Linear(ConvolutionalConfig):
        def model(self, seed: int) -> nn.Sequential:
            layer = nn.Linear(64, 10)
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)
            return nn.Sequential(nn.Flatten(), layer)

    recipe = Linear(network="vgg", n_train=40, batch_size=10, steps=12)
    data, (x, y) = recipe.data(0), recipe.data(0)["test"]
    accuracy = (started(recipe, 0, 12).model(x).argmax(1) == y).double().mean().item()
    assert linearised_accuracy(recipe, 0, started(recipe, 0, 3), 3, data, 10) == pytest.approx(accuracy, abs=2e-3)


def test_signal_to_noise_is_unbiased() -> None:
    """The gradient of a weight w for the answer 0 of two is (p - 1) x, so gradients of drawn inputs are known."""
    model = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(model.weight)
    y = torch.zeros(1, dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    draws = [[(x[None, None], y, 0.0) for x in 1 + 2 * torch.randn(4, generator=generator)] for _ in range(100)]
    found = np.array([signal_to_noise(model, one) for one in draws])
    signals = np.array(
        [np.mean([x.item() for x, *_ in one]) ** 2 - np.var([x.item() for x, *_ in one], ddof=1) / 4 for one in draws]
    )
    assert signals.mean() == pytest.approx(1, abs=0.5)
    variances = np.array([np.var([x.item() for x, *_ in one], ddof=1) for one in draws])
    np.testing.assert_allclose(found, signals / variances, rtol=1e-4)


# -- recordings ----------------------------------------------------------------------------------------------------


class KilledError(Exception):
    """Stands for a kill."""


def cheap(window: int) -> tuple[Probe, Probe]:
    kernel = TangentKernelProbe(splits=["train"], max_samples=4, max_outputs=2, sketch_size=64)
    return kernel, ChaosProbe(window=window, sizes=[1e-3], n_products=0, quadratic=False, max_samples=8)


def test_a_killed_recording_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chaos_cone, "chaos_probes", cheap)
    whole = record_chaos_seed(TINY, 3, tmp_path / "seed-3")
    kills = 0
    for part in (2, n_parts(TINY) - 2):
        calls = 0

        def on_part(last: int = part) -> None:
            nonlocal calls
            calls += 1
            if calls > last:
                raise KilledError

        with pytest.raises(KilledError):
            record_chaos_seed(TINY, 3, tmp_path / "killed", on_part=on_part)
        kills += 1
    first = tmp_path / "killed" / "t0-000000.nc"
    content = first.read_bytes()  # the part was finished before the second kill
    resumed = record_chaos_seed(TINY, 3, tmp_path / "killed")
    assert kills == 2
    assert first.read_bytes() == content
    xr.testing.assert_identical(
        resumed.drop_vars("cpu_seconds"), whole.drop_vars("cpu_seconds").assign_attrs(resumed.attrs)
    )
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").iterdir()}
    record_chaos_seed(TINY, 3, tmp_path / "killed")  # a finished seed is only read
    assert files == {file: file.stat().st_mtime_ns for file in (tmp_path / "killed").iterdir()}
    with pytest.raises(ValueError, match="Expected the recording of this command"):
        record_chaos_seed(replace(TINY, size=1e-3), 3, tmp_path / "killed")
    check_recording(record_chaos(TINY, [3], tmp_path, progress=False), tmp_path)


def check_recording(series: xr.Dataset, folder: Path) -> None:
    path = probe.save(series, folder / "all.nc")
    series = probe.load(path)
    assert series["map_barrier"].dims == ("run", "t0", "t1", "barrier")
    for name in ("map_angle", "map_distance", "map_disagreement"):
        assert series[name].dims == ("run", "t0", "t1")
        assert series[name].dtype == np.float32
        assert np.isfinite(series[name].values[0]).all()  # TINY has no t1 before a t0
    assert series["map_distance"].sel(t0=1, t1=1).item() == pytest.approx(1e-4, rel=0.02)
    assert series["tangent_kernel_distance"].dims == ("run", "step", "split", "batch", "step_ref")
    assert np.isfinite(series["linearised_accuracy"].values).tolist() == [[False, True]]
    assert series["control_difference"].values.tolist() == [0.0]
    assert np.isfinite(series["gradient_signal_to_noise"].values).all()
    assert np.isfinite(series["chaos_growth"].values).any((0, 2, 3)).tolist() == [
        step in TINY.t0 for step in series["step"]
    ]
    assert json.loads(series.attrs["configuration"])["recipe"]["network"] == "resnet"
    assert json.loads(series.attrs["cost_cpu_seconds"]).keys() == {
        "training, kernels and windows", "twins and linearised trainings"
    }  # fmt: skip


def test_configurations_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    for config in CHAOS_CONE.values():
        assert len(config.t0) <= 8
        assert config.t0[0] == 0
        assert {*config.t0[1:]} <= {*config.t1} <= {*config.observed()}
        assert {*config.linearised, config.control} <= {*config.t0}
        assert config.t1[-1] == config.recipe.steps
        assert 30 <= len(config.observed()) <= 45
    with pytest.raises(SystemExit):
        main(["chaos-cone", "--help"])
    assert "CPU seconds" in capsys.readouterr().out
