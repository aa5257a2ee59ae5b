"""Damaged recordings and checkpoints: a clear error or the right numbers, and never a traceback."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

pytest.importorskip("resource")  # not on Windows
import fuzz

from probe import load
from probe.recording import Journal, journal_of, read_checked, read_netcdf
from probe.recording.state import state_of
from probe.series import Variable
from reference.runs import RunFolder
from reference.runs.options import config_to_dict
from reference.training import ModelConfig, State, TaskConfig, TrainConfig

HEADER: dict[str, Any] = {"configuration": {}, "order": {"layer": ["a", "b"]}, "provenance": json.dumps({"seed": 0})}
TINY = TrainConfig(
    task=TaskConfig(size=7), model=ModelConfig(d_model=8, n_heads=1, d_mlp=8), steps=4, every=2, batch_size=16
)
KEPT = {step: np.arange(5.0) + step for step in range(12)}


def record(path: Path) -> None:
    """Record losses, layers, flags, NaN, infinities, kept values, an annotation and a resumption."""
    for mode, steps in ((None, range(6)), ("resume", range(6, 12))):
        journal = Journal(path, HEADER, mode=mode)
        if mode is None:
            for name in ("train_loss", "test_accuracy", "train_accuracy"):
                journal.declare(Variable(name))
            journal.declare(Variable("v", ("layer",), {"layer": ["a", "b"]}, "bits", attrs={"noise": 0.1}))
            journal.declare(Variable("flag", flag=True))
        for step in steps:
            share = np.array(step / 11)
            curves = {"train_loss": 1 / (1 + share), "test_accuracy": share**2, "train_accuracy": share}
            values = {"v": np.array([np.nan, [np.inf, 1 / 3][step % 2]]), "flag": np.array(step % 2)}
            journal.record(10 * step, {**curves, **values}, {"w": KEPT[step]})
        journal.annotate(10 * steps[-1], {"flag": np.array(-1)})
        journal.close()


def save_checkpoint(path: Path) -> None:
    """A run of the reference that is recorded up to step 2, without the training."""
    folder, generator = RunFolder(path), torch.Generator().manual_seed(0)
    path.mkdir()
    provenance = json.dumps({"config": config_to_dict(TINY), "seed": 3})
    journal = Journal(folder.series, {"configuration": {}, "order": {}, "provenance": provenance})
    journal.declare(Variable("test_loss"))
    for step in TINY.evaluations()[:-1]:
        journal.record(step, {"test_loss": np.array(1.0)})
    journal.close()
    parts = [{name: torch.randn(8, 4, generator=generator) for name in "ab"} for _ in range(3)]
    folder.save(TINY, 3, State(step, *parts))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    record(folder / "run.nc")
    save_checkpoint(folder / "seed-3")
    return folder


def journals(path: Path, *, protected: bool = True) -> fuzz.Kind:
    """The journal, read by `load`."""
    file = journal_of(path)
    if not protected:
        file.write_bytes(re.sub(rb'"crc": "[0-9a-f]{8}", ', b"", file.read_bytes()))
    lines = file.read_bytes().splitlines(keepends=True)
    begun = []
    for n in range(1, len(lines) + 1):
        file.write_bytes(b"".join(lines[:n]))
        begun.append(load(path))

    def judge(found: xr.Dataset, told: str) -> str:
        if b"huge" in file.read_bytes() or damaged_with_right_checksums(file.read_bytes(), lines):
            return "accepted"
        if found.identical(begun[-1]):
            return "right"
        if any(found.identical(one) for one in begun):
            return "last line lost" if "it is ignored" in told else lines_missing(file.read_bytes(), lines)
        return "wrong numbers in silence"

    return fuzz.Kind(file, lambda: load(path), judge, {"hostile": fuzz.hostile, "hostile too": fuzz.hostile}, path)


def damaged_with_right_checksums(data: bytes, lines: list[bytes]) -> bool:
    """Whether the checksums are those of the changed lines, as only an author can make them."""
    if not data.startswith(b'{"crc": "'):
        return False
    bodies = [re.sub(rb'^\{"crc": "[0-9a-f]{8}", ', b"{", line).rstrip(b"\r\n") for line in data.splitlines()]
    complete = b"".join(fuzz.with_checksums(bodies, 0)[0])
    return complete == data and not b"".join(lines).startswith(data)


def lines_missing(data: bytes, lines: list[bytes]) -> str:
    """A journal that ends at the end of a line is complete for its reader, as after a crash."""
    return "lines missing" if b"".join(lines).startswith(data.replace(b"\r\n", b"\n")) else "wrong numbers in silence"


def states(path: Path) -> fuzz.Kind:
    """The kept values, read by a recording that is resumed."""

    def read() -> Any:
        saved = journal_of(path).read_bytes()
        journal = Journal(path, HEADER, mode="resume")
        try:
            return {step: journal.kept("w", 10 * step + 1) for step in (9, 10, 11)}
        finally:
            journal._file.release()  # type: ignore[union-attr]
            journal_of(path).write_bytes(saved)

    def judge(found: dict[int, Any], told: str) -> str:
        if all(value is not None and np.array_equal(value, KEPT[step]) for step, value in found.items()):
            return "right"
        lost = [step for step, value in found.items() if value is None]
        wrong = [step for step, value in found.items() if value is not None and not np.array_equal(value, KEPT[step])]
        return "wrong numbers in silence" if wrong or told.count("starts anew") < len(lost) else "lost and said"

    return fuzz.Kind(state_of(path), read, judge, {})


def netcdf(path: Path, *, protected: bool = True) -> fuzz.Kind:
    """The NetCDF file without its journal, read by `load`."""
    journal_of(path).unlink(missing_ok=True)
    expected = read_netcdf(path)
    if not protected:
        path.write_bytes(read_checked(path)[0].replace(b"probe_digest", b"not_a_digest"))

    def judge(found: xr.Dataset, told: str) -> str:
        if found.identical(expected):
            return "right"
        return "accepted" if protected and b"not_a_digest" in path.read_bytes() else "wrong numbers in silence"

    return fuzz.Kind(path, lambda: load(path), judge, {"claims": fuzz.claims}, path)


def checkpoints(folder: Path, *, protected: bool = True) -> fuzz.Kind:
    """A checkpoint of the reference, read as to continue training."""
    run_folder = RunFolder(folder)
    expected = run_folder.run_state(TINY, 3).state
    assert expected is not None
    if not protected:
        saved = torch.load(run_folder.checkpoint, weights_only=True)
        del saved["digest"]
        torch.save(saved, run_folder.checkpoint)

    def judge(found: Any, told: str) -> str:
        same = found.step == expected.step and all(
            getattr(found, part).keys() == getattr(expected, part).keys()
            and all(torch.equal(value, getattr(expected, part)[name]) for name, value in getattr(found, part).items())
            for part in ("parameters", "first", "second")
        )
        return "right" if same else "wrong numbers in silence"

    return fuzz.Kind(run_folder.checkpoint, lambda: run_folder.run_state(TINY, 3).state, judge, {})


def kinds(name: str, made: Path, to: Path, *, protected: bool = True) -> fuzz.Kind:
    shutil.copytree(made, to, dirs_exist_ok=True)
    make: Callable[..., fuzz.Kind] = {"journals": journals, "netcdf": netcdf, "checkpoints": checkpoints}.get(
        name, states
    )
    path = to / "seed-3" if name == "checkpoints" else to / "run.nc"
    return make(path) if protected else make(path, protected=False)


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")
@pytest.mark.parametrize("name", ["journals", "states", "netcdf", "checkpoints"])
@pytest.mark.parametrize("n", [25, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_damaged_file_is_a_clear_error_or_the_right_numbers(name: str, n: int, made: Path, tmp_path: Path) -> None:
    kind = kinds(name, made, tmp_path)
    if n == 1000:
        kind = replace(kind, commands=("info", "detect", "plot"), every=1)
    assert fuzz.outcome(kind) == "right"
    counts, faults = fuzz.run(kind, range(n))
    print(name, dict(counts))
    assert faults == {}
    assert counts["error"] > n / 4 or name == "states"


@pytest.mark.filterwarnings("ignore::probe.errors.ProbeWarning")
@pytest.mark.parametrize("name", ["journals", "netcdf", "checkpoints"])
def test_the_trials_find_silent_damage(name: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without checksums and digests, as in files of older versions, a flipped bit changes numbers in silence."""
    monkeypatch.setattr(fuzz, "DAMAGES", {"bits": fuzz.DAMAGES["bits"]})
    kind = replace(kinds(name, made, tmp_path, protected=False), damages={}, every=10)
    _, faults = fuzz.run(kind, range(30))
    silent = [fault for fault in faults.values() if "in silence" in fault]
    assert silent
    assert len(silent) == len(faults), "and nothing else happens: no traceback, no message of another form"
