"""A line of the main numbers and of the verdict so far, at observations only.

A verdict costs about as much as fitting a :class:`probe.PhaseDetector` to losses and accuracies. It is made only if
the cost of the last one is below a share of the time since then, and at the end.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from probe.errors import printable, warn_user
from probe.recording.records import Records
from probe.series import Variable
from probe.writers.displays import display_of
from probe.writers.numbers import is_written

MOST = 0.01  # share of the time that verdicts take
_FIRST_COST = 0.1  # seconds that are assumed for the first verdict
_MEASURES = 2  # measures beside loss and accuracy


class Progress:
    """The line of one attachment. An error ends it with a warning; training and recording go on.

    Parameters
    ----------
    given
        True, a bar with ``set_postfix_str``, or a function of a line.
    sentence
        Function of the records that returns the verdict so far, or an empty text.
    share
        Largest share of the time that verdicts may take.
    """

    def __init__(self, given: Any, sentence: Callable[[Records], str], share: float = MOST) -> None:
        self._display, self._sentence, self._share = display_of(given), sentence, share
        self._shown_at, self._line, self._shown = -np.inf, "", ""
        self._judged_at, self._cost = time.monotonic(), _FIRST_COST
        self._verdict: tuple[int, str] | None = None  # step and sentence of the last one
        self._ended = False

    def observed(self, step: int, records: Records) -> None:
        """Show the line of an observation."""
        self._attempt(lambda: self._observed(step, records))

    def close(self, records: Records) -> None:
        """Show the last line with the verdict on the whole record."""
        if len(records):
            self._attempt(lambda: self._close(records))

    def _attempt(self, call: Callable[[], None]) -> None:
        if self._ended:
            return
        try:
            call()
        except Exception as error:
            self._ended = True
            warn_user(
                f"Expected a line of progress, got {type(error).__name__}: {error}; it ends here, training goes "
                "on. Give progress=print for plain lines"
            )

    def _observed(self, step: int, records: Records) -> None:
        now = time.monotonic()
        if self._cost <= self._share * (now - self._judged_at):
            self._judge(step, records)
        self._line = self._text(step, records)
        if now - self._shown_at >= self._display.seconds:
            self._show(now)

    def _close(self, records: Records) -> None:
        step = records.steps[-1]
        if self._verdict is None or self._verdict[0] != step:
            self._judge(step, records)
        self._line = self._text(step, records)
        if self._line != self._shown:
            self._show(time.monotonic())
        self._display.close()

    def _show(self, now: float) -> None:
        self._display.show(self._line)
        self._shown_at, self._shown = now, self._line

    def _judge(self, step: int, records: Records) -> None:
        start = time.monotonic()
        sentence = self._sentence(records)
        self._judged_at = time.monotonic()
        self._cost = self._judged_at - start
        if sentence:
            self._verdict = step, sentence

    def _text(self, step: int, records: Records) -> str:
        text = f"step {step:,}: {', '.join(main_numbers(records, step)) or 'no numbers'}"
        if self._verdict is not None:
            when, sentence = self._verdict
            text += f". So far{'' if when == step else f' (step {when:,})'}: {sentence}"
        return printable(" ".join(text.split()))


def main_numbers(records: Records, step: int) -> Iterator[str]:
    """Yield losses and accuracies, and the first number of other measures in their last layer, with units."""
    values, seen = records.at(step), set[str]()
    for name, variable in records.variables.items():
        if not variable.dims and name.endswith(("_loss", "_accuracy")) and name in values:
            yield from _number(variable, "", float(values[name]))
    for name, variable in records.variables.items():
        made_by = str(variable.attrs.get("estimator", "PerformanceProbe"))
        if made_by in (*seen, "PerformanceProbe") or variable.flag or not is_written(variable) or name not in values:
            continue
        seen.add(made_by)
        place, labels = _last_place(variable)
        yield from _number(variable, f"[{', '.join(labels)}]" if labels else "", float(values[name][place]))
        if len(seen) == _MEASURES:
            return


def _last_place(variable: Variable) -> tuple[tuple[int, ...], list[str]]:
    """Return the place of the split ``test`` if there is one, and of the last of all other labels."""
    place = []
    for dim in variable.dims:
        labels = list(variable.coords[dim])
        place.append(labels.index("test") if dim == "split" and "test" in labels else len(labels) - 1)
    return tuple(place), [str(variable.coords[dim][i]) for dim, i in zip(variable.dims, place, strict=True)]


def _number(variable: Variable, labels: str, value: float) -> Iterator[str]:
    if np.isfinite(value):
        units = "" if variable.units == "1" else f" {variable.units}"
        yield f"{variable.name.replace('_', ' ') if not labels else variable.name}{labels} {value:.3g}{units}"
