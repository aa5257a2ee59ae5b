"""Train a small transformer that shows grokking, record and measure its runs, and judge claims of papers on them."""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

_SEEDS = "8 (the seeds 0 to 7), 0,3,5 or 0-7"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns
    -------
    int
        The exit code: 0, or 1 if a run failed, 2 for invalid input, 130 after an interruption.
    """
    parser = argparse.ArgumentParser(
        prog="python -m reference",
        description=__doc__,
        epilog="Run these commands from the root of the repository; docs/reference.md describes them.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    functions: dict[str, Callable[..., int]] = {
        "demo": _demo,
        "run": _run,
        "collect": _collect,
        "measure": _measure,
        "perceptrons": _perceptrons,
        "chaos-cone": _chaos_cone,
        "first-order": _first_order,
        "coarse-graining": _coarse_graining,
        "accept": _accept,
    }
    experiments = (_add_perceptrons, _add_chaos_cone, _add_first_order, _add_coarse_graining)
    for add in (_add_demo, _add_run, _add_collect, _add_measure, *experiments, _add_accept):
        add(commands)
    args = vars(parser.parse_args(argv))
    function = functions[args.pop("command")]
    try:
        return function(**args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


# -- options -------------------------------------------------------------------------------------------------------


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo",
        help="train a small transformer with probes, within minutes on a CPU, and show its phases",
        description="Train a small transformer on division modulo 59, and measure it with probes. Print a line "
        "whenever it has learnt something new, and the verdict at the end. Write the recording, the figure phases.png "
        "and the page report.html (with bokeh). A seed takes about three CPU minutes. Ctrl-C ends the training, "
        "and the verdict is then on what was recorded.",
    )
    demo.add_argument("--out", type=Path, default=Path("probe-demo"), help="folder to write to (default: probe-demo)")
    which = demo.add_mutually_exclusive_group()
    which.add_argument("--seed", type=int, default=0, metavar="N", help="train this seed (default: 0)")
    which.add_argument("--seeds", help="train several seeds at the same time: 3 (the seeds 0 to 2), 0,3,5 or 0-7")
    demo.add_argument("--steps", type=int, default=None, metavar="N", help="most training steps (default: 2000)")
    control = "permute the answers randomly: this control can only learn its training pairs by heart"
    demo.add_argument("--control", action="store_true", help=control)
    demo.add_argument("--overwrite", action="store_true", help="replace the files of an earlier demo")


def _add_run(commands: Any) -> None:
    run = commands.add_parser(
        "run",
        help="train a configuration for one seed or many; the same command resumes",
        description="Train a configuration for some seeds. Record curves, weights and a checkpoint of each seed in "
        "OUT/NAME/seed-N. The same command can be repeated at any time: finished seeds are skipped, and others "
        "continue from their checkpoints.",
    )
    run.add_argument("name", metavar="NAME", help="a configuration of docs/reference.md, or the path of a .json file")
    which = run.add_mutually_exclusive_group(required=True)
    which.add_argument("--seed", type=int, metavar="N", help="train one seed")
    which.add_argument("--seeds", help=f"train many seeds: {_SEEDS}")
    run.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")
    devices = ("auto", "cpu", "cuda")
    run.add_argument("--device", choices=devices, default="auto", help="auto is a GPU if there is one (default: auto)")
    run.add_argument("--steps", type=int, help="training steps (default: those of the configuration)")
    precisions = ("float32", "tf32", "bfloat16")
    run.add_argument("--precision", choices=precisions, help="matrix products (default: that of the configuration)")
    run.add_argument("--jobs", type=int, help="number of parallel jobs (default: the number of cores, or of GPUs)")
    run.add_argument("--threads", type=int, default=1, help="threads of torch in each job (default: 1)")
    weights = "store the weights at all evaluations, at log-spaced ones, or at none (default: all)"
    run.add_argument("--store-weights", choices=("all", "log", "none"), default="all", help=weights)
    compiled = "compile the model (default: only ensembles on a GPU)"
    run.add_argument("--compile", action=argparse.BooleanOptionalAction, default=None, help=compiled)
    ensemble = "train the seeds of a job as one batched model (default: only on a GPU)"
    run.add_argument("--ensemble", action=argparse.BooleanOptionalAction, default=None, help=ensemble)
    seconds = "a kill loses at most this much work, in seconds (default: 60)"
    run.add_argument("--checkpoint-seconds", type=float, default=60.0, metavar="SECONDS", help=seconds)


def _add_collect(commands: Any) -> None:
    collect = commands.add_parser(
        "collect",
        help="merge the curves of all seeds of a configuration into one file",
        description="Merge the curves of all seeds into one NetCDF file with a dimension run. Unfinished runs are "
        "included and listed.",
    )
    collect.add_argument("folder", metavar="FOLDER", type=Path, help="folder of a configuration: runs/division-97")
    collect.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: FOLDER.nc)")


def _add_measure(commands: Any) -> None:
    measure = commands.add_parser(
        "measure",
        help="measure the stored weights of the runs of a configuration",
        description="Measure the stored weights of all seeds of a configuration: mutual information by several "
        "estimators and at three noises, local complexity, linear mapping number; norms, ranks and histograms of "
        "weights. The same command resumes. It also works while the runs are trained.",
    )
    measure.add_argument("folder", metavar="FOLDER", type=Path, help="folder of a configuration: runs/division-97")
    measure.add_argument("--seeds", help=f"seeds to measure: {_SEEDS} (default: all)")
    measure.add_argument("--jobs", type=int, help="seeds that are measured in parallel (default: the number of cores)")
    measure.add_argument("--out", type=Path, metavar="FILE", help="file to write (default: FOLDER-probes.nc)")


def _add_perceptrons(commands: Any) -> None:
    perceptrons = commands.add_parser(
        "perceptrons",
        help="train ReLU perceptrons with probes of linear regions, circuits and robustness",
        description="Train ReLU perceptrons for some seeds, and measure their linear regions, circuits, local "
        "complexity, linear mapping number and robustness. Write OUT/perceptrons-TASK/seed-N.nc for each seed at its "
        "end, and all seeds into OUT/perceptrons-TASK.nc. A seed takes 25 to 60 CPU seconds. The same command resumes: "
        "finished seeds are only read.",
    )
    tasks = ("division", "digits")
    perceptrons.add_argument("--task", choices=tasks, required=True, help="division modulo 59, or images of digits")
    perceptrons.add_argument("--seeds", default="6", help=f"seeds to train: {_SEEDS} (default: 6)")
    control = "permute the answers randomly: the control, which can only memorise them"
    perceptrons.add_argument("--control", action="store_true", help=control)
    perceptrons.add_argument("--steps", type=int, help="training steps (default: 4000 for division, 5000 for digits)")
    perceptrons.add_argument("--jobs", type=int, help="number of parallel jobs (default: the number of cores)")
    perceptrons.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")


def _add_chaos_cone(commands: Any) -> None:
    chaos = commands.add_parser(
        "chaos-cone",
        help="train with perturbed twins, tangent kernels and linearised models",
        description="Train a small network for some seeds, and measure its tangent kernel and the growth of "
        "perturbations. From eight steps on, train perturbed twins and compare them with the training; from four of "
        "them, train the linearised model. Write the parts of each seed to OUT/chaos-cone-NAME/seed-N, and all seeds "
        "into OUT/chaos-cone-NAME.nc. A seed takes 90 to 150 CPU seconds. The same command resumes: a kill loses at "
        "most the part of one step.",
    )
    names = ("vgg", "resnet", "division", "subtraction")
    network = "convolutional network on images of digits, or transformer on division or subtraction modulo 31"
    chaos.add_argument("name", metavar="NAME", choices=names, help=f"{', '.join(names)}: {network}")
    chaos.add_argument("--seeds", default="5", help=f"seeds to train: {_SEEDS} (default: 5)")
    chaos.add_argument("--out", type=Path, default=Path("runs"), help="folder of all runs (default: runs)")


def _add_first_order(commands: Any) -> None:
    first = commands.add_parser(
        "first-order",
        help="solve and sample the networks of a first-order phase transition",
        description="Solve the equations of arXiv:2310.03789, or sample its networks by Langevin dynamics and compare "
        "them with the theory. Write numbers and figures to OUT. The same command resumes a sampling.",
        epilog="Parts: theory solves the phase diagram of the cubic teacher (20 CPU seconds). sweep samples 50 "
        "reduced networks at each of five noises (2 CPU minutes). modular samples modular addition (2 CPU minutes). "
        "paper samples 200 networks of the paper's size at each noise (15 CPU hours, extrapolated). order tests "
        "whether the transition is of first order (7 CPU minutes). Networks that grok, with probes: "
        "grokking (runs and controls), sweeps and collapse (weight decay up and down), boundary (at three budgets), "
        "demo (the demo and its controls).",
    )
    parts = ("theory", "sweep", "modular", "paper", "order", "grokking", "sweeps", "boundary", "collapse", "demo")
    first.add_argument("part", metavar="PART", choices=parts, help=", ".join(parts))
    first.add_argument(
        "--jobs", type=int, default=1, help="blocks of networks that are sampled in parallel (default: 1)"
    )
    first.add_argument("--out", type=Path, default=Path("runs"), help="folder to write to (default: runs)")


def _add_coarse_graining(commands: Any) -> None:
    coarse = commands.add_parser(
        "coarse-graining",
        help="follow the singular modes of weight matrices in runs and controls",
        description="Train a network for some seeds, and its controls with permuted answers. Follow all singular modes "
        "of its weight matrices, and measure its effective number of parameters. Write each run to "
        "OUT/coarse-graining-NAME/seed-N.nc at its end, its control to control-seed-N.nc, and growth and classes of "
        "modes of all seeds to OUT/coarse-graining-NAME.nc, with a figure. The same command resumes: finished runs are "
        "only read.",
        epilog="CPU time of a run and its control: demo 5 minutes, division-97 2 minutes, perceptron and "
        "perceptron-narrow 1 minute, digits half a minute.",
    )
    names = ("demo", "division-97", "perceptron", "perceptron-narrow", "digits")
    coarse.add_argument("name", metavar="NAME", choices=names, help=", ".join(names))
    coarse.add_argument("--seeds", default="6", help=f"seeds to train: {_SEEDS} (default: 6)")
    weights = "folder to keep the weights in, up to 160 MB for a run; weights that it holds are not trained again"
    coarse.add_argument("--weights", type=Path, help=f"{weights} (default: they are not kept)")
    coarse.add_argument("--jobs", type=int, default=1, help="seeds that are trained in parallel (default: 1)")
    coarse.add_argument("--out", type=Path, default=Path("runs"), help="folder to write to (default: runs)")


def _add_accept(commands: Any) -> None:
    accept = commands.add_parser(
        "accept",
        help="judge the claims of papers on their published curves and on our recorded runs",
        description="Judge the claims of a paper on the published curves and on the runs in reference/results. Print "
        "all verdicts with their numbers. Write verdicts.md and figures into a folder with the identifier of the "
        "paper.",
    )
    accept.add_argument("--paper", metavar="ID", help="arXiv identifier, such as 2504.12700 (default: all papers)")
    accept.add_argument("--out", type=Path, default=Path("acceptance"), help="folder to write to (default: acceptance)")


# -- commands ------------------------------------------------------------------------------------------------------


def _demo(out: Path, seed: int, seeds: str | None, steps: int | None, control: bool, overwrite: bool) -> int:
    import matplotlib

    matplotlib.use("Agg")  # writes files and opens no window
    from reference.experiments import show_demo
    from reference.runs import parse_seeds

    chosen = [seed] if seeds is None else parse_seeds(seeds)
    return show_demo(out, chosen, steps=steps, control=control, overwrite=overwrite)


def _run(*, seed: int | None, seeds: str, jobs: int | None, name: str, **options: Any) -> int:
    from reference.runs import run

    options["compiled"] = options.pop("compile")
    before = signal.signal(signal.SIGTERM, _interrupt)  # a scheduler sends SIGTERM before it kills
    try:
        outcomes = run(name, seeds if seed is None else [seed], n_jobs=jobs, **options)
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the last checkpoints", file=sys.stderr)
        return 130
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    for outcome in outcomes:
        if outcome.status != "done":  # the worker has printed the others
            print(outcome)
    statuses = [outcome.status for outcome in outcomes]
    print(", ".join(f"{statuses.count(status)} {status}" for status in ("done", "skipped", "failed")))
    return int("failed" in statuses)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _collect(folder: Path, out: Path | None) -> int:
    from probe import save
    from reference.runs import collect, survey

    merged = collect(folder)
    path = save(merged, out or folder.absolute().with_name(f"{folder.absolute().name}.nc"))
    for seed, state in survey(folder).items():
        if state != "finished":
            print(f"seed {seed}: {state}")
    finished, n = int(merged["finished"].sum()), merged.sizes["run"]
    print(f"written: {path} ({n} runs, {finished} of them finished, {merged.sizes['step']} steps)")
    return 0


def _measure(folder: Path, seeds: str | None, jobs: int | None, out: Path | None) -> int:
    from probe import save
    from reference.experiments import measure
    from reference.runs import parse_seeds

    measured = measure(folder, seeds=None if seeds is None else parse_seeds(seeds), n_jobs=jobs)
    path = save(measured, out or folder.absolute().with_name(f"{folder.absolute().name}-probes.nc"))
    print(f"written: {path} ({measured.sizes['run']} runs, {measured.sizes['step']} steps)")
    return 0


def _perceptrons(task: str, seeds: str, control: bool, steps: int | None, jobs: int | None, out: Path) -> int:
    from probe import save
    from reference.experiments import perceptron_config, perceptron_name, perceptron_probes, record_perceptrons
    from reference.runs import parse_seeds

    name, config = perceptron_name(task, control=control), perceptron_config(task, control=control, steps=steps)
    chosen = parse_seeds(seeds)
    recorded = record_perceptrons(config, chosen, out / name, probes=perceptron_probes, n_jobs=jobs)
    path = save(recorded, out / f"{name}.nc")
    print(
        f"written: {path} (seeds: {recorded.sizes['run']}, observations of each: {recorded.sizes['step']})\n"
        "Draw the changes of the number of regions with probe.plots.mechanisms(probe.load(path)); "
        "--control records the control"
    )
    return 0


def _chaos_cone(name: str, seeds: str, out: Path) -> int:
    from probe import save
    from reference.experiments import CHAOS_CONE, chaos_name, record_chaos
    from reference.runs import parse_seeds

    label, chosen = chaos_name(name), parse_seeds(seeds)
    recorded = record_chaos(CHAOS_CONE[name], chosen, out / label, progress=sys.stderr.isatty(), name=label)
    path = save(recorded, out / f"{label}.nc")
    print(f"written: {path} (seeds: {recorded.sizes['run']}, starts of twins: {recorded.sizes['t0']})")
    return 0


def _first_order(part: str, jobs: int, out: Path) -> int:
    import matplotlib

    matplotlib.use("Agg")
    from probe import save
    from reference.experiments import PARTS, draw_recorded, record_demos, record_part
    from reference.theory import measure_order, order_text, sample_all, solve_all, summary_text, transitions_text

    if part == "order":
        tests, paths = measure_order(out, jobs, progress=sys.stderr.isatty())
        print(f"{order_text(tests)}\nwritten: {', '.join(map(str, paths))}")
        return 0
    if part in (*PARTS, "demo"):
        folder = out / "first-order-grokking"
        recorded = record_demos(folder / part) if part == "demo" else record_part(part, folder, n_jobs=jobs)
        files = [str(save(series, out / f"first-order-{name}.nc")) for name, series in recorded.items()]
        for name, figure in draw_recorded(part, recorded).items():
            files.append(str(out / f"first-order-{name}.png"))
            figure.savefig(files[-1], dpi=110)
        print(f"written: {', '.join(files)}")
        return 0
    if part == "theory":
        found, figures = solve_all(out)
        print(transitions_text())
    else:
        found, summary, figures = sample_all(part, out, jobs, progress=sys.stderr.isatty())
        print(summary_text(summary))
    path = save(found, out / f"first-order-{part}.nc")
    print(f"written: {', '.join(map(str, (path, *figures)))}")
    return 0


def _coarse_graining(name: str, seeds: str, weights: Path | None, jobs: int, out: Path) -> int:
    import matplotlib

    matplotlib.use("Agg")
    from probe import save
    from reference.experiments import draw_coarse, record_coarse, summarise_coarse
    from reference.runs import parse_seeds

    label = f"coarse-graining-{name}"
    kept = None if weights is None else weights / label
    runs, controls = record_coarse(name, out / label, seeds=parse_seeds(seeds), weights=kept, n_jobs=jobs)
    found = summarise_coarse(runs, controls)
    path, figure = save(found, out / f"{label}.nc"), out / f"{label}.png"
    draw_coarse({name: found}).savefig(figure, dpi=110)
    print(f"written: {path} (seeds: {runs.sizes['run']}, each with a control), {figure} (figure)")
    return 0


def _accept(paper: str | None, out: Path) -> int:
    import matplotlib

    matplotlib.use("Agg")
    from reference.claims import accept, as_text, find_papers

    for one in find_papers(paper):
        print(f"arXiv:{one.id}: {one.title}\n")
        print(as_text(accept(one, out / one.id)))
        files = ("verdicts.md", *(f"{name}.png" for name in one.figures))
        print(f"\nwritten: {', '.join(str(out / one.id / file) for file in files)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
