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
from functools import partial
from itertools import accumulate, product
from pathlib import Path

import numpy as np
import xarray as xr

from probe import (
    FeatureLearningProbe,
    MutualInfoProbe,
    PerformanceProbe,
    ProbeSet,
    WeightPhaseProbe,
    concat,
    log_spaced,
)
from probe.workers import in_parallel
from reference.experiments.whole_runs import read_finished, write_finished
from reference.runs.job import torch_threads
from reference.runs.launch import count_workers
from reference.training.modular import ModularConfig, flushed, squared_errors, train_modular

BUDGETS = (500, 2_000, 8_000)  # steps
SEEDS = tuple(range(6))
GROKKED = 0.9  # test accuracy
_BOUNDARY = tuple(float(f"{10**k:.2g}") for k in np.arange(-1.5, 1.51, 0.5))  # seven decays, three decades
SWEPT = {
    "sweep": tuple(float(f"{10**k:.3g}") for k in np.arange(-2, 0.76, 0.125)),  # 0.01 to 5.62
    "collapse": tuple(float(f"{10**k:.3g}") for k in np.arange(0.75, 1.76, 0.125)),  # 5.62 to 56.2
}
STEPS_PER_VALUE = (50, 200, 800)
_SETTLE = 500  # steps at the first value before a sweep: the network memorises at 0.01, and groks at 5.62
_KEPT = (  # what the recordings hold, besides curves; the rest can be measured again
    *("seconds", "failed", "saturated", "information_x", "information_x_se", "information_nonfinite", "collapsed"),
    *("feature_deviation", "read_out_accuracy", "read_out_penalty", "logit_scale", "decay", "parameter_norm"),
    *(f"{split}_{score}" for split in ("train", "test") for score in ("loss", "accuracy")),
    *(
        f"{prefix}weight_phase{name}"
        for prefix in ("fourier_", "")
        for name in (
            *("", "_confidence", "_power", "_kurtosis", "_kurtosis_low", "_kurtosis_high", "_negentropy", "_evidence"),
            *("_droplet_fraction", "_p_gap", "_p_rise", "_n_units", "_few_units", "_undefined"),
        )
    ),
)
_EVEN = 30  # observations at equal distances


PARTS = {  # of the command: the start of the names of its runs, and the number of seeds
    "grokking": (("grokking", "no-decay", "shuffled"), 6),
    "sweeps": (("sweep-",), 3),
    "boundary": (("boundary-",), 3),
    "collapse": (("collapse-",), 3),
}


def grokking_probes(modulus: int = ModularConfig.modulus) -> ProbeSet:
    """Return the probes of runs, controls and sweeps, with one-hot inputs of this length.

    The phase of the weights has two directions: Fourier powers of the first layer, as in the theory, with names that
    begin with ``fourier_``; and the two leading eigenvectors of the average gradient outer product.
    """
    return ProbeSet(
        [
            PerformanceProbe(score=squared_errors),
            ("fourier", WeightPhaseProbe(layers="0", directions="fourier", period=modulus)),
            WeightPhaseProbe(layers="0", n_directions=2),
            FeatureLearningProbe(layers="1"),
            MutualInfoProbe(layers="1"),
        ]
    )


def boundary_probes() -> ProbeSet:
    """Return the probes of the runs of a boundary: squared error and accuracy."""
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
        """Return the observed steps: log-spaced and even ones; the budgets of a boundary; the ends of all pieces."""
        if self.pieces:
            return [0, *self.ends()]
        last = self.training.steps
        if self.name.startswith("boundary-"):
            return sorted({0, *BUDGETS, *filter(log_spaced(per_decade=6), range(last + 1))})
        log = filter(log_spaced(per_decade=24), range(last + 1))
        even = (round(k * last / _EVEN) for k in range(_EVEN + 1))
        return sorted({*log, *even})


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
    for (kind, decays), steps in product(SWEPT.items(), STEPS_PER_VALUE):
        pieces = tuple((decay, steps) for decay in (*decays, *decays[::-1]))
        found.append(GrokkingRun(name=f"{kind}-{steps}", pieces=((decays[0], _SETTLE), *pieces)))
    return {run.name: run for run in found}


@torch_threads(1)
@flushed()
def record_grokking_seed(
    run: GrokkingRun, seed: int, path: Path, probes: Callable[[], ProbeSet] | None = None
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
        return read_finished(path, identity)
    attached, data = None, run.training.data(seed)
    chosen = probes or (
        boundary_probes if run.name.startswith("boundary-") else partial(grokking_probes, run.training.modulus)
    )
    for step, network in train_modular(run.training, seed, run.observed(), run.decay):
        if attached is None:
            attached = chosen().attach(network, data, on_error="raise")
        norm = sum(float(p.detach().square().sum()) for p in network.parameters()) ** 0.5
        attached.observe(step, decay=run.decay(max(step - 1, 0)), parameter_norm=norm)
    assert attached is not None  # step 0 is always observed
    return write_finished(compact(attached.detach().series_), path, identity)


def compact(series: xr.Dataset) -> xr.Dataset:
    """Return the variables that the analysis reads, in float32."""
    found = series[[name for name in _KEPT if name in series]]
    return found.assign({name: v.astype("f4") for name, v in found.items() if v.dtype == "f8"})


def record_grokking(
    folder: Path,
    *,
    names: Iterable[str] | None = None,
    seeds: Sequence[int] = SEEDS,
    probes: Callable[[], ProbeSet] | None = None,
    n_jobs: int | None = None,
) -> dict[str, xr.Dataset]:
    """Record runs to ``folder/NAME/seed-N.nc``, and return them by name. Finished seeds are only read.

    ``names`` are among those of `grokking_runs`, and None means all. ``probes`` returns the probe set. It must be a
    function of a module, so that worker processes can import it. None means `boundary_probes` for the runs of a
    boundary, else `grokking_probes`. ``n_jobs`` seeds are trained in parallel; None takes the setting of
    `joblib.parallel_config`, else one for each core. The series of all seeds have a dimension ``run`` and its
    coordinate ``seed``.
    """
    runs = grokking_runs()
    chosen = list(runs if names is None else names)
    if unknown := [name for name in chosen if name not in runs]:
        raise ValueError(f"Expected names among {', '.join(runs)}, got {', '.join(unknown)}; choose some.")
    tasks = [(runs[name], seed, folder / name / f"seed-{seed}.nc", probes) for name in chosen for seed in seeds]
    series = list(in_parallel(record_grokking_seed, tasks, min(count_workers(n_jobs), max(len(tasks), 1))))
    blocks = (series[i * len(seeds) : (i + 1) * len(seeds)] for i in range(len(chosen)))
    coords = {"seed": ("run", np.array(seeds, np.int32))}
    return {name: concat(block, list(seeds)).assign_coords(coords) for name, block in zip(chosen, blocks, strict=True)}


def record_part(part: str, folder: Path, *, n_jobs: int | None = None) -> dict[str, xr.Dataset]:
    """Record the runs of a part of `PARTS`, and return them by the name of their file.

    The runs of the boundary are one Dataset, with a dimension ``weight_decay``.
    """
    starts, n_seeds = PARTS[part]
    names = [name for name in grokking_runs() if name.startswith(starts)]
    recorded = record_grokking(folder, names=names, seeds=range(n_seeds), n_jobs=n_jobs)
    if part != "boundary":
        return recorded
    decays = [grokking_runs()[name].training.weight_decay for name in names]
    joined = xr.concat(list(recorded.values()), xr.Variable("weight_decay", decays), combine_attrs="drop_conflicts")
    return {part: joined.assign_attrs(provenance=recorded[names[0]].attrs["provenance"])}
