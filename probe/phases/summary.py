"""Describe the results of a PhaseDetector: what happened, a sentence for each marker, tables, tests and notes."""

import re
from collections.abc import Iterable

import numpy as np
import xarray as xr

from probe.phases.facts import number
from probe.phases.markers import table
from probe.phases.markers.marker import Status
from probe.phases.markers.table import MarkerKind
from probe.phases.over_runs.copies import run_name
from probe.phases.recorded import PROBES
from probe.phases.sentences import level, percent
from probe.words import STATUS_NAMES

# The sentence of a marker that was not found; `{sentence}` and `{negation}` are those of its entry in the table.
_NOT_FOUND = {
    Status.ABSENT: "{negation}",
    Status.LEFT_CENSORED: "{sentence} before the first observation",
    Status.RIGHT_CENSORED: "{negation} within the record",
    Status.NOT_REACHED: "{negation}",
    Status.UNDECIDED: "it is undecided whether {sentence}",
    Status.UNDEFINED: "it is unknown whether {sentence}",
}
_NO_VARIABLE = re.compile(r"no variable for (\w+); (.*)")  # the reason of a marker without a curve
_AS_LARGE = "where the curve is smoother than around wiggles as large"
_MOST_CONTRAST = 100  # times the next largest wiggle; above this, the number depends on the noise alone
_MIXED = "Tests and medians are over runs of all classes: give controls a fit or a page of their own."
_MAX_ROWS = 100
_MAX_NAMES = 5  # runs that are listed by name
_LEAST_RUNS = 5  # for an interval of the median


def describe(
    verdict: xr.Dataset,
    markers: xr.Dataset,
    aligned: xr.Dataset,
    across: xr.Dataset | None,
    notes: list[str],
    axis: str = "step",
) -> str:
    """Return the summary, a text of several lines.

    Parameters
    ----------
    verdict, markers, aligned, across : xarray.Dataset
        As ``PhaseDetector.verdict_``, ``markers_``, ``alignment_`` and ``across_``.
    notes : list of str
        Assumptions and changes of the values.
    axis : str
        Name of the axis of the curves.
    """
    if across is None:
        one = verdict.isel(run=0)
        evidence = [f"Evidence: {text}."] if (text := one["evidence"].item()) else []
        head = [one["sentence"].item(), *evidence, *_of_one_run(markers, axis)]
    else:
        mixed = [_MIXED] if len({*verdict["class"].values.tolist()}) > 1 else []
        head = [*_classes(verdict), *mixed, *_tests(across), *_of_all_runs(markers, across, axis)]
    parts = ["\n".join(head), "\n".join(_table(_listed(markers), axis)), "\n".join(_distances(aligned))]
    parts.append("\n".join(f"Note: {note}" for note in notes))
    return "\n\n".join(part for part in parts if part)


def _of_one_run(markers: xr.Dataset, axis: str) -> list[str]:
    """Return one line for each marker of a single run."""
    one = markers.isel(run=0)
    missing = _without_curve(markers)
    recorded = [kind for kind in table.MARKERS if kind.name not in missing]
    lines = [f"{kind.label}: {_of_run(kind, one.sel(marker=kind.name), axis)}" for kind in recorded]
    lines += _not_recorded(missing.values())
    return ["One run; another seed may give other steps.", *(f"- {line}" for line in lines)]


def _without_curve(markers: xr.Dataset) -> dict[str, re.Match[str]]:
    """Return the role and the advice for each marker that has a curve in no run."""
    reasons = {kind.name: str(markers["reason"].sel(marker=kind.name).values[0]) for kind in table.MARKERS}
    return {name: found for name, reason in reasons.items() if (found := _NO_VARIABLE.fullmatch(reason))}


def _not_recorded(missing: Iterable[re.Match[str]]) -> list[str]:
    """Return one line for all curves that are not recorded, with one advice for those that may have another name.

    Curves that only a probe records are left out.
    """
    advice = {found[1]: found[2] for found in missing if not _of_probe(found)}
    text = f"not recorded: {', '.join(role.replace('_', ' ') for role in advice)}"
    wanted = [_as_keyword(role, hint) for role, hint in advice.items() if hint.startswith(f"pass {role}=")]
    others = dict.fromkeys(hint for role, hint in advice.items() if not hint.startswith(f"pass {role}="))
    if not advice:
        return []
    if len(advice) == 1:
        return [f"{text}; {hint}" for hint in advice.values()]
    return ["; ".join([text, *([f"pass {', '.join(wanted)} with the names of yours"] if wanted else []), *others])]


def _of_probe(missing: re.Match[str]) -> bool:
    """Return whether a curve is one that a probe records, and nothing near it is in the series."""
    return PROBES.get(missing[1]) == missing[2]


def _listed(markers: xr.Dataset) -> xr.Dataset:
    """Return the markers without those of probes that recorded nothing."""
    left_out = [name for name, missing in _without_curve(markers).items() if _of_probe(missing)]
    return markers.drop_sel(marker=left_out)


def _as_keyword(role: str, hint: str) -> str:
    """Return "test_accuracy=", with the name of a similar curve if the hint has one."""
    similar = re.search(r"such as ('.*')", hint)
    return f"{role}={similar[1] if similar else ''}"


def _classes(verdict: xr.Dataset) -> list[str]:
    """Return one line for each class of runs, the most frequent first, with the sentence of one run."""
    names, counts = np.unique(verdict["class"].values, return_counts=True)
    n_runs = verdict.sizes["run"]
    lines = []
    for i in np.argsort(-counts, kind="stable"):
        runs = verdict.isel(run=np.flatnonzero(verdict["class"].values == names[i]))
        listed = (
            f" (run{'s' if counts[i] > 1 else ''} {_names(runs)})"
            if counts[i] < n_runs and counts[i] <= _MAX_NAMES
            else ""
        )
        first = runs.isel(run=0)
        _, _, text = str(first["sentence"].item()).partition(": ")
        example = f"Run {run_name(first['run'].item())}: {text}"
        lines.append(f"{counts[i]} of {n_runs} runs{listed}: {names[i]}. {example}")
    return lines


def _names(runs: xr.Dataset) -> str:
    return ", ".join(map(run_name, runs["run"].values.tolist()))


def _tests(across: xr.Dataset) -> list[str]:
    """Return one line for each test over runs, of the markers that are peaks and have a curve."""
    found = ((kind, across.sel(marker=kind.name)) for kind in table.MARKERS if kind.peak)
    return [_tested(kind, one) for kind, one in found if int(one["n_runs"])]


def _tested(kind: MarkerKind, one: xr.Dataset) -> str:
    """Describe the test over runs of one marker."""
    status, n_runs, p = one["test_status"].item(), int(one["n_runs"]), float(one["p_value"])
    if status == Status.UNDEFINED:
        return f"It was not tested over all runs whether {kind.sentence}: {one['test_reason'].item()}."
    if status != Status.FOUND:
        tested = "the test is for a rise and fall at one time"
        return f"All {n_runs} runs together do not show that {kind.sentence} (p {p:.2g}); {tested}."
    fall, lower, upper = (level(float(one[name]), accuracy=False) for name in ("fall", "fall_lower", "fall_upper"))
    return (
        f"All {n_runs} runs together show that {kind.sentence} (p {p:.2g}): after the top, the curve falls by {fall} "
        f"({lower} to {upper}) in the mean."
    )


def _of_all_runs(markers: xr.Dataset, across: xr.Dataset, axis: str) -> list[str]:
    """Return one line for each marker over all runs."""
    n_runs = markers.sizes["run"]
    missing = _without_curve(markers)
    recorded = [kind for kind in table.MARKERS if kind.name not in missing]
    pairs = [(kind, markers.sel(marker=kind.name), across.sel(marker=kind.name)) for kind in recorded]
    lines = [f"{kind.label}: {_of_runs(kind, marker, over, axis)}" for kind, marker, over in pairs]
    lines += _not_recorded(missing.values())
    interval = ", with 90 % intervals" if n_runs >= _LEAST_RUNS else ""
    return [f"Medians over runs{interval}:", *(f"- {line}" for line in lines)]


def _step(value: float) -> str:
    return number(value) if np.isfinite(value) else "-"


def _of_run(kind: MarkerKind, marker: xr.Dataset, axis: str) -> str:
    """Describe the marker of one run."""
    status = Status(marker["status"].item())
    if status != Status.FOUND:
        text = _NOT_FOUND[status].format(sentence=kind.sentence, negation=kind.negation)
        return f"{text}: {marker['reason'].item()}"
    step, lower, upper = (_step(marker[name].item()) for name in ("step", "lower", "upper"))
    return f"{kind.sentence} at {axis} {step} ({lower} to {upper}): {_hump(marker) or marker['rule'].item()}"


def _hump(marker: xr.Dataset) -> str:
    """Describe the size of the hump whose top the marker is; empty for another marker."""
    size, share, contrast, fall = (float(marker[name]) for name in ("size", "size_share", "contrast", "fall"))
    if not np.isfinite(size):
        return ""
    parts = [f"the hump is {level(size, accuracy=False)} high, {percent(share)} of the range of the curve"]
    if np.isfinite(contrast):
        times = level(contrast, accuracy=False) if contrast <= _MOST_CONTRAST else f"more than {_MOST_CONTRAST}"
        parts.append(f"{times} times the next largest wiggle" if contrast > 1 else _AS_LARGE)
    if np.isfinite(fall):
        parts.append(f"{percent(min(fall, 1))} of its rise is undone later")
    spikes = int(marker["n_spikes"])
    aside = f"; {spikes} spikes are set aside" if spikes > 1 else "; 1 spike is set aside"
    return ", ".join(parts) + (aside if spikes else "")


def _of_runs(kind: MarkerKind, marker: xr.Dataset, across: xr.Dataset, axis: str) -> str:
    """Describe one marker over all runs: its median, or why there is none."""
    names, counts = np.unique(marker["status"].values, return_counts=True)
    tally = ", ".join(f"{n} {STATUS_NAMES.get(name, name)}" for name, n in zip(names, counts, strict=True))
    if across["status"] == Status.FOUND:
        lower, upper = float(across["lower"]), float(across["upper"])
        interval = f"{_step(lower)} to {_step(upper)}; " if np.isfinite(upper) else ""
        return f"{kind.sentence} {_place(float(across['median']), marker, axis)} ({interval}{tally})"
    n_runs, n_found = len(marker["status"]), int(across["n_found"])
    if not n_found:
        status = Status(names[np.argmax(counts)])
        text = _NOT_FOUND[status].format(sentence=kind.sentence, negation=kind.negation)
        reasons = [str(reason) for reason in marker["reason"].values[marker["status"].values == status]]
        example = "" if len({*reasons}) == 1 and len(reasons) == n_runs else "for example, "
        return f"{text} ({tally}): {example}{reasons[0]}"
    at = f"{_place(float(across['median_found']), marker, axis)} in the median of these"
    return f"{kind.sentence} in {n_found} of {n_runs} runs, {at} ({tally}); {_why_no_median(across, axis)}"


def _place(median: float, marker: xr.Dataset, axis: str) -> str:
    """Return where a median is; if all runs have small whole steps, such as epochs, a fraction is between two."""
    found = marker["step"].values[np.isfinite(marker["step"].values)]
    low = np.floor(median)
    if median == low or number(median) == number(round(median)) or (found != np.round(found)).any():
        return f"at {axis} {_step(median)}"
    return f"between {axis} {number(low)} and {number(low + 1)}"


def _why_no_median(across: xr.Dataset, axis: str) -> str:
    """Return why there is no median of all runs, and between which bounds it lies."""
    low, high = float(across["low"]), float(across["high"])
    bounds = [f"after {axis} {number(low)}"] if low > 0 else []
    bounds += [f"up to {axis} {number(high)}"] if np.isfinite(high) else []
    known = f" and lies {' and '.join(bounds)}" if bounds else ""
    return f"the median of all runs is unknown{known}"


def _table(markers: xr.Dataset, axis: str) -> list[str]:
    """Return the table of markers, with at most `_MAX_ROWS` rows. Those of one run have their reasons above."""
    rows: list[tuple[str, ...]] = [("run", "marker", axis, "interval", "status", "size", "rule or reason")]
    n_runs, n_markers = markers.sizes["run"], markers.sizes["marker"]
    n_shown = min(n_runs, _MAX_ROWS // n_markers)
    for run in range(n_shown):
        rows += [_row(markers.isel(run=run, marker=i)) for i in range(n_markers)]
    if n_runs == 1:
        rows = [row[:-1] for row in rows]
    width = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, width, strict=True)).rstrip() for row in rows]
    return [*lines, f"... and {n_runs - n_shown} more runs: see markers_"] if n_shown < n_runs else lines


def _row(marker: xr.Dataset) -> tuple[str, ...]:
    size, found = float(marker["size_share"]), marker["status"] == Status.FOUND
    interval = f"{_step(float(marker['lower']))} to {_step(float(marker['upper']))}" if found else "-"
    return (
        run_name(marker["run"].item()),
        str(marker["marker"].item()),
        _step(float(marker["step"])),
        interval,
        str(marker["status"].item()),
        "-" if np.isnan(size) else percent(size),
        str(marker["rule"].item() if found else _short(marker["reason"].item()) or marker["rule"].item()),
    )


def _short(reason: str) -> str:
    """Return a reason without the advice on a missing curve, which stands above the table."""
    return reason.partition(";")[0] if _NO_VARIABLE.fullmatch(reason) else reason


def _distances(aligned: xr.Dataset) -> list[str]:
    """Return one line for each pair of markers that has a distance or a verdict."""
    lines = [line for pair in aligned["pair"].values if (line := _distance(aligned.sel(pair=pair)))]
    if not lines:
        return []
    delta = float(aligned.attrs["delta"])
    heading = (
        "Distances in dex: log10 of the second marker over the first, 1 dex is a factor of 10. Two markers are aligned "
        f"if the 90 % interval of their distance lies within {delta:g} dex of 0."
    )
    return [heading, *lines]


def _distance(pair: xr.Dataset) -> str:
    """Describe the distance of one pair over (run); an empty string if nothing is known."""
    names, counts = np.unique(pair["verdict"].values, return_counts=True)
    if names.tolist() == ["undecided"] and not np.isfinite(pair["distance"]).any():
        return ""
    name = pair["pair"].item()
    if pair.sizes["run"] == 1:
        distance, low, high = (float(pair[k].isel(run=0)) for k in ("distance", "lower", "upper"))
        return f"{name}: {_between(distance, low, high)}, {names[0]}"
    verdicts = ", ".join(f"{verdict} in {n}" for verdict, n in zip(names, counts, strict=True))
    return f"{name}: {_over_runs(pair)}, {verdicts} of {pair.sizes['run']} runs"


def _over_runs(pair: xr.Dataset) -> str:
    """Describe the median distance, or the bounds of all distances if every run has a censored marker."""
    distance, n_runs = pair["distance"], pair.sizes["run"]
    n_known = int(np.isfinite(distance).sum())
    if not n_known:
        return _between(np.nan, float(pair["lower"].min()), float(pair["upper"].max()))
    have = "has" if n_known == 1 else "have"
    known = f" ({n_known} of {n_runs} runs {have} both markers)" if n_known < n_runs else ""
    return f"median {float(distance.median('run')):+.2f} dex{known}"


def _between(distance: float, low: float, high: float) -> str:
    """Describe a distance with its interval, or the bound that a censored marker gives."""
    if np.isfinite(distance):
        return f"{distance:+.2f} dex ({low:+.2f} to {high:+.2f})"
    bounds = [f"{side} {bound:+.2f}" for side, bound in (("above", low), ("below", high)) if np.isfinite(bound)]
    return f"{' and '.join(bounds)} dex" if bounds else "unknown"
