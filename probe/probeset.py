"""A set of probes on one model, with one shared forward pass for each split and one series."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probe.base import Observer, Probe
from probe.measures.performance import PerformanceProbe


class ProbeSet(Observer):
    """Set of probes that observe the same model at the same steps.

    Every set contains a :class:`~probe.PerformanceProbe`. The series therefore has the losses and accuracies that
    :class:`~probe.PhaseDetector` reads.

    Parameters
    ----------
    probes : list of Probe or (name, Probe)
        The probes. A name becomes the prefix of the variables. If two probes have the same class, at least one of them
        needs a name. A ProbeSet in the list stands for its probes.
    budget : float or None
        Share of the wall time of the training that the probes may take, as 0.03. None: no limit. Before step 100, the
        first due step at or after each of eight points per factor of ten is always observed. Another due step is
        observed if the time spent so far, that of :meth:`attach` included, and the expected cost of one more stay
        within this share of the training time so far; from step 100 on, these points come first. While the first
        observations and :meth:`attach` took more than half of the share, the others may take half of it. An observation
        that takes longer than expected can exceed the share by the difference. All time between observations counts as
        training, also time in which nothing runs. :meth:`detach` warns if the probes took more than 1.5 times this
        share.
    total_steps : int or None
        Number of updates at the end of the training. The affordable observations are then spread evenly over the due
        steps, so a log-spaced schedule stays log-spaced and the end is observed too.

    Attributes
    ----------
    series_ : xarray.Dataset
        The observations so far of all probes.

    Raises
    ------
    TypeError, ValueError
        At :meth:`attach`, if the list holds something else, if two probes have the same name, if a set within the set
        has a budget, or if ``budget`` or ``total_steps`` is invalid.

    See Also
    --------
    Probe : The base class of a measure.
    PhaseDetector : Finds the phases of the training in the series.
    probe.attach.Budget : The rule of the budget.

    Notes
    -----
    With a budget the series has five more variables. ``dropped`` is the number of due steps that were not observed
    between an observation and the next one. ``observing_share`` is the time of :meth:`attach` and all observations
    until then over that of the training, so its last value is the real share. Both are NaN for the last observation of
    a process that ended without :meth:`detach`. ``training_seconds`` is the time outside of observations,
    ``observing_seconds`` the time of :meth:`attach` and all earlier observations, and ``counted_seconds`` the part of
    those that the budget can drop. A recording that is resumed continues them. :meth:`due` follows the schedule alone.

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
            raise TypeError(f"Expected a list of probes, got one probe; write ProbeSet([{self.probes!r}])")
        members: dict[str, Probe] = {}
        for item in _flat(self.probes):
            name, probe = item if isinstance(item, tuple) else (type(item).__name__, item)
            if not isinstance(probe, Probe):
                raise TypeError(f"Expected probes and (name, probe) pairs, got {item!r}; give instances of probes")
            if name in members:
                raise ValueError(
                    f"Expected probes of different names, got two called {name!r}; name one of them: "
                    f"ProbeSet([..., ('second', {type(probe).__name__}(...))])"
                )
            members[name] = probe
        if not any(isinstance(probe, PerformanceProbe) for probe in members.values()):
            members["PerformanceProbe"] = PerformanceProbe()
        return members


def _flat(probes: Sequence[Any]) -> Iterator[Any]:
    """Yield the items, with those of a set in its place."""
    for item in probes:
        if isinstance(item, ProbeSet):
            if item.budget is not None:
                raise ValueError(
                    f"Expected no budget of a set within a set, got {item.budget}; give budget= to the outer one"
                )
            yield from _flat(item.probes)
        else:
            yield item
