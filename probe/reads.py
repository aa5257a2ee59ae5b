"""Numbers and conditions on a device: queued, and read together after one synchronisation.

A program that reads a number of a device waits until the device has finished all its work. Two things avoid this.
A probe yields the tensors that it reads, so that one wait serves all probes. A condition takes the outcome that it had
at the last observation. The true outcomes are read with the numbers, and other ones repeat the measurement.
"""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")
Stages = Generator[Sequence[Tensor], Sequence[Tensor], T]  # yields tensors, receives them on the CPU, returns a result
CPU = torch.device("cpu")


def has_queue(device: torch.device) -> bool:
    """Return whether copies from and to a device can be queued. On MPS, queued copies can return wrong numbers."""
    return device.type not in ("cpu", "mps", "meta")


def moved(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device. A copy to a device is queued: a blocking one would wait for the work before it."""
    return tensor.to(device, non_blocking=has_queue(device))


class Reads:
    """Copies of tensors to pinned memory of the CPU. Their numbers are there after :meth:`wait`."""

    def __init__(self) -> None:
        self._devices: set[torch.device] = set()

    def queue(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Queue copies of tensors to the CPU, and return them."""
        copies = [tensor.detach().to(CPU, non_blocking=has_queue(tensor.device)) for tensor in tensors]
        self.expect(*(tensor.device for tensor in tensors))
        return copies

    def expect(self, *devices: torch.device) -> None:
        """Note that copies from these devices are queued."""
        self._devices.update(filter(has_queue, devices))

    def wait(self) -> None:
        """Wait for the devices from which copies are queued."""
        while self._devices:
            device = self._devices.pop()
            torch.get_device_module(device).current_stream(device).synchronize()


class Conditions:
    """Conditions of one measurement, in the order in which it tests them.

    Attributes
    ----------
    flags : the true outcomes, on the device
    outcomes : those that the measurement uses: the expected ones, or else the true ones
    """

    def __init__(self, expected: Sequence[bool] = ()) -> None:
        self._expected = expected
        self.flags: list[Tensor] = []
        self.outcomes: list[bool] = []

    def take(self, flag: Tensor) -> bool:
        """Return the expected outcome, or read the true one if there is none."""
        place = len(self.flags)
        self.flags.append(flag.detach())
        self.outcomes.append(self._expected[place] if place < len(self._expected) else bool(flag))
        return self.outcomes[place]


_conditions: ContextVar[Conditions | None] = ContextVar("conditions", default=None)


@contextmanager
def expecting(conditions: Conditions) -> Iterator[None]:
    """Context manager in which :func:`holds` returns expected outcomes for flags on a device."""
    token = _conditions.set(conditions)
    try:
        yield
    finally:
        _conditions.reset(token)


def holds(flag: Tensor) -> bool:
    """Return whether a flag of shape () is true. It is read at once, except on a device within :func:`expecting`."""
    conditions = _conditions.get()
    return bool(flag) if conditions is None or not has_queue(flag.device) else conditions.take(flag)


def complete(stages: Stages[T], copies: Sequence[Tensor] | None = None) -> T:
    """Run a measurement in stages to its end, and read its tensors where it yields them.

    ``copies`` are those of the tensors that it has yielded, if it has begun.
    """
    reads = Reads()
    try:
        while True:
            copies = reads.queue(next(stages) if copies is None else stages.send(copies))
            reads.wait()
    except StopIteration as stop:
        return stop.value
