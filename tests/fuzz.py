"""Damage files in ways that happen and in ways that somebody may try, and judge what the readers make of them.

A trial is a number: the same number damages a file in the same way. Its outcome is one word of `GOOD`, or a description
of the fault. To repeat trial 17 of a kind: ``trial(kind, 17)``.
"""

import contextlib
import io
import json
import re
import resource
import signal
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from probe.__main__ import main
from probe.recording.digest import DIGEST_BYTES
from probe.recording.lines import with_checksums

GOOD = {
    "right": "the numbers of the undamaged file",
    "error": "a clear error",
    "last line lost": "the right numbers but for the last line, with a warning",
    "lost and said": "a kept value is lost, with a warning",
    "lines missing": "a journal that ends at the end of a line, as after a crash",
    "accepted": "what was written with right checksums, or claims what it likes without a digest",
}
SECONDS = 10
MEMORY = 3 * 2**30  # bytes beyond those in use
FORM = re.compile(r"Expected .+, got .+[;.] ?.+", re.DOTALL)

Damage = Callable[[bytes, np.random.Generator], bytes]


@dataclass
class Kind:
    """A file, how to read it, and how to judge what was read.

    ``judge`` returns an outcome for the value that ``read`` returned and the texts of its warnings. ``damages`` are
    added to those of all kinds. ``command`` is the path for the commands, if they read this kind; each ``every``-th
    trial runs them. ``memory`` is the limit in bytes.
    """

    file: Path
    read: Callable[[], Any]
    judge: Callable[[Any, str], str]
    damages: Mapping[str, Damage]
    command: Path | None = None
    commands: tuple[str, ...] = ("info",)
    every: int = 4
    memory: int = MEMORY


def run(kind: Kind, trials: range) -> tuple[Counter[str], dict[int, str]]:
    """Return the number of trials by outcome, and the faults by trial."""
    outcomes = {number: trial(kind, number) for number in trials}
    faults = {number: outcome for number, outcome in outcomes.items() if outcome.split(": ")[1] not in GOOD}
    return Counter(outcome.split(": ")[1].split(" at")[0] for outcome in outcomes.values()), faults


def trial(kind: Kind, number: int) -> str:
    """Damage the file, read it, restore it, and return damage and outcome."""
    rng = np.random.default_rng(number)
    damages = {**DAMAGES, **kind.damages}
    name = list(damages)[rng.integers(len(damages))]
    original = kind.file.read_bytes()
    kind.file.write_bytes(damages[name](original, rng))
    try:
        with limits(kind.memory):
            return f"{name}: {outcome(kind, commands=not number % kind.every)}"
    finally:
        kind.file.write_bytes(original)


def outcome(kind: Kind, *, commands: bool = True) -> str:
    """Read the file as it is, and return the outcome."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = kind.judge(kind.read(), " ".join(str(warning.message) for warning in caught))
        except (ValueError, OSError) as error:
            found = "error" if FORM.match(str(error)) else f"a message of another form: {error}"
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
    readable = slice(None if found == "error" else 1)  # a figure takes a second, and is not what is tried
    for command in kind.commands[readable] if commands and kind.command and found in GOOD else ():
        found = _of_command(command, kind.command, failed=found == "error") or found
    return found


def _of_command(command: str, path: Path, *, failed: bool) -> str:
    """Return the fault of a command; "" if there is none."""
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([command, str(path)])
    except BaseException as error:
        return f"{type(error).__name__} of probe {command}: {error}"
    last = (err.getvalue().splitlines() or [""])[-1]
    if code == 2 and not re.match(f"probe {command}: Expected ", last):
        return f"a message of probe {command} of another form: {err.getvalue()}"
    return f"exit code {code} of probe {command}" if failed and code != 2 else ""


@contextlib.contextmanager
def limits(memory: int = MEMORY) -> Iterator[None]:
    """Bound the time, and the memory in bytes beyond that in use."""

    def hangs(*_: Any) -> None:
        raise TimeoutError(f"no end after {SECONDS} s")

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = {kind: signal.signal(kind, hangs) for kind in (signal.SIGALRM, signal.SIGPROF)}
    signal.setitimer(signal.ITIMER_PROF, SECONDS)  # CPU time, because other programs may run
    signal.alarm(20 * SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.alarm(0)
        signal.setitimer(signal.ITIMER_PROF, 0)
        for kind, handler in before.items():
            signal.signal(kind, handler)


# -- damages of any file -----------------------------------------------------------------------------------------------


def _flip(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(len(data), size=rng.integers(1, 4)):
        changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def _noise(data: bytes, rng: np.random.Generator) -> bytes:
    start = int(rng.integers(len(data)))
    return data[:start] + rng.bytes(int(rng.integers(1, 40))) + data[start + int(rng.integers(40)) :]


def _zeros(data: bytes, rng: np.random.Generator) -> bytes:
    start, n = int(rng.integers(len(data))), int(rng.integers(1, 600))
    return (data[:start] + bytes(n) + data[start + n :])[: len(data)]


def _moved(data: bytes, rng: np.random.Generator) -> bytes:
    """Exchange, repeat, remove a line, or pieces of a binary file."""
    parts = data.splitlines(keepends=True)
    i, j = (int(k) for k in rng.integers(len(parts), size=2))
    match rng.integers(4):
        case 0:
            parts[i], parts[j] = parts[j], parts[i]
        case 1:
            parts.insert(j, parts[i])
        case 2:
            del parts[i]
        case _:
            parts[i] = parts[i][: len(parts[i]) // 2]
    return b"".join(parts)


DAMAGES: dict[str, Damage] = {
    "truncated": lambda data, rng: data[: rng.integers(len(data))],
    "truncated near the end": lambda data, rng: data[: -int(rng.integers(1, 60))],
    "bits": _flip,
    "more bits": _flip,
    "random bytes": _noise,
    "zeros": _zeros,
    "lines": _moved,
    "repeated": lambda data, rng: data * 2,
    "empty": lambda data, rng: b"",
    "another encoding": lambda data, rng: data.decode("latin-1").encode(
        ["utf-16", "utf-32", "utf-8-sig", "cp037"][rng.integers(4)]
    ),
    "CRLF": lambda data, rng: data.replace(b"\n", b"\r\n"),
    "another file": lambda data, rng: rng.bytes(len(data)),
}


# -- lines that nobody records, with right checksums -------------------------------------------------------------------

_DEEP = '{"kind": "record", "step": 3, "values": {"v": ' + "[" * 100_000 + "]" * 100_000 + "}}"
_LABELS = {"a": list(range(3000)), "b": list(range(3000)), "c": list(range(3000))}
_HUGE = {"kind": "variable", "name": "huge", "dims": ["a", "b", "c"], "coords": _LABELS}
HOSTILE: list[Any] = [
    _DEEP, _HUGE, {**_HUGE, "flag": True}, [1], 7, None, {}, {"kind": "record"}, {"kind": None}, {"kind": ["record"]},
    {"kind": "header"}, {"kind": "record", "step": 3, "values": 3}, {"kind": "record", "step": 3, "values": {"u": 1.0}},
    *({"kind": "record", "step": step, "values": {}} for step in (10**400, -1, "3", 1.5, None, True, [3], 2**63)),
    '{"kind": "record", "step": NaN, "values": {}}', '{"kind": "record", "step": 1e999, "values": {}}',
    *(
        {"kind": "record", "step": 3, "values": {"v": value}}
        for value in (10**400, "x", [1.0], [[1.0, 2.0]], [None] * 10**5, {"float": "nan"}, [1.0, "x"], [1, 10**400], {})
    ),
    {"kind": "record", "step": 3, "values": {"flag": 300}}, {"kind": "record", "step": 3, "values": {}, "kept": 3},
    {"kind": "annotation", "step": 999, "values": {}}, {"kind": "resume"},
    {"kind": "resume", "step": "x", "provenance": "{}"}, {"kind": "resume", "step": None, "provenance": "{"},
    {"kind": "resume", "step": None, "provenance": "[]"}, {"kind": "variable"},
    *(
        {"kind": "variable", "name": "w", "dims": ["a"], "coords": {"a": labels}}
        for labels in ([1, 1], [1, "x"], "xy", None, {}, [[1]], [None], [10**400], [float(10**308)], ["\ud800"])
    ),
    {"kind": "variable", "name": "a/b", "coords": {}}, {"kind": "variable", "name": "step", "coords": {}},
    {"kind": "variable", "name": ["w"], "coords": {}}, {"kind": "variable", "name": "w", "dims": 3, "coords": {}},
    {"kind": "variable", "name": "layer", "coords": {}}, {"kind": "variable", "name": "w", "coords": {}, "units": 3},
    {"kind": "variable", "name": "w", "dims": ["q", "q"], "coords": {"q": [1]}},
    {"kind": "variable", "name": "w", "coords": {}, "attrs": {"x": _LABELS}},
    {"kind": "variable", "name": "w\x1b[2J", "coords": {}}, {"kind": "variable", "name": "w", "coords": {}, "more": 1},
]  # fmt: skip


def hostile(data: bytes, rng: np.random.Generator) -> bytes:
    """Put a line that nobody records into a journal."""
    lines = [re.sub(rb'^\{"crc": "[0-9a-f]{8}", ', b"{", line) for line in data.splitlines()]
    entry = HOSTILE[rng.integers(len(HOSTILE))]
    line = (entry if isinstance(entry, str) else json.dumps(entry)).encode()
    place = int(rng.integers(len(lines) + 1))
    lines[place : place + int(rng.integers(2))] = [line]
    return b"".join(with_checksums(lines, 0)[0])


def claims(data: bytes, rng: np.random.Generator) -> bytes:
    """Let a word in the header of a NetCDF file claim another size, and remove the digest."""
    place = 4 * int(rng.integers(min(len(data) // 4, 300)))
    word = [3000, 2**31 - 1, 2**32 - 1, 2**24, 10][rng.integers(5)]
    data = data.replace(b"probe_digest", b"not_a_digest")
    return data[:place] + word.to_bytes(4, "big") + data[place + 4 : -DIGEST_BYTES]
