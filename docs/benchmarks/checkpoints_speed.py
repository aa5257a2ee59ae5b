"""Measure the time of `over_checkpoints` relative to loading each checkpoint and one forward pass of the probe batch.

    python docs/benchmarks/checkpoints_speed.py [--write]

The checkpoints are folders of a GPT-2 of transformers, made from a configuration with random weights: 124 M
parameters, 0.5 GB each. Four of them differ, and the other folders have hard links to these (2 GB on the disk). All
files are read before, so that neither side waits for the disk.

Both sides run in one process and one thread, and take turns: `over_checkpoints` measures a checkpoint, then the
baseline makes the same model by `from_pretrained` and runs one forward pass of the same batch. A tiny model goes
first, as a warm-up.

- The ratio is the time of `over_checkpoints` over all checkpoints, attaching and writing included, over that of the
  baseline. The bar is 1.3 in CPU time, which depends less than wall time on other work of the machine.
- The ratio of one more checkpoint is the median of the pairs after the first (quartiles).
- Attaching checks the model once, by passes over a few rows. The fixed time is that of the first checkpoint, and of
  the end, less the median of the others. The ratio is larger for fewer checkpoints or a smaller batch.

Other probes take their own time: `WeightsProbe` decomposes all matrices. Exit code 1: a bar is missed. `--write` writes
checkpoints_speed.json, from which pages.py makes the table of the page. Needs transformers (to measure, not for the
table) and safetensors.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch

import probe

RESULTS = Path(__file__).with_suffix(".json")
DIFFERENT, BAR = 4, 1.3
PROBES: dict[str, list[probe.Probe]] = {
    "loss, accuracy and `ActivationsProbe`": [probe.ActivationsProbe()],
}
Times = dict[str, list[float]]


def make_checkpoints(folder: Path, layers: int, width: int, n: int) -> tuple[list[Path], int]:
    """Write the checkpoints, read their files once, and return the folders and the number of parameters."""
    import transformers

    config = transformers.GPT2Config(n_layer=layers, n_embd=width, n_head=max(1, width // 64))
    folders = [folder / f"checkpoint-{step}" for step in range(1, n + 1)]
    count = 0
    for i, path in enumerate(folders):
        if i < DIFFERENT:
            model = transformers.GPT2LMHeadModel(config)
            model.save_pretrained(path)
            count = sum(value.numel() for value in model.parameters())
        else:
            shutil.copytree(folders[i % DIFFERENT], path, copy_function=os.link)
        (path / "model.safetensors").read_bytes()
    return folders, count


def baseline(path: Path, tokens: torch.Tensor) -> None:
    import transformers

    model = transformers.GPT2LMHeadModel.from_pretrained(path).eval()
    with torch.no_grad():
        model(tokens)


class Turns:
    """Times of both sides, in turn: called after each checkpoint of `over_checkpoints`, it runs the baseline."""

    def __init__(self, folders: list[Path], tokens: torch.Tensor) -> None:
        self.folders, self.tokens = iter(folders), tokens
        self.times: Times = {f"{side} {clock}": [] for side in ("probe", "baseline") for clock in ("wall", "CPU")}
        self.start = self.now()

    def now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def add(self, side: str) -> None:
        """Add the time since the last turn."""
        now = self.now()
        for clock, before, after in zip(("wall", "CPU"), self.start, now, strict=True):
            self.times[f"{side} {clock}"].append(after - before)
        self.start = self.now()

    def __call__(self, line: str) -> None:
        self.add("probe")
        baseline(next(self.folders), self.tokens)
        self.add("baseline")
        print(line.split(":")[0], *(f"{name} {values[-1]:.2f} s" for name, values in self.times.items()), flush=True)


def timed(folders: list[Path], probes: list[probe.Probe], tokens: torch.Tensor) -> Times:
    """Return the times of each checkpoint. The last one of `probe` is the end, after all checkpoints."""
    turns = Turns(folders, tokens)
    data = {"train": ({"input_ids": tokens}, tokens)}
    probe.over_checkpoints(dict(enumerate(folders)), probes, data, targets_shift=1, report=turns)
    turns.add("probe")
    return turns.times


def ratio(times: Times, clock: str) -> float:
    return sum(times[f"probe {clock}"]) / sum(times[f"baseline {clock}"])


def row(name: str, times: Times) -> str:
    """Return the row of a set of probes in the table of the page."""
    own, base = times["probe CPU"], times["baseline CPU"]
    low, middle, high = statistics.quantiles([a / b for a, b in zip(own[1:-1], base[1:], strict=True)], n=4)
    fixed = own[0] + own[-1] - statistics.median(own[1:-1])
    cells = [
        name,
        f"{ratio(times, 'CPU'):.2f}",
        f"{ratio(times, 'wall'):.2f}",
        f"{middle:.2f} ({low:.2f} to {high:.2f})",
    ]
    return f"| {' | '.join(cells)} | {fixed:.1f} | {statistics.median(base):.1f} |"


def table(found: dict[str, Times]) -> str:
    """Return the table of the page."""
    columns = ["measured", "ratio, CPU time", "ratio, wall time", "of one more checkpoint", "fixed, CPU s"]
    columns.append("baseline of one checkpoint, CPU s")
    return "\n".join(
        [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|", *(row(*item) for item in found.items())]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sizes = {"layers": 12, "width": 768, "checkpoints": 20, "rows": 16, "length": 128}
    for name, default in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    import transformers

    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    tokens = torch.randint(0, 50257, (args.rows, args.length), generator=torch.Generator().manual_seed(0))
    found: dict[str, Times] = {}
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        tiny, _ = make_checkpoints(Path(first), 1, 64, 3)
        folders, count = make_checkpoints(Path(second), args.layers, args.width, args.checkpoints)
        for name, probes in PROBES.items():
            timed(tiny, probes, tokens[:, :16])
            found[name] = timed(folders, probes, tokens)
            print(row(name, found[name]), flush=True)
            if args.write:
                write(found, {name: getattr(args, name) for name in sizes} | {"parameters": count})
    print(table(found))
    faults = [f"{name}: {value:.2f}" for name, times in found.items() if (value := ratio(times, "CPU")) > BAR]
    print("\n".join(faults) or "all bars are held")
    sys.exit(bool(faults))


def write(found: dict[str, Times], settings: dict[str, int]) -> None:
    import transformers

    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    facts = {**versions, "python": platform.python_version(), "cpus": os.cpu_count()}
    rounded = {
        name: {key: [round(v, 3) for v in values] for key, values in times.items()} for name, times in found.items()
    }
    RESULTS.write_text(json.dumps({"versions": facts, "settings": settings, "results": rounded}, indent=1) + "\n")


if __name__ == "__main__":
    main()
