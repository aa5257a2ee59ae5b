"""Base class of measures that summarise the rows of one layer, and the parts that other measures share with it."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence, Set
from itertools import chain
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from probe.attach.contract import Staged
from probe.base import Measured, Probe, Snapshot
from probe.forward.layers import IGNORED, Layers
from probe.forward.outputs import Reduce
from probe.forward.passes import Tap
from probe.forward.snapshot import generator
from probe.information.validation import to_float64_device
from probe.reads import CPU, Stages

Variables = Mapping[str, tuple[str, str, bool]]  # name -> (unit, long name, whether it is a flag)
Cell = Mapping[str, Any]  # numbers and flags by name; a name may be missing


class LayerProbe(Staged, Probe):
    """Base class of measures that summarise the rows of one layer.

    A subclass declares its variables and implements :meth:`summarise`. The base class selects the layers, takes their
    outputs from the shared forward pass, and calls :meth:`summarise` for each split and layer.

    Parameters
    ----------
    layers
        Layers to measure, see :func:`probe.forward.select_layers`.
    reduce
        Conversion of an output to rows, see :func:`probe.forward.reduce_output`.
    max_samples : int or None
        Number of rows measured, at least 2; of more rows, a fixed random subset is measured. None: all rows.
    random_state
        Seed of the subset. The subset is the same at every step.

    Attributes
    ----------
    variables : mapping of str to (str, str, bool), class attribute
        The unit, the long name, and whether the variable is a flag, by name of the variable.
    nonfinite_flag : str or None, class attribute
        Name of the flag that this class sets to 1 for rows with NaN or infinite values. :meth:`summarise` is not called
        for such rows. Default: the name of the first variable and ``_nonfinite``. None: :meth:`summarise` receives all
        rows and reports such values itself.
    device : optional, class attribute or parameter of a subclass
        Device on which :meth:`summarise` receives its rows. Default: that of the model. With ``"cpu"``, an observation
        on a GPU waits once for all layers.
    needs_labels : bool, class attribute
        Whether the measure needs integer targets, one for each row. If True, data without any is an error at
        :meth:`attach`, a split without any is not measured, and rows with the target -100 are left out.
    series_ : xarray.Dataset
        The declared variables by (step, split, layer). A layer that did not fire is NaN, in a flag -1. The attribute
        ``n_rows`` is the number of rows measured, the smallest over splits and layers.

    Raises
    ------
    TypeError
        At the definition of a subclass whose ``variables`` do not have the form above.
    ValueError
        At an observation with fewer than 2 rows, or if :meth:`summarise` returns other names than declared.

    See Also
    --------
    probe.Probe : The base class of all measures.

    Examples
    --------
    >>> import torch
    >>> from probe import LayerProbe
    >>> class RangeProbe(LayerProbe):
    ...     variables = {"activation_range": ("1", "largest minus smallest activation", False)}
    ...
    ...     def summarise(self, z, targets):
    ...         return {"activation_range": z.max() - z.min()}
    >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.ReLU())
    >>> series = RangeProbe(layers=torch.nn.ReLU).fit(model, (torch.tensor([[-1.0, 2.0], [3.0, 1.0]]), None)).series_
    >>> series["activation_range"].item()
    3.0
    """

    variables: ClassVar[Variables] = {}
    nonfinite_flag: ClassVar[str | None] = ""
    needs_labels: ClassVar[bool] = False
    device: Any = None

    def __init__(
        self, *, layers: Layers = None, reduce: Reduce = None, max_samples: int | None = 1024, random_state: int = 0
    ) -> None:
        self.layers = layers
        self.reduce = reduce
        self.max_samples = max_samples
        self.random_state = random_state

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, entry in dict[str, Any](cls.variables).items():
            if not isinstance(entry, tuple) or [type(part) for part in entry] != [str, str, bool]:
                raise TypeError(
                    f"Expected {cls.__name__}.variables[{name!r}] to be (unit, long name, flag), as "
                    f'("bits", "entropy of the layer", False), got {entry!r}; correct the entry'
                )
        own = vars(cls)
        if "variables" in own and "nonfinite_flag" not in own and cls.nonfinite_flag is not None and cls.variables:
            cls.nonfinite_flag = f"{next(iter(cls.variables))}_nonfinite"

    @abstractmethod
    def summarise(self, z: Tensor, targets: Tensor | None) -> Mapping[str, Any]:
        """Return the numbers and flags of one layer on one split, by name.

        Parameters
        ----------
        z : Tensor of shape (n, d), n >= 2
            Rows of the layer, float32 or float64, on :attr:`device`. All values are finite, unless
            ``nonfinite_flag`` is None.
        targets : Tensor of shape (n,) or None
            One target for each row, on any device. None if the split has no targets, or not one for each row.

        Returns
        -------
        dict
            A number for each declared variable (NaN where it is undefined); for a flag 1, 0 or -1 (not measured).
        """

    def declared(self) -> Variables:
        """Return the variables of this instance. Override this method if they depend on parameters."""
        return self.variables

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return the selected layers."""
        if not self.variables:
            raise TypeError(f"Expected {type(self).__name__}.variables to declare a variable, got none; add an entry")
        if self.needs_labels and not any(_labelled(snapshot, split) for split in snapshot.splits):
            raise ValueError(
                f"Expected integer targets in some split, got none in {', '.join(snapshot.splits)}; "
                f"pass data with labels, or leave {type(self).__name__} out"
            )
        return [Tap(layer, self.reduce) for layer in snapshot.select(self.layers)]

    def stages(self, snapshot: Snapshot) -> Stages[Mapping[str, Measured]]:
        """Summarise each layer on each split."""
        if self.max_samples is not None and self.max_samples < 2:
            raise ValueError(f"Expected max_samples >= 2, got {self.max_samples}; raise it, or pass None for all rows")
        layers, variables = [tap.site for tap in self.taps(snapshot)], dict(self.declared())
        names, flag = variables.keys() - {self.nonfinite_flag}, self.nonfinite_flag
        snapshot.run_shared_pass()
        yield ()  # the rows, which the pass copies to the CPU
        counts: list[int] = []
        cells = [self._split(snapshot, split, layers, names, counts) for split in snapshot.splits]
        if flag and flag not in variables:
            variables[flag] = ("1", "activations are not finite", True)
        attrs = {"n_rows": min(counts, default=0)}
        return tabulated(cells, variables, {"split": snapshot.splits, "layer": layers}, attrs)

    def _split(
        self, snapshot: Snapshot, split: str, layers: Sequence[str], names: Set[str], counts: list[int]
    ) -> list[Cell]:
        """Return a cell for each layer, empty if not measured, and append the numbers of rows to ``counts``."""
        if self.needs_labels and not _labelled(snapshot, split):
            return [{}] * len(layers)
        outputs, batch = snapshot.outputs(split, layers, reduce=self.reduce, device=self.device), snapshot.data[split]
        targets = batch.cpu_targets if self.device is not None and torch.device(self.device) == CPU else batch.targets
        targets = None if targets is None else targets.clone()  # those of the caller stay what they are
        cells: list[Cell] = []
        for layer in layers:
            if layer not in outputs:
                cells.append({})
                continue
            z, labels = self._rows(outputs[layer], targets)
            counts.append(z.shape[0])
            if counts[-1] < 2:
                raise ValueError(f"Expected 2 or more rows of {layer!r} in {split!r}, got {len(z)}; pass more data")
            cells.append(self._cell(z, labels, names))
        return cells

    def _rows(self, z: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the rows that are measured, and their targets."""
        z, n = to_float64_device(z, self.device), z.shape[0]
        labels = row_targets(targets, n, by_position=self.reduce == "tokens")
        if self.needs_labels:
            if labels is None:
                raise ValueError(
                    f"Expected a target for each row, got {0 if targets is None else targets.numel()} targets for "
                    f"{n} rows of a layer; if each position has a target, measure positions: "
                    f'{type(self).__name__}(reduce="tokens")'
                )
            z, labels = without_ignored(z, labels)
        if self.max_samples is not None and z.shape[0] > self.max_samples:
            rows = random_rows(z.shape[0], self.max_samples, self.random_state)
            z, labels = z[rows.to(z.device)], None if labels is None else labels[rows.to(labels.device)]
        return z, labels

    def _cell(self, z: Tensor, targets: Tensor | None, names: Set[str]) -> Cell:
        """Return the numbers and flags of finite rows; for others the flag alone."""
        flag = self.nonfinite_flag
        # a sum is finite if its terms are, except for overflow, and is quicker than a test of each term
        if flag and not (math.isfinite(z.sum().item()) or torch.isfinite(z).all()):
            return {flag: 1}
        found = dict(self.summarise(z, targets))
        if found.keys() != names:
            raise ValueError(
                f"Expected {type(self).__name__}.summarise to return the variables that `variables` declares, got "
                f"undeclared names {sorted(found.keys() - names)} and no {sorted(names - found.keys())}; "
                "correct one of the two"
            )
        for name, number in found.items():
            if isinstance(number, Tensor) and number.numel() != 1:
                raise ValueError(
                    f"Expected {type(self).__name__}.summarise to return one number for {name!r}, got shape "
                    f"{tuple(number.shape)}; reduce it, for example with .mean()"
                )
        if flag:
            found[flag] = 0
        return found


def tabulated(
    cells: Sequence[Any],
    variables: Variables,
    coords: Mapping[str, Sequence[Any]],
    attrs: Mapping[str, Any] | None = None,
) -> dict[str, Measured]:
    """Return the variables of a table of cells.

    Parameters
    ----------
    cells
        Mappings of names to numbers, in lists nested as ``coords``. A name that is missing is NaN, in a flag -1.
    variables
        The variables to return.
    coords
        The labels of each dimension, outermost first.
    attrs
        Attributes of the variables that are no flags.
    """
    dims, shape = tuple(coords), tuple(map(len, coords.values()))
    for _ in dims[1:]:
        cells = list(chain.from_iterable(cells))
    found = {}
    for name, (units, text, flag) in variables.items():
        missing = -1 if flag else math.nan
        values = np.array([float(cell.get(name, missing)) for cell in cells]).reshape(shape)
        facts = {} if flag or attrs is None else attrs
        found[name] = Measured(values, dims, coords, units=units, long_name=text, flag=flag, attrs=facts)
    return found


def random_rows(n: int, max_samples: int, random_state: int) -> Tensor:
    """Return the places of ``min(n, max_samples)`` of ``n`` rows, drawn without replacement, the same at every step."""
    return torch.randperm(n, generator=generator(random_state))[:max_samples]


def row_targets(targets: Tensor | None, n: int, *, by_position: bool) -> Tensor | None:
    """Return one target for each of ``n`` rows; None if there are no targets, or another number of them.

    Parameters
    ----------
    targets
        One target for each row in total. If positions are rows (``by_position``), also one target for each input, which
        all its positions then have.
    """
    if targets is None or targets.shape == (n,):
        return targets
    flat = targets.flatten()
    if by_position and len(flat) and n % len(flat) == 0:
        return flat.repeat_interleave(n // len(flat))
    return flat if len(flat) == n else None


def without_ignored(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and labels without those labelled -100, which stands for "no target"."""
    kept = labels != IGNORED
    return (z, labels) if kept.all() else (z[kept.to(z.device)], labels[kept])


def _labelled(snapshot: Snapshot, split: str) -> bool:
    targets = snapshot.data[split].targets
    return targets is not None and not targets.is_floating_point()
