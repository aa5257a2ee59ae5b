"""Collect the curves of all seeds of a configuration, and report how far they are."""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probe import concat
from reference.runs.options import with_defaults
from reference.runs.storage import RunFolder, describe_differences, provenance_of


def survey(folder: str | Path) -> dict[int, str]:
    """Return a description of the state of each seed in the folder of a configuration; ``"finished"`` if it is."""
    found = {}
    for seed, path in seed_folders(folder).items():
        run = RunFolder(path)
        recorded = run.recorded()
        description = "nothing recorded yet"
        if recorded is not None and recorded.sizes["step"]:
            at, total = int(recorded["step"][-1]), provenance_of(recorded)["config"]["steps"]
            description = "finished" if at == total else f"unfinished, recorded until step {at:,} of {total:,}"
        if run.failure.exists():
            description += f"; {run.failure.read_text(encoding='utf-8').splitlines()[0]}"
        found[seed] = description
    return found


def collect(folder: str | Path) -> xr.Dataset:
    """Merge the curves of all seeds in the folder of a configuration.

    Returns
    -------
    xarray.Dataset
        The result of `probe.concat` with a dimension ``run``. The steps are united; values that a run lacks are NaN.
        The coordinates of ``run`` are `seed`; `observations`, the number of recorded steps; and `finished`, 1 or 0.

    Raises
    ------
    FileNotFoundError
        If the folder holds no recorded run.
    ValueError
        If the seeds have different configurations.
    """
    found = {}
    for seed, path in seed_folders(folder).items():
        recorded = RunFolder(path).recorded()
        if recorded is not None and recorded.sizes["step"]:
            found[seed] = recorded
    if not found:
        raise FileNotFoundError(
            f"Expected recorded runs in {folder}, got none; give the folder of a configuration, with seed-0 and so on."
        )
    configs = {seed: with_defaults(provenance_of(recorded)["config"]) for seed, recorded in found.items()}
    _check_same(configs)
    finished = [recorded["step"].values[-1] == configs[seed]["steps"] for seed, recorded in found.items()]
    counts = [recorded.sizes["step"] for recorded in found.values()]
    seeds = np.array(list(found), np.int32)  # NetCDF 3 has this type
    return concat(list(found.values()), list(seeds)).assign_coords(
        seed=("run", seeds),
        observations=("run", np.array(counts, np.int32), {"units": "1", "long_name": "steps recorded; others are NaN"}),
        finished=("run", np.array(finished, np.int8), {"units": "1", "long_name": "trained to the last step"}),
    )


def _check_same(configs: dict[int, dict[str, Any]]) -> None:
    """Raise ValueError if the seeds have different configurations."""
    first = next(iter(configs))
    for seed, config in configs.items():
        places = (f"for seed {first}", f"for seed {seed}")
        if difference := describe_differences(configs[first], config, places=places):
            raise ValueError(
                f"Expected runs of one configuration, got several: {difference}; move one of them to another folder."
            )


def seed_folders(folder: str | Path) -> dict[int, Path]:
    """Return the folders of the seeds of a configuration, by seed."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"Expected a folder of runs, got {folder}, which does not exist; give runs/NAME.")
    found = {path.name.removeprefix("seed-"): path for path in Path(folder).glob("seed-*")}
    return {int(seed): found[seed] for seed in sorted(filter(str.isdigit, found), key=int)}
