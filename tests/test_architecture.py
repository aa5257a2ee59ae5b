"""The layout of the package, held by a test: who may import whom, and what works without torch."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import NO_TORCH

import probe

ROOT = Path(__file__).parent.parent
# A module may import modules of its own line or of lines above it (measures and adapters: not one another).
RANKS = [
    ["probe", "reference"],
    [
        "probe.schedule",
        "probe.budget",
        "probe.series",
        "probe.layers",
        "probe.scores",
        "probe.data",
        "probe.chain",
        "probe.functional",
        "probe.preserved",
        "probe.measured",
        "probe.capture",
        "probe.tail",
        "probe.rows",
        "probe.journal",
        "probe.lock",
        "probe.defaults",
        "probe.stateful",
        "probe.counting",
        "probe.attachable",
    ],
    ["probe.snapshot", "probe.spectra", "probe.information", "probe.linearity", "probe.complexity"],
    ["probe.session", "probe.columns"],
    ["probe.base", "probe.plots", "probe.readers"],
    ["probe.phases", "probe.measures"],
    ["probe.progress"],
    ["probe.probeset"],
    ["probe.report", "probe.testing"],
    ["probe.adapters"],
    ["probe.cli"],
    ["probe.__main__"],
    # `reference` is a client of `probe`, but for what trains:
    ["reference.tasks", "reference.draws", "reference.model", "reference.kernels"],
    ["reference.train"],
    ["reference.ensemble", "reference.configs"],
    ["reference.options", "reference.progress"],
    ["reference.folder"],
    ["reference.recorder"],
    ["reference.work"],
    ["reference.runs", "reference.experiments"],
    ["reference.measure"],
    ["reference.verdicts", "reference.evidence"],
    ["reference.claims"],
    ["reference.acceptance"],
    ["reference.__main__"],
]
CORE = ["tasks", "draws", "model", "kernels", "train", "ensemble", "configs"]  # of reference: free of any measuring
TORCH_FREE = ["probe.series", "probe.journal", "probe.plots", "probe.schedule", "probe.budget"]
TORCH_FREE_PACKAGES = ("probe.phases", "probe.progress")


def modules(package: str) -> dict[str, Path]:
    files = (ROOT / package).rglob("*.py")
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


def imported(file: Path) -> set[str]:
    """Modules of this project that a file imports, also inside functions; not under TYPE_CHECKING."""
    tree = ast.parse(file.read_text())
    skipped = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node not in skipped:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import) and node not in skipped:
            names |= {alias.name for alias in node.names}
    known = {**modules("probe"), **modules("reference")}
    return {name for name in names if name in known}


def rank(module: str) -> int:
    names = [(i, name) for i, line in enumerate(RANKS) for name in line]
    found = [i for i, name in names if module == name or ("." in name and module.startswith(f"{name}."))]
    assert found, f"{module} has no rank: add it to RANKS"
    return max(found)


@pytest.mark.parametrize("module", sorted({**modules("probe"), **modules("reference")}))
def test_imports_point_down(module: str) -> None:
    package = module.split(".")[0]
    for other in imported(modules(package)[module]) - {"probe", "reference"}:
        up = package == "probe" and other.startswith("reference")
        assert not up, f"{module} imports {other}; probe knows nothing of reference"
        assert rank(other) <= rank(module), f"{module} imports {other}, which stands above it"
        measures = module.startswith("probe.measures.") and other.startswith("probe.measures.")
        assert not measures, f"{module} imports {other}; measures do not import each other"


def test_phases_and_measures_do_not_meet() -> None:
    for module, file in modules("probe").items():
        if module.startswith("probe.phases"):
            assert not {name for name in imported(file) if name.startswith("probe.measures")}, module


@pytest.mark.parametrize("name", CORE)
def test_what_trains_knows_nothing_of_probe(name: str) -> None:
    if file := modules("reference").get(f"reference.{name}"):
        assert imported(file) <= {"reference", *(f"reference.{other}" for other in CORE)}


def test_rank_violation_is_seen(tmp_path: Path) -> None:
    file = tmp_path / "low.py"
    file.write_text("def f():\n    from probe.probeset import ProbeSet\n")
    assert any(rank(other) > rank("probe.series") for other in imported(file) - {"probe"})


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_torch_free_parts_work_with_torch_blocked(tmp_path: Path) -> None:
    names = [*TORCH_FREE, *(name for name in modules("probe") if name.startswith(TORCH_FREE_PACKAGES))]
    code = f"""{NO_TORCH}
import {", ".join(names)}
import numpy as np, xarray as xr
from probe import PhaseDetector, save
steps = np.arange(1, 60)
curves = xr.Dataset({{"train_accuracy": ("step", np.minimum(1, steps / 20)), "test_accuracy": ("step", steps / 60)}},
                    {{"step": steps}})
save(curves, r"{tmp_path / "curves.nc"}")
from probe.__main__ import main
assert main(["detect", r"{tmp_path / "curves.nc"}"]) == 0
assert main(["plot", r"{tmp_path / "curves.nc"}"]) == 0
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "fitting ends at step 20" in done.stdout
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_importing_probe_imports_nothing_heavy() -> None:
    done = run(
        "import sys, probe; print([m for m in ('torch', 'xarray', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_help_needs_nothing_heavy() -> None:
    """So that it answers at once: what takes time is imports."""
    code = (
        "import sys, probe.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    done = run(code)
    assert "detect" in done.stdout
    assert not {"torch", "numpy", "xarray", "sklearn"} & set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_public_names_resolve_and_agree_with_the_types() -> None:
    for name in probe.__all__:
        assert getattr(probe, name).__name__ == name
    assert set(probe.__all__) <= set(dir(probe))
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = probe.Nothing
    tree = ast.parse((ROOT / "probe" / "__init__.py").read_text())
    typed = {
        alias.asname: node.module
        for block in ast.walk(tree)
        if isinstance(block, ast.If)
        for node in ast.walk(block)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == importlib.import_module("probe")._HOME
