"""The loop of a job: train members, evaluate them and record them."""

import gc
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import torch

from reference.runs.job import Job, make_engine
from reference.runs.progress_bar import Progress
from reference.runs.recorder import Member
from reference.training.trainer import Engine


class TrainingLoop:
    """Train the members of a job until each is done or failed.

    Members at the same step are trained together. Members at an earlier step are trained first, until they reach the
    others. A thread writes the files while the next steps are computed.

    Parameters
    ----------
    job : Job
        Configuration, device and options.
    members : sequence of Member
        The seeds, with locked folders.
    progress : Progress
        Shows steps and messages.
    """

    def __init__(self, job: Job, members: Sequence[Member], progress: Progress) -> None:
        self.job, self.members, self.progress, self.device = job, members, progress, job.torch_device()
        self._writer = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._saved = time.monotonic()

    @property
    def active(self) -> list[Member]:
        """Members that are neither done nor failed."""
        return [member for member in self.members if member.outcome is None]

    def run(self) -> None:
        """Train until no member is active."""
        while active := self.active:
            start = min(member.step for member in active)
            until = min((member.step for member in active if member.step > start), default=self.job.config.steps)
            with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
                self._train_together([member for member in active if member.step == start], start, until)

    def _train_together(self, members: Sequence[Member], start: int, until: int) -> None:
        """Train members of the same step up to a later step."""
        self.free_memory()
        engine = make_engine(self.job, [member.seed for member in members], str(self.device))
        if any(member.state for member in members):
            initial = engine.states()
            engine.load([member.state or state for member, state in zip(members, initial, strict=True)])
        for step in self.job.config.evaluations():
            if start <= step <= until and any(member.outcome is None for member in members):
                engine.advance(step - engine.step)
                self._evaluate(engine, members, last=step == until)
        self._wait_for_writer()
        ended = until == self.job.config.steps
        for member in members:
            if member.outcome is None:
                self._attempt(member, member.finish if ended else partial(member.check, until, {}))

    def _evaluate(self, engine: Engine, members: Sequence[Member], *, last: bool) -> None:
        curves, seconds = self._timed_curves(engine, len(members))
        checkpoint = time.monotonic() - self._saved >= self.job.checkpoint_seconds
        needed = checkpoint or last or any(member.stores_weights_at(engine.step) for member in members)
        states = engine.states() if needed else [None] * len(members)  # costs about ten steps on a GPU
        self._wait_for_writer()
        writing, accuracies = [], {}
        for member, values, state, finite in zip(members, curves, states, engine.finite.tolist(), strict=True):
            if member.outcome is None:
                self._attempt(member, partial(member.check, engine.step, values, all_finite=finite))
            if member.outcome is None:
                writing.append(partial(member.write, engine.step, state, values, seconds, checkpoint=checkpoint))
                accuracies[member.seed] = values["test_accuracy"]
        self._pending = self._writer.submit(_call_all, writing)
        self._saved = time.monotonic() if checkpoint else self._saved
        self.progress.show(engine.step, list(accuracies), list(accuracies.values()))

    def _timed_curves(self, engine: Engine, n: int) -> tuple[list[dict[str, float]], float]:
        """Evaluate, and return the curves and the seconds for each member."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # queued training steps do not count as evaluation time
        begin = time.perf_counter()
        curves = engine.evaluate()
        return curves, (time.perf_counter() - begin) / n

    def _attempt(self, member: Member, call: Callable[[], None]) -> None:
        """Call a method of a member; an error ends this member only."""
        try:
            call()
        except Exception as error:
            member.fail(error)
        if member.outcome is not None:
            self.progress.print(str(member.outcome))

    def _wait_for_writer(self) -> None:
        if self._pending is not None:
            self._pending.result()

    # -- endings ---------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Save the last state that was read of each active member."""
        self.close()
        for member in self.active:
            try:
                member.stop()
                result = "saved"
            except Exception as error:  # the other members must still be saved
                result = f"could not be saved ({error}), will continue from the checkpoint"
            self.progress.print(f"seed {member.seed}: interrupted; {result} at step {member.saved:,}")

    def fail(self, error: Exception) -> None:
        """End all active members with this error."""
        self.close()
        for member in self.active:
            member.fail(error)
            self.progress.print(str(member.outcome))

    def free_memory(self) -> None:
        """Free unused memory of the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Wait until all files are written."""
        self._writer.shutdown()


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
