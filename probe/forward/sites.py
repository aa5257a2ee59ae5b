"""Sites of the forward pass of a model.

A *site* is a place in the forward pass. Its name is one of these:

- the name of a layer, for the output of its first call; ``"<layer>.2"``, ``"<layer>.3"`` and so on for later calls
  (``"<layer>#2"`` if the children of the layer have numbers as names);
- :data:`~probe.INPUT` or :data:`~probe.OUTPUT`, for the input or the output of the model;
- ``"<module>:<function>"``, for the input of an activation function, such as ``"blocks.0.mlp:gelu"``. A function that
  does not bend at 0 has one site for each bend, which holds the distance from the bend: ``"mlp:clamp_min"`` holds
  x - min. :mod:`probe.forward.activations` lists the functions;
- ``"<module>:<function>->"``, for the output of an activation function, such as ``"blocks.0.mlp:gelu->"``.

Activation modules and functional calls (``F.gelu``) have the same kind of sites. If a module calls one function several
times, the later calls are ``"<module>:<function>.2"``, ``"<module>:<function>.3"`` and so on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from probe.forward.call_graph import Link, common_items
from probe.forward.calls import call_name, call_of
from probe.forward.layers import OUTPUT
from probe.forward.outputs import OutputError, Select

TRACE_ROWS = 2  # number of rows in the forward pass that records a trace
_FLOATING = "floating-point numbers"


@dataclass
class Trace:
    """Sites of one small forward pass, in the order of their visits. The pass visits each site once.

    Attributes
    ----------
    shapes : dict
        Shape of the value of each site, for :data:`TRACE_ROWS` inputs.
    kinds : dict
        Kind of the numbers of each site: floating-point numbers, complex numbers or integers.
    links, entries : dict
        Calls that pass a value on unchanged, see :mod:`probe.forward.call_graph`.
    iterated : list of str
        Layers that are called several times and return values of the shape of their input.
    default_layers : list of str
        Default layers of the model, after they were selected once.
    output
        The part of what the model returns that is :data:`~probe.OUTPUT`, see :meth:`probe.Probe.attach`.
    returned : str
        Description of what the model returns, for error messages.
    uncounted : dict
        ``{module: {function: shape of its argument}}`` for the nonlinear functions without a site, see
        :mod:`probe.forward.activations`.
    untraced : set of str, or None
        Activation functions that fire for other inputs than those of the trace, once a probe has looked for them.
    partial : dict
        Whether a site receives a part of the inputs only, once a selection has asked for it.
    warned : set of str
        Keys of the warnings that observations have issued, see :meth:`probe.Snapshot.warn_once`.
    operations : int, or None
        Floating-point operations of the forward pass of one input, once a probe has asked for them.
    conditions : dict
        Outcomes of the conditions that the last measurement of each probe tested on a device, see
        :mod:`probe.reads`.

    See Also
    --------
    trace : Record a trace.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import trace
    >>> recorded = trace(torch.nn.Sequential(torch.nn.Embedding(5, 3), torch.nn.Tanh()), torch.tensor([1, 2]))
    >>> recorded.activations, recorded.is_floating("0"), recorded.describe("<input>")
    (['1:tanh'], True, 'holds integers')
    """

    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)
    iterated: list[str] = field(default_factory=list)
    default_layers: list[str] = field(default_factory=list)
    output: Select = None
    returned: str = ""
    uncounted: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    untraced: set[str] | None = None
    partial: dict[str, bool] = field(default_factory=dict)
    warned: set[str] = field(default_factory=set)
    operations: int | None = None
    conditions: dict[str, list[bool]] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """The sites in the order of their visits."""
        return list(self.shapes)

    @property
    def activations(self) -> list[str]:
        """The inputs of activation functions (pre-activations)."""
        return [site for site in self.shapes if ":" in site and not site.endswith("->")]

    def activations_in(self, site: str, modules: Mapping[str, nn.Module]) -> list[str]:
        """Return the inputs of the activation functions inside the call of a layer."""
        call = call_of(site, modules)
        if call is None:
            return []
        inside = [site for site in self.activations if f"{site.split(':')[0]}.".startswith(f"{call.name}.")]
        if site not in self.shapes:  # a layer that returns no tensor
            return inside
        order = {visited: place for place, visited in enumerate(self.shapes)}
        start = -1 if call.number == 1 else order[call_name(call.name, call.number - 1, modules)]
        return [activation for activation in inside if start < order[activation] < order[site]]

    def is_floating(self, site: str) -> bool:
        """Return whether the forward pass visits a site, and its values are floating-point numbers."""
        return self.kinds.get(site) == _FLOATING

    def has_rows(self, site: str) -> bool:
        """Return whether the first axis of a visited site has one row for each input."""
        return self.shapes[site][:1] == (TRACE_ROWS,)

    def check_output(self, reduce: Any) -> None:
        """Raise OutputError unless the model returns a tensor, with one row for each input if a reduction needs it."""
        own = callable(reduce) or not getattr(reduce, "mask", True)  # a function of the user may need other shapes
        if OUTPUT in self.shapes and (own or self.has_rows(OUTPUT)):
            return
        measured = f", measured at shape {self.shapes[OUTPUT]}" if OUTPUT in self.shapes else ""
        raise OutputError(
            f"Expected a tensor with one row for each of {TRACE_ROWS} inputs as the output of the model, got "
            f"{self.returned}{measured}; pass output=, a key, an index, an attribute or a function of what the model "
            "returns, such as lambda output: output.movedim(1, 0)"
        )

    def describe(self, site: str) -> str:
        """Return a description of a site for error messages, such as ``"holds integers"``."""
        return f"holds {self.kinds[site]}" if site in self.kinds else "does not fire"

    def merge(self, other: "Trace") -> None:
        """Add the sites of another forward pass. Keep only the links that both passes have."""
        self.returned = self.returned or other.returned
        self.links = common_items(self.links, other.links) if self.shapes else dict(other.links)
        self.entries = common_items(self.entries, other.entries) if self.shapes else dict(other.entries)
        for module, functions in other.uncounted.items():
            self.uncounted[module] = {**functions, **self.uncounted.get(module, {})}
        self.iterated = sorted({*self.iterated, *other.iterated})
        order = _united(list(self.shapes), list(other.shapes))
        self.shapes = {site: (self.shapes if site in self.shapes else other.shapes)[site] for site in order}
        self.kinds = {site: (self.kinds if site in self.kinds else other.kinds)[site] for site in order}

    def record_visit(self, site: str, value: Tensor) -> None:
        """Add a site."""
        self.shapes[site] = tuple(value.shape)
        self.kinds[site] = _kind(value)


def _united(one: list[str], other: list[str]) -> list[str]:
    """Return the names of both lists. A name of the second list alone follows its predecessor there."""
    found, known, place = list(one), set(one), 0
    for name in () if known.issuperset(other) else other:
        if name in known:
            place = found.index(name) + 1
        else:
            found.insert(place, name)
            place += 1
    return found


def _kind(value: Tensor) -> str:
    return _FLOATING if value.is_floating_point() else "complex numbers" if value.is_complex() else "integers"
