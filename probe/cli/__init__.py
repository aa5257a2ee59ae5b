"""The command line ``probe``: phases of training from logs and recordings. Only ``measure`` needs torch.

The commands import what they need, so that ``probe --help`` takes half a second.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from probe.cli.failures import DONE, fail
from probe.cli.options import COMMANDS, parser
from probe.cli.terminal import printable_output
from probe.errors import ProbeWarning

# Modules of the commands that are not in ``logs``. A command takes the parsed arguments and returns the exit code.
_MODULES = {
    "measure": "checkpoints",
    "completion": "shell",
    "convert": "converting",
    "watch": "watching",
    "report": "reporting",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code.

    0 done; 1 ``detect`` had no curve for any marker; 2 wrong option or input; 3 fault of this package; 130 Ctrl-C.
    """
    try:
        with printable_output():
            return _run(sys.argv[1:] if argv is None else list(argv))
    except BrokenPipeError:  # the reader of the output has closed it, as head does
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  the interpreter flushes it at exit
        return DONE


def _run(argv: list[str]) -> int:
    command = " ".join(["probe", *[word for word in argv[:1] if word in COMMANDS]])
    try:
        args = parser().parse_args(argv)
        module = import_module(f"probe.cli.{_MODULES.get(args.command, 'logs')}")
        run: Callable[[Any], int] = getattr(module, args.command)
        with _warnings_on_stderr(command):
            code = run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        raise
    except KeyboardInterrupt as error:
        return DONE if argv[:1] == ["watch"] or "--watch" in argv else fail(error, command, as_json="--json" in argv)
    except Exception as error:
        return fail(error, command, as_json="--json" in argv)


@contextmanager
def _warnings_on_stderr(command: str) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", ProbeWarning)
        warnings.showwarning = lambda message, *_: print(f"{command}: warning: {message}", file=sys.stderr)
        yield
