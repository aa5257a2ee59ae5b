"""Calls in other processes by joblib: processes of this machine, or workers of a Dask or Ray cluster."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import joblib
from joblib.parallel import get_active_backend

__all__ = ["in_parallel"]

_LOST = {  # errors of backends for a worker that was killed; a backend that is not loaded raises none of them
    "distributed": ("KilledWorker",),
    "ray.exceptions": ("RayActorError", "WorkerCrashedError", "OutOfMemoryError"),
}


def in_parallel(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int) -> Iterator[Any]:
    """Yield the results of ``function(*task)`` in the order of the tasks, each as soon as the backend allows it.

    Raises
    ------
    RuntimeError
        If a worker was killed, and the backend has not repeated its task with success.
    """
    client = getattr(get_active_backend()[0], "client", None)
    try:
        yield from _by_joblib(function, tasks, n_jobs) if client is None else _by_dask(function, tasks, client)
    except _lost_worker_errors() as error:
        raise RuntimeError(
            "Expected all worker processes to finish, got one that was killed, perhaps for lack of memory; give the "
            "same command again to continue, with fewer jobs (n_jobs, --jobs) to use less memory."
        ) from error


def _by_joblib(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], n_jobs: int) -> Iterator[Any]:
    streams = get_active_backend()[0].supports_return_generator
    size = len(tasks) if streams else n_jobs  # without streams, results arrive after each round of tasks
    for i in range(0, len(tasks), max(1, size)):
        parallel = joblib.Parallel(n_jobs=n_jobs, return_as="generator" if streams else "list", batch_size=1)
        yield from parallel(joblib.delayed(function)(*task) for task in tasks[i : i + size])


def _by_dask(function: Callable[..., Any], tasks: Sequence[tuple[Any, ...]], client: Any) -> Iterator[Any]:
    """Use the client itself: joblib waits without end for a task whose workers were killed."""
    futures = [client.submit(function, *task, pure=False) for task in tasks]
    try:
        while futures:
            yield futures[0].result()
            del futures[0]
    finally:
        client.cancel(futures)


def _lost_worker_errors() -> tuple[type[BaseException], ...]:
    """Return the exceptions by which the loaded backends report a killed worker."""
    loaded = {name: sys.modules[name] for name in _LOST if name in sys.modules}
    return (BrokenProcessPool, *(getattr(module, one) for name, module in loaded.items() for one in _LOST[name]))
