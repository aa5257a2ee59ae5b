"""What a probe may look at: a model at one step, fixed data, and forward passes with edits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.forward.call_graph import Link, affine, bare, innermost, tail
from probe.forward.data import Batch
from probe.forward.isolation import device_of, isolated
from probe.forward.layers import INPUT, Layers, default_layers, named_layers, select_layers
from probe.forward.outputs import Reduce
from probe.forward.passes import TRACE_ROWS, Edit, Pass, Scored, Tap, Trace
from probe.forward.suffix import Put, Start, Tail
from probe.forward.training import TrainingContext


class Snapshot:
    """A model at one step, with its data.

    Attributes
    ----------
    model : the unwrapped module, in evaluation mode while it is measured
    step : completed optimiser updates
    data : {split: Batch}
    trace : the sites of the forward pass, see :mod:`probe.forward.passes`
    history : function of the name of one of the probe's variables: what was recorded of it at earlier steps of this
        recording, also of one that is resumed, as an array (observations, ...); empty if nothing was
    kept : function of the name of a value that the probe returned with ``keep=True``: a copy of the one of the last
        observation before this, also of a recording that is resumed; None at the first observation
    training : :class:`~probe.forward.TrainingContext` given to ``attach``, or None
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
    ) -> None:
        self.model = model
        self.step = step
        self.data = data
        self.trace = trace
        self.batch_size = batch_size
        # name of one of the probe's variables -> (observations, ...): what it was at earlier steps of this recording
        self.history: Callable[[str], np.ndarray] = lambda name: np.empty(0)
        self.kept: Callable[[str], np.ndarray | None] = lambda name: None
        self.training: TrainingContext | None = None
        self._shared = tuple(dict.fromkeys(shared))
        self._cache: dict[str, dict[Tap, Tensor]] = {}
        self._error: Exception | None = None
        self._starts: dict[Any, Start | None] = {}
        self._repeated: set[tuple[str, ...]] = set()  # a split and sites of which two passes were seen to agree
        self.asked: set[str] = set()  # sites that were to be measured
        self.fired: set[str] = set()  # those that did fire, for all inputs

    @cached_property
    def modules(self) -> dict[str, nn.Module]:
        """The layers by name."""
        return named_layers(self.model)

    @cached_property
    def device(self) -> torch.device:
        """Where the model expects its inputs."""
        return device_of(self.model)

    @property
    def splits(self) -> list[str]:
        """Names of the splits, as they were given."""
        return list(self.data)

    def select(self, layers: Layers) -> list[str]:
        """Names of the selected layers; of the default ones only those that return a row for each input."""
        if layers is not None:
            return select_layers(self.model, layers)
        if not self.trace.defaults:
            chosen = default_layers(self.model, [site for site in self.trace.order if site.endswith("->")])
            fitting = [layer for layer in chosen if layer not in self.trace.shapes or self._by_row(layer)]
            self.trace.defaults = fitting or chosen
        return list(self.trace.defaults)

    def _by_row(self, site: str) -> bool:
        return self.trace.shapes[site][:1] == (TRACE_ROWS,)

    def share(self) -> None:
        """Run the pass over each split that all plain probes share, once; if it fails, it fails all of them."""
        if self._error is not None:
            raise self._error
        try:
            for split in self.splits:
                if self._shared and split not in self._cache:
                    rows = torch.arange(len(self.data[split]))
                    self._cache[split] = self._run(split, self._pass(self._shared), rows, keep=torch.device("cpu"))
        except Exception as error:
            self._error = error
            raise

    def outputs(
        self,
        split: str,
        layers: Sequence[str],
        *,
        reduce: Reduce | Scored = None,
        rows: Tensor | None = None,
        edit: Mapping[str, Edit] | None = None,
        group: int = 1,
    ) -> dict[str, Tensor]:
        """What the layers (or other sites) return, reduced to rows.

        Parameters
        ----------
        split
            Which data.
        layers
            Names of layers or other sites of :attr:`trace`. One that does not fire is missing from the result.
        reduce
            See :func:`probe.forward.reduced`.
        rows : LongTensor of shape (n,), optional
            Which inputs, also repeatedly. Default: all.
        edit : {site: function(output, positions) -> output}, optional
            Replaces what a layer (or the input) passes on; ``positions`` are the places of the rows of this chunk
            in ``rows``. Such a pass stops after the last wanted layer.
        group
            This many rows at a time stay in one forward pass, so that a callable ``reduce`` sees them together.

        Returns
        -------
        {layer: Tensor of shape (n, d)}, float32 (float64 where the model computes in it), on the model's device.
        """
        taps = [Tap(layer, reduce) for layer in layers]
        if rows is None and edit is None and set(taps) <= set(self._shared):
            self.share()
            found = {tap: self._cache[split][tap].to(self.device) for tap in taps if tap in self._cache[split]}
        else:
            rows = torch.arange(len(self.data[split])) if rows is None else rows
            found = self._run(split, self._pass(taps, edit), rows, group)
        return {tap.site: found[tap] for tap in taps if tap in found}

    def onward(
        self,
        split: str,
        site: str,
        put: Put,
        sites: Sequence[str],
        *,
        rows: Tensor,
        reduce: Reduce | Scored = None,
        group: int = 1,
        batch_size: int | None = None,
    ) -> dict[str, Tensor]:
        """What later sites return when ``site`` passes on other values, whatever the model computes there itself.

        Where a chain of modules leads from the site to the output, nothing but these modules runs: no inputs are
        gathered and nothing before the site is computed. The chain is tried anew in each snapshot, on rows of the
        data: unless it gives what the whole model gives, up to rounding, the whole model runs, with an edit.

        Parameters
        ----------
        split
            Which data.
        site
            A layer, :data:`~probe.INPUT`, or another site.
        put : function(positions) -> Tensor
            What the site passes on for the places ``positions`` of ``rows``, a ``range``, in a tensor of its own: later
            layers may write into it.
        sites
            Names of layers or other sites. One that does not fire is missing from the result.
        rows : LongTensor of shape (n,)
            The inputs to which the values belong; where the chain breaks, they go through the layers before the site.
        reduce, group
            As in :meth:`outputs`.
        batch_size
            Rows per forward pass, if not those of the snapshot.

        Returns
        -------
        {site: Tensor of shape (n, d)}, float32 (float64 where the model computes in it), on the model's device.
        """
        taps = [Tap(wanted, reduce) for wanted in sites]
        start = self._start(split, site, sites)
        if start is None:
            forward = self._pass(taps, {site: lambda output, at: put(range(at[0], at[-1] + 1)).to(output.dtype)})
        else:
            forward = self._tail(taps, start, put)
        found = self._run(split, forward, rows, group, batch_size)
        return {tap.site: found[tap] for tap in taps if tap in found}

    def chained(self, split: str, site: str, sites: Sequence[str]) -> bool:
        """Whether :meth:`onward` runs the modules after ``site`` alone; then these sites depend on nothing else."""
        return self._start(split, site, sites) is not None

    def first_affine(self, stem: str) -> list[str]:
        """Names of the modules up to the first affine map that the value of a stem goes through; none if it does not.

        Only ``nn.Linear`` and convolutions count, as they are, with at most ``nn.Flatten`` and ``nn.Identity`` before.
        """
        names = []
        for name in innermost(self.trace.links, self.trace.entries, stem):
            module = self.modules.get(name)
            if module is None or not bare(module):
                return []
            names.append(name)
            if affine(module):
                return names
            if type(module) not in (nn.Flatten, nn.Identity):
                return []
        return []

    def repeatable(self, split: str, sites: Sequence[str]) -> bool:
        """Whether two passes over the same rows agree; random numbers that they draw are others each time."""
        if (split, *sites) in self._repeated:
            return True
        rows = torch.arange(TRACE_ROWS)
        with isolated(self.model):
            first = self.outputs(split, sites, reduce="none", rows=rows)
            second = self.outputs(split, sites, reduce="none", rows=rows)
        return all(site in second and _agree(second[site], value, value.dtype) for site, value in first.items())

    def _start(self, split: str, site: str, sites: Sequence[str]) -> Start | None:
        """The chain after a site; None where the whole model must run."""
        key = (split, site, *sites)
        if key not in self._starts:
            steps = tail(self.trace.links, site)
            self._starts[key] = None if steps is None else self._tried(split, site, steps, sites)
        return self._starts[key]

    def _tried(self, split: str, site: str, steps: Sequence[Link], sites: Sequence[str]) -> Start | None:
        """Compare the chain with the whole model, which by then has seen other rows, and another number of them.

        So that a chain is refused whose parts pass something on to each other in secret.
        """
        n = len(self.data[split])
        rows = torch.linspace(0, n - 1, min(n, 4)).long()
        taps = [Tap(wanted, "none") for wanted in sites]
        values: list[Tensor] = []

        def note(output: Tensor, positions: Tensor) -> Tensor:
            values.append(output.clone())
            return output

        expected = self._run(split, self._pass(taps, {site: note}), rows)
        others = self._run(split, self._pass(taps), torch.cat([rows.flip(0), rows[:1]]))
        if not values or len(expected) < len(taps):
            return None
        value = values[0]
        if all(tap in others and _agree(others[tap][:-1].flip(0), z, value.dtype) for tap, z in expected.items()):
            self._repeated.add((split, *sites))
        start = Start(site, steps, value.dtype)
        try:
            found = self._run(split, self._tail(taps, start, lambda _: value.clone()), rows, len(rows))
        except Exception:  # what the model needs for it, if not this chain, will show when the whole of it runs
            return None
        same = all(tap in found and _agree(found[tap], expected[tap], value.dtype) for tap in taps)
        return start if same else None

    def _pass(self, taps: Iterable[Tap], edits: Mapping[str, Edit] | None = None) -> Pass:
        return Pass(self.model, taps, edits=edits, trace=self.trace, modules=self.modules)

    def _tail(self, taps: Iterable[Tap], start: Start, put: Put) -> Tail:
        return Tail(self.model, taps, start, put, trace=self.trace, modules=self.modules)

    def _run(
        self,
        split: str,
        forward: Pass,
        rows: Tensor,
        group: int = 1,
        batch_size: int | None = None,
        keep: torch.device | None = None,
    ) -> dict[Tap, Tensor]:
        """Block by block; what is found is kept on the device ``keep``, if not on the model's."""
        device, data = self.device, self.data[split]
        chunk = max(1, (batch_size or self.batch_size) // group) * group
        blocks = [range(first, min(first + chunk, len(rows))) for first in range(0, len(rows), chunk)]
        forward.begin(len(rows), keep)
        with isolated(self.model), forward:
            for block in blocks:
                asked = rows[block.start : block.stop]
                if isinstance(forward, Tail):
                    forward.run(None, data.targets_of(asked, device), block)
                else:
                    forward.run(*data.take(asked, device), block)
        found = forward.found(len(blocks))
        self.asked |= forward.wanted.keys()
        self.fired |= {tap.site for tap in found}
        return found

    def stem(self, name: str | None = None) -> str:
        """Where inputs are numbers that can be moved a little: the named site, or the input, or the first embedding."""
        if name is not None and self.trace.floats(name):
            return name
        floating = (s for s in self.trace.order if self.trace.floats(s) and self._by_row(s) and ":" not in s)
        first = INPUT if self.trace.floats(INPUT) else next(floating, None)
        if first is None:
            raise ValueError("this model has no layer with floating-point outputs; there is nothing to measure")
        if name is not None:
            raise ValueError(
                f"stem={name!r} {self.trace.told(name)}; a stem needs floating-point numbers, as {first!r} holds them"
            )
        return first


def _agree(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    """Equal up to the rounding of this type; mostly the bits are the same, and that is quick to see."""
    if one.shape != other.shape:
        return False
    if torch.equal(one, other):
        return True
    finite = other[torch.isfinite(other)]
    size = finite.abs().max().item() if finite.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=torch.finfo(dtype).eps ** 0.75 * size, equal_nan=True)


def generator(random_state: int, device: torch.device | str = "cpu") -> torch.Generator:
    """An own generator, so that no global random state is ever drawn from."""
    return torch.Generator(device=device).manual_seed(int(random_state))
