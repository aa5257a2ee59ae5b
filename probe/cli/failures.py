"""Errors of a command as text for a person or JSON for a program, and its exit code.

The kinds and the exit codes are stable; the page on logs documents them.
"""

import re
import sys
import traceback
from dataclasses import dataclass

from probe.cli.options import UsageError
from probe.cli.terminal import print_json

DONE, NO_CURVE, BAD_INPUT, FAULT, INTERRUPTED = 0, 1, 2, 3, 130
# The first class that fits names the kind of an error, and the advice if the error has none of its own.
_KINDS: tuple[tuple[type[BaseException], str, str], ...] = (
    (FileNotFoundError, "not_found", "check the path"),
    (FileExistsError, "exists", "choose another name, or pass --overwrite"),
    (OSError, "file", "check the disk, the path and its permissions"),
    (ImportError, "package", "install the package"),
    (MemoryError, "memory", "read a smaller part of the log, or use a machine with more memory"),
    (TypeError, "input", "check the options and the log"),
    (ValueError, "input", "check the options and the log"),
    (KeyboardInterrupt, "interrupted", "start the command again"),
)
_MESSAGE = re.compile(r"(Expected .*?(?:,|;) got .*?)(?:; |\. (?=[A-Z]))(.+)", re.DOTALL)


@dataclass(frozen=True)
class Failure:
    """What a failed command reports.

    Attributes
    ----------
    error : str
        What was expected, and what was found.
    kind : str
        usage, not_found, exists, file, input, package, memory, interrupted, or fault for a fault of probe.
    advice : str
        What to do.
    message : str
        Both as one text.
    """

    error: str
    kind: str
    advice: str
    message: str

    @property
    def code(self) -> int:
        """The exit code."""
        return {"fault": FAULT, "interrupted": INTERRUPTED}.get(self.kind, BAD_INPUT)

    def report(self, command: str, *, as_json: bool) -> int:
        """Print the failure, as JSON on stdout or as text on stderr, and return the exit code."""
        if as_json:
            print_json({"error": self.error, "kind": self.kind, "advice": self.advice})
        else:
            print(f"{command}: {self.message}", file=sys.stderr)
        return self.code


def failure_of(error: BaseException, command: str) -> Failure:
    """Return what an exception of a command reports. An unexpected one is a fault of probe."""
    text = " ".join(str(error).split("\n"))
    if isinstance(error, UsageError):
        return _failure(text, "usage", f"{command} --help lists the options")
    if name := next(((name, advice) for kind, name, advice in _KINDS if isinstance(error, kind)), None):
        found = _MESSAGE.fullmatch(text)
        return Failure(found[1], name[0], found[2], text) if found else _failure(text or name[0], *name)
    text = f"{type(error).__name__}: {text}".rstrip(": ")
    return _failure(f"Expected no such error, got {text}", "fault", "report it with the traceback on stderr")


def _failure(error: str, kind: str, advice: str) -> Failure:
    return Failure(error, kind, advice, f"{error}; {advice}")


def fail(error: BaseException, command: str, *, as_json: bool) -> int:
    """Report an exception and return the exit code. A fault of probe also prints its traceback on stderr."""
    failure = failure_of(error, command)
    if isinstance(error, UsageError) and not as_json:
        print(error.usage, end="", file=sys.stderr)
    if failure.kind == "fault":
        traceback.print_exception(error, file=sys.stderr)
    return failure.report(command, as_json=as_json)
