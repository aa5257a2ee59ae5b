"""Rates, bars and decisions, and the Markdown tables that show them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan

from scipy import stats

ERROR = 0.01  # probability that a table of cells that all hold their bars has a miss, at most


@dataclass(frozen=True)
class Bar:
    """A limit that a rate or a number must not exceed (``at_most``) or must reach."""

    limit: float
    at_most: bool = True

    def exceeded(self, value: float) -> bool:
        """Return whether a value lies beyond the limit; NaN does not."""
        return value > self.limit if self.at_most else value < self.limit

    def text(self, share: bool) -> str:
        """Return the bar as it stands in a table, in per cent for a share."""
        return f"{'≤' if self.at_most else '≥'} {100 * self.limit if share else self.limit:g}{' %' if share else ''}"


@dataclass(frozen=True)
class Share:
    """A simulated rate: ``hits`` of ``draws``."""

    hits: int
    draws: int
    bar: Bar | None = None

    @property
    def value(self) -> float:
        """The share, NaN without draws."""
        return self.hits / self.draws if self.draws else float("nan")

    def missed(self, n_cells: int) -> bool:
        """Return whether the one-sided 99 % limit, corrected for the number of cells, lies beyond the bar."""
        if self.bar is None or not self.draws:
            return False
        alpha = ERROR / n_cells
        if self.bar.at_most:
            return lower_limit(self.hits, self.draws, alpha) > self.bar.limit
        return 1 - lower_limit(self.draws - self.hits, self.draws, alpha) < self.bar.limit

    def beyond(self) -> bool:
        """Return whether the rate itself lies beyond the bar, by chance or not."""
        return (
            self.bar is not None and (self.value > self.bar.limit) is self.bar.at_most and self.value != self.bar.limit
        )

    def text(self) -> str:
        """Return the share in per cent."""
        return f"{100 * self.value:.1f}" if self.draws else "—"


@dataclass(frozen=True)
class Number:
    """A number without a sampling error that counts: a count, a median, a time."""

    value: float
    bar: Bar | None = None
    digits: int = 0
    unit: str = ""

    def missed(self, n_cells: int) -> bool:
        """Return whether the number lies beyond the bar."""
        return self.beyond()

    def beyond(self) -> bool:
        """Return whether the number lies beyond the bar."""
        return self.bar is not None and (
            self.value > self.bar.limit if self.bar.at_most else self.value < self.bar.limit
        )

    def text(self) -> str:
        """Return the rounded number with its unit."""
        return "—" if isnan(self.value) else f"{self.value:,.{self.digits}f}{self.unit and ' ' + self.unit}"


Cell = Share | Number | str


def lower_limit(hits: int, draws: int, alpha: float) -> float:
    """Return the one-sided lower Clopper-Pearson limit of a probability, of coverage 1 - alpha."""
    return float(stats.beta.ppf(alpha, hits, draws - hits + 1)) if hits else 0.0


def wilson(hits: int, draws: int, level: float = 0.95) -> tuple[float, float]:
    """Return Wilson's two-sided interval of a probability."""
    interval = stats.binomtest(hits, draws).proportion_ci(level, "wilson")
    return float(interval.low), float(interval.high)


@dataclass
class Table:
    """Rows of cells under column heads, with the bar and the result of each row behind them."""

    title: str
    caption: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    rows: dict[tuple[str, ...], dict[str, Cell]] = field(default_factory=dict)

    def add(self, label: tuple[str, ...], cells: Mapping[str, Cell]) -> None:
        """Append one row."""
        self.rows[label] = dict(cells)

    def cells(self) -> list[tuple[str, Share | Number]]:
        """Return name and value of each cell that has a bar."""
        return [
            (", ".join((*label, column)), cell)
            for label, row in self.rows.items()
            for column, cell in row.items()
            if not isinstance(cell, str) and cell.bar is not None
        ]

    def values(self) -> dict[str, float]:
        """Return each number or share by the name of its cell."""
        return {
            ", ".join((*label, column)): round(cell.value, 4)
            for label, row in self.rows.items()
            for column, cell in row.items()
            if not isinstance(cell, str) and not isnan(cell.value)
        }

    def markdown(self, n_cells: int, before: Mapping[str, float]) -> list[str]:
        """Return the lines; values of an earlier detector stand in parentheses."""
        barred = bool(self.cells())
        heads = [*self.labels, *self.columns, *(["bar", "result"] if barred else [])]
        lines = ["", f"### {self.title}", "", self.caption, "", _row(heads), _row(["---"] * len(heads))]
        for label, row in self.rows.items():
            cells = [row[c] for c in self.columns if c in row]
            texts = [self._text(label, c, row.get(c, ""), n_cells, before) for c in self.columns]
            lines.append(_row([*label, *texts, *(_result(cells, n_cells) if barred else [])]))
        return lines

    def _text(self, label: tuple[str, ...], column: str, cell: Cell, n_cells: int, before: Mapping[str, float]) -> str:
        if isinstance(cell, str):
            return cell
        text = f"**{cell.text()}**" if cell.missed(n_cells) else cell.text()
        old = before.get(", ".join((*label, column)))
        return text if old is None else f"{text} ({_like(cell, old).text()})"


def _like(cell: Share | Number, value: float) -> Number:
    """Return an earlier value in the form of a cell."""
    return Number(100 * value, digits=1) if isinstance(cell, Share) else Number(value, digits=cell.digits)


def _result(cells: list[Cell], n_cells: int) -> list[str]:
    """Return the bar of a row and whether its cells hold it."""
    measured = [cell for cell in cells if not isinstance(cell, str) and cell.bar is not None]
    if not measured:
        return ["", ""]
    bars = dict.fromkeys(cell.bar.text(isinstance(cell, Share)) for cell in measured if cell.bar)
    missed = sum(cell.missed(n_cells) for cell in measured)
    return ["; ".join(bars), f"**{missed} of {len(measured)} miss**" if missed else "pass"]


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


@dataclass(frozen=True)
class Section:
    """Tables whose cells are judged together."""

    name: str
    title: str
    tables: list[Table]

    @cached_property
    def n_cells(self) -> int:
        """Number of simulated rates with a bar: the correction of the decision."""
        return max(1, sum(isinstance(cell, Share) for table in self.tables for _, cell in table.cells()))

    def markdown(self, before: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Return the lines of all tables."""
        lines = ["", f"## {self.title}"]
        for table in self.tables:
            lines += table.markdown(self.n_cells, before.get(table.title, {}))
        return lines

    def summary(self) -> list[str]:
        """Return a row for each table with a bar: how many cells miss it, and the cell farthest beyond it."""
        lines = []
        for table in self.tables:
            if cells := table.cells():
                missed = sum(cell.missed(self.n_cells) for _, cell in cells)
                beyond = sum(cell.beyond() for _, cell in cells)
                name, worst = max(cells, key=_excess)
                result = f"**{missed} miss**" if missed else "pass"
                bars = "; ".join(dict.fromkeys(c.bar.text(isinstance(c, Share)) for _, c in cells if c.bar))
                row = [self.title, table.title, bars, str(len(cells)), str(beyond), f"{worst.text()} ({name})", result]
                lines.append(_row(row))
        return lines

    def weak_cells(self) -> list[str]:
        """Return a line for each cell beyond its bar, first those that miss it."""
        found = []
        for table in self.tables:
            for name, cell in table.cells():
                if cell.beyond() and cell.bar:
                    mark = "MISS" if cell.missed(self.n_cells) else "beyond by chance"
                    bar = cell.bar.text(isinstance(cell, Share))
                    found.append(f"- {mark}: {self.name}: {table.title}: {name}: {cell.text()} (bar {bar})")
        return sorted(found, key=lambda line: not line.startswith("- MISS"))


SUMMARY_HEAD = [
    _row(["section", "table", "bar", "cells", "cells beyond the bar", "worst cell", "result"]),
    _row(["---"] * 7),
]


def _excess(named: tuple[str, Share | Number]) -> float:
    """Return by how much a cell exceeds its bar, relative to the bar; negative inside it."""
    cell = named[1]
    assert cell.bar is not None
    excess = cell.value - cell.bar.limit if cell.bar.at_most else cell.bar.limit - cell.value
    return -1.0 if isnan(excess) else excess / max(cell.bar.limit, 1e-9)
