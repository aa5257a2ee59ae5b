import builtins
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from probe import load, save
from probe.errors import ProbeWarning
from probe.recording import Journal, journal as module, journal_file, journal_of, read_netcdf
from probe.series import Variable

HEADER = {"configuration": {"probes": ["one"], "pair": (1, 2)}, "order": {"layer": ["a", "b"]}, "provenance": "{}"}
NUMBERS = np.array([1 / 3, np.nan]), np.array([np.inf, -np.inf])


def started(path: Path, *, mode: str | None = None, n: int = 0) -> Journal:
    journal = Journal(path, HEADER, mode=mode)
    journal.declare(Variable("v", ("layer",), {"layer": ["a", "b"]}, "bits"))
    journal.declare(Variable("flag", flag=True))
    for step in range(n):
        journal.record(step, {"v": NUMBERS[step % 2], "flag": np.array(step % 2)})
    return journal


def lines(path: Path) -> list[str]:
    return [json.loads(line)["kind"] for line in journal_of(path).read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.nc"


# -- what is written is what is read ---------------------------------------------------------------------------------


def test_numbers_come_back_to_the_last_bit_with_nan_and_infinities(path: Path) -> None:
    started(path, n=2)
    found = load(path)
    np.testing.assert_array_equal(found["v"], NUMBERS)
    assert found["flag"].dtype == np.int8
    assert found["v"].attrs["units"] == "bits"


def test_each_line_is_strict_json(path: Path) -> None:
    started(path, n=2)
    for line in journal_of(path).read_text().splitlines():
        json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_the_journal_the_snapshot_and_the_memory_say_the_same(path: Path) -> None:
    journal = started(path, n=7)
    xr.testing.assert_identical(load(path), journal.dataset())
    journal.close()
    xr.testing.assert_identical(load(path), journal.dataset())
    xr.testing.assert_identical(read_netcdf(path), journal.dataset())


def test_each_record_is_on_the_disk_before_the_next_step(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, sizes = started(path, n=10), []
    monkeypatch.setattr(os, "fsync", lambda descriptor: sizes.append(os.fstat(descriptor).st_size))
    journal.record(10, {"v": NUMBERS[0]})  # no snapshot is due
    assert sizes == [journal_of(path).stat().st_size]


def test_snapshots_come_at_geometric_intervals(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(module, "write_netcdf", lambda dataset, path: sizes.append(dataset.sizes["step"]))
    started(path, n=200)
    assert sizes == [1, 2, 4, 8, 16, 32, 64, 128], "the work is linear in the data"


def test_a_copy_without_its_journal_is_read(path: Path) -> None:
    started(path, n=3).close()
    journal_of(path).unlink()
    assert load(path).sizes["step"] == 3


def test_nothing_at_a_path_is_an_error(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Expected a series at .*run\.nc or a journal .*got neither"):
        load(path)


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_torn_last_line_is_left_out_with_a_warning(path: Path, cut: int) -> None:
    started(path, n=3)
    file = journal_of(path)
    file.write_bytes(file.read_bytes()[:-cut])
    with pytest.warns(ProbeWarning, match=r"last line in run\.nc\.journal, got one that was cut off"):
        found = load(path)
    assert found["step"].values.tolist() == [0, 1]


def test_recording_goes_on_after_a_torn_line(path: Path) -> None:
    started(path, n=3)
    file = journal_of(path)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.warns(ProbeWarning, match="was cut off"):
        journal = Journal(path, HEADER, mode="resume")
    journal.record(2, {"v": NUMBERS[0]})
    assert load(path)["step"].values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("change", ["number", "repeated", "missing", "exchanged", "spaces"])
def test_each_line_continues_the_checksum_of_the_line_before(path: Path, change: str) -> None:
    started(path, n=6)
    file = journal_of(path)
    parts = file.read_bytes().splitlines(keepends=True)
    if change == "number":
        parts[3] = parts[3].replace(b"0.333", b"0.433")
    elif change == "repeated":
        parts.insert(5, parts[4])
    elif change == "missing":
        del parts[4]
    elif change == "exchanged":
        parts[4], parts[5] = parts[5], parts[4]
    else:
        parts[4] = parts[4].replace(b", ", b",")
    file.write_bytes(b"".join(parts))
    with pytest.raises(ValueError, match=r"line [3-6] of .*run\.nc\.journal, got a damaged line"):
        load(path)


def test_an_older_journal_without_checksums_is_continued_with_checksums(path: Path) -> None:
    started(path, n=3)
    file = journal_of(path)
    older = re.sub(rb'"crc": "[0-9a-f]{8}", ', b"", file.read_bytes())
    file.write_bytes(older)
    journal = Journal(path, HEADER, mode="resume")
    journal.record(3, {"v": NUMBERS[0]})
    xr.testing.assert_identical(load(path), journal.dataset())
    file.write_bytes(file.read_bytes().replace(b"0.333", b"0.433", 1))
    with pytest.raises(ValueError, match="got a damaged line"):
        load(path)


@pytest.mark.parametrize("damage", [b"{torn\n", b"[1, 2]\n", b'{"no": "kind"}\n', b"\x00\x00\n"])
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(path: Path, damage: bytes) -> None:
    started(path, n=3)
    file = journal_of(path)
    parts = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*parts[:4], damage, *parts[5:]]))
    with pytest.raises(ValueError, match=r"line 5 of .*run\.nc\.journal, got a damaged line"):
        load(path)


def test_a_journal_without_a_header_is_none(path: Path) -> None:
    journal_of(path).write_text('{"kind": "record", "step": 0, "values": {}}\n')
    with pytest.raises(ValueError, match=r"in line 1 of .*, got 'record' that does not fit .*no header"):
        load(path)


@pytest.mark.parametrize("mode", ["resume", None])
def test_an_empty_journal_says_that_nothing_was_recorded(path: Path, mode: str | None) -> None:
    journal_of(path).touch()
    with pytest.raises(ValueError, match="got an empty file; no observation was written to it, so remove it, or"):
        Journal(path, HEADER, mode=mode) if mode else load(path)
    started(path, mode="overwrite", n=1)
    assert load(path).sizes["step"] == 1


# -- a disk that fails -----------------------------------------------------------------------------------------------


def failing(times: int, real: Any, when: Any = lambda *args: True) -> Any:
    left = [times]

    def call(*args: Any, **kwargs: Any) -> Any:
        if left[0] and when(*args):
            left[0] -= 1
            raise OSError(28, "No space left on device")
        return real(*args, **kwargs)

    return call


@pytest.mark.parametrize("where", ["open", "fsync"])
def test_a_record_that_cannot_be_written_is_kept_and_written_with_the_next(
    path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = started(path, n=1)
    if where == "open":
        monkeypatch.setattr(journal_file, "open", failing(1, builtins.open), raising=False)
    else:
        monkeypatch.setattr(os, "fsync", failing(1, os.fsync))
    journal.declare(Variable("new"))
    with pytest.warns(ProbeWarning, match="to write step 1 to .*No space left.*stay in memory"):
        journal.record(1, {"v": NUMBERS[1], "new": np.array(5.0)})
    assert journal.dataset()["step"].values.tolist() == [0, 1]
    journal.record(2, {"v": NUMBERS[0]})
    xr.testing.assert_identical(load(path), journal.dataset())
    assert lines(path) == ["header", "variable", "variable", "record", "variable", "record", "record"]


def test_a_write_that_breaks_in_the_middle_of_a_line_leaves_no_half_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = started(path, n=1)

    def torn(fd: int) -> None:
        os.ftruncate(fd, os.fstat(fd).st_size - 7)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", torn)
        with pytest.warns(ProbeWarning, match="to write step 1 to"):
            journal.record(1, {"v": NUMBERS[1]})
    journal.record(2, {"v": NUMBERS[0]})
    assert load(path)["step"].values.tolist() == [0, 1, 2]


def test_what_is_pending_is_written_at_the_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = started(path, n=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(1, os.fsync))
        with pytest.warns(ProbeWarning, match="to write step 1 to"):
            journal.record(1, {"v": NUMBERS[1]})
    journal.close()
    assert load(path)["step"].values.tolist() == read_netcdf(path)["step"].values.tolist() == [0, 1]


def test_a_snapshot_that_fails_is_a_warning_and_the_journal_has_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = started(path, n=1)
    with monkeypatch.context() as patch:
        patch.setattr(xr.Dataset, "to_netcdf", failing(1, None))
        with pytest.warns(ProbeWarning, match="to write step 1 to"):
            journal.record(1, {"v": NUMBERS[1]})
    assert load(path)["step"].values.tolist() == [0, 1]


@pytest.mark.parametrize("lost", ["journal", "all files", "folder"])
def test_a_journal_that_was_deleted_is_made_again_with_all_observations(tmp_path: Path, lost: str) -> None:
    path = tmp_path / "folder" / "run.nc"
    path.parent.mkdir()
    journal = started(path, n=2)
    if lost == "journal":
        journal_of(path).unlink()
    else:
        shutil.rmtree(path.parent)
    if lost == "folder":
        with pytest.warns(ProbeWarning, match="to write step 2 to .*No such file"):
            journal.record(2, {"v": NUMBERS[0]})
    if lost != "journal":
        path.parent.mkdir()
    with pytest.warns(ProbeWarning, match="got none; it is written again with all observations"):
        journal.record(3, {"v": NUMBERS[0]})
    xr.testing.assert_identical(load(path), journal.dataset())
    journal.record(4, {"v": NUMBERS[0]})
    journal.close()
    assert read_netcdf(path)["step"].values.tolist() == [0, 1, *([2] if lost == "folder" else []), 3, 4]
    xr.testing.assert_identical(read_netcdf(path), load(path))


def test_a_journal_that_is_lost_before_the_end_is_made_again_at_the_end(path: Path) -> None:
    journal = started(path, n=2)
    journal_of(path).unlink()
    with pytest.warns(ProbeWarning, match="written again"):
        journal.close()
    xr.testing.assert_identical(load(path), journal.dataset())


def test_a_folder_that_is_moved_away_and_back_has_no_gap(tmp_path: Path) -> None:
    path, away = tmp_path / "folder" / "run.nc", tmp_path / "away"
    path.parent.mkdir()
    journal = started(path, n=2)
    path.parent.rename(away)
    with pytest.warns(ProbeWarning, match="stay in memory"):
        journal.record(2, {"v": NUMBERS[0]})
    away.rename(path.parent)
    journal.record(3, {"v": NUMBERS[0]})
    assert load(path)["step"].values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("stands", ["a recording", "a saved series", "a file as folder"])
def test_a_folder_that_another_one_replaces_is_left_alone(tmp_path: Path, stands: str) -> None:
    path = tmp_path / "folder" / "run.nc"
    path.parent.mkdir()
    journal = started(path, n=2)
    path.parent.rename(tmp_path / "away")
    if stands == "a file as folder":
        path.parent.write_text("other")
    else:
        path.parent.mkdir()
        if stands == "a recording":
            started(path, n=5).close()
        else:
            save(journal.dataset().isel(step=[1]), path)
    before = {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()}
    with pytest.warns(ProbeWarning, match="to write step 2"):
        journal.record(2, {"v": NUMBERS[0]})
    with pytest.raises(OSError, match="got another file" if stands != "a file as folder" else "existing folder"):
        journal.close()
    assert {file: file.read_bytes() for file in path.parent.rglob("*") if file.is_file()} == before
    assert journal.dataset()["step"].values.tolist() == [0, 1, 2], "nothing is lost"


# -- modes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("left", ["both", "journal", "file"])
def test_files_that_exist_are_not_touched_without_a_mode(path: Path, left: str) -> None:
    started(path, n=2).close()
    if left != "both":
        (path if left == "journal" else journal_of(path)).unlink()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(FileExistsError, match=r"mode='resume'\) continues it, mode='overwrite' replaces it"):
        Journal(path, HEADER)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_overwrite_starts_anew(path: Path) -> None:
    started(path, n=5).close()
    started(path, mode="overwrite", n=2)
    assert load(path).sizes["step"] == 2


def test_resume_appends_and_replaces(path: Path) -> None:
    started(path, n=3)
    journal = Journal(path, HEADER, mode="resume")
    journal.record(2, {"v": np.array([7.0, 8.0])})
    journal.record(9, {"v": np.array([9.0, 9.0])})
    journal.close()
    found = read_netcdf(path)
    assert found["step"].values.tolist() == [0, 1, 2, 9]
    assert found["v"].sel(step=2).values.tolist() == [7, 8]
    xr.testing.assert_identical(load(path), found)


def test_resume_refuses_another_configuration_and_names_it(path: Path) -> None:
    started(path, n=1)
    other = {**HEADER, "configuration": {"probes": ["two"], "pair": (1, 2)}}
    with pytest.raises(ValueError, match=r"another configuration \(probes: recorded \['one'\], now \['two'\]\)"):
        Journal(path, other, mode="resume")


def configured(estimator: str = "Some", **parameters: Any) -> dict[str, Any]:
    return {**HEADER, "configuration": {"probes": {"one": {"estimator": estimator, "parameters": parameters}}}}


def test_parameters_that_the_probe_has_now_are_ignored_with_a_note(path: Path) -> None:
    """A parameter was renamed since."""
    Journal(path, configured(n_samples=96)).close()
    with pytest.warns(ProbeWarning, match=r"n_samples \(recorded 96, no longer .*max_samples \(new, 96\);"):
        Journal(path, configured(max_samples=96), mode="resume").close()


def test_parameters_that_the_probe_no_longer_has_are_ignored_with_a_note(path: Path) -> None:
    Journal(path, configured(seed=3, device=None, top=5)).close()
    with pytest.warns(ProbeWarning, match=r"one\.seed \(recorded 3, no longer a parameter\);"):
        Journal(path, configured(top=5), mode="resume").close()


@pytest.mark.parametrize(
    ("new", "difference"),
    [
        (configured(top=6), r"probes\.one\.parameters\.top: recorded 5, now 6"),
        (configured("Other", top=5), r"probes\.one\.estimator: recorded 'Some', now 'Other'"),
        ({**HEADER, "configuration": {"probes": {}}}, r"probes\.one: recorded"),
        ({**HEADER, "configuration": {"probes": ["one"]}}, r"probes: recorded"),
    ],
)
def test_other_differences_stop_a_resume(path: Path, new: dict[str, Any], difference: str) -> None:
    Journal(path, configured(seed=3, top=5)).close()
    with pytest.raises(ValueError, match=rf"another configuration \({difference}"):
        Journal(path, new, mode="resume")


@pytest.mark.parametrize(
    ("mode", "error", "message"),
    [
        ("append", ValueError, "Expected mode None, 'resume' or 'overwrite'"),
        ("resume", FileNotFoundError, "start anew"),
    ],
)
def test_other_modes_are_errors_with_advice(path: Path, mode: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Journal(path, HEADER, mode=mode)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Expected an existing folder .*nowhere.*make it"):
        Journal(tmp_path / "nowhere" / "run.nc", HEADER)


def test_a_folder_that_cannot_be_written_is_an_error_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(file: Any, *_: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(file))

    monkeypatch.setattr(os, "open", denied, raising=False)
    with pytest.raises(PermissionError, match=r"Permission denied: .*run\.nc\.journal"):
        Journal(path, HEADER)


def test_labels_that_are_not_finite_survive_the_file(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run.nc", HEADER)
    journal.declare(Variable("v", ("noise",), {"noise": [0.1, float("inf")]}))
    journal.record(0, {"v": np.array([1.0, -np.inf])})
    found = load(tmp_path / "run.nc")
    assert found["noise"].values.tolist() == [0.1, float("inf")]
    assert found["v"].values.tolist() == [[1.0, -np.inf]]


def test_without_a_path_all_is_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    journal = Journal(None, HEADER)
    journal.declare(Variable("v"))
    journal.record(0, {"v": np.array(1.0)})
    journal.close()
    assert journal.dataset()["v"].item() == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_recording_that_stands_where_the_files_were_is_left_alone(path: Path, how: str) -> None:
    """The files of a run are taken away, and another run records to the same path."""
    first = started(path, n=3)
    for file in (path, journal_of(path)):
        if file.exists():
            file.unlink() if how == "removed" else file.rename(file.with_name(f"old-{file.name}"))
    second = started(path, n=5)
    second.snapshot()
    before = path.read_bytes(), journal_of(path).read_bytes()
    with pytest.warns(ProbeWarning, match=r"Expected the journal of this recording at .*, got another file"):
        first.record(7, {"v": NUMBERS[0]})
    with pytest.raises(FileNotFoundError, match="save the series elsewhere"):
        first.close()
    assert (path.read_bytes(), journal_of(path).read_bytes()) == before
    assert first.dataset()["step"].values.tolist() == [0, 1, 2, 7], "nothing is lost"
    second.record(8, {"v": NUMBERS[0]})
    second.close()
    assert load(path)["step"].values.tolist() == [0, 1, 2, 3, 4, 8]


# -- overwriting -------------------------------------------------------------------------------------------------------


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.parent.iterdir()}


def kept(path: Path, *, n: int, mode: str | None = None) -> Journal:
    """A recording with a kept value, so that it has all three files."""
    journal = started(path, mode=mode)
    for step in range(n):
        journal.record(step, {"v": NUMBERS[0]}, {"w": np.full(3, step)})
    return journal


def test_a_recording_stays_until_the_first_observation_that_replaces_it_is_on_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept(path, n=5).close()
    before = files(path)
    journal = started(path, mode="overwrite")
    assert {name: files(path)[name] for name in before} == before
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(1, os.fsync))
        with pytest.warns(ProbeWarning, match="to write step 7 to"):
            journal.record(7, {"v": NUMBERS[0]}, {"w": np.full(3, 7)})
    assert {name: files(path)[name] for name in before} == before
    journal.record(8, {"v": NUMBERS[0]}, {"w": np.full(3, 8)})
    assert load(path)["step"].values.tolist() == [7, 8]
    assert set(files(path)) == set(before)
    journal.close()
    again = Journal(path, HEADER, mode="resume")
    np.testing.assert_array_equal(again.kept("w", 9), np.full(3, 8))


@pytest.mark.parametrize("end", ["close", "discard"])
@pytest.mark.parametrize("left", ["all", "file", "journal"])
def test_overwriting_without_an_observation_changes_nothing(path: Path, end: str, left: str) -> None:
    kept(path, n=3).close()
    if left != "all":
        (path if left == "journal" else journal_of(path)).unlink()
    before = files(path)
    journal = started(path, mode="overwrite")
    if end == "close":
        with pytest.warns(
            ProbeWarning, match="Expected an observation to replace the recording .*the old recording st"
        ):
            journal.close()
    else:
        journal.discard()
    assert files(path) == before
    Journal(path, HEADER, mode="overwrite").discard()  # it is not locked


def test_a_process_that_was_killed_before_its_first_observation_leaves_the_recording(path: Path) -> None:
    started(path, n=3).close()
    Path(f"{journal_of(path)}.new").write_bytes(b'{"crc": "torn')
    assert load(path).sizes["step"] == 3
    started(path, mode="overwrite", n=2).close()
    assert load(path).sizes["step"] == 2
    assert set(files(path)) == {"run.nc", "run.nc.journal"}


def test_files_that_another_recording_has_put_in_place_are_not_overwritten(path: Path) -> None:
    """While a recording waits for its first observation, the one that it is to replace is replaced by another."""
    started(path, n=3).close()
    first = started(path, mode="overwrite")
    for file in (path, journal_of(path)):
        file.unlink()
    second = started(path, n=5)
    with pytest.warns(ProbeWarning, match="got another file; put its files back"):
        first.record(0, {"v": NUMBERS[0]})
    second.record(5, {"v": NUMBERS[0]})
    assert load(path)["step"].values.tolist() == [0, 1, 2, 3, 4, 5]


# -- interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Exception ignored.*tmp:pytest.PytestUnraisableExceptionWarning")  # unclosed files
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 37])
def test_an_interruption_between_any_two_lines_leaves_a_readable_file(tmp_path: Path, stride: int) -> None:
    """A variable is declared and recorded, and the n-th line of the recorder that runs is the last one."""
    n, interrupted = 0, True
    while interrupted:
        path = tmp_path / f"{n}.nc"
        journal = started(path, n=1)
        interrupted = run_until_line(n, lambda journal=journal: observed(journal, 1))
        sys.settrace(None)
        observed(journal, 2)
        journal.close()
        found = load(path)
        assert found["lr"].sel(step=2).item() == 0.2
        assert found["step"].values.tolist() in ([0, 1, 2], [0, 2])
        xr.testing.assert_identical(found, load_netcdf_steps(path, found))
        n += stride
    assert n > 300


def observed(journal: Journal, step: int) -> None:
    journal.declare(Variable("lr"))
    journal.record(step, {"v": NUMBERS[0], "lr": np.array(step / 10)})


def load_netcdf_steps(path: Path, found: xr.Dataset) -> xr.Dataset:
    """The NetCDF file; the step that was interrupted between memory and disk may be in it alone."""
    return read_netcdf(path).sel(step=found["step"].values)


def run_until_line(n: int, function: Any) -> bool:
    """Whether the function was interrupted at its n-th line in the recorder."""
    left = [n]

    def trace(frame: Any, event: str, _: Any) -> Any:
        if "probe/recording" not in frame.f_code.co_filename:
            return None
        if event == "line":
            left[0] -= 1
            if left[0] < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        function()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


# -- links -------------------------------------------------------------------------------------------------------------


def test_a_link_to_a_file_records_beside_the_file(tmp_path: Path) -> None:
    real, link = tmp_path / "real" / "run.nc", tmp_path / "link.nc"
    real.parent.mkdir()
    link.symlink_to(real)  # it leads nowhere yet
    journal = started(link, n=3)
    with pytest.raises(FileExistsError):
        Journal(real, HEADER)
    with pytest.raises(BlockingIOError):
        Journal(real, HEADER, mode="overwrite")
    journal.close()
    assert sorted(file.name for file in real.parent.iterdir()) == ["run.nc", "run.nc.journal"]
    assert link.is_symlink()
    xr.testing.assert_identical(load(link), load(real))
    with pytest.raises(FileExistsError, match="save to another path"):
        save(load(link), link)


def test_a_link_to_a_folder_may_lead_elsewhere_later(tmp_path: Path) -> None:
    first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "latest"
    for folder in (first, second):
        folder.mkdir()
    link.symlink_to(first)
    journal = started(link / "run.nc", n=2)
    link.unlink()
    link.symlink_to(second)
    journal.record(2, {"v": NUMBERS[0]})
    journal.close()
    assert load(first / "run.nc").sizes["step"] == 3
    assert not list(second.iterdir())


@pytest.mark.parametrize("suffix", ["", ".journal", ".state"])
def test_links_that_lead_nowhere(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "run.nc"
    Path(f"{path}{suffix}").symlink_to(tmp_path / "nowhere" / "file")
    error, message = (FileExistsError, "exists already") if suffix else (FileNotFoundError, "existing folder .*nowhere")
    with pytest.raises(error, match=message):
        Journal(path, HEADER)
    if suffix:
        started(path, mode="overwrite", n=1)
        assert load(path).sizes["step"] == 1


def test_a_link_to_itself_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "run.nc").symlink_to(tmp_path / "run.nc")
    with pytest.raises(OSError, match="a link that leads to itself; correct the link"):
        Journal(tmp_path / "run.nc", HEADER)


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (2**53 + 1, 1.0),
        (-(2**60), 1.0),
        (1.5, 1.0),
        (float("nan"), 1.0),
        (3, 1 + 2j),
        (3, "text"),
        (3, np.datetime64("NaT")),
    ],
)
def test_what_could_not_be_read_again_is_not_written(path: Path, step: Any, value: Any) -> None:
    journal = Journal(path, {"configuration": {}, "provenance": "{}", "order": {}})
    journal.declare(Variable("v"))
    journal.record(0, {"v": np.array(1.0)})
    with pytest.raises(ValueError, match=r"^Expected .*, got .*; "):
        journal.record(step, {"v": np.asarray(value)})
    assert load(path)["v"].values.tolist() == [1]
    journal.close()
    assert load(path)["v"].values.tolist() == [1]


def test_a_dimension_without_labels_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected at least one label of 'layer', got none"):
        Variable("v", ("layer",), {"layer": []})
