"""The command ``python -m reference demo``: train, tell what happens, and write figure and report."""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import xarray as xr

from probe import PhaseDetector
from reference.experiments.demo import Demo, find_phases, run_demo, run_demos
from reference.training import DEMO

_LEAST = 4  # observations of a verdict
_ABOUT = """\
We chose this recipe so that its verdict is decided within minutes. Other tasks are less clear: docs/results.md lists
runs in which parts of it stay undecided, or fail."""
_NO_REPORT = "not written, because the package bokeh is missing; run pip install 'bokeh>=3.4', then: probe report"


def show_demo(out: Path, seeds: Sequence[int], *, steps: int | None, control: bool, overwrite: bool) -> int:
    """Train one seed or several, print the story and the verdict, write the files to ``out``, and return the exit code.

    Raises
    ------
    FileExistsError
        If a file of an earlier demo exists, and ``overwrite`` is False.
    """
    training = DEMO if steps is None else replace(DEMO, steps=steps)
    demo = Demo(seed=seeds[0], training=replace(training, task=replace(training.task, shuffled=control)))
    several = len(seeds) > 1
    recorded = [out / f"seed-{seed}.nc" for seed in seeds] if several else [out / "run.nc"]
    for path in (*recorded, out / "phases.png", out / "report.html"):
        if path.is_dir():
            raise IsADirectoryError(f"Expected {path} as a file to write, got a folder; give another --out FOLDER.")
        if path.exists() and not overwrite:
            raise FileExistsError(
                f"Expected a new file {path}, got one that exists; give --overwrite to replace it, or --out FOLDER."
            )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"Expected a folder to write to, got {out} ({error.strerror}); give another --out.") from error
    print(_opening(demo, seeds), flush=True)
    mode = "overwrite" if overwrite else None
    if several:
        try:
            series, completed = run_demos(demo, seeds, out, mode=mode), True
        except KeyboardInterrupt:
            print(f"interrupted; probe detect {out} reads what was recorded")
            return 130
    else:
        series, completed = run_demo(demo, recorded[0], mode=mode, progress=sys.stderr.isatty(), label="")
    if not completed:
        print(f"interrupted; recorded until step {series['step'].values[-1]:,.0f}")
    _conclude(series, out, _title(demo, seeds), source=out if several else recorded[0])
    return 0 if completed else 130


def _title(demo: Demo, seeds: Sequence[int]) -> str:
    return f"{demo.name}, seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _opening(demo: Demo, seeds: Sequence[int]) -> str:
    train, test = (len(split[0]) for split in demo.task_data())
    return (
        f"A small transformer learns {_title(demo, seeds)}.\nOf its {train + test:,} pairs of numbers, {train:,} train "
        f"it and {test:,} test it, for at most {demo.training.steps:,} steps. Three probes measure it.\n"
    )


def _conclude(series: xr.Dataset, out: Path, title: str, *, source: Path) -> None:
    """Print markers and verdict, and write the figure and the report."""
    files = {"recorded": f"{source} (probe detect {source} prints all results)"}
    if series.sizes["step"] < _LEAST:
        print(f"{series.sizes['step']} observations are too few to find phases")
    else:
        detector = find_phases(series, out / "phases.png", title=title)
        report = _write_report(series, out / "report.html", detector, title) or f"{_NO_REPORT} {source}"
        files = {"figure": str(out / "phases.png"), "report": report} | files
        head = detector.summary().split("\n\n")[0].splitlines()
        verdict = [line for line in head if not line.startswith("- ")]
        print("\n" + "\n".join([line for line in head if line.startswith("- ")] + ["", *verdict]))
    print("\n" + "\n".join(f"{name + ':':9} {text}" for name, text in files.items()))
    print(f"\n{_ABOUT}")


def _write_report(series: xr.Dataset, output: Path, detector: PhaseDetector, title: str) -> str:
    """Return the path of the page, or an empty text if Bokeh is not installed."""
    try:
        from probe.report import write_report

        return f"{write_report(series, output, detector=detector, title=title, overwrite=True)} (open it in a browser)"
    except ImportError:
        return ""
