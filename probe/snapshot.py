"""What a probe may look at: a model at one step, fixed data, and forward passes with edits."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.capture import TRACE_ROWS, Edit, Pass, Scored, Start, Tap, Trace
from probe.chain import affine, bare, innermost, overwriting, tail
from probe.data import Batch
from probe.layers import INPUT, Layers, Reduce, default_layers, named_layers, select_layers
from probe.preserved import device_of, preserved
from probe.rows import Rows


class Snapshot:
    """A model at one step, with its data.

    Attributes
    ----------
    model : the unwrapped module, in evaluation mode while it is measured
    step : completed optimiser updates
    data : {split: Batch}
    trace : the sites of the forward pass, see :mod:`probe.capture`
    history : function of the name of one of the probe's variables: what was recorded of it at earlier steps of this
        recording, also of one that is resumed, as an array (observations, ...); empty if nothing was
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
        self._shared = tuple(dict.fromkeys(shared))
        self._cache: dict[str, dict[Tap, Tensor]] = {}
        self._error: Exception | None = None
        self._starts: dict[Any, tuple[Start, torch.dtype] | None] = {}
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
                    self._cache[split] = self._run(split, self._shared, rows, None, keep=torch.device("cpu"))
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
            See :func:`probe.layers.reduced`.
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
            found = self._run(split, taps, rows, edit, group)
        return {tap.site: found[tap] for tap in taps if tap in found}

    def onward(
        self,
        split: str,
        site: str,
        put: Callable[[Tensor], Tensor],
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
            A layer, :data:`~probe.layers.INPUT`, or another site.
        put : function(positions) -> Tensor
            What the site passes on for the places ``positions`` of ``rows``, in a tensor of its own: later layers may
            write into it.
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
            edit = {site: lambda output, positions: put(positions).to(output.dtype)}
            found = self._run(split, taps, rows, edit, group, batch_size=batch_size)
        else:
            chain, dtype = start
            chain = replace(chain, put=lambda positions: put(positions).to(dtype))
            found = self._run(split, taps, rows, None, group, chain, batch_size)
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
        with preserved(self.model):
            first = self.outputs(split, sites, reduce="none", rows=rows)
            second = self.outputs(split, sites, reduce="none", rows=rows)
        return all(site in second and _agree(second[site], value, value.dtype) for site, value in first.items())

    def _start(self, split: str, site: str, sites: Sequence[str]) -> tuple[Start, torch.dtype] | None:
        """The chain after a site and the type of its value; None where the whole model must run."""
        key = (split, site, *sites)
        if key not in self._starts:
            steps = tail(self.trace.links, site)
            start = None if steps is None else Start(site, steps, overwriting(steps, self.modules))
            self._starts[key] = None if start is None else self._tried(split, start, sites)
        return self._starts[key]

    def _tried(self, split: str, start: Start, sites: Sequence[str]) -> tuple[Start, torch.dtype] | None:
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

        expected = self._run(split, taps, rows, {start.site: note})
        others = self._run(split, taps, torch.cat([rows.flip(0), rows[:1]]), None)
        if not values or len(expected) < len(taps):
            return None
        value = values[0]
        if all(tap in others and _agree(others[tap][:-1].flip(0), z, value.dtype) for tap, z in expected.items()):
            self._repeated.add((split, *sites))
        try:
            again = replace(start, put=lambda positions: value.clone())
            found = self._run(split, taps, rows, None, len(rows), again)
        except Exception:  # what the model needs for it, if not this chain, will show when the whole of it runs
            return None
        same = all(tap in found and _agree(found[tap], expected[tap], value.dtype) for tap in taps)
        return (start, value.dtype) if same else None

    def _run(
        self,
        split: str,
        taps: Iterable[Tap],
        rows: Tensor,
        edit: Mapping[str, Edit] | None,
        group: int = 1,
        start: Start | None = None,
        batch_size: int | None = None,
        keep: torch.device | None = None,
    ) -> dict[Tap, Tensor]:
        """Block by block; what was found in a block is kept on the device ``keep``, if not on the model's."""
        taps = tuple(taps)
        device, data = self.device, self.data[split]
        chunk = max(1, (batch_size or self.batch_size) // group) * group
        pieces: dict[Tap, Rows] = {}
        starts = range(0, len(rows), chunk)
        forward = Pass(self.model, taps, edits=edit, trace=self.trace, modules=self.modules, start=start)
        with preserved(self.model), forward:
            for first in starts:
                asked = rows[first : first + chunk]
                positions = torch.arange(first, first + len(asked), device=device)
                inputs, targets = data.take(asked, device) if start is None else (None, data.targets_of(asked, device))
                found = forward.run(inputs, targets, positions)
                del inputs  # before the next are made
                if len(starts) == 1:
                    break
                for tap, output in found.items():
                    parts = pieces.get(tap) or pieces.setdefault(tap, Rows(output, len(rows), len(asked), keep))
                    parts.add(output)
                found.clear()  # before the next are found
        if len(starts) == 1:
            whole = {tap: output.to(keep or output.device) for tap, output in found.items()}
        else:  # a layer that fired for some of the inputs only has no rows that could be matched with theirs
            whole = {tap: parts.joined() for tap, parts in pieces.items() if parts.blocks == len(starts)}
        self.asked |= {tap.site for tap in taps}
        self.fired |= {tap.site for tap in whole}
        return whole

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
    """Equal up to the rounding of this type; the shapes of the passes are the same, and so are mostly the bits."""
    if one.shape != other.shape:
        return False
    finite = other[torch.isfinite(other)]
    size = finite.abs().max().item() if finite.numel() else 0.0
    return torch.allclose(one, other, rtol=0, atol=torch.finfo(dtype).eps ** 0.75 * size, equal_nan=True)


def generator(random_state: int, device: torch.device | str = "cpu") -> torch.Generator:
    """An own generator, so that no global random state is ever drawn from."""
    return torch.Generator(device=device).manual_seed(int(random_state))
