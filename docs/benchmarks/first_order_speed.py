"""Speed of sampling and solving: ``python docs/benchmarks/first_order_speed.py`` prints Markdown tables.

One thread, CPU time of the process, the least of four turns. The base is a loop over networks: an ordinary module,
autograd, and the same optimiser. The other rows are `TeacherNetworks` in blocks of different size, for 50 networks of
the reduced size. All rows take turns, so that they share the load of the machine.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from reference.theory import SAMPLINGS, CubicTeacher, Langevin, TeacherNetworks, sweep_modular, sweep_teacher

N_NETWORKS, TURNS = 50, 4
TEACHER = SAMPLINGS["sweep"].task


class Network(nn.Module):
    """One student, as one would write it."""

    def __init__(self, w: Tensor, a: Tensor) -> None:
        super().__init__()
        self.w, self.a = nn.Parameter(w.clone()), nn.Parameter(a.clone())

    def forward(self, x: Tensor) -> Tensor:
        """(n, d) -> (n,)."""
        return torch.erf(x @ self.w.T) @ self.a


def loop(teacher: CubicTeacher) -> Callable[[], None]:
    """Return a function that makes a step of each network, one after the other."""
    batch = TeacherNetworks(teacher, list(range(N_NETWORKS)))
    rates = [group["lr"] for group in batch.optimizer.param_groups]
    models = [Network(w, a) for w, a in zip(batch.w, batch.a, strict=True)]
    optimizers = [
        Langevin(
            [{"params": [model.a], "lr": rates[0], "weight_decay": batch.decay_a},
             {"params": [model.w], "lr": rates[1], "weight_decay": batch.decay_w}], lr=1.0, friction=0.3
        )
        for model in models
    ]  # fmt: skip

    def step() -> None:
        for model, optimizer, x, y in zip(models, optimizers, batch.x, batch.y, strict=True):
            optimizer.zero_grad()
            (((model(x) - y) ** 2).sum() / (2 * teacher.noise)).backward()
            optimizer.step()

    return step


def blocks(teacher: CubicTeacher, size: int) -> Callable[[], None]:
    """Return a function that makes a step of all networks in blocks."""
    seeds = list(range(N_NETWORKS))
    batches = [TeacherNetworks(teacher, seeds[i : i + size]) for i in range(0, N_NETWORKS, size)]

    def step() -> None:
        for batch in batches:
            batch.step()

    return step


def seconds(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return CPU seconds of a call of each function: the least of some turns."""
    best = np.full(len(functions), np.inf)
    for _ in range(TURNS):
        for i, function in enumerate(functions):
            start = time.process_time()
            for _ in range(repeats):
                function()
            best[i] = min(best[i], (time.process_time() - start) / repeats)
    return best.tolist()  # type: ignore[no-any-return]


def main() -> None:
    torch.set_num_threads(1)
    assert isinstance(TEACHER, CubicTeacher)
    sizes = (1, 5, 10, 25, 50)
    steps: list[Callable[[], object]] = [loop(TEACHER), *(blocks(TEACHER, size) for size in sizes)]
    names = ["loop over networks, autograd", *(f"blocks of {size}" for size in sizes)]
    for function in steps:
        function()
    taken = seconds(steps, 4)
    print("| networks | CPU microseconds per network and step | throughput over the loop |\n|---|---|---|")
    for name, one in zip(names, taken, strict=True):
        print(f"| {name} | {1e6 * one / N_NETWORKS:.0f} | {taken[0] / one:.2f} |")
    modular = SAMPLINGS["modular"].task
    assert not isinstance(modular, CubicTeacher)
    noises = np.linspace(0.05, 0.3, 50)
    print("\n| sweep over 50 noises | CPU s |\n|---|---|")
    solvers: dict[str, Callable[[], object]] = {
        "cubic teacher, d = 150": lambda: sweep_teacher(CubicTeacher(noise=0.1), noises),
        "cubic teacher, d = 4,743": lambda: sweep_teacher(CubicTeacher(noise=0.1).scaled(1000), noises),
        "modular addition, P = 5": lambda: sweep_modular(modular, 0.02 * noises),
    }
    for name, one in zip(solvers, seconds(list(solvers.values()), 1), strict=True):
        print(f"| {name} | {one:.2f} |")


if __name__ == "__main__":
    main()
