"""Coarse graining of section 4.3 of arXiv:2504.12700: runs and controls, windows, markers, rules of verdicts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

import probe
from reference.__main__ import main
from reference.claims.two_phases import coarse_graining as claims, coarse_tables, universality
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, by_pairs
from reference.experiments import (
    coarse_graining as experiment,
    coarse_graining_analysis as analysis,
    coarse_graining_figures as figures,
    coarse_graining_rules as rules,
)
from reference.training.perceptron import PerceptronConfig

TINY = PerceptronConfig(task="digits", n_train=40, hidden=(6,), lr=0.02, steps=9)
STEPS = np.unique(np.round(np.geomspace(1, 1000, 61)))


# -- runs ----------------------------------------------------------------------------------------------------------


def test_a_control_differs_from_its_run_only_in_its_answers_and_length() -> None:
    for name in experiment.RUNS:
        run = experiment.recipe_of(name)
        control = experiment.control_of(run, steps=7)
        assert control.steps == 7
        for split, (x, y) in experiment.splits(run, 1).items():
            same, other = experiment.splits(control, 1)[split]
            assert torch.equal(x, same)
            assert (y == other).float().mean() < 0.5
    with pytest.raises(ValueError, match=r"Expected a name among demo, .*, got 'cubes'"):
        experiment.recipe_of("cubes")


def test_the_command_records_the_same_from_kept_weights_and_from_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(experiment.RUNS, "digits", TINY)
    arguments = ["coarse-graining", "digits", "--seeds", "1", "--weights", str(tmp_path / "weights"), "--out"]
    assert main([*arguments, str(tmp_path / "one")]) == 0
    assert "(seeds: 1, each with a control)" in capsys.readouterr().out
    kept = probe.load(tmp_path / "one" / "coarse-graining-digits" / "seed-0.nc")
    trained = experiment.record_coarse_seed(TINY, 0, tmp_path / "two.nc", early=True)
    xr.testing.assert_identical(kept.drop_vars("seconds").drop_attrs(), trained.drop_vars("seconds").drop_attrs())
    assert kept["mode_spectrum"].notnull().all()
    measured = kept["fisher_rank"].sel(layer="<all>", split="train").dropna("step")["step"]
    assert measured.values[[0, -1]].tolist() == [0, TINY.steps]
    assert 5 < len(measured) < kept.sizes["step"]
    found = probe.load(tmp_path / "one" / "coarse-graining-digits.nc")
    assert found["step"].values.tolist() == experiment.observed_steps(TINY)
    assert found["spectrum"].sel(snapshot=["first", "last"]).notnull().all()
    assert {path.name for path in tmp_path.glob("weights/*/*")} == {"seed-0.pt", "control-seed-0.pt"}
    with pytest.raises(ValueError, match="give another folder by --out"):
        experiment.record_coarse_seed(TINY, 4, tmp_path / "two.nc")


# -- windows and markers -------------------------------------------------------------------------------------------


def _markers(fit: float, onset: float, end: float) -> xr.DataArray:
    return xr.DataArray([[fit, onset, end]], {"marker": list(rules.MARKERS)}, ("run", "marker"))


@pytest.mark.parametrize(
    ("markers", "expected"),
    [
        ((100, 400, 900), [(10, 100), (100, 900), (100, 400), (400, 900)]),
        ((100, 110, np.nan), [(10, 100), (100, 1000), None, (110, 1000)]),  # leaves chance at once; no end
        ((100, 60, 900), [(10, 100), (100, 900), None, (100, 900)]),  # leaves chance before
        ((100, np.nan, np.nan), [(10, 100), (100, 1000), (100, 1000), None]),  # never leaves chance
        ((np.nan, 400, 900), [None, None, None, None]),
    ],
)
def test_windows_lie_between_the_markers(markers: tuple[float, ...], expected: list[Any]) -> None:
    found = rules.windows_of(_markers(*markers), [1000])
    for name, bounds in zip(rules.WINDOWS, expected, strict=True):
        np.testing.assert_array_equal(found[name].values[0], (np.nan, np.nan) if bounds is None else bounds)


def test_markers_of_curves_and_of_a_fall_are_where_they_were_planted() -> None:
    late = 1 / (1 + np.exp(-8 * np.log(STEPS / 300)))
    curves = {"train_accuracy": 1 / (1 + np.exp(-8 * np.log(STEPS / 20))), "test_accuracy": late}
    found = rules.run_markers(xr.Dataset({k: (("run", "step"), v[None]) for k, v in curves.items()}, {"step": STEPS}))
    assert found.sel(marker="test_half").item() == STEPS[STEPS >= 300][0]
    assert found.sel(marker="fit_end").item() < found.sel(marker="generalisation_onset").item() < 300
    thinning = rules.thinning_markers(STEPS, 50 * np.exp(-np.log(5) * late))
    assert thinning["thinning_half"] == pytest.approx(300, rel=0.15)
    assert 150 < thinning["thinning_onset"] < 300
    assert thinning["fall"] == pytest.approx(np.log(5), rel=0.05)
    assert np.isnan(rules.thinning_markers(STEPS, np.linspace(50, 46, len(STEPS)))["thinning_half"])
    assert np.isnan(rules.thinning_markers(STEPS, late + 1)["thinning_half"])  # it rises


def test_changes_are_read_at_the_bounds_of_the_window() -> None:
    curves = xr.DataArray([STEPS**-2.0], {"step": STEPS}, ("run", "step"))
    window = xr.DataArray([[10.0, 1000.0]], dims=("run", "bound"))
    assert rules.change_in(window, curves) == pytest.approx([-4])
    assert np.isnan(rules.change_in(window * np.nan, curves))
    assert np.isnan(rules.change_in(window, curves * np.nan))


# -- verdicts ------------------------------------------------------------------------------------------------------


def test_pairs_are_compared_by_signs_and_need_a_large_area() -> None:
    low = np.arange(6.0)
    assert by_pairs(low + 10, low, "x", auc=0.9).word == CONFIRMED
    assert by_pairs(low, low + 10, "x", auc=0.9).word == NOT_CONFIRMED
    assert by_pairs(low + 0.1, low, "x", auc=0.9).word != CONFIRMED  # each pair differs, and the groups overlap
    assert by_pairs(low[:5] + 10, low[:5], "x").word == UNDECIDED
    assert "1 of 6 pairs have a missing value" in by_pairs([*low[:5], np.nan], low, "x").numbers
    generator = np.random.default_rng(0)
    draws = generator.standard_normal((100, 2, 6))
    assert np.mean([by_pairs(a, b, "x").word == CONFIRMED for a, b in draws]) < 0.05  # the exact size is 1/64


def planted(classes: dict[int, int], control: dict[int, int], fall: float = 3.0) -> xr.Dataset:
    """Return a recording of 6 runs with so many modes of each class, and effective numbers that fall at step 300."""
    noise = 0.01 * np.random.default_rng(0).standard_normal((2, 6, 6, 1, 8))
    modes = np.zeros((2, 6, 4, 1, sum(classes.values())), np.int8)
    for kind, numbers in enumerate((classes, control)):
        modes[kind] = np.repeat(list(numbers), list(numbers.values()))
    late = 1 / (1 + np.exp(-8 * np.log(STEPS / 300)))
    curve = np.stack([50 * fall**-late * (1 + seed / 1000) for seed in range(6)])
    spectra = np.ones((2, 6, 6, 1, 8)) + noise
    spectra[0, :, 1:] = np.geomspace(1, 0.01, 8) * (1 + noise[0, :, 1:])
    series = {
        "mode_class": (("kind", "run", "window", "parameter", "mode"), modes),
        "window_steps": (("run", "window", "bound"), np.broadcast_to([[10.0, 100], [100, 900]] * 2, (6, 4, 2))),
        "marker_step": (("run", "marker"), np.broadcast_to([100.0, 300], (6, 2))),
        "spectrum": (("kind", "run", "snapshot", "parameter", "rank"), spectra),
    }
    curves = np.stack([curve, np.full_like(curve, 50) + np.arange(6)[:, None]])
    series |= {name: (("kind", "run", "step"), curves) for name in analysis.NUMBERS}
    series |= {f"{split}_accuracy": (("kind", "run", "step"), 0 * curves + late) for split in ("train", "test")}
    at = {"kind": list(analysis.KINDS), "window": list(rules.WINDOWS), "marker": ["fit_end", "test_half"]}
    return xr.Dataset(series, {**at, "snapshot": analysis.SNAPSHOTS, "parameter": ["w"], "step": STEPS})


def verdicts_of(series: xr.Dataset) -> dict[str, set[str]]:
    """Return the words of the verdicts of each claim, if all recordings are ``series``."""
    evidence: Any = SimpleNamespace(ours=lambda _: SimpleNamespace(curves=series))
    return {
        claim.name: {finding.verdict.word for finding in claim.ours(evidence)}
        for claim in (*claims.COARSE_GRAINING_CLAIMS, *universality.UNIVERSALITY_CLAIMS)
    }


def test_a_planted_flow_confirms_the_claims_and_its_opposite_does_not() -> None:
    flow, none = {-1: 80, 1: 5, 0: 5, 2: 10}, {-1: 5, 1: 0, 0: 90, 2: 5}
    found = verdicts_of(planted(flow, none))
    assert found.pop("coarse graining starts when fitting ends") == {NOT_CONFIRMED}  # planted later
    assert set.union(*found.values()) == {CONFIRMED}
    reverse = verdicts_of(planted(none, flow, fall=0.5))
    assert reverse["most modes shrink after fitting"] == {NOT_CONFIRMED}
    assert reverse["few modes grow after fitting"] == {UNDECIDED}  # 0 grow, and 5 are undecided
    assert reverse["few modes stay after fitting"] == {NOT_CONFIRMED}
    assert reverse["fewer effective parameters after fitting"] == {NOT_CONFIRMED}
    assert reverse["coarse graining belongs to generalisation"] == {NOT_CONFIRMED}


def test_figure_and_table_show_the_planted_numbers() -> None:
    series = planted({-1: 80, 1: 5, 0: 5, 2: 10}, {-1: 5, 1: 0, 0: 90, 2: 5})
    axes = figures.draw_coarse({"demo": series}).axes
    heights = [bar.get_height() for bar in axes[3].patches]
    assert heights[:8] == pytest.approx([0.8, 0.05, 0.8, 0.05, 0.05, 0.9, 0.05, 0.9])  # shrink, then stay
    evidence: Any = SimpleNamespace(ours=lambda _: SimpleNamespace(curves=series))
    table = coarse_tables.coarse_table(evidence).splitlines()
    assert table[4] == "| demo | second | 100 to 900 | runs | 5 | 5 | 80 | 10 | 0.33 | 0.33 | 0.33 |"
    assert len(table) == 2 + 2 * 4 * len(claims.NAMES)


def test_undecided_modes_leave_a_run_undecided_only_if_they_matter() -> None:
    assert [claims._most(*one, 100) for one in ((60, 0), (45, 10), (30, 10))] == [True, None, False]
    found = [claims._few(*one, 80) for one in ((5, 10), (5, 50), (0, 5), (0, 0), (40, 0))]
    assert found == [True, None, None, False, False]
