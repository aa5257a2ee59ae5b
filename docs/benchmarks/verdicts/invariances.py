"""Section 6: the verdict on a run does not depend on its units or on how it is recorded."""

from collections.abc import Callable, Iterator

import numpy as np
from curves.densities import DENSITIES

from verdicts.decisions import Bar, Cell, Number, Section, Table
from verdicts.humps import SHAPES, wiggle_of, planted
from verdicts.real import EXPERT, contradict, given
from verdicts.records import NOISES, SPACINGS, Record, Rule, generator_of


def _longer(steps: np.ndarray, values: np.ndarray) -> Record:
    """Return the record with half as many rows again on its flat end: the last level with the last fifth's noise."""
    n = len(values)
    last = values[-max(n // 5, 5) :]
    smooth = np.median(np.lib.stride_tricks.sliding_window_view(np.pad(last, 2, mode="reflect"), 5), 1)
    noise = np.random.default_rng(0).choice(last - smooth, n // 2)
    more = steps[-1] + (steps[-1] - steps[-2]) * np.arange(1, n // 2 + 1)
    return np.r_[steps, more], np.r_[values, np.median(values[-5:]) + noise]


INVARIANCES: dict[str, Callable[[np.ndarray, np.ndarray], Record]] = {
    "values times 10": lambda s, v: (s, 10 * v),
    "values plus 10": lambda s, v: (s, v + 10),
    "values minus 100": lambda s, v: (s, v - 100),
    "flat end longer by half": _longer,
    "first five rows dropped": lambda s, v: (s[5:], v[5:]),
    "every second row": lambda s, v: (s[::2], v[::2]),
    "every fifth row": lambda s, v: (s[::5], v[::5]),
}
EXACT = tuple(INVARIANCES)[:3]  # nothing may change


def records_of(draws: int, seed: int) -> Iterator[tuple[str, Record, bool]]:
    """Yield set, record and whether its end is flat: given curves at two densities, simulated ones with flat ends."""
    for name, dense in given().items():
        for density in ("dense", "log40"):
            yield "given", DENSITIES[density](*dense), set(EXPERT[name].right) <= {"found", "absent"}
    for k in range(draws // 4):
        generator = generator_of(seed, "invariance", k)
        n, noise = (60, 200, 1000)[k % 3], ("white", "AR(.5)", "AR(.8)")[k // 3 % 3]
        steps, size = SPACINGS["log"](n), 8 * wiggle_of(noise, n, seed)
        hump = planted(generator, steps, SHAPES["bell, 0.5 decade"], size, "log")[0]
        curve = hump if k % 2 else 3 * size * np.exp(-steps / 10)
        yield "simulated", (steps, curve + NOISES[noise](generator, 1, n)[0]), True


def section(rule: Rule, draws: int, seed: int) -> Section:
    """Return how many verdicts change when the record changes and the run does not."""
    records = [(kind, record, flat, rule(*record)) for kind, record, flat in records_of(draws, seed)]
    sizes = {kind: sum(k == kind for k, *_ in records) for kind in ("given", "simulated")}
    columns = tuple(f"{kind}: {what}" for kind in sizes for what in ("changed", "contradictions"))
    caption = (
        f"Number of verdicts that change, and of those that contradict each other. There are {sizes['given']} given "
        f"records (dense and 40 log-spaced rows) and {sizes['simulated']} simulated ones (half with a hump). Flat ends "
        "are lengthened if the end is flat."
    )
    table = Table("Same run, other record", caption, ("change",), columns)
    for name, change in INVARIANCES.items():
        counts = dict.fromkeys(columns, 0)
        for kind, record, flat, marker in records:
            if flat or "flat end" not in name:
                other = change(*record)
                changed = rule(*other)
                counts[f"{kind}: changed"] += changed.status != marker.status
                counts[f"{kind}: contradictions"] += contradict((marker, record), (changed, other))
        row: dict[str, Cell] = {
            column: Number(count, Bar(0) if name in EXACT or "contradictions" in column else None)
            for column, count in counts.items()
        }
        table.add((name,), row)
    return Section("invariances", "Invariances", [table])
