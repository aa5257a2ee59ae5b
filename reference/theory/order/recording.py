"""Recording of all chains and loops: each is a file, and finished files are only read."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
import xarray as xr

from probe import save
from probe.recording import provenance_json
from probe.workers import in_parallel
from reference.theory.order.chains import STARTS, equilibrium, loop
from reference.theory.order.settings import OrderSettings

Block = tuple[str, Callable[[], xr.Dataset]]


def record_order(
    settings: OrderSettings, folder: Path, *, n_jobs: int = 1, on_block: Callable[[], object] = lambda: None
) -> xr.Dataset:
    """Run all chains and loops. The same call resumes; a kill loses at most the running ones.

    Returns
    -------
    xarray.Dataset
        Results of `equilibrium` over (dimension, start), of `loop` over (loop_dimension, loop_steps), and
        ``control_histogram`` over (control_dimension, run, bin).

    Raises
    ------
    ValueError
        If the folder holds other settings.
    """
    blocks = _blocks(settings)
    tasks = [(settings, folder / f"{name}.nc", run) for name, run in blocks]
    found = {}
    for (name, _), block in zip(blocks, in_parallel(_run, tasks, n_jobs), strict=True):
        found[name] = block
        on_block()
    chains = _table(found, "chain", "dimension", settings.sizes, "start", STARTS)
    loops = _table(found, "loop", "loop_dimension", settings.loop_sizes, "loop_steps", settings.loop_steps)
    parts = [found[f"control-{d}"][["histogram"]] for d in settings.control_sizes]
    control = xr.concat(parts, xr.Variable("control_dimension", list(settings.control_sizes)), combine_attrs="drop")
    description = {"estimator": "Langevin", "parameters": asdict(settings)}
    return xr.merge([chains, loops, control.rename(histogram="control_histogram")]).assign_attrs(
        configuration=json.dumps(asdict(settings)),
        provenance=provenance_json([description], device="cpu"),
        cost_cpu_seconds=round(sum(block.attrs["cost_cpu_seconds"] for block in found.values()), 1),
    )


def n_blocks(settings: OrderSettings) -> int:
    """Return the number of chains and loops."""
    return len(_blocks(settings))


def _blocks(settings: OrderSettings) -> list[Block]:
    """Return names and functions."""

    def chain(d: int, start: str) -> Block:
        return f"chain-{d}-{start}", lambda: equilibrium(settings, d, start)

    def sweep(d: int, steps: int) -> Block:
        return f"loop-{d}-{steps}", lambda: loop(settings, d, steps)

    def control(d: int) -> Block:
        return f"control-{d}", lambda: equilibrium(settings, d, "zero", control=True)

    return [
        *(chain(d, start) for d in settings.sizes for start in STARTS),
        *(control(d) for d in settings.control_sizes),
        *(sweep(d, steps) for d in settings.loop_sizes for steps in settings.loop_steps),
    ]


def _run(settings: OrderSettings, path: Path, run: Callable[[], xr.Dataset]) -> xr.Dataset:
    expected = json.dumps(asdict(settings))
    if path.exists():
        found = xr.load_dataset(path, engine="scipy")
        if found.attrs["configuration"] != expected:
            raise ValueError(
                f"Expected the settings of this command in {path}, got others; give another folder by --out."
            )
        return found
    threads, started = torch.get_num_threads(), time.process_time()
    torch.set_num_threads(1)
    try:
        found = run()
    finally:
        torch.set_num_threads(threads)
    cost = round(time.process_time() - started, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(found.assign_attrs(configuration=expected, cost_cpu_seconds=cost), path)
    return found.assign_attrs(configuration=expected, cost_cpu_seconds=cost)


def _table(
    found: dict[str, xr.Dataset], kind: str, row: str, rows: tuple[int, ...], column: str, columns: tuple[object, ...]
) -> xr.Dataset:
    """Return the blocks of a kind in one dataset."""
    merged = [
        xr.concat([found[f"{kind}-{one}-{other}"] for other in columns], xr.Variable(column, list(columns)),
                  combine_attrs="drop")
        for one in rows
    ]  # fmt: skip
    return xr.concat(merged, xr.Variable(row, list(rows)))
