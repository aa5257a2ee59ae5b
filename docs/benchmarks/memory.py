"""What memory probes take: ``python docs/benchmarks/memory.py`` prints the tables of docs/performance.md. Linux.

Each line is measured in a fresh process. A long training: the resident memory at three steps. One observation: how far
it raises the peak of resident memory, against what the formula says and what the raw activations would take. Large
models (``--large gpt2-124m vit-b``, with transformers): CPU seconds and memory of the set of the README.
"""

import argparse
import multiprocessing
import re
import resource
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probe import ActivationsProbe, LMNProbe, LocalComplexityProbe, Measured, MutualInfoProbe
from probe import Probe, ProbeSet, Snapshot, Tap, every

MIB = 2**20


def resident() -> float:
    """MiB, now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


def peak() -> float:
    """MiB, the most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# -- many steps ------------------------------------------------------------------------------------------------------


def long_training(stops: Sequence[int]) -> list[tuple[int, int, float]]:
    """Steps, observations and MiB at each stop; the update is as small as one can be, and always the same."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9, foreach=False)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    data = {"train": (torch.randn(64, 2), torch.arange(64) % 2), "test": (torch.randn(64, 2), torch.arange(64) % 2)}
    found = []
    with tempfile.TemporaryDirectory() as folder:
        probes = ProbeSet([MutualInfoProbe(), ActivationsProbe()])
        probes.attach(model, data, optimizer=optimizer, path=Path(folder) / "run.nc")
        for step in range(1, stops[-1] + 1):
            optimizer.step()
            if step in stops:
                found.append((step, probes.series_.sizes["step"], resident()))
        probes.detach()
    return found


def every_step(observations: int) -> dict[str, float]:
    """Bytes of one observation, in memory and in the journal, where every step is recorded."""
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 2))
    data = (torch.randn(16, 2), torch.arange(16) % 2)
    with tempfile.TemporaryDirectory() as folder:
        probes = ProbeSet([ActivationsProbe()]).attach(model, data, path=Path(folder) / "run.nc", schedule=every(1))
        start = 0.0
        for step in range(observations + 1):
            probes.observe(step)
            if step == observations // 4:
                start = resident()
        grown = (resident() - start) * MIB / (0.75 * observations)
        journal = (Path(folder) / "run.nc.journal").stat().st_size / (observations + 1)
        numbers = sum(array.size for array in probes.series_.data_vars.values()) / (observations + 1)
        probes.detach()
    return {"numbers": numbers, "bytes in memory": grown, "bytes in the journal": journal}


# -- one observation -------------------------------------------------------------------------------------------------


class Keeps(Probe):
    """Takes every block's output from the shared pass and computes nothing with it."""

    def taps(self, snapshot: Snapshot) -> Sequence[Tap]:
        return [Tap(layer) for layer in snapshot.select(None)]

    def measure(self, snapshot: Snapshot) -> Mapping[str, Measured]:
        return {"seen": Measured(float(len(snapshot.outputs("all", snapshot.select(None)))))}


class Wide(nn.Module):
    """An image block of 64 channels, or a token block of width 256."""

    def __init__(self, image: bool) -> None:
        super().__init__()
        self.map = nn.Conv2d(64, 64, 3, padding=1) if image else nn.Linear(256, 256)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.act(self.map(x))


def one_observation(image: bool, n: int, layers: int, batch_size: int, probe: str) -> dict[str, float]:
    """MiB: how far the peak rises, what is kept, what the raw outputs of these layers would be."""
    torch.set_num_threads(1)
    model = nn.Sequential(*(Wide(image) for _ in range(layers)))
    x = torch.randn(n, 64, 16, 16) if image else torch.randn(n, 16, 256)
    probes = ProbeSet(
        [{"nothing": Keeps, "ActivationsProbe": ActivationsProbe, "MutualInfoProbe": MutualInfoProbe}[probe]()]
    )
    probes.attach(model, (x, None), batch_size=batch_size, on_error="raise")
    before = peak()
    probes.observe(0)
    width = 64 if image else 256
    return {
        "rise": peak() - before,
        "kept": 4 * n * width * layers / MIB,
        "chunk": 4 * batch_size * x[0].numel() / MIB,
        "raw": 4 * x.numel() * layers / MIB,
    }


# -- large models ----------------------------------------------------------------------------------------------------


def language(layers: int, width: int, vocabulary: int, rows: int, splits: int) -> tuple[nn.Module, dict[str, Any]]:
    """Return GPT-2 with random weights, and sequences of 64 tokens."""
    import transformers

    config = transformers.GPT2Config(
        vocab_size=vocabulary, n_embd=width, n_layer=layers, n_head=width // 64, bos_token_id=0, eos_token_id=0
    )
    x = torch.randint(vocabulary, (splits, rows, 64))
    return transformers.GPT2LMHeadModel(config), {f"split {i}": (tokens, tokens) for i, tokens in enumerate(x)}


def vision() -> tuple[nn.Module, dict[str, Any]]:
    """Return ViT-B with random weights, and images."""
    import transformers

    model = transformers.ViTForImageClassification(transformers.ViTConfig(num_labels=1000))
    return model, {"images": (torch.randn(8, 3, 224, 224), torch.randint(1000, (8,)))}


LARGE: dict[str, tuple[str, Callable[[], tuple[nn.Module, dict[str, Any]]]]] = {
    "gpt2-25m": ("GPT-2, 2 x 64 sequences of 64 tokens", lambda: language(6, 512, 12_000, 64, 2)),
    "gpt2-124m": ("GPT-2, 16 sequences of 64 tokens", lambda: language(12, 768, 50_257, 16, 1)),
    "vit-b": ("ViT-B, 8 images of 224 x 224", vision),
}


def spent(function: Callable[[], object]) -> tuple[float, float]:
    """Return CPU seconds of a call, and by how many MiB it raises the peak of resident memory."""
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident(), time.process_time()
    function()
    seconds = time.process_time() - start
    highest = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    return seconds, highest - before


def large(name: str, observations: int) -> str:
    """Return a line of the table: a forward pass over the data, attach, the first observation and a later one."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, data = LARGE[name][1]()
    model.eval()

    @torch.no_grad()
    def forward() -> None:
        for inputs, _ in data.values():
            model(inputs)

    forward()
    one, memory = min(spent(forward) for _ in range(3))
    probes = ProbeSet([MutualInfoProbe(), LocalComplexityProbe(), LMNProbe()])
    shift = {"targets_shift": 1} if name.startswith("gpt2") else {}
    attach, attached = spent(lambda: probes.attach(model, data, on_error="raise", **shift))
    found = [spent(lambda step=step: probes.observe(step)) for step in range(observations)]
    series = probes.detach().series_
    lines, points = (series[key].attrs for key in ("linear_mapping_number", "local_complexity"))
    size = sum(parameter.numel() for parameter in model.parameters())
    samples = f"{lines['n_rows']}; {points['n_points']}, {points.get('n_directions', '')}"
    took = [f"{seconds:.1f} ({seconds / one:.1f})" for seconds, _ in (found[0], found[-1])]
    above = f"{memory:.0f}, {attached:.0f}, {max(peak for _, peak in found):.0f}"
    return f"| {LARGE[name][0]} | {size:,} | {one:.2f} | {attach:.1f} | {' | '.join(took)} | {samples} | {above} |"


def fresh(function: Callable[..., Any], *args: Any) -> Any:
    """What a function returns in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, args)


CONFIGURATIONS = [
    (True, 1024, 8, 64, "nothing"),
    (True, 4096, 8, 64, "nothing"),
    (True, 4096, 8, 512, "nothing"),
    (False, 1024, 8, 64, "nothing"),
    (False, 4096, 8, 64, "nothing"),
    (False, 4096, 16, 64, "nothing"),
    (False, 4096, 8, 64, "ActivationsProbe"),
    (False, 4096, 8, 64, "MutualInfoProbe"),
]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=10**6)
    parser.add_argument("--observations", type=int, default=8_000)
    parser.add_argument("--large", nargs="+", choices=list(LARGE), help="only the table of these models")
    args = parser.parse_args(argv)
    if args.large:
        columns = ["model, data", "parameters", "a pass, s", "attach, s", "first observation, s (passes)", "later"]
        columns += ["N; points, directions", "MiB above the model's: pass, attach, observation"]
        print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
        for name in args.large:
            print(fresh(large, name, 2), flush=True)
        return
    print(f"torch {torch.__version__}, one thread\n\n| steps | observations | MiB |\n|---|---|---|")
    for step, observations, mib in fresh(long_training, [args.steps // 100, args.steps // 10, args.steps]):
        print(f"| {step:,} | {observations} | {mib:.1f} |")
    found = fresh(every_step, args.observations)
    print("\nRecorded at every step: " + ", ".join(f"{value:.0f} {name}" for name, value in found.items()) + "\n")
    print("| data | N | layers | rows a pass | computed | raw | kept | chunk | peak rises by |\n" + "|---" * 9 + "|")
    for image, n, layers, batch_size, probe in CONFIGURATIONS:
        mib = fresh(one_observation, image, n, layers, batch_size, probe)
        shape = "(N, 64, 16, 16)" if image else "(N, 16, 256)"
        told = " | ".join(f"{mib[key]:.0f}" for key in ("raw", "kept", "chunk", "rise"))
        print(f"| {shape} | {n:,} | {layers} | {batch_size} | {probe} | {told} |", flush=True)


if __name__ == "__main__":
    main()
