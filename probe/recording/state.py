"""Kept values: numbers that a probe needs again at its next observation, in one file beside the journal.

The journal holds the step and a checksum of each kept value, and is written after the file. A value is returned
only if it is the one that the journal names. A value of a later step, of another recording, or of a damaged file is
never returned.
"""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from probe.errors import warn_user
from probe.recording.files import atomic_write

# Attaching observes the step of the checkpoint again, and this needs the value before it. A crash often leaves one
# observation after the checkpoint.
GENERATIONS = 3
# Older values are kept while those of one name fit into this size, so that a small state outlives long gaps between
# checkpoints.
MAX_OLD_BYTES = 2**20
MAX_GENERATIONS = 256
# Float32 weights of 16 million parameters. The file holds three such values and is written at each observation: 192 MiB
# take 1 s at 200 MB/s.
MAX_KEPT_BYTES = 64 * 2**20


def state_of(path: str | os.PathLike[str]) -> Path:
    """Return the path of the kept values of a recording, ``<path>.state``."""
    return Path(f"{os.fspath(path)}.state")


class State:
    """The newest kept values of a recording, by name and step.

    Parameters
    ----------
    path
        File of the values. None: they stay in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._values: dict[str, dict[int, tuple[int, np.ndarray]]] = {}  # name -> step -> (checksum, value)
        self._unwritten = False
        self._fault = ""  # why the file of a resumed recording has no values
        self._process = os.getpid()

    def in_memory(self) -> "State":
        """Return the same values without a file."""
        state = State(None)
        state._values, state._fault = self._values, self._fault
        return state

    def put(self, step: int, values: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Add the values of one observation, and return the checksums by name. :meth:`write` writes them."""
        for name, value in values.items():
            generations = self._values.setdefault(name, {})
            generations.pop(step, None)  # a repeated step becomes the newest
            generations[step] = (checksum(value), value)
            surplus = sum(kept.nbytes for _, kept in generations.values()) - MAX_OLD_BYTES
            for old in list(generations)[:-GENERATIONS]:
                if surplus <= 0 and len(generations) <= MAX_GENERATIONS:
                    break
                surplus -= generations.pop(old)[1].nbytes
        self._unwritten = True
        return {name: self._values[name][step][0] for name in values}

    def get(self, name: str, step: int, expected: int) -> np.ndarray | None:
        """Return a copy of the value of this step. Warn and return None if it is not there, or another value."""
        found, value = self._values.get(name, {}).get(step, (None, None))
        if value is not None and found == expected:
            return value.copy()
        steps = ", ".join(map(str, self._values.get(name, ())))
        held = f"values of steps {steps}" if steps else "none"
        fault = "another value" if value is not None else self._fault or held
        warn_user(
            f"Expected the value of {name!r} that was kept at step {step} in {self._path}, got {fault}; "
            f"{name!r} starts anew. To continue it, resume from a later checkpoint"
        )
        return None

    def write(self, *, again: bool = False) -> None:
        """Write all values to the file if they have changed since they were written, or ``again``.

        If the file cannot be written, the values stay in memory and a warning is issued. The next call tries again.
        """
        self._unwritten = self._unwritten or (again and bool(self._values))
        if self._path is None or not self._unwritten:
            return
        try:
            if os.getpid() != self._process:
                raise PermissionError("this process was forked from the one that records")
            self._write(self._path)
            self._unwritten = False
        except OSError as error:
            warn_user(
                f"Expected to write kept values to {self._path}, got {error}; they stay in memory and are written at "
                "the next observation. If the process ends before, a resumed recording starts anew with them"
            )

    def _write(self, path: Path) -> None:
        entries = [(name, step, *entry) for name, steps in self._values.items() for step, entry in steps.items()]
        index = json.dumps([[name, step] for name, step, _, _ in entries]).encode()
        arrays: dict[str, Any] = {f"value_{i}": value for i, (*_, value) in enumerate(entries)}
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, index=np.frombuffer(index, np.uint8), **arrays)

    def read(self, last: int) -> None:
        """Read the values up to the last recorded step. A missing or damaged file leaves this object empty."""
        assert self._path is not None
        try:
            with open(self._path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
                found: dict[str, dict[int, tuple[int, np.ndarray]]] = {}
                for i, (name, step) in enumerate(json.loads(file["index"].tobytes())):
                    if step <= last:
                        value = file[f"value_{i}"]
                        found.setdefault(name, {})[step] = (checksum(value), value)
            self._values = found
        except FileNotFoundError:
            self._fault = "no such file"
        except Exception as error:  # a damaged archive raises errors of many classes
            self._fault = f"a damaged file ({type(error).__name__}: {error})"


def checksum(value: np.ndarray) -> int:
    """Return a checksum of the type, shape and bytes of an array."""
    start = zlib.crc32(f"{value.dtype.str} {value.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data, start)
