"""Tests run on one thread (small tensors are faster so) and from one seed: they come out the same everywhere."""

import gc
import os
import sys
from collections.abc import Iterator
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch

mpl.use("Agg")
torch.set_num_threads(1)


FROZEN = {"modules": 0}


def pytest_collection_finish() -> None:
    """Exempt the imported modules from garbage collection: a collection would traverse them for 0.2 s of CPU time."""
    gc.collect()
    gc.freeze()
    FROZEN["modules"] = len(sys.modules)


def pytest_runtest_logfinish() -> None:
    """Exempt what tests import later too: the first optimizer imports the compiler of PyTorch, and all of it stays."""
    if len(sys.modules) > FROZEN["modules"] + 100:
        pytest_collection_finish()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each file to one process of pytest-xdist, so that fixtures of a module are made once."""
    from xdist.scheduler import LoadFileScheduling

    return LoadFileScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture(autouse=True, scope="session")
def one_look_at_the_repository() -> Iterator[None]:
    """Ask git once for each working folder: each of thousands of recordings would take 10 ms of CPU time for it."""
    from probe.recording import provenance

    ask, found = provenance._revision, dict[str, Any]()

    def revision() -> dict[str, Any] | None:
        folder = os.getcwd()
        if folder not in found:
            found[folder] = ask()
        return found[folder]  # type: ignore[no-any-return]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(provenance, "_revision", revision)
        yield


@pytest.fixture(autouse=True)
def one_seed() -> None:
    """A test that wants other numbers draws them from a generator of its own."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002


@pytest.fixture(autouse=True)
def no_open_figures() -> Iterator[None]:
    """Close the figures that a test leaves open, so that no test depends on the ones before it."""
    yield
    if pyplot := sys.modules.get("matplotlib.pyplot"):
        pyplot.close("all")


@pytest.fixture
def global_random_state_untouched() -> Iterator[None]:
    """Whatever a test does, nothing may draw from the global generators or seed them."""
    torch_state, numpy_state = torch.get_rng_state(), repr(np.random.get_state())  # noqa: NPY002
    yield
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert repr(np.random.get_state()) == numpy_state  # noqa: NPY002
