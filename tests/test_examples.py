"""Every public name has an example, and every example runs."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest
import torch
from sklearn.base import BaseEstimator

import probe

ROOT = Path(__file__).parent.parent
FOLDERS = ["probe", "probe.accessor", "probe.errors", "probe.schedule", "probe.series", "probe.testing"]
FOLDERS += sorted(".".join(f.parent.relative_to(ROOT).parts) for f in (ROOT / "probe").glob("*/__init__.pyi"))
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public(folder: str) -> dict[str, object]:
    """Functions and classes that a folder hands on, or that a module defines, by name."""
    module = importlib.import_module(folder)
    names = getattr(module, "__all__", None) or [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == folder
    ]
    found = {f"{folder}.{name}": getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if inspect.isfunction(value) or inspect.isclass(value)}


def needs_example(name: str, value: object) -> bool:
    """Functions, estimators, warnings, and all that ``probe`` itself hands on; a class of results need not."""
    return inspect.isfunction(value) or issubclass(value, (BaseEstimator, Warning)) or name.count(".") == 1


# A name that is handed on by a folder and by ``probe`` is one object, and has one example.
OBJECTS = {id(value): (name, value) for folder in reversed(FOLDERS) for name, value in public(folder).items()}
EXAMPLES = {name: doctest.DocTestFinder(recurse=False).find(value, name, globs={}) for name, value in OBJECTS.values()}


def test_every_public_name_has_an_example() -> None:
    lacking = [
        name
        for name, value in OBJECTS.values()
        if needs_example(name, value) and not any(test.examples for test in EXAMPLES[name])
    ]
    assert not lacking, lacking


@pytest.mark.parametrize("name", [name for name, tests in EXAMPLES.items() if any(test.examples for test in tests)])
def test_the_example_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith("probe.report."):
        pytest.importorskip("bokeh", reason="bokeh is not installed: pip install -e .[report]")
    torch.manual_seed(0)
    runner = doctest.DocTestRunner(optionflags=OPTIONS)
    report: list[str] = []
    for test in EXAMPLES[name]:
        runner.run(test, out=report.append)
    assert not runner.summarize(verbose=False).failed, "".join(report)


def test_what_the_top_level_hands_on_is_public_elsewhere_too() -> None:
    assert {"Probe", "ProbeSet", "PhaseDetector", "Tap", "INPUT", "OUTPUT", "Marker", "concat"} <= set(probe.__all__)
