"""Probes in trainings on several ranks: all observe together, rank 0 writes, and no rank waits forever."""

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from ranks_training import main, observe_fixed_weights

import probe

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # torch has one thread in the tests


def launch(folder: Path, n_ranks: int) -> None:
    """Run the training in forks of this process, one for each rank. They meet at a file, so no port is needed."""
    torch.optim.SGD([torch.zeros(1)])  # the first optimizer imports much: once, and not in each fork
    ranks = [multiprocessing.get_context("fork").Process(target=run, args=(folder, k, n_ranks)) for k in range(n_ranks)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(300)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0] * n_ranks


def run(folder: Path, rank: int, n_ranks: int) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(n_ranks))
    main(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    launch(folder, 2)
    observe_fixed_weights(folder / "fixed-one.nc")
    return folder


def test_two_ranks_give_the_numbers_of_one_bit_for_bit(folder: Path) -> None:
    one, two = probe.load(folder / "fixed-one.nc"), probe.load(folder / "fixed-two.nc")
    assert set(one.data_vars) == set(two.data_vars)
    for name in set(one.data_vars) - {"seconds"}:
        np.testing.assert_array_equal(one[name].values, two[name].values, err_msg=str(name))


def test_the_training_is_the_same_with_and_without_probes_on_each_rank(folder: Path) -> None:
    states = [torch.load(folder / f"{name}-{rank}.pt") for name in ("with", "without") for rank in (0, 1)]
    for state in states[1:]:
        assert all(torch.equal(state[name], states[0][name]) for name in states[0])


def test_a_probe_that_fails_on_one_rank_is_flagged_on_all(folder: Path) -> None:
    recorded = [probe.load(folder / name) for name in ("training.nc", "series-0.nc", "series-1.nc")]
    for series in recorded:
        assert series["step"].values.tolist() == [0, 3, 6]
        assert series["failed"].sel(probe="FailsOnRankOne").values.tolist() == [0, 1, 0]
        assert series["failed"].sel(probe="MutualInfoProbe").values.tolist() == [0, 0, 0]
        np.testing.assert_array_equal(series["number"].values, [1, np.nan, 1])
