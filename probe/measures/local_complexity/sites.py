"""Selection of the counted sites, and notes on the functions that are not counted."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from probe.errors import warn_user
from probe.forward.activations import UNCOUNTED_ACTIVATIONS
from probe.forward.layers import Layers
from probe.forward.sites import TRACE_ROWS, Trace
from probe.forward.snapshot import Snapshot

_MOST = 20  # names in a note


def counted_sites(snapshot: Snapshot, stem: str, layers: Layers) -> list[str]:
    """Return the counted sites: activation functions inside the named layers, else the outputs of these layers.

    If no layer is named, all activation functions after the stem are counted.
    """
    order = snapshot.trace.order
    after = order[order.index(stem) :]
    sites = _named(snapshot, layers) or [site for site in snapshot.trace.activations if site in after]
    if not sites and snapshot.trace.activations:
        raise ValueError(
            f"Expected an activation function after the stem {stem!r}, got only earlier ones "
            f"({', '.join(snapshot.trace.activations)}); name an earlier stem with floating-point numbers, "
            "LocalComplexityProbe(stem=...), or leave this probe out"
        )
    if not sites:
        raise ValueError(
            f"Expected a counted activation function after the stem {stem!r}, got none (others: "
            f"{uncounted_functions(snapshot.trace) or 'none'}); name layers whose outputs are pre-activations, "
            "LocalComplexityProbe(layers=...), or leave this probe out"
        )
    for site in sites:
        if site in order and site not in after:
            raise ValueError(
                f"Expected sites after the stem {stem!r}, got {site!r}, which comes before it; choose later layers"
            )
    _check_rows(snapshot, stem, sites)
    return sites


def _named(snapshot: Snapshot, layers: Layers) -> list[str]:
    sites: list[str] = []
    for layer in () if layers is None else snapshot.select(layers):
        sites += snapshot.trace.activations_in(layer, snapshot.modules) or [layer]
    return list(dict.fromkeys(sites))


def _check_rows(snapshot: Snapshot, stem: str, sites: Sequence[str]) -> None:
    """Raise ValueError if a named layer, or each of the activation functions, lacks one row for each input."""
    wrong = [site for site in sites if not traced_rows(snapshot.trace, site)]
    if named := [site for site in wrong if ":" not in site]:
        raise ValueError(
            f"Expected layers with one row for each input, got {named[0]!r} of shape "
            f"{snapshot.trace.shapes[named[0]]} for {TRACE_ROWS} inputs; name layers whose outputs are "
            "pre-activations, LocalComplexityProbe(layers=...), or leave this probe out"
        )
    if len(wrong) == len(sites):
        raise no_rows_error(f"other rows (experts, tokens, steps) at {_joined(sites, ', ')}")


def no_rows_error(got: str) -> ValueError:
    """Return the error of a measurement in which no activation function can be counted."""
    return ValueError(
        f"Expected an activation function with one row for each input, got {got}; name layers whose outputs are "
        "pre-activations, LocalComplexityProbe(layers=...), attach again if the model has changed, or leave this "
        "probe out"
    )


def traced_rows(trace: Trace, site: str) -> bool:
    """Return whether a site had one row for each input in the trace. A site that did not fire may have them later."""
    return site not in trace.shapes or trace.has_rows(site)


def untraced_functions(snapshot: Snapshot, rows: Mapping[str, Tensor], layers: Layers) -> list[str]:
    """Return the activation functions that fire for some of these rows only, so that the trace does not have them.

    The first observation looks for them with one pass over the rows, later ones in their own passes.
    """
    trace = snapshot.trace
    if trace.untraced is None:
        trace.untraced = set().union(*(snapshot.find_untraced(split, some) for split, some in rows.items()))
    found = sorted(snapshot.untraced | trace.untraced)
    if layers is None:
        return found
    inside = tuple(f"{layer}." for layer in snapshot.select(layers))
    return [site for site in found if f"{site.split(':')[0]}.".startswith(inside)]


def uncounted_functions(trace: Trace) -> str:
    """Return the nonlinear functions without a site by module, as ``"attention: softmax; 0: lstm"``."""
    return _joined([f"{name or 'model'}: {', '.join(functions)}" for name, functions in trace.uncounted.items()], "; ")


def warn_of_uncounted(snapshot: Snapshot, without_rows: Sequence[str]) -> None:
    """Warn of activation functions that are not counted, at the first observation."""
    modules = _without_counts(snapshot.trace)
    if not (without_rows or modules) or len(snapshot.history("local_complexity_units")):
        return
    if without_rows:
        warn_user(
            "Expected activation functions with one row for each input, got other rows (experts, tokens, steps) at "
            f"{_joined(without_rows, ', ')}; they are not counted (NaN, and -1 in the flag). Choose layers with "
            "LocalComplexityProbe(layers=...), or read the counts without them"
        )
    if modules:
        warn_user(
            "Expected activation functions that LocalComplexityProbe counts, got modules with others only: "
            f"{_joined(modules, '; ')}; these are not counted. Name layers whose outputs are pre-activations with "
            "LocalComplexityProbe(layers=...), or read the counts without them"
        )


def _without_counts(trace: Trace) -> list[str]:
    """Return the modules that call uncounted activation functions on the rows of the inputs, and no counted ones."""
    counted = [f"{site.split(':')[0]}." for site in trace.activations]
    found = []
    for module, functions in trace.uncounted.items():
        names = [name for name, shape in functions.items() if name in UNCOUNTED_ACTIVATIONS and TRACE_ROWS in shape[:2]]
        if names and not any(caller.startswith(f"{module}.") for caller in counted):
            found.append(f"{module or 'model'}: {', '.join(names)}")
    return found


def _joined(names: Sequence[str], separator: str) -> str:
    more = f"{separator}and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return separator.join(names[:_MOST]) + more
