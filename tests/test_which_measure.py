"""The table of docs/measures/which_measure.md is what the measures do on small models."""

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture
def which(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "docs" / "benchmarks")
    return importlib.import_module("which_measure")


def page() -> dict[str, dict[str, str]]:
    """Return the cells of the page by measure and model, each note as its text."""
    lines = (ROOT / "docs/measures/which_measure.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip(" `") for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("|")]
    notes = dict(row for row in rows if len(row) == 2 and row[0].isdigit())
    models = next(row[1:] for row in rows if row[1:2] == ["MLP, ReLU"])
    cells = {row[0]: row[1:] for row in rows if len(row) == len(models) + 1}
    return {
        measure: {
            model: re.sub(r"\d+", lambda found: notes[found[0]].replace("`", ""), cell).replace("`", "")
            for model, cell in zip(models, row, strict=True)
        }
        for measure, row in cells.items()
    }


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "model", ["MLP, ReLU", "MLP, GELU", "MLP, dropout and batch norm", "regression", "CNN", "LSTM", "quantised MLP"]
)
def test_cells_of_models_without_other_packages(which: Any, model: str) -> None:
    compare(which, model)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("model", ["GPT-2", "Llama (SwiGLU)", "ViT", "GPT-2 with LoRA"])
def test_cells_of_transformers(which: Any, model: str) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("peft")
    compare(which, model)


def compare(which: Any, model: str) -> None:
    cells = page()
    for measure in which.MEASURES:
        trial = which.attempt(model, measure)
        held = {note.text.replace("`", "") for note in which.NOTES if note.holds(measure, trial)}
        cell = cells[measure][model]
        assert cell.startswith("error" if trial.error else "works"), (measure, cell, trial.error)
        assert {text for note in which.NOTES if (text := note.text.replace("`", "")) in cell} == held, measure


def test_every_measure_has_a_row(which: Any) -> None:
    from probe import measures

    classes = {name for name in measures.__all__ if name.endswith("Probe")}
    assert set(which.MEASURES) - {"WeightModesProbe"} <= classes <= set(which.MEASURES)
    assert set(which.MEASURES) < set(page())
    assert set(page()["PerformanceProbe"]) == set(which.MODELS)
