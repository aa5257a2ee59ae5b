"""The contract between a session and a probe: what a session calls, and what a probe returns."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from probe.forward.passes import Tap
from probe.forward.snapshot import Snapshot
from probe.reads import Stages, complete
from probe.series import COMPARES, Variable


class SessionProbe(Protocol):
    """The methods that a session calls on a probe. :class:`probe.Probe` is the class to inherit from."""

    @property
    def requires(self) -> Sequence[str]:
        """Return what the probe needs: ``"targets"``, ``"training"``."""
        ...

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters, as every estimator of scikit-learn does."""
        ...

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        """Return what the probe takes from the shared forward pass."""
        ...

    def measure(self, snapshot: Snapshot) -> "Mapping[str, Measured]":
        """Return the values of one step by the name of the variable."""
        ...


class Staged:
    """Base of a probe that reads numbers of a device in a stage of its own, so that one wait serves all probes.

    A subclass implements :meth:`stages`, and inherits from this class before :class:`probe.Probe`.
    """

    def stages(self, snapshot: Snapshot) -> "Stages[Mapping[str, Measured]]":
        """Yield the tensors that are read, receive them on the CPU, and return the values of one step.

        Forward passes belong before the yield. A condition on a device is tested by :func:`probe.reads.holds`.
        """
        raise NotImplementedError

    def measure(self, snapshot: Snapshot) -> "Mapping[str, Measured]":
        """Measure all stages at once."""
        return complete(self.stages(snapshot))


@dataclass(frozen=True)
class Measured:
    """One quantity at one step, as :meth:`probe.Probe.measure` returns it.

    Parameters
    ----------
    values
        Numbers of the shape that ``dims`` and ``coords`` give. In a flag: 1, 0 or -1 (not measured).
    dims, coords
        Dimension names, and the labels along each dimension.
    units, long_name
        Unit and description for the axis of a plot: ``"bits"``, ``"nats"``, ``"s"``, ``"1"``.
    flag
        Whether the values are flags (int8) and not numbers (float64).
    attrs
        Further facts for the reader of the series: strings and finite numbers.
    keep
        Keep the values for later observations, and leave them out of the series. They may have any shape and any
        numeric type, so ``dims`` and ``coords`` stay empty. The probe reads them as ``snapshot.kept(name)``.

    Raises
    ------
    TypeError
        If ``units`` or ``long_name`` is no text, or if a series or the kept values cannot hold ``values``: complex
        numbers, dates, text, masked entries.
    ValueError
        If ``keep`` is combined with ``dims`` or ``flag``, or if the values do not fit ``dims``.

    Notes
    -----
    Kept values go to the file ``<path>.state`` beside the journal, and stay in memory if there is no path. A recording
    that is resumed from a checkpoint continues with the values of the last observation before it. The file holds the
    three newest values of each name. If the right one is not among them, a warning is issued and ``snapshot.kept``
    returns None. One probe keeps at most 64 MiB at an observation, since the file is written at each of them.

    See Also
    --------
    probe.Probe.measure : Returns a mapping of names to objects of this class.

    Examples
    --------
    >>> from probe import Measured
    >>> loss = Measured([0.7, 0.9], ("split",), {"split": ["train", "test"]}, units="nats", long_name="loss")
    >>> loss.array("loss")
    array([0.7, 0.9])
    >>> Measured([[1, 2], [3, 4]], keep=True).kept_array("frame").dtype
    dtype('int64')
    """

    values: Any
    dims: tuple[str, ...] = ()
    coords: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    units: str = "1"
    long_name: str = ""
    flag: bool = False
    attrs: Mapping[str, Any] = field(default_factory=dict)
    keep: bool = False

    def __post_init__(self) -> None:
        for name in ("units", "long_name"):
            if not isinstance(text := getattr(self, name), str):
                raise TypeError(f"Expected text as {name}, got {text!r}; pass a string such as '1'")
        if self.keep and (self.dims or self.coords or self.flag):
            raise ValueError(
                "Expected kept values without dims, coords and flag, since they are no column of the series, got "
                f"dims={self.dims}, flag={self.flag}; leave these out, or return a second Measured for the series"
            )

    def array(self, name: str) -> np.ndarray:
        """Return the values as the series holds them: float64, or int8 for a flag."""
        array = _real_numbers(self.values, name)
        if self.flag:
            if not ((np.abs(array) == 1) | (array == 0)).all():  # np.isin takes ten times as long
                raise ValueError(
                    f"Expected 1, 0 or -1 (not measured) in the flag {name}, got {array}; return one of them"
                )
            array = array.astype(np.int8)
        shape = tuple(len(self.coords[dim]) for dim in self.dims)
        if array.shape != shape:
            raise ValueError(
                f"Expected values of shape {shape} for {name}, as dims {self.dims} and their labels need shape "
                f"{shape}, got {array.shape}; return one value for each label"
            )
        return array

    def kept_array(self, name: str) -> np.ndarray:
        """Return a copy of the kept values in their own type; bfloat16, which numpy lacks, becomes float32."""
        values = self.values
        if isinstance(values, Tensor):
            values = values.detach().cpu()
            values = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        _check_unmasked(values, name)
        array = np.array(values)
        if array.dtype.kind not in "biufc":
            raise TypeError(f"Expected numbers to keep as {name!r}, got {array.dtype}; keep an array of numbers")
        return array

    def variable(self, name: str, estimator: str, prefix: str = "") -> Variable:
        """Return the description of this column; names of variables of the same probe get the prefix."""
        coords = {dim: np.asarray(labels).tolist() for dim, labels in self.coords.items()}
        attrs = {"estimator": estimator, **{key: _fact(f"{name}: {key}", fact) for key, fact in self.attrs.items()}}
        if COMPARES in attrs:
            attrs[COMPARES] = f"{prefix}{attrs[COMPARES]}"
        return Variable(name, self.dims, coords, self.units, self.long_name, self.flag, attrs)


def check_measured(found: Any, probe: str) -> "Mapping[str, Measured]":
    """Return what a probe of this class has measured; raise TypeError if it is no mapping of names to Measured."""
    if not isinstance(found, Mapping):
        raise TypeError(
            f"Expected {probe}.measure to return a mapping of names to Measured, got {type(found).__name__}; return "
            '{"name": Measured(value)}'
        )
    for name, value in found.items():
        if not isinstance(name, str) or not isinstance(value, Measured):
            raise TypeError(
                f"Expected {probe}.measure to map text to Measured, got {type(value).__name__} under {name!r}; return "
                f'{{"{name}": Measured({"value" if isinstance(value, Measured) else repr(value)[:40]})}}'
            )
    return found


def _real_numbers(values: Any, name: str) -> np.ndarray:
    """Return values in float64; raise TypeError if they are no real numbers, all of them present."""
    _check_unmasked(values, name)
    if isinstance(values, (list, tuple)):
        values = [_plain(value) for value in values]
    array = np.asarray(_plain(values))
    if array.dtype.kind not in "biufO":
        raise TypeError(
            f"Expected real numbers for {name}, got {array.dtype}; convert them first, for example complex numbers "
            "with abs() and times to seconds"
        )
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise TypeError(f"Expected real numbers for {name}, got {str(values)[:80]}; convert them to numbers") from error


def _plain(value: Any) -> Any:
    """Return a tensor as an array."""
    if not isinstance(value, Tensor):
        return value
    value = value.detach().cpu()
    return (value if value.is_complex() else value.double()).numpy()


def _check_unmasked(values: Any, name: str) -> None:
    """Raise TypeError for a masked array with masked entries, since the numbers behind the mask would be recorded."""
    if any(np.ma.is_masked(value) for value in (values if isinstance(values, (list, tuple)) else [values])):
        raise TypeError(
            f"Expected numbers without a mask for {name}, got masked entries; return NaN there: values.filled(np.nan)"
        )


def _fact(where: str, fact: Any) -> str | int | float:
    """Return an attribute in a type of every file format. NetCDF 3 has neither booleans nor wide integers."""
    fact = fact.item() if isinstance(fact, (np.generic, Tensor)) else fact
    if isinstance(fact, str) or (isinstance(fact, (bool, int)) and abs(fact) < 2**31):
        return fact if isinstance(fact, str) else int(fact)
    if isinstance(fact, (int, float)) and math.isfinite(fact):
        return float(fact)
    raise TypeError(f"Expected strings and finite numbers in attrs, got {fact!r} ({where}); convert it with str()")
