"""Judge universality (arXiv:2504.12700, section 4.3): whether networks flow to the same spectrum of their weights.

The rule is that of `probe.stats.spectral_flow` with its defaults, on the matrices that both groups have, for the mean
of the last three observations. It was fixed before any spectrum of these runs was seen. The seeds of one task are
compared by halves, 0, 2, 4 against 1, 3, 5. Three against three runs cannot reject, so their verdict is confirmed or
undecided.
"""

from collections.abc import Iterator

import xarray as xr

from probe.stats import spectral_flow
from reference.claims.base import Claim, Finding, nothing_published
from reference.claims.two_phases.coarse_graining import NAMES, recorded
from reference.claims.two_phases.evidence import Evidence
from reference.claims.verdicts import CONFIRMED, NOT_CONFIRMED, UNDECIDED, Verdict
from reference.experiments.coarse_graining_analysis import LAST

WIDTHS = ("perceptron", "perceptron-narrow")
TASKS = (("demo", "division-97"), ("perceptron", "digits"))
SCALES = {"quantile": "values at equal shares of the modes", "modes": "values at equal numbers of the mode"}
MARGIN = 0.25  # of the flow
_REVERSED = {CONFIRMED: NOT_CONFIRMED, NOT_CONFIRMED: CONFIRMED}


def _spectra(series: xr.Dataset, kind: str = "run", **runs: slice) -> xr.DataArray:
    """Return spectra (run, step, parameter, rank) at the first step (0) and at the last three (1 to 3)."""
    chosen = series["spectrum"].sel(kind=kind, snapshot=["first", *LAST]).isel(runs)
    return chosen.rename(snapshot="step").assign_coords(step=range(1 + len(LAST)))


def compare(first: xr.DataArray, second: xr.DataArray, scale: str = "quantile") -> Verdict:
    """Return whether two groups of runs flow to the same spectrum, with the distances."""
    found = spectral_flow({"a": first, "b": second}, (1, len(LAST)), scale=scale, margin=MARGIN)
    one = found.squeeze("pair").sel(parameter="<all>")
    share = {name: float(one[name] / one["flow"]) for name in ("difference", "difference_high", "first_difference")}
    numbers = f"distance of the mean spectra, over the flow: {share['difference']:.2f} (bound "
    numbers += f"{share['difference_high']:.2f}), {share['first_difference']:.2f} at the start; flow "
    numbers += (
        f"{float(one['flow']):.3f}, p {float(one['p_value']):.3f} ({first.sizes['run']} and {second.sizes['run']})"
    )
    return Verdict(str(one["verdict"].item()), numbers)


def seeds_alike(evidence: Evidence) -> Iterator[Finding]:
    """Compare two halves of the seeds of each task."""
    for name in NAMES:
        halves = [_spectra(recorded(evidence, name), run=slice(first, None, 2)) for first in (0, 1)]
        yield Finding(f"coarse-graining-{name}, halves of the seeds", compare(halves[0], halves[1]))


def widths_alike(evidence: Evidence) -> Iterator[Finding]:
    """Compare two widths of one network on one task."""
    try:
        wide, narrow = (_spectra(recorded(evidence, name)) for name in WIDTHS)
    except FileNotFoundError:
        missing = f"not recorded: `python -m reference coarse-graining {WIDTHS[1]}`"
        yield Finding(f"coarse-graining-{' and -'.join(WIDTHS)}", Verdict(UNDECIDED, missing))
        return
    for scale, text in SCALES.items():
        yield Finding(f"coarse-graining-{' and -'.join(WIDTHS)}, {text}", compare(wide, narrow, scale))


def tasks_alike(evidence: Evidence) -> Iterator[Finding]:
    """Compare two tasks of one kind of network."""
    for pair in TASKS:
        one, other = (_spectra(recorded(evidence, name)) for name in pair)
        yield Finding(f"coarse-graining-{' and -'.join(pair)}", compare(one, other))


def controls_differ(evidence: Evidence) -> Iterator[Finding]:
    """Judge whether runs and controls flow to different spectra."""
    for name in NAMES:
        one, other = (_spectra(recorded(evidence, name), kind) for kind in ("run", "control"))
        same = compare(one, other)
        yield Finding(f"coarse-graining-{name}", Verdict(_REVERSED.get(same.word, same.word), same.numbers))


_WHERE = "4.3"
_ANALOGY = "models with different microscopic structures show the same large-scale behaviour (universality)"
_SAME = f"the bound of the distance of their mean spectra at the end is below {MARGIN:g} of the flow"

UNIVERSALITY_CLAIMS = [
    Claim("seeds flow to one spectrum", _WHERE, _ANALOGY, _SAME, nothing_published, seeds_alike),
    Claim("widths flow to one spectrum", _WHERE, _ANALOGY, _SAME, nothing_published, widths_alike),
    Claim("tasks flow to one spectrum", _WHERE, _ANALOGY, _SAME, nothing_published, tasks_alike),
    Claim(
        "runs and controls flow to different spectra",
        _WHERE,
        "(no claim of the paper: we test whether the flow belongs to generalisation)",
        f"a permutation test of whole runs rejects one law, at a distance above {MARGIN:g} of the flow",
        nothing_published,
        controls_differ,
    ),
]
