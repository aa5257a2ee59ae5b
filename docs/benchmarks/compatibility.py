"""Writes docs/compatibility.md from the cases that the tests try: ``python docs/benchmarks/compatibility.py``.

The tests compare its rows with what comes out then, so that the page cannot drift.
"""

import json
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "tests"))

import cases
import compatibility
import setups

PAGE = Path(__file__).parent.parent / "compatibility.md"
TRIALS = Path(__file__).with_suffix(".json")
INTRODUCTION = """\
# What works with what

On this page you can look up whether `probe` measures your model in your training loop, and with which remark. A test
tries each row below, and `docs/benchmarks/compatibility.py` writes this page from the same cases.

*Untouched* means that training with probes and without probes ends in the same state, to the last bit. The state is:

- parameters, buffers, gradients and the state of the optimiser
- the random states of PyTorch, NumPy and Python
- training flags, hooks and attributes

| if your model | see |
|---|---|
| is a causal language model | [`targets_shift=1`](measures/performance.md#language-models) |
| returns several things | [`output=`](measures/performance.md#which-output) |
| has arguments that all inputs share | [`probe.shared(x)`](measures/rows.md) |
| calls a layer several times | [`block`, `block.2`, ...](design.md), one layer for each call |
| is piecewise linear (ReLU, convolutions, max-pooling) | [exact linear regions](regions.md#which-models) |

We also tried random models and damaged files:

"""
MODELS = """
## Models

The models are small, have random weights, and are trained for a few updates. The probes are
`ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])` with default settings. The training of each model is
untouched. The captured values equal those of plain hooks, to the last bit. MI is mutual information, LC is local
complexity, and LMN is the linear mapping number.

| word | meaning |
|---|---|
| yes | there are numbers for all layers and splits; a remark is a warning |
| partly | some layers do not run for all inputs; they are flagged -1 |
| no | the probe refuses the model with the error in the remarks; the other probes measure it |

A remark is the first part of a message. [What the remarks mean](#what-the-remarks-mean) explains each of them and
states what to do.
"""
MODEL_COLUMNS = """
| model | loss | MI | LC | LMN | remarks |
|---|---|---|---|---|---|
"""
REMARKS = """
## What the remarks mean

The *stem* is the first layer of a model with floating-point values, often its input or its embedding.
`LocalComplexityProbe` moves its points around the stem. [This table](measures/local_complexity.md#what-is-counted)
lists the *counted activation functions*.

| remark | meaning | what to do |
|---|---|---|
| one label for each of 16 rows, got 80 | each token has a target, but the default rows are the last positions: \
I(T+n;X) is measured, I(T+n;Y) is not | `MutualInfoProbe(reduce="tokens")` measures both |
| a counted activation function after the stem, got none | the model has only softmax, attention or fused recurrent \
layers | omit the probe, or name layers whose outputs are pre-activations: `LocalComplexityProbe(layers=...)` |
| an activation function after the stem, got only earlier ones | the values before the activation functions are not \
floating-point numbers | omit the probe, or name an earlier stem: `LocalComplexityProbe(stem=...)` |
| activation functions that LocalComplexityProbe counts, got modules with others only | some modules have no counted \
activation function; the counts do not include them | name layers whose outputs are pre-activations, or use the \
counts of the other modules |
| activation functions with one row for each input, got other rows | experts, early exits or flattened tokens: rows \
cannot be assigned to inputs, and are not counted | `LocalComplexityProbe(layers=...)`, or use the counts of the \
other modules |
| row i of a layer to belong to input i alone | the model sorts or selects inputs, so the numbers of these layers are \
wrong | name other layers: `layers=` |
| the output of an input not to depend on the other inputs in its batch | measurements depend on `batch_size` and on \
the choice of inputs | let the model treat each input alone |
| forward passes in evaluation mode that leave the model unchanged | the model writes to itself; observations \
restore the values | nothing, or compare with a model without these writes |
| padding to be marked by attention_mask | the argument can be a padding mask that the probes do not use; they then \
measure padding | name the argument `attention_mask`, pad on the left, or use `reduce=0` |
| layers of 5 positions, as attention_mask has, got layers of 4 positions | the decoder has other positions than the \
mask, and its last one can be padding | pad on the left, or use `reduce=0` |
| floating-point numbers in layer, got complex numbers | `LMNProbe` cannot draw lines in this layer | \
`LMNProbe(layers=...)` |
| a tensor in the output to replace, got a packed sequence | `LMNProbe` replaces outputs of a layer, and cannot \
replace packed sequences | `LMNProbe(layers=...)` |
| forward passes in which the value can be replaced | the forward pass computes derivatives, and a replaced value \
would change them | omit `LMNProbe` |
| a submodule that the forward pass calls, got none | only the output is measured | attach to the module from which \
`torch.export` made the program |

**Mixtures of experts.** The layers inside an expert do not receive all inputs. Name layers that all inputs pass, for
example the blocks or the routers: `layers="blocks.*"`.
"""
REFUSED_COLUMNS = """
### Refused

`attach` raises an error, and does not change the model.

| model | what the error advises |
|---|---|
"""
SETUPS = """
## Training
"""
SETUP_COLUMNS = """
| set-up | used as | training | remarks |
|---|---|---|---|
"""
REFUSED = """
Three cases raise an error before anything changes: an optimiser without a parameter of the model, several optimisers at
once, and an optimiser without hooks. The error states what to do.

**Optimisers that others prepare, wrap or inherit from** count each update once. Examples are Accelerate, Lightning,
SAM, and a `step` that calls `super().step()`. The hooks are on the given optimiser and on the optimisers in its
attributes. A step within a step is part of it.

**Weights that change without a step** of the attached optimiser cause a warning, at the next `observe(name=value)` and
at `detach`. Some wrappers have no hooks and change the weights after the inner step, such as some versions of
Lookahead. `probe` then observes before this change, and warns. Attach without `optimizer=` and call `observe(step)`.

**Models that compute derivatives in their forward pass** (force fields) run with gradients. Probes that replace hidden
values, such as `LMNProbe`, refuse them.

**Programs of `torch.export`** call no submodule. Only their output is measured, with a warning. Modules of
`torch.fx.symbolic_trace` and `torch.export.unflatten` keep their layers.

**A CUDA graph** that contains the optimiser's step replays it without calling hooks, so `probe` cannot count steps.
When the step is captured, the probes warn and do not observe. Attach without `optimizer=` and call `observe(step)`
after the replays. Observations themselves run outside of the graph. We have not tried this on a GPU.

**A model on several devices** is supported only if its own forward pass moves the tensors.

**Parameters outside of the module** (`torch.func`) do not change the module during training. Load the parameters into
it before each `observe(step)`.

## Adapters

The adapters of [`probe.adapters`](trainers.md) attach in one line. Tests compare weights and each checkpoint with
those of a training without probes.

| adapter | lowest version | newest tested | tested too |
|---|---|---|---|
| `lightning` | 2.5.0 | 2.6.6 | both package names, manual optimisation, two optimisers, a gradient scaler |
| `huggingface` | 4.47.0 | 5.24.0 | `SFTTrainer` (TRL 1.16.0), LoRA (PEFT 0.17.0, 0.21.2), bitsandbytes 0.50.2 |
| `accelerate` | 1.0.0 | 1.15.0 | a gradient scaler with a fused optimiser, trackers |
| `skorch` | 1.2.0 | 1.4.0 | closures (LBFGS), `partial_fit`, copies |

Lightning and Accelerate are also tested on two processes (CPU). A LoRA base of 8 bits raises an error.
"""
FAULTS = """
## Load and faults

| what fails | what happens |
|---|---|
"""


def model_row(case: cases.Case, page: str) -> str:
    """Tried now; where a package is missing, the row that the page has."""
    if case.needs and find_spec(case.needs) is None:
        return old_row(case.name, page)
    outcome = cases.tried(case)
    if cases.trained(case, None)[0] != outcome.state:
        raise AssertionError(f"{case.name}: the training is changed")
    return cases.row(case, outcome)


def setup_row(setup: setups.Setup, page: str) -> str:
    if setup.needs and find_spec(setup.needs) is None:
        return old_row(setup.name, page)
    without, _, _ = setups.trained(setup, on=False)
    states, steps, _ = setups.trained(setup, on=True)
    if tuple(map(tuple, steps)) != setup.steps:
        raise AssertionError(f"{setup.name}: recorded {steps}, expected {setup.steps}")
    return setups.row(setup, without == states)


def refused_row(case: compatibility.Refused) -> str:
    message, untouched = compatibility.refused(case)
    if case.advice not in message or not untouched:
        raise AssertionError(f"{case.name}: {message}")
    return compatibility.refused_row(case)


def old_row(name: str, page: str) -> str:
    return next((line for line in page.splitlines() if line.startswith(f"| {name} |")), f"| {name} | not tried |")


def heading(group: str, needs: set[str], page: str) -> str:
    """Return the heading of a group, and the versions of the packages that it needs."""
    if not needs:
        return f"\n### {group}\n"
    try:
        names = ", ".join(f"{package} {version(package)}" for package in sorted({*needs, "torch"}))
        text = f"Tried with {names}."
    except PackageNotFoundError:
        text = page.partition(f"### {group}\n\n")[2].split("\n")[0]
    return f"\n### {group}\n\n{text}\n"


def table(groups: dict[str, list], columns: str, row: Callable[[Any, str], str], page: str) -> str:  # type: ignore[type-arg]
    """Return one table for each group of cases."""
    parts = []
    for group, members in groups.items():
        needs = {case.needs for case in members} - {""}
        parts += [heading(group, needs, page), columns, *lines([row(case, page) for case in members])]
    return "".join(parts)


def trials() -> str:
    """Return the numbers of random models and damaged files, which a person enters after the commands have run."""
    names = {
        "random_models": ("random models in random loops", "cd tests; python test_random_models.py 0 1000"),
        "damaged_files": (
            "damaged journals, kept values, NetCDF files and checkpoints",
            "pytest -m slow tests/test_fuzz.py",
        ),
    }
    counts = json.loads(TRIALS.read_text())
    rows = [
        f"| {names[key][0]} | {count['tried']:,} | {count['failed']} | `{names[key][1]}` |"
        for key, count in counts.items()
        if count["tried"]
    ]
    return "".join(lines(["| trial | number | failures | command |", "|---|---|---|---|", *rows]))


def main() -> None:
    """Write the page."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    before = PAGE.read_text() if PAGE.exists() else ""
    models = table(compatibility.MODELS, MODEL_COLUMNS, model_row, before)
    ways = table(compatibility.TRAINING, SETUP_COLUMNS, setup_row, before)
    refused = lines([refused_row(case) for case in compatibility.REFUSED])
    faults = lines([setups.fault_row(*fault) for fault in setups.FAULTS])
    parts = [
        INTRODUCTION,
        trials(),
        MODELS,
        models,
        REFUSED_COLUMNS,
        *refused,
        REMARKS,
        SETUPS,
        ways,
        REFUSED,
        FAULTS,
        *faults,
    ]
    PAGE.write_text("".join(parts))


def lines(rows: list[str]) -> list[str]:
    return [f"{row}\n" for row in rows]


if __name__ == "__main__":
    main()
