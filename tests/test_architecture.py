"""The structure of the project: who may import whom, which paths are public, and what works without torch."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from helpers import parsed

import probe

ROOT = Path(__file__).parent.parent
LOGS = ROOT / "tests" / "logs"
# Ground first. A module may import modules of its own line and of the lines above it.
RANKS = [
    [
        "probe.errors",
        "probe.run_facts",
        "probe.series",
        "probe.words",
        "probe.schedule",
        "probe.interrupts",
        "probe.workers",
        "probe.reads",
        "probe.stats",
        "probe.forward",
        "probe.information",
        "probe.geometry",
    ],
    ["probe.recording"],
    ["probe.writers"],
    ["probe.attach", "probe.readers", "probe.plots"],
    ["probe.base", "probe.layer_probe", "probe.phases"],
    ["probe.accessor", "probe.measures", "probe.progress", "probe.report", "probe.testing"],
    ["probe.probeset"],
    ["probe", "probe.adapters", "probe.checkpoints"],
    ["probe.cli", "probe.__main__"],
    ["reference.training", "reference.theory"],
    ["reference", "reference.runs"],
    ["reference.experiments"],
    ["reference.claims"],
    ["reference.__main__"],
]
TORCH_FREE = [
    *("accessor", "errors", "interrupts", "series", "schedule", "stats", "words"),
    *("recording", "readers", "phases", "progress", "plots", "report", "writers"),
]
# Code for a fresh process in which PyTorch and the packages of loggers cannot be imported. BLOCKED lists the attempts.
BLOCKED = """
import sys

BLOCKED = []

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "tensorflow", "tensorboard", "google", "wandb", "mlflow", "trackio"):
            BLOCKED.append(name)
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Block())
"""


def modules(*packages: str) -> dict[str, Path]:
    files = [file for package in packages for file in (ROOT / package).rglob("*.py")]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file for file in files}


MODULES = modules("probe", "reference")


def imported(source: str) -> set[str]:
    """Modules of this project that a source imports: inside functions and under TYPE_CHECKING too."""
    names: set[str] = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found = {f"{node.module}.{alias.name}" for alias in node.names}
            # a package hands on names of its modules; what is imported from it, is imported from the package
            names |= {name if name in MODULES else node.module for name in found}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & MODULES.keys()


IMPORTS = {module: imported(file.read_text()) - {module} for module, file in MODULES.items()}


def rank(module: str) -> int:
    """Of the longest prefix that has a rank."""
    places = {name: i for i, line in enumerate(RANKS) for name in line}
    parts = module.split(".")
    prefixes = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    found = next(name for name in prefixes if name in places)
    if found in ("probe", "reference") and module != found:
        raise AssertionError(f"{module} has no rank: add it to RANKS")
    return places[found]


def faults(imports: Mapping[str, set[str]]) -> Iterator[str]:
    """What is wrong with the imports of the project, a line each."""
    for module, others in imports.items():
        for other in sorted(others):
            if rank(other) > rank(module):
                yield f"{module} imports {other}, which has a higher rank"
            if module.startswith("probe") and other.startswith("reference"):
                yield f"{module} imports {other}: probe does not import reference"
            if module.startswith("reference.training") and other.startswith("probe"):
                yield f"{module} imports {other}: what trains does not import probe"
            kind, owner = module.split(".")[:2], other.split(".")[:2]
            if kind == owner == ["probe", "measures"] and module.split(".")[2:3] != other.split(".")[2:3]:
                yield f"{module} imports {other}: measures do not import each other"
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        yield f"modules import each other in a circle: {' -> '.join(error.args[1])}"
    rooms: dict[str, set[str]] = {}
    for module, others in imports.items():
        rooms.setdefault(room(module), set()).update(map(room, others))
    try:
        TopologicalSorter({name: others - {name} for name, others in rooms.items()}).prepare()
    except CycleError as error:
        yield f"folders import each other in a circle: {' -> '.join(error.args[1])}"


def room(module: str) -> str:
    """The folder of a module directly below ``probe`` or ``reference``, or the file that stands there."""
    return ".".join(module.split(".")[:2])


def test_imports_point_down_and_have_no_circle() -> None:
    assert not (found := list(faults(IMPORTS))), "\n".join(found)


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("probe.series", "def f():\n    from probe.probeset import ProbeSet\n", "higher rank"),
        ("probe.series", "if TYPE_CHECKING:\n    from probe.base import Probe\n", "higher rank"),
        ("probe.testing", "from reference.runs import launch\n", "probe does not import reference"),
        ("reference.training.tasks", "import probe\n", "does not import probe"),
        ("probe.measures.weights", "from probe.measures.fourier import gini\n", "measures do not import each other"),
        ("probe.forward.layers", "from probe.forward import Snapshot\nfrom probe.forward import snapshot\n", "circle"),
    ],
)
def test_a_wrong_import_is_found(module: str, source: str, fault: str) -> None:
    assert any(fault in found for found in faults({**IMPORTS, module: IMPORTS[module] | imported(source)}))


def test_a_module_without_a_rank_is_found() -> None:
    with pytest.raises(AssertionError, match=r"probe\.new has no rank"):
        rank("probe.new")


# -- public paths --------------------------------------------------------------------------------------------------


def folders() -> list[str]:
    """Packages that hand on names of their modules."""
    return sorted(".".join(file.parent.relative_to(ROOT).parts) for file in (ROOT / "probe").rglob("__init__.pyi"))


def test_public_names_resolve() -> None:
    for folder in folders():
        package = importlib.import_module(folder)
        assert package.__all__ == sorted(set(package.__all__)) == dir(package), folder
        for name in package.__all__:
            assert getattr(package, name) is not None, f"{folder}.{name}"


def test_no_public_name_is_that_of_a_module() -> None:
    """Importing such a module would put the module in the place of the function."""
    for folder in folders():
        package = importlib.import_module(folder)
        inside = {name.rpartition(".")[2] for name in MODULES if name.rpartition(".")[0] == folder}
        functions = {name for name in package.__all__ if not isinstance(getattr(package, name), type(sys))}
        assert not functions & inside, f"{folder}: {functions & inside} are modules too"


def test_docs_use_public_paths_only() -> None:
    """Pages, gallery and benchmarks import from folders, since files may move."""
    files = [*(ROOT / "docs").rglob("*.py"), ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    top = {"probe", *(name for name in MODULES if name.count(".") == 1)}
    deep = {
        f"{file.name}: {node.module}"
        for file in files
        for source in python_in(file)
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("probe") and node.module not in top
    }
    assert not deep, "\n".join(sorted(deep))


def python_in(file: Path) -> list[str]:
    text = file.read_text()
    if file.suffix == ".py":
        return [text]
    return [block.split("```")[0] for block in text.split("```python\n")[1:] if "\n..." not in block.split("```")[0]]


# -- what works without torch, and how quickly ----------------------------------------------------------------------


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)


def test_all_but_measuring_works_without_torch_and_loggers(tmp_path: Path) -> None:
    """One process: modules, readers, estimators and commands; nothing of it tries to import torch or a logger.

    ``import probe`` alone imports neither xarray nor the accessor, which every loaded series has.
    """
    names = [name for name in modules("probe") if name.split(".")[1:2] and name.split(".")[1] in TORCH_FREE]
    code = f"""{BLOCKED}
import probe
assert "xarray" not in sys.modules
series = probe.load(r"{ROOT / "tests" / "recordings" / "finished.nc"}")
assert "probe.accessor" not in sys.modules
assert len(series.probe.to_pandas()) == series.sizes["step"]
import {", ".join(names)}
import os
import numpy as np, xarray as xr
from probe import PhaseDetector, save
from probe.__main__ import main
from probe.readers import read
logs, out = r"{LOGS}", r"{tmp_path}"
for where in ("tensorboard/plain", "keras", "huggingface", "wandb", "mlruns", "lightning"):
    read(os.path.join(logs, where))
steps = np.arange(1, 60)
curves = xr.Dataset({{"train_accuracy": ("step", np.minimum(1, steps / 20)), "test_accuracy": ("step", steps / 60)}},
                    {{"step": steps}})
save(curves, os.path.join(out, "curves.nc"))
assert main(["detect", os.path.join(out, "curves.nc")]) == main(["plot", os.path.join(out, "curves.nc")]) == 0
log = os.path.join(logs, "tensorboard", "plain")
assert main(["info", log]) == main(["detect", log]) == main(["score", log]) == 0
assert main(["convert", log, os.path.join(out, "log.nc")]) == main(["completion", "bash"]) == 0
assert not BLOCKED, BLOCKED
assert main(["measure", "x", "--model", "a:b", "--data", "a:b"]) == 2
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert "torch is blocked" in done.stderr  # by measure
    assert "fitting ends at step 20" in done.stdout
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_import_and_help_import_nothing_heavy() -> None:
    """Imports take the time, and help should answer at once."""
    code = (
        "import sys, probe.__main__ as m\ntry: m.main(['--help'])\nexcept SystemExit: pass\nprint(sorted(sys.modules))"
    )
    done = run(code)
    assert "detect" in done.stdout
    heavy = {"torch", "numpy", "xarray", "sklearn", "matplotlib"}
    assert not heavy & set(ast.literal_eval(done.stdout.splitlines()[-1]))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        _ = probe.Nothing
