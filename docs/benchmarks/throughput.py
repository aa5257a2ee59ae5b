"""Speed of the reference trainer compared with torch.nn: ``python docs/benchmarks/throughput.py`` prints a table.

The task is the paper's division on a CPU. The table compares the trainer (eager, compiled, bfloat16) with a direct
implementation of the same configuration by `torch.nn`. It also lists the matrix products of a step alone, which bound
the speed without fewer operations. Each contestant has its own process. They train in turn, round by round, so that a
drift of the machine affects all. The measured time is CPU time of the process, and ratios are taken within rounds.

With ``--device cuda``, the table shows many seeds at once in wall time.
"""

import argparse
import math
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from reference.training import CONFIGS, Ensemble, Trainer

CONFIG = CONFIGS["paper-division"]


class Steps(Protocol):
    def advance(self, n: int) -> None: ...


class TorchTransformer(nn.Module):
    """The paper's network built from `torch.nn`."""

    def __init__(self, n_tokens: int, n_classes: int) -> None:
        super().__init__()
        c = CONFIG.model
        layer = nn.TransformerEncoderLayer(
            c.d_model, c.n_heads, c.d_mlp, c.dropout, activation="gelu", batch_first=True, norm_first=True
        )
        norm = nn.LayerNorm(c.d_model)
        self.encoder = nn.TransformerEncoder(layer, c.n_blocks, norm=norm, enable_nested_tensor=False)
        self.tokens, self.positions = nn.Embedding(n_tokens, c.d_model), nn.Embedding(4, c.d_model)
        self.dropout, self.head = nn.Dropout(c.dropout), nn.Linear(c.d_model, n_classes)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(4))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.dropout(math.sqrt(128) * self.tokens(tokens) + self.positions.weight)
        return self.head(self.encoder(x, mask=self.mask, is_causal=True)[:, -1])


class Baseline:
    """A simple training loop of `TorchTransformer`."""

    def __init__(self, device: str = "cpu") -> None:
        task = CONFIG.task.make(0)
        self.x, self.y = (t.to(device) for t in task.train_data)
        self.model = TorchTransformer(task.n_tokens, task.n_classes).to(device)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=CONFIG.lr, betas=CONFIG.betas, weight_decay=CONFIG.weight_decay
        )

    def advance(self, n: int) -> None:
        for _ in range(n):
            rows = torch.randint(len(self.x), (CONFIG.batch_size,), device=self.x.device)
            loss = functional.cross_entropy(self.model(self.x[rows]), self.y[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


class Products(TorchDispatchMode):
    """The matrix products of a step, forward and backward, alone: the least time of the linear layers."""

    def __init__(self, engine: Steps) -> None:
        super().__init__()
        self.pairs: list[tuple[Tensor, Tensor]] = []
        with self:
            engine.advance(1)
        self.out = [a @ b for a, b in self.pairs]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten.mm.default, torch.ops.aten.addmm.default):
            self.pairs.append(tuple(t.detach() for t in args[-2:]))  # with their memory layout
        return func(*args, **(kwargs or {}))

    def advance(self, n: int) -> None:
        for _ in range(n):
            for (a, b), out in zip(self.pairs, self.out, strict=True):
                torch.matmul(a, b, out=out)


class Contestant(NamedTuple):
    make: Callable[[], Steps]
    compiled: bool = False


BASELINE = "torch.nn, eager"
BF16 = replace(CONFIG, precision="bfloat16")
CONTESTANTS = {
    BASELINE: Contestant(Baseline),
    "products of torch.nn": Contestant(lambda: Products(Baseline())),
    "Trainer": Contestant(lambda: Trainer(CONFIG)),
    "Trainer, compiled": Contestant(lambda: Trainer(CONFIG, compiled=True), compiled=True),
    "products of Trainer": Contestant(lambda: Products(Trainer(CONFIG))),
    "Trainer, bfloat16": Contestant(lambda: Trainer(BF16)),
    "Trainer, bfloat16, compiled": Contestant(lambda: Trainer(BF16, compiled=True), compiled=True),
}


def work(connection: Connection, name: str, threads: int) -> None:
    """Run in a process: build the engine, then return the CPU seconds for each number of steps that is received."""
    torch.set_num_threads(threads)
    try:
        engine = CONTESTANTS[name].make()
        engine.advance(3)
    except Exception as error:  # for example no compiler; the row shows the error
        return connection.send(f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:100])
    connection.send("")
    while steps := connection.recv():
        start = time.process_time()
        engine.advance(steps)
        connection.send(time.process_time() - start)


def measure(names: Sequence[str], args: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return CPU seconds per step by contestant and round, and the reasons of missing contestants."""
    context = multiprocessing.get_context("spawn")
    pipes, missing = {}, {}
    for name in names:  # one after the other
        pipe, other = context.Pipe()
        context.Process(target=work, args=(other, name, args.threads), daemon=True).start()
        if reason := pipe.recv():
            missing[name] = reason
        else:
            pipes[name] = pipe

    def seconds(name: str, steps: int) -> float:
        pipes[name].send(steps)
        return pipes[name].recv() / steps

    steps = {name: max(3, round(args.seconds / seconds(name, 3))) for name in pipes}
    found: dict[str, list[float]] = {name: [] for name in pipes}
    for i in range(args.rounds):
        for name in list(pipes)[:: 1 if i % 2 else -1]:
            found[name].append(seconds(name, steps[name]))
    for pipe in pipes.values():
        pipe.send(0)
    return found, missing


def flops(engine: Steps) -> int:
    """Count the operations of matrix products and attention in a step, forward and backward."""
    with FlopCounterMode(display=False) as counter:
        engine.advance(1)
    return counter.get_total_flops()


def spread(ratios: Sequence[float]) -> str:
    """Return the median and the range as text."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def cpu_table(args: argparse.Namespace) -> None:
    found, missing = measure([n for n, c in CONTESTANTS.items() if not (c.compiled and args.no_compile)], args)
    counts = {"Trainer": flops(Trainer(CONFIG)), "torch.nn": flops(Baseline())}
    print(
        f"torch {torch.__version__}, {args.threads} thread(s), batch {CONFIG.batch_size}; {args.rounds} rounds of "
        f"about {args.seconds:g} s of each\n\nSpeed: steps per CPU second, median (least to most) over rounds.\n"
    )
    columns = ("", "ms", "its products", "GFLOP", "GFLOP/s", "steps/s", "speed over torch.nn")
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for name, seconds in found.items():
        whose = "Trainer" if "Trainer" in name else "torch.nn"
        step, floor = statistics.median(seconds), statistics.median(found[f"products of {whose}"])
        bound = "" if "products" in name or "bfloat16" in name else f"{1e3 * floor:.1f}"
        speed = (f"{counts[whose] / 1e9:.2f}", f"{counts[whose] / step / 1e9:.0f}", f"{1 / step:.1f}")
        ratio = spread([b / a for a, b in zip(seconds, found[BASELINE], strict=True)])
        print(f"| {' | '.join((name, f'{1e3 * step:.1f}', bound, *speed, ratio))} |")
    for name, reason in missing.items():
        print(f"| {name} | skipped: {reason} |{' |' * (len(columns) - 2)}")


def wall_seconds(engine: Steps, seconds: float) -> float:
    """Return the wall time of a step on the GPU, in s."""
    steps = 8
    while True:
        torch.cuda.synchronize()
        start = time.perf_counter()
        engine.advance(steps)
        torch.cuda.synchronize()
        spent = time.perf_counter() - start
        if spent > seconds:
            return spent / steps
        steps *= 2


def cuda_table(args: argparse.Namespace) -> None:
    """Print the table of the GPU. Contestants run one after the other, since the speed of a GPU is constant."""
    baseline = Baseline("cuda")
    baseline.advance(10)
    base, work_done = wall_seconds(baseline, args.seconds), flops(Trainer(CONFIG, device="cuda"))
    print(f"torch {torch.__version__}, {torch.cuda.get_device_name()}; {work_done / 1e9:.2f} GFLOP a step and seed\n")
    print("| | seeds | ms a step | seed-steps a second | TFLOP/s | library products alone, ms | against torch.nn |")
    print(f"|---|---|---|---|---|---|---|\n| {BASELINE} | 1 | {1e3 * base:.2f} | {1 / base:.0f} | | | 1.0 |")
    for precision in ("float32", "tf32"):
        for n in args.seeds:
            torch.compiler.reset()  # compile each anew
            engine = Ensemble(replace(CONFIG, precision=precision), range(n), device="cuda")
            engine.advance(10)
            step = wall_seconds(engine, args.seconds)
            del engine
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            products = Products(Trainer(CONFIG, device="cuda"))
            products.pairs = [(a.expand(n, *a.shape).clone(), b.expand(n, *b.shape).clone()) for a, b in products.pairs]
            products.out = [a @ b for a, b in products.pairs]
            floor = wall_seconds(products, args.seconds)
            torch.backends.cuda.matmul.allow_tf32 = False
            del products
            print(
                f"| Ensemble, {precision} | {n} | {1e3 * step:.2f} | {n / step:.0f} | "
                f"{n * work_done / step / 1e12:.1f} | {1e3 * floor:.2f} | {n * base / step:.1f} |"
            )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument(
        "--seconds", type=float, default=1.5, help="time of each contestant in a round, in s (default: 1.5)"
    )
    parser.add_argument("--rounds", type=int, default=9, help="number of rounds (default: 9)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default: 1)")
    parser.add_argument(
        "--no-compile", action="store_true", help="skip the compiled contestants, which take a minute each"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 8, 32], help="numbers of seeds on the GPU")
    args = parser.parse_args(argv)
    os.environ["OMP_NUM_THREADS"] = str(args.threads)  # inherited by the processes
    torch.set_num_threads(args.threads)
    cuda_table(args) if args.device == "cuda" else cpu_table(args)


if __name__ == "__main__":
    main()
