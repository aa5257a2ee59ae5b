"""Train the seeds of one job, each from the step that it has reached."""

from collections.abc import Sequence
from contextlib import ExitStack

import torch

from reference.runs.job import Job, torch_threads
from reference.runs.progress_bar import Progress
from reference.runs.recorder import Member, Outcome
from reference.runs.storage import RunFolder, RunLockedError
from reference.runs.training_loop import TrainingLoop
from reference.training.train_config import TrainConfig


def work(job: Job) -> list[Outcome]:
    """Train the seeds of a job. Errors are returned in the outcomes; only an interruption is raised."""
    progress = Progress(job.name, job.config.steps, bar=job.bar)
    with ExitStack() as stack:
        stack.callback(progress.close)
        stack.enter_context(torch_threads(job.threads))
        members, outcomes = [], []
        for seed in job.seeds:
            try:
                members.append(_open_member(job, seed, stack, progress))
            except (RunLockedError, ValueError, OSError) as error:  # the folder stays unchanged
                outcomes.append(Outcome(seed, "failed", 0, job.folder / f"seed-{seed}", str(error)))
        if members:
            _train(job, members, progress)
        outcomes += [member.outcome for member in members if member.outcome]
    return sorted(outcomes, key=lambda outcome: outcome.seed)


def _open_member(job: Job, seed: int, stack: ExitStack, progress: Progress) -> Member:
    """Lock the folder of a seed until the job ends, and read the state of its run."""
    folder = RunFolder(job.folder / f"seed-{seed}")
    job.torch_device()  # raises before any folder is created
    with ExitStack() as locked:
        locked.enter_context(folder.locked())
        member = Member(folder, job.config, seed, store_weights=job.store_weights, job_provenance=job.provenance())
        stack.push(locked.pop_all())
    if member.outcome is None:
        progress.print(f"seed {seed}: {f'continues after step {member.step:,}' if member.step else 'starts'}")
    if member.outcome is None and not member.has_digest:
        progress.print(f"seed {seed}: checkpoint.pt has no digest, as of an older version; damage would not be found")
    if member.notes:
        progress.print(f"seed {seed}: the curve continues, but not bit by bit: {'; '.join(member.notes)}")
    return member


def _train(job: Job, members: Sequence[Member], progress: Progress) -> None:
    """Train all members to their ends. An error of the engine ends all active members."""
    loop = TrainingLoop(job, members, progress)
    out_of_memory = False
    try:
        loop.run()
    except KeyboardInterrupt:
        loop.interrupt()
        raise
    except Exception as error:
        out_of_memory = is_out_of_memory(error)  # the GPU memory is free only after this exception is gone
        if not out_of_memory:
            loop.fail(error)
    finally:
        loop.close()
    if out_of_memory:
        loop.free_memory()
        message = (
            f"Expected {len(loop.active)} seeds to fit in the memory of one GPU, got out of memory; about "
            f"{seeds_that_fit(job.config, loop.device)} would fit. Give fewer --seeds at a time, or use more GPUs. "
            "The recorded steps are saved."
        )
        loop.fail(torch.cuda.OutOfMemoryError(message))


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error is, or was caused by, a lack of GPU memory; a compiler raises its own error then."""
    direct = isinstance(error, torch.cuda.OutOfMemoryError)
    return direct or (error is not None and is_out_of_memory(error.__cause__ or error.__context__))


def seeds_that_fit(config: TrainConfig, device: torch.device) -> int:
    """Estimate how many seeds fit: free memory over the memory of one seed in a trial step without compilation."""
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
