"""Helpers of several test files."""

import ast
import atexit
import gc
import os
import sys
import traceback
import warnings
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from reference.training import ModelConfig, State, TaskConfig, TrainConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parsed(source: str) -> ast.Module:
    """Return the syntax tree of a source.

    Garbage is not collected meanwhile: if a finaliser fails, pytest formats its traceback, which parses the line that
    failed. Python 3.11 does not allow a tree to be built while another one is built (SystemError).
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if enabled:
            gc.enable()


def in_fork(run: Callable[[], object]) -> int:
    """Return the exit code of a fork of this process that calls a function and ends as a Python process does."""
    return os.waitstatus_to_exitcode(os.waitpid(start_fork(run), 0)[1])


def start_fork(run: Callable[[], object]) -> int:
    """Return the process id of a fork that calls a function; an integer that it returns is the exit code.

    A fork has all modules already; a new process takes seconds of CPU time to import them. The functions that other
    modules registered for the end of this process are dropped in the fork.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks of several threads; here PyTorch has one
        process = os.fork()
    if process:
        return process
    try:
        atexit._clear()
        weakref.finalize._registry.clear()  # type: ignore[attr-defined]
        weakref.finalize._registered_with_atexit = False  # type: ignore[attr-defined]
        code = run()
        end_of_process()
        os._exit(code if isinstance(code, int) else 0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def end_of_process() -> None:
    """Do what Python does at the end of a process."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()


def built(make: Callable[[], nn.Module], seed: int = 0) -> Any:
    """Return a module whose initial parameters depend on the seed alone."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return make()


# A small run with all settings: dropout, decay, a warm-up, evaluations at irregular distances.
TINY = TrainConfig(
    task=TaskConfig(operation="division", size=13),
    model=ModelConfig(d_model=16, n_heads=2, d_mlp=24, dropout=0.1, token_scale=4.0),
    steps=8,
    weight_decay=0.5,
    warmup=3,
    batch_size=32,
    every=3,
    per_decade=2,
)
CLIPPED = replace(TINY, clip_norm=0.9)  # in the middle of the norms: at some steps the gradient of a seed is longer


def assert_same(one: State, other: State) -> None:
    """Assert that two states are equal bit by bit."""
    assert one.step == other.step
    for part in ("parameters", "first", "second"):
        mine, theirs = getattr(one, part), getattr(other, part)
        assert list(mine) == list(theirs)
        for name, value in mine.items():
            assert torch.equal(value, theirs[name]), f"{part}: {name}"
