"""Forward passes that record all sites of a model."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from probe.forward.activations import ActivationMode
from probe.forward.call_graph import CallRecorder, boundary_links
from probe.forward.isolation import isolated
from probe.forward.layers import INPUT, OUTPUT
from probe.forward.passes import Edit, Pass, Tap
from probe.forward.sites import Trace


class RecordingPass(Pass):
    """Context manager for a forward pass that visits all sites, and records them.

    Attributes
    ----------
    trace : the visited sites
    """

    def __init__(self, model: nn.Module, taps: Iterable[Tap] = (), *, edits: Mapping[str, Edit] | None = None) -> None:
        super().__init__(model, taps, edits=edits)
        self.trace = Trace()
        self._hooked |= {INPUT, OUTPUT, *self.modules}
        self._activations = ActivationMode(self.modules, self._visit, lambda: self._in_callback)

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        tensor = super()._visit(site, tensor)
        self.trace.record_visit(site, tensor)
        return tensor


def trace(model: nn.Module, inputs: Any) -> Trace:
    """Record the sites of one forward pass.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : Tensor, tuple or mapping
        A few rows. For a :class:`~probe.Snapshot` pass two rows, since shapes in the trace are for two inputs.

    Returns
    -------
    Trace

    See Also
    --------
    probe.Snapshot : Run forward passes with a trace.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import trace
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> recorded = trace(model, torch.ones(2, 3))
    >>> recorded.order
    ['<input>', '0', '1:relu', '1:relu->', '1', '2', '<output>']
    >>> recorded.shapes["1:relu"]
    (2, 4)
    """
    with isolated(model), CallRecorder(model) as calls, RecordingPass(model) as recording:
        recording.run_inputs(inputs)
    recorded, callers = recording.trace, {}
    for site in recorded.calls:
        name, is_function, _ = site.partition(":")
        if is_function and name in recording.modules:
            callers[site] = recording.modules[name]
    recorded.links = {**calls.links(), **boundary_links(inputs, callers)}
    recorded.entries = calls.entries()
    return recorded
