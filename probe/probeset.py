"""Several probes on one model: one shared forward pass per split, one series."""

from collections.abc import Iterator, Sequence
from typing import Any

from probe.base import Observer, Probe
from probe.measures.performance import PerformanceProbe


class ProbeSet(Observer):
    """Probes that look at the same model at the same steps.

    Every set contains a :class:`~probe.measures.performance.PerformanceProbe`, so that losses and accuracies stand
    beside whatever is measured, and :class:`~probe.phases.detector.PhaseDetector` has its curves.

    Parameters
    ----------
    probes : list of Probe or (name, Probe)
        A name becomes a prefix of the variables: two probes of one class need at least one. A set among them stands
        for its probes.

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

    def __init__(self, probes: Sequence[Probe | tuple[str, Probe]] = ()) -> None:
        self.probes = probes

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
            yield from _flat(item.probes)
        else:
            yield item
