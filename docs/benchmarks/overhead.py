"""What probes cost while a model trains, beside two other tools: prints the tables of docs/performance.md.

    python docs/benchmarks/overhead.py                      # both models, one thread
    python docs/benchmarks/overhead.py --device cuda        # wall time, the device's queue emptied around each step

Each way to look at the training has a copy of the model of its own, and all of them train in turn, step by step, so
that a drift of the machine's speed hits all of them. A ratio is the time of ten steps over that of ten steps without
probes, made between them; medians and quartiles over turns. CPU time of the process on a CPU. The rivals (``pip install
monitorch ndtracker``) are no dependencies: one that is missing is named and left out.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from probe import (
    ActivationsProbe,
    LMNProbe,
    LocalComplexityProbe,
    MutualInfoProbe,
    ProbeSet,
    WeightsProbe,
    every,
    log_spaced,
)
from probe.attach import Budget, outside_core
from probe.schedule import Schedule, count

TURN = 10  # steps
RUN = 10_000  # steps over which the default set is reckoned


# -- models ----------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """Attention and a two-layer network, d = 128, four heads."""

    def __init__(self, d: int = 128) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.LayerNorm(d), nn.LayerNorm(d)])
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.act, self.down = nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (4, -1)).transpose(1, 2) for part in self.qkv(self.norms[0](x)).chunk(3, -1))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(self.act(self.up(self.norms[1](x))))


class Transformer(nn.Module):
    """Two blocks over four tokens, read at the last: nine linear layers, 421,473 parameters."""

    def __init__(self, tokens: int = 99, classes: int = 97, d: int = 128) -> None:
        super().__init__()
        self.embedding, self.positions = nn.Embedding(tokens, d), nn.Parameter(0.02 * torch.randn(4, d))
        self.blocks = nn.Sequential(Block(d), Block(d))
        self.head = nn.Linear(d, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(x) + self.positions)[:, -1])


class Residual(nn.Module):
    """Two 3x3 convolutions with batch norm, and what goes past them (He et al. 2016, arXiv:1512.03385)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.first, self.norm1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False), nn.BatchNorm2d(outside)
        self.second, self.norm2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False), nn.BatchNorm2d(outside)
        self.act1, self.act2 = nn.ReLU(), nn.ReLU()
        same = inside == outside and stride == 1
        self.past = nn.Identity() if same else nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.act2(self.norm2(self.second(self.act1(self.norm1(self.first(x))))) + self.past(x))


class ResNet18(nn.Module):
    """As it is used for images of 32 x 32: a 3x3 stem, eight blocks, 11 million parameters."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
        widths = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1)]
        widths += [(128, 256, 2), (256, 256, 1), (256, 512, 2), (512, 512, 1)]
        self.blocks = nn.Sequential(*(Residual(*width) for width in widths))
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


@dataclass(frozen=True)
class Case:
    """A model, the rows of a training batch and of the fixed ones, and a way to draw inputs and targets."""

    name: str
    model: Callable[[], nn.Module]
    batch: int
    usual: int  # rows of a batch as such a model is trained, for which the default set is reckoned
    few: int  # fixed rows that are looked at at every step
    more: int  # those for spectra
    inputs: Callable[[int], Tensor]
    classes: int

    def draw(self, n: int, device: str) -> tuple[Tensor, Tensor]:
        return self.inputs(n).to(device), torch.randint(self.classes, (n,), device=device)


CASES = {
    "transformer": Case("transformer", Transformer, 256, 256, 16, 128, lambda n: torch.randint(99, (n, 4)), 97),
    # batches of 128 in He et al. 2016, section 4.2; comparing with them would take a day
    "resnet": Case("ResNet-18", ResNet18, 16, 128, 2, 16, lambda n: torch.randn(n, 3, 32, 32), 10),
}

# -- ways to look ----------------------------------------------------------------------------------------------------

Looking = Callable[[nn.Module, torch.optim.Optimizer, Case, str], Iterator[None]]


def never(step: int) -> bool:
    """No observation at all: what is left is the hook on the optimiser."""
    return False


def bare(model: nn.Module, optimizer: torch.optim.Optimizer, case: Case, device: str) -> Iterator[float]:
    """Nothing looks."""
    while True:
        yield  # type: ignore[misc]


def default_set() -> ProbeSet:
    return ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])


def ours(make: Callable[[], ProbeSet], schedule: Schedule, rows: int, *, recorded: bool = False) -> Looking:
    def look(model: nn.Module, optimizer: torch.optim.Optimizer, case: Case, device: str) -> Iterator[None]:
        with tempfile.TemporaryDirectory() as folder:
            data, path = {"train": case.draw(rows, device)}, Path(folder) / "run.nc" if recorded else None
            probes = make().attach(model, data, optimizer=optimizer, schedule=schedule, path=path, on_error="raise")
            try:
                while True:
                    yield
            finally:
                probes.detach()

    return look


def monitorch(active: Callable[[int], bool], lenses: Sequence[str]) -> Looking:
    from monitorch import lens
    from monitorch.inspector import PyTorchInspector
    from monitorch.visualizer import RecorderVisualizer

    layers = (nn.Linear, nn.Conv2d)

    def look(model: nn.Module, optimizer: torch.optim.Optimizer, case: Case, device: str) -> Iterator[None]:
        made = [getattr(lens, name)(**({"include": layers} if name.startswith("Output") else {})) for name in lenses]
        with RecorderVisualizer(os.devnull) as recorder:
            inspector = PyTorchInspector(made, module=model, visualizer=recorder, is_active_fn=active)
            try:
                while True:
                    yield
                    inspector.tick_epoch()
            finally:
                inspector.detach()

    return look


def ndt(n: int) -> Looking:
    from ndt.core.tracker import HighFrequencyTracker

    def look(model: nn.Module, optimizer: torch.optim.Optimizer, case: Case, device: str) -> Iterator[None]:
        tracker = HighFrequencyTracker(model, sampling_frequency=n)
        step = 0
        try:
            while True:
                yield
                step += 1
                tracker.log(step, 0.0)
        finally:
            tracker.close()

    return look


CHEAP = "every step, cheap statistics"
SPECTRAL = "every 10 steps, spectra"


def ways(case: Case) -> dict[tuple[str, str], Looking]:
    """By regime and tool, those that are installed."""
    found: dict[tuple[str, str], Looking] = {
        ("idle", "probe: default set"): ours(default_set, never, 256),
        (CHEAP, f"probe: loss, accuracy, norms, sparsity, dormant units, signs; {case.few} fixed rows"): ours(
            lambda: ProbeSet([ActivationsProbe(ranks=False)]), every(1), case.few
        ),
        (CHEAP, "probe: the same, recorded to a file"): ours(
            lambda: ProbeSet([ActivationsProbe(ranks=False)]), every(1), case.few, recorded=True
        ),
        (CHEAP, "probe: the same and ranks"): ours(lambda: ProbeSet([ActivationsProbe()]), every(1), case.few),
        (SPECTRAL, f"probe: ranks of activations; {case.more} fixed rows"): ours(
            lambda: ProbeSet([ActivationsProbe()]), every(TURN), case.more
        ),
        (SPECTRAL, "probe: ranks of all weight matrices"): ours(lambda: ProbeSet([WeightsProbe()]), every(TURN), 2),
    }
    rivals: dict[str, Callable[[], dict[tuple[str, str], Looking]]] = {
        "monitorch": lambda: {
            ("idle", "monitorch: norms, activations"): monitorch(never, ["OutputNorm", "OutputActivation"]),
            (CHEAP, "monitorch: norms, activations, of the batch"): monitorch(
                lambda _: True, ["OutputNorm", "OutputActivation"]
            ),
            (CHEAP, "monitorch: norms, gradients, parameters"): monitorch(
                lambda _: True, ["OutputNorm", "ParameterGradientGeometry", "ParameterNorm"]
            ),
        },
        "ndtracker": lambda: {
            ("idle", "ndt"): ndt(10**9),
            (CHEAP, "ndt: ranks, it has nothing cheaper, of the batch"): ndt(1),
            (SPECTRAL, "ndt: ranks of activations of the batch"): ndt(TURN),
        },
    }
    for name, make in rivals.items():
        try:
            found |= make()
            print(f"{name} {version(name)}", end="; ")
        except (ImportError, PackageNotFoundError) as error:
            print(f"{name} is left out ({error}); pip install {name}", end="; ")
    return found


# -- measuring -------------------------------------------------------------------------------------------------------


def clock(device: str) -> float:
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


class Training:
    """A copy of the model that trains while somebody looks, or nobody."""

    def __init__(self, case: Case, look: Looking, device: str, rows: int | None = None) -> None:
        torch.manual_seed(0)
        self.model = case.model().to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3)
        self.batches = [case.draw(rows or case.batch, device) for _ in range(4)]
        self.looking = look(self.model, self.optimizer, case, device)
        next(self.looking)
        self.device = device
        self.steps = 0

    def step(self) -> float:
        """Seconds for one more."""
        start = clock(self.device)
        x, y = self.batches[self.steps % len(self.batches)]
        self.optimizer.zero_grad()
        F.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        next(self.looking)
        self.steps += 1
        return clock(self.device) - start


def quartiles(values: Sequence[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


def compare(case: Case, turns: int, device: str) -> float:
    """Print the ratios; seconds of one bare step."""
    trainings = {("", "no probes"): Training(case, bare, device)}  # type: ignore[arg-type]
    trainings |= {name: Training(case, look, device) for name, look in ways(case).items()}
    times: dict[tuple[str, str], list[float]] = {name: [] for name in trainings}
    names = list(trainings)
    for i in range((turns + 1) * TURN):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            times[name].append(trainings[name].step())
    for name, found in times.items():  # the first turn warms up
        times[name] = [sum(found[i : i + TURN]) for i in range(TURN, len(found), TURN)]
    for training in trainings.values():
        training.looking.close()  # type: ignore[attr-defined]
    base = times["", "no probes"]
    step = statistics.median(base) / TURN
    print(f"{case.name}, batches of {case.batch}, {1000 * step:.1f} ms a step, {turns} turns of {TURN} steps\n")
    print("| regime | set of probes | time relative to no probes: median (quartiles) |\n|---|---|---|")
    for (regime, tool), found in times.items():
        if regime:
            print(f"| {regime} | {tool} | {quartiles([a / b for a, b in zip(found, base, strict=True)])} |")
    return step


def usual_step(case: Case, device: str, steps: int = 3) -> float:
    """Seconds of a step without probes, on a batch as such a model is trained; median after a first one."""
    training = Training(case, bare, device, case.usual)  # type: ignore[arg-type]
    return statistics.median([training.step() for _ in range(1 + steps)][1:])


def hook_seconds(case: Case, device: str, calls: int = 20_000) -> float:
    """What a step of the optimiser takes longer where the default schedule is asked and says no."""
    model = case.model().to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    probes = ProbeSet().attach(model, case.draw(2, device), optimizer=optimizer, schedule=log_spaced(), step=10**6 + 1)
    hooks = list(optimizer._optimizer_step_post_hooks.values())
    start = clock(device)
    for _ in range(calls):
        for hook in hooks:
            hook(optimizer, (), {})
    spent = (clock(device) - start) / calls
    probes.detach()
    return spent


def observation_seconds(case: Case, device: str, rows: int, repeats: int) -> tuple[float, dict[str, float]]:
    """One observation by the default set on two splits, and the shares of its probes in it; medians."""
    data = {"train": case.draw(rows, device), "test": case.draw(rows, device)}
    probes = default_set().attach(case.model().to(device), data, on_error="raise").observe(0)
    times = []
    for step in range(1, repeats + 1):
        start = clock(device)
        probes.observe(step)
        times.append(clock(device) - start)
    seconds = probes.series_["seconds"].isel(step=slice(1, None))
    shares = (seconds / seconds.sum("probe")).median("step")
    return statistics.median(times), {str(name): float(shares.sel(probe=name)) for name in shares["probe"].values}


def under_budget(cost: float, step: float, share: float, total_steps: int | None) -> tuple[int, int]:
    """Observations that are taken, and left out, over the run: by the account itself."""
    now = 0.0
    schedule, taken, left_out = log_spaced(), 0, 0

    def passed() -> float:
        return now

    with mock.patch("probe.attach.budget.time.perf_counter", passed):
        budget = Budget(share, total_steps, schedule=schedule)
        for i in range(RUN + 1):
            now += step if i else 0.0
            if not schedule(i):
                continue
            if not budget.grants(i):
                left_out += 1
                continue
            with budget.observation(i):
                now += cost
            taken += 1
    return taken, left_out


def reckon(cost: float, step: float) -> None:
    """Print what the default set takes of a long training."""
    outside = outside_core(log_spaced(), 0, RUN)
    core = count(log_spaced(), 0, RUN + 1) - outside
    print(f"\n| default set over {RUN:,} steps | observations | share of the training's time |\n|---|---|---|")
    print(f"| core: 8 per factor of ten | {core} | {core * cost / (RUN * step):.4f} |")
    print(f"| the others of the default schedule | {outside} | {outside * cost / (RUN * step):.4f} |")
    for total in (None, RUN):
        taken, left_out = under_budget(cost, step, 0.03, total)
        told = "budget=0.03" + (f", total_steps={total:,}" if total else "")
        print(f"| all with {told} | {taken}, {left_out} left out | {taken * cost / (RUN * step):.4f} |")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--turns", type=int, default=15, help="of ten steps for each way to look")
    parser.add_argument("--repeats", type=int, default=5, help="observations of the default set")
    parser.add_argument("--rows", type=int, default=512, help="of each split that the default set looks at")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    where = "one thread, CPU time" if args.device == "cpu" else f"{torch.cuda.get_device_name()}, wall time"
    print(f"torch {torch.__version__}, {where}")
    for case in (CASES[name] for name in args.models):
        print(f"\n### {case.name}\n")
        step = compare(case, args.turns, args.device)
        hook = hook_seconds(case, args.device)
        print(f"\nThe hook on the optimiser alone: {1e6 * hook:.1f} µs a step, {hook / step:.5f} of one.")
        cost, shares = observation_seconds(case, args.device, args.rows, args.repeats)
        told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
        if case.usual != case.batch:
            step = usual_step(case, args.device)
        print(
            f"\nOne observation by the default set of 2 x {args.rows} rows: {cost:.2f} s, {cost / step:.1f} steps "
            f"of {case.usual} rows ({step:.3f} s)."
        )
        print(f"Shares: {told}.")
        reckon(cost, step)


if __name__ == "__main__":
    main()
