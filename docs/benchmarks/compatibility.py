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
Refused with an error that says what to do, before anything is changed: lazy modules that are not initialised, models
on the meta device, TorchScript (a part of the model too), parameters that FSDP, `fully_shard` or tensor parallelism
divide (gather them into a copy on one process, and observe the copy), an optimiser that holds no parameter of the
model, several optimisers at once, an optimiser without hooks.

**Optimisers that others prepare, wrap or inherit from** (Accelerate, Lightning, SAM, a `step` that calls
`super().step()`) count each update once: hooks are on the given optimiser and on those in its attributes, and a step
within a step is part of it. If weights change although the attached optimiser makes no step, a warning says so at the
next `observe(name=value)` and at `detach`. A wrapper that has no hooks and changes the weights after the inner step
(some versions of Lookahead) is observed before this change: attach without `optimizer=` and call `observe(step)`.

**Models that compute derivatives in their forward pass** (force fields) run with gradients. Probes that replace hidden
values, such as `LMNProbe`, refuse them. **Programs of `torch.export`** call no submodule: their output alone is
measured, with a warning. Modules of `torch.fx.symbolic_trace` and `torch.export.unflatten` keep their layers.

A CUDA graph that contains the optimiser's step replays it without calling hooks, so that nothing can be counted. Probes
notice when the step is recorded, say so, and do not observe; attach without `optimizer=` and call `observe(step)` after
the replays. Observations themselves run outside of the graph. This was not tried on a GPU: the test plants the state of
the stream.

Not supported: models whose parts are on several devices, other than by themselves in their forward pass. Training that
keeps the parameters outside of the module (`torch.func`) leaves the module as it was: load the parameters into it
before each `observe(step)`.
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
