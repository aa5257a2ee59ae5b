"""What probes cost on the demo model: ``python docs/benchmarks/overhead.py`` prints the table of docs/performance.md.

One thread, CPU time of the process. The variants train the same model in turn, round by round, so that a drift of the
machine's speed hits all of them; the ratios are medians over rounds of each variant against the bare run of its round.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch

from probe import LMNProbe, LocalComplexityProbe, MutualInfoProbe, PerformanceProbe, ProbeSet, every, log_spaced
from probe.schedule import Schedule
from reference.configs import DEMO
from reference.train import Trainer


def never(step: int) -> bool:
    """No observation at all: what is left is the hook on the optimiser."""
    return False


def default_set() -> ProbeSet:
    return ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])


VARIANTS: dict[str, tuple[Callable[[], ProbeSet] | None, Schedule]] = {
    "no probes": (None, never),
    "attached, idle": (default_set, never),
    "losses and accuracies every 50 steps": (lambda: ProbeSet([PerformanceProbe()]), every(50)),
}


def cpu_seconds(steps: int, make: Callable[[], ProbeSet] | None, schedule: Schedule) -> float:
    """CPU time of the training loop alone, after ten steps to warm up."""
    trainer = Trainer(DEMO)
    data = {"train": trainer.task.train_data, "test": trainer.task.test_data}
    probes = make and make().attach(
        trainer.model, data, optimizer=trainer.optimizer, schedule=schedule, on_error="raise"
    )
    trainer.advance(10)
    start = time.process_time()
    trainer.advance(steps)
    spent = time.process_time() - start
    if probes:
        probes.detach()
    return spent


def hook_seconds(calls: int = 100_000) -> float:
    """CPU time that an optimiser's step takes longer where the default schedule is asked and says no."""
    weight = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(weight.parameters(), lr=0.0)
    times = []
    for attached in (False, True):
        data = (torch.zeros(2, 1), None)
        probes = ProbeSet().attach(weight, data, optimizer=optimizer, schedule=log_spaced()) if attached else None
        hooks = list(optimizer._optimizer_step_post_hooks.values())
        start = time.process_time()
        for _ in range(calls):
            for hook in hooks:
                hook(optimizer, (), {})
        times.append((time.process_time() - start) / calls)
        if probes:
            probes.detach()
    return times[1] - times[0]


def observation_seconds(repeats: int) -> dict[str, float]:
    """CPU time of one observation by the default set and by each of its probes, medians."""
    trainer = Trainer(DEMO)
    data = {"train": trainer.task.train_data, "test": trainer.task.test_data}
    found = {}
    for name, probe in (
        ("MutualInfoProbe", MutualInfoProbe()),
        ("LocalComplexityProbe", LocalComplexityProbe()),
        ("LMNProbe", LMNProbe()),
        ("PerformanceProbe", PerformanceProbe()),
        ("default set", default_set()),
    ):
        probe.attach(trainer.model, data, on_error="raise").observe(0)
        times = []
        for step in range(1, repeats + 1):
            start = time.process_time()
            probe.observe(step)
            times.append(time.process_time() - start)
        found[name] = statistics.median(times)
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="training steps of each run")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each variant")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    rounds = [{name: cpu_seconds(args.steps, *how) for name, how in VARIANTS.items()} for _ in range(args.rounds)]
    bare = statistics.median(one["no probes"] for one in rounds) / args.steps
    print(
        f"torch {torch.__version__}, one thread; {args.rounds} rounds of {args.steps} steps of {1000 * bare:.1f} ms\n"
    )
    print("| while training | CPU time against no probes: median (least to most) |\n|---|---|")
    for name in VARIANTS:
        ratios = sorted(one[name] / one["no probes"] for one in rounds)
        print(f"| {name} | {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) |")
    hook = hook_seconds()
    print(f"\nThe hook itself: {1e6 * hook:.1f} µs a step, {hook / bare:.6f} of one.")
    print("\n| one observation | CPU seconds | training steps |\n|---|---|---|")
    cost = observation_seconds(args.rounds)
    for name, seconds in cost.items():
        print(f"| {name} | {seconds:.3f} | {seconds / bare:.1f} |")
    print("\n| default set on the default schedule, steps | observations | CPU time against no probes |\n|---|---|---|")
    for steps in (1_000, 10_000, 100_000):
        count = sum(map(log_spaced(), range(steps + 1)))
        print(f"| {steps:,} | {count} | {1 + count * cost['default set'] / (steps * bare):.3f} (from the two above) |")


if __name__ == "__main__":
    main()
