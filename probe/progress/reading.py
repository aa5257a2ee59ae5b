"""Recorded runs of any form, as runs with the measures that are to be judged."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

from probe.phases.detector import PhaseDetector
from probe.progress.groups import Generalises, Group, groups_of, labels_given
from probe.progress.runs import Curve, Run


class Reading(NamedTuple):
    """All runs, the measures (by the variable that they come from), the baselines among them, what was assumed."""

    runs: list[Run]
    measures: dict[str, str]
    baselines: list[str]
    notes: list[str]


def read_runs(
    curves: Any,
    generalises: Generalises,
    *,
    detector: PhaseDetector | None,
    measures: Any,
    level: float,
    complete: bool = True,
    beside_baselines: bool = False,
) -> Reading:
    """Runs of one or more groups.

    Parameters
    ----------
    curves
        As :meth:`probe.PhaseDetector.fit` takes them, or a list or a mapping of such: groups of runs, whose steps and
        lengths may differ.
    generalises
        Whether the runs generalise: a bool for each run, in order, or a mapping from names of groups to one bool or
        one for each run. Runs that are not named generalise if their test accuracy ends at ``level`` or above.
    detector
        Where the markers come from, with the names of the roles.
    measures
        Names of variables or of single measures; None takes all numbers that are no flags, error bars or accuracies.
    level
        Test accuracy (share), as the median of the last three observations.
    complete
        Whether the runs are over; of runs that go on nobody asks whether they generalise, and no measure is left out.
    beside_baselines
        Whether losses and weight norm are read too, if they are there and ``measures`` does not name them.

    Raises
    ------
    ValueError
        For curves that cannot be read, a measure that is in no group, or labels that do not fit the runs.
    """
    groups = [Group(name, one, detector, going_on=not complete) for name, one in groups_of(curves)]
    known = {label: variable for group in groups for label, variable in group.labels().items()}
    asked = _chosen(known, measures)
    plain = {variable for group in groups for variable in group.baselines}
    beside = {label: variable for label, variable in known.items() if beside_baselines and variable in plain}
    chosen = asked | beside
    runs: list[Run] = []
    notes: list[str] = []
    for group, given in zip(groups, labels_given(generalises, groups), strict=True):
        runs += group.runs(given if complete else [False] * group.n_runs, set(chosen), level)
        notes += group.notes
    flat = [
        name for name in chosen if complete and all(_is_flat(run.curves[name]) for run in runs if name in run.curves)
    ]
    if flat:
        notes.append(f"left out, for they are the same at all steps: {', '.join(flat)}")
    kept = {name: chosen[name] for name in chosen if name not in flat}
    if not asked.keys() & kept.keys():
        raise ValueError(f"expected measures that change over the steps, got none; there are: {', '.join(known)}")
    baselines = [name for name in kept if kept[name] in plain]
    return Reading(runs, kept, baselines, list(dict.fromkeys(notes)))


def one_measure(known: Sequence[str], wanted: str) -> str:
    """The measure of this name, or the only one of the variable of this name; else an error with near names."""
    names = [name for name in known if name == wanted or name.startswith(f"{wanted}[")]
    if len(names) == 1:
        return names[0]
    if names:
        raise ValueError(f"expected one curve a run, {wanted!r} has {len(names)}: {', '.join(names)}; name one")
    raise ValueError(_unknown(wanted, known))


def _unknown(wanted: str, known: Sequence[str]) -> str:
    near = get_close_matches(
        wanted, list(dict.fromkeys([*known, *(name.split("[")[0] for name in known)])), n=3, cutoff=0.5
    )
    told = f"near names: {', '.join(near)}" if near else f"there are: {', '.join(known)}"
    return f"no measure {wanted!r} in the curves; {told}"


def _chosen(known: Mapping[str, str], measures: Any) -> dict[str, str]:
    if measures is None:
        return dict(known)
    wanted = [measures] if isinstance(measures, str) else list(measures)
    found: dict[str, str] = {}
    for name in wanted:
        matches = {label: variable for label, variable in known.items() if name in (label, variable)}
        if not matches:
            raise ValueError(_unknown(str(name), list(known)))
        found |= matches
    return found


def _is_flat(curve: Curve) -> bool:
    return len(curve.values) == 0 or bool((curve.values == curve.values[0]).all())
