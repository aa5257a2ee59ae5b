"""Writes docs/compatibility.md from the cases that the tests try: ``python docs/benchmarks/compatibility.py``.

The tests compare its rows with what comes out then, so that the page cannot drift.
"""

import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))

import cases
import setups

PAGE = Path(__file__).parent.parent / "compatibility.md"
INTRODUCTION = """\
# What works with what

Each row below is tried by a test, and this page is written by `docs/benchmarks/compatibility.py` from the same cases.
*Untouched* means: after training with probes attached, parameters, buffers, gradients, the state of the optimiser, the
random states of PyTorch, NumPy and Python, training flags, hooks and attributes are those of a training without, to the
last bit.
"""
MODELS = """
## Models

Small, with random weights, trained for a few updates with `ProbeSet([MutualInfoProbe(), LocalComplexityProbe(),
LMNProbe()])`, all settings left at their defaults. *yes*: there are numbers for all layers and splits. *partly*: some
layers do not fire for all inputs; they are flagged -1. *no*: the probe refuses the model with the error in the remarks;
the other probes measure it. A remark beside a *yes* is a warning.

| model | losses | mutual information | local complexity | linear mapping | training | remarks |
|---|---|---|---|---|---|---|
"""
SETUPS = """
## Training

| set-up | used as | training | remarks |
|---|---|---|---|
"""
REFUSED = """
Refused with an error that says what to do: lazy modules that are not initialised, models on the meta device, an
optimiser that holds no parameter of the model, several optimisers at once.

A CUDA graph that contains the optimiser's step replays it without calling hooks, so that nothing can be counted. Probes
notice when the step is recorded, say so, and do not observe; attach without `optimizer=` and call `observe(step)` after
the replays. Observations themselves run outside of the graph. This was not tried on a GPU: the test plants the state of
the stream.

Not supported: sharded parameters (FSDP), and models whose parts are on several devices, other than by themselves in
their forward pass. Training that keeps the parameters outside of the module (`torch.func`) leaves the module as it was:
load the parameters into it before each `observe(step)`.
"""
FAULTS = """
## Load and faults

| what fails | what happens |
|---|---|
"""


def model_row(case: cases.Case, page: str) -> str:
    """Tried now; where a package is missing, the row that the page has."""
    if case.needs and find_spec(case.needs) is None:
        return next(line for line in page.splitlines() if line.startswith(f"| {case.name} |"))
    outcome = cases.tried(case)
    return cases.row(case, outcome, cases.trained(case, None)[0] == outcome.state)


def setup_row(setup: setups.Setup) -> str:
    without, _, _ = setups.trained(setup, on=False)
    states, steps, _ = setups.trained(setup, on=True)
    if tuple(map(tuple, steps)) != setup.steps:
        raise AssertionError(f"{setup.name}: recorded {steps}, expected {setup.steps}")
    return setups.row(setup, without == states)


def main() -> None:
    """Write the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    before = PAGE.read_text() if PAGE.exists() else ""
    models = [model_row(case, before) for case in cases.CASES]
    ways = [setup_row(setup) for setup in setups.SETUPS]
    faults = [setups.fault_row(*fault) for fault in setups.FAULTS]
    parts = [INTRODUCTION, MODELS, *lines(models), SETUPS, *lines(ways), REFUSED, FAULTS, *lines(faults)]
    PAGE.write_text("".join(parts))


def lines(rows: list[str]) -> list[str]:
    return [f"{row}\n" for row in rows]


if __name__ == "__main__":
    main()
