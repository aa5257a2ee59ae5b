"""``probe``: look at recorded series from the command line. Needs no torch.

Imports stand inside the commands, so that ``probe --help`` answers at once.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(prog="probe", description="Phases of training, from recorded series (NetCDF).")
    commands = parser.add_subparsers(dest="command", required=True)
    info = commands.add_parser("info", help="what a recorded series holds and where it comes from")
    detect = commands.add_parser("detect", help="find the phases: a sentence, a table, the assumptions")
    plot = commands.add_parser("plot", help="draw the series with its phases on one page")
    plot.add_argument("-o", "--output", type=Path, default=None, help="figure to write (default: beside the series)")
    for command in (detect, plot):
        command.add_argument("--split", default="train", help="split of the information (default: train)")
        command.add_argument("--layer", default=None, help="layer of the information (default: the deepest)")
    for command in (info, detect, plot):
        command.add_argument("path", type=Path, help="a series recorded with attach(path=...) or probe.save")
    args = parser.parse_args(argv)
    try:
        return {"info": _info, "detect": _detect, "plot": _plot}[args.command](args)
    except (OSError, TypeError, ValueError) as error:
        print(f"probe {args.command}: {error}", file=sys.stderr)
        return 2


def _info(args: argparse.Namespace) -> int:
    import json

    from probe.journal import load

    series = load(args.path)
    steps = series["step"].values
    print(f"{len(steps)} observations, steps {steps[0]} to {steps[-1]}" if len(steps) else "no observations yet")
    for dim in series.dims:
        if dim != "step":
            print(f"{dim}: {', '.join(map(str, series[dim].values))}")
    for name, array in series.data_vars.items():
        where = ", ".join(str(dim) for dim in array.dims if dim != "step")
        units, text = array.attrs.get("units", "1"), array.attrs.get("long_name", "")
        print(f"  {name:34} {f'({where})' if where else '':16} [{units}] {text}")
    print(json.dumps(json.loads(series.attrs.get("provenance") or "{}"), indent=1))
    return 0


def _detect(args: argparse.Namespace) -> int:
    from probe.journal import load
    from probe.phases.detector import PhaseDetector

    print(PhaseDetector(split=args.split, layer=args.layer).fit(load(args.path)).summary())
    return 0


def _plot(args: argparse.Namespace) -> int:
    import matplotlib

    matplotlib.use("Agg")  # a file is written, no window opened
    from probe.journal import load
    from probe.phases.detector import PhaseDetector
    from probe.plots import overview

    series = load(args.path)
    detector = PhaseDetector(split=args.split, layer=args.layer).fit(series)
    output = args.output or args.path.with_suffix(".png")
    overview(series, detector, title=args.path.stem).savefig(output, dpi=110)
    print(f"written: {output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
