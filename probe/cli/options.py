"""The parser of the command line: commands, their options and their help."""

import argparse
from pathlib import Path
from typing import Any, NoReturn

# Copy of probe.readers.names.ROLES. Importing it would take half a second.
ROLES = ("train_accuracy", "train_loss", "test_accuracy", "test_loss")
CODES = """\
exit codes: 0 done; 1 no curve for any marker; 2 wrong option or input; 3 fault of probe; 130 interrupted"""
_ABOUT = """\
Find the phases of training in existing logs, tables and recordings (NetCDF). "probe detect PATH" is the usual start.
PATH is a file, or a folder in which each log is one run. "probe formats" lists the formats."""
# By command: what it does, in one line for the list of commands; then examples.
COMMANDS = {
    "detect": (
        "find the phases and print what happened, a table of markers and the assumptions",
        "probe detect runs\nprobe detect seed-0.nc seed-1.nc\nprobe detect log.csv --test-accuracy top1 --chance 0.1\n"
        "probe detect runs --out verdict",
    ),
    "watch": (
        "follow a log that grows, and print the verdict whenever it changes (Ctrl-C ends)",
        "probe watch runs\nprobe watch log.csv --every 10 --json",
    ),
    "info": ("print the contents of a log, and how its names were recognised", "probe info runs"),
    "plot": (
        "draw the curves with their phases on one page",
        "probe plot runs -o phases.png\nprobe plot runs --panels lr train_loss,test_loss",
    ),
    "report": (
        "write verdict, linked charts and tables as one HTML page (needs bokeh)",
        "probe report runs -o report.html\nprobe report seed-0.nc seed-1.nc -o seeds.html\n"
        "probe report runs -o report.html --watch",
    ),
    "convert": (
        "write a log as NetCDF or CSV",
        "probe convert runs run.nc\nprobe convert runs wide.csv\nprobe convert runs long.csv --long",
    ),
    "score": ("score measures as predictors of generalisation", "probe score runs --controls controls"),
    "formats": ("list the formats of logs", "probe formats"),
    "measure": (
        "measure saved checkpoints with probes and write NetCDF (needs torch)",
        "probe measure 'out/checkpoint-*' --data mydata:make --out run.nc",
    ),
    "completion": ("print a script that completes these commands in a shell", 'eval "$(probe completion bash)"'),
}


class UsageError(Exception):
    """The command line itself is wrong: an unknown command or option, or a missing value."""

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.usage = usage


class Parser(argparse.ArgumentParser):
    """Parser that raises :class:`UsageError` where argparse would exit."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(message, self.format_usage())


def parser() -> Parser:
    """Return the parser of all commands and their options."""
    whole = Parser(prog="probe", description=_ABOUT, epilog=CODES, allow_abbrev=False)
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")
    parts = {name: _command(commands, name, *texts) for name, texts in COMMANDS.items()}
    for name in ("info", "detect", "watch", "score", "plot", "report", "convert"):
        _add_reading(parts[name])
    for name in ("detect", "watch", "plot", "report"):
        _add_judging(parts[name])
    for name in ("detect", "plot", "report"):
        _add_more(parts[name])
    for name in ("info", "detect", "score", "plot", "report", "convert", "formats"):
        parts[name].add_argument("--json", action="store_true", help="print one JSON object, also for an error")
    add = parts["detect"].add_argument
    add("--out", type=Path, metavar="FOLDER", help="also write the table, the figure, the text and the JSON there")
    _add_overwrite(parts["detect"], "existing results in FOLDER")
    parts["watch"].add_argument(
        "--json", action="store_true", help="print the JSON of detect, one line for each change"
    )
    _add_watching(parts["watch"])
    _add_scoring(parts["score"])
    _add_plotting(parts["plot"])
    _add_reporting(parts["report"])
    _add_converting(parts["convert"])
    parts["completion"].add_argument("shell", choices=("bash", "zsh", "fish"))
    _add_measuring(parts["measure"])
    return whole


def _command(commands: Any, name: str, text: str, examples: str) -> argparse.ArgumentParser:
    shown = "\n".join(f"  {line}" for line in examples.splitlines())
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"examples:\n{shown}\n\n{CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # a new option must not change the meaning of an old command
    )
    return added


def _add_reading(command: argparse.ArgumentParser) -> None:
    command.add_argument("path", type=Path, metavar="PATH", help="a log, a recording, or a folder of them")
    group = command.add_argument_group("names in the log (default: the usual spellings; the output lists the choices)")
    for role in ROLES:
        group.add_argument(f"--{role.replace('_', '-')}", metavar="NAME")
    group.add_argument("--axis", metavar="COLUMN", help="column of steps, such as epoch; row numbers the rows")
    group.add_argument(
        "--run",
        action="append",
        metavar="COLUMN",
        help="column that divides the rows among runs, such as seed; may be repeated; block makes a run of each block "
        "in which the steps start again; none makes one run (default: found from the values)",
    )
    group.add_argument(
        "--split",
        metavar="COLUMN",
        help="column with words such as train and val; none takes no column (default: found from the values)",
    )
    group.add_argument("--format", metavar="FORMAT", help="format of the log, from probe formats (default: found)")


def _add_more(command: argparse.ArgumentParser) -> None:
    text = "further logs, recordings or folders; each is a run"
    command.add_argument("more", type=Path, nargs="*", metavar="MORE", help=text)


def _add_judging(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--chance", type=float, metavar="SHARE", help="accuracy of guessing (default: level of the first accuracies)")
    add("--n-test", type=int, metavar="N", help="number of test examples (default: estimated from the accuracies)")
    add("--information", metavar="NAME", help="curve of I(T; X), if no MutualInfoProbe recorded it")
    add("--information-split", default="train", metavar="SPLIT", help="split of I(T; X) (default: train)")
    add("--information-layer", metavar="LAYER", help="layer of I(T; X) (default: the deepest)")


def _add_overwrite(command: argparse.ArgumentParser, what: str) -> None:
    command.add_argument("--overwrite", action="store_true", help=f"replace {what} (default: an error)")


def _add_watching(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--every",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="time between two readings of the log (default: 2); longer if reading takes long",
    )


def _add_plotting(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("-o", "--output", type=Path, metavar="FILE", help="figure; its suffix is the format (default: PATH.png)")
    _add_overwrite(command, "an existing figure")
    add(
        "--panels",
        nargs="+",
        metavar="NAME[,NAME]",
        help="variables, one panel each, or several joined by commas (default: accuracies, losses and usual measures)",
    )


def _add_reporting(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="page (default: report.html)")
    _add_overwrite(command, "an existing page")
    add("--title", metavar="TEXT", help="heading (default: the names of the paths)")
    add("--max-mb", type=float, default=2.0, metavar="MB", help="largest size of the page, at most 5 (default: 2)")
    add("--watch", action="store_true", help="write the page again whenever a log has changed (Ctrl-C ends)")
    _add_watching(command)


def _add_converting(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("output", type=Path, metavar="OUT", help="file to write; its suffix is the format: .nc or .csv")
    add("--long", action="store_true", help="CSV with one row for each value (default: one row for each step)")
    _add_overwrite(command, "an existing file")


def _add_scoring(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--controls", type=Path, metavar="PATH", help="runs that do not generalise (default: chosen by test accuracy)")
    add("--measures", nargs="+", metavar="NAME", help="variables or single curves (default: all)")
    add("--chance", type=float, metavar="SHARE", help="accuracy of guessing (default: level of the first accuracies)")
    add("--n-test", type=int, metavar="N", help="number of test examples (default: estimated from the accuracies)")
    add(
        "--at",
        type=float,
        metavar="STEP",
        help="step at which runs and controls are compared (default: before any run generalises)",
    )
    add("--markdown", action="store_true", help="print a Markdown table")
    add("--out", type=Path, metavar="FILE", help="also write all scores as JSON")
    _add_overwrite(command, "an existing FILE")


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
        help="function without arguments that returns the model (default: the model that config.json names)",
    )
    add("--out", type=Path, default=Path("probe.nc"), metavar="FILE", help="NetCDF to write (default: probe.nc)")
    add("--overwrite", action="store_true", help="measure all checkpoints again (default: those that FILE lacks)")
    add("--jobs", type=int, default=1, metavar="N", help="number of processes (default: 1)")
    add("--device", metavar="DEVICE", help="device of the model, such as cuda (default: unchanged)")
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
        help="names of probes, joined by commas (default: %(default)s)",
    )
