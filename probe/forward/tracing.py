"""Forward passes that record all sites of a model."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from probe.forward.activations import RecordingMode
from probe.forward.call_graph import CallRecorder, boundary_links
from probe.forward.isolation import isolated, kept_gradients, set_differentiating
from probe.forward.layers import INPUT
from probe.forward.outputs import Select, describe_output
from probe.forward.passes import Edit, Pass, Tap
from probe.forward.sites import TRACE_ROWS, Trace
from probe.forward.transforms import is_transformed


class RecordingPass(Pass):
    """Context manager for a forward pass that visits all sites, and records them.

    Attributes
    ----------
    trace : the visited sites
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Iterable[Tap] = (),
        *,
        edits: Mapping[str, Edit] | None = None,
        output: Select = None,
    ) -> None:
        super().__init__(model, taps, edits=edits, output=output)
        self.trace = Trace(output=output)
        self._hooked |= {INPUT, *self.modules}
        self._activations = RecordingMode(
            self.modules, self._visit_function, lambda: self._in_callback, self._calls, self.trace.uncounted
        )

    def _start_block(self, targets: Any, block: range, mask: Tensor | None) -> None:
        super()._start_block(targets, block, mask)
        self._remaining.clear()  # the pass runs to its end

    def _visit_output(self, output: Any) -> None:
        self.trace.returned = describe_output(output)
        super()._visit_output(output)

    def _is_hooked(self, site: str) -> bool:
        return True

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        tensor = super()._visit(site, tensor)
        if not is_transformed(tensor):  # otherwise the visit inside the transform has recorded the site
            self.trace.record_visit(site, tensor)
        return tensor


def trace(model: nn.Module, inputs: Any, *, output: Select = None) -> Trace:
    """Record the sites of one forward pass.

    Parameters
    ----------
    model : torch.nn.Module
    inputs : Tensor, tuple or mapping
        A few rows. For a :class:`~probe.Snapshot` pass two rows, since shapes in the trace are for two inputs.
    output
        What :data:`~probe.OUTPUT` is, see :meth:`probe.Probe.attach`. Forward passes with this trace use it too.

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
    calls, recording = _recorded_pass(model, inputs, output)
    recorded = recording.trace
    recorded.links = {**calls.links(), **boundary_links(inputs, recorded.order, recording.modules)}
    recorded.entries = calls.entries()
    recorded.iterated = calls.iterated()
    return recorded


def _recorded_pass(model: nn.Module, inputs: Any, output: Select) -> tuple[CallRecorder, RecordingPass]:
    """Run the model with gradients if it needs them, which a pass without shows by its error."""
    try:
        with kept_gradients(model):
            return _run(model, inputs, output)
    except RuntimeError as error:
        if "does not require grad" not in str(error):
            raise
        set_differentiating(model, True)
        try:
            return _run(model, inputs, output)
        except Exception:
            set_differentiating(model, False)
            raise


def _run(model: nn.Module, inputs: Any, output: Select) -> tuple[CallRecorder, RecordingPass]:
    with isolated(model), CallRecorder(model, output) as calls, RecordingPass(model, output=output) as recording:
        recording.run_inputs(inputs, None, range(TRACE_ROWS))
    return calls, recording
