"""``probe watch`` follows logs that a process writes, until Ctrl-C or a closed pipe."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from helpers import start_fork

from probe.__main__ import main
from probe.cli import watching

LOGS = Path(__file__).parent / "logs"
Captured = pytest.CaptureFixture[str]
HEADER = "step,train_accuracy,val_accuracy\n"


def row(step: int) -> str:
    """Training accuracy is 1 from step 10, validation accuracy from step 40."""
    return f"{step},{min(1, step / 10)},{min(1, max(0, step - 30) / 10)}\n"


@contextmanager
def watched(*options: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "probe", "watch", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=cwd) as process:
        timer = Timer(60, process.kill)
        timer.start()
        try:
            yield process
        finally:
            timer.cancel()
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    line = process.stdout.readline()
    assert line, "the command has ended"
    return line


def test_a_growing_log_is_followed_until_ctrl_c(tmp_path: Path, capsys: Captured) -> None:
    """The log does not exist at first; a process appends rows in pieces. The last line is what detect prints."""
    writer = (
        "import sys, time\nlog = open('log.csv', 'a')\nfor line in sys.stdin:\n    for part in (line[:3], line[3:]):\n"
        "        log.write(part); log.flush(); time.sleep(0.002)\n"
    )
    with watched("log.csv", "--json", "--every", "0.1", cwd=tmp_path) as process:
        assert json.loads(line_of(process))["kind"] == "not_found"
        rows = HEADER + "".join(row(step) for step in range(60))
        subprocess.run([sys.executable, "-c", writer], input=rows, text=True, cwd=tmp_path, check=True)
        found: dict[str, Any] = {}
        while {one["marker"]: one["status"] for one in found.get("markers", [])}.get("end") != "found":
            found = json.loads(line_of(process))
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
    assert main(["detect", str(tmp_path / "log.csv"), "--json"]) == 0
    last = [json.loads(line) for line in rest.splitlines()] or [found]
    assert last[-1] == json.loads(capsys.readouterr().out)


@pytest.mark.skipif(not hasattr(select, "poll"), reason="needs poll")
def test_a_closed_pipe_ends_it_although_nothing_changes(tmp_path: Path) -> None:
    """As in ``probe watch log.csv | head -3``; and waiting takes next to no CPU time."""
    log, errors = tmp_path / "log.csv", tmp_path / "errors"
    log.write_text(HEADER + "".join(row(step) for step in range(60)))
    reading, writing = os.pipe()

    def watch() -> int:
        os.close(reading)
        sys.stdout, sys.stderr = open(writing, "w"), open(errors, "w")  # noqa: SIM115
        return main(["watch", str(log), "--every", "0.05"])

    process = start_fork(watch)
    os.close(writing)
    timer = Timer(60, os.kill, (process, signal.SIGKILL))
    timer.start()
    try:
        with open(reading) as lines:
            while not (line := lines.readline()).startswith("- end: the test accuracy reaches its threshold at step 4"):
                assert line, "the command has ended"
            before = cpu_seconds(process)
            time.sleep(2)
            assert cpu_seconds(process) - before <= 0.1  # 40 looks
    finally:
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        timer.cancel()
    assert (code, errors.read_text()) == (0, "")


def cpu_seconds(pid: int) -> float:
    """CPU time of another process, on Linux; else 0."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.exists():
        return 0.0
    fields = stat.read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def writes(path: str, text: str, mode: str = "w") -> Any:
    def write() -> None:
        with open(path, mode) as file:
            file.write(text)

    return write


def test_only_what_changed_is_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    """A log is appended to, cut off within a line, truncated, removed, and written anew."""
    monkeypatch.chdir(tmp_path)
    outputs: list[tuple[str, str]] = []
    early, late = "".join(map(row, range(25))), "".join(map(row, range(25, 60)))
    actions = iter(
        [
            writes("log.csv", HEADER + early),
            lambda: None,
            writes("log.csv", late + "60,1", "a"),
            writes("log.csv", ".0,1", "a"),
            writes("log.csv", HEADER),
            lambda: None,
            lambda: os.remove("log.csv"),
            lambda: None,
            writes("new.csv", HEADER + "".join(map(row, range(16)))),
            lambda: os.replace("new.csv", "log.csv"),
        ]
    )

    def wait(seconds: float) -> bool:
        outputs.append(capsys.readouterr())
        next(actions, lambda: signal.raise_signal(signal.SIGINT))()
        return True

    monkeypatch.setattr(watching, "wait", wait)
    assert main(["watch", "log.csv", "--every", "0.01"]) == 0
    missing, first, same, grown, torn, truncated, again, removed, still, other, replaced = outputs
    assert missing == ("", "probe watch: waiting: Expected a log or a recording at log.csv, got none; check the path\n")
    assert first[0].splitlines()[1].endswith(", step 24, 25 observations")
    assert "- fit end: fitting ends at step 10" in first[0]
    assert same == torn == truncated == removed == other == ("", "")
    assert "the test accuracy reaches its threshold at step 4" in grown[0]
    assert "fitting ends" not in grown[0]
    assert again[1].startswith("probe watch: waiting: Expected ")
    assert still == missing
    assert "The log starts again; it ended at step 59 before." in replaced[0]
    assert "- fit end: fitting ends at step 10" in replaced[0]


@pytest.mark.parametrize("kind", ["tensorboard/plain", "huggingface", "wandb", "mlruns"])
def test_folders_of_any_format_are_followed(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """The largest file is cut off, and then complete. The last line is what detect prints."""
    shutil.copytree(LOGS / kind, tmp_path / "runs")
    largest = max(
        (file for file in (tmp_path / "runs").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
    )
    content = largest.read_bytes()
    largest.write_bytes(content[: len(content) // 2])
    actions = iter([lambda: largest.write_bytes(content)])

    def wait(seconds: float) -> bool:
        next(actions, lambda: signal.raise_signal(signal.SIGINT))()
        return True

    monkeypatch.setattr(watching, "wait", wait)
    assert main(["watch", str(tmp_path / "runs"), "--json"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert main(["detect", str(tmp_path / "runs"), "--json"]) == 0
    assert json.loads(last) == json.loads(capsys.readouterr().out)


def test_a_long_look_is_followed_by_a_long_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """At most a tenth of one core is busy with reading, and a hundredth with looking at what has not changed."""
    (tmp_path / "log.csv").write_text(HEADER + "".join(map(row, range(60))))
    times = iter([100.0, 107.0, 200.0, 200.5, 300.0, 300.001])
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        return len(pauses) < 3

    monkeypatch.setattr(watching, "wait", wait)
    monkeypatch.setattr(watching.time, "process_time", lambda: next(times))
    assert main(["watch", str(tmp_path / "log.csv"), "--every", "5"]) == 0
    assert pauses == [63.0, 49.5, 5.0]


def test_a_warning_whose_numbers_change_is_printed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    lines = [f"{i},{100 - 90 / i:.2f},{i / 2}\n" for i in range(1, 60)]  # in percent, without a unit
    log, ends = tmp_path / "log.csv", iter([40, 50, 59])

    def wait(seconds: float) -> bool:
        end = next(ends, 0)
        log.write_text("".join(["step,train_accuracy,val_accuracy\n", *lines[:end]]))
        return end > 0

    monkeypatch.setattr(watching, "wait", wait)
    log.write_text("".join(["step,train_accuracy,val_accuracy\n", *lines[:30]]))
    assert main(["watch", str(log)]) == 0
    assert capsys.readouterr().err.count("got percent") == 1


@pytest.mark.parametrize("options", [["--every", "0"], ["--every", "nan"], ["--format", "nothing"]])
def test_wrong_options_end_it(options: list[str], tmp_path: Path, capsys: Captured) -> None:
    assert main(["watch", str(tmp_path), *options]) == 2
    assert "Expected " in capsys.readouterr().err


def test_new_numbers_alone_are_printed_after_a_tenth_more_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    """The losses of one run fall, with one row more at each look. Then a second run begins."""

    def write(name: str, n: int) -> None:
        rows = [f"{step},{2 * 0.97**step},{0.5 + 2 * 0.98**step}\n" for step in range(n)]
        (tmp_path / "runs").mkdir(exist_ok=True)
        (tmp_path / "runs" / name).write_text("step,train_loss,val_loss\n" + "".join(rows))

    later = iter([*(("a.csv", n) for n in range(31, 36)), ("b.csv", 20)])

    def wait(seconds: float) -> bool:
        if (file := next(later, None)) is not None:
            write(*file)
        return file is not None

    write("a.csv", 30)
    monkeypatch.setattr(watching, "wait", wait)
    assert main(["watch", str(tmp_path / "runs"), "--every", "1"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line[2:3] == ":"]
    assert [title.partition(", ")[2] for title in titles] == [
        "step 29, 30 observations",
        "step 32, 33 observations",
        "step 34, 35 observations, 2 runs, the shortest at 19",
    ]
