"""Several probes on one model: one shared forward pass per split, one series."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probe.base import Observer, Probe
from probe.measures.performance import PerformanceProbe


class ProbeSet(Observer):
    """Probes that look at the same model at the same steps.

    Every set contains a :class:`~probe.PerformanceProbe`, so that losses and accuracies stand
    beside whatever is measured, and :class:`~probe.PhaseDetector` has its curves.

    Parameters
    ----------
    probes : list of Probe or (name, Probe)
        A name becomes a prefix of the variables: two probes of one class need at least one. A set among them stands
        for its probes.
    budget
        Share of the training's own wall time that observations may take, as 0.03; None: no limit. The first due step at
        or after each of eight points per factor of ten is observed in any case, and not counted: the start is always
        seen. Of the other due steps those are taken that can be paid for: spent so far and the expected cost of one
        more stay within this share of the training so far. A step that costs more than those before it can exceed
        it, by what it costs more. All time between observations counts as training, also where nothing runs.
    total_steps
        Updates that the training will have made at its end. Then what can be paid for until the end is spread evenly
        over the due steps, so that a log-spaced schedule stays log-spaced and the end is seen too.

    Notes
    -----
    With a budget the series holds ``dropped``, the due steps left out between an observation and the next (NaN: not
    known, since it ended without :meth:`detach`), ``training_seconds`` and ``observing_seconds`` (outside the core); a
    recording that is resumed goes on with them. :meth:`due` says what the schedule asks for. See :mod:`probe.attach.budget`.

    Examples
    --------
    >>> import torch
    >>> from probe import MutualInfoProbe, ProbeSet
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))
    >>> x, y = torch.eye(4), torch.tensor([0, 1, 0, 1])
    >>> probes = ProbeSet([MutualInfoProbe()]).fit(model, {"train": (x, y)})
    >>> sorted(probes.series_.dims)
    ['layer', 'probe', 'split', 'step']
    """

    def __init__(
        self,
        probes: Sequence[Probe | tuple[str, Probe]] = (),
        *,
        budget: float | None = None,
        total_steps: int | None = None,
    ) -> None:
        self.probes = probes
        self.budget = budget
        self.total_steps = total_steps

    def _limits(self) -> Mapping[str, Any]:
        return {"budget": self.budget, "total_steps": self.total_steps}

    def _members(self) -> dict[str, Probe]:
        if isinstance(self.probes, Probe):
            raise TypeError(f"ProbeSet takes a list of probes: ProbeSet([{self.probes!r}])")
        members: dict[str, Probe] = {}
        for item in _flat(self.probes):
            name, probe = item if isinstance(item, tuple) else (type(item).__name__, item)
            if not isinstance(probe, Probe):
                raise TypeError(f"ProbeSet takes probes and (name, probe) pairs, got {item!r}")
            if name in members:
                raise ValueError(
                    f"two probes are called {name!r}, and would make variables of the same names; name one of them: "
                    f"ProbeSet([..., ('second', {type(probe).__name__}(...))])"
                )
            members[name] = probe
        if not any(isinstance(probe, PerformanceProbe) for probe in members.values()):
            members["PerformanceProbe"] = PerformanceProbe()
        return members


def _flat(probes: Sequence[Any]) -> Iterator[Any]:
    for item in probes:
        if isinstance(item, ProbeSet):
            if item.budget is not None:
                raise ValueError("a set within a set has no budget of its own: give budget= to the outer one")
            yield from _flat(item.probes)
        else:
            yield item
