"""Cones: planted ones with a known entry and radius are found, and three movements without a cone are not."""

from typing import Any

import numpy as np
import pytest
import xarray as xr

from probe.stats import Cone, cone_entry, cone_of, cone_radius, recorded_kernels

N, DIMENSION, ENTRY = 40, 100, 12
STEPS = np.arange(N) * 50.0


def angles(x: np.ndarray) -> np.ndarray:
    """Return cosine distances."""
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    return np.asarray(1 - unit @ unit.T)


def euclidean(x: np.ndarray) -> np.ndarray:
    gram = x @ x.T
    return np.sqrt(np.maximum(np.diag(gram)[:, None] + np.diag(gram) - 2 * gram, 0))


def planted(rng: np.random.Generator, time: float = 1.0, early: int = ENTRY) -> np.ndarray:
    """Return positions: fast movement to a stationary Ornstein-Uhlenbeck process of squared radius 1."""
    decay, x = np.exp(-1 / time), rng.standard_normal((N, DIMENSION)) / np.sqrt(DIMENSION)
    for i in range(1, N):
        x[i] = decay * x[i - 1] + np.sqrt(1 - decay**2) * x[i]
    x[:early, 0] += 2.0 * np.arange(early, 0, -1)
    return x


def measured(rng: np.random.Generator, x: np.ndarray, jitter: float, **options: Any) -> Cone:
    """Return the verdict on two measurements with jitter of this length."""
    first, second = (x + jitter * rng.standard_normal(x.shape) / np.sqrt(x.shape[1]) for _ in range(2))
    return cone_entry(STEPS[: len(x)], euclidean(first), euclidean(second), kind="euclidean", **options)


@pytest.mark.parametrize("time", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("jitter", [0.0, 0.6])  # 0.26 of the squared distances
def test_planted_cones_are_found_with_their_entry(time: float, jitter: float) -> None:
    rng = np.random.default_rng(0)
    found = [measured(rng, planted(rng, time), jitter) for _ in range(15)]
    assert sum(verdict.status == "found" for verdict in found) >= 13
    inside = [v.lower <= STEPS[ENTRY] <= v.upper for v in found if v.status == "found"]
    assert np.mean(inside) >= 0.9
    assert np.nanmedian([v.step for v in found]) == STEPS[ENTRY]


def test_the_radius_is_that_of_the_process() -> None:
    """Two stationary positions are sqrt(2) apart; jitter of variance 0.25 adds to both."""
    rng = np.random.default_rng(1)
    for jitter in (0.0, 0.5):
        found = [v for v in (measured(rng, planted(rng, 0.3), jitter) for _ in range(30)) if v.status == "found"]
        assert np.mean([v.radius for v in found]) == pytest.approx(np.sqrt(2 + 2 * jitter**2), rel=0.03)
        assert np.mean([v.movement for v in found]) == pytest.approx(1 / (1 + jitter**2), abs=0.06)
        assert all(v.radius_lower < v.radius < v.radius_upper for v in found)


def test_a_random_walk_is_no_cone() -> None:
    rng = np.random.default_rng(2)
    for sizes in (np.ones(N), np.exp(-3 * np.arange(N) / N)):
        walks = [np.cumsum(sizes[:, None] * rng.standard_normal((N, DIMENSION)), axis=0) for _ in range(12)]
        verdicts = [measured(rng, walk, 0.0) for walk in walks]
        assert sum(v.status in ("found", "left_censored") for v in verdicts) <= 1
        assert np.median([v.path_ratio for v in verdicts]) == pytest.approx(1, abs=0.25)


def test_standing_still_plus_jitter_is_no_cone() -> None:
    rng = np.random.default_rng(3)
    verdicts = [measured(rng, np.zeros((N, DIMENSION)), 1.0) for _ in range(15)]
    assert sum(v.status in ("found", "left_censored") for v in verdicts) <= 1
    assert sum(v.status == "absent" for v in verdicts) >= 12


@pytest.mark.parametrize("speed", [0.5, 2.0, 20.0])  # length of the drift, in lengths of the jitter
def test_a_steady_drift_plus_jitter_is_no_cone(speed: float) -> None:
    rng = np.random.default_rng(4)
    drift = speed * np.linspace(0, 1, N)[:, None] * np.eye(1, DIMENSION)
    assert sum(measured(rng, drift, 1.0).status in ("found", "left_censored") for _ in range(10)) <= 1


def test_fast_movement_that_stops_is_no_cone() -> None:
    """One measurement alone looks like a cone: jitter has a constant squared distance. The second one differs."""
    rng = np.random.default_rng(5)
    x = np.zeros((N, DIMENSION))
    x[:ENTRY, 0] = 4.0 * np.arange(ENTRY, 0, -1)
    assert sum(measured(rng, x, 1.0).status == "found" for _ in range(20)) <= 2
    jittery = euclidean(x + rng.standard_normal(x.shape) / np.sqrt(DIMENSION))
    assert cone_entry(STEPS, jittery, jittery, kind="euclidean").status == "found"


def test_the_status_depends_on_what_the_record_contains() -> None:
    rng = np.random.default_rng(6)
    assert measured(rng, planted(rng, 0.3, early=0), 0.0).status == "left_censored"
    assert measured(rng, planted(rng, 0.3, early=N - 5), 0.0).status == "right_censored"
    assert measured(rng, planted(rng)[:11], 0.0).status == "undefined"
    still = cone_entry(STEPS, np.zeros((N, N)), np.zeros((N, N)))
    assert still.status == "absent"
    assert still.reason == "the movement cannot be distinguished from jitter"
    line = np.arange(N)[:, None] * np.ones((1, 3))
    assert measured(rng, line, 0.0).status == "right_censored"


def test_an_entry_after_the_first_observation_is_open_below() -> None:
    x = planted(np.random.default_rng(6), 0.3)[ENTRY - 1 :]
    distances = euclidean(x)
    late = cone_entry(STEPS[ENTRY - 1 :], distances, distances, kind="euclidean")
    assert (late.status, late.step, late.lower) == ("found", STEPS[ENTRY], 0)


def test_a_growing_norm_changes_sizes_and_no_angle() -> None:
    rng = np.random.default_rng(7)
    x = np.hstack([planted(rng), np.full((N, 1), 5.0)])
    scale = np.geomspace(1, 8, N)
    grown = x * scale[:, None]
    one, other = (cone_entry(STEPS, angles(v), angles(v), norms=np.linalg.norm(v, axis=1)) for v in (x, grown))
    assert one.status == other.status == "found"
    assert (one.step, one.reference) == (other.step, other.reference)
    assert one.radius == pytest.approx(other.radius)
    np.testing.assert_allclose(one.velocity, other.velocity, rtol=1e-6)
    assert other.size_within / one.size_within == pytest.approx(8 / scale[one.reference])
    assert np.isnan(cone_entry(STEPS, angles(x), angles(x)).size_within)


def test_angles_are_angles_and_units_do_not_matter() -> None:
    rng = np.random.default_rng(8)
    x = np.hstack([planted(rng), np.full((N, 1), 50.0)])
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    by_angle, by_length = cone_entry(STEPS, angles(x), angles(x)), measured(rng, unit, 0.0)
    assert by_angle.status == by_length.status == "found"
    chord = by_length.radius
    assert by_angle.radius == pytest.approx(2 * np.arcsin(chord / 2), rel=1e-6)
    assert by_angle.to_reference[by_angle.reference] == pytest.approx(0, abs=1e-6)
    scaled = measured(rng, 1000 * unit, 0.0)
    assert scaled.radius == pytest.approx(1000 * chord)
    assert scaled.step == by_length.step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"distances": np.zeros((N, 3))}, "Expected distances of shape"),
        ({"repeated": np.full((N, N), np.nan)}, "Expected repeated that are finite"),
        ({"distances": -np.ones((N, N))}, "Expected distances that are finite"),
        ({"distances": np.triu(np.ones((N, N)))}, "symmetric"),
        ({"distances": "text"}, "Expected numbers as distances"),
        ({"steps": STEPS[::-1]}, "Expected finite, increasing steps"),
        ({"norms": np.zeros(N)}, "Expected positive norms"),
        ({"norms": np.ones(3)}, "Expected positive norms"),
        ({"kind": "angle"}, "Expected kind 'cosine' or 'euclidean'"),
        ({"level": 90}, "Expected level between 0 and 1"),
    ],
)
def test_wrong_arguments_are_errors(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"steps": STEPS, "distances": np.zeros((N, N)), "repeated": np.zeros((N, N))}
    with pytest.raises(ValueError, match=message):
        cone_entry(**{**arguments, **change})


def test_a_random_walk_on_a_sphere_is_no_cone() -> None:
    """Its cosine distances saturate because the sphere is bounded."""
    rng = np.random.default_rng(9)
    verdicts = []
    for _ in range(10):
        x = rng.standard_normal((1, 400))
        for _ in range(N - 1):
            x = np.vstack([x, 0.9 * x[-1] + np.sqrt(0.19) * rng.standard_normal(400)])
        verdicts.append(cone_entry(STEPS, angles(x), angles(x)))
    assert sum(v.status in ("found", "left_censored") for v in verdicts) <= 1
    assert np.median([v.path_ratio for v in verdicts]) == pytest.approx(1, abs=0.25)


# -- the radius over the window ----------------------------------------------------------------------------------------


def test_the_radius_of_a_cone_saturates_and_that_of_a_random_walk_grows() -> None:
    rng = np.random.default_rng(10)
    jitter = np.sqrt(0.25 / DIMENSION) * rng.standard_normal((N, DIMENSION))
    walks = np.cumsum(rng.standard_normal((20, N, DIMENSION)) / np.sqrt(DIMENSION), axis=1)
    found = [cone_radius(STEPS, euclidean(walk), 0, kind="euclidean") for walk in walks]
    ratios = np.mean([one.radius**2 for one in found], 0) / np.mean([one.walk**2 for one in found], 0)
    assert ratios == pytest.approx(1, abs=0.25)
    bounded = cone_radius(STEPS, euclidean(planted(rng, 0.3) + jitter), ENTRY, movement=0.8, kind="euclidean")
    assert bounded.radius[-1] == pytest.approx(np.sqrt(2.5), rel=0.15)
    assert bounded.radius[-1] == pytest.approx(bounded.radius[8], rel=0.1)
    assert bounded.walk[-1] > 3 * bounded.radius[-1]
    assert bounded.window.tolist() == (STEPS[ENTRY + 1 :] - STEPS[ENTRY]).tolist()
    still = cone_radius(STEPS, euclidean(jitter), 0, movement=0.0, kind="euclidean")
    assert still.walk[-1] == pytest.approx(still.radius[-1], rel=0.5)  # jitter counts once
    verdict = cone_entry(STEPS, angles(planted(rng)), angles(planted(rng)))
    assert np.isnan(verdict.radius) == (verdict.status != "found")


def test_the_random_walk_begins_with_the_first_distance() -> None:
    """Also if the early steps are below the jitter, which is one number for the whole record."""
    place = np.zeros((20, 2))
    place[:, 0] = np.r_[0, np.cumsum(np.geomspace(0.01, 3, 19))]
    distances = np.linalg.norm(place[:, None] - place, axis=2)
    found = cone_radius(np.arange(20), distances, 0, movement=0.8, kind="euclidean")
    assert found.walk[0] == pytest.approx(distances[0, 1]) == pytest.approx(found.radius[0])
    jitter = 0.2 * (distances[np.triu_indices(20, 1)] ** 2).mean()
    assert jitter**0.5 > 10 * found.walk[0]
    flat = cone_radius(np.arange(20), np.ones((20, 20)) - np.eye(20), 0, movement=0.0, kind="euclidean")
    assert flat.walk == pytest.approx(np.ones(19))  # jitter alone


def test_the_longest_window_has_the_radius_of_the_cone() -> None:
    x = np.hstack([planted(np.random.default_rng(11)), np.full((N, 1), 5.0)])
    cone = cone_entry(STEPS, angles(x), angles(x))
    found = cone_radius(STEPS, angles(x), cone.start, movement=cone.movement)
    assert cone.start == cone.reference > 0
    last = found.radius[-1], found.lower[-1], found.upper[-1]
    assert last == pytest.approx((cone.radius, cone.radius_lower, cone.radius_upper))
    for change, message in (
        ({"reference": N - 1}, "Expected a reference from 0"),
        ({"movement": 2.0}, "in \\[0, 1\\]"),
    ):
        with pytest.raises(ValueError, match=message):
            cone_radius(**{"steps": STEPS, "distances": angles(x), "reference": 0, **change})


# -- recordings --------------------------------------------------------------------------------------------------------


def recorded(seeds: list[int]) -> xr.Dataset:
    """Return distances of two runs, on two batches, as TangentKernelProbe and kernel_distances record them."""
    distances = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        x = np.hstack([planted(rng), np.full((N, 1), 5.0)])
        batches = [angles(x + 0.02 * rng.standard_normal(x.shape)) for _ in range(2)]
        distances.append([[batches[0], batches[1]], [angles(rng.standard_normal((N, 9)))] * 2])
    dims = "run", "split", "batch", "step", "step_ref"
    norms = np.broadcast_to(np.geomspace(1, 8, N), (len(seeds), 2, 2, N)).copy()
    return xr.Dataset(
        {"tangent_kernel_distance": (dims, np.array(distances)), "tangent_kernel_norm": (dims[:4], norms)},
        {"run": seeds, "split": ["train", "test"], "batch": [0, 1], "step": STEPS, "step_ref": STEPS},
    )


def test_cones_of_a_recording() -> None:
    series = recorded([3, 5])
    series["tangent_kernel_distance"][1, :, :, 4] = np.nan  # an observation without a kernel
    series["tangent_kernel_distance"][1, :, :, :, 4] = np.nan
    found = cone_of(series)
    assert found["run"].values.tolist() == [3, 5]
    assert found["status"].values.tolist() == ["found", "found"]
    for run in (3, 5):
        one = found.sel(run=run)
        keep = [i for i in range(N) if run == 3 or i != 4]
        first, second = series["tangent_kernel_distance"].sel(run=run, split="train").values[:, keep][:, :, keep]
        cone = cone_entry(STEPS[keep], first, second, norms=np.geomspace(1, 8, N)[keep])
        for name, value in (("entry", cone.step), ("radius", cone.radius), ("size_within", cone.size_within)):
            assert one[name].item() == pytest.approx(value)
        seen = one["window"].notnull().values
        assert one["window"].values[seen].tolist() == (STEPS[keep] - cone.step)[cone.start + 1 :].tolist()
        assert one["window_radius"].values[seen][-1] == pytest.approx(cone.radius)
    alone = cone_of(series.isel(run=0, drop=True), "train")
    assert alone["entry"].item() == found["entry"][0].item()
    assert alone["entry"].dims == ()
    assert np.isnan(cone_of(series.drop_vars("tangent_kernel_norm"))["size_within"]).all()
    assert cone_of(series, "test")["status"].values.tolist() != ["found", "found"]
    later = series.isel(split=[0, 0]).assign_coords(split=["fit", "val"])  # no default among two other splits
    with pytest.raises(ValueError, match="Expected a split among fit, val, got none; pass split="):
        cone_of(later)
    assert cone_of(later, "val")["entry"].values.tolist() == found["entry"].values.tolist()
    assert cone_of(later.isel(split=[1]))["entry"].values.tolist() == found["entry"].values.tolist()  # the only one
    early = recorded_kernels(series.isel(step=slice(20)))
    assert early.distance.sizes == {"run": 2, "batch": 2, "step": 20, "step_ref": 20}  # the same steps on both axes
    series["tangent_kernel_norm"][:, 0, 1] *= 4
    assert recorded_kernels(series).norm.values[0] == pytest.approx(2 * np.geomspace(1, 8, N))  # type: ignore[union-attr]
    exact = series.isel(batch=0, drop=True)["tangent_kernel_distance"]  # without batches: no error
    assert recorded_kernels(exact).two_batches().sizes["batch"] == 2  # type: ignore[union-attr]
    assert recorded_kernels(series.isel(batch=[0])).two_batches() is None
    for change, message in (({"batch": [0]}, "Expected two batches"), ({}, "Expected a split among train, test")):
        with pytest.raises(ValueError, match=message):
            cone_of(series.isel(change), None if change else "validation")
