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
from probe.forward.calls import CallCounter, call_of
from probe.forward.data import Batch
from probe.forward.isolation import gradient_mode, torch_defaults, user_defaults
from probe.forward.layers import INPUT, OUTPUT, named_layers
from probe.forward.outputs import Reduce, Select, reduce_output, replace_tensor, tensor_of
from probe.forward.row_buffer import PinnedMemory, RowBuffer
from probe.forward.shards import is_sharded, recovering
from probe.forward.transforms import is_differentiated, is_transformed, look_through, places_of_maps

# edit(value, positions) -> new value of a site; positions are the indices of its rows among the requested rows.
Edit = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Scored:
    """Reduction that receives the targets too.

    Parameters
    ----------
    function : function(output, targets) -> Tensor of shape (n, k)
    mask : bool
        Whether the function has a third argument: the boolean mask (n, T) of the positions that hold a token, or None
        if no input is padded.

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

    function: Callable[..., Tensor]
    mask: bool = False


@dataclass(frozen=True)
class Tap:
    """Request for the values of one site.

    Parameters
    ----------
    site : str
        Name of a layer or of another site.
    reduce
        See :func:`probe.forward.reduce_output`, or a :class:`Scored`. A callable may return None for a value that
        cannot be assigned to the inputs: the site is then not measured.

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
    with recovering(model), gradient_mode(model):
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
    modules
        The named layers of the model, if the caller has them.
    output
        What :data:`~probe.OUTPUT` is, see :func:`probe.forward.outputs.tensor_of`.

    Attributes
    ----------
    taps_by_site : {site: its taps}
    functions : sites of activation functions that were called, if any such site was requested
    """

    def __init__(
        self,
        model: nn.Module,
        taps: Iterable[Tap],
        *,
        edits: Mapping[str, Edit] | None = None,
        modules: Mapping[str, nn.Module] | None = None,
        output: Select = None,
    ) -> None:
        self.model = model
        self._output = output
        self.modules = named_layers(model) if modules is None else modules
        self.edits = dict(edits or {})
        self.taps_by_site: dict[str, list[Tap]] = {}
        for tap in taps:
            self.taps_by_site.setdefault(tap.site, []).append(tap)
        self._buffers: dict[str, list[tuple[Tap, RowBuffer]]] = {}
        self._in_callback = False  # activation functions that edits and reductions call are no sites
        self._hooked = {*self.taps_by_site, *self.edits}
        self._calls = CallCounter(self.modules)
        self.functions: set[str] = set()
        self._to_end = is_sharded(model)  # all ranks are in each pass, which nothing on one of them may end
        self._error: Exception | None = None  # raised at the end of all passes
        self._idle = False
        functional = any(":" in site for site in self._hooked)
        self._activations = self._activation_mode() if functional else None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for handle in self._hooks():
                stack.callback(handle.remove)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        self._stack.close()
        error, self._error = self._error, None
        if error is not None and kind is None:
            raise error

    def begin(self, n_inputs: int, device: torch.device | None = None, group: int = 1) -> None:
        """Allocate buffers for this number of inputs, on a device, or by default where the values are.

        A callable reduction returns rows for each ``group`` of inputs.
        """
        self._group, pinned = group, PinnedMemory()
        self._buffers = {
            site: [(tap, RowBuffer(n_inputs, device, pinned)) for tap in taps]
            for site, taps in self.taps_by_site.items()
        }

    def run(self, data: Batch, rows: Tensor, block: range, device: torch.device) -> None:
        """Run the model on a block of the requested rows of the data."""
        taken = rows[block.start : block.stop]
        self.run_inputs(*data.take(taken, device), block, data.mask_of(taken, device))

    def run_inputs(self, inputs: Any, targets: Any = None, block: range = range(0), mask: Tensor | None = None) -> None:
        """Run the model on inputs. ``block`` holds their positions among the requested rows."""
        self._start_block(targets, block, mask)
        with user_defaults(), self._visiting():
            self._visit_output(call_model(self.model, self._visit_input(inputs)))

    @property
    def block(self) -> range:
        """Positions among the requested rows of the block that runs."""
        return self._block

    def run_idle(self, data: Batch, rows: Tensor, block: range, device: torch.device) -> None:
        """Run the model on a block as other ranks do. Collect and replace nothing."""
        self._idle = True
        try:
            self.run(data, rows, block, device)
        finally:
            self._idle = False

    def found(self, blocks: int) -> dict[Tap, Tensor]:
        """Return the rows of each tap whose site was visited in all ``blocks`` blocks.

        The rows of a site that was visited in some blocks only cannot be assigned to inputs.
        """
        pairs = chain.from_iterable(self._buffers.values())
        return {tap: buffer.rows() for tap, buffer in pairs if buffer.blocks == blocks > 0}

    def _start_block(self, targets: Any, block: range, mask: Tensor | None) -> None:
        self._targets, self._block, self._mask = targets, block, mask
        self._remaining = set(self.taps_by_site)  # the pass stops after the last of them
        self._calls.restart()

    @contextmanager
    def _visiting(self) -> Iterator[None]:
        with self._activations or nullcontext(), suppress(_PassComplete):
            yield
        if self._activations is not None:
            self.functions |= self._calls.functions()

    def _hooks(self) -> Iterator[Any]:
        calls = (call_of(site, self.modules) for site in self._hooked)
        for name in {call.name for call in calls if call is not None}:
            yield self.modules[name].register_forward_hook(self._hook(name))
        if self._activations is not None:
            yield from self._activations.hooks()

    def _activation_mode(self) -> ActivationMode:
        return ActivationMode(self.modules, self._visit_function, lambda: self._in_callback, self._calls)

    def _hook(self, name: str) -> Callable[..., Any]:
        def hook(module: nn.Module, args: Any, output: Any) -> Any:
            try:
                tensor = tensor_of(output, f"layer {name!r}")
            except TypeError:  # a layer whose output holds no tensor is not measured
                return None
            site = self._calls.next(name)
            if not self._is_hooked(site):
                return None
            new = self._visit(site, tensor)
            return None if new is tensor else replace_tensor(output, new, f"layer {site!r}")

        return self._without_errors(hook) if self._to_end else hook

    def _without_errors(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """Return a hook that keeps its first error for the end of all passes, and then does nothing."""

        def wrapper(*args: Any) -> Any:
            if self._idle or self._error is not None:
                return None
            try:
                return hook(*args)
            except Exception as error:
                self._error = error
                return None

        return wrapper

    def _visit_input(self, inputs: Any) -> Any:
        if INPUT not in self._hooked:
            return inputs
        tensor = tensor_of(inputs, "the data")
        new = self._visit_function(INPUT, tensor)
        if new is tensor:
            return inputs
        if isinstance(inputs, Mapping):
            return {key: new if value is tensor else value for key, value in inputs.items()}
        return replace_tensor(inputs, new, "the data")

    def _visit_output(self, output: Any) -> None:
        """Process the output of the model. A hook would also receive the outputs of a model that calls itself."""
        if not self._is_hooked(OUTPUT):
            return
        try:
            tensor = tensor_of(output, f"layer {OUTPUT!r}", self._output)
        except TypeError:  # not measured
            return
        self._visit_function(OUTPUT, tensor)

    def _is_hooked(self, site: str) -> bool:
        """Return whether hooks process the value of a site."""
        return site in self._hooked

    def _visit_function(self, site: str, tensor: Tensor) -> Tensor:
        """Process the value of a site of a function."""
        if not self._to_end:
            return self._visit(site, tensor)
        found = self._without_errors(self._visit)(site, tensor)
        return tensor if found is None else found

    def _visit(self, site: str, tensor: Tensor) -> Tensor:
        """Process the value of a site, and return the value that replaces it."""
        if self._is_hooked(site) and is_transformed(tensor):
            if site in self.edits and is_differentiated(tensor):
                raise _differentiates(site)
            known = places_of_maps(self.model, site)
            return look_through(tensor, len(self._block), lambda value: self._visit(site, value), known)
        if site in self.edits or site in self.taps_by_site:
            self._in_callback = True
            try:
                with torch_defaults():
                    tensor = self._process(site, tensor)
            finally:
                self._in_callback = False
        if site in self._remaining:
            self._remaining.discard(site)
            if not self._remaining and not self._to_end:
                raise _PassComplete
        return tensor

    def _process(self, site: str, tensor: Tensor) -> Tensor:
        if not tensor.requires_grad:
            return self._collect(site, tensor)
        if site in self.edits and not torch.is_grad_enabled() and tensor.is_leaf:
            return self._collect(site, tensor.detach()).detach().requires_grad_()  # a hook has set it, for checkpoints
        if site in self.edits:
            raise _differentiates(site)
        with torch.no_grad():
            return self._collect(site, tensor)

    def _collect(self, site: str, tensor: Tensor) -> Tensor:
        if site in self.edits:
            positions = torch.arange(self._block.start, self._block.stop, device=tensor.device)
            tensor = self.edits[site](tensor, positions)
        for tap, buffer in self._buffers.get(site, ()):
            rows = self._reduce(tap, tensor)
            if rows is not None:  # otherwise the site is not measured
                buffer.add(rows, self._block)
        return tensor

    def _reduce(self, tap: Tap, tensor: Tensor) -> Tensor | None:
        """Return the rows of a value. Return None for a value that cannot be assigned to the inputs."""
        if isinstance(tap.reduce, Scored):
            return tap.reduce.function(tensor, self._targets, *([self._mask] if tap.reduce.mask else []))
        n = len(self._block)
        if tap.reduce == "none" and tensor.shape[:1] != (n,):
            return None
        if callable(tap.reduce):
            made = tap.reduce(tensor)
            if made is None:
                return None
            rows = reduce_output(tensor, lambda _: made, f"layer {tap.site!r}")
            if len(rows) and len(rows) % (n // self._group) == 0:  # rows of each input, or of each group of inputs
                return rows
        else:
            rows = reduce_output(tensor, tap.reduce, f"layer {tap.site!r}", mask=self._mask)
            if tensor.shape[0] == n:
                return rows
        raise ValueError(
            f"Expected one row for each of {n} inputs from layer {tap.site!r}, got shape {tuple(tensor.shape)}; pass a "
            "callable reduce= that returns such rows (lambda z: z[-1] for (T, n, d)), or select other layers"
        )


def _differentiates(site: str) -> ValueError:
    return ValueError(
        f"Expected forward passes in which the value of {site!r} can be replaced, got a model that computes "
        "derivatives in its forward pass, which would be those of another function; leave out this probe, or choose "
        f"{INPUT!r}"
    )
