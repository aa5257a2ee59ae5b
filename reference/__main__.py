"""``python -m reference``: train the bundled transformer under the probes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 2 for bad input, 130 if interrupted."""
    parser = argparse.ArgumentParser(prog="python -m reference", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
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
    args = parser.parse_args(argv)
    try:
        return _demo(args.out, args.seed, args.steps, args.overwrite)
    except (FileExistsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _demo(out: Path, seed: int, steps: int | None, overwrite: bool) -> int:
    path, figure = out / "run.nc", out / "phases.png"
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already; --overwrite replaces it, --out FOLDER writes elsewhere")
    import matplotlib

    matplotlib.use("Agg")  # a file is written, no window opened
    from reference.experiments import Demo, judge, run_demo
    from reference.train import TrainConfig

    training = TrainConfig(seed=seed) if steps is None else TrainConfig(seed=seed, steps=steps)
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
