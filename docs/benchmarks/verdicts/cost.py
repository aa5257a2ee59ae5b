"""Section 8: what the verdicts cost."""

import os
import platform
import time
import tracemalloc

import numpy as np
from detector import simulated

from probe import PhaseDetector
from verdicts.decisions import Bar, Number, Section, Table
from verdicts.humps import bell
from verdicts.records import Rule


def long_record(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a record of ``n`` observations with one hump."""
    steps = np.arange(n, dtype=float)
    x = np.log10(steps + 1)
    values = 2 * np.exp(-x) + bell(0.5)(x - 4) + 0.05 * np.random.default_rng(0).standard_normal(n)
    return steps, values


def cost_section(rule: Rule, draws: int, seed: int) -> Section:
    """Return CPU seconds of many runs, and seconds and memory of a long record."""
    start = time.process_time()
    PhaseDetector().fit(simulated(1000))
    many = time.process_time() - start
    record = long_record(10**6)
    start = time.process_time()
    rule(*record)
    once = time.process_time() - start
    tracemalloc.start()
    rule(*record)
    peak = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()
    caption = f"CPU time and peak memory on {platform.machine()}, {os.cpu_count()} cores."
    table = Table("Time and memory", caption, ("what",), ("measured",))
    table.add(("`PhaseDetector`, 1,000 runs of four curves of 200 rows",), {"measured": Number(many, Bar(10), 1, "s")})
    table.add(("`second_descent`, 1,000,000 rows",), {"measured": Number(once, Bar(1), 2, "s")})
    table.add(("the same, memory beyond the record",), {"measured": Number(peak, Bar(500), 0, "MB")})
    return Section("cost", "Cost", [table])
