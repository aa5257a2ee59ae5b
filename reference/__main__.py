"""``python -m reference``: train the bundled transformer, under the probes or for many seeds."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 if a run failed, 2 for bad input, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_demo(commands)
    _add_run(commands)
    _add_collect(commands)
    _add_measure(commands)
    _add_accept(commands)
    args = vars(parser.parse_args(argv))
    verbs: dict[str, Callable[..., int]] = {
        "demo": _demo,
        "run": _run,
        "collect": _collect,
        "measure": _measure,
        "accept": _accept,
    }
    command = verbs[args.pop("command")]
    try:
        return command(**args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="a small transformer learns division modulo 59; its phases, in minutes on a CPU",
        description="Trains a small transformer on division modulo 59, records mutual information, local complexity, "
        "linear mapping number, losses and accuracies, finds the phases, and writes run.nc and phases.png.",
    )
    demo.add_argument("--out", type=Path, default=Path("probe-demo"), help="folder to write to (default: probe-demo)")
    demo.add_argument("--seed", type=int, default=0, help="model, split and batches (default: 0)")
    demo.add_argument("--steps", type=int, default=None, help="training steps (default: those of the recipe)")
    demo.add_argument("--overwrite", action="store_true", help="replace what an earlier run wrote")


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="train a named configuration for one seed or many; the same command goes on where it stopped",
        description="Trains a configuration for some seeds and records curves, weights and a checkpoint of each in "
        "OUT/NAME/seed-N. Give the same command again at any time: finished seeds are skipped, others go on.",
    )
    run.add_argument("name", help="a configuration of reference.training.configs, or the path of a .json file with one")
    which = run.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, help="one seed")
    which.add_argument("--seeds", help="8 (the seeds 0 to 7), 0,3,5 or 0-7")
    run.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one")
    run.add_argument("--steps", type=int, help="training steps (default: those of the configuration)")
    run.add_argument("--precision", choices=("float32", "tf32", "bfloat16"), help="default: the configuration's")
    run.add_argument("--jobs", type=int, help="jobs at a time (default: the number of cores, or of GPUs)")
    run.add_argument("--threads", type=int, default=1, help="torch threads of a job (default: 1)")
    kept = "evaluation steps whose weights are kept (default: all)"
    run.add_argument("--keep", choices=("all", "log", "none"), default="all", help=kept)
    compiled = "compile the model (default: only ensembles on a GPU)"
    run.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None, help=compiled)
    together = "train the seeds of a job as one batched model (default: on a GPU)"
    run.add_argument("--together", action=argparse.BooleanOptionalAction, default=None, help=together)
    run.add_argument("--checkpoint-seconds", type=float, default=60.0, help="a kill loses no more (default: 60)")


def _add_collect(commands: Any) -> None:
    collect = commands.add_parser(
        "collect",
        help="merge the curves of all seeds of a configuration into one file",
        description="Merges the curves of all seeds into one NetCDF file with a dimension run, also of unfinished "
        "runs, and says which those are.",
    )
    collect.add_argument("folder", type=Path, help="such as runs/division-97")
    collect.add_argument("--out", type=Path, help="file to write (default: FOLDER.nc)")


def _add_measure(commands: Any) -> None:
    measure = commands.add_parser(
        "measure",
        help="all measures on the weights that runs have kept",
        description="Measures the kept weights of all seeds of a configuration: information by several estimators and "
        "at three noises, local complexity, linear mapping number, norms, ranks and histograms of weights. The same "
        "command goes on where it stopped, also while the runs are trained.",
    )
    measure.add_argument("folder", type=Path, help="such as runs/division-97")
    measure.add_argument("--seeds", help="8 (the seeds 0 to 7), 0,3,5 or 0-7 (default: all there)")
    measure.add_argument("--jobs", type=int, help="seeds at a time (default: the number of cores)")
    measure.add_argument("--out", type=Path, help="file to write (default: FOLDER-probes.nc)")


def _measure(folder: Path, seeds: str | None, jobs: int | None, out: Path | None) -> int:
    from probe import save
    from reference.experiments.measuring import measure
    from reference.runs.options import check_seeds

    measured = measure(folder, seeds=None if seeds is None else check_seeds(seeds), n_jobs=jobs)
    path = save(measured, out or folder.absolute().with_name(f"{folder.absolute().name}-probes.nc"))
    print(f"written: {path} ({measured.sizes['run']} runs, {measured.sizes['step']} steps)")
    return 0


def _add_accept(commands: Any) -> None:
    accept = commands.add_parser(
        "accept",
        help="judge every claim of the paper, on its own curves and on our recorded runs",
        description="Judges the claims of arXiv:2504.12700 on the published curves and on the runs in "
        "reference/results, prints all verdicts with their numbers, and writes verdicts.md, curves.png (ours over the "
        "paper's), information.png and readings.png (by every estimator).",
    )
    accept.add_argument("--out", type=Path, default=Path("acceptance"), help="folder to write to (default: acceptance)")


def _accept(out: Path) -> int:
    import matplotlib

    matplotlib.use("Agg")
    from reference.claims.acceptance import FIGURES, accept, as_text

    print(as_text(accept(out)))
    print(f"\nwritten: {', '.join(str(out / name) for name in ('verdicts.md', *(f'{name}.png' for name in FIGURES)))}")
    return 0


def _run(*, seed: int | None, seeds: str, jobs: int | None, name: str, **options: Any) -> int:
    from reference.runs.launch import run

    options["compiled"] = options.pop("compile")
    before = signal.signal(signal.SIGTERM, _interrupt)  # what a scheduler sends before it kills
    try:
        outcomes = run(name, seeds if seed is None else [seed], n_jobs=jobs, **options)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoints", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    for outcome in outcomes:
        if outcome.status != "done":  # said already
            print(outcome)
    found = [outcome.status for outcome in outcomes]
    print(", ".join(f"{found.count(status)} {status}" for status in ("done", "skipped", "failed")))
    return int("failed" in found)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _collect(folder: Path, out: Path | None) -> int:
    from probe import save
    from reference.runs.launch import collect, survey

    merged = collect(folder)
    path = save(merged, out or folder.absolute().with_name(f"{folder.absolute().name}.nc"))
    for seed, told in survey(folder).items():
        if told != "finished":
            print(f"seed {seed}: {told}")
    whole, n = int(merged["finished"].sum()), merged.sizes["run"]
    print(f"written: {path} ({n} runs, {whole} of them finished, {merged.sizes['step']} steps)")
    return 0


def _demo(out: Path, seed: int, steps: int | None, overwrite: bool) -> int:
    path, figure = out / "run.nc", out / "phases.png"
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; --overwrite replaces it, --out FOLDER writes elsewhere")
    import matplotlib

    matplotlib.use("Agg")  # a file is written, no window opened
    from reference.experiments.demo import Demo, judge, run_demo
    from reference.training.configs import DEMO

    training = DEMO if steps is None else replace(DEMO, steps=steps)
    demo = Demo(seed=seed, training=training)
    out.mkdir(parents=True, exist_ok=True)
    print(f"division modulo {demo.p}, seed {seed}: training {training.steps} steps under three probes", flush=True)
    series, done = run_demo(demo, path, mode="overwrite" if overwrite else None, progress=sys.stderr.isatty())
    if done < training.steps:
        print(f"interrupted after step {done}; what was recorded until then is kept")
    if series.sizes["step"] < 4:
        print(f"{series.sizes['step']} observations are too few to judge phases by\n\nwritten: {path} (series)")
        return 0 if done == training.steps else 130
    detector = judge(series, figure, title=f"division modulo {demo.p}, seed {seed}")
    print(f"\n{detector.summary()}\n\nwritten: {path} (series), {figure} (figure)")
    return 0 if done == training.steps else 130


if __name__ == "__main__":
    sys.exit(main())
