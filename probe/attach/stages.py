"""Begin the measurement of a probe on a device, and finish it after the one wait that serves all probes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from probe.attach.contract import Measured, SessionProbe, Staged
from probe.forward.snapshot import Snapshot
from probe.reads import Conditions, Stages, complete, expecting, has_queue


class Begun(NamedTuple):
    """A measurement that waits for copies of its tensors, and for the true outcomes of its conditions."""

    stages: Stages[Mapping[str, Measured]]
    copies: Sequence[Tensor]
    flags: Tensor
    outcomes: Sequence[bool]


def begin(name: str, probe: SessionProbe, snapshot: Snapshot) -> Mapping[str, Measured] | Begun:
    """Queue the work of a probe on a device, with the conditions of its last measurement; else return what it measures.

    Ranks that divide passes read at once, because a rank that repeats a measurement alone would wait for the others.
    """
    method: Any = type(probe).measure  # that of a subclass can be another
    if not isinstance(probe, Staged) or method is not Staged.measure or not has_queue(snapshot.device):
        return probe.measure(snapshot)
    expected = snapshot.trace.conditions.get(name)
    if expected is None or snapshot.divided:
        return _at_once(name, probe, snapshot)
    conditions = Conditions(expected)
    stages = probe.stages(snapshot)
    try:
        with expecting(conditions):
            tensors = next(stages)
    except Exception:  # possibly that of another outcome
        return _at_once(name, probe, snapshot)
    flags = torch.stack(conditions.flags) if conditions.flags else torch.empty(0)
    *copies, true = snapshot.reads.queue([*tensors, flags])
    return Begun(stages, copies, true, conditions.outcomes)


def finish(begun: Begun, name: str, probe: Any, snapshot: Snapshot) -> Mapping[str, Measured]:
    """Return what the probe measures, after the wait. Other outcomes of a condition repeat the measurement."""
    if begun.flags.tolist() == list(begun.outcomes):
        return complete(begun.stages, begun.copies)
    begun.stages.close()
    return _at_once(name, probe, snapshot)


def _at_once(name: str, probe: Staged, snapshot: Snapshot) -> Mapping[str, Measured]:
    """Measure with reads where the probe tests conditions, and keep their outcomes for the next measurement."""
    conditions = Conditions()
    with expecting(conditions):
        found = complete(probe.stages(snapshot))
    snapshot.trace.conditions[name] = conditions.outcomes
    return found
