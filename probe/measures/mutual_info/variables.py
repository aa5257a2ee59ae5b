"""What :class:`~probe.MutualInfoProbe` knows of each layer and split, as variables of a series."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from probe.base import Measured
from probe.information.channel import ChannelEstimate, ChannelInformation
from probe.information.spread import RepresentationGeometry
from probe.measures.mutual_info.estimators import ESTIMATORS, ComparisonEstimator
from probe.series import COMPARES

SILENT = "silent"  # in place of a cell: the layer did not fire
_ALARM = 0.5  # of what the classes' means decode; less of it in a reading means that the noise hides the labels


class VariableNames(NamedTuple):
    """Which variables there are besides those that always are."""

    noise_factors: Sequence[float]
    compare: Sequence[str]
    subsamples: int
    scale_free: bool


class Cell(NamedTuple):
    """What is known of one layer and split.

    ``levels``: at each noise, the stated one first; ``geometry``: None if all rows are alike; ``compared``: by other
    estimators; ``scale_free``: where the noise does not follow the spread, what it would be if it did.
    """

    levels: tuple[ChannelInformation, ...]
    geometry: RepresentationGeometry | None
    compared: Mapping[str, ComparisonEstimator]
    scale_free: ChannelInformation | None = None
    scale_artefact: int = 0

    @property
    def main(self) -> ChannelInformation:
        """At the stated noise."""
        return self.levels[0]

    @property
    def fano_alarm(self) -> int:
        """1 if the reading tells less than half of what the classes' means do; -1 without labels."""
        y = self.main.y
        if y is None or self.geometry is None or self.geometry.fano_bound is None:
            return -1
        return int(y.value + 3 * y.se < _ALARM * self.geometry.fano_bound)


class Table(NamedTuple):
    """The cells of all splits, as variables."""

    rows: list[list[Any]]
    coords: Mapping[str, Any]

    def by_layer(self, pick: Callable[[Cell], float | None], **kwargs: Any) -> Measured:
        """One number of each cell; what there is none of is NaN, in a flag -1."""
        empty = -1 if kwargs.get("flag") else math.nan
        picked = [[pick(c) if isinstance(c, Cell) else None for c in row] for row in self.rows]
        values = [[empty if value is None else value for value in row] for row in picked]
        return Measured(values, ("split", "layer"), self.coords, **kwargs)

    def by_noise(
        self, pick: Callable[[ChannelInformation], float | None], factors: Sequence[float], **kwargs: Any
    ) -> Measured:
        """One number at each multiple of the noise."""
        lost = [math.nan] * len(factors)
        values = [[[*map(pick, c.levels[1:])] if isinstance(c, Cell) else lost for c in row] for row in self.rows]
        coords = {**self.coords, "noise_factor": [float(factor) for factor in factors]}
        return Measured(values, ("split", "layer", "noise_factor"), coords, **kwargs)


def tabulated(table: Table, attrs: Mapping[str, Any], columns: VariableNames) -> dict[str, Measured]:
    """All variables of a :class:`~probe.MutualInfoProbe`."""
    cells = [c for row in table.rows for c in row if isinstance(c, Cell)]
    out: dict[str, Measured] = {}
    for which, text in _INFORMATIONS.items() if any(c.main.y for c in cells) else [("x", _INFORMATIONS["x"])]:
        name, facts = f"information_{which}", {"units": "bits", "attrs": attrs}
        for part in ChannelEstimate._fields if columns.subsamples else ChannelEstimate._fields[:-1]:
            full, tail = (name, "") if part == "value" else (f"{name}_{part}", f", {part.replace('_', ' ')}")
            out[full] = table.by_layer(partial(_main_bits, which, part), long_name=text + tail, **facts)
        if columns.noise_factors:
            pick = partial(_bits, which, "value")
            out[f"{name}_by_noise"] = table.by_noise(pick, columns.noise_factors, long_name=f"{text} by noise", **facts)
        if which in "xy":
            out |= _other_readings(table, which, columns)
    for name, (text, of_cell) in _COMPANIONS.items():
        out[name] = table.by_layer(of_cell, long_name=text)
    for name, (text, of_cell) in _FLAGS.items():
        out[name] = table.by_layer(of_cell, flag=True, long_name=text)
    if columns.scale_free:
        text = "more than half of the change since the first observation is one of scale"
        out["scale_artefact"] = table.by_layer(lambda c: c.scale_artefact, flag=True, long_name=text)
    bad = [[-1 if c == SILENT else int(c is None) for c in row] for row in table.rows]
    text = "activations are not finite"
    out["information_nonfinite"] = Measured(bad, ("split", "layer"), table.coords, flag=True, long_name=text)
    return out


def _other_readings(table: Table, which: str, columns: VariableNames) -> dict[str, Measured]:
    name, facts = f"information_{which}", {"units": "bits", "attrs": {COMPARES: f"information_{which}"}}
    out = {}
    for other in columns.compare:
        text = f"I(T;{which.upper()}): {ESTIMATORS[other][0]}"
        out[f"{name}_{other}"] = table.by_layer(partial(_compared, other, which), long_name=text, **facts)
    if columns.scale_free:
        text = f"{_INFORMATIONS[which]}, noise that follows the scale"
        out[f"{name}_scale_free"] = table.by_layer(partial(_scale_free_bits, which), long_name=text, **facts)
    return out


def _bits(which: str, part: str, found: ChannelInformation) -> float | None:
    """One number of a cell; bounds as what is known in the end, within [0, ceiling]."""
    bits: ChannelEstimate | None = getattr(found, which)
    if bits is None:
        return None
    value: float | None = dict(zip(("lower", "upper"), bits.bracket, strict=True)).get(part, getattr(bits, part))
    return value


def _main_bits(which: str, part: str, cell: Cell) -> float | None:
    return _bits(which, part, cell.main)


def _scale_free_bits(which: str, cell: Cell) -> float | None:
    return _bits(which, "value", cell.scale_free or cell.main)


def _compared(name: str, which: str, cell: Cell) -> float | None:
    return cell.compared[name]["xy".index(which)]


def _of_geometry(name: str, cell: Cell) -> float | None:
    value: float | None = None if cell.geometry is None else getattr(cell.geometry, name)
    return value


_INFORMATIONS = {"x": "I(T+n;X)", "y": "I(T+n;Y)", "x_given_y": "I(T+n;X|Y)"}
_Told = dict[str, tuple[str, Callable[[Cell], float | None]]]
_COMPANIONS: _Told = {
    "total_variance": ("tr Cov(T)", lambda c: c.main.variance),
    "noise_std": ("noise per dimension", lambda c: c.main.noise_std),
    "noise_relative": ("noise per dimension over the root of tr Cov(T)", lambda c: c.main.noise_relative),
    "effective_rank": ("participation ratio of Cov(T)", partial(_of_geometry, "participation_ratio")),
    "within_share": ("within-class share of tr Cov(T)", partial(_of_geometry, "within_share")),
    "class_mean_accuracy": ("accuracy of the nearest class mean", partial(_of_geometry, "class_mean_accuracy")),
}
_FLAGS: _Told = {
    "saturated": ("I(T+n;X) is at its ceiling", lambda c: c.main.saturated),
    "collapsed": ("all rows alike", lambda c: c.main.collapsed),
    "fano_alarm": ("the noise hides labels that class means decode", lambda c: c.fano_alarm),
}
