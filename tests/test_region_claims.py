"""Claims on regions, circuits and robustness, on planted recordings of perceptrons."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from probe import save
from reference.claims import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Finding
from reference.claims.two_phases import Evidence, regions as claims
from reference.claims.two_phases.configurations import PERCEPTRONS, control_of

STEPS = np.unique(np.round(np.logspace(0, 3.5, 40))).astype(int)
FIT = 100
SPLITS = ("train", "test", "midpoint", "random")
MECHANISMS = ("disappearance", "appearance", "merging", "splitting", "alignment", "crossing", "folding")


def recording(slope: float, *, seeds: int = 6, alignment: float = 0.0) -> xr.Dataset:
    """Return a recording whose regions, circuits and local complexities change by a factor 10^slope per decade."""
    source = np.random.default_rng(0)
    late = np.log10(np.maximum(STEPS, FIT) / FIT)  # 0 until the end of fitting
    noise = 0.002 * source.standard_normal((seeds, len(STEPS)))
    level = 10 ** (slope * late + noise)  # (run, step)
    by_split = np.stack([1000 * level] * 4, 2)
    grows = np.clip(0.5 - slope * late + noise, 0, 1)
    change = np.zeros((seeds, len(STEPS), 4, 2, 3, len(MECHANISMS)))
    change[..., MECHANISMS.index("alignment")] = alignment * 1000 / (STEPS > FIT).sum() / 2  # two layers
    change[..., MECHANISMS.index("folding")] = 3
    change[..., 0, :] = np.nan  # the input
    change[:, 0] = np.nan  # nothing to compare with
    runs = ("run", "step")
    data = {
        "train_accuracy": (runs, np.tile((STEPS >= FIT).astype(float), (seeds, 1))),
        "test_accuracy": (runs, np.tile((STEPS >= 10 * FIT).astype(float), (seeds, 1))),
        "test_loss": (runs, np.tile(1 / STEPS, (seeds, 1))),
        "linear_regions_mean": ((*runs, "split"), by_split),
        "linear_regions_knots": ((*runs, "split"), by_split / 100 - 1),
        "linear_regions_change": ((*runs, "split", "slice", "layer", "mechanism"), change),
        "linear_regions_composite_distance": ((*runs, "split", "slice"), np.stack([by_split / 1e5] * 2, 3)),
        "linear_regions_ordinary_distance": ((*runs, "split", "slice"), np.full((seeds, len(STEPS), 4, 2), 0.1)),
        "local_complexity_total": ((*runs, "split"), by_split * np.array([10**-4, 1, 1, 1]) ** (late / 9)[:, None]),
        "local_complexity_integral": (runs, level**2),
        "linear_mapping_number": ((*runs, "split", "layer"), np.stack([by_split**3] * 3, 3)),
        "robustness_accuracy": ((*runs, "split", "perturbation"), np.stack([np.stack([grows] * 4, 2)] * 2, 3)),
    }
    coords = {
        "run": np.arange(seeds),
        "step": STEPS,
        "split": list(SPLITS),
        "slice": [0, 1],
        "mechanism": list(MECHANISMS),
        "layer": ["<input>", "1:relu", "3:relu"],
        "perturbation": ["random", "worst"],
    }
    return xr.Dataset(data, coords)


def planted(folder: Path, runs: xr.Dataset, controls: xr.Dataset) -> Evidence:
    for name in PERCEPTRONS:
        save(runs, folder / f"{name}.nc")
        save(controls, folder / f"{control_of(name)}.nc")
    return Evidence(folder)


@pytest.fixture(scope="module")
def falling(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return planted(tmp_path_factory.mktemp("falling"), recording(-0.3, alignment=-0.2), recording(0.0))


def words(judge: Callable[[Evidence], Iterator[Finding]], evidence: Evidence, runs: str = "") -> set[str]:
    return {finding.verdict.word for finding in judge(evidence) if runs in finding.runs}


def test_a_fall_of_everything_in_runs_alone(falling: Evidence) -> None:
    for judge in (
        claims.regions_fall,
        claims.circuits_fall,
        claims.regions_separate,
        claims.robustness_grows,
        claims.robustness_separates,
        claims.migrates,
        claims.composite_near_decision,
    ):
        assert words(judge, falling) == {CONFIRMED}, judge.__name__


def test_a_rise_of_everything(tmp_path: Path) -> None:
    evidence = planted(tmp_path, recording(0.3, alignment=0.2), recording(0.0))
    for judge in (
        claims.regions_fall,
        claims.circuits_fall,
        claims.regions_separate,
        claims.robustness_grows,
        claims.robustness_separates,
    ):
        assert words(judge, evidence) == {NOT_CONFIRMED}, judge.__name__
    assert words(claims.mechanisms_reduce, evidence, "alignment") == {NOT_CONFIRMED}


def test_the_mechanism_that_was_planted_is_found(falling: Evidence) -> None:
    found = claims.net_changes(falling.ours(PERCEPTRONS[0]), "train")
    after = int((STEPS > FIT).sum())
    np.testing.assert_allclose(found["alignment"].values, -0.2, rtol=0.03)
    np.testing.assert_allclose(found["folding"].values, 2 * 3 * after / 1000, rtol=0.03)
    np.testing.assert_allclose(found["merging"].values, 0)
    assert words(claims.mechanisms_reduce, falling, "alignment") == {CONFIRMED}
    assert words(claims.mechanisms_reduce, falling, "merging") == {NOT_CONFIRMED}
    assert words(claims.mechanisms_separate, falling, "disappearance") <= {NOT_CONFIRMED, UNDECIDED}


def test_rank_correlations(falling: Evidence, tmp_path: Path) -> None:
    """All three measures are monotonic functions of one number in one recording, and not in the other."""
    assert words(claims.agree_over_time, falling, "after fitting") == {CONFIRMED}
    fall = recording(-0.3)
    opposed = fall.assign(linear_mapping_number=1 / fall["linear_mapping_number"])
    evidence = planted(tmp_path, opposed, opposed)
    found = {f.runs: f.verdict.word for f in claims.agree_over_time(evidence) if "after fitting" in f.runs}
    assert {word for runs, word in found.items() if "linear mapping number" in runs} == {NOT_CONFIRMED}
    assert {word for runs, word in found.items() if "linear mapping number" not in runs} == {CONFIRMED}


def test_rank_correlation_over_runs_has_an_interval_over_runs(falling: Evidence) -> None:
    for finding in claims.agree_over_runs(falling):
        assert "over 12 runs and controls" in finding.verdict.numbers
        value, low, high = (float(number) for number in re.findall(r"[+-]\d\.\d+", finding.verdict.numbers))
        assert low <= value <= high
        assert high > 0.9


@pytest.mark.parametrize("missing", ["fit", "composite"])
def test_missing_values_are_undecided(tmp_path: Path, missing: str) -> None:
    fall = recording(-0.3)
    if missing == "fit":
        fall["train_accuracy"][0] = 0.2  # one seed never fits
        evidence = planted(tmp_path, fall, recording(0.0))
        assert words(claims.regions_fall, evidence) == {UNDECIDED}
        assert words(claims.regions_separate, evidence) == {UNDECIDED}
        assert np.isnan(claims.net_changes(evidence.ours(PERCEPTRONS[0]), "train")["alignment"].values[0])
    else:
        fall["linear_regions_composite_distance"][:] = np.nan
        assert words(claims.composite_near_decision, planted(tmp_path, fall, fall)) == {UNDECIDED}
