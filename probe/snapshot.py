"""What a probe may look at: a model at one step, fixed data, and forward passes with edits."""

import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from probe.capture import TRACE_ROWS, Edit, Pass, Scored, Start, Tap, Trace, device_of, preserved
from probe.chain import innermost, tail
from probe.data import Batch
from probe.layers import INPUT, Layers, Reduce, default_layers, named_layers, select_layers
from probe.series import COMPARES, Variable

_AFFINE = (nn.Linear.forward, nn.Conv1d.forward, nn.Conv2d.forward, nn.Conv3d.forward)


@dataclass(frozen=True)
class Measured:
    """What a probe says about one quantity at one step.

    Parameters
    ----------
    values
        Numbers of the shape given by ``dims`` and ``coords``; for a flag 1, 0 or -1 (not measured).
    dims, coords
        Dimension names, and the labels along each of them.
    units, long_name
        As they stand beside the axis of a plot: ``"bits"``, ``"nats"``, ``"1"``.
    attrs
        Further facts for the reader of the series (strings and numbers).
    """

    values: Any
    dims: tuple[str, ...] = ()
    coords: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    units: str = "1"
    long_name: str = ""
    flag: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def array(self, name: str) -> np.ndarray:
        """The values as a column of a series holds them: float64, int8 for a flag."""
        values = self.values.detach().cpu().double() if isinstance(self.values, Tensor) else self.values
        array = np.asarray(values, dtype=np.int8 if self.flag else np.float64)
        shape = tuple(len(self.coords[dim]) for dim in self.dims)
        if array.shape != shape:
            raise ValueError(f"{name}: dims {self.dims} with these labels need shape {shape}, got {array.shape}")
        return array

    def variable(self, name: str, estimator: str, prefix: str = "") -> Variable:
        """What stands beside the values in a series, in which names of this probe have the prefix."""
        coords = {dim: np.asarray(labels).tolist() for dim, labels in self.coords.items()}
        attrs = {"estimator": estimator, **{key: _fact(f"{name}: {key}", fact) for key, fact in self.attrs.items()}}
        if COMPARES in attrs:
            attrs[COMPARES] = f"{prefix}{attrs[COMPARES]}"
        return Variable(name, self.dims, coords, self.units, self.long_name, self.flag, attrs)


def _fact(where: str, fact: Any) -> str | int | float:
    """An attribute as every file format can hold it; NetCDF 3 has neither booleans nor wide integers."""
    fact = fact.item() if isinstance(fact, (np.generic, Tensor)) else fact
    if isinstance(fact, str) or (isinstance(fact, (bool, int)) and abs(fact) < 2**31):
        return fact if isinstance(fact, str) else int(fact)
    if isinstance(fact, (int, float)) and math.isfinite(fact):
        return float(fact)
    raise TypeError(f"{where}: attrs takes strings and finite numbers, got {fact!r}")


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
        self.asked: set[str] = set()  # sites that were to be measured
        self.fired: set[str] = set()  # those that did fire, for all inputs

    @property
    def splits(self) -> list[str]:
        """Names of the splits, as they were given."""
        return list(self.data)

    def select(self, layers: Layers) -> list[str]:
        """Names of the selected layers; of the default ones only those that return a row for each input."""
        if layers is not None:
            return select_layers(self.model, layers)
        chosen = default_layers(self.model, [site for site in self.trace.order if site.endswith("->")])
        fitting = [layer for layer in chosen if layer not in self.trace.shapes or self._by_row(layer)]
        return fitting or chosen

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
                    self._cache[split] = self._run(split, self._shared, rows, None)
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
            found = self._cache[split]
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
            given = chain, lambda positions: put(positions).to(dtype)
            found = self._run(split, taps, rows, None, group, given, batch_size)
        return {tap.site: found[tap] for tap in taps if tap in found}

    def chained(self, split: str, site: str, sites: Sequence[str]) -> bool:
        """Whether :meth:`onward` runs the modules after ``site`` alone; then these sites depend on nothing else."""
        return self._start(split, site, sites) is not None

    def first_affine(self, stem: str) -> list[str]:
        """Names of the modules up to the first affine map that the value of a stem goes through; none if it does not.

        Only ``nn.Linear`` and convolutions count, as they are, with at most ``nn.Flatten`` and ``nn.Identity`` before.
        """
        modules, names = named_layers(self.model), []
        for name in innermost(self.trace.links, self.trace.entries, stem):
            module = modules.get(name)
            if module is None or module._forward_hooks or module._forward_pre_hooks:
                return []
            names.append(name)
            if type(module).forward in _AFFINE:
                return names
            if type(module) not in (nn.Flatten, nn.Identity):
                return []
        return []

    def repeatable(self, split: str, sites: Sequence[str]) -> bool:
        """Whether two passes over the same rows agree, with the global random states moved on in between."""
        rows = torch.arange(TRACE_ROWS)
        with preserved(self.model):
            first = self.outputs(split, sites, reduce="none", rows=rows)
            random.random(), np.random.rand(), torch.rand(1), torch.rand(1, device=device_of(self.model))  # noqa: NPY002
            second = self.outputs(split, sites, reduce="none", rows=rows)
        return all(site in second and _agree(second[site], value, value.dtype) for site, value in first.items())

    def _start(self, split: str, site: str, sites: Sequence[str]) -> tuple[Start, torch.dtype] | None:
        """The chain after a site and the type of its value; None where the whole model must run."""
        key = (split, site, *sites)
        if key not in self._starts:
            steps = tail(self.trace.links, site)
            self._starts[key] = None if steps is None else self._tried(split, Start(site, steps), sites)
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
        self._run(split, taps, torch.cat([rows.flip(0), rows[:1]]), None)
        if not values or len(expected) < len(taps):
            return None
        value = values[0]
        try:
            found = self._run(split, taps, rows, None, len(rows), (start, lambda positions: value.clone()))
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
        start: tuple[Start, Callable[[Tensor], Tensor]] | None = None,
        batch_size: int | None = None,
    ) -> dict[Tap, Tensor]:
        taps = tuple(taps)
        device, data, modules = device_of(self.model), self.data[split], named_layers(self.model)
        chain, put = (None, None) if start is None else start
        chunk = max(1, (batch_size or self.batch_size) // group) * group
        pieces: dict[Tap, list[Tensor]] = {}
        chunks = torch.arange(len(rows)).split(chunk)
        with preserved(self.model):
            for positions in chunks:
                asked, there = rows[positions.to(rows.device)], positions.to(device)
                inputs, targets = (
                    data.take(asked, device) if put is None else (put(there), _picked(data.targets, asked, device))
                )
                run = Pass(self.model, taps, edits=edit, trace=self.trace, modules=modules)
                for tap, output in run.run(inputs, targets, there, chain).items():
                    pieces.setdefault(tap, []).append(output)
                del inputs  # before the next are made
        # a layer that fired for some of the inputs only has no rows that could be matched with theirs
        found = {tap: torch.cat(parts) for tap, parts in pieces.items() if len(parts) == len(chunks)}
        self.asked |= {tap.site for tap in taps}
        self.fired |= {tap.site for tap in found}
        return found

    def stem(self) -> str:
        """Where inputs become numbers that can be moved a little: the input itself, or the first embedding."""
        floating = (s for s in self.trace.order if self.trace.floating[s] and self._by_row(s) and ":" not in s)
        stem = next(floating, None)
        if stem is None:
            raise ValueError("this model has no layer with floating-point outputs; there is nothing to measure")
        return INPUT if self.trace.floating.get(INPUT) else stem


def _picked(targets: Tensor | None, rows: Tensor, device: torch.device) -> Tensor | None:
    return None if targets is None else targets[rows.to(targets.device)].to(device)


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
