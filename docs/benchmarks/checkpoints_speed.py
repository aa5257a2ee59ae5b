"""Time of `over_checkpoints` beside loading and one forward pass: 20 checkpoints of a causal model of Hugging Face.

    python docs/benchmarks/checkpoints_speed.py [--layers 12 --width 768 --checkpoints 20]

It writes the checkpoints to a temporary folder (0.5 GB each for GPT-2 of 124 M parameters), reads each once before, and
times both ways in turn. Needs transformers.
"""

import argparse
import json
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
import transformers

import probe


def checkpoints(folder: Path, layers: int, width: int, n: int) -> None:
    sizes = {"n_layer": layers, "n_embd": width, "n_head": max(1, width // 64)}
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes))
    print(f"{sum(value.numel() for value in model.parameters()) / 1e6:.0f} M parameters, {n} checkpoints")
    model.save_pretrained(folder / "checkpoint-1")
    for step in range(1, n + 1):
        path = folder / f"checkpoint-{step}"
        if step > 1:  # the same numbers: only the time counts
            path.mkdir()
            for file in (folder / "checkpoint-1").iterdir():
                (shutil.copy if file.suffix == ".json" else Path.hardlink_to)(*_arguments(file, path / file.name))
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))


def _arguments(file: Path, new: Path) -> tuple[Path, Path]:
    return (file, new) if file.suffix == ".json" else (new, file)


def baseline(folder: Path, tokens: torch.Tensor) -> None:
    """Load each checkpoint with transformers, and run one forward pass of the probe batch."""
    for path in folder.iterdir():
        model = transformers.GPT2LMHeadModel.from_pretrained(path)
        with torch.no_grad():
            model(tokens)


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("layers", 12), ("width", 768), ("checkpoints", 20), ("rows", 16), ("length", 128)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    warnings.simplefilter("ignore")
    tokens = torch.randint(0, 50257, (args.rows, args.length))
    data = {"train": ({"input_ids": tokens}, tokens)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints(folder, args.layers, args.width, args.checkpoints)
        one = next(folder.iterdir())
        seconds(lambda: transformers.GPT2LMHeadModel.from_pretrained(one))
        plain = seconds(lambda: baseline(folder, tokens))
        for probes in ([], [probe.ActivationsProbe()]):
            took = seconds(lambda: probe.over_checkpoints(folder, probes, data, targets_shift=1))  # noqa: B023
            names = ", ".join(["PerformanceProbe", *(type(one).__name__ for one in probes)])
            print(f"loading and one pass {plain:.1f} s; {names} {took:.1f} s, ratio {took / plain:.2f}")


if __name__ == "__main__":
    main()
