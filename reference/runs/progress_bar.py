"""Progress of a job: a bar in a terminal, or a line every 15 seconds."""

import time
from collections.abc import Sequence
from typing import Any

from tqdm import tqdm

_INTERVAL = 15.0  # seconds between lines


class Progress:
    """Progress of the seeds of a job.

    Parameters
    ----------
    name : str
        Name of the configuration.
    total : int
        Steps of a run.
    bar : bool
        Draw a bar, which needs a terminal of its own. Otherwise print lines.
    """

    def __init__(self, name: str, total: int, *, bar: bool) -> None:
        self._name, self._total, self._with_bar = name, total, bar
        self._bar: Any = None
        self._last: tuple[float, int] | None = None  # time and step of the last line

    def show(self, step: int, seeds: Sequence[int], accuracies: Sequence[float]) -> None:
        """Show the step that these seeds have reached, and the mean of their test accuracies."""
        accuracy = f"test accuracy {sum(accuracies) / len(accuracies):.3f}" if accuracies else ""
        if self._with_bar:
            self._draw(step, seeds, accuracy)
            return
        now = time.monotonic()
        before, since = self._last or (now, step)
        if self._last is None or step < since:
            self._last = now, step
        elif now - before >= _INTERVAL:
            speed = (step - since) / (now - before)
            left = _clock((self._total - step) / speed) if speed else "unknown"
            count = f"step {step:,}/{self._total:,}"
            self.print(f"{describe_seeds(seeds)}: {count}, {speed:.3g} steps/s, ETA {left}, {accuracy}")
            self._last = now, step

    def _draw(self, step: int, seeds: Sequence[int], accuracy: str) -> None:
        if self._bar is None:
            label = f"{self._name} {describe_seeds(seeds)}"
            self._bar = tqdm(total=self._total, initial=step, unit="step", desc=label)
        self._bar.set_postfix_str(accuracy, refresh=False)
        self._bar.update(step - self._bar.n)

    def print(self, line: str) -> None:
        """Print a line at once, because several processes may share the output."""
        if self._bar is not None:
            self._bar.clear()
        print(f"{self._name} {line}", flush=True)

    def close(self) -> None:
        """Close the bar and leave it visible."""
        if self._bar is not None:
            self._bar.close()


def describe_seeds(seeds: Sequence[int]) -> str:
    """Return ``"seed 3"`` or ``"8 seeds"``."""
    return f"seed {seeds[0]}" if len(seeds) == 1 else f"{len(seeds)} seeds"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
