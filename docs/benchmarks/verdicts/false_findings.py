"""Section 2: how often a hump is found on curves that have none."""

from collections import Counter
from itertools import product

import numpy as np
from curves.densities import log_spaced

from verdicts import convex
from verdicts.decisions import Bar, Section, Share, Table
from verdicts.nulls import NOISE, NULLS, Label, Null
from verdicts.records import SPACINGS, Rule, generator_of, statuses

BAR = Bar(0.05)
CENSORED_ON_FLAT = Bar(0.10)
Counts = dict[Label, dict[str, Counter[str]]]


def counts_of(null: Null, rule: Rule, draws: int, seed: int) -> Counts:
    """Return how often each status is returned, by family, and by number of rows and their spacing."""
    counts: Counts = {}
    for label, family in null.families.items():
        counts[label] = {}
        for n, spacing in product(null.lengths, null.spacings):
            steps = SPACINGS[spacing](n)
            curves = family(generator_of(seed, null.title, label, n, spacing), draws, steps)
            counts[label][f"{n:,} {spacing}"] = statuses(rule, steps, curves)
    return counts


def found_table(null: Null, counts: Counts, draws: int) -> Table:
    """Return the share found."""
    caption = f"Share found (%) by number of rows and their spacing in steps. {null.caption}".rstrip()
    table = Table(null.title, caption, null.labels, tuple(next(iter(counts.values()))))
    for label, row in counts.items():
        bar = null.bars.get(label, BAR)
        table.add(label, {column: Share(count["found"], draws, bar) for column, count in row.items()})
    return table


def censored_table(counts: Counts, draws: int) -> Table:
    """Return the share of constant curves that is called right-censored."""
    columns = tuple(next(iter(counts.values())))
    caption = "Share (%) of the constant curves of the table above."
    table = Table("Constant curves called right-censored", caption, ("noise",), columns)
    for (curve, noise), row in counts.items():
        if curve == "constant":
            cells = {column: Share(count["right_censored"], draws, CENSORED_ON_FLAT) for column, count in row.items()}
            table.add((noise,), cells)
    return table


def convex_table(rule: Rule, draws: int, seed: int) -> Table:
    """Return the share found on stochastic gradient descent on a convex problem."""
    steps = np.arange(convex.STEPS, dtype=float)
    rows = {
        f"every step ({convex.STEPS} rows)": steps.astype(int),
        f"every tenth ({convex.STEPS // 10})": steps.astype(int)[::10],
        "40 log-spaced": log_spaced(steps, steps)[0].astype(int),
    }
    caption = (
        f"Share found (%). Softmax regression, batches of {convex.BATCH} of {convex.N_ROWS} rows; the curve is the "
        "loss of all rows. Full gradients of the same rates make it fall at every step."
    )
    table = Table("Learning rates on a convex problem", caption, ("rate",), tuple(rows))
    for schedule in convex.SCHEDULES:
        curves = convex.losses(schedule, draws, generator_of(seed, "convex", schedule))
        cells = {name: statuses(rule, steps[kept], curves[:, kept])["found"] for name, kept in rows.items()}
        table.add((schedule,), {name: Share(hits, draws, BAR) for name, hits in cells.items()})
    return table


def section(rule: Rule, draws: int, seed: int) -> Section:
    """Return all tables of false findings."""
    noise = counts_of(NOISE, rule, draws, seed)
    tables = [
        found_table(NOISE, noise, draws),
        censored_table(noise, draws),
        convex_table(rule, draws, seed),
        *(found_table(null, counts_of(null, rule, draws, seed), draws) for null in NULLS),
    ]
    return Section("false findings", "False findings", tables)
