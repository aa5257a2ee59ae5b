import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import xarray as xr
from helpers import built, seeded
from torch import Tensor, nn

from probe import RobustnessProbe
from probe.measures import directions


def linear(weight: Tensor) -> Any:
    layer = nn.Linear(*weight.T.shape, bias=False, dtype=weight.dtype)
    layer.weight.data = weight
    return nn.Sequential(layer)


def measured(model: nn.Module, x: Any, y: Tensor | None = None, **parameters: Any) -> xr.Dataset:
    return RobustnessProbe(**parameters).fit(model, (x, y)).series_.isel(step=0, split=0, drop=True)


@pytest.mark.parametrize("dimension", [1, 2, 50])
def test_directions_have_length_one_and_signs_have_entries_of_one_size(dimension: int) -> None:
    found = directions(2000, dimension, generator=seeded())
    assert found.shape == (4000, dimension)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4000, dtype=torch.float64))
    torch.testing.assert_close(found[2000:].abs(), torch.full((2000, dimension), dimension**-0.5, dtype=torch.float64))
    covariance = found.T @ found / 4000  # isotropic, both kinds
    assert (covariance - torch.eye(dimension) / dimension).abs().max() < 5 / math.sqrt(4000) / dimension


def test_a_scaled_rotation_moves_every_input_alike() -> None:
    rotation = torch.linalg.qr(torch.randn(9, 9, generator=seeded(), dtype=torch.float64))[0]
    found = measured(linear(3 * rotation), torch.randn(30, 9, generator=seeded(1), dtype=torch.float64), epsilon=0.01)
    assert found["lipschitz_mean"].item() == pytest.approx(3, rel=1e-9)
    assert found["lipschitz_max"].item() == pytest.approx(3, rel=1e-9)


def test_one_row_in_the_plane_has_the_mean_of_a_cosine() -> None:
    """Random directions: E|cos| = 2 / pi; signs lie at 45 degrees."""
    x = torch.randn(3, 2, generator=seeded(), dtype=torch.float64)
    found = measured(linear(torch.tensor([[5.0, 0.0]], dtype=torch.float64)), x, n_directions=5000, max_rows=10**5)
    assert found["lipschitz_mean"].item() == pytest.approx(5 * (2 / math.pi + math.sqrt(0.5)) / 2, rel=0.01)
    assert 4.999 < found["lipschitz_max"].item() <= 5 * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_movement_stays_below_the_constant_of_a_network(seed: int) -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, 30), nn.ReLU(), nn.Linear(30, 4)).double(), seed)
    bound = math.prod(torch.linalg.matrix_norm(model[i].weight, 2).item() for i in (0, 2))
    found = measured(model, torch.randn(40, 5, generator=seeded(), dtype=torch.float64))
    assert 0 < found["lipschitz_mean"].item() < found["lipschitz_max"].item() <= bound


def test_size_is_a_share_of_the_mean_norm_over_splits() -> None:
    x = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    data = {"one": (x, None), "ten": (10 * x, None)}
    series = RobustnessProbe(epsilon=0.2).fit(linear(torch.eye(2)), data).series_
    assert series["robustness_size"].item() == pytest.approx(0.2 * (5 + 1 + 50 + 10) / 4)
    np.testing.assert_allclose(series["lipschitz_max"].values, 1, rtol=1e-5)


# On a line all directions are +1 or -1: logits (x, 0), points at +-0.5 and +-1.5, moved by their mean norm 1.
POINTS = torch.tensor([0.5, -0.5, 1.5, -1.5])
ANSWERS = (POINTS < 0).long()
LINE = linear(torch.tensor([[1.0], [0.0]]))


def test_accuracy_on_a_line() -> None:
    found = measured(LINE, POINTS[:, None], ANSWERS, epsilon=1.0, n_directions=32)["robustness_accuracy"]
    assert found.sel(perturbation="none").item() == 1
    assert found.sel(perturbation="random").item() == 0.75  # a direction misleads one of the two near points
    assert found.sel(perturbation="worst").item() == 0.5  # both near points are misled by some direction
    weak = measured(LINE, POINTS[:, None], ANSWERS, epsilon=0.49)["robustness_accuracy"]
    assert weak.values.tolist() == [1, 1, 1]


def test_loss_on_a_line() -> None:
    found = measured(LINE, POINTS[:, None], ANSWERS, epsilon=1.0, n_directions=32)["robustness_loss"]
    loss = {margin: math.log1p(math.exp(-margin)) for margin in (-0.5, 0.5, 1.5, 2.5)}
    none, worst = (loss[0.5] + loss[1.5]) / 2, (loss[-0.5] + loss[0.5]) / 2
    moved = (loss[-0.5] + loss[1.5] + loss[0.5] + loss[2.5]) / 4  # each direction helps one sign, hurts the other
    assert found.values.tolist() == pytest.approx([none, moved, worst], rel=1e-5)
    assert found.attrs["units"] == "nats"


def test_a_constant_model_is_not_moved() -> None:
    x = torch.randn(8, 3, generator=seeded())
    found = measured(linear(torch.zeros(4, 3)), x, torch.zeros(8).long())
    assert found["lipschitz_max"].item() == 0
    assert found["robustness_loss"].values.tolist() == pytest.approx([math.log(4)] * 3)


@pytest.mark.parametrize("batch_size", [1, 10, 27, 512])
def test_batches_change_nothing_and_equal_a_loop_over_directions(batch_size: int) -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3)).double())
    x = torch.randn(12, 5, generator=seeded(), dtype=torch.float64)
    y = torch.randint(3, (12,), generator=seeded(1))
    probe = RobustnessProbe(epsilon=0.5, random_state=4).attach(model, (x, y), batch_size=batch_size)
    found = probe.observe(0).detach().series_.isel(step=0, split=0)
    size = 0.5 * x.norm(dim=1).mean()
    losses = [F.cross_entropy(model(x + size * e), y, reduction="none") for e in directions(4, 5, generator=seeded(4))]
    expected = [
        F.cross_entropy(model(x), y).item(),
        sum(part.mean().item() for part in losses[:4]) / 4,
        torch.stack(losses[4:]).amax(0).mean().item(),
    ]
    assert found["robustness_loss"].values.tolist() == pytest.approx(expected, rel=1e-9)


def test_a_token_model_is_moved_at_its_embedding() -> None:
    model = built(lambda: nn.Sequential(nn.Embedding(7, 4), nn.Flatten(), nn.Linear(12, 2)))
    tokens = torch.randint(7, (20, 3), generator=seeded())
    found = measured(model, tokens, tokens[:, 0] % 2)
    norms = model[0].weight[tokens].flatten(1).norm(dim=1)  # of all positions together
    assert found["robustness_size"].item() == pytest.approx(0.1 * norms.mean().item(), rel=1e-5)
    bound = torch.linalg.matrix_norm(model[2].weight, 2).item()
    assert 0 < found["lipschitz_max"].item() <= bound


@pytest.mark.parametrize(("epsilon", "still"), [(1e-2, 0), (1e-4, 0), (1e-6, 1), (1e-7, 1)])
def test_movement_near_rounding_is_flagged(epsilon: float, still: int) -> None:
    rotation = torch.linalg.qr(torch.randn(64, 64, generator=seeded()))[0]
    x = torch.randn(30, 64, generator=seeded(1))
    found = measured(linear(rotation), x, epsilon=epsilon)
    assert found["robustness_still"].item() == still
    assert still or found["lipschitz_mean"].item() == pytest.approx(1, rel=0.01)
    assert measured(linear(rotation.double()), x.double(), epsilon=epsilon)["robustness_still"].item() == 0
    constant = nn.Sequential(nn.Linear(64, 3))
    nn.init.zeros_(constant[0].weight)
    assert measured(constant, x)["robustness_still"].item() == 1  # the output does not move at all


def test_row_budget() -> None:
    x = torch.randn(500, 3, generator=seeded())
    found = measured(linear(torch.eye(3)), x, max_rows=90)
    assert found["lipschitz_mean"].attrs["n_points"] == 10  # nine rows each
    two = RobustnessProbe(max_rows=90).fit(linear(torch.eye(3)), {"one": (x, None), "two": (x, None)}).series_
    assert two["lipschitz_mean"].attrs["n_points"] == 5
    with pytest.raises(ValueError, match="Expected max_rows for at least one point of split 'all', got 8"):
        measured(linear(torch.eye(3)), x, max_rows=8)


def test_a_model_in_half_precision_is_measured() -> None:
    x = 300 * torch.randn(6, 3, generator=seeded())
    found = measured(linear(torch.eye(3)).half(), x.half(), x.argmax(1))
    assert found["robustness_nonfinite"].item() == 0
    assert found["robustness_loss"].values[0] == pytest.approx(F.cross_entropy(x, x.argmax(1)).item(), abs=0.3)
    assert found["lipschitz_mean"].item() == pytest.approx(1, rel=0.02)


def test_real_targets_have_a_loss_and_without_targets_only_the_movement_is_measured() -> None:
    x = torch.randn(6, 3, generator=seeded())
    data = {"real": (x, torch.zeros(6, 3)), "free": (x, None), "classes": (x, x.argmax(1))}
    series = RobustnessProbe().fit(linear(torch.eye(3)), data).series_.isel(step=0)
    assert series["robustness_unscored"].values.tolist() == [0, 1, 0]
    assert series["robustness_nonfinite"].values.tolist() == [0, 0, 0]
    assert series["robustness_loss"].isnull().any("perturbation").values.tolist() == [False, True, False]
    assert series["robustness_accuracy"].isnull().any("perturbation").values.tolist() == [True, True, False]
    assert series["robustness_loss"].sel(split="real").values[0] == pytest.approx(x.square().mean().item(), rel=1e-6)
    assert series["lipschitz_max"].notnull().all()
    own = measured(linear(torch.eye(3)), x, x.argmax(1), score=lambda z, y: torch.ones(len(z), 3))
    assert own["robustness_loss"].values.tolist() == [1, 1, 1]


def test_outputs_that_are_not_finite_are_flagged() -> None:
    model = linear(torch.tensor([[1.0, math.inf], [1.0, 0.0]]))
    found = measured(model, torch.ones(4, 2), torch.zeros(4).long())
    assert found["robustness_nonfinite"].item() == 1
    assert found["robustness_unscored"].item() == 0
    assert found[["robustness_loss", "lipschitz_mean", "lipschitz_max"]].to_array().isnull().all()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epsilon": 0.0}, "Expected epsilon > 0 and n_directions >= 1, got 0.0 and 4"),
        ({"n_directions": 0}, "n_directions >= 1, got 0.1 and 0"),
        ({"stem": "1"}, "got '1', which does not fire; pass stem='<input>'"),
        ({"stem": "0"}, "positive mean norm, got 0"),
    ],
)
def test_invalid_parameters_are_an_error(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measured(linear(torch.zeros(2, 2)), torch.ones(4, 2), **parameters)
