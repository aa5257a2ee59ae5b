"""Chaos and cone: twins, tangent kernels and linearised trainings of four configurations (arXiv:2505.13900).

Each seed is trained once, with probes. From up to eight steps t0 on, a twin with slightly perturbed parameters is
trained on the same batches, and compared with the training at steps t1. From some of the t0 on, the linearised model is
trained too. `CHAOS_CONE` holds the four configurations.

The perturbation is 1e-4 of the norm of the parameters. The size 1e-7 of the paper would be a rounding of float32; with
1e-4 the parameters hold the perturbation to 1e-3 of its length, and it is still far below the distances of trained
twins (.1 to .4). `ChaosProbe` measures at each t0 how the growth depends on the size.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from torch import nn
from tqdm import tqdm

import probe
from probe import ChaosProbe, Probe, ProbeSet, TangentKernelProbe, log_spaced
from probe.forward import TrainingContext
from probe.recording import atomic_write, journal_of
from probe.stats import kernel_distances
from reference.experiments.chaos_twins import (
    State,
    compare,
    copied,
    linearised_accuracy,
    signal_to_noise,
    train_twin,
)
from reference.runs.job import torch_threads
from reference.runs.storage import describe_differences
from reference.training import ModelConfig, TaskConfig, TrainConfig
from reference.training.convolutional import ConvolutionalConfig
from reference.training.recipes import Batch, Data, Recipe, TransformerRecipe

BARRIERS = ("line", "ends")
SIGNAL_TO_NOISE = (
    "squared norm of the mean gradient, minus the variance of this mean, over the trace of the covariance of the "
    "gradient of a batch; from disjoint batches of 64 training inputs, not augmented, in training mode, without weight "
    "decay and clipping"
)
_EVEN = 12  # observations at equal distances, besides the log-spaced ones
_DESCRIPTIONS = {
    "map_angle": "one minus the cosine of the parameters of training and twin",
    "map_distance": "distance of the parameters of training and twin, over the norm of those of the training",
    "map_disagreement": "share of test inputs with another answer of the twin",
    "map_barrier": "largest rise of the test loss between training and twin (nats), batch norm re-estimated",
    "linearised_accuracy": "test accuracy at the end, with the model linearised at t0",
    "control_difference": "largest difference of parameters and buffers of an unperturbed twin at the end",
}


@dataclass(frozen=True, kw_only=True)
class ChaosConeConfig:
    """Recipe, steps and measurements of an experiment. With a seed, it determines all numbers.

    Attributes
    ----------
    recipe : Recipe
        Model, optimiser, batches and number of updates.
    t0 : tuple of int
        Steps at which twins start, at most 8, with 0.
    t1 : tuple of int
        Steps at which twins are compared with the training.
    linearised : tuple of int
        Those of ``t0`` from which the linearised model is trained.
    control : int
        The one of ``t0`` from which an unperturbed twin is trained to the end.
    window : int
        Updates of a window of `ChaosProbe`.
    size : float
        Length of the perturbation of the twins over the norm of the parameters.
    n_points : int
        Points between training and twin at which the test loss is measured.
    n_rows : int
        Training inputs of a batch for gradients and for the statistics of batch norm.
    n_train, n_test : int
        Training inputs for the statistics of batch norm, and test inputs of the maps.
    """

    recipe: Recipe
    t0: tuple[int, ...]
    t1: tuple[int, ...]
    linearised: tuple[int, ...]
    control: int
    window: int = 10
    size: float = 1e-4
    n_points: int = 5
    n_rows: int = 64
    n_train: int = 256
    n_test: int = 600

    def observed(self) -> list[int]:
        """Return the steps of the observations: 7 in each factor of ten, 12 at equal distances, all t0 and t1."""
        steps = self.recipe.steps
        log = filter(log_spaced(per_decade=7), range(steps + 1))
        return sorted({*log, *(round(k * steps / _EVEN) for k in range(_EVEN + 1)), *self.t0, *self.t1})

    def compared(self, data: dict[str, Data]) -> dict[str, Data]:
        """Return the inputs of the maps: the first ones of both splits, which are in random order."""
        return {
            name: (x[:n], y[:n]) for (name, (x, y)), n in zip(data.items(), (self.n_train, self.n_test), strict=True)
        }


def chaos_name(name: str) -> str:
    """Return the name of the files of a configuration."""
    return f"chaos-cone-{name}"


def chaos_probes(window: int) -> tuple[Probe, Probe]:
    """Return the probe of all observed steps, and the one of the steps t0."""
    chaos = ChaosProbe(window=window, directions=("gaussian", "gradient"), quadratic=True)
    return TangentKernelProbe(splits=["train"]), chaos


# -- one seed ------------------------------------------------------------------------------------------------------


@torch_threads(1)
def record_chaos_seed(
    config: ChaosConeConfig, seed: int, folder: Path, *, on_part: Callable[[], object] = lambda: None
) -> xr.Dataset:
    """Record one seed to a folder, and return its numbers. The same call resumes; a finished seed is only read.

    The folder gets ``kernel.nc`` and ``chaos.nc``, the series of both probes, and one file for each t0. After a kill
    the seed is trained again, and finished parts are not measured again. So a kill loses the training, a few seconds,
    and at most one observation or one t0.

    Parameters
    ----------
    config
        The configuration.
    seed
        The seed of split, initial parameters, batches and perturbations.
    folder
        The folder of the seed.
    on_part : callable
        Called after each observation and each t0.

    Raises
    ------
    ValueError
        If the folder holds another configuration or seed.
    """
    _check_folder(folder, config, seed)
    recipe, parts = config.recipe, {t0: folder / f"t0-{t0:06}.nc" for t0 in config.t0}
    series = [_Recording(folder / "kernel.nc", config.observed()), _Recording(folder / "chaos.nc", list(config.t0))]
    if all(one.finished for one in series) and all(path.exists() for path in parts.values()):
        for _ in range(n_parts(config)):
            on_part()
        return _joined(config, series, parts)
    kept: dict[int, State] = {}
    for step, state in _observed_training(config, seed, series):
        if step in config.t0 or step in config.t1:
            kept[step] = copied(state)
        on_part()
    for t0, path in parts.items():
        if not path.exists():
            probe.save(_twins(config, seed, t0, kept, recipe.data(seed)), path)
        on_part()
    return _joined(config, series, parts)


def n_parts(config: ChaosConeConfig) -> int:
    """Return the number of calls of ``on_part`` for a seed."""
    return len(config.observed()) + len(config.t0)


class _Recording:
    """The series of a probe at some steps, which is resumed."""

    def __init__(self, path: Path, steps: list[int]) -> None:
        self.path, self.steps = path, steps
        self.recorded: list[int] = []
        if path.exists() or journal_of(path).exists():
            self.recorded = [int(step) for step in probe.load(path)["step"].values]
        self.attached: ProbeSet | None = None

    @property
    def finished(self) -> bool:
        return self.recorded[-1:] == self.steps[-1:]

    def observe(self, step: int, attach: Callable[..., ProbeSet], **extra: Any) -> None:
        """Observe a step, unless it is not one of the steps, or recorded before."""
        if step not in self.steps or step in self.recorded:
            return
        if self.attached is None:
            self.attached = attach(path=self.path, mode="resume" if self.recorded else None)
        self.attached.observe(step, **extra)
        if step == self.steps[-1]:
            self.attached.detach()


def _observed_training(config: ChaosConeConfig, seed: int, series: list[_Recording]) -> Iterator[tuple[int, State]]:
    """Train, observe, and yield step and state at each observed step."""
    recipe = config.recipe
    data, batches, model = recipe.data(seed), recipe.batches(seed), recipe.model(seed).train()
    state, fixed = State(model, recipe.optimizer(model)), _fixed_batches(config, data["train"])
    training = TrainingContext(state.optimizer, recipe.update, batches)
    at, started = 0, time.process_time()
    for step in config.observed():
        for k in range(at, step):
            recipe.update(*state, *batches(k, 1))
        at = step
        numbers = {
            "gradient_signal_to_noise": partial(signal_to_noise, model, fixed),
            "learning_rate": partial(recipe.rate, min(step, recipe.steps - 1)),
            "cpu_seconds": partial(_since, started),
        }
        for one, single in zip(series, chaos_probes(config.window), strict=True):
            attach = partial(ProbeSet([single]).attach, model, data, training=training, on_error="raise")
            one.observe(step, attach, **(numbers if one is series[0] else {}))
        yield step, state


def _since(started: float) -> float:
    return time.process_time() - started


def _fixed_batches(config: ChaosConeConfig, data: Data) -> list[Batch]:
    n, (x, y) = config.n_rows, data
    return [(x[i : i + n], y[i : i + n], 0.0) for i in range(0, len(y) - n + 1, n)]


def _twins(config: ChaosConeConfig, seed: int, t0: int, kept: dict[int, State], data: dict[str, Data]) -> xr.Dataset:
    """Return the row of the maps for a t0, over the steps t1; NaN before t0."""
    started, recipe, compared = time.process_time(), config.recipe, config.compared(data)
    steps = [step for step in config.t1 if step >= t0]
    twins = train_twin(recipe, seed, kept[t0], t0, steps, size=config.size, noise=_noise(seed, t0))
    found = [
        compare(kept[step].model, twin, compared, n_points=config.n_points, rows=config.n_rows) for step, twin in twins
    ]
    before = [np.nan] * (len(config.t1) - len(steps))
    rows = {name: before + [effect[name] for effect in found] for name in found[0]}
    result: dict[str, Any] = {f"map_{name}": ("step", rows[name]) for name in ("angle", "distance", "disagreement")}
    result["map_barrier"] = (("step", "barrier"), np.stack([rows[name] for name in BARRIERS], -1))
    accuracy = control = np.nan
    if t0 in config.linearised:
        fixed = {**data, "train": compared["train"]}
        accuracy = linearised_accuracy(recipe, seed, kept[t0], t0, fixed, config.n_rows)
    if t0 == config.control:
        control = _control_difference(recipe, seed, t0, kept)
    result["linearised_accuracy"], result["control_difference"] = ((), accuracy), ((), control)
    result["cpu_seconds"] = ((), time.process_time() - started)
    return xr.Dataset(result, {"step": list(config.t1), "barrier": list(BARRIERS)})


def _noise(seed: int, t0: int) -> int:
    return 1_000_003 * seed + t0


def _control_difference(recipe: Recipe, seed: int, t0: int, kept: dict[int, State]) -> float:
    """Return the largest difference of the ends of the training and of an unperturbed twin."""
    ((_, twin),) = train_twin(recipe, seed, kept[t0], t0, [recipe.steps], size=0, noise=0)
    base: nn.Module = kept[recipe.steps].model
    pairs = zip(base.state_dict().values(), twin.state_dict().values(), strict=True)
    return max((a.double() - b.double()).abs().max().item() for a, b in pairs)


def _check_folder(folder: Path, config: ChaosConeConfig, seed: int) -> None:
    path, identity = folder / "configuration.json", {"config": config_dict(config), "seed": seed}
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if difference := describe_differences(found, identity, places=("in the folder", "now")):
            raise ValueError(
                f"Expected the recording of this command in {folder}, got another one: {difference}; give another "
                "folder by --out."
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write_text(json.dumps(identity), encoding="utf-8")


def config_dict(config: ChaosConeConfig) -> dict[str, Any]:
    """Return all fields as values of JSON."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


# -- all seeds -----------------------------------------------------------------------------------------------------


def record_chaos(
    config: ChaosConeConfig, seeds: Iterable[int], folder: Path, *, progress: bool = True, name: str = ""
) -> xr.Dataset:
    """Record the seeds to ``folder/seed-N``, and return all of them. Finished parts are only read.

    Parameters
    ----------
    config
        The configuration of all seeds.
    seeds
        The seeds.
    folder
        The folder of the configuration.
    progress
        Update the progress bar often. False: every 60 s, for an output that is not a terminal.
    name
        Label of the progress bar.

    Returns
    -------
    xarray.Dataset
        Series over (run, step), maps over (run, t0, t1), in float32; the coordinate ``seed``; the configuration, the
        perturbation, the window, the cost in CPU seconds and the provenance as attributes.
    """
    chosen = list(dict.fromkeys(seeds))
    with tqdm(total=len(chosen) * n_parts(config), unit="part", desc=name, mininterval=0.1 if progress else 60) as bar:
        found = [
            record_chaos_seed(config, seed, folder / f"seed-{seed}", on_part=lambda: bar.update(1)) for seed in chosen
        ]
    joined = probe.concat(found, chosen).assign_coords(seed=("run", np.array(chosen, np.int32)))
    cost = joined["cpu_seconds"].mean("run")
    attrs = {
        "configuration": json.dumps(config_dict(config)),
        "perturbation_size": config.size,
        "perturbation_direction": "normal numbers, scaled by the root mean square of each parameter, other ones for "
        "each seed and t0; size: length over the norm of the parameters",
        "window": config.window,
        "cost_cpu_seconds": json.dumps(
            {str(part): round(float(cost.sel(part=part)), 1) for part in cost["part"].values}
        ),
    }
    return joined.drop_vars(["cpu_seconds", "part"]).assign_attrs(attrs)


def _joined(config: ChaosConeConfig, series: list[_Recording], files: dict[int, Path]) -> xr.Dataset:
    """Return the series and the maps of a seed in one dataset."""
    kernel, chaos = (probe.load(one.path) for one in series)
    parts = [probe.load(path) for path in files.values()]
    distances = kernel_distances(kernel).transpose("step", "split", "batch", "step_ref")
    spent = kernel["cpu_seconds"].values
    twins = [float(part["cpu_seconds"]) for part in parts]
    kernel = kernel.drop_vars(["cpu_seconds", "tangent_kernel_sketch", "sketch", "seconds", "failed", "probe"])
    kernel["tangent_kernel_distance"] = distances["distance"]
    kernel["tangent_kernel_distance_se"] = distances["distance_se"]
    kernel["gradient_signal_to_noise"].attrs.update(long_name="gradient signal to noise", definition=SIGNAL_TO_NOISE)
    own = chaos[[name for name in chaos if str(name).startswith(("chaos_", "sharpness"))]]
    own = own.reindex(step=kernel["step"], fill_value={name: -1 for name in own if own[name].dtype == np.int8})
    maps = xr.concat(
        [part.drop_vars("cpu_seconds") for part in parts], "t0", coords="minimal", compat="override"
    ).rename(step="t1").assign_coords(t0=list(config.t0))  # fmt: skip
    maps["control_difference"] = maps["control_difference"].sel(t0=config.control, drop=True)
    merged = xr.merge([kernel, own, maps], compat="override", combine_attrs="override", join="outer")
    for name, text in _DESCRIPTIONS.items():
        merged[name].attrs["long_name"] = text
    merged["control_difference"].attrs["t0"] = config.control
    merged["cpu_seconds"] = ("part", [_total(spent), sum(twins)])
    merged = merged.assign_coords(part=["training, kernels and windows", "twins and linearised trainings"])
    small = {name: array.astype(np.float32) for name, array in merged.items() if array.dtype == np.float64}
    return merged.assign(small)


def _total(spent: np.ndarray) -> float:
    """Return the CPU seconds of a recording. The clock starts again at each resumption."""
    falls = np.flatnonzero(np.diff(spent) < 0)
    return float(spent[-1] + spent[falls].sum())


# -- configurations ------------------------------------------------------------------------------------------------

_SMALL = ModelConfig(d_model=64, d_mlp=128, n_blocks=1, dropout=0.0, token_std=0.02, position_std=0.02, token_scale=1.0)


def _convolutional(network: str, widths: tuple[int, ...]) -> ChaosConeConfig:
    return ChaosConeConfig(
        recipe=ConvolutionalConfig(network=network, widths=widths, steps=720),
        t0=(0, 15, 30, 60, 120, 240, 340, 380),  # the learning rate drops at 360 and 540
        t1=(15, 30, 60, 120, 180, 240, 340, 380, 460, 560, 720),
        linearised=(0, 30, 120, 340),
        control=60,
    )


def _transformer(operation: str) -> ChaosConeConfig:
    training = TrainConfig(
        task=TaskConfig(operation=operation, size=31, fraction=0.6),
        model=_SMALL,
        steps=800,
        lr=3e-3,
        weight_decay=1.0,
        batch_size=256,
        clip_norm=0.25,
    )
    return ChaosConeConfig(
        recipe=TransformerRecipe(training),
        t0=(0, 10, 20, 40, 80, 160, 320, 640),
        t1=(10, 20, 40, 80, 160, 240, 320, 400, 520, 640, 800),
        linearised=(0, 20, 80, 320),
        control=40,
    )


CHAOS_CONE = {
    "vgg": _convolutional("vgg", (8, 16, 32)),
    "resnet": _convolutional("resnet", (8, 8, 16, 16)),
    "division": _transformer("division"),
    "subtraction": _transformer("subtraction"),
}
