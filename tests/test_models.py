"""Measure many kinds of models: the results equal docs/compatibility.md, and the training stays unchanged."""

from pathlib import Path

import pytest
import torch
from cases import CASES, Case, language, row, trained, tried

from probe import MutualInfoProbe

PAGE = (Path(__file__).parent.parent / "docs" / "compatibility.md").read_text()


@pytest.mark.filterwarnings("ignore")  # the row of a case contains its warnings
@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] if c.needs else [], id=c.name) for c in CASES]
)
def test_measurements_equal_the_page_and_the_training_is_unchanged(case: Case) -> None:
    if case.needs:
        pytest.importorskip(case.needs)
    outcome = tried(case)
    without, _ = trained(case, None)
    different = [key for key in {**without, **outcome.state} if without.get(key) != outcome.state.get(key)]
    assert not different, f"observing changed the training: {', '.join(different)}"
    assert row(case, outcome, True) in PAGE, "the page is out of date: python docs/benchmarks/compatibility.py"


def test_every_case_has_a_row_and_every_row_a_case() -> None:
    table = PAGE.split("## Models")[1].split("\n## ")[0]
    names = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| ")][1:]
    assert names == [case.name for case in CASES]


# -- sequences -------------------------------------------------------------------------------------------------------


def test_positions_without_a_target_are_left_out() -> None:
    model, (inputs, targets) = language()
    some = MutualInfoProbe(reduce="tokens", layers="head").fit(model, (inputs, targets)).series_
    others = torch.where(targets == -100, torch.randint(11, targets.shape), inputs["input_ids"])
    # the attention mask hides masked positions from every position with a target
    changed = {**inputs, "input_ids": torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], others)}
    assert not torch.equal(changed["input_ids"], inputs["input_ids"])
    again = MutualInfoProbe(reduce="tokens", layers="head").fit(model, (changed, targets)).series_
    assert some["information_y"].notnull().all()
    torch.testing.assert_close(some["information_x"].values, again["information_x"].values)
