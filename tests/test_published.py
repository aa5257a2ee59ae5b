"""Markers of the published curves of arXiv:2504.12700, compared with readings by eye."""

import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs"
NUMBER = re.compile(r"\d[\d,]*\.?\d*")


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "benchmarks/published_markers.py"))


def numbers(text: str) -> np.ndarray:
    return np.array([float(number.replace(",", "")) for number in NUMBER.findall(text)])


def test_the_page_is_what_the_script_prints(script: dict[str, Any]) -> None:
    page, printed = (DOCS / "published_markers.md").read_text(), script["page"]() + "\n"
    assert NUMBER.sub("#", page) == NUMBER.sub("#", printed), "run docs/benchmarks/pages.py"
    np.testing.assert_allclose(numbers(page), numbers(printed), rtol=0.01, atol=0.011)  # rounding depends on scipy


@pytest.mark.parametrize("task", ["division", "s5"])
def test_markers_agree_with_readings_by_the_same_rule(script: dict[str, Any], task: str) -> None:
    rows = {name: (marker, raw) for name, _, marker, raw in script["rows"](task)}
    same = {name: script["difference"](marker, raw) for name, (marker, raw) in rows.items() if raw.same_rule}
    assert len(same) >= 6
    assert max(map(abs, same.values())) <= 0.15, same  # NaN (a marker that was not found) fails too
    marker, raw = rows["descent_onset"]
    assert marker.contrast > 2
    assert marker.lower <= raw.step <= marker.upper
    for name, (marker, raw) in rows.items():  # differences have an explanation
        assert raw.why or abs(script["difference"](marker, raw)) <= 0.02, name


def test_the_code_of_the_page_on_phases_runs_and_prints_what_the_page_shows(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    page = (DOCS / "phases.md").read_text()
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.S)), names)
    assert (names["detector"].across_["test_status"].sel(marker="descent_onset") == "found").all()
    printed = NUMBER.sub("#", capsys.readouterr().out)
    shown = re.findall(r"```text\n(.*?)\n```", page, re.S)
    assert len(shown) == 2
    assert all(NUMBER.sub("#", text) in printed for text in shown)
