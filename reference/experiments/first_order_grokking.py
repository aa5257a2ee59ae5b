"""Does weight decay take a small network through a first-order transition? Runs that grok, their controls, and sweeps.

Four experiments on modular addition:

- ``grokking``, ``no-decay``, ``shuffled``: runs that grok, and two controls of the same length.
- ``boundary-DECAY``: one run for each weight decay. Whether a run groks is judged at three budgets of steps, because
  the time until it groks is in proportion to 1 / decay.
- ``sweep-STEPS``: the decay is swept up and down across the boundary of grokking, with this number of steps for each
  value.
- ``collapse-STEPS``: the same across the decay at which a network that has grokked loses its weights. Zero weights are
  stable at every decay, because all gradients are quadratic in the weights. So the two boundaries need two sweeps.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, product
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import xarray as xr

import probe
from probe import PerformanceProbe, ProbeSet, concat, log_spaced
from probe.stats import Hysteresis, hysteresis
from reference.runs.job import torch_threads
from reference.runs.launch import count_workers
from reference.runs.storage import describe_differences, provenance_of
from reference.training.modular import ModularConfig, squared_errors, train_modular

BUDGETS = (500, 2_000, 8_000)  # steps
SEEDS = tuple(range(6))
GROKKED = 0.9  # test accuracy
_BOUNDARY = tuple(float(f"{10**k:.2g}") for k in np.arange(-2, 2.01, 0.5))  # nine decays, four decades
_SWEPT = {
    "sweep": tuple(float(f"{10**k:.3g}") for k in np.arange(-2, 0.76, 0.125)),  # 0.01 to 5.62
    "collapse": tuple(float(f"{10**k:.3g}") for k in np.arange(0.75, 1.76, 0.125)),  # 5.62 to 56.2
}
_STEPS_PER_VALUE = (50, 200, 800)
_SETTLE = 500  # steps at the first value before a sweep: the network memorises at 0.01, and groks at 5.62
_EVEN = 60  # observations at equal distances


def grokking_probes() -> ProbeSet:
    """Return the probes of all runs: squared error and accuracy.

    Add a probe here, such as one of weights, and all runs are measured by it.
    """
    return ProbeSet([PerformanceProbe(score=squared_errors)])


@dataclass(frozen=True, kw_only=True)
class GrokkingRun:
    """One configuration with its schedule of weight decay.

    Attributes
    ----------
    name : str
        Name of the run and of its folder.
    training : ModularConfig
        Task, network and recipe.
    pieces : tuple of (decay, steps)
        Weight decays in turn, each for a number of steps. Empty: the decay of ``training`` for all its steps.
    """

    name: str
    training: ModularConfig = field(default_factory=ModularConfig)
    pieces: tuple[tuple[float, int], ...] = ()

    def ends(self) -> list[int]:
        """Return the step at which each piece ends."""
        return list(accumulate(steps for _, steps in self.pieces))

    def decay(self, step: int) -> float:
        """Return the weight decay of the update that follows ``step``."""
        if not self.pieces:
            return self.training.weight_decay
        return self.pieces[min(bisect_right(self.ends(), step), len(self.pieces) - 1)][0]

    def observed(self) -> list[int]:
        """Return the observed steps: log-spaced and even ones, with all budgets; the ends of all pieces of a sweep."""
        if self.pieces:
            return [0, *self.ends()]
        last = self.training.steps
        log = filter(log_spaced(per_decade=24), range(last + 1))
        even = (round(k * last / _EVEN) for k in range(_EVEN + 1))
        return sorted({*log, *even, *(budget for budget in BUDGETS if budget <= last)})


def grokking_runs() -> dict[str, GrokkingRun]:
    """Return all runs by name."""
    found = [
        GrokkingRun(name="grokking"),
        GrokkingRun(name="no-decay", training=ModularConfig(weight_decay=0.0)),
        GrokkingRun(name="shuffled", training=ModularConfig(shuffled=True)),
    ]
    for decay in _BOUNDARY:
        training = ModularConfig(weight_decay=decay, steps=max(BUDGETS))
        found.append(GrokkingRun(name=f"boundary-{decay:g}", training=training))
    for (kind, decays), steps in product(_SWEPT.items(), _STEPS_PER_VALUE):
        pieces = tuple((decay, steps) for decay in (*decays, *decays[::-1]))
        found.append(GrokkingRun(name=f"{kind}-{steps}", pieces=((decays[0], _SETTLE), *pieces)))
    return {run.name: run for run in found}


@torch_threads(1)
def record_grokking_seed(
    run: GrokkingRun, seed: int, path: Path, probes: Callable[[], ProbeSet] = grokking_probes
) -> xr.Dataset:
    """Train a network with probes, and write its series to ``path`` at the end. A finished run is only read.

    Besides what the probes measure, the series has the weight decay before each observation as ``decay``, and the norm
    of all parameters as ``parameter_norm``.

    Raises
    ------
    ValueError
        If the file holds a run of another configuration or seed.
    """
    identity = {"config": json.loads(json.dumps(asdict(run))), "seed": seed}
    if path.exists():
        return _finished(path, identity)
    attached, data = None, run.training.data(seed)
    for step, network in train_modular(run.training, seed, run.observed(), run.decay):
        if attached is None:
            attached = probes().attach(network, data, on_error="raise")
        norm = sum(float(p.detach().square().sum()) for p in network.parameters()) ** 0.5
        attached.observe(step, decay=run.decay(max(step - 1, 0)), parameter_norm=norm)
    assert attached is not None  # step 0 is always observed
    series = attached.detach().series_
    provenance = {**json.loads(series.attrs["provenance"]), **identity}
    path.parent.mkdir(parents=True, exist_ok=True)
    probe.save(series.assign_attrs(provenance=json.dumps(provenance)), path)
    return probe.load(path)


def _finished(path: Path, identity: dict[str, Any]) -> xr.Dataset:
    series = probe.load(path)
    found = {name: provenance_of(series).get(name) for name in identity}
    if difference := describe_differences(found, identity, places=("in the file", "now")):
        raise ValueError(
            f"Expected the run of this command in {path}, got another one: {difference}; give another folder."
        )
    return series


def record_grokking(
    folder: Path,
    *,
    names: Iterable[str] | None = None,
    seeds: Sequence[int] = SEEDS,
    probes: Callable[[], ProbeSet] = grokking_probes,
    n_jobs: int | None = None,
) -> dict[str, xr.Dataset]:
    """Record runs to ``folder/NAME/seed-N.nc``, and return them by name. Finished seeds are only read.

    Parameters
    ----------
    folder
        The folder of all runs.
    names : iterable of str, optional
        Names among those of `grokking_runs`. None: all.
    seeds
        The seeds.
    probes : callable
        Return the probe set. It must be a function of a module, so that worker processes can import it.
    n_jobs : int, optional
        Number of seeds that are trained in parallel. None: the setting of `joblib.parallel_config`, else one for each
        core.

    Returns
    -------
    dict of xarray.Dataset
        The series of all seeds, with a dimension ``run`` and its coordinate ``seed``.
    """
    runs = grokking_runs()
    chosen = list(runs if names is None else names)
    if unknown := [name for name in chosen if name not in runs]:
        raise ValueError(f"Expected names among {', '.join(runs)}, got {', '.join(unknown)}; choose some.")
    tasks = [(name, seed) for name in chosen for seed in seeds]
    series = joblib.Parallel(n_jobs=min(count_workers(n_jobs), max(len(tasks), 1)))(
        joblib.delayed(record_grokking_seed)(runs[name], seed, folder / name / f"seed-{seed}.nc", probes)
        for name, seed in tasks
    )
    found = {}
    for i, name in enumerate(chosen):
        of_name = series[i * len(seeds) : (i + 1) * len(seeds)]
        found[name] = concat(of_name, list(seeds)).assign_coords(seed=("run", np.array(seeds, np.int32)))
    return found


def boundary_table(recorded: dict[str, xr.Dataset]) -> xr.DataArray:
    """Return the share of seeds whose test accuracy is 0.9 or more at each budget, (decay, budget)."""
    runs = {name: run for name, run in grokking_runs().items() if name.startswith("boundary-") and name in recorded}
    budgets = [budget for budget in BUDGETS if all(budget in recorded[name].step for name in runs)]
    shares = [
        [float((recorded[name].test_accuracy.sel(step=budget) >= GROKKED).mean()) for budget in budgets]
        for name in runs
    ]
    decays = [run.training.weight_decay for run in runs.values()]
    return xr.DataArray(shares, {"decay": decays, "budget": budgets}, ("decay", "budget"))


def sweep_loops(recorded: dict[str, xr.Dataset], variable: str, kind: str = "sweep") -> Hysteresis:
    """Test the loops of a variable over the decay for hysteresis.

    The rate is one over the steps for each value. The time until a network groks is in proportion to 1 / decay. The
    loop of such a delay has an area in proportion to the rate.

    Parameters
    ----------
    recorded
        The series by name, as `record_grokking` returns them.
    variable
        Name of a variable with the dimensions ``run`` and ``step``.
    kind : {"sweep", "collapse"}
        The sweeps across the boundary of grokking, or across that of collapse.

    Raises
    ------
    ValueError
        If no such sweep is recorded.
    """
    counts = [n for n in _STEPS_PER_VALUE if f"{kind}-{n}" in recorded]
    if not counts:
        raise ValueError(f"Expected recorded runs {kind}-STEPS, got {', '.join(recorded) or 'none'}; record them.")
    control = np.array(_SWEPT[kind])
    n, up, down = len(control), [], []
    for count in counts:
        values = recorded[f"{kind}-{count}"][variable].transpose("run", "step").values[:, 2:]  # after the settling
        up.append(values[:, :n])
        down.append(values[:, n:][:, ::-1])
    return hysteresis([1 / count for count in counts], control, up, down)
