"""Exit codes of the commands, and their errors as text and as JSON."""

import json
import os
import sys
from pathlib import Path

import pytest
from helpers import in_fork

from probe.__main__ import main
from probe.cli import logs

NAMES = "step,train_loss,val_loss,train_accuracy,val_accuracy\n"
LOG = NAMES + "".join(f"{i},{1 / (i + 1)},{2 / (i + 1)},{min(1, i / 9)},{i / 19}\n" for i in range(20))
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "other.csv").write_text("step,reward\n" + "".join(f"{i},{i}\n" for i in range(9)))
    (tmp_path / "there.nc").write_text("")
    return tmp_path


@pytest.mark.parametrize(
    ("command", "kind", "error", "advice"),
    [
        ("detect none.csv", "not_found", "Expected a log or a recording at none.csv, got none", "check the path"),
        ("detect log.csv --test-los x", "usage", "unrecognized arguments: --test-los x", "probe detect --help lists"),
        ("detct log.csv", "usage", "invalid choice: 'detct'", "probe --help lists the options"),
        ("detect log.csv --chance many", "usage", "invalid float value: 'many'", "probe detect --help lists"),
        ("detect log.csv --test-loss val_los", "input", "got 'val_los'", "near names: val_loss"),
        ("detect other.csv", "input", "got reward", "give yours with train_loss= (--train-loss)"),
        ("convert log.csv there.nc", "exists", "got there.nc, which exists already", "pass --overwrite"),
        ("plot log.csv -o nowhere/x.png", "not_found", "nowhere", "make it"),
        ("info log.csv --format nothing", "input", "got 'nothing'", "choose one of them"),
    ],
)
def test_an_error_has_a_kind_and_an_advice(command: str, kind: str, error: str, advice: str, capsys: Captured) -> None:
    """With --json it is one object on stdout; without, one message on stderr and nothing on stdout."""
    assert main([*command.split(), "--json"]) == 2
    printed = json.loads(capsys.readouterr().out)
    assert set(printed) == {"error", "kind", "advice"}
    assert printed["kind"] == kind
    assert error in printed["error"]
    assert advice in printed["advice"]
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert not out
    assert f"{printed['error']}; {printed['advice']}" in err


@pytest.mark.parametrize(("raised", "code", "kind"), [(KeyError("x"), 3, "fault"), (KeyboardInterrupt(), 130, None)])
def test_faults_and_interrupts_have_their_own_codes(
    raised: BaseException, code: int, kind: str | None, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(logs, "read_runs", fail)
    assert main(["detect", "log.csv", "--json"]) == code
    out, err = capsys.readouterr()
    assert json.loads(out)["kind"] == (kind or "interrupted")
    assert ("Traceback" in err) == (kind == "fault")  # for the report
    assert main(["detect", "log.csv"]) == code
    assert not capsys.readouterr().out


def test_results_are_json_that_every_parser_reads(folder: Path, capsys: Captured) -> None:
    """Names with control characters stay what they are, and no command writes NaN."""
    name = 'lr\x7f\x1b[2J\t"'
    (folder / "odd.csv").write_text(LOG.replace("train_loss", name.replace('"', '""').join('""'), 1))

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    for command in ("info odd.csv", "detect odd.csv", "score odd.csv --measures test_loss", "formats", "plot odd.csv"):
        assert main([*command.split(), "--json"]) == 0, command
        content = json.loads(capsys.readouterr().out, parse_constant=refuse)
        if command.startswith("info"):
            assert name in [variable["logged_as"] for variable in content["variables"].values()]


def test_detect_and_score_replace_results_only_if_told(capsys: Captured) -> None:
    for command in ("detect log.csv --out found", "score log.csv --out scores.json"):
        assert main(command.split()) == 0
        assert main(command.split()) == 2
        assert "which exists already; choose another name, or pass --overwrite" in capsys.readouterr().err
        assert main([*command.split(), "--overwrite"]) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs forks")
def test_a_closed_pipe_is_no_error(folder: Path) -> None:
    """As in ``probe formats | head -0``: exit code 0, and nothing on stderr."""
    reading, writing = os.pipe()
    os.close(reading)

    def process() -> int:
        sys.stdout, sys.stderr = open(writing, "w"), open(folder / "errors", "w")  # noqa: SIM115
        return main(["formats"])

    assert in_fork(process) == 0
    os.close(writing)
    assert (folder / "errors").read_text() == ""
