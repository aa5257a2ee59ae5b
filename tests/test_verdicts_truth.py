"""The benchmark of the verdicts judges rightly: known counts, known noise, and rules that are wrong by construction."""

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from probe.phases import Marker

BENCHMARKS = Path(__file__).parents[1] / "docs" / "benchmarks"


@pytest.fixture(scope="module")
def yardstick():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        made = runpy.run_path(str(BENCHMARKS / "verdicts_truth.py"))
        from verdicts import convex, decisions, false_findings, humps, real, records

        modules = {
            "convex": convex, "decisions": decisions, "false_findings": false_findings, "humps": humps, "real": real,
            "records": records,
        }  # fmt: skip
        yield SimpleNamespace(**{**made, **modules})


def always(status: str, step: float = 0.0):
    return lambda steps, values: Marker(status, "", step, step, step)


def test_a_rate_misses_its_bar_where_the_binomial_tail_is_below_the_corrected_level(yardstick):
    decisions = yardstick.decisions
    for hits in range(60):
        tail = stats.binom.sf(hits - 1, 400, 0.05)  # P(X >= hits) at the bar
        assert decisions.Share(hits, 400, decisions.Bar(0.05)).missed(100) == (tail < 0.01 / 100), hits
        share = decisions.Share(400 - hits, 400, decisions.Bar(0.95, at_most=False))
        assert share.missed(100) == (tail < 0.01 / 100), hits
    assert decisions.lower_limit(20, 20, 0.01) == pytest.approx(0.01 ** (1 / 20))
    assert not decisions.Share(0, 0, decisions.Bar(0.9, at_most=False)).missed(1)


def test_noises_have_their_correlation_and_standard_deviation(yardstick):
    expected = {"AR(.5)": 0.5, "AR(.8)": 0.8, "AR(.95)": 0.95, "AR(.95) + white": 0.475}
    for name, noise in yardstick.records.NOISES.items():
        draws = noise(np.random.default_rng(0), 200, 1000)
        lagged = (draws[:, 1:] * draws[:, :-1]).mean() / (draws**2).mean()
        assert lagged == pytest.approx(expected.get(name, 0), abs=0.02), name
        assert draws.std() == pytest.approx(1, abs=0.05), name
        assert draws.mean() == pytest.approx(0, abs=0.03), name


def test_the_loss_of_the_convex_problem_falls_without_noise(yardstick):
    for schedule in yardstick.convex.SCHEDULES:
        loss = yardstick.convex.losses(schedule, 1, np.random.default_rng(0), batch=None)[0]
        assert (np.diff(loss) < 1e-6).all(), schedule  # float32


def test_a_rule_that_always_finds_a_hump_misses_every_bar_of_false_findings(yardstick, monkeypatch):
    monkeypatch.setattr(yardstick.convex, "STEPS", 60)
    section = yardstick.SECTIONS["false findings"](always("found"), 6, 0)
    for table in section.tables:
        missed = [cell.missed(section.n_cells) for _, cell in table.cells()]
        assert all(missed) == (table.title != "Constant curves called right-censored"), table.title
    assert "MISS" in section.weak_cells()[0]
    findings = yardstick.false_findings
    counts = findings.counts_of(findings.NOISE, always("right_censored"), 6, 0)
    tables = [findings.found_table(findings.NOISE, counts, 6), findings.censored_table(counts, 6)]
    rising = yardstick.decisions.Section("rising", "", tables)
    assert {line.split(": ")[2] for line in rising.weak_cells()} == {"Constant curves called right-censored"}


def test_a_rule_that_never_finds_a_hump_misses_every_bar_of_power(yardstick, monkeypatch):
    monkeypatch.setattr(yardstick.humps, "wiggle_of", lambda *_: 1.0)
    for name in ("power", "grokking"):
        section = yardstick.SECTIONS[name](always("absent"), 6, 0)
        assert all(cell.missed(section.n_cells) for table in section.tables for _, cell in table.cells())


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")  # one curve is in per cent
def test_experts_verdicts(yardstick):
    right, verdicts, contradictions = yardstick.SECTIONS["given"](always("found", 130), 1, 0).tables
    assert right.rows["wrongly found",]["dense"].value == 12  # of 14 losses; 2 of the 3 humps have their top there
    assert verdicts.rows["linreg_dd", "found"]["dense"] == "found 130"
    assert verdicts.rows["steplr", "absent"]["dense"] == "**found 130**"
    assert contradictions.rows["curves",]["number"].value == 0
    top = yardstick.real.allowed_top(np.array([0.0, 50, 200, 400]), (70, 105), np.arange(401.0), "log40")
    assert top == (50, 200)


def test_found_contradicts_absent_only_where_three_rows_show_the_hump(yardstick):
    steps = np.arange(100.0)
    record = steps, np.exp(-(((steps - 50) / 10) ** 2))
    found = Marker("found", "", 50, 45, 55)
    for kept, expected in ((steps[::5], True), (steps[::20], False)):  # the upper half: steps 42 to 58
        for status, counts in (("absent", True), ("right_censored", True), ("undecided", False)):
            other = Marker(status, ""), (kept, kept)
            assert yardstick.real.contradict((found, record), other) is (expected and counts)
            assert yardstick.real.contradict(other, (found, record)) is (expected and counts)


def test_curves_judged_by_readers(yardstick, tmp_path):
    steps = np.arange(200)
    loss = np.where(steps < 150, 1.0, np.inf)
    curves = {f"{name}/{curve}": v for name in "abc" for curve, v in (("step", steps), ("test_loss", loss))}
    np.savez(tmp_path / "blind.npz", **curves)
    answers = {"a": ["found", "found"], "b": ["not", "not"], "c": ["found", "not"]}  # c is set aside
    densities = yardstick.blind.DENSITIES
    readings = {
        name: dict.fromkeys(densities, answer)
        | {"class": ["overfitting", "overfitting"], "top": {density: [60.0, None] for density in densities}}
        for name, answer in answers.items()
    }
    (tmp_path / "readings.json").write_text(json.dumps(readings))
    section = yardstick.blind.section(
        always("found", 100), 1, 0, tmp_path, lambda runs: dict.fromkeys(runs, "overfitting")
    )
    overall, each, _, classes = section.tables
    assert [row["share"].value for row in overall.rows.values()] == [50, 50, 50]
    assert each.rows["dense",]["set aside"].value == 1
    assert each.rows["dense",]["95 % of right"] == "9.5 to 90.5"  # Wilson: 1 of 2
    assert classes.rows["overfitting",]["right"].value == 3
    far = yardstick.blind.section(
        always("found", 125), 1, 0, tmp_path, lambda runs: dict.fromkeys(runs, "plain learning")
    )
    assert far.tables[0].rows["right",]["share"].value < 10  # right with the longest average alone, whose top is late
    assert yardstick.blind.section(always("found"), 1, 0, tmp_path / "none").tables == []


def test_tables_stand_between_the_two_comments_of_the_page(yardstick):
    page = yardstick.written("# Title\n", "first")
    assert yardstick.written(page + "\nEnd.\n", "second") == page.replace("first", "second") + "\nEnd.\n"
