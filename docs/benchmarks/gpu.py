"""Test and measure on a GPU: ``python docs/benchmarks/gpu.py --out gpu.json`` takes at most ten minutes.

The parts are the tests marked ``gpu``, the time of one observation beside a training step, the device memory and the
synchronisations of one observation, and the throughput of the reference's training for several seeds. The file is
written after each part, so that an interruption keeps the earlier ones. ``--device cpu --quick`` tries the script.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from overhead import CASES, Case, Training, bare, clock, default_set, hook_seconds
from throughput import wall_seconds

from probe.recording import atomic_write
from reference.training import CONFIGS, Ensemble, Trainer

ROOT = Path(__file__).parents[2]
QUICK_TESTS = ["tests/test_kernels.py"]
MOST_WAITS = 1  # of an observation of the default set, for any number of layers and blocks of rows
LAST_START = 480  # s; no further throughput is measured later, since compiling takes 75 s


class Job:
    """The options of a call, and the time that it began."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.device, self.quick, self.begin = args.device, args.quick, time.perf_counter()
        self.cuda = self.device == "cuda"

    def seconds(self) -> float:
        """Return the time since the beginning, in s."""
        return time.perf_counter() - self.begin


def tests(job: Job) -> dict[str, Any]:
    """Run the tests marked ``gpu``; without a GPU they are skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", "-o", "addopts="]
    done = subprocess.run(
        [*command, *(QUICK_TESTS if job.quick else ["tests"])], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    return {"exit_code": done.returncode, "last_lines": done.stdout.splitlines()[-10:]}


def environment(job: Job) -> dict[str, Any]:
    """Return versions and the name of the device."""
    name = torch.cuda.get_device_name() if job.cuda else platform.processor() or platform.machine()
    return {"device": job.device, "name": name, "torch": str(torch.__version__), "python": platform.python_version()}


def overhead(job: Job) -> dict[str, Any]:
    """Return the times of a training step, of the hook, and of one observation by the default set."""
    return {name: _overhead(case, job) for name, case in _cases(job).items()}


def _cases(job: Job) -> dict[str, Case]:
    return {"transformer": CASES["transformer"]} if job.quick else CASES


def _overhead(case: Case, job: Job) -> dict[str, float]:
    rows, repeats = (16, 1) if job.quick else (512, 5)
    training = Training(case, bare, job.device, rows if job.quick else case.usual)  # type: ignore[arg-type]
    step = statistics.median([training.step() for _ in range(3 * repeats)][repeats:])
    probes, times = _attached(case, job.device, rows), []
    for i in range(1, repeats + 1):
        start = clock(job.device)
        probes.observe(i)
        times.append(clock(job.device) - start)
    probes.detach()
    hook = hook_seconds(case, job.device, 100 if job.quick else 20_000)
    return {"rows": rows, "step_s": step, "hook_s": hook, "observation_s": statistics.median(times)}


def _attached(case: Case, device: str, rows: int) -> Any:
    data = {"train": case.draw(rows, device), "test": case.draw(rows, device)}
    return default_set().attach(case.model().to(device), data, on_error="raise").observe(0)


def memory(job: Job) -> dict[str, Any]:
    """Return the device memory that one observation takes for a time, and how often it waits for the device.

    The second observation counts, because the first one reads each condition.
    """
    if not job.cuda:
        return {"skipped": "only CUDA counts its memory and synchronisations; docs/benchmarks/memory.py is for a CPU"}
    found = {}
    for name, case in _cases(job).items():
        probes = _attached(case, job.device, 512)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        waits = synchronisations(lambda probes=probes: probes.observe(1))
        peak = torch.cuda.max_memory_allocated() - before
        found[name] = {
            "model_and_data_bytes": before,
            "observation_bytes": peak,
            "synchronisations": waits,
            "synchronisations_at_most": MOST_WAITS,
        }
        probes.detach()
    return found


def synchronisations(call: Callable[[], object]) -> int:
    """Count the synchronisations of a call as PyTorch reports them."""
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode(mode)
    return sum("synchroniz" in str(one.message) for one in caught)


def throughput(job: Job) -> list[dict[str, Any]]:
    """Return seed-steps per second of the reference's training."""
    config = CONFIGS["demo" if job.quick else "paper-division"]
    found = []
    for seeds, precision in [(1, "float32"), (32, "float32"), (32, "tf32")] if job.cuda else [(1, "float32")]:
        if job.seconds() > LAST_START:
            found.append({"seeds": seeds, "precision": precision, "skipped": "no time is left"})
            continue
        own = replace(config, precision=precision)
        engine = Ensemble(own, range(seeds), device="cuda") if job.cuda else Trainer(own, 0)
        engine.advance(3)
        step = wall_seconds(engine, 1.5) if job.cuda else _cpu_seconds(engine)
        found.append({"seeds": seeds, "precision": precision, "seed_steps_per_s": seeds / step})
    return found


def _cpu_seconds(engine: Trainer, steps: int = 3) -> float:
    start = time.perf_counter()
    engine.advance(steps)
    return (time.perf_counter() - start) / steps


PARTS: dict[str, Callable[[Job], Any]] = {
    "environment": environment,
    "overhead": overhead,
    "memory": memory,
    "tests": tests,
    "throughput": throughput,
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), help="JSON to write (default: gpu.json)")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="default: cuda")
    parser.add_argument("--quick", action="store_true", help="few rows and steps, and few of the tests")
    args = parser.parse_args(argv)
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("Expected a GPU, got none; give --device cpu --quick to try the script")
    job, found = Job(args), dict[str, Any]()
    for name, part in PARTS.items():
        start = job.seconds()
        try:
            found[name] = part(job)
        except Exception as error:  # the other parts are still of use
            found[name] = {"error": f"{type(error).__name__}: {error}"}
        found.setdefault("seconds", {})[name] = round(job.seconds() - start, 1)
        with atomic_write(args.out) as file:
            file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{name}: {json.dumps(found[name])}", flush=True)
    failed = [name for name in PARTS if "error" in found[name]] + ["tests"] * (found["tests"].get("exit_code") == 1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
