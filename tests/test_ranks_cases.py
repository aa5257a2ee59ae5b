"""Probes on two and three ranks: sharded models, equal numbers, failures, bad input, killed ranks, examples."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ranks_cases import data, make, probes
from torch import nn

import probe

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("ranks_cases.py")


def start(folder: Path, names: str, n_ranks: int = 2, script: Path = SCRIPT) -> list[subprocess.Popen[str]]:
    """Start the ranks. They meet at a file, so no port is needed."""
    ranks = [{"RANK": str(rank), "WORLD_SIZE": str(n_ranks), "OMP_NUM_THREADS": "1"} for rank in range(n_ranks)]
    command = [sys.executable, str(script), str(folder), names]
    return [subprocess.Popen(command, env={**os.environ, **one}, stderr=subprocess.PIPE, text=True) for one in ranks]


def run(folder: Path, names: str, n_ranks: int = 2) -> dict[str, list[Any]]:
    """Run cases, and return what they have returned by case and rank."""
    started = start(folder, names, n_ranks)
    errors = [process.communicate(timeout=900)[1] for process in started]
    assert all(process.returncode == 0 for process in started), "\n".join(errors)[-3000:]
    found: dict[str, list[Any]] = {}
    for path in sorted(folder.glob("*.json")):
        found.setdefault(path.stem.rsplit("-")[0], []).append(json.loads(path.read_text()))
    assert not (raised := [one["unexpected"] for ranks in found.values() for one in ranks if "unexpected" in one]), (
        raised
    )
    return found


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("one") / "one.nc"
    probes().attach(make(), data(), path=path, batch_size=48).observe(0).detach()
    return probe.load(path)


@pytest.fixture(scope="module", params=[2, 3], ids=["two ranks", "three ranks"])
def numbers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("numbers")
    return folder, run(folder, "numbers" if request.param == 2 else "fixed,trained", request.param)


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("failures")
    return folder, run(folder, "failures")


@pytest.mark.parametrize("kind", ["fsdp", "ddp"])
def test_several_ranks_give_the_numbers_of_one(numbers: Any, one: Any, kind: str) -> None:
    several = probe.load(numbers[0] / f"{kind}.nc")
    assert set(several.data_vars) == set(one.data_vars)
    for name in set(one.data_vars) - {"seconds"}:
        if kind == "fsdp" and name.startswith("linear_mapping"):  # the whole model runs, not its end alone
            np.testing.assert_allclose(several[name].values, one[name].values, rtol=1e-6, err_msg=str(name))
        else:
            np.testing.assert_array_equal(several[name].values, one[name].values, err_msg=str(name))


def test_checkpoints_of_a_sharded_model_are_those_without_probes(numbers: Any) -> None:
    ranks = numbers[1]["trained"]
    assert all(rank["with"] == rank["without"] == ranks[0]["with"] for rank in ranks)
    assert all(rank["steps"] == [0, 3, 6] and rank["loss"] == ranks[0]["loss"] for rank in ranks)


def test_policies_of_fully_shard(numbers: Any) -> None:
    for rank in numbers[1].get("policies", ()):
        for name in ("mixed", "checkpoints", "accumulated"):
            assert rank[name], f"{name}: probes have changed the training"
            assert rank[f"{name} steps"] == [0, 3, 6]
        norm = sum(float(p.detach().double().square().sum()) for p in make(nn.LayerNorm).parameters()) ** 0.5
        assert rank["mixed norm"] == pytest.approx(norm, rel=1e-12)  # the weights, not their 16 bits


@pytest.mark.parametrize("kind", ["fsdp", "ddp"])
@pytest.mark.parametrize("within", [False, True])
def test_a_probe_that_fails_on_one_rank_fails_on_all(failures: Any, kind: str, within: bool) -> None:
    for rank in failures[1]["failing"]:
        assert rank[f"{kind} {within}"] == {"steps": [0, 3, 6], "failed": [0, 1, 0]}
        assert rank[f"{kind} {within} same"]


def test_on_error_raise_raises_on_all_ranks(failures: Any) -> None:
    assert [rank["error"] for rank in failures[1]["raising"]] == ["RankError", "ValueError"]
    assert all(rank["steps"] == [0] for rank in failures[1]["raising"])


def test_an_interrupt_on_one_rank_ends_observing_on_all(failures: Any) -> None:
    first, second = failures[1]["interrupted"]
    for kind in ("fsdp", "ddp"):
        assert second[f"{kind} interrupted"] == 2  # the third update
        assert "KeyboardInterrupt" in first[f"{kind} texts"][0]
        assert first[f"{kind} steps"] == second[f"{kind} steps"] == [0]


def test_ranks_with_different_arguments_are_refused_on_all(failures: Any) -> None:
    for rank in failures[1]["different"]:
        for name in ("probes", "data", "schedule", "path", "model"):
            assert f"Expected the same {name} on all ranks" in rank[name]
        assert "Expected the same weights on all ranks, got others on rank 1" in rank["weights"]
        assert rank["files"] == []


def test_other_ways_to_divide_a_model_are_refused(failures: Any) -> None:
    for rank in failures[1]["unsupported"]:
        assert "Expected ranks='all' for a model that fully_shard divides" in rank["this"]
        assert "tensor parallelism" in rank["tensor"]
        assert "FSDP1" in rank["fsdp1"]


def test_attach_on_one_rank_is_an_error_within_the_timeout(failures: Any) -> None:
    first, second = failures[1]["alone"]
    for kind in ("fsdp", "ddp"):
        assert "Expected attach on all 2 ranks within 2 s, got none on rank 1" in first[kind]
        assert first[f"{kind} same"]
        assert second[f"{kind} same"]


def test_a_budget_decides_the_same_on_all_ranks(failures: Any) -> None:
    first, second = (rank["steps"] for rank in failures[1]["budgeted"])
    assert first == second
    assert 1 < len(first) < 41


def test_a_resumed_recording_is_one_series(failures: Any) -> None:
    assert all(rank["steps"] == [0, 3, 6] for rank in failures[1]["resumed"])
    assert probe.load(failures[0] / "resumed.nc")["step"].values.tolist() == [0, 3, 6]


def test_detach_on_one_rank_keeps_the_recording(failures: Any) -> None:
    assert all(rank["steps"] == [0, 3] for rank in failures[1]["detached"])
    assert probe.load(failures[0] / "detached.nc")["step"].values.tolist() == [0, 3]


def test_a_group_that_is_destroyed_before_detach(failures: Any) -> None:
    steps = probe.load(failures[0] / "destroyed.nc")["step"].values.tolist()
    assert steps[:9] == list(range(9))
    for rank in failures[1]["destroyed"]:  # the last state, step 9, is observed, or a warning names the reason
        assert rank["steps"] == steps
        assert steps[9:] == [9] or rank["warned"]


@pytest.fixture(scope="module")
def more(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("more"), "more failures")


def test_random_rows_of_a_probe_are_those_of_the_first_rank(more: Any) -> None:
    first, second = more["drawn"]
    assert first["total"] == second["total"] == pytest.approx(first["here"], rel=1e-6)
    assert second["here"] != pytest.approx(first["here"], rel=1e-3)
    assert first["same"]
    assert second["same"]  # the training has its own random states again


def test_rows_that_differ_among_ranks_are_an_error_on_all(more: Any) -> None:
    for rank in more["drawn"]:
        assert "Expected the same rows and layers on all ranks in a pass over split 'train'" in rank["own"]


def test_a_probe_that_catches_the_error_of_another_rank_is_flagged_on_all(more: Any) -> None:
    for rank in more["caught"]:
        assert rank["fsdp"] == rank["ddp"] == {"steps": [0, 3, 6], "failed": [0, 1, 0]}


def test_a_schedule_that_fails_on_the_first_rank_is_an_error_on_all(more: Any) -> None:
    first, second = more["scheduled"]
    assert first["errors"] == ["2 no step here"]
    assert second["errors"][0].startswith("2 Expected all ranks to finish step 3, got ValueError: no step here on rank")
    assert first["steps"] == second["steps"] == [0, 1, 2, 4, 5]


def test_parts_of_a_model_are_refused_and_the_training_continues(more: Any) -> None:
    for rank in more["parts"]:
        for when in ("before", "after"):
            assert "Expected the model that fully_shard got last" in rank[when]
            assert rank[f"{when} same"]
        assert "got PipelineStage; use fully_shard on the whole model" in rank["stage"]
    assert "all 2 ranks of the training share, got a process group or mesh of 1" in more["parts"][0]["group"]


def test_a_failure_of_one_rank_at_attach_is_an_error_on_all(more: Any) -> None:
    first, second = more["attaching"]
    for kind in ("fsdp", "ddp"):
        assert "no rows here" in first[f"{kind} False"]
        assert "no rows here" in second[f"{kind} False"]
        assert second[f"{kind} True"].startswith("KeyboardInterrupt")
        assert first[f"{kind} False same"]
        assert second[f"{kind} True same"]


def test_detach_releases_connections(more: Any) -> None:
    for rank in more["released"]:
        assert rank["files"][-1] <= rank["files"][0]


def test_a_killed_rank_leaves_the_recording(tmp_path: Path) -> None:
    started = start(tmp_path, "killed")
    deadline = time.monotonic() + 300
    while any(process.poll() is None for process in started) and time.monotonic() < deadline:
        time.sleep(0.2)
    codes = [process.poll() for process in started]
    errors = [process.communicate()[1] for process in started]
    assert codes[1] == -9
    assert codes[0] not in (0, None), errors[0]  # the training ends, as it does without probes
    assert probe.load(tmp_path / "killed.nc")["step"].values.tolist() == [0, 1, 2, 3]


PAGE = Path(__file__).parents[1] / "docs" / "ranks.md"


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    parts = PAGE.read_text().split("```python\n")[1:]
    examples = [part.split("```")[0] for part in parts]
    whole = [example for example in examples if "init_process_group" in example and "run.nc" in example]
    assert len(whole) == 2  # DDP and FSDP2
    for number, example in enumerate(whole):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "train.py").write_text(example)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "train.py"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert probe.load(folder / "run.nc")["step"].values[-1] == 100
