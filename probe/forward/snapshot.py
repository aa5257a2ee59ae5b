"""The view of a probe: a model at one step, fixed data, and forward passes with edits."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.errors import warn_user
from probe.forward.activations import is_hidden_value
from probe.forward.calls import spread_calls
from probe.forward.data import Batch
from probe.forward.gradients import summed_gradient
from probe.forward.layers import INPUT, OUTPUT, Layers, advised_names, default_groups, default_layers, select_layers
from probe.forward.operations import MAX_ROWS, PASSES, default_rows
from probe.forward.outputs import Reduce
from probe.forward.passes import Edit, Pass, Scored, Tap
from probe.forward.piecewise.network import piecewise_linear
from probe.forward.routing import partial_layers
from probe.forward.runner import Division, Runner
from probe.forward.sites import TRACE_ROWS, Trace
from probe.forward.suffix import MakeValues
from probe.forward.suffix_check import SuffixCheck
from probe.forward.training import TrainingContext
from probe.geometry.networks import PiecewiseLinear
from probe.reads import CPU, Conditions, Reads, expecting, moved

MAX_DEFAULT_CALLS = 16  # of one layer
_SHARED = "shared pass"  # the key of its conditions
_GRAPH = 1 << 25  # numbers at the sites of a pass with derivatives: 128 MiB in float32


class Snapshot:
    """A model at one step, with its data.

    Parameters
    ----------
    model : torch.nn.Module
        The unwrapped module.
    step : int
        Number of completed optimiser updates.
    data : {split: Batch}
        See :func:`probe.forward.read_data`.
    trace : Trace
        See :func:`probe.forward.trace`.
    shared : iterable of Tap
        Values that one shared pass over each split collects.
    batch_size : int
        Number of rows in one forward pass.
    division : Division, optional
        The ranks that divide the blocks of each pass among each other. Default: this one runs all blocks.

    Attributes
    ----------
    history : function(name) -> array of shape (observations, ...)
        Values of one of the probe's variables at earlier steps of this recording, also if it was resumed. The array is
        empty if there are none.
    labels : function(name, dim) -> list
        Labels of one of the probe's variables along a dimension, as the first observation declared them. The list is
        empty if there is none.
    kept : function(name) -> array or None
        Copy of the last value of this name that the probe returned with ``keep=True`` before this observation, also if
        the recording was resumed. None if there is none.
    training : TrainingContext or None
        The context of the training that was passed to ``attach``.

    See Also
    --------
    probe.Probe.measure : Receives a snapshot at each observation.

    Examples
    --------
    >>> import torch
    >>> from probe import OUTPUT, Snapshot
    >>> from probe.forward import read_data, trace
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> x = torch.ones(10, 3)
    >>> snapshot = Snapshot(model, 0, read_data((x, None)), trace(model, x[:2]))
    >>> outputs = snapshot.outputs("all", ["0", "1:relu"])
    >>> {site: tuple(rows.shape) for site, rows in outputs.items()}
    {'0': (10, 4), '1:relu': (10, 4)}

    A forward pass with another value at a site:

    >>> zeroed = snapshot.outputs("all", [OUTPUT], edit={"1": lambda output, positions: 0 * output})
    >>> torch.allclose(zeroed[OUTPUT], model[2].bias)
    True

    Only the modules after the site run if :meth:`outputs_from` provides its values:

    >>> values = torch.zeros(3, 4)
    >>> later = snapshot.outputs_from("all", "1", lambda at: values[at], [OUTPUT], rows=torch.tensor([0, 0, 0]))
    >>> snapshot.has_suffix("all", "1", [OUTPUT]), torch.allclose(later[OUTPUT], model[2].bias)
    (True, True)
    """

    def __init__(
        self,
        model: nn.Module,
        step: int,
        data: Mapping[str, Batch],
        trace: Trace,
        *,
        shared: Iterable[Tap] = (),
        batch_size: int = 512,
        division: Division | None = None,
    ) -> None:
        self.model = model
        self.step = step
        self.data = data
        self.trace = trace
        self.batch_size = batch_size
        self.history: Callable[[str], np.ndarray] = lambda name: np.empty(0)
        self.labels: Callable[[str, str], list[str]] = lambda name, dim: []
        self.kept: Callable[[str], np.ndarray | None] = lambda name: None
        self.training: TrainingContext | None = None
        self._runner = Runner(model, data, trace, batch_size, division)
        self._check = SuffixCheck(self._runner)
        self._shared = tuple(dict.fromkeys(shared))
        self._shared_rows: dict[str, dict[Tap, Tensor]] = {}
        self._versions: dict[str, list[int]] = {}  # of the shared rows of each split, in the order of the taps
        self._unread: tuple[list[bool], Tensor] | None = None  # expected and true outcomes of conditions of this pass
        self._error: Exception | None = None

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The layers by name."""
        return self._runner.modules

    @property
    def device(self) -> torch.device:
        """Device of the inputs of the model."""
        return self._runner.device

    @property
    def divided(self) -> bool:
        """Return whether several ranks divide the forward passes."""
        return self._runner.division is not None

    @property
    def reads(self) -> Reads:
        """The copies from the device to the CPU that are queued."""
        return self._runner.reads

    @property
    def splits(self) -> list[str]:
        """Names of the splits, in the order of the data."""
        return list(self.data)

    @property
    def requested(self) -> set[str]:
        """Sites that forward passes should have measured so far."""
        return self._runner.requested

    @property
    def measured(self) -> set[str]:
        """Sites that a forward pass has visited for all inputs so far."""
        return self._runner.measured

    @property
    def untraced(self) -> set[str]:
        """Activation functions that forward passes have visited so far, and the trace has not."""
        return self._runner.untraced

    def find_untraced(self, split: str, rows: Tensor) -> set[str]:
        """Run the model on rows of a split, and return :attr:`untraced`."""
        self._runner.whole_pass(split, rows)
        return self._runner.untraced

    @property
    def rows(self) -> int:
        """Number of rows of all forward passes so far, also of passes that run only a part of the model."""
        return self._runner.rows

    def rows_within(self, size: int, start: str, end: str) -> int:
        """Return how many rows take at most ``size`` bytes at the widest site from ``start`` to ``end``, at least 1."""
        order, trace = self.trace.order, self.trace
        between = order[order.index(start) : order.index(end) + 1] if end in order else order[order.index(start) :]
        widest = max((math.prod(trace.shapes[site]) for site in between if trace.is_floating(site)), default=1)
        return max(1, size * TRACE_ROWS // max(1, 4 * widest))

    def row_budget(self, max_rows: int | None) -> int:
        """Return how many forward rows a probe may run in one observation.

        Parameters
        ----------
        max_rows : int or None
            The number, or None for a default that follows from the cost of the model and the size of the data: 4,096
            rows of a small model; of a large one as many as 2 ** 34 floating-point operations pay for, and at least 4
            passes over the data. The choice does not depend on time, so recordings are comparable.
        """
        if max_rows is not None:
            return max_rows
        n = sum(map(len, self.data.values()))
        if self.trace.operations is None and PASSES * n < MAX_ROWS:
            self.trace.operations = self._runner.operations()
        return default_rows(self.trace.operations or 0, n)

    def select(self, layers: Layers) -> list[str]:
        """Return the names of the selected layers.

        See :func:`probe.forward.select_layers`. A layer with several calls is several layers. The default layers are
        those that return one row for each input; an expert, which receives a part of the inputs, is none of them. Of a
        layer with more than 16 calls, as the cell of a recurrent network, they are 16 evenly spaced ones, the first and
        the last included.
        """
        sites = self.trace.order
        if layers is not None:
            return select_layers(self.model, layers, sites)
        if not self.trace.default_layers:
            functional = [site for site in sites if is_hidden_value(site)]
            names = default_layers(self.model, functional, set(sites), self.trace.iterated)
            if names == [OUTPUT] != (unvisited := default_layers(self.model)):
                warn_user(
                    f"Expected a submodule that the forward pass calls, got none of {', '.join(unvisited[:5])}, so the "
                    f"only default layer is {OUTPUT!r}; attach to the module from which torch.export made this one"
                )
            self.trace.default_layers = self._default_layers(functional)
        return list(self.trace.default_layers)

    def _default_layers(self, functional: Sequence[str]) -> list[str]:
        """Return the layers of the first group in which a layer receives all inputs, by preference with their rows."""
        trace, sites = self.trace, self.trace.order
        for group in default_groups(self.model, functional, trace.iterated):
            if group != [OUTPUT] and not trace.shapes.keys().isdisjoint(group):
                chosen = spread_calls(select_layers(self.model, group, sites), self.modules, MAX_DEFAULT_CALLS)
                whole = self.receiving_all(chosen)
                if not trace.shapes.keys().isdisjoint(whole):
                    return [layer for layer in whole if layer not in trace.shapes or trace.has_rows(layer)] or whole
        return [OUTPUT]

    def receiving_all(self, sites: Sequence[str]) -> list[str]:
        """Return the sites that do not receive a part of the inputs only, see :mod:`probe.forward.routing`."""
        partial = self.trace.partial
        if unknown := [site for site in sites if site not in partial]:
            found = partial_layers(Runner(self.model, self.data, self.trace, self.batch_size), unknown)
            partial.update({site: site in found for site in unknown})
        return [site for site in sites if not partial[site]]

    def warn_once(self, key: str, text: str) -> None:
        """Issue a warning, unless one with this key was issued since the model was attached."""
        if key not in self.trace.warned:
            self.trace.warned.add(key)
            warn_user(text)

    def stem(self, name: str | None = None) -> str:
        """Return the first site at which a small change of the input is possible.

        That is the named site, or else the input if it holds floating-point numbers, or else the first such layer (an
        embedding, for example).

        Raises
        ------
        ValueError
            If there is no such site, or the named one does not hold floating-point numbers.
        """
        if name is not None and self.trace.is_floating(name):
            return name
        layers = (site for site in self.trace.order if ":" not in site)
        floating = (site for site in layers if self.trace.is_floating(site) and self.trace.has_rows(site))
        first = INPUT if self.trace.is_floating(INPUT) else next(floating, None)
        if first is None:
            raise ValueError(
                "Expected a layer with floating-point outputs, got a model with none; leave out this probe, which "
                "changes values by small amounts"
            )
        if name is not None:
            sites = [site for site in self.trace.order if self.trace.is_floating(site)]
            raise ValueError(
                f"Expected stem= to name a site with floating-point numbers, got {name!r}, which "
                f"{self.trace.describe(name)}; pass stem={first!r}, or {advised_names(name, sites)}"
            )
        return first

    def network(self, split: str | None = None, stem: str | None = None) -> PiecewiseLinear:
        """Return the piecewise-linear network of the model from a stem to the output.

        Each call reads the parameters anew. It takes a few forward passes of at most 8 rows.

        Parameters
        ----------
        split : str, optional
            Values that do not depend on the stem are those of its first input. Default: the first split.
        stem : str, optional
            Site at which the network starts. Default: that of :meth:`stem`.

        Returns
        -------
        PiecewiseLinear

        Raises
        ------
        NotPiecewiseLinearError
            If the model computes something else. The message names the function and the module.

        See Also
        --------
        probe.forward.piecewise_linear : The same for a model outside a recording.
        """
        batch = self.data[split or self.splits[0]].subset(torch.zeros(1, dtype=torch.long), self.device)
        return piecewise_linear(self.model, batch.inputs, stem=self.stem(stem), output=self.trace.output)

    def run_shared_pass(self) -> None:
        """Run the shared pass over each split once. If it fails, raise its error again at each later call."""
        if self._error is not None:
            raise self._error
        try:
            conditions = Conditions(() if self.divided else self.trace.conditions.get(_SHARED, ()))
            with expecting(conditions):
                for split in self.splits if self._shared else ():
                    if split not in self._shared_rows:
                        self._share(split)
            if conditions.flags:
                self.trace.conditions[_SHARED] = conditions.outcomes
                (true,) = self.reads.queue([torch.stack(conditions.flags)])
                self._unread = conditions.outcomes, true
        except Exception as error:
            self._error = error
            raise

    def _share(self, split: str) -> None:
        """Run the shared pass over a split."""
        forward, rows = self._runner.model_pass(self._shared), torch.arange(len(self.data[split]))
        found = self._runner.run(split, forward, rows, device=CPU)
        self._shared_rows[split], self._versions[split] = found, [_version(z) for z in found.values()]

    def _receive(self) -> None:
        """Wait for the rows of the shared pass on the CPU. Repeat the pass if a condition has another outcome."""
        self.reads.wait()
        if self._unread is not None:
            (outcomes, true), self._unread = self._unread, None
            if true.tolist() != outcomes:
                del self.trace.conditions[_SHARED]
                self._shared_rows.clear()
                self.run_shared_pass()
                self.reads.wait()

    def check_shared_rows(self) -> None:
        """Raise if a probe has written to the rows that all probes share, and forget these rows.

        The next probe runs the shared pass again.

        Raises
        ------
        ValueError
            If some rows were changed in place.
        """
        for split, rows in self._shared_rows.items():
            versions = self._versions[split]
            changed = [
                tap.site for (tap, z), version in zip(rows.items(), versions, strict=True) if _version(z) != version
            ]
            if changed:
                self._shared_rows.clear()
                raise ValueError(
                    f"Expected the probe to leave the rows that all probes share unchanged, got other rows of "
                    f"{', '.join(changed)} in split {split!r}; change a copy: z = z.clone()"
                )

    def outputs(
        self,
        split: str,
        layers: Sequence[str],
        *,
        reduce: Reduce | Scored = None,
        rows: Tensor | None = None,
        edit: Mapping[str, Edit] | None = None,
        group: int = 1,
        device: torch.device | str | None = None,
    ) -> dict[str, Tensor]:
        """Return the outputs of layers (or the values of other sites), reduced to rows.

        Parameters
        ----------
        split
            Name of the split.
        layers
            Names of layers or other sites of :attr:`trace`. The result has no entry for a layer that does not fire.
        reduce
            See :func:`probe.forward.reduce_output`.
        rows : LongTensor of shape (n,), optional
            Indices of the inputs, also repeated ones. Default: all inputs.
        edit : {site: function(output, positions) -> output}, optional
            Replaces the value of a site, in the call that it names. ``positions`` are the indices of its rows in
            ``rows``. The pass stops after the last requested layer.
        group
            Number of consecutive rows that stay in one forward pass, so that a callable ``reduce`` receives them
            together.
        device
            Device of the result. Default: that of the model.

        Returns
        -------
        {layer: Tensor of shape (n, d)}
            float32 (float64 where the model computes in it).

        See Also
        --------
        outputs_from : Start a forward pass at a later site.
        """
        if OUTPUT in layers:
            self.trace.check_output(reduce)
        self._check_edits(edit or ())
        taps = [Tap(layer, reduce) for layer in layers]
        if rows is None and edit is None and set(taps) <= set(self._shared):
            self.run_shared_pass()
            if device is not None and torch.device(device) == CPU:
                self._receive()
            shared = self._shared_rows[split]
            found = {tap: shared[tap] for tap in taps if tap in shared}
        else:
            rows = torch.arange(len(self.data[split])) if rows is None else rows
            found = self._runner.run(split, self._runner.model_pass(taps, edit), rows, group)
        target = self.device if device is None else torch.device(device)
        return {tap.site: moved(found[tap], target) for tap in taps if tap in found}

    def outputs_from(
        self,
        split: str,
        site: str,
        make_values: MakeValues,
        sites: Sequence[str],
        *,
        rows: Tensor,
        reduce: Reduce | Scored | Mapping[str, Reduce | Scored] = None,
        group: int = 1,
        batch_size: int | None = None,
    ) -> dict[str, Tensor]:
        """Return the values of later sites for given values of ``site``.

        If a chain of modules leads from the site to the output, only these modules run: the model does not compute the
        layers before the site. Each snapshot compares this suffix with the whole model on a few rows of the data. If
        they differ by more than rounding, the whole model runs, with an edit.

        Parameters
        ----------
        split
            Name of the split.
        site
            A layer, :data:`~probe.INPUT`, or another site.
        make_values : function(positions) -> Tensor
            Values of the site for ``positions``, a ``range`` of indices of ``rows``. No other code may refer to the
            tensor, since later layers can write into it.
        sites
            Names of layers or other sites. The result has no entry for a site that does not fire.
        rows : LongTensor of shape (n,)
            Indices of the inputs to which the values belong. If the whole model runs, it runs on these inputs.
        reduce, group
            See :meth:`outputs`. Several sites can have several reductions: ``{site: reduction}``.
        batch_size
            Number of rows in one forward pass. Default: that of the snapshot.

        Returns
        -------
        {site: Tensor of shape (n, d)}
            float32 (float64 where the model computes in it), on the device of the model.

        See Also
        --------
        outputs : Run the whole model, with or without edits.
        has_suffix : Test whether only later modules run.
        """
        reductions = reduce if isinstance(reduce, Mapping) else dict.fromkeys(sites, reduce)
        if OUTPUT in sites:
            self.trace.check_output(reductions[OUTPUT])
        taps = [Tap(later, reductions[later]) for later in sites]
        suffix = self._check.suffix(split, site, sites)
        forward: Pass
        if suffix is None:
            edit = {site: lambda output, positions: make_values(forward.block).to(output.dtype)}
            forward = self._runner.model_pass(taps, edit)
        else:
            forward = self._runner.suffix_pass(taps, suffix, make_values)
        found = self._runner.run(split, forward, rows, group, batch_size)
        return {tap.site: found[tap] for tap in taps if tap in found}

    def _check_edits(self, sites: Iterable[str]) -> None:
        """Raise ValueError for an edit that would change nothing. A layer may fire for other rows than the trace."""
        for site in sites:
            if site not in self.trace.shapes and site not in self.modules:
                advice = advised_names(site, self.trace.order)
                raise ValueError(f"Expected edit= to name sites of this model, got {site!r}; {advice}")

    def has_suffix(self, split: str, site: str, sites: Sequence[str]) -> bool:
        """Return whether :meth:`outputs_from` runs only the modules after ``site``.

        The values of ``sites`` then depend on the value of ``site`` alone.
        """
        return self._check.suffix(split, site, sites) is not None

    def inputs(self, split: str, rows: Tensor) -> Any:
        """Return the inputs of some rows, as the model takes them, for one forward pass of the probe's own.

        The pass counts as forward rows. It runs within :func:`probe.forward.isolated`.
        """
        self._runner.rows += len(rows)
        return self.data[split].take(rows, self.device)[0]

    def gradients(self, split: str, site: str, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the values of a site and the gradients there of the sum of all outputs, in blocks of rows.

        Raises
        ------
        RuntimeError
            If the outputs do not depend on the value by operations with derivatives.
        """
        for part in rows.split(self.graph_rows):
            inputs, _ = self.data[split].take(part, self.device)
            self._runner.rows += len(part)
            yield summed_gradient(self.model, inputs, site, self.trace.output)

    @property
    def graph_rows(self) -> int:
        """Number of rows in one forward pass with derivatives."""
        numbers = sum(math.prod(shape) for shape in self.trace.shapes.values()) // TRACE_ROWS
        return max(1, min(self.batch_size, _GRAPH // max(1, numbers)))

    def is_deterministic(self, split: str, sites: Sequence[str]) -> bool:
        """Return whether two passes over the same rows agree. They differ if the model draws random numbers."""
        return self._check.is_deterministic(split, sites)


def generator(random_state: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a new random generator, so that probes do not change the global random state.

    Parameters
    ----------
    random_state : int
    device : torch.device or str

    Returns
    -------
    torch.Generator

    See Also
    --------
    torch.manual_seed : Seed the global generators instead.

    Examples
    --------
    >>> import torch
    >>> from probe import generator
    >>> one, two = (torch.rand(3, generator=generator(0)) for _ in range(2))
    >>> torch.equal(one, two)
    True
    """
    return torch.Generator(device=device).manual_seed(int(random_state))


def _version(z: Tensor) -> int:
    """Return a number that changes when a tensor is written to; tensors of inference mode have none."""
    return -1 if z.is_inference() else z._version
