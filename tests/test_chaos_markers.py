"""End of chaos and entry into the cone: rules, roles, summary and plots, and one real run that has both."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn
from torch.nn import functional as F

from probe import ChaosProbe, PhaseDetector, ProbeSet, TangentKernelProbe
from probe.forward import TrainingContext
from probe.phases import growth_end
from probe.stats import cone_of, kernel_distances

STEPS = np.array([0, 3, 7, 14, 26, 48, 90, 167, 312, 579, 1076, 2000])
SIZES, DIRECTIONS = [1e-4, 1e-3, 1e-2], ["gaussian", "gradient"]

# --- the end of growth -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("growth", "status", "at"),
    [
        ([3, 3, 2, 1.5, 0.8, 0.4, 0.02, 0, -0.01, 0.03, 0, 0], "found", (90, 48, 90)),
        ([3, 3, 2, 1.5, 0.8, 0.4, -0.3, -0.5, -0.4, -1, -np.inf, -1], "found", (90, 48, 90)),
        ([3, 3, 2, np.nan, 0.8, 0.4, np.nan, 0, -0.01, 0.03, 0, 0], "found", (167, 48, 167)),
        # values near the threshold count little: the growth of a tanh network on digits
        ([0.25, 0.22, 0.16, 0.13, 0.09, 0.03, -0.01, -0.01, 0, 0, 0, 0], "found", (26, 7, 48)),
        # an exception on each side, and two bursts before the end of the record
        ([3, 3, 0.01, 1.5, 0.8, 0.4, 0.02, 0, 1.4, 0.03, 0, 0], "found", (90, 26, 1076)),
        ([3, 3, 2, 1.5, 0.8, 0.4, 0, 0, 1.2, 1.1, 0, 0], "undecided", None),
        # a growth by a factor of 7 at the first observation decides, one by 1.6 may be an exception
        ([5.7, 0.02, 0, 0, 0.03, 0, 0, 0.01, 0, 0, 0, 0], "found", (3, 0, 3)),
        ([0.5, 0.02, 0, 0, 0.03, 0, 0, 0.01, 0, 0, 0, 0], "undecided", None),
        ([3, 3, 2, 1.5, 0.8, 0.4, 0.5, 0.4, 0.6, 0.5, 0.4, 0.01], "undecided", None),
        ([0.01, 0.05, 0, 0.02, 0.03, 0, 0.04, 0, 0, 0.05, 0.01, 0], "left_censored", None),
        ([3, 3, 2, 1.5, 0.8, 0.4, 0.5, 0.4, 0.6, 0.5, 0.4, 0.6], "right_censored", None),
        ([3, 0, 3, 0, 3, 0, 0.4, 0, 0.6, 0, 0.4, 0], "undecided", None),
        ([3, 2, 0, *[np.nan] * 9], "undefined", None),
    ],
)
def test_the_end_of_growth(growth: list[float], status: str, at: tuple[float, float, float] | None) -> None:
    marker = growth_end(STEPS, growth)
    assert marker.status == status, marker.reason
    if at is None:
        assert marker.reason
        assert np.isnan(marker.step)
    else:
        assert (marker.step, marker.lower, marker.upper) == at
    again = growth_end(STEPS, np.stack([growth, growth], axis=1))  # equal directions are one
    assert (again.status, again.lower) == (marker.status, marker.lower) or status == "undefined"


def test_directions_that_disagree_widen_the_interval() -> None:
    first = np.where(STEPS < 40, 1.0, 0.0)
    second = np.where(STEPS < 300, 1.0, 0.0)
    marker = growth_end(STEPS, np.stack([first, second], axis=1))
    assert (marker.lower, marker.upper) == (26, 312)
    alone = growth_end(STEPS, first)
    assert (alone.step, alone.lower, alone.upper) == (48, 26, 48)


@pytest.mark.parametrize("n", [8, 24])
def test_exceptions_rarely_make_an_end_and_intervals_cover_it(n: int) -> None:
    """One observation in ten is an exception, as of ReLU networks on digits."""
    rng, x = np.random.default_rng(0), np.arange(n)
    false, inside, found = 0, 0, 0
    for _ in range(150):
        flips = rng.random(n) < 0.1
        stable = np.where(flips, rng.exponential(0.5, n), 0.03 * abs(rng.standard_normal(n)))
        false += growth_end(x, stable).status == "found"
        end = int(rng.integers(2, n - 2))
        early = np.where(flips, 0.02, np.exp(0.5 * rng.standard_normal(n)))
        marker = growth_end(x, np.where(x < end, early, stable))
        found += marker.status == "found"
        inside += marker.lower <= end <= marker.upper
    assert false <= 0.06 * 150
    assert found >= 0.7 * 150
    assert inside >= 0.85 * found


def test_bad_growth_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected steps \(n,\) and growth"):
        growth_end([0, 1], [1.0, 2, 3])
    with pytest.raises(ValueError, match="strictly increasing"):
        growth_end([0, 2, 1, 3], [1.0, 2, 3, 4])


# --- roles -----------------------------------------------------------------------------------------------------------


def chaos(kinks: bool, prefix: str = "") -> xr.Dataset:
    """Growth until step 48: with kinks only at a finite size, else at all sizes. The largest size grows to the end."""
    grows = np.where(STEPS <= 48, 2.0, 0.0)
    tangent = np.repeat((0.0 if kinks else 1.0) * grows[:, None], 2, axis=1)
    twins = np.repeat(grows[:, None, None], 2, axis=1) * [0.0 if kinks else 1.0, 1.0, 1.0]
    twins[..., 2] = 1.0
    coords = {"step": STEPS, "direction": DIRECTIONS, "size": SIZES}
    return xr.Dataset(
        {
            f"{prefix}chaos_growth": (("step", "direction", "size"), twins),
            f"{prefix}chaos_tangent_growth": (("step", "direction"), tangent),
        },
        coords,
    )


def marker_of(series: Any, name: str = "chaos_end", **options: Any) -> xr.Dataset:
    detector = PhaseDetector(**options).fit(series)
    marker = detector.markers_.sel(marker=name).isel(run=0)
    return marker.assign(summary=detector.summary(), notes=", ".join(detector.notes_))


@pytest.mark.parametrize("kinks", [True, False])
@pytest.mark.parametrize("prefix", ["", "first_"])
def test_growth_at_any_small_size_counts(kinks: bool, prefix: str) -> None:
    series = chaos(kinks, prefix)
    assert float(marker_of(series)["step"]) == 90
    lost = series.copy(deep=True)
    lost[f"{prefix}chaos_growth"][::2, :, :] = np.nan  # rounding: the derivative replaces sizes if it is not blind
    found = marker_of(lost)
    assert (float(found["lower"]), float(found["step"])) == ((48, 167) if kinks else (48, 90))
    assert ("the derivative alone" in found["notes"].item()) == (not kinks)


def test_only_the_random_direction_of_a_probe_counts() -> None:
    """Perturbations along the gradient grow throughout, as in the transformers of chaos-cone."""
    series = chaos(False)
    for name in series:
        series[name].loc[{"direction": "gradient"}] = 2.0
    assert (float(marker_of(series)["step"]), marker_of(series)["lower"]) == (90, 48)
    assert "growth: direction 'gaussian' alone; 'gradient' not used" in marker_of(series)["notes"].item()
    other = marker_of(series, growth=lambda curves: curves["chaos_growth"].sel(direction="gradient"))
    assert other["status"] == "right_censored"
    assert marker_of(series.sel(direction=["gradient"]))["status"] == "right_censored"  # the only one
    assert "direction" not in marker_of(chaos(False).sel(direction=["gaussian"]))["notes"].item()
    mean = marker_of(series.assign_coords(direction=["first", "second"]))  # random ones of the user's own
    assert mean["status"] == "right_censored"


def test_other_growths_are_chosen_by_name_or_function() -> None:
    plain = {"step": STEPS, "my_growth": np.where(STEPS < 20, 1.0, 0.0), "train_loss": 1 / (1 + STEPS)}
    assert float(marker_of(plain, growth="my_growth")["step"]) == 26
    assert float(marker_of(plain, growth=lambda curves: 2 * curves["my_growth"])["step"]) == 26
    assert marker_of(plain, growth=None)["status"] == "undefined"
    assert "not recorded: test accuracy, test loss, information, growth" in marker_of(plain)["summary"].item()
    assert "growth='my_growth'" in marker_of(plain)["summary"].item()
    both = xr.merge([chaos(True, "a_"), chaos(False, "b_")]).assign(train_loss=("step", 1 / (1.0 + STEPS)))
    assert "pass growth= with the name of yours, such as 'a_chaos_growth'" in marker_of(both)["summary"].item()
    assert float(marker_of(both, growth="b_chaos_growth")["step"]) == 90
    with pytest.raises(ValueError, match="Expected dimensions among direction"):
        PhaseDetector(growth=lambda curves: curves["chaos_growth"].rename(size="other")).fit(chaos(True))


def trajectory(n: int = 30, entry: int = 8, seed: int = 0, split: tuple[str, ...] = ("train",)) -> xr.Dataset:
    """Sketches of two batches: fast movement, then new positions around a centre."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal(200)
    place = np.tile(centre + 0.3 * rng.standard_normal((n, 200)), (2, 1, 1))  # one movement in both batches
    place[:, :entry, 0] += np.linspace(120, 30, entry)
    place = place + 0.02 * rng.standard_normal((2, n, 200))
    values = np.stack([place.swapaxes(0, 1)] * len(split), axis=1)  # (step, split, batch, sketch)
    attrs = {"n_probes": 0, "hashed": 0, "n_numbers": 200}
    dims = ("step", "split", "batch", "sketch")
    coords = {"step": 10 * np.arange(n), "split": list(split), "batch": [0, 1]}
    return xr.Dataset({"tangent_kernel_sketch": (dims, values, attrs)}, coords)


def test_sketches_and_distances_give_the_same_cone() -> None:
    series = trajectory()
    cone = marker_of(series, "cone_entry")
    assert (cone["status"], float(cone["step"]), float(cone["lower"])) == ("found", 80, 70)
    assert "cone of tangent kernels of radius " in cone["rule"].item()
    distances = kernel_distances(series)["distance"].rename("tangent_kernel_distance").to_dataset()

    def same(other: xr.Dataset) -> bool:
        names = ("step", "lower", "upper", "rule", "status")
        return [other[name].item() for name in names] == [cone[name].item() for name in names]

    assert same(marker_of(distances, "cone_entry"))
    gaps = distances.reindex(step=np.arange(0, 300, 5), step_ref=np.arange(0, 300, 5))  # observed at every second step
    assert same(marker_of(gaps, "cone_entry"))
    prefixed = series.rename(tangent_kernel_sketch="late_tangent_kernel_sketch")
    assert same(marker_of(prefixed, "cone_entry"))
    runs = PhaseDetector().fit([distances, distances.isel(step=slice(25), step_ref=slice(25))])
    assert runs.markers_["step"].sel(marker="cone_entry").values.tolist() == [80, 80]
    assert runs.markers_["last_step"].values.tolist() == [290, 240]
    assert "the tangent kernel enters a cone at step 80" in runs.summary()
    assert runs.across_["n_found"].sel(marker="cone_entry") == 2


def test_the_size_of_the_kernel_is_reported_with_its_cone() -> None:
    """Distances do not show it: the norm grows twelvefold before the entry at step 80, and falls by a fifth after."""
    series = trajectory()
    norm = np.r_[np.geomspace(1, 12, 9), np.geomspace(12, 9.6, 22)[1:]][:, None, None] * [1.0, 3.0]
    series["tangent_kernel_norm"] = ("step", "split", "batch"), norm
    cone = marker_of(series, "cone_entry")
    size = "; the norm of the kernel changes by a factor of 12 before the entry and of 0.8 within the cone"
    assert (float(cone["step"]), float(cone["lower"])) == (80, 70)
    assert cone["rule"].item().endswith(size)
    assert size in cone["summary"].item()
    found = cone_of(series)
    assert (found["size_before"].item(), found["size_within"].item()) == (pytest.approx(12), pytest.approx(0.8))
    inside = marker_of(series.isel(step=slice(8, None)), "cone_entry")
    assert inside["status"] == "left_censored"
    assert inside["reason"].item().endswith("the norm of the kernel changes by a factor of 0.8 within the cone")
    series["tangent_kernel_norm"][20] = np.nan  # an unknown norm leaves the size out
    assert marker_of(series, "cone_entry")["rule"].item() == cone["rule"].item().removesuffix(size)


def test_one_batch_is_enough_only_for_whole_kernels() -> None:
    series = trajectory()
    whole = marker_of(series.isel(batch=[0]), "cone_entry")
    assert (whole["status"], float(whole["step"])) == ("found", 80)
    distances = kernel_distances(series)["distance"].rename("tangent_kernel_distance").to_dataset()
    loss = xr.DataArray(np.ones(30), dims="step")
    one = marker_of(distances.isel(batch=[0]).assign(train_loss=loss), "cone_entry")
    assert one["status"] == "undefined"
    assert "record n_batches=2" in one["summary"].item()
    plain = distances["tangent_kernel_distance"].isel(batch=0, split=0, drop=True)
    assert marker_of(plain.to_dataset(), "cone_entry", kernel_distances=lambda data: plain)["status"] == "found"
    short = marker_of(series.isel(step=slice(11)), "cone_entry")
    assert (short["status"], short["reason"]) == ("undefined", "the curve has 11 valid observations, the rule needs 12")
    other = marker_of(trajectory(split=("fit", "val")).assign(train_loss=loss), "cone_entry")
    assert "no split 'train'" in other["reason"].item()
    assert marker_of(trajectory(split=("fit", "val")), "cone_entry", split="val")["status"] == "found"
    assert marker_of(trajectory(split=("all",)), "cone_entry")["status"] == "found"


def test_undefined_curves_of_probes_are_named_if_there_is_no_other() -> None:
    one = kernel_distances(trajectory()).isel(batch=[0])["distance"].rename("tangent_kernel_distance").to_dataset()
    several = xr.merge([chaos(True, "a_"), chaos(False, "b_")])
    cases = {
        r"kernel distances undefined: one batch in tangent_kernel_distance, .*; record n_batches=2": one,
        r"kernel distances undefined: no split 'train' of tangent_kernel_sketch": trajectory(split=("fit", "val")),
        r"growth undefined: .* several of them; pass growth= with the name of yours, such as 'a_chaos": several,
    }
    for message, series in cases.items():
        with pytest.raises(ValueError, match=rf"Expected a usable curve, got .*\({message}"):
            PhaseDetector().fit(series)
    with pytest.raises(ValueError, match="Expected a loss or an accuracy by its name, got velocity; pass"):
        PhaseDetector().fit({"step": STEPS, "velocity": STEPS})


# --- many users record neither ---------------------------------------------------------------------------------------


def test_markers_of_probes_that_recorded_nothing_are_not_mentioned() -> None:
    curves = {"step": STEPS, "train_accuracy": np.minimum(1, STEPS / 100), "test_accuracy": np.minimum(1, STEPS / 1e3)}
    for given in (curves, [curves, curves]):
        text = PhaseDetector(chance=0.1).fit(given).summary()
        assert not any(word in text for word in ("chaos", "cone_", "growth", "kernel"))


def test_the_class_of_a_run_depends_on_its_usual_curves_alone() -> None:
    loss = np.where(np.arange(12) < 7, 1.0, np.nan)  # diverged; a growth that goes on changes nothing
    curves = {"step": STEPS, "train_loss": loss, "test_loss": loss}
    alone = PhaseDetector().fit(curves).verdict_["class"].item()
    beside = PhaseDetector(growth="g").fit(curves | {"g": np.where(STEPS < 48, 1.0, 0.0)})
    assert (alone, beside.verdict_["class"].item()) == ("diverged", "diverged")
    assert beside.markers_["last_step"].item() == 2000


# --- a real run ------------------------------------------------------------------------------------------------------


def test_a_recorded_run_has_both_markers_and_their_panels() -> None:
    """The learning rate drops at step 20: growth ends there, and the kernel then moves around a centre."""
    torch.manual_seed(1)
    x = torch.randn(64, 8)
    y = (x[:, 0] + 0.5 * x[:, 1] * x[:, 2] > 0).long()
    model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 2))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.03)
    training = TrainingContext.usual(optimizer, F.cross_entropy, (x, y), batch_size=4)
    chaotic = ChaosProbe(window=3, sizes=[1e-3], n_products=0, max_samples=8, quadratic=False)
    probes = ProbeSet([chaotic, TangentKernelProbe(max_samples=24, method="exact")])
    probes.attach(model, (x, y), training=training)
    due = [0, 3, 6, 10, 14, 18, *range(20, 740, 55)]
    for step in range(due[-1] + 1):
        if step == 20:
            optimizer.param_groups[0]["lr"] = 0.3
        if step in due:
            probes.observe(step)
        training.step_fn(model, optimizer, *training.batches(step, 1))
    series = probes.detach().series_
    detector = PhaseDetector().fit(series)
    found = detector.markers_.isel(run=0).sel(marker=["chaos_end", "cone_entry"])
    assert found["status"].values.tolist() == ["found", "found"]
    assert found["lower"].values[0] <= 20 <= found["upper"].values[0]
    assert found["step"].values[1] >= 40
    assert detector.alignment_["order"].sel(pair="chaos_end - cone_entry") == "before"
    figure = detector.plot()
    growth, velocity = figure.axes[-2:]
    assert growth.get_ylabel() == "log growth of a perturbation (nats)"
    assert [line.get_gid() for line in growth.lines].count("zero") == 1
    assert (velocity.get_ylabel(), velocity.get_yscale()) == ("velocity of the tangent kernel", "log")
    assert "chaos end" in {text.get_text() for text in growth.texts}
    assert "cone entry" in {text.get_text() for text in velocity.texts}
    plt.close(figure)
