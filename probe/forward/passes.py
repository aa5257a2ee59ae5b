"""Forward passes that collect and replace values at sites of the model, and leave the model unchanged.

See :mod:`probe.forward.sites` for the sites of a model.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from probe.forward.activations import ActivationMode
from probe.forward.data import Batch
from probe.forward.isolation import torch_defaults, user_defaults
from probe.forward.layers import INPUT, OUTPUT, named_layers
from probe.forward.outputs import Reduce, reduce_output, replace_tensor, tensor_of
from probe.forward.row_buffer import RowBuffer
from probe.forward.sites import Trace

# edit(value, positions) -> new value of a site; positions are the indices of its rows among the requested rows.
Edit = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scored:
    """Reduction that receives the targets too.

    Parameters
    ----------
    function : function(output, targets) -> Tensor of shape (n, k)

    See Also
    --------
    score_rows : A function for this purpose.

    Examples
    --------
    >>> import torch
    >>> from probe.forward import OUTPUT, Scored, Snapshot, read_data, score_rows, trace
    >>> model, x = torch.nn.Identity(), torch.tensor([[0.0, 9.0], [0.0, 9.0]])
    >>> snapshot = Snapshot(model, 0, read_data((x, torch.tensor([1, 0]))), trace(model, x))
    >>> scores = snapshot.outputs("all", [OUTPUT], reduce=Scored(score_rows))[OUTPUT]
    >>> scores[:, 1].tolist()  # correct predictions
    [1.0, 0.0]
    """

    function: Callable[[Tensor, Any], Tensor]


@dataclass(frozen=True)
class Tap:
    """Request for the values of one site.

    Parameters
    ----------
    site : str
        Name of a layer or of another site.
    reduce
        See :func:`probe.forward.reduce_output`, or a :class:`Scored`.

    See Also
    --------
    probe.Probe.taps : Return the requests of a probe for the shared forward pass.

    Examples
    --------
    >>> from probe import Tap
    >>> Tap("blocks.0", "mean")
    Tap(site='blocks.0', reduce='mean')
    """

    site: str
    reduce: Reduce | Scored = None


class _PassComplete(Exception):  # noqa: N818
    """Raised inside a forward pass after the last requested site."""


def call_model(model: nn.Module, inputs: Any) -> Any:
    """Return ``model(x)`` for a tensor, ``model(*x)`` for a tuple, ``model(**x)`` for a mapping."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    if isinstance(inputs, (tuple, list)):
        return model(*inputs)
    return model(inputs)


class Pass:
    """Context manager for forward passes that collect the reduced values of sites. It registers the hooks they need.

    Parameters
    ----------
    model
    taps
        The requested values. Only the reduced values are kept.
    edits
        ``{site: edit}`` for layers (or the input) whose value is replaced.
    trace
        The trace of the model, with which a pass stops after the last requested site.
    modules
        The named layers of the model, if the caller has them.

    Attributes
    ----------
    taps_by_site : {site: its taps}
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Iterable[Tap],
        *,
        edits: Mapping[str, Edit] | None = None,
        trace: Trace | None = None,
        modules: Mapping[str, nn.Module] | None = None,
    ) -> None:
        self.model = model
        self.modules = named_layers(model) if modules is None else modules
        self.edits = dict(edits or {})
        self.taps_by_site: dict[str, list[Tap]] = {}
        for tap in taps:
            self.taps_by_site.setdefault(tap.site, []).append(tap)
        self._buffers: dict[str, list[tuple[Tap, RowBuffer]]] = {}
        self._in_callback = False  # activation functions that edits and reductions call are no sites
        # A pass runs to its end if a requested site has several calls, or the trace does not have it.
        stops = trace is not None and all(trace.calls.get(site) == 1 for site in self.taps_by_site)
        self._stop_sites = set(self.taps_by_site) if stops else set()
        self._hooked = {*self.taps_by_site, *self.edits}
        functional = any(":" in site for site in self._hooked)
        self._activations = ActivationMode(self.modules, self._visit, lambda: self._in_callback) if functional else None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for handle in self._hooks():
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stack.close()

    def begin(self, n_inputs: int, device: torch.device | None = None) -> None:
        """Allocate buffers for this number of inputs, on a device, or by default where the values are."""
        self._buffers = {
            site: [(tap, RowBuffer(n_inputs, device)) for tap in taps] for site, taps in self.taps_by_site.items()
        }

    def run(self, data: Batch, rows: Tensor, block: range, device: torch.device) -> None:
        """Run the model on a block of the requested rows of the data."""
        self.run_inputs(*data.take(rows[block.start : block.stop], device), block)

    def run_inputs(self, inputs: Any, targets: Any = None, block: range = range(0)) -> None:
        """Run the model on inputs. ``block`` holds their positions among the requested rows."""
        self._start_block(targets, block)
        with user_defaults(), self._visiting():
            call_model(self.model, self._visit_input(inputs))

    def found(self, blocks: int) -> dict[Tap, Tensor]:
        """Return the rows of each tap whose site was visited in all ``blocks`` blocks.

        The rows of a site that was visited in some blocks only cannot be assigned to inputs.
        """
        pairs = chain.from_iterable(self._buffers.values())
        return {tap: buffer.rows() for tap, buffer in pairs if buffer.blocks == blocks > 0}

    def _start_block(self, targets: Any, block: range) -> None:
        self._targets, self._block = targets, block
        self._remaining = set(self._stop_sites)

    @contextmanager
    def _visiting(self) -> Iterator[None]:
        with self._activations or nullcontext(), suppress(_PassComplete):
            yield

    def _hooks(self) -> Iterator[Any]:
        for name in self._hooked & self.modules.keys():
            yield self.modules[name].register_forward_hook(self._hook(name))
        if OUTPUT in self._hooked:
            yield self.model.register_forward_hook(self._hook(OUTPUT))
        if self._activations is not None:
            yield from self._activations.hooks()

    def _hook(self, site: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            try:
                tensor = tensor_of(output, f"layer {site!r}")
            except TypeError:  # a layer whose output holds no tensor is not measured
                return None
            new = self._visit(site, tensor)
            return None if new is tensor else replace_tensor(output, new, f"layer {site!r}")

        return hook

    def _visit_input(self, inputs: Any) -> Any:
        if INPUT not in self._hooked:
            return inputs
        tensor = tensor_of(inputs, "the data")
        new = self._visit(INPUT, tensor)
        if new is tensor:
            return inputs
        if isinstance(inputs, Mapping):
            return {key: new if value is tensor else value for key, value in inputs.items()}
        return replace_tensor(inputs, new, "the data")

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        """Process the value of a site, and return the value that replaces it."""
        if site in self.edits or site in self.taps_by_site:
            self._in_callback = True
            try:
                with torch_defaults():
                    tensor = self._process(site, tensor)
            finally:
                self._in_callback = False
        if site in self._remaining:
            self._remaining.discard(site)
            if not self._remaining:
                raise _PassComplete
        return tensor

    def _process(self, site: str, tensor: Tensor) -> Tensor:
        if site in self.edits:
            positions = torch.arange(self._block.start, self._block.stop, device=tensor.device)
            tensor = self.edits[site](tensor, positions)
        for tap, buffer in self._buffers.get(site, ()):
            buffer.add(self._reduce(tap, tensor), self._block)
        return tensor

    def _reduce(self, tap: Tap, tensor: Tensor) -> Tensor:
        if isinstance(tap.reduce, Scored):
            return tap.reduce.function(tensor, self._targets)
        rows, n = reduce_output(tensor, tap.reduce, f"layer {tap.site!r}"), len(self._block)
        if callable(tap.reduce) or tap.reduce in ("tokens", "none") or len(rows) == n:
            return rows
        raise ValueError(
            f"Expected one row for each of {n} inputs from layer {tap.site!r}, got shape {tuple(tensor.shape)}; pass a "
            "callable reduce= that returns such rows (lambda z: z[-1] for (T, n, d)), or select other layers"
        )
