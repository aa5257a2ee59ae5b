"""Observations of a training on several ranks: all ranks attach and observe together.

The first rank decides which steps are observed. Each decision, and each end of a measurement, is one exchange of a few
numbers, in a process group of its own with a timeout of its own. A rank that fails reports it there, so no other rank
waits for it. Exchanges use the CPU (gloo), so the streams of the training stay as they are.
"""

import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import timedelta
from itertools import pairwise
from numbers import Real
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from probe.attach.uncounted import some_numbers
from probe.errors import RankError, RanksApartError
from probe.forward.isolation import get_random_states, restored_random_states, set_random_states
from probe.forward.saved_values import SavedTensor, checksum
from probe.forward.shards import is_distributed, n_ranks, n_ranks_of

_NUMBERS = 3  # of a decision
_FINE, _FAILED, _LEAVES = range(3)  # status of a rank; one that leaves is in none of the later measurements
_PASS = "a pass over split "  # start of the place of a forward pass, which the error of another rank can end
_attached = 0  # how often all ranks have attached together


class Ranks(Protocol):
    """The ranks that observe together."""

    rank: int
    size: int

    def together(self, place: str) -> AbstractContextManager[None]:
        """Return a context manager at whose end all ranks report whether they have failed."""

    def settled(self, place: str, error: Exception | None) -> Exception | None:
        """Return the error of this rank, or else that of another rank, or None."""

    def decide(self, place: str, choose: Callable[[], Sequence[int]]) -> Sequence[int]:
        """Return the numbers that the first rank chooses first. If its choice raises an error, all ranks raise one."""

    def share(self, place: str, value: Any) -> Any:
        """Return the value of the first rank."""

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError on all ranks if their facts differ."""

    def alike(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context manager in which all ranks have the buffers and random states of the first rank."""

    def close(self) -> None:
        """Release what the exchanges between ranks take."""


class OneRank:
    """A training on one rank, or a rank that observes by itself."""

    rank, size = 0, 1

    def together(self, place: str) -> AbstractContextManager[None]:
        """Return a context manager that does nothing."""
        return nullcontext()

    def settled(self, place: str, error: Exception | None) -> Exception | None:
        """Return the error."""
        return error

    def decide(self, place: str, choose: Callable[[], Sequence[int]]) -> Sequence[int]:
        """Return the numbers that this rank chooses."""
        return choose()

    def share(self, place: str, value: Any) -> Any:
        """Return the value."""
        return value

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Do nothing."""

    def alike(self, model: nn.Module) -> AbstractContextManager[None]:
        """Return a context manager that does nothing."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing."""


class SeveralRanks:
    """All ranks of a training, each with its own copy of the model or its own shards.

    Parameters
    ----------
    timeout
        Seconds that a rank waits for the others.

    Raises
    ------
    RanksApartError
        If not all ranks are here within the timeout.
    """

    def __init__(self, timeout: float) -> None:
        self.rank, self.size, self.timeout = dist.get_rank(), dist.get_world_size(), timeout
        self._apart: RanksApartError | None = None
        self._failure: RankError | None = None  # of another rank, for which none waits any more; a probe may catch it
        _wait_for_all(self.rank, self.size, timeout)
        with self._waiting("attach"):
            self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout))
        self._finalizer = weakref.finalize(self, _release, self._group)  # an attachment may end without detach
        self._finalizer.atexit = False

    @contextmanager
    def together(self, place: str) -> Iterator[None]:
        """At the end, all ranks report whether they have failed. If another rank has, raise its error here too."""
        try:
            yield
            if (missed := self._taken()) is not None:
                raise missed
        except RanksApartError:
            raise
        except BaseException as error:
            if not (isinstance(error, RankError) and error.place == place):  # otherwise all have reported it
                with suppress(RanksApartError):  # this rank raises its own error
                    self._report(place, error, _LEAVES)
            raise
        if (other := self._report(place, None)) is not None:
            raise other

    def settled(self, place: str, error: Exception | None) -> Exception | None:
        """Return the error of this rank, or else that of another rank, or None."""
        if isinstance(error, RanksApartError):
            raise error
        missed = self._taken()
        if isinstance(error, RankError):  # of a pass that the ranks divide: all ranks have raised it
            return error
        return missed or self._report(place, error) or error

    def _taken(self) -> RankError | None:
        """Return the error of another rank that has ended a pass here, and forget it."""
        missed, self._failure = self._failure, None
        return missed

    def decide(self, place: str, choose: Callable[[], Sequence[int]]) -> Sequence[int]:
        """Return the numbers that the first rank chooses, at most three, and zeros up to three."""
        numbers, error = list[int](), None
        if self.rank == 0:
            try:
                numbers = list(choose())
            except Exception as raised:
                error = raised
        table = self._exchange(place, numbers, error)
        if (failed := self._failed(place, table, error)) is not None:
            raise error or failed
        return [int(number) for number in table[0, 3:]]

    def share(self, place: str, value: Any) -> Any:
        """Return the value of the first rank, which must be possible to pickle."""
        return self.objects(place, value if self.rank == 0 else None)[0]

    @contextmanager
    def alike(self, model: nn.Module) -> Iterator[None]:
        """Within it, all ranks have buffers and random states of the first rank. Their weights must be the same."""
        buffers = [buffer for buffer in model.buffers() if not is_distributed(buffer)]
        weights = checksum(some_numbers(one for one in model.parameters() if not is_distributed(one)))
        sums = zlib.crc32(repr([checksum(buffer) for buffer in buffers]).encode())
        random_states = get_random_states()
        table = self._exchange("the comparison of weights", (weights, sums, _sum_of_states(random_states)))
        if others := self._others(table[:, 3]):
            raise RanksApartError(
                f"Expected the same weights on all ranks, got others on rank {others} than on rank 0; attach with "
                "ranks='this' on one rank whose model is whole (no stage of a pipeline), or observe at steps where all "
                "ranks have the same weights"
            )
        different = buffers if bool((table[:, 4] != table[0, 4]).any()) else []
        first = self.share("the buffers", [buffer.cpu() for buffer in different]) if different else []
        drawn = bool((table[:, 5] != table[0, 5]).any())
        first_states = self.share("the random states", random_states) if drawn else random_states
        saved = [SavedTensor(buffer, on_cpu=False) for buffer in different]
        try:
            for buffer, value in zip(different, first, strict=True):
                buffer.copy_(value)
            with restored_random_states() if drawn else nullcontext():
                if drawn:
                    set_random_states(first_states)
                yield
        finally:
            for one in saved:
                one.restore()

    def compare(self, facts: Mapping[str, Any]) -> None:
        """Raise ValueError on all ranks if their facts differ. The message has the first difference."""
        found = self.objects("the comparison of arguments", dict(facts))
        for rank, other in enumerate(found):
            for name in dict.fromkeys([*found[0], *other]):
                if other.get(name) != found[0].get(name):
                    place, first, here = _first_difference(found[0].get(name), other.get(name))
                    raise ValueError(
                        f"Expected the same {name} on all ranks, got {place}{first} on rank 0 and {place}{here} on "
                        f"rank {rank}; attach with the same arguments on all ranks, or with ranks='this' on one rank "
                        "whose model is whole (no stage of a pipeline)"
                    )

    def mine(self, blocks: Sequence[range]) -> Sequence[range]:
        """Return the blocks of rows that this rank computes, which follow those of the rank before."""
        bounds = [len(blocks) * rank // self.size for rank in range(self.size + 1)]
        first, end = list(pairwise(bounds))[self.rank]
        return blocks[first:end]

    def meet(self, place: str, mark: int) -> None:
        """Wait until all ranks are at this place, with the same mark. Raise RankError if one has failed on the way."""
        self._together_at(place, mark, None)

    def objects(self, place: str, value: Any, error: Exception | None = None, mark: int = 0) -> list[Any]:
        """Return the values of all ranks, which have the same mark. If one gives an error, all raise RankError."""
        self._together_at(place, mark, error)
        return self._all(place, value)

    def _together_at(self, place: str, mark: int, error: Exception | None) -> None:
        """Raise RankError on all ranks if one has failed, or ValueError on all if their marks differ."""
        if self._failure is not None:
            raise self._failure
        table = self._exchange(place, (mark,), error)
        if (failed := self._failed(place, table, error)) is not None:
            self._failure = failed if failed.place != place else None
            raise failed from error
        if others := self._others(table[:, 3]):
            raise ValueError(
                f"Expected the same rows and layers on all ranks in {place}, got others on rank {others} than on rank "
                "0; choose them in a probe by snapshot.step and a fixed seed, and not by the rank or the time"
            )

    def _others(self, values: Tensor) -> str:
        """Return the ranks whose value is not that of the first rank."""
        return ", ".join(str(rank) for rank in range(self.size) if values[rank] != values[0])

    def _report(self, place: str, error: BaseException | None, status: int = _FAILED) -> Exception | None:
        """Report the end of a measurement. Return the error of another rank if this one has none."""
        found = self._failed(place, self._exchange(place, (), error, status), error)
        return found if error is None else None

    def _failed(self, place: str, table: Tensor, error: BaseException | None) -> RankError | None:
        """Return the error of the first rank that has failed, or None."""
        failed = [rank for rank in range(self.size) if table[rank, 1]]
        if not failed:
            return None
        reports = self._all(place, (place, None if error is None else f"{type(error).__name__}: {error}"))
        where, text = reports[failed[0]]
        found = RankError(f"Expected all ranks to finish {where}, got {text} on rank {failed[0]}; correct its cause")
        found.place = where
        return found

    def _exchange(
        self, place: str, numbers: Sequence[int], error: BaseException | None = None, status: int = _FAILED
    ) -> Tensor:
        """Return code of the place, status and numbers of each rank. Raise RanksApartError if they are elsewhere.

        A rank that has failed can be elsewhere, if all others are in a forward pass: they leave it.
        """
        if self._apart is not None:
            raise self._apart
        own = torch.zeros(3 + _NUMBERS, dtype=torch.int64)
        head = zlib.crc32(place.encode()), _FINE if error is None else status, place.startswith(_PASS)
        own[: 3 + len(numbers)] = torch.tensor([*head, *numbers])
        rows = [torch.empty_like(own) for _ in range(self.size)]
        with self._waiting(place):
            dist.all_gather(rows, own, group=self._group)
        table = torch.stack(rows)
        places, statuses, passing = table[:, 0], table[:, 1], table[:, 2].bool()
        left = (statuses == _FAILED).any() and not (statuses == _LEAVES).any() and passing[statuses == _FINE].all()
        if bool((places != own[0]).any()) and not bool(left):
            texts = self._all(place, f"{place}{'' if error is None else f' ({type(error).__name__}: {error})'}")
            self._apart = RanksApartError(
                "Expected all ranks at the same point, got "
                + "; ".join(f"rank {rank} at {text}" for rank, text in enumerate(texts))
                + ". Call attach, observe and detach on all ranks, with the same schedule, model and data"
            )
            raise self._apart
        return table

    def close(self) -> None:
        """Release the process group, with its connections and threads. Others that wait for this rank get an error."""
        self._finalizer()
        self.__dict__.pop("_group", None)

    def _all(self, place: str, value: Any) -> list[Any]:
        found = [None] * self.size
        with self._waiting(place):
            dist.all_gather_object(found, value, group=self._group)
        return found

    @contextmanager
    def _waiting(self, place: str) -> Iterator[None]:
        """Raise RanksApartError if the others do not come, or the process group no longer exists."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            self._apart = RanksApartError(
                f"Expected all ranks at {place} within {self.timeout:g} s, got {str(error).splitlines()[0]}; call "
                "attach, observe and detach on all ranks, before the process group is destroyed"
            )
            raise self._apart from error


def _sum_of_states(states: tuple[Any, ...]) -> int:
    """Return a checksum of random states."""
    state, python_state, (name, keys, *rest) = states
    return zlib.crc32(repr((name, rest, python_state)).encode(), zlib.crc32(keys, zlib.crc32(state)))


def ranks_of(ranks: str, timeout: float, model: Any) -> OneRank | SeveralRanks:
    """Return the ranks that observe a model together.

    Raises
    ------
    ValueError
        If an argument is invalid.
    TypeError
        If only some ranks train the model, so that the others would not attach.
    RanksApartError
        If not all ranks attach within the timeout.
    """
    if ranks not in ("all", "this"):
        raise ValueError(f"Expected ranks to be 'all' or 'this', got {ranks!r}; pass one of them")
    if not (isinstance(timeout, Real) and timeout > 0):
        raise ValueError(f"Expected timeout to be a number of seconds above 0, got {timeout!r}; pass one")
    if ranks == "this" or n_ranks() == 1:
        return OneRank()
    if isinstance(model, nn.Module) and (number := n_ranks_of(model)) < n_ranks():
        raise TypeError(
            f"Expected a model that all {n_ranks()} ranks of the training share, got a process group or mesh of "
            f"{number}; attach with ranks='this' on one rank, to its copy of the model, or to an unsharded copy of a "
            "model that is divided"
        )
    return SeveralRanks(float(timeout))


def _release(group: Any) -> None:
    with suppress(ValueError, AssertionError, RuntimeError):  # it was destroyed with that of the training
        dist.destroy_process_group(group)


def _first_difference(one: Any, other: Any) -> tuple[str, Any, Any]:
    """Return where two facts differ first, and both values there."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in dict.fromkeys([*one, *other]):
            if one.get(key) != other.get(key):
                place, *values = _first_difference(one.get(key), other.get(key))
                return f"{key}: {place}", values[0], values[1]
    return "", one, other


def _wait_for_all(rank: int, size: int, timeout: float) -> None:
    """Wait until all ranks attach.

    A process group that only some ranks make would stop the training, so they meet at the store of the training first.
    """
    global _attached
    from torch.distributed.distributed_c10d import _get_default_store  # not in builds without process groups

    store = _get_default_store()
    keys = [f"probe/attach/{_attached}/{other}" for other in range(size)]
    store.set(keys[rank], "here")
    try:
        store.wait(keys, timedelta(seconds=timeout))
    except RuntimeError as error:
        missing = [str(other) for other, key in enumerate(keys) if not store.check([key])]
        store.delete_key(keys[rank])
        raise RanksApartError(
            f"Expected attach on all {size} ranks within {timeout:g} s, got none on rank {', '.join(missing)}; attach "
            "on all ranks with the same arguments, or with ranks='this' on one rank whose copy of the model is whole"
        ) from error
    _attached += 1
