"""Sites of the forward pass of a model.

A *site* is a place in the forward pass. Its name is one of these:

- the name of a layer, for the output of this layer;
- :data:`~probe.INPUT` or :data:`~probe.OUTPUT`, for the input or the output of the model;
- ``"<module>:<function>"``, for the input of an activation function, such as ``"blocks.0.mlp:gelu"``;
- ``"<module>:<function>->"``, for the output of an activation function, such as ``"blocks.0.mlp:gelu->"``.

Activation modules and functional calls (``F.gelu``) have the same kind of sites. If a module calls one function several
times, the later calls are ``"<module>:<function>.2"``, ``"<module>:<function>.3"`` and so on.
"""

from dataclasses import dataclass, field

from torch import Tensor

from probe.forward.call_graph import Link, common_items

TRACE_ROWS = 2  # number of rows in the forward pass that records a trace
_FLOATING = "floating-point numbers"


@dataclass
class Trace:
    """Sites of one small forward pass, in the order of their first visit.

    Attributes
    ----------
    calls : dict
        Number of visits of each site.
    shapes : dict
        Shape of the first value of each site, for :data:`TRACE_ROWS` inputs.
    kinds : dict
        Kind of the numbers of each site: floating-point numbers, complex numbers or integers.
    links, entries : dict
        Calls that pass a value on unchanged, see :mod:`probe.forward.call_graph`.
    default_layers : list of str
        Default layers of the model, after they were selected once.
    units : dict
        ``{(split, site): number of units for one input}``, for the sites for which a probe has counted them.

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

    calls: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)
    entries: dict[str, str] = field(default_factory=dict)
    default_layers: list[str] = field(default_factory=list)
    units: dict[tuple[str, str], int] = field(default_factory=dict)

    @property
    def order(self) -> list[str]:
        """The sites in the order of their first visit."""
        return list(self.calls)

    @property
    def activations(self) -> list[str]:
        """The inputs of activation functions (pre-activations)."""
        return [site for site in self.calls if ":" in site and not site.endswith("->")]

    def is_floating(self, site: str) -> bool:
        """Return whether the forward pass visits a site, and its values are floating-point numbers."""
        return self.kinds.get(site) == _FLOATING

    def has_rows(self, site: str) -> bool:
        """Return whether the first axis of a visited site has one row for each input."""
        return self.shapes[site][:1] == (TRACE_ROWS,)

    def describe(self, site: str) -> str:
        """Return a description of a site for error messages, such as ``"holds integers"``."""
        return f"holds {self.kinds[site]}" if site in self.kinds else "does not fire"

    def merge(self, other: "Trace") -> None:
        """Add the sites of another forward pass. Keep only the links that both passes have."""
        self.links = common_items(self.links, other.links) if self.calls else dict(other.links)
        self.entries = common_items(self.entries, other.entries) if self.calls else dict(other.entries)
        for site, calls in other.calls.items():
            self.calls[site] = max(calls, self.calls.get(site, 0))
            self.shapes.setdefault(site, other.shapes[site])
            self.kinds.setdefault(site, other.kinds[site])

    def record_visit(self, site: str, value: Tensor) -> None:
        """Count one visit of a site."""
        self.calls[site] = self.calls.get(site, 0) + 1
        self.shapes.setdefault(site, tuple(value.shape))
        self.kinds.setdefault(site, _kind(value))


def _kind(value: Tensor) -> str:
    return _FLOATING if value.is_floating_point() else "complex numbers" if value.is_complex() else "integers"
