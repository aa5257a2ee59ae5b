"""What a tangent kernel costs: ``python docs/benchmarks/tangent_kernel_speed.py`` prints a Markdown table.

The unit is one forward and backward pass of the same inputs. The rival is the contraction of the Jacobian by
torch.func, as in the tutorial of PyTorch (vmap of jacrev, then products by layer), which makes the whole kernel. All
routes run in turn in one process and one thread: the least CPU time over rounds. Memory is the growth of the resident
peak (Linux) of a route in a process of its own. Operations are those of matrix products and convolutions, in passes.
They do not depend on the load of the machine. Relative differences are those from the whole kernel. Results and
versions are written to tangent_kernel_speed.json.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.utils.flop_counter import FlopCounterMode

from probe.geometry import kernel_numbers
from probe.measures import tangent_kernel, tangent_products

RESULTS = Path(__file__).with_suffix(".json")
PROBES, MOST_PASSES, LEAST_RATIO = 16, 30, 100
SHORT = 0.002  # seconds of a pass below which calls of functions, not arithmetic, are measured
LONG = 2.0  # seconds from which a route runs once
WHOLE = "torch.func"


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(46, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 23))


def convolutional() -> nn.Module:
    """The network of the tutorial: 235,722 parameters."""
    convolutions = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3)]
    return nn.Sequential(*convolutions, nn.Flatten(), nn.Linear(21_632, 10))


class Transformer(nn.Module):
    """Two blocks of width 128 on three tokens of 97."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(99, 128)
        self.blocks = nn.Sequential(*(nn.TransformerEncoderLayer(128, 4, 512, batch_first=True) for _ in range(2)))
        self.head = nn.Linear(128, 97)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embedding(x))[:, -1])


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {  # model, shape of inputs, tokens or 0
    "perceptron 46-128-128-23, n = 200": (perceptron, (200, 46), 0),
    "perceptron 46-128-128-23, n = 48": (perceptron, (48, 46), 0),
    "perceptron 46-128-128-23, n = 8": (perceptron, (8, 46), 0),
    "convolutional, 10 outputs, n = 20": (convolutional, (20, 3, 32, 32), 0),
    "convolutional, 10 outputs, n = 8": (convolutional, (8, 3, 32, 32), 0),
    "transformer, 97 outputs, n = 8": (Transformer, (8, 3), 99),
}


def case(name: str) -> tuple[nn.Module, Tensor]:
    make, shape, tokens = CASES[name]
    torch.manual_seed(0)
    return make().eval(), torch.randint(tokens, shape) if tokens else torch.randn(shape)


def one_pass(model: nn.Module, x: Tensor) -> None:
    f = model(x)
    torch.autograd.grad(f, list(model.parameters()), torch.ones_like(f))


def by_torch(model: nn.Module, x: Tensor) -> Tensor:
    parameters = {name: value.detach() for name, value in model.named_parameters()}

    def f(values: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(model, values, (row[None],))[0]

    jacobians = vmap(jacrev(f), (None, 0))(parameters, x).values()
    with torch.no_grad():
        parts = [part.flatten(0, 1).flatten(1) for part in jacobians]
        return sum((part @ part.T for part in parts[1:]), parts[0] @ parts[0].T)


def signs(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        rows = model(x[:1]).numel() * len(x)
    return torch.randint(2, (rows, PROBES), generator=torch.Generator().manual_seed(0)) * 2.0 - 1


ROUTES: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "16 probes": lambda model, x: tangent_products(model, x, signs(model, x)),
    "layerwise": lambda model, x: tangent_kernel(model, x, method="layerwise"),
    "exact": lambda model, x: tangent_kernel(model, x, method="exact"),
    WHOLE: by_torch,
}


def routes_of(name: str) -> list[str]:
    """The routes of a case: a transformer has other parameters than those of linear layers."""
    return [route for route in ROUTES if route != "layerwise" or not name.startswith("transformer")]


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def operations(function: Callable[[], object]) -> int:
    with FlopCounterMode(display=False) as counter:
        function()
    return int(counter.get_total_flops())


def times(name: str, rounds: int) -> dict[str, float]:
    """CPU seconds of each route and of one pass, the least over rounds; one run of a route that takes long."""
    model, x = case(name)
    found: dict[str, list[float]] = {}
    for k in range(rounds + 1):  # the first one warms up
        for route in ("pass", *routes_of(name)):
            if route == "pass":
                taken = min(seconds(partial(one_pass, model, x)) for _ in range(9))
            elif found.get(route, [0.0])[0] < LONG:
                taken = seconds(partial(ROUTES[route], model, x))
                if taken < LONG / 4:  # like the pass, after other passes of its own
                    taken = min(seconds(partial(ROUTES[route], model, x)) for _ in range(3))
            else:
                continue
            if k or taken > LONG:
                found.setdefault(route, []).append(taken)
    return {route: min(values) for route, values in found.items()}


def peak(name: str, route: str) -> float:
    """Growth of the resident peak in MiB, in a new process."""
    command = [sys.executable, "-W", "ignore", __file__, "--peak", name, route]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def grown(name: str, route: str) -> float:
    model, x = case(name)
    small = x[:2]
    one_pass(model, x)
    ROUTES[route](model, small)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    ROUTES[route](model, x)
    return resident("VmHWM") - before


def resident(name: str) -> float:
    """Resident memory or its peak in MiB."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 1024


def measured(name: str, rounds: int) -> dict[str, object]:
    model, x = case(name)
    whole, z = by_torch(model, x), signs(model, x)
    norm = kernel_numbers(tangent_products(model, x, z), z)
    taken = times(name, rounds)
    unit = taken.pop("pass")
    differences = {
        route: ((ROUTES[route](model, x) - whole).norm() / whole.norm()).item()
        for route in routes_of(name)[1:-1]
        if taken[route] < LONG
    }
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "rows": len(whole),
        "pass_seconds": unit,
        "passes": {route: value / unit for route, value in taken.items()},
        "operations": operations(partial(ROUTES["16 probes"], model, x)) / operations(partial(one_pass, model, x)),
        "ratio": taken[WHOLE] / taken["16 probes"],
        "norm": norm.norm / whole.norm().item() - 1,
        "norm_se": norm.norm_se / norm.norm,
        "differences": differences,
        "peak_mib": {route: peak(name, route) for route in routes_of(name)},
    }


def show(name: str, found: dict[str, object]) -> str:
    passes, memory = found["passes"], found["peak_mib"]
    cells = [f"{passes[route]:,.0f} ({memory[route]:,.0f})" if route in passes else "" for route in ROUTES]
    first = [name, f"{found['parameters']:,}", f"{found['rows']:,}", f"{1e3 * found['pass_seconds']:.2f}"]
    first.append(f"{found['operations']:.1f}")
    last = [f"{found['ratio']:,.1f}", f"{100 * found['norm']:+.1f} ({100 * found['norm_se']:.1f})"]
    return f"| {' | '.join([*first, *cells, *last])} |"


def check(results: dict[str, dict[str, object]]) -> list[str]:
    """What is outside the bars."""
    faults = []
    for name, found in results.items():
        if found["operations"] > MOST_PASSES:
            faults.append(f"{name}: operations of {found['operations']:.1f} passes")
        if found["pass_seconds"] > SHORT and found["passes"]["16 probes"] > MOST_PASSES:
            faults.append(f"{name}: {found['passes']['16 probes']:.1f} passes")
        if max(found["differences"].values(), default=0) > 1e-4:
            faults.append(f"{name}: the whole kernel differs")
    first = next(iter(results))
    if results[first]["ratio"] < LEAST_RATIO:
        faults.append(f"{first}: {results[first]['ratio']:.0f} times cheaper")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", nargs=2, help="for the processes that this program starts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        print(grown(*arguments.peak))
        return
    print(
        "| model | parameters | rows of K | pass, ms | 16 probes: operations | 16 probes: passes (MiB) | layer-wise |",
        end="",
    )
    print(" exact | torch.func | torch.func / probes | norm by probes, % off (standard error) |")
    print("|---" * 11 + "|")
    results = {}
    for name in CASES:
        results[name] = measured(name, arguments.rounds)
        print(show(name, results[name]), flush=True)
    facts = {"torch": torch.__version__, "python": platform.python_version(), "cpus": os.cpu_count()}
    RESULTS.write_text(json.dumps({"versions": facts, "results": results}, indent=1) + "\n")
    faults = check(results)
    print("\n".join(faults) or "all bars are held")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
