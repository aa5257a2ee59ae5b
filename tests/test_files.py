"""Atomic writes and locks of files."""

import os
import subprocess
import sys
from pathlib import Path
from threading import Thread
from time import process_time

import numpy as np
import pytest
import torch
import xarray as xr

from probe.recording import Journal, Lock, atomic_write, journal_of, load, read_netcdf, save, write_netcdf
from probe.series import Variable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.bin"


def names(path: Path) -> list[str]:
    return sorted(file.name for file in path.parent.iterdir())


@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_is_written_when_the_block_ends(path: Path, old: str | None) -> None:
    if old:
        path.write_text(old)
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert temporary.parent == path.parent
        assert (path.read_text() if path.exists() else None) == old
    assert path.read_text() == "new"
    assert names(path) == ["file.bin"]


def test_any_writer_that_takes_a_path_works(path: Path) -> None:
    with atomic_write(path) as temporary:
        torch.save({"a": torch.ones(2)}, temporary)
    assert torch.load(path, weights_only=True)["a"].tolist() == [1, 1]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_file(path: Path, error: type[BaseException]) -> None:
    path.write_text("old")

    def half() -> None:
        with atomic_write(path) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        half()
    assert path.read_text() == "old"
    assert names(path) == ["file.bin"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_leaves_the_old_file(path: Path, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"), atomic_write(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert names(path) == ["file.bin"]


def test_a_block_that_writes_nothing_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    assert not names(path)


def test_the_content_is_on_the_disk_before_the_name(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *args, name=name, real=real: (calls.append(name), real(*args)))
    with atomic_write(path) as temporary:
        temporary.write_text("new")
    assert calls[:2] == ["fsync", "replace"]


# -- locks -----------------------------------------------------------------------------------------------------------


def test_a_lock_excludes_a_second_one_until_it_is_released(path: Path) -> None:
    path.write_text("content")
    with Lock(path):
        with pytest.raises(BlockingIOError, match="one that this process holds"):
            Lock(str(path))
        assert path.read_text() == "content"
    lock = Lock(path)
    lock.release()
    lock.release()  # has no effect
    Lock(path).release()
    assert path.read_text() == "content"


def test_a_lock_ends_with_its_object_and_with_an_error(path: Path) -> None:
    lock = Lock(path)
    del lock
    with pytest.raises(KeyError), Lock(path):
        raise KeyError
    Lock(path).release()


def test_another_process_is_excluded_until_this_one_releases(path: Path) -> None:
    code = f"from probe.recording import Lock\nLock({str(path)!r}).release()"
    with Lock(path):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert "one that another process holds; wait for its end" in done.stderr
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_writers_in_several_threads_never_show_a_part(tmp_path: Path) -> None:
    path, contents = tmp_path / "f", [str(i) * 20_000 for i in range(3)]
    path.write_text(contents[0])
    (tmp_path / "f.tmp").write_text("mine")

    def write(content: str) -> None:
        for _ in range(20):
            with atomic_write(path) as temporary:
                temporary.write_text(content)

    threads = [Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert path.read_text() in contents
    assert sorted(file.name for file in tmp_path.iterdir()) == ["f", "f.tmp"], "no rest, and nobody else's file is gone"


def test_links_are_followed_permissions_kept_and_the_folder_is_that_of_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "target").write_text("old")
    (tmp_path / "target").chmod(0o640)
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "elsewhere").mkdir()
    with atomic_write("link") as temporary:
        monkeypatch.chdir(tmp_path / "elsewhere")
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640


def write_netcdf_of(path: object) -> None:
    write_netcdf(xr.Dataset({"v": ("step", [2.0])}, {"step": [0]}), path)  # type: ignore[arg-type]


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_what_is_no_file_is_neither_read_nor_replaced(path: Path) -> None:
    journal = journal_of(path)
    os.mkfifo(path)
    for call in (write_netcdf_of, load, read_netcdf, lambda file: Journal(file, {}, mode="overwrite")):
        with pytest.raises(OSError, match=r"^Expected a file as path=.*, got a pipe; name"):
            call(path)
    assert path.is_fifo()
    assert names(path) == ["file.bin"]
    path.rename(journal)
    for call in (load, lambda file: Journal(file, {}, mode="resume"), lambda file: Journal(file, {}, mode="overwrite")):
        with pytest.raises(OSError, match=r"^Expected a file as path=.*, got a pipe; name"):
            call(path)
    with pytest.raises(OSError, match="got a folder"):
        load(path.parent)


def test_all_functions_take_one_form_of_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    header = {"configuration": {}, "provenance": "{}", "order": {}}
    journal = Journal("~/run.nc", header)
    journal.declare(Variable("v"))
    journal.record(0, {"v": np.array(2.0)})
    assert load("~/run.nc")["v"].item() == load(os.fsencode(tmp_path / "run.nc"))["v"].item() == 2
    journal.close()
    assert read_netcdf("~/run.nc").equals(load("~/run.nc"))
    assert journal_of("~/run.nc") == tmp_path / "run.nc.journal"
    save(load("~/run.nc"), "~/copy.nc")
    assert names(tmp_path / "x") == ["copy.nc", "run.nc", "run.nc.journal"]


@pytest.mark.parametrize("wrong", [3, None, ["run.nc"], "run\0.nc", "x" * 230, "no folder/run.nc"])
def test_a_path_that_cannot_be_written_is_an_error_of_one_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: object
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = [write_netcdf_of, *([] if wrong is None else [lambda file: Journal(file, {})])]
    for call in calls:
        with pytest.raises((OSError, TypeError, ValueError), match=r"^Expected .*, got .*; "):
            call(wrong)
    assert not list(tmp_path.iterdir())


def test_a_snapshot_of_many_variables_takes_linear_time(path: Path) -> None:
    numbers = {f"v{i}": ("step", [float(i)]) for i in range(1000)}
    started = process_time()
    write_netcdf(xr.Dataset(numbers, {"step": [0]}), path)
    assert process_time() - started < 5  # 0.5 s; 28 s if each variable is added to a dataset
    assert load(path)["v999"].item() == 999
