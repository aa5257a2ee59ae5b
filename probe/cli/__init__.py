"""``probe``: phases of training from logs and recordings, on the command line. Only ``measure`` needs torch.

Imports stand inside the commands, so that ``probe --help`` answers at once.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

# As in probe.readers.names, which is not imported here: it would cost half a second.
ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
_ABOUT = """\
Phases of training, from logs that exist already: TensorBoard, Lightning, Hugging Face, W&B, MLflow, CSV, JSON, or a
recording (NetCDF). PATH is a file, or a folder whose logs become one run each."""
_CODES = "exit codes: 0 done; 1 detect: no curve for any marker; 2 bad input, and what to do is said on stderr"
_HELP = {
    "info": "what a log holds, and what was guessed about it",
    "detect": "find the phases: a sentence, a table, the assumptions",
    "score": "judge measures: which of them tell that a run will generalise",
    "plot": "draw the curves with their phases on one page",
    "convert": "write a log as NetCDF",
    "measure": "probes over saved checkpoints, to NetCDF (needs torch)",
    "completion": "a script that completes these commands in a shell",
}
# The module of each command that is not in ``logs``. A command takes the parsed arguments and returns the exit code.
_MODULES = {"measure": "checkpoints", "completion": "shell"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code is 0, 1 if ``detect`` had no curve to judge, or 2 for bad input."""
    args = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", kind)
            warnings.showwarning = lambda message, *_: print(f"probe {args.command}: {message}", file=sys.stderr)
            run: Callable[[argparse.Namespace], int] = getattr(
                import_module(f"probe.cli.{_MODULES.get(args.command, 'logs')}"), args.command
            )
            return run(args)
    except BrokenPipeError:  # what reads the output has seen enough, as head does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the interpreter flushes it at exit
        return 0
    except (OSError, TypeError, ValueError, ImportError) as error:
        print(f"probe {args.command}: {error}", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    whole = argparse.ArgumentParser(prog="probe", description=_ABOUT, epilog=_CODES)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parts = {
        name: commands.add_parser(name, help=said, description=f"{said[0].upper()}{said[1:]}.", epilog=_CODES)
        for name, said in _HELP.items()
    }
    for name in ("info", "detect", "score", "plot", "convert"):
        _reading(parts[name])
    for name in ("detect", "plot"):
        _judging(parts[name])
    parts["info"].add_argument("--json", action="store_true", help="print JSON")
    parts["detect"].add_argument("--json", action="store_true", help="print JSON (null: unknown or infinite)")
    parts["detect"].add_argument("--out", type=Path, metavar="FOLDER", help="also write table, figure and JSON there")
    _scoring(parts["score"])
    parts["plot"].add_argument("-o", "--output", type=Path, metavar="FILE", help="figure (default: PATH.png)")
    parts["convert"].add_argument("output", type=Path, metavar="OUT.nc", help="file to write; must not exist")
    parts["completion"].add_argument("shell", choices=("bash", "zsh", "fish"))
    _measuring(parts["measure"])
    return whole


def _reading(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=Path, metavar="PATH", help="a log, a recording, or a folder of them")
    group = command.add_argument_group("names in the log (default: the usual spellings, and it is said which)")
    for role in ROLES:
        group.add_argument(f"--{role.replace('_', '-')}", metavar="NAME")
    group.add_argument("--axis", metavar="NAME", help="what the curves run over: step, epoch, ...; row counts the rows")
    group.add_argument("--format", metavar="FORMAT", help="format of the log; probe formats lists them")


def _judging(command: argparse.ArgumentParser) -> None:
    command.add_argument("--chance", type=float, help="accuracy of guessing (default: the first test accuracy)")
    command.add_argument("--split", default="train", help="split of the information (default: train)")
    command.add_argument("--layer", default=None, help="layer of the information (default: the deepest)")


def _scoring(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--controls", type=Path, metavar="PATH", help="runs that do not generalise (default: by their test accuracy)")
    add("--measures", nargs="+", metavar="NAME", help="variables or single curves (default: all)")
    add("--chance", type=float, help="accuracy of guessing (default: the first test accuracy)")
    add(
        "--at",
        type=float,
        metavar="STEP",
        help="where runs and controls are compared (default: before any generalises)",
    )
    add("--markdown", action="store_true", help="print a Markdown table")
    add("--json", type=Path, metavar="FILE", help="also write all scores as JSON")


def _measuring(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", required=True, metavar="MODULE:FACTORY", help="function without arguments that returns the model")
    add("--data", required=True, metavar="MODULE:FACTORY", help="function that returns data, as for attach")
    add("--checkpoints", required=True, nargs="+", metavar="FILE", help="files or patterns: 'ckpt/*.pt'")
    add("--out", type=Path, default=Path("probe.nc"), metavar="FILE", help="NetCDF to write (default: probe.nc)")
    add("--overwrite", action="store_true", help="replace a recording of that name")
    add(
        "--step-key", metavar="KEY", help="entry of a checkpoint that holds its step (default: last number of its name)"
    )
    add("--state-key", metavar="KEY", help="entry that holds the weights (default: the usual names)")
    add(
        "--probes",
        default="MutualInfoProbe,LocalComplexityProbe,LMNProbe",
        metavar="NAMES",
        help="(default: %(default)s)",
    )
