"""Acceptance of the claims of papers: the rules of the verdicts, and the recorded runs that they judge."""

import gzip
import runpy
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
import xarray as xr
from matplotlib import pyplot as plt
from scipy.stats import mannwhitneyu

import probe
from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, ProbeSet, save
from probe.stats import least_p_value, separation
from reference.__main__ import main
from reference.claims import (
    CONFIRMED,
    NOT_CONFIRMED,
    PAPERS,
    UNDECIDED,
    Finding,
    Judgement,
    Reading,
    Verdict,
    accept,
    as_markdown,
    by_prediction,
    by_separation,
    by_share,
    find_papers,
    judge,
    of_difference,
    of_interval,
    overall,
)
from reference.claims.recorded import at_common_steps, change_after_fit
from reference.claims.two_phases import PAPER, Evidence, our_distance, our_hump, published
from reference.claims.two_phases.comparisons import differing_settings
from reference.claims.two_phases.configurations import COMPARED
from reference.claims.two_phases.phases import at_published_steps
from reference.training import CONFIGS, Trainer

mpl.use("Agg")
ROOT = Path(__file__).parent.parent
UNFINISHED = ROOT / "reference" / "results" / "unfinished" / "division-97" / "seed-0"


# -- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("yes", "no", "unknown", "word"),
    [
        (5, 0, 0, CONFIRMED),  # by chance one half each: .5^5 = .03
        (4, 0, 0, UNDECIDED),  # .06
        (7, 1, 0, CONFIRMED),  # .035
        (6, 2, 0, UNDECIDED),  # .14
        (0, 5, 0, NOT_CONFIRMED),
        (5, 0, 3, UNDECIDED),  # five of eight are certain
        (0, 0, 8, UNDECIDED),
        (0, 0, 0, UNDECIDED),
    ],
)
def test_share_of_seeds(yes: int, no: int, unknown: int, word: str) -> None:
    found = by_share([True] * yes + [False] * no + [None] * unknown, "it holds")
    assert found.word == word
    assert f"{yes} of {yes + no + unknown} seeds" in found.numbers


def test_coverage_of_the_prediction_interval() -> None:
    source = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        *seeds, further = source.normal(0.3, 0.2, 7)
        numbers = by_prediction(seeds, -9, 9, "x").numbers
        low, high = (float(part) for part in numbers.split("a further seed ")[1].split(" (")[0].split(" to "))
        inside += low <= further <= high
    assert inside / 2000 == pytest.approx(0.9, abs=0.02)


def test_neither_a_large_spread_nor_a_missing_seed_confirms() -> None:
    seeds = np.array([0.02, -0.03, 0.01, 0.04, -0.02])
    assert by_prediction(seeds, -0.25, 0.25, "x").word == CONFIRMED
    assert by_prediction(5 * seeds, -0.25, 0.25, "x").word == UNDECIDED  # the mean lies inside, a further seed need not
    assert by_prediction(seeds + 1, -0.25, 0.25, "x").word == NOT_CONFIRMED
    assert by_prediction([*seeds, np.nan], -0.25, 0.25, "x").word == UNDECIDED
    assert by_prediction(seeds[:2], -0.25, 0.25, "x").word == UNDECIDED


def test_interval_against_a_range() -> None:
    assert of_interval(0.1, 0.0, 0.2, -0.25, 0.25, "x").word == CONFIRMED
    assert of_interval(0.1, 0.0, 0.3, -0.25, 0.25, "x").word == UNDECIDED
    assert of_interval(0.5, 0.4, 0.6, -0.25, 0.25, "x").word == NOT_CONFIRMED
    assert (
        of_interval(np.nan, 0.6, np.inf, 0.5, np.inf, "x").word == CONFIRMED
    )  # censored, but inside the range in any case
    assert of_interval(np.nan, np.nan, np.nan, 0.5, np.inf, "x").word == UNDECIDED


def test_one_word_for_several_findings() -> None:
    yes, no, open_ = (Verdict(word, "") for word in (CONFIRMED, NOT_CONFIRMED, UNDECIDED))
    assert overall([]) == "-"
    assert overall([Finding("a", yes), Finding("b", yes)]) == CONFIRMED
    assert overall([Finding("a", yes), Finding("b", open_)]) == UNDECIDED
    assert overall([Finding("a", yes), Finding("b", no)]) == NOT_CONFIRMED


# -- comparisons of groups -----------------------------------------------------------------------------------------


def read(values: list[float], step: float = 100.0) -> Reading:
    return Reading(np.array(values), np.full(len(values), step))


@pytest.mark.parametrize(
    ("m", "n", "least"), [(2, 2, 1 / 3), (3, 3, 0.1), (3, 4, 2 / 35), (4, 4, 2 / 70), (2, 8, 2 / 45), (1, 38, 2 / 39)]
)
def test_the_least_p_value_is_that_of_complete_separation(m: int, n: int, least: float) -> None:
    """The truth is the exact test of scipy on groups that do not overlap."""
    assert least_p_value(m, n) == pytest.approx(least)
    apart = mannwhitneyu(np.arange(m) + n, np.arange(n), method="exact").pvalue
    assert least_p_value(m, n) == pytest.approx(apart)
    word = by_separation(read(list(np.arange(m) + 100.0)), read(list(np.arange(n) + 0.0)), "x").word
    assert word == (CONFIRMED if least <= 0.05 else UNDECIDED)


def test_two_tasks_against_two_are_undecided() -> None:
    for sign in (1, -1):  # in neither direction
        found = by_separation(read([sign * 3.0, sign * 4.0]), read([0.0, 0.1]), "x")
        assert found.word == UNDECIDED
        assert "2 against 2 cannot reach p 0.05 (least 0.33)" in found.numbers


def test_groups_that_are_read_at_different_steps_are_not_compared() -> None:
    high, low = [5.0, 6, 7, 8], [1.0, 2, 3, 4]
    assert by_separation(read(high), read(low), "x").word == CONFIRMED
    assert by_separation(read(low), read(high), "x").word == NOT_CONFIRMED
    found = by_separation(read(high), read(low, 82_540), "x")
    assert found == Verdict(UNDECIDED, "x: not compared, read at different steps: 100 against 82,540")
    mixed = Reading(np.array(low), np.array([100.0, 100, 100, 200]))
    assert by_separation(read(high), mixed, "x").word == UNDECIDED
    assert "1 of 8 values are missing" in by_separation(read([*high[:3], np.nan]), read(low), "x").numbers


def test_an_effect_of_length_alone_is_not_found() -> None:
    """Runs and controls follow one curve; the controls end earlier. The ends differ, the common step does not."""
    source, steps = np.random.default_rng(0), np.array([0, 10, 20, 50, 100, 200, 500, 1000])

    def curves(last: int, *drop: int) -> xr.DataArray:
        kept = steps[(steps <= last) & ~np.isin(steps, drop)]
        noise = 0.01 * source.standard_normal((8, len(kept)))
        return xr.DataArray(noise - np.log10(kept + 1), {"step": kept}, ("run", "step"))

    runs, controls, fitted = curves(1000, 100), curves(200), np.full(8, 10.0)
    ends = at_common_steps(controls, runs)
    assert [one["step"].values[-1] for one in ends] == [200, 200]
    assert 100 not in ends[0]["step"]  # the runs were not observed there: both are averaged over the same steps
    larger, smaller = (change_after_fit(c, fitted, until=e) for c, e in zip((controls, runs), ends, strict=True))
    assert by_separation(larger, smaller, "x", auc=0.9).word != CONFIRMED
    assert separation(*(change_after_fit(one, fitted).values for one in (controls, runs))).auc == 1.0  # at the ends
    other = runs.assign_coords(step=runs["step"] + 1)
    pairs = zip((controls, other), at_common_steps(controls, other), strict=True)
    refused = [change_after_fit(one, fitted, until=end) for one, end in pairs]
    assert "read at different steps" in by_separation(*refused, "x").numbers


def test_every_compared_pair_has_one_model_and_one_optimiser() -> None:
    for name, control in COMPARED:
        assert not differing_settings(name, control)
    assert differing_settings("division-59", "control-few") == ["model", "weight_decay"]


def test_difference_of_means_is_that_of_welch() -> None:
    a, b = np.array([0.1, 0.2, 0.4, 0.3]), np.array([0.0, 0.1, 0.2, 0.0, 0.1])
    gap, se = a.mean() - b.mean(), np.sqrt(a.var(ddof=1) / 4 + b.var(ddof=1) / 5)
    found = of_difference(a, b, -1, 1, "x")
    low, high = (float(part) for part in found.numbers.split("(")[1].rstrip(")").split(" to "))
    assert found.word == CONFIRMED
    assert gap - low == pytest.approx(high - gap, abs=0.011)
    assert 1.86 * se < gap - low < 2.36 * se  # t of 7 degrees of freedom or a little less
    assert of_difference([*a, np.nan], b, -1, 1, "x").word == UNDECIDED
    assert of_difference(a[:2], b, -1, 1, "x").word == UNDECIDED


def test_our_curves_are_read_at_the_published_points(evidence: Evidence) -> None:
    curves, points = evidence.ours("paper-s5").curves, evidence.published["s5"]
    thinned = at_published_steps(curves, points)
    for name in points.data_vars:
        steps = points[name].dropna("step")["step"].values
        found = thinned[name].isel(run=0).dropna("step")
        assert set(found["step"].values) == set(steps[steps <= 413_500])
        assert (found == curves[name].isel(run=0).sel(step=found["step"])).all()


# -- evidence ------------------------------------------------------------------------------------------------------


def planted(folder: Path, *, hump: float, fit: float = 1000.0, end: float = 20_000.0, seeds: int = 6) -> Evidence:
    """Write curves like those of the paper with known times, as results of ``paper-division``."""
    steps = np.unique(np.round(np.logspace(0, 5, 150))).astype(int)
    x, source = np.log10(steps + 1), np.random.default_rng(1)

    def rise(step: float) -> np.ndarray:
        return 1 / (1 + np.exp(-12 * (x - np.log10(step) + 0.4)))

    loss = 0.5 + 4 * np.exp(-1.5 * x) + 2 * np.exp(-(((x - np.log10(hump)) / 0.4) ** 2))
    noise = 0.01 * source.standard_normal((seeds, len(steps)))
    flat = np.zeros((seeds, 1))
    data = {
        "train_batch_accuracy": flat + rise(fit),
        "train_accuracy": flat + rise(fit),
        "test_accuracy": flat + rise(end),
        "test_loss": loss + noise,
    }
    runs = xr.Dataset({name: (("run", "step"), values) for name, values in data.items()}, {"step": steps})
    save(runs.assign_coords(run=np.arange(seeds)), folder / "paper-division.nc")
    return Evidence(folder)


def test_planted_times_give_the_expected_verdicts(tmp_path: Path) -> None:
    together, apart = tmp_path / "a", tmp_path / "b"
    for folder in (together, apart):
        folder.mkdir()
    near, far = planted(together, hump=1000), planted(apart, hump=8000)
    coincide = our_distance("fit_end", "descent_onset", -0.25, 0.25, ("paper-division",))
    later = our_distance("fit_end", "end", 0.5, np.inf, ("paper-division",))
    assert {finding.verdict.word for finding in coincide(near)} == {CONFIRMED}
    assert {finding.verdict.word for finding in coincide(far)} == {NOT_CONFIRMED}
    assert {finding.verdict.word for finding in later(near)} == {CONFIRMED}
    assert len(list(later(near))) == 2  # with dropout and without


def test_missing_results_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="python -m reference run division-97"):
        Evidence(tmp_path).ours("division-97")


def test_published_curves_are_those_of_the_file() -> None:
    division, s5 = published("division"), published("s5")
    assert division["test_loss"].sel(step=2600).item() == pytest.approx(0.885, abs=0.001)  # the highest point
    assert division["step"].values[-1] == 111_200
    assert s5["test_loss"].dropna("step").max().item() == pytest.approx(14.04, abs=0.01)
    assert s5["train_batch_accuracy"].sizes["step"] > 40


# -- papers --------------------------------------------------------------------------------------------------------


def test_papers_are_found_by_their_identifier() -> None:
    assert find_papers() == list(PAPERS.values())
    assert find_papers("2504.12700") == find_papers("arXiv:2504.12700") == [PAPER]
    for key, paper in PAPERS.items():
        assert paper.id == key
        assert (ROOT / "docs" / paper.page).is_file()


def test_an_unknown_paper_is_an_error_that_lists_the_known_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["accept", "--paper", "1234.56789", "--out", str(tmp_path / "out")]) == 2
    assert f"got '1234.56789'; choose one of: {', '.join(PAPERS)}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_folder_for_each_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = replace(PAPER, claims=PAPER.claims[:1], figures={})
    monkeypatch.setitem(PAPERS, PAPER.id, few)
    assert main(["accept", "--paper", PAPER.id, "--out", str(tmp_path)]) == 0
    assert [file.name for file in (tmp_path / PAPER.id).iterdir()] == ["verdicts.md"]


# -- the recorded runs ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return Evidence()


@pytest.fixture(scope="module")
def judgements(evidence: Evidence) -> list[Judgement]:
    return judge(PAPER, evidence)


def test_every_claim_has_a_place_and_findings(judgements: list[Judgement]) -> None:
    assert len({claim.name for claim in PAPER.claims}) == len(PAPER.claims) == len(judgements)
    for one in judgements:
        assert one.claim.where
        assert one.claim.expected
        assert one.ours, one.claim.name
        assert {f.verdict.word for f in (*one.published, *one.ours)} <= {CONFIRMED, NOT_CONFIRMED, UNDECIDED}


def test_the_page_shows_these_verdicts(judgements: list[Judgement]) -> None:
    page = (ROOT / "docs" / PAPER.page).read_text()
    assert as_markdown(judgements) in page, "python docs/benchmarks/pages.py"


@pytest.mark.slow
def test_the_committed_pages_are_those_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """All pages: words, and numbers up to rounding."""
    made = runpy.run_path(str(ROOT / "docs" / "benchmarks" / "pages.py"))
    for page, text in made["pages"]().items():
        assert made["differences"](page.read_text(), text) == [], f"{page.name}: python docs/benchmarks/pages.py"


def test_pages_are_compared_by_words_and_numbers() -> None:
    differences = runpy.run_path(str(ROOT / "docs" / "benchmarks" / "pages.py"))["differences"]
    page = "| hump | confirmed | dex: +1.31 |"
    assert differences(page, page.replace("1.31", "1.32")) == []  # rounding
    assert len(differences(page, page.replace("1.31", "1.41"))) == 1
    assert len(differences(page, page.replace("confirmed", "undecided"))) == 1
    assert len(differences(page, page + "\n")) == 0
    assert len(differences(page, page + "\nmore")) == 1


def test_comparisons_say_at_which_step_they_were_read(judgements: list[Judgement]) -> None:
    """The learners have no observation at step 20,000, the last one of the controls: 17,783 is the common step."""
    for one in (one for one in judgements if one.claim.name.endswith("is a progress measure")):
        for finding in one.ours:
            if "as tasks" in finding.runs:
                assert finding.verdict.word == UNDECIDED
            elif "control-few" in finding.runs or "control-shuffled" in finding.runs:
                assert "change to step 17,783" in finding.verdict.numbers
    information = next(one for one in judgements if one.claim.name == "information is a progress measure")
    words = {finding.runs: finding.verdict.word for finding in information.ours}
    equal_length = (
        "division-97 against division-96",
        "subtraction-96 against division-96",
        "division-59 against control-59",
    )
    assert {words[f"{pair}, I(T+n;X), {split}"] for pair in equal_length for split in ("train", "test")} == {CONFIRMED}
    assert words["subtraction-96 against control-shuffled, I(T+n;X), train"] == NOT_CONFIRMED


def test_without_random_points_concentration_is_undecided(judgements: list[Judgement]) -> None:
    for name in ("complexity concentrated at training points", "integrated local complexity falls on"):
        found = next(one for one in judgements if one.claim.name == name).ours
        with_random = [f.runs for f in found if "random points were not recorded" not in f.verdict.numbers]
        assert with_random[:1] == ["demo"]
        assert all(runs.startswith("perceptrons-") for runs in with_random[1:])
        assert {f.verdict.word for f in found if not f.runs.startswith("perceptrons-")} == {UNDECIDED}


def test_hump_in_every_seed_and_no_compression_in_the_controls(judgements: list[Judgement]) -> None:
    """Check claims by other rules than those of the verdicts."""
    evidence = Evidence()
    assert next(our_hump(evidence)).verdict == Verdict(CONFIRMED, "rise and fall in 8 of 8 seeds")
    loss = evidence.ours("paper-division").curves["test_loss"]
    window = loss.sel(step=slice(600, 12_000))
    assert (window.max("step") > 1.2 * loss.sel(step=slice(600, 1100)).min("step")).all()
    assert (loss.isel(step=-1) < 0.5 * window.max("step")).all()
    for name, last in (("division-96", 0.0), ("control-shuffled", 0.0), ("control-few", 0.0), ("control-59", -0.3)):
        one = evidence.ours(name)
        bits = one.measured("information_x", split="train", layer=one.layers()[-1])
        starts = [row.sel(step=at, method="nearest") for row, at in zip(bits, one.fitted, strict=True)]
        assert np.mean(bits.values[:, -3:].mean(1) - starts) > last, name


@pytest.mark.parametrize("names", [pytest.param([*PAPER.figures], marks=pytest.mark.slow), ["curves"]], ids=len)
def test_figures_and_table_are_written(
    tmp_path: Path, evidence: Evidence, judgements: list[Judgement], monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    monkeypatch.setattr("reference.claims.acceptance.judge", lambda *_: judgements)  # once is enough
    if len(names) == 1:  # the layout takes most of the time
        monkeypatch.setattr("matplotlib.layout_engine.ConstrainedLayoutEngine.execute", lambda *_: None)
    accept(replace(PAPER, figures={name: PAPER.figures[name] for name in names}), tmp_path / "out", evidence)
    for name in names:
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 20_000
    assert "| hump | figures 3c, 4c | confirmed" in (tmp_path / "out" / "verdicts.md").read_text()
    assert not plt.get_fignums()


@pytest.mark.parametrize("steps", [(22,), pytest.param((10, 56, 147, 261), marks=pytest.mark.slow)], ids=max)
def test_training_anew_gives_the_recorded_curve(steps: tuple[int, ...]) -> None:
    """Compare the first steps of seed 0 of division modulo 97 on one thread with the recording."""
    recorded = probe.load(UNFINISHED / "run.nc").sel(step=slice(0, 300))
    trainer = Trainer(CONFIGS["division-97"], 0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for step in steps:
            trainer.advance(step - trainer.step)
            for name, value in trainer.evaluate()[0].items():
                expected = recorded[name].sel(step=step).item()
                assert value == pytest.approx(expected, rel=0.02, abs=0.004), (name, step)
    finally:
        torch.set_num_threads(threads)


def test_stored_weights_give_the_stored_observation(tmp_path: Path) -> None:
    with gzip.open(UNFINISHED / "checkpoint.pt.gz") as file:
        checkpoint = torch.load(file, weights_only=True)
    stored = probe.load(UNFINISHED / "observation.nc")
    assert stored["step"].item() == checkpoint["step"]
    found = observed(checkpoint)
    for name in ("information_x", "information_y", "local_complexity_total", "linear_mapping_number", "test_loss"):
        np.testing.assert_allclose(found[name], stored[name], rtol=1e-3, err_msg=name)


def observed(checkpoint: dict) -> xr.Dataset:
    """Return the observation of the default probe set for the weights of a checkpoint."""
    trainer = Trainer(CONFIGS["division-97"], int(checkpoint["seed"]))
    trainer.model.load_state_dict(checkpoint["parameters"])
    data = {"train": trainer.task.train_data, "test": trainer.task.test_data}
    information = MutualInfoProbe(max_samples=1024)  # as recorded, whatever the default is now
    probes = ProbeSet([information, LocalComplexityProbe(), LMNProbe()]).attach(trainer.model, data)
    return probes.observe(int(checkpoint["step"])).detach().series_


@pytest.mark.slow
def test_training_anew_shows_the_published_hump() -> None:
    """A new seed of the paper's table is fitted after 2,500 steps, with test accuracies close to the published ones."""
    trainer = Trainer(CONFIGS["paper-division"], 101)
    theirs = published("division")
    for step in (1000, 2000, 2500):
        trainer.advance(step - trainer.step)
        curves = trainer.evaluate()[0]
        seeds = Evidence().ours("paper-division").curves.sel(step=step, method="nearest")
        near = theirs["test_accuracy"].dropna("step").sel(step=step, method="nearest").item()
        spread = float(seeds["test_accuracy"].std(ddof=1))
        assert abs(curves["test_accuracy"] - near) < 4 * spread + 0.02
    assert curves["train_accuracy"] > 0.98
