"""What an earlier call has measured: the steps in its recording, and the files that they were measured from."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from probe.checkpoints.finding import Checkpoint
from probe.recording.lines import journal_of
from probe.recording.reading import load
from probe.recording.state import state_of

_WEIGHTS = (".safetensors", ".pt", ".pth", ".tar", ".bin", ".ckpt", ".distcp")
_DESCRIPTIONS = ("config.json", "adapter_config.json", ".metadata")
_N_BLOCKS, _BLOCK = 16, 4096  # what is read of each file, in bytes


class EarlierCall:
    """Steps that need no measurement, since the recording has them and their files are the same.

    A list beside the recording has one line for each observation: step, and size, time and some blocks of each file. A
    line is written after its observation. If the process is killed in between, the step is measured again.

    Parameters
    ----------
    recording
        Path of the recording.
    continues
        Whether its observations are kept.
    """

    def __init__(self, recording: Path, continues: bool) -> None:
        self.file = files_of(recording)
        self._compares = continues and state_of(recording).exists()
        self._steps = {int(step) for step in load(recording)["step"].values} if continues else set()
        if not continues:
            self.file.unlink(missing_ok=True)
        self._marks = dict(_read(self.file))  # of the files that were measured
        self._now: dict[int, str] = {}

    def missing(self, checkpoints: Sequence[Checkpoint], notes: list[str]) -> list[Checkpoint]:
        """Return the checkpoints to measure, and add notes about the others.

        Probes that compare an observation with the one before measure later checkpoints again.
        """
        self._now = {one.step: mark_of(one) for one in checkpoints}
        there = [one for one in checkpoints if one.step in self._steps]
        replaced = [one for one in there if self._now[one.step] != self._marks.get(one.step)]
        missing = [one for one in checkpoints if one in replaced or one.step not in self._steps]
        if missing and self._compares:
            missing = [one for one in checkpoints if one.step >= missing[0].step]
        if replaced:
            steps = ", ".join(str(one.step) for one in replaced[:8]) + (", ..." if len(replaced) > 8 else "")
            notes.append(f"measured again, since the files differ from those of the earlier call: step {steps}")
        if kept := len(self._steps - {one.step for one in missing}):
            notes.append(f"{kept} of the steps were measured in an earlier call")
        return missing

    def add(self, checkpoint: Checkpoint) -> None:
        """Add a checkpoint whose observation is on the disk."""
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps([checkpoint.step, self._now[checkpoint.step]]) + "\n")


def files_of(recording: Path) -> Path:
    """Return the path of the list of files of a recording."""
    return journal_of(recording).with_suffix(".files")


def mark_of(checkpoint: Checkpoint) -> str:
    """Return a text that changes if the files of the checkpoint are replaced: size, time and blocks of each."""
    if checkpoint.path is None:
        return "function"
    try:
        return _mark(checkpoint.path)
    except OSError:  # removed in the meantime
        return "unreadable"


def _mark(path: Path) -> str:
    content = hashlib.blake2b(digest_size=16)
    for file in _weights_of(path):
        facts = file.stat()
        content.update(f"{file.relative_to(path)} {facts.st_size} {facts.st_mtime_ns} ".encode())
        with file.open("rb") as opened:
            for i in range(_N_BLOCKS):
                opened.seek(max(0, facts.st_size - _BLOCK) * i // (_N_BLOCKS - 1))
                content.update(opened.read(_BLOCK))
    return content.hexdigest()


def _weights_of(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and (file.suffix in _WEIGHTS or file.name.endswith(_DESCRIPTIONS))
    )


def _read(file: Path) -> Iterator[tuple[int, str]]:
    """Yield steps and marks. A line that was cut off has none."""
    if file.exists():
        for line in file.read_text(encoding="utf-8").splitlines():
            with suppress(ValueError):
                step, mark = json.loads(line)
                yield step, mark
