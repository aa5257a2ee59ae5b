"""The command line ``probe``: phases of training from logs and recordings. Only ``measure`` needs torch.

The commands import what they need, so that ``probe --help`` takes half a second.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from probe.cli.terminal import printable_output
from probe.errors import ProbeWarning

# Copy of probe.readers.names.ROLES. Importing it would take half a second.
ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
_ABOUT = """\
Find the phases of training in existing logs, tables and recordings (NetCDF); "probe formats" lists the formats. PATH is
a file, or a folder in which each log is one run."""
_CODES = "exit codes: 0 done; 1 detect found no curve for any marker; 2 bad input, with advice on stderr"
_HELP = {
    "info": "print the contents of a log and the guesses about it",
    "detect": "find the phases and print a sentence, a table and the assumptions",
    "score": "score measures as predictors of generalisation",
    "plot": "draw the curves with their phases on one page",
    "convert": "write a log as NetCDF",
    "formats": "list the formats of logs",
    "measure": "measure saved checkpoints with probes and write NetCDF (needs torch)",
    "completion": "print a script that completes these commands in a shell",
}
# Modules of the commands that are not in ``logs``. A command takes the parsed arguments and returns the exit code.
_MODULES = {"measure": "checkpoints", "completion": "shell"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code: 0, 1 if ``detect`` had no curve for any marker, 2 for bad input."""
    try:
        with printable_output():
            return _run(parser().parse_args(argv))
    except BrokenPipeError:  # the reader of the output has closed it, as head does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the interpreter flushes it at exit
        return 0


def _run(args: argparse.Namespace) -> int:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", ProbeWarning)
            warnings.showwarning = lambda message, *_: print(
                f"probe {args.command}: warning: {message}", file=sys.stderr
            )
            run: Callable[[argparse.Namespace], int] = getattr(
                import_module(f"probe.cli.{_MODULES.get(args.command, 'logs')}"), args.command
            )
            return run(args)
    except BrokenPipeError:
        raise
    except (OSError, TypeError, ValueError, ImportError) as error:
        print(f"probe {args.command}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of all commands and their options."""
    whole = argparse.ArgumentParser(prog="probe", description=_ABOUT, epilog=_CODES)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parts = {
        name: commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.", epilog=_CODES)
        for name, text in _HELP.items()
    }
    for name in ("info", "detect", "score", "plot", "convert"):
        _add_reading(parts[name])
    for name in ("detect", "plot"):
        _add_judging(parts[name])
    parts["info"].add_argument("--json", action="store_true", help="print JSON")
    parts["detect"].add_argument("--json", action="store_true", help="print JSON (null: unknown or infinite)")
    parts["detect"].add_argument("--out", type=Path, metavar="FOLDER", help="also write table, figure and JSON there")
    _add_scoring(parts["score"])
    parts["plot"].add_argument("-o", "--output", type=Path, metavar="FILE", help="figure (default: PATH.png)")
    parts["plot"].add_argument("--overwrite", action="store_true", help="replace an existing figure")
    parts["plot"].add_argument(
        "--panels",
        nargs="+",
        metavar="NAME[,NAME]",
        help="variables, one panel each, or several joined by commas (default: accuracies, losses and usual measures)",
    )
    parts["convert"].add_argument("output", type=Path, metavar="OUT.nc", help="file to write; must not exist")
    parts["completion"].add_argument("shell", choices=("bash", "zsh", "fish"))
    _add_measuring(parts["measure"])
    return whole


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=Path, metavar="PATH", help="a log, a recording, or a folder of them")
    group = command.add_argument_group("names in the log (default: the usual spellings; the output lists the choices)")
    for role in ROLES:
        group.add_argument(f"--{role.replace('_', '-')}", metavar="NAME")
    group.add_argument("--axis", metavar="NAME", help="column of steps: step, epoch, ...; row numbers the rows")
    group.add_argument("--format", metavar="FORMAT", help="format of the log; probe formats lists them")


def _add_judging(command: argparse.ArgumentParser) -> None:
    command.add_argument("--chance", type=float, help="accuracy of guessing (default: the level at which it starts)")
    command.add_argument("--n-test", type=int, help="number of test examples (default: as the accuracies show it)")
    command.add_argument("--split", default="train", help="split of the information (default: train)")
    command.add_argument("--layer", default=None, help="layer of the information (default: the deepest)")


def _add_scoring(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--controls", type=Path, metavar="PATH", help="runs that do not generalise (default: chosen by test accuracy)")
    add("--measures", nargs="+", metavar="NAME", help="variables or single curves (default: all)")
    add("--chance", type=float, help="accuracy of guessing (default: the level at which it starts)")
    add("--n-test", type=int, help="number of test examples (default: as the accuracies show it)")
    add(
        "--at",
        type=float,
        metavar="STEP",
        help="step at which runs and controls are compared (default: before any run generalises)",
    )
    add("--markdown", action="store_true", help="print a Markdown table")
    add("--json", type=Path, metavar="FILE", help="also write all scores as JSON")


def _add_measuring(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add(
        "path",
        nargs="+",
        metavar="CHECKPOINTS",
        help="folder of checkpoints, paths or patterns: out, 'out/checkpoint-*', 'ckpt/*.pt'",
    )
    add("--data", required=True, metavar="MODULE:FACTORY", help="function that returns the data, as for attach")
    add(
        "--model",
        metavar="MODULE:FACTORY",
        help="function without arguments that returns the model (default: as config.json names it)",
    )
    add("--out", type=Path, default=Path("probe.nc"), metavar="FILE", help="NetCDF to write (default: probe.nc)")
    add("--overwrite", action="store_true", help="start anew (default: measure the checkpoints that FILE lacks)")
    add("--jobs", type=int, default=1, metavar="N", help="number of processes (default: 1)")
    add("--device", metavar="DEVICE", help="where to put the model, such as cuda (default: as it is made)")
    add("--targets-shift", type=int, metavar="K", help="positions between an output and its target: 1 for next tokens")
    add(
        "--step-key",
        metavar="KEY",
        help="entry of a checkpoint that holds its step (default: global_step of a trainer, or the number in the name)",
    )
    add("--state-key", metavar="KEY", help="entry that holds the weights (default: the one that fits the model)")
    add(
        "--probes",
        default="MutualInfoProbe,LocalComplexityProbe,LMNProbe",
        metavar="NAMES",
        help="(default: %(default)s)",
    )
