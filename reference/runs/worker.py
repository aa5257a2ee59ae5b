"""One job: train some seeds of a configuration on one device, from where each stands, and record them."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from reference.runs.progress_bar import Progress
from reference.runs.recorder import Member, Outcome
from reference.runs.storage import RunFolder, RunLockedError
from reference.training.trainer import Engine, TrainConfig, Trainer


@dataclass(frozen=True, kw_only=True)
class Job:
    """What a worker is asked to do; picklable."""

    name: str
    config: TrainConfig
    seeds: tuple[int, ...]
    folder: Path  # of the configuration
    device: str  # "cpu" or "cuda"
    number: int  # of the job: it takes the GPU of this number, counted round
    together: bool  # one Ensemble of all seeds, else a Trainer of one
    compiled: bool | None
    threads: int
    keep: str
    checkpoint_seconds: float
    bar: bool

    def where(self) -> torch.device:
        """The device of this job, asked for where it runs."""
        if self.device == "cpu":
            return torch.device("cpu")
        if not (n := torch.cuda.device_count()):
            raise ValueError("Expected a GPU where this job runs, came a worker without. Use others, or --device cpu.")
        return torch.device(f"cuda:{self.number % n}")

    def facts(self) -> dict[str, object]:
        """How it is trained, for the provenance."""
        default = self.together and self.device == "cuda"
        names = {"name": "ensemble", "seeds": list(self.seeds)} if self.together else {"name": "solo"}
        engine = {**names, "compiled": default if self.compiled is None else self.compiled}
        return {"engine": engine, "device": self.device, "threads": self.threads}


def work(job: Job) -> list[Outcome]:
    """Train the seeds of a job. What goes wrong is in the outcomes; only an interruption is raised."""
    progress = Progress(job.name, job.config.steps, bar=job.bar)
    with ExitStack() as stack:
        stack.callback(progress.close)
        stack.enter_context(threads(job.threads))
        members, outcomes = [], []
        for seed in job.seeds:
            try:
                members.append(_enter(job, seed, stack, progress))
            except (RunLockedError, ValueError, OSError) as error:  # the folder is left as it is
                outcomes.append(Outcome(seed, "failed", 0, job.folder / f"seed-{seed}", str(error)))
        if members:
            _train(job, members, progress)
        outcomes += [member.outcome for member in members if member.outcome]
    return sorted(outcomes, key=lambda one: one.seed)


def _enter(job: Job, seed: int, stack: ExitStack, progress: Progress) -> Member:
    """Lock the folder of a seed and see where it stands."""
    folder = RunFolder(job.folder / f"seed-{seed}")
    job.where()  # before anything is made
    with ExitStack() as locked:
        locked.enter_context(folder.locked())
        member = Member(folder, job.config, seed, keep=job.keep, facts=job.facts())
        stack.push(locked.pop_all())  # held until the job ends
    if member.outcome is None:
        progress.say(f"seed {seed}: {f'goes on after step {member.step:,}' if member.step else 'starts'}")
    if member.notes:
        progress.say(f"seed {seed}: the curve goes on, but not to the same bits: {'; '.join(member.notes)}")
    return member


@contextmanager
def threads(n: int) -> Iterator[None]:
    """So many threads of torch, and afterwards as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _train(job: Job, members: Sequence[Member], progress: Progress) -> None:
    """All members to their ends; an error ends those that are left."""
    laps = TrainingLoop(job, members, progress)
    crowded = False
    try:
        laps.run()
    except KeyboardInterrupt:
        laps.interrupt()
        raise
    except Exception as error:
        crowded = _out_of_memory(error)  # what is on the GPU is free only when this exception is gone
        if not crowded:
            laps.end(error)
    finally:
        laps.close()
    if crowded:
        laps.release()
        told = (
            f"Expected {len(laps.alive)} seeds to fit in the memory of one GPU together, came out of memory. About "
            f"{fitting(job.config, laps.device)} would fit: ask for fewer --seeds at a time, or use more GPUs. "
            "What was recorded is kept."
        )
        laps.end(torch.cuda.OutOfMemoryError(told))


def _out_of_memory(error: BaseException | None) -> bool:
    """Also where a compiler, or what captures a graph, raised something else upon it."""
    crowded = isinstance(error, torch.cuda.OutOfMemoryError)
    return crowded or (error is not None and _out_of_memory(error.__cause__ or error.__context__))


def fitting(config: TrainConfig, device: torch.device) -> int:
    """About how many seeds fit: the free memory over what one seed takes in a trial of a step, not compiled."""
    from reference.training.ensemble import Ensemble  # takes seconds to import

    free = torch.cuda.mem_get_info(device)[0]
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    try:
        trial = Ensemble(config, [0], device=str(device), compiled=False)
        trial.advance(1)
        trial.evaluate()
    except torch.cuda.OutOfMemoryError:
        return 0
    return int(free // max(1, torch.cuda.max_memory_allocated(device) - before))


def make_engine(job: Job, seeds: Sequence[int], device: str) -> Engine:
    """What trains these seeds."""
    if not job.together:
        return Trainer(job.config, seeds[0], device=device, compiled=bool(job.compiled))
    from reference.training.ensemble import Ensemble  # takes seconds to import

    return Ensemble(job.config, seeds, device=device, compiled=job.compiled)


class TrainingLoop:
    """Members that stand at the same step are trained together; those behind first, until they catch up.

    Files are written by a thread of its own while the next steps are made.
    """

    def __init__(self, job: Job, members: Sequence[Member], progress: Progress) -> None:
        self.job, self.members, self.progress, self.device = job, members, progress, job.where()
        self._writer = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None
        self._saved = time.monotonic()

    @property
    def alive(self) -> list[Member]:
        """Members that are neither done nor failed."""
        return [member for member in self.members if member.outcome is None]

    def run(self) -> None:
        """Until nobody is alive."""
        while alive := self.alive:
            start = min(member.step for member in alive)
            until = min((member.step for member in alive if member.step > start), default=self.job.config.steps)
            with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
                self._lap([member for member in alive if member.step == start], start, until)

    def _lap(self, members: Sequence[Member], start: int, until: int) -> None:
        self.release()
        engine = make_engine(self.job, [member.seed for member in members], str(self.device))
        if any(member.state for member in members):
            fresh = engine.states()
            engine.load([member.state or state for member, state in zip(members, fresh, strict=True)])
        for step in self.job.config.evaluations():
            if start <= step <= until and any(member.outcome is None for member in members):
                engine.advance(step - engine.step)
                self._evaluate(engine, members, last=step == until)
        self._flush()
        ended = until == self.job.config.steps
        for member in members:
            if member.outcome is None:
                self._attempt(member, member.finish if ended else partial(member.check, until, {}))

    def _evaluate(self, engine: Engine, members: Sequence[Member], *, last: bool) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()  # so that the time is that of the evaluation
        begin = time.perf_counter()
        curves = engine.evaluate()
        seconds = (time.perf_counter() - begin) / len(members)
        checkpoint = time.monotonic() - self._saved >= self.job.checkpoint_seconds
        needed = checkpoint or last or any(member.needs(engine.step) for member in members)
        states = engine.states() if needed else [None] * len(members)  # takes as long as some ten steps on a GPU
        self._flush()
        writing, accuracies = [], {}
        for member, values, state, good in zip(members, curves, states, engine.finite.tolist(), strict=True):
            if member.outcome is None:
                self._attempt(member, partial(member.check, engine.step, values, all_finite=good))
            if member.outcome is None:
                writing.append(partial(member.write, engine.step, state, values, seconds, checkpoint=checkpoint))
                accuracies[member.seed] = values["test_accuracy"]
        self._pending = self._writer.submit(_all, writing)
        self._saved = time.monotonic() if checkpoint else self._saved
        self.progress.show(engine.step, list(accuracies), list(accuracies.values()))

    def _attempt(self, member: Member, call: Callable[[], None]) -> None:
        """What goes wrong ends this member only."""
        try:
            call()
        except Exception as error:
            member.fail(error)
        if member.outcome is not None:
            self.progress.say(str(member.outcome))

    def _flush(self) -> None:
        if self._pending is not None:
            self._pending.result()

    # --- endings -----------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Save all as they were when their states were last taken."""
        self.close()
        for member in self.alive:
            try:
                member.stop()
                told = "saved"
            except Exception as error:  # the others must be saved nevertheless
                told = f"could not be saved ({error}), goes on from what was"
            self.progress.say(f"seed {member.seed}: interrupted; {told} at step {member.saved:,}")

    def end(self, error: Exception) -> None:
        """Nobody can go on."""
        self.close()
        for member in self.alive:
            member.fail(error)
            self.progress.say(str(member.outcome))

    def release(self) -> None:
        """Give the memory of the device back."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Wait until all is written."""
        self._writer.shutdown()


def _all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
